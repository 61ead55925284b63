"""Verifies the signature of a webhook with the reference library of the Standard Webhooks specification.

usage: verify_webhook.py SECRET <MESSAGE

MESSAGE is {"headers": {…}, "body": "…"}. Prints the body as JSON if the signature is right; fails otherwise.
"""

import json
import sys

from standardwebhooks.webhooks import Webhook

message = json.load(sys.stdin)
print(json.dumps(Webhook(sys.argv[1]).verify(message["body"], message["headers"])))

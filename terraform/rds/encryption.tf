# One key for the storage, its backups and the logs. The master secret stays with the key that Secrets
# Manager has for each account: the operator may use that one without a right of its own.

resource "aws_kms_key" "main" {
  description             = "Storage and logs of the database ${var.name}"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy                  = data.aws_iam_policy_document.key.json
}

resource "aws_kms_alias" "main" {
  name          = "alias/${var.name}-database"
  target_key_id = aws_kms_key.main.key_id
}

data "aws_iam_policy_document" "key" {
  # checkov:skip=CKV_AWS_109:In a key's policy "*" is this key; the account's root must keep the right to change it, or nobody can.
  # checkov:skip=CKV_AWS_111:As above: kms:* of the account's root on its own key is what AWS gives a key by default.
  # checkov:skip=CKV_AWS_356:As above: a key's policy has no other way to name its key.

  # The account's own IAM policies decide, as for a key without a policy.
  statement {
    sid       = "Account"
    actions   = ["kms:*"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["arn:${data.aws_partition.current.partition}:iam::${data.aws_caller_identity.current.account_id}:root"]
    }
  }

  statement {
    sid       = "Logs"
    actions   = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["logs.${var.region}.amazonaws.com"]
    }

    condition {
      test     = "ArnLike"
      variable = "kms:EncryptionContext:aws:logs:arn"
      values   = ["arn:${data.aws_partition.current.partition}:logs:${var.region}:${data.aws_caller_identity.current.account_id}:log-group:/aws/rds/instance/${var.name}/*"]
    }
  }
}

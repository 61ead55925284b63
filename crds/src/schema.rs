//! Schemas that say more than the type does: what another API would refuse later, when the operator
//! applies a child, is refused here, when the user writes it.

use k8s_openapi::api::{core::v1::EnvVar, networking::v1::NetworkPolicyPeer};
use kube::core::Rule;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::json;

/// Names of sources. They are keys of Secrets and names of files.
pub(crate) const SOURCE_NAME: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// Times of a day.
pub(crate) const TIME_OF_DAY: &str = "^([01][0-9]|2[0-3]):[0-5][0-9]$";

/// Amounts as Kubernetes writes them.
const QUANTITY: &str = r"^([0-9]+|[0-9]*\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$";

/// Peers of a NetworkPolicy: an address block or selectors, never both and never neither.
pub(crate) fn network_peers(generator: &mut SchemaGenerator) -> Schema {
    let mut peer = generator.subschema_for::<NetworkPolicyPeer>();
    let rule = Rule::new(
        "has(self.ipBlock) != (has(self.namespaceSelector) || has(self.podSelector))",
    )
    .message(
        "allowFrom: write in each entry either an ipBlock, or a namespaceSelector or podSelector",
    );
    peer.insert("x-kubernetes-validations".to_owned(), json!([rule]));
    json_schema!({ "type": "array", "maxItems": 32, "items": peer })
}

/// Environment variables, each name once: server-side apply of the Deployment refuses a second one.
pub(crate) fn environment(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 64,
        "items": generator.subschema_for::<EnvVar>(),
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    })
}

/// Names of resources with their quantities, which YAML may hold as whole numbers.
pub(crate) fn quantities(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 8,
        "additionalProperties": quantity(generator),
    })
}

/// One quantity, which YAML may hold as a whole number.
pub(crate) fn quantity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "maxLength": 32,
        "pattern": QUANTITY,
    })
}

/// A text that pools are compared with, as a whole or by its beginning.
pub(crate) fn match_text(_: &mut SchemaGenerator) -> Schema {
    let rule = Rule::new("self.matches('^[^*]*[*]?$')")
        .message("match: * stands for any end of a text, so write it as the last character only");
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 128,
        "x-kubernetes-validations": [rule],
    })
}

/// Blocks of addresses.
pub(crate) fn address_blocks(_: &mut SchemaGenerator) -> Schema {
    let rule = Rule::new("isCIDR(self)")
        .message("watches.allowAddresses: write each entry as a block of addresses, such as 10.0.0.0/8 or fd00::/8");
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "items": {
            "type": "string",
            "maxLength": 49,
            "x-kubernetes-validations": [rule],
        },
    })
}

/// Labels of pods, with values as Kubernetes allows them.
pub(crate) fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {
            "type": "string",
            "maxLength": 63,
            "pattern": "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$",
        },
    })
}

//! The description of the API, with what is the same for many routes and what their annotations cannot say.

use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;

/// The document that `/openapi.json` answers with.
pub(super) fn write(description: &OpenApi) -> Vec<u8> {
    let mut document = serde_json::to_value(description).expect("plain data");
    let paths = document
        .get_mut("paths")
        .and_then(Value::as_object_mut)
        .into_iter()
        .flat_map(Map::values_mut);
    for operation in paths.filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
        allow_empty_values(operation);
        describe_headers(operation);
    }
    serde_json::to_vec(&document).expect("plain data")
}

/// A parameter without a value is as if it were not there, as forms send them.
fn allow_empty_values(operation: &mut Value) {
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten().filter(|it| it["in"] == "query") {
        parameter["allowEmptyValue"] = true.into();
    }
}

/// Headers that all answers with a status have.
fn describe_headers(operation: &mut Value) {
    let responses = operation.get_mut("responses").and_then(Value::as_object_mut);
    let Some(responses) = responses else { return };
    let is_from_memory = responses.contains_key("304");
    for (status, response) in responses {
        let headers: &[(&str, &str, Value)] = match status.as_str() {
            "200" | "304" if is_from_memory => &[
                ("ETag", "Changes with the answer", json!({"type": "string"})),
                (
                    "Age",
                    "Seconds since the database last confirmed what is answered",
                    json!({"type": "integer", "minimum": 0}),
                ),
                ("Cache-Control", "How long the answer may be reused", json!({"type": "string"})),
                (
                    "Snapshot-Freshness",
                    "`stale` after missed refreshes",
                    json!({"type": "string", "enum": ["fresh", "stale"]}),
                ),
            ],
            "401" => &[("WWW-Authenticate", "`Bearer`", json!({"type": "string"}))],
            "429" | "503" => &[(
                "Retry-After",
                "Seconds until it is worth another try",
                json!({"type": "integer", "minimum": 0}),
            )],
            _ => &[],
        };
        for (name, description, schema) in headers {
            response["headers"][*name] =
                json!({"description": description, "schema": schema, "required": true});
        }
    }
}

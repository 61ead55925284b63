//! The fields that one manager has applied, from the API server's own record (`managedFields`).

use anyhow::{Context, Result, bail};
use kube::api::DynamicObject;
use serde_json::{Map, Value};

/// The way to a field of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// A field, or an entry of a map.
    Field(String),
    /// The item of a list that has these fields.
    Item(Map<String, Value>),
    /// The item of a set that is this.
    Value(Value),
}

/// `spec.ports[port=80,protocol=TCP].name`.
impl std::fmt::Display for FieldPath {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if index == 0 => write!(formatter, "{name}")?,
                Step::Field(name) => write!(formatter, ".{name}")?,
                Step::Item(keys) => {
                    let keys: Vec<String> =
                        keys.iter().map(|(key, value)| format!("{key}={}", bare(value))).collect();
                    write!(formatter, "[{}]", keys.join(","))?;
                }
                Step::Value(value) => write!(formatter, "[{}]", bare(value))?,
            }
        }
        Ok(())
    }
}

fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl FieldPath {
    /// The JSON pointer to the field in this object, if it is there.
    #[must_use]
    pub fn find(&self, object: &Value) -> Option<String> {
        let (mut here, mut pointer) = (object, String::new());
        for step in &self.0 {
            let (token, next) = match step {
                Step::Field(name) => {
                    (name.replace('~', "~0").replace('/', "~1"), here.get(name.as_str())?)
                }
                Step::Item(keys) => {
                    let is_it = |item: &Value| {
                        keys.iter().all(|(key, value)| item.get(key.as_str()) == Some(value))
                    };
                    find_item(here, is_it)?
                }
                Step::Value(value) => find_item(here, |item| item == value)?,
            };
            pointer.push('/');
            pointer.push_str(&token);
            here = next;
        }
        Some(pointer)
    }

    /// Whether this is an item of a list rather than a field: its keys make it what it is, so it can be
    /// removed and not changed.
    #[must_use]
    pub fn is_item(&self) -> bool {
        !matches!(self.0.last(), Some(Step::Field(_)))
    }
}

fn find_item(list: &Value, is_it: impl Fn(&Value) -> bool) -> Option<(String, &Value)> {
    let found = list.as_array()?.iter().enumerate().find(|(_, item)| is_it(item))?;
    Some((found.0.to_string(), found.1))
}

/// The smallest fields that `manager` has applied, and the items of lists that it has put there.
pub fn applied_fields(object: &DynamicObject, manager: &str) -> Result<Vec<FieldPath>> {
    let mut fields = Vec::new();
    for entry in object.metadata.managed_fields.iter().flatten() {
        let is_applied = entry.operation.as_deref() == Some("Apply");
        if is_applied && entry.manager.as_deref() == Some(manager) {
            let set = entry.fields_v1.as_ref().context("an entry has fields")?;
            walk(&set.0, &FieldPath(Vec::new()), &mut fields)?;
        }
    }
    Ok(fields)
}

/// The format is that of structured-merge-diff: `f:NAME`, `k:KEYS`, `v:VALUE`, and `.` for the field
/// itself.
fn walk(set: &Value, path: &FieldPath, fields: &mut Vec<FieldPath>) -> Result<()> {
    let set = set.as_object().context("a set of fields is an object")?;
    let keys = match path.0.last() {
        Some(Step::Item(keys)) => Some(keys),
        _ => None,
    };
    if path.is_item() && !path.0.is_empty() {
        fields.push(path.clone());
    }
    let mut has_parts = false;
    for (element, parts) in set {
        let step = match element.split_once(':') {
            None if element == "." => continue,
            // Changing what an item is found by is no change of it.
            Some(("f", name)) if keys.is_some_and(|keys| keys.contains_key(name)) => continue,
            Some(("f", name)) => Step::Field(name.to_owned()),
            Some(("k", keys)) => Step::Item(serde_json::from_str(keys)?),
            Some(("v", value)) => Step::Value(serde_json::from_str(value)?),
            _ => bail!("an element of managedFields that is not understood: {element}"),
        };
        has_parts = true;
        let mut longer = path.clone();
        longer.0.push(step);
        walk(parts, &longer, fields)?;
    }
    if !has_parts && !path.is_item() {
        fields.push(path.clone());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use kube::api::DynamicObject;
    use serde_json::json;

    use super::applied_fields;

    #[test]
    fn applied_fields_are_found_in_the_object() {
        let object = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "a", "labels": {"a/b": "c"}, "managedFields": [
                {"manager": "us", "operation": "Apply", "fieldsV1": {
                    "f:metadata": {"f:labels": {"f:a/b": {}}, "f:finalizers": {"v:\"x\"": {}}},
                    "f:spec": {"f:ports": {
                        "k:{\"port\":80,\"protocol\":\"TCP\"}":
                            {".": {}, "f:port": {}, "f:protocol": {}, "f:name": {}},
                    }},
                }},
                {"manager": "us", "operation": "Update", "fieldsV1": {"f:spec": {"f:type": {}}}},
                {"manager": "others", "operation": "Apply", "fieldsV1": {"f:spec": {"f:type": {}}}},
            ], "finalizers": ["y", "x"]},
            "spec": {"ports": [
                {"port": 90, "protocol": "TCP"},
                {"port": 80, "protocol": "TCP", "name": "http"},
            ]},
        });
        let parsed: DynamicObject = serde_json::from_value(object.clone()).unwrap();
        let fields = applied_fields(&parsed, "us").unwrap();
        let found: Vec<(String, String)> =
            fields.iter().map(|it| (it.to_string(), it.find(&object).unwrap())).collect();
        let expected = [
            ("metadata.finalizers[x]", "/metadata/finalizers/1"),
            ("metadata.labels.a/b", "/metadata/labels/a~1b"),
            ("spec.ports[port=80,protocol=TCP]", "/spec/ports/1"),
            ("spec.ports[port=80,protocol=TCP].name", "/spec/ports/1/name"),
        ];
        assert_eq!(found, expected.map(|(path, pointer)| (path.to_owned(), pointer.to_owned())));
    }
}

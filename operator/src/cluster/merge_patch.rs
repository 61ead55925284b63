//! Merge patches that lead from one value to another.

use serde_json::Value;

/// A merge patch that leads from `old` to `new`: what is absent there is named with null, or it would stay.
#[must_use]
pub fn difference(old: &Value, mut new: Value) -> Value {
    if let (Value::Object(old), Value::Object(new)) = (old, &mut new) {
        for (key, old) in old {
            let value = new.get_mut(key).map_or(Value::Null, |new| difference(old, new.take()));
            new.insert(key.clone(), value);
        }
    }
    new
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::difference;

    #[test]
    fn a_patch_removes_what_is_absent() {
        let old = json!({"url": "u", "hardware": {"image": "i", "ready": 1}, "conditions": [1]});
        let new = json!({"hardware": {"ready": 2}, "conditions": [2]});
        assert_eq!(
            difference(&old, new),
            json!({"url": null, "hardware": {"image": null, "ready": 2}, "conditions": [2]})
        );
        assert_eq!(difference(&Value::Null, json!({"url": "u"})), json!({"url": "u"}));
    }
}

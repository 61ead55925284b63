//! What users wrote, in the form in which the API server stores it.
//!
//! A child that is rendered in another form than the one that is stored looks changed on every pass,
//! and is written again on every pass.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Without empty lists, empty texts and empty maps of strings, which the API server drops. An empty
/// object stays, as it means something: `podSelector: {}` selects every pod.
#[must_use]
pub fn as_stored<T: Serialize + DeserializeOwned>(written: T) -> T {
    let mut value = serde_json::to_value(&written).expect("plain data");
    drop_empty(&mut value);
    // What was left out is optional, as an API server would have left it out as well.
    serde_json::from_value(value).unwrap_or(written)
}

fn drop_empty(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, field| match field {
                Value::Array(items) => !items.is_empty(),
                Value::String(text) => !text.is_empty(),
                // The one map of strings in what users may write of Kubernetes' own types.
                Value::Object(labels) if name == "matchLabels" => !labels.is_empty(),
                _ => true,
            });
            for (name, field) in fields {
                // An empty value of a label is a value.
                if name != "matchLabels" {
                    drop_empty(field);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(drop_empty),
        _ => {}
    }
}

/// Suffixes of powers of 1000, from thousandths on.
const DECIMAL: [&str; 8] = ["m", "", "k", "M", "G", "T", "P", "E"];
/// Suffixes of powers of 1024, from 1024⁰ on.
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// An amount as the API server writes it: 1000m is stored as 1, 0.5 as 500m, 1024Mi as 1Gi. What it
/// keeps as it is, rounds or refuses is left to it.
#[must_use]
pub fn quantity(text: &str) -> Quantity {
    Quantity(canonical(text).unwrap_or_else(|| text.to_owned()))
}

fn canonical(text: &str) -> Option<String> {
    let end = text.find(|it: char| !it.is_ascii_digit() && it != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction = fraction.trim_end_matches('0');
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let is_binary = !suffix.is_empty() && BINARY.contains(&suffix);
    let unit = if is_binary {
        1000 * power(1024, suffix, &BINARY)?
    } else {
        power(1000, suffix, &DECIMAL)?
    };
    let divisor = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let product = digits.checked_mul(unit)?;
    // Anything finer than thousandths is rounded.
    let thousandths = (product % divisor == 0).then_some(product / divisor)?;
    let whole = (thousandths % 1000 == 0).then_some(thousandths / 1000);
    // Beyond 64 bits, the API server caps.
    if thousandths / 1000 > i128::from(i64::MAX) {
        return None;
    }
    match whole {
        Some(whole) if is_binary && whole >= 1024 => Some(with_suffix(whole, 1024, &BINARY)),
        _ => Some(with_suffix(thousandths, 1000, &DECIMAL)),
    }
}

fn power(base: i128, suffix: &str, suffixes: &[&str]) -> Option<i128> {
    let exponent = suffixes.iter().position(|it| *it == suffix)?;
    base.checked_pow(u32::try_from(exponent).ok()?)
}

/// The smallest whole number with a suffix.
fn with_suffix(mut number: i128, base: i128, suffixes: &[&str]) -> String {
    if number == 0 {
        return "0".to_owned();
    }
    let mut power = 0;
    while number % base == 0 && power + 1 < suffixes.len() {
        number /= base;
        power += 1;
    }
    format!("{number}{}", suffixes[power])
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{core::v1::EnvVar, networking::v1::NetworkPolicyPeer};
    use serde_json::json;

    use super::{as_stored, canonical};

    /// The right column is what an API server (1.34) answered.
    #[test]
    fn amounts_are_written_as_the_api_server_stores_them() {
        for (written, stored) in [
            ("1", "1"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("0.5", "500m"),
            ("1.5", "1500m"),
            (".5", "500m"),
            ("0", "0"),
            ("0Gi", "0"),
            ("0.250", "250m"),
            ("100Mi", "100Mi"),
            ("1024Mi", "1Gi"),
            ("1536Mi", "1536Mi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Mi", "512Ki"),
            ("512Ki", "512Ki"),
            ("0.5Ki", "512"),
            ("1023Ki", "1023Ki"),
            ("1000Mi", "1000Mi"),
            ("1000M", "1G"),
            ("1000k", "1M"),
            ("128974848", "128974848"),
            ("1000000", "1M"),
        ] {
            assert_eq!(canonical(written).as_deref(), Some(stored), "{written}");
        }
    }

    #[test]
    fn amounts_that_the_api_server_rounds_or_refuses_are_left_to_it() {
        for written in ["1e3", "0.0001", "0.5m", "100u", "999999999999E", "much"] {
            assert_eq!(canonical(written), None, "{written}");
        }
    }

    #[test]
    fn what_is_empty_goes_unless_it_means_something() {
        let peer: NetworkPolicyPeer = serde_json::from_value(json!({
            "podSelector": {},
            "namespaceSelector": {
                "matchLabels": {},
                "matchExpressions": [{"key": "team", "operator": "Exists", "values": []}],
            },
        }))
        .expect("a peer");
        assert_eq!(
            serde_json::to_value(as_stored(peer)).expect("plain data"),
            json!({
                "podSelector": {},
                "namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]},
            })
        );
        let labelled: NetworkPolicyPeer =
            serde_json::from_value(json!({"podSelector": {"matchLabels": {"edge": ""}}}))
                .expect("a peer");
        assert_eq!(as_stored(labelled.clone()), labelled, "an empty value of a label is a value");
        let empty = EnvVar { name: "EMPTY".into(), value: Some(String::new()), value_from: None };
        assert_eq!(as_stored(vec![empty])[0].value, None);
    }
}

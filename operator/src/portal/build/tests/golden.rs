//! Golden files: a line that changes there changes in users' clusters. `cargo insta review`, or
//! `INSTA_UPDATE=always`, accepts a change that is intended.

use insta::{Settings as InstaSettings, assert_yaml_snapshot};
use serde_json::{Value, json};

use super::example::{rendered, settings, specs, title};

/// Empty objects that the API server stores; all but the last mean something.
const STORED_EMPTY: [&str; 3] = ["emptyDir", "podSelector", "podAffinity"];

/// Of every spec but the first, only what differs from it is shown.
#[test]
fn every_child_is_rendered_as_reviewed() {
    let mut review = InstaSettings::clone_current();
    review.set_sort_maps(true);
    review.set_prepend_module_to_snapshot(false);
    review.set_omit_expression(true);
    let plain = rendered(json!({}), &settings());
    for (name, spec) in specs() {
        let children = rendered(spec.clone(), &settings());
        let shown = if spec == json!({}) {
            json!({"spec": spec, "children": children})
        } else {
            let (same, other): (Vec<_>, Vec<_>) =
                children.iter().partition(|child| plain.contains(child));
            let same: Vec<String> = same.into_iter().map(title).collect();
            json!({"spec": spec, "as for an empty spec": same, "children": other})
        };
        review.bind(|| assert_yaml_snapshot!(name, shown));
    }
}

#[test]
fn server_side_apply_is_given_exactly_what_is_stored() {
    for (name, spec) in specs() {
        for child in rendered(spec, &settings()) {
            let place = format!("{name}: {}", title(&child));
            assert_says_something(&child, &place);
            assert_eq!(child.get("status"), None, "{place}: the status is others'");
            for field in ["creationTimestamp", "resourceVersion", "uid", "managedFields"] {
                assert_eq!(child["metadata"].get(field), None, "{place}: {field} is the server's");
            }
            if child["kind"] == "Deployment" {
                assert_eq!(child["spec"].get("replicas"), None, "{place}: another manager's");
            }
        }
    }
}

fn assert_says_something(value: &Value, place: &str) {
    match value {
        Value::Null => panic!("{place} is null, which is not stored"),
        Value::String(text) => assert!(!text.is_empty(), "{place} is empty, which is not stored"),
        Value::Array(items) => {
            assert!(!items.is_empty(), "{place} is an empty list, which is not stored");
            for (index, item) in items.iter().enumerate() {
                assert_says_something(item, &format!("{place}[{index}]"));
            }
        }
        Value::Object(fields) => {
            let name = place.rsplit('.').next().unwrap_or_default();
            let is_stored = STORED_EMPTY.contains(&name);
            assert!(is_stored || !fields.is_empty(), "{place} is empty, which is not stored");
            for (name, field) in fields {
                assert_says_something(field, &format!("{place}.{name}"));
            }
        }
        Value::Bool(_) | Value::Number(_) => {}
    }
}

#[test]
fn every_child_names_its_portal_and_goes_with_it_unless_it_is_to_be_kept() {
    for (name, spec) in specs() {
        for child in rendered(spec, &settings()) {
            let (place, metadata) = (title(&child), &child["metadata"]);
            assert_eq!(metadata["namespace"], "team", "{name}: {place}");
            assert_eq!(metadata["labels"]["app.kubernetes.io/instance"], "demo", "{name}: {place}");
            let is_kept =
                name == "embedded_on_a_retained_volume" && child["kind"] == "PersistentVolumeClaim";
            let owner = &metadata["ownerReferences"][0];
            assert_eq!(owner["controller"] == true, !is_kept, "{name}: {place}: {owner}");
        }
    }
}

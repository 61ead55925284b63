//! Which nodes keep pods off, and which pods come all the same.

use k8s_openapi::api::core::v1::{NodeSpec, Taint, Toleration};

/// The taint that the node controller gives a cordoned node, for one whose controller has not yet.
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// The taints of a node that keep pods off it which do not tolerate them.
pub(super) fn blocking_taints(spec: Option<&NodeSpec>) -> Vec<Taint> {
    let Some(spec) = spec else { return Vec::new() };
    let taints = spec.taints.iter().flatten();
    let mut blocking: Vec<Taint> = taints
        .filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"))
        // When a taint was added says nothing of whom it keeps off.
        .map(|taint| Taint { time_added: None, ..taint.clone() })
        .collect();
    let is_cordoned = spec.unschedulable == Some(true);
    if is_cordoned && blocking.iter().all(|taint| taint.key != UNSCHEDULABLE) {
        blocking.push(Taint {
            key: UNSCHEDULABLE.to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        });
    }
    blocking
}

/// Whether a pod with this toleration comes in spite of this taint, by the rules of Kubernetes.
pub(super) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let given = |text: &Option<String>| text.clone().unwrap_or_default();
    let (key, effect) = (given(&toleration.key), given(&toleration.effect));
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    if !key.is_empty() && key != taint.key {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        // Without a key only Exists is valid.
        None | Some("" | "Equal") => {
            !key.is_empty() && given(&toleration.value) == given(&taint.value)
        }
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{NodeSpec, Taint, Toleration};
    use serde_json::json;

    use super::{blocking_taints, tolerates};

    #[test]
    fn a_cordon_is_a_taint_and_a_preference_is_none() {
        let spec: NodeSpec = serde_json::from_value(json!({"unschedulable": true, "taints": [
            {"key": "soft", "effect": "PreferNoSchedule"},
            {"key": "hard", "effect": "NoExecute"},
        ]}))
        .expect("a node");
        let taints = blocking_taints(Some(&spec));
        let keys: Vec<&str> = taints.iter().map(|taint| taint.key.as_str()).collect();
        assert_eq!(keys, ["hard", "node.kubernetes.io/unschedulable"]);
        assert_eq!(blocking_taints(None), []);
    }

    #[test]
    fn tolerations_are_those_of_kubernetes() {
        let taint: Taint =
            serde_json::from_value(json!({"key": "team", "value": "a", "effect": "NoSchedule"}))
                .expect("a taint");
        for (toleration, expected) in [
            (json!({"operator": "Exists"}), true),
            (json!({"key": "team", "operator": "Exists"}), true),
            (json!({"key": "team", "value": "a"}), true),
            (
                json!({"key": "team", "operator": "Equal", "value": "a", "effect": "NoSchedule"}),
                true,
            ),
            (json!({"key": "team", "value": "b"}), false),
            (json!({"key": "team"}), false),
            (json!({"key": "other", "operator": "Exists"}), false),
            (json!({"key": "team", "operator": "Exists", "effect": "NoExecute"}), false),
            (json!({"operator": "Equal", "value": "a"}), false),
            (json!({}), false),
        ] {
            let read: Toleration =
                serde_json::from_value(toleration.clone()).expect("a toleration");
            assert_eq!(tolerates(&read, &taint), expected, "{toleration}");
        }
    }
}

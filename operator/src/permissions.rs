//! Every right that the operator needs, once: `operator check` asks for them, and a test holds the
//! manifests equal to them.

use serde::Serialize;

/// Rights on one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Permission {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Resource, perhaps with a subresource.
    pub resource: &'static str,
    /// Verbs.
    pub verbs: &'static [&'static str],
}

const OWNED: &[&str] = &["create", "delete", "get", "list", "patch", "watch"];

const fn on(
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
) -> Permission {
    Permission { group, resource, verbs }
}

/// In each namespace that is watched.
pub const IN_WATCHED_NAMESPACES: &[Permission] = &[
    // patch: the finalizer of deletionPolicy DropAccounts.
    on("gill-hicks.dev", "hardwareportals", &["get", "list", "patch", "watch"]),
    on("gill-hicks.dev", "hardwareportals/status", &["patch"]),
    // Without it, a cluster that enforces owner references refuses every child.
    on("gill-hicks.dev", "hardwareportals/finalizers", &["update"]),
    on("", "configmaps", OWNED),
    on("", "persistentvolumeclaims", OWNED),
    on("", "serviceaccounts", OWNED),
    on("", "services", OWNED),
    // No list, no watch: it reads the Secrets that it was told of, by name.
    on("", "secrets", &["create", "get", "patch"]),
    on("apps", "deployments", OWNED),
    on("autoscaling", "horizontalpodautoscalers", OWNED),
    on("batch", "jobs", OWNED),
    // By name only: the lock of a terraform state.
    // Who has taken a new credential over; an annotation makes their kubelet bring it at once.
    on("", "pods", &["list", "patch"]),
    on("coordination.k8s.io", "leases", &["get"]),
    on("networking.k8s.io", "ingresses", OWNED),
    on("networking.k8s.io", "networkpolicies", OWNED),
    on("policy", "poddisruptionbudgets", OWNED),
    on("events.k8s.io", "events", &["create"]),
];

/// Name of our definition, the one object outside of namespaces that is read.
pub const DEFINITION: &str = "hardwareportals.gill-hicks.dev";

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::IN_WATCHED_NAMESPACES;

    #[test]
    fn the_role_manifest_grants_what_the_operator_needs_and_nothing_more() {
        let text = include_str!("../../deploy/manifests/watched-namespace.yaml");
        let role = text.split("\n---\n").next().expect("a first document");
        let role: Value = serde_yaml::from_str(role).expect("YAML");
        let mut granted = Vec::new();
        for rule in role["rules"].as_array().expect("rules") {
            for group in rule["apiGroups"].as_array().expect("groups") {
                for resource in rule["resources"].as_array().expect("resources") {
                    granted.push(json!([group, resource, rule["verbs"]]).to_string());
                }
            }
        }
        let mut needed: Vec<String> = IN_WATCHED_NAMESPACES
            .iter()
            .map(|it| json!([it.group, it.resource, it.verbs]).to_string())
            .collect();
        granted.sort();
        needed.sort();
        assert_eq!(granted, needed);
    }
}

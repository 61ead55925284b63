//! Every right that the operator needs, once: `operator check` asks for them, and a test holds the
//! manifests equal to them.

use serde::Serialize;

use crate::cluster::leader::LEASE;

/// Rights on one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Permission {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Resource, perhaps with a subresource.
    pub resource: &'static str,
    /// Verbs.
    pub verbs: &'static [&'static str],
    /// The one object that it is about; any if none.
    pub name: Option<&'static str>,
}

const OWNED: &[&str] = &["create", "delete", "get", "list", "patch", "watch"];

const fn on(
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
) -> Permission {
    Permission { group, resource, verbs, name: None }
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
    // list and watch are for the metadata of its own Secrets, by label; RBAC knows no such bound. Other
    // Secrets are read by name, if their label allows it. delete: an earlier version kept the state of
    // rotations here, as NAME-rotation, which is moved to the operator's own namespace.
    on("", "secrets", OWNED),
    on("apps", "deployments", OWNED),
    on("autoscaling", "horizontalpodautoscalers", OWNED),
    on("batch", "jobs", OWNED),
    // Who has taken a new credential over; an annotation makes their kubelet bring it at once.
    on("", "pods", &["list", "patch"]),
    // By name only: the lock of a terraform state.
    on("coordination.k8s.io", "leases", &["get"]),
    on("networking.k8s.io", "ingresses", OWNED),
    on("networking.k8s.io", "networkpolicies", OWNED),
    on("policy", "poddisruptionbudgets", OWNED),
    // list: why the pods of a Job are refused is said in an event only.
    on("events.k8s.io", "events", &["create", "list"]),
];

/// In the operator's own namespace: the Lease that says which replica leads, and the Secrets that hold
/// the state of rotations.
pub const IN_OWN_NAMESPACE: &[Permission] = &[
    on("coordination.k8s.io", "leases", &["create"]),
    Permission {
        name: Some(LEASE),
        ..on("coordination.k8s.io", "leases", &["get", "list", "update", "watch"])
    },
    // One Secret per portal on MySQL, rotation-UID. RBAC cannot name them, as each portal has another uid.
    on("", "secrets", &["create", "delete", "get", "list", "patch"]),
];

/// Also where the operator holds no Role, or none any more. A namespace that is being deleted can lose
/// its `RoleBinding` before a portal's finalizer is removed, and cannot end while the finalizer is there.
/// A replica that becomes the leader after that has to find such a portal and to remove the finalizer.
pub const OUTSIDE_WATCHED_NAMESPACES: &[Permission] = &[
    on("gill-hicks.dev", "hardwareportals", &["get", "list", "patch", "watch"]),
    // Where the admission plugin OwnerReferencesPermissionEnforcement is on, it asks for this when an owner
    // reference blocks the deletion of a portal.
    on("gill-hicks.dev", "hardwareportals/finalizers", &["update"]),
];

/// Name of our definition, the one object outside of namespaces that is read.
pub const DEFINITION: &str = "hardwareportals.gill-hicks.dev";

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        DEFINITION, IN_OWN_NAMESPACE, IN_WATCHED_NAMESPACES, OUTSIDE_WATCHED_NAMESPACES, Permission,
    };

    #[test]
    fn the_role_manifests_grant_what_the_operator_needs_and_nothing_more() {
        let watched = granted(include_str!("../../deploy/manifests/watched-namespace.yaml"));
        assert_eq!(watched, needed(IN_WATCHED_NAMESPACES));
        let all = granted(include_str!("../../deploy/manifests/all-namespaces.yaml"));
        assert_eq!(all, watched, "the same, in all namespaces");
        let own = granted(include_str!("../../deploy/manifests/own-namespace.yaml"));
        assert_eq!(own, needed(IN_OWN_NAMESPACE));
    }

    #[test]
    fn outside_of_watched_namespaces_it_may_hardly_do_anything() {
        let granted = granted(include_str!("../../deploy/manifests/cluster-access.yaml"));
        let definition =
            json!(["apiextensions.k8s.io", "customresourcedefinitions", ["get"], [DEFINITION]]);
        let mut needed = needed(OUTSIDE_WATCHED_NAMESPACES);
        needed.push(definition.to_string());
        needed.sort();
        assert_eq!(granted, needed);
    }

    /// What the first document of a manifest grants.
    fn granted(manifest: &str) -> Vec<String> {
        let role = manifest.split("\n---\n").next().expect("a first document");
        let role: Value = serde_yaml::from_str(role).expect("YAML");
        let mut granted = Vec::new();
        for rule in role["rules"].as_array().expect("rules") {
            for group in rule["apiGroups"].as_array().expect("groups") {
                for resource in rule["resources"].as_array().expect("resources") {
                    let names = rule["resourceNames"].as_array();
                    let right = json!([group, resource, rule["verbs"], names]);
                    granted.push(right.to_string());
                }
            }
        }
        granted.sort();
        granted
    }

    fn needed(permissions: &[Permission]) -> Vec<String> {
        let right = |it: &Permission| {
            let names = it.name.map(|name| [name]);
            json!([it.group, it.resource, it.verbs, names]).to_string()
        };
        let mut needed: Vec<String> = permissions.iter().map(right).collect();
        needed.sort();
        needed
    }
}

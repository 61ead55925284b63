//! Every right that the operator needs: `operator check` checks them, and a test compares them with the
//! manifests.

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
    // The admission plugin OwnerReferencesPermissionEnforcement refuses every child without it.
    on("gill-hicks.dev", "hardwareportals/finalizers", &["update"]),
    on("gill-hicks.dev", "hardwarewatches", &["get", "list", "watch"]),
    on("gill-hicks.dev", "hardwarewatches/status", &["patch"]),
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
    // list: which pods have adopted a new credential. patch: an annotation makes the kubelet refresh their
    // volumes at once.
    on("", "pods", &["list", "patch"]),
    // By name only: the lock of a terraform state.
    on("coordination.k8s.io", "leases", &["get"]),
    on("networking.k8s.io", "ingresses", OWNED),
    on("networking.k8s.io", "networkpolicies", OWNED),
    on("policy", "poddisruptionbudgets", OWNED),
    // list: only an event says why the pods of a Job are refused.
    on("events.k8s.io", "events", &["create", "list"]),
];

/// In the operator's own namespace: the Lease of the leader election, and the Secrets that hold the state of
/// rotations.
pub const IN_OWN_NAMESPACE: &[Permission] = &[
    on("coordination.k8s.io", "leases", &["create"]),
    Permission {
        name: Some(LEASE),
        ..on("coordination.k8s.io", "leases", &["get", "list", "update", "watch"])
    },
    // One Secret per portal on MySQL, rotation-UID. RBAC cannot name them, as each portal has another uid.
    on("", "secrets", &["create", "delete", "get", "list", "patch"]),
];

/// In all namespaces, also without a Role there. A namespace that is being deleted can lose
/// its `RoleBinding` before a portal's finalizer is removed, and cannot end while the finalizer is there.
/// A replica that becomes the leader after that has to find such a portal and to remove the finalizer.
pub const OUTSIDE_WATCHED_NAMESPACES: &[Permission] = &[
    on("gill-hicks.dev", "hardwareportals", &["get", "list", "patch", "watch"]),
    // Where the admission plugin OwnerReferencesPermissionEnforcement is on, it asks for this when an owner
    // reference blocks the deletion of a portal.
    on("gill-hicks.dev", "hardwareportals/finalizers", &["update"]),
];

/// Names of the CRDs, the only cluster-scoped objects that the operator reads.
pub const CRD_NAMES: [&str; 2] =
    ["hardwareportals.gill-hicks.dev", "hardwarewatches.gill-hicks.dev"];

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        CRD_NAMES, IN_OWN_NAMESPACE, IN_WATCHED_NAMESPACES, OUTSIDE_WATCHED_NAMESPACES, Permission,
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
    fn outside_of_watched_namespaces_it_has_rights_on_portals_and_the_crds_only() {
        let granted = granted(include_str!("../../deploy/manifests/cluster-access.yaml"));
        let crd = json!(["apiextensions.k8s.io", "customresourcedefinitions", ["get"], CRD_NAMES]);
        let mut needed = needed(OUTSIDE_WATCHED_NAMESPACES);
        needed.push(crd.to_string());
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

//! The `ServiceAccount` of each component. The operator gives it no RBAC rights: those that a source needs,
//! an administrator grants. Its token is mounted only where a source asks the Kubernetes API.

use k8s_openapi::api::core::v1::ServiceAccount;

use crate::{
    cluster::{
        labels::{self, Component},
        names,
    },
    portal::resolve::ResolvedPortal,
};

/// One ServiceAccount per component.
#[must_use]
pub fn service_accounts(portal: &ResolvedPortal) -> Vec<ServiceAccount> {
    let account = |component, name| ServiceAccount {
        metadata: labels::owned(portal, component, name),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    };
    let mut accounts = vec![
        account(Component::Hardware, names::hardware(&portal.name)),
        account(Component::Portal, names::portal(&portal.name)),
    ];
    if let Some(collector) = &portal.collector {
        let mut its = account(Component::Collector, names::collector(&portal.name));
        let annotations = collector.service_account_annotations.clone();
        its.metadata.annotations = (!annotations.is_empty()).then_some(annotations);
        accounts.push(its);
    }
    accounts
}

/// `ClusterRole` with the rights of the collector, of deploy/manifests/collector-access.yaml.
pub const COLLECTOR_ROLE: &str = "gill-hicks-collector";

/// The command by which an administrator grants a portal's collector its rights. The operator does not have
/// them itself, so that it cannot.
#[must_use]
pub fn grant_command(namespace: &str, portal: &str) -> String {
    let account = names::collector(portal);
    format!(
        "kubectl create clusterrolebinding {COLLECTOR_ROLE}-{namespace}-{portal} --clusterrole={COLLECTOR_ROLE} --serviceaccount={namespace}:{account}"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{COLLECTOR_ROLE, grant_command};

    /// Least privilege: the collector counts and follows, and changes nothing.
    #[test]
    fn the_collectors_role_lets_it_read_what_its_sources_follow_and_nothing_else() {
        let manifest = include_str!("../../../../deploy/manifests/collector-access.yaml");
        let role: Value = serde_yaml::from_str(manifest).expect("one document");
        assert_eq!(role["kind"], "ClusterRole");
        assert_eq!(role["metadata"], json!({"name": COLLECTOR_ROLE}), "without any aggregation");
        let read = ["get", "list", "watch"];
        let rules = json!([
            {"apiGroups": [""], "resources": ["nodes", "pods"], "verbs": read},
            {"apiGroups": ["karpenter.sh"], "resources": ["nodeclaims"], "verbs": read},
            {"apiGroups": [""], "resources": ["events"], "verbs": read},
        ]);
        assert_eq!(role["rules"], rules);
        assert_eq!(role.get("aggregationRule"), None);
    }

    #[test]
    fn the_rights_are_granted_to_the_service_account_of_one_portal() {
        assert_eq!(
            grant_command("team", "demo"),
            "kubectl create clusterrolebinding gill-hicks-collector-team-demo --clusterrole=gill-hicks-collector --serviceaccount=team:demo-collector"
        );
    }
}

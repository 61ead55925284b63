//! Policies of incoming connections. Outgoing ones are not restricted: the database may be anywhere.

use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
        NetworkPolicySpec,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::{
    hardware,
    pod::{self, ADMIN_PORT},
    portal as web,
};
use crate::{
    cluster::{
        labels::{self, Component},
        names,
    },
    portal::{resolve::ResolvedPortal, stored::as_stored},
};

/// Label of the namespaces whose pods may read metrics.
const MONITORING: &str = "gill-hicks.dev/monitoring";

/// The policies of all components.
#[must_use]
pub fn policies(portal: &ResolvedPortal) -> Vec<NetworkPolicy> {
    let mut policies = vec![hardware_policy(portal), portal_policy(portal)];
    if portal.collector.is_some() {
        let name = names::collector(&portal.name);
        policies.push(policy(portal, Component::Collector, name, None));
    }
    policies
}

/// The API admits the web page and the peers of `allowFrom`, by default the pods of its own namespace. With
/// sources it admits the collector, which posts to it, and the operator, which asks it who reports.
fn hardware_policy(portal: &ResolvedPortal) -> NetworkPolicy {
    let own_namespace = NetworkPolicyPeer {
        pod_selector: Some(LabelSelector::default()),
        ..NetworkPolicyPeer::default()
    };
    let pods_of = |component| NetworkPolicyPeer {
        pod_selector: Some(labels::selector(portal, component)),
        ..NetworkPolicyPeer::default()
    };
    let mut peers = vec![pods_of(Component::Portal)];
    if portal.collector.is_some() {
        peers.extend([pods_of(Component::Collector), operator(portal)]);
    }
    let chosen = portal.hardware.spec.allow_from.clone().map(as_stored);
    peers.extend(chosen.unwrap_or_else(|| vec![own_namespace]));
    let name = names::hardware(&portal.name);
    policy(portal, Component::Hardware, name, Some(rule(Some(peers), hardware::PORT)))
}

/// The web page admits the peers of `allowFrom`, by default everybody. A rule with an empty list would
/// admit everybody too, so an empty `allowFrom` removes the rule.
fn portal_policy(portal: &ResolvedPortal) -> NetworkPolicy {
    let peers = portal.portal.spec.allow_from.clone().map(as_stored);
    let names_nobody = peers.as_ref().is_some_and(Vec::is_empty);
    let users = (!names_nobody).then(|| rule(peers, web::PORT));
    policy(portal, Component::Portal, names::portal(&portal.name), users)
}

fn policy(
    portal: &ResolvedPortal,
    component: Component,
    name: String,
    users: Option<NetworkPolicyIngressRule>,
) -> NetworkPolicy {
    let admins = rule(Some(vec![operator(portal), namespaces(MONITORING, "true")]), ADMIN_PORT);
    NetworkPolicy {
        metadata: labels::owned(portal, component, name),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(labels::selector(portal, component)),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(users.into_iter().chain([admins]).collect()),
            egress: None,
        }),
    }
}

/// Every pod of the operator's namespace.
fn operator(portal: &ResolvedPortal) -> NetworkPolicyPeer {
    namespaces("kubernetes.io/metadata.name", &portal.operator_namespace)
}

/// Every pod of the namespaces with a label.
fn namespaces(label: &str, value: &str) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector {
            match_labels: Some(pod::strings([(label, value.to_owned())])),
            match_expressions: None,
        }),
        ..NetworkPolicyPeer::default()
    }
}

fn rule(from: Option<Vec<NetworkPolicyPeer>>, port: i32) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule {
        from,
        ports: Some(vec![NetworkPolicyPort {
            port: Some(IntOrString::Int(port)),
            protocol: Some("TCP".to_owned()),
            end_port: None,
        }]),
    }
}

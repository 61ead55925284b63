//! What NetworkPolicies mean for incoming connections, as
//! <https://kubernetes.io/docs/concepts/services-networking/network-policies/> says it.

use std::{collections::BTreeMap, net::Ipv4Addr};

use k8s_openapi::{
    api::networking::v1::{
        IPBlock, NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
        NetworkPolicySpec,
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
        util::intstr::IntOrString,
    },
};

pub(super) type Labels = BTreeMap<String, String>;

/// A pod as policies see it.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) namespace: String,
    pub(super) namespace_labels: Labels,
    pub(super) labels: Labels,
    pub(super) address: Ipv4Addr,
}

/// Whether `from` may open a TCP connection to a port of `to`. Pods that no policy selects are open to
/// everybody; those that some policy selects, to whom any rule of those policies names.
pub(super) fn admits(
    policies: &[NetworkPolicy],
    from: &Endpoint,
    to: &Endpoint,
    port: i32,
) -> bool {
    let mut selecting = policies.iter().filter(|policy| selects(policy, to)).peekable();
    let is_open = selecting.peek().is_none();
    is_open
        || selecting.any(|policy| {
            let rules = spec(policy).ingress.iter().flatten();
            let namespace = policy.metadata.namespace.as_deref().unwrap_or_default();
            rules.into_iter().any(|rule| rule_admits(rule, namespace, from, port))
        })
}

fn spec(policy: &NetworkPolicy) -> &NetworkPolicySpec {
    policy.spec.as_ref().expect("a policy has a spec")
}

/// Whether a policy applies to connections to a pod.
pub(super) fn selects(policy: &NetworkPolicy, pod: &Endpoint) -> bool {
    let spec = spec(policy);
    // Without types, every policy is about incoming connections.
    let is_about_ingress =
        spec.policy_types.as_ref().is_none_or(|types| types.iter().any(|one| one == "Ingress"));
    let selector = spec.pod_selector.clone().unwrap_or_default();
    is_about_ingress
        && policy.metadata.namespace.as_deref() == Some(&pod.namespace)
        && matches(&selector, &pod.labels)
}

/// No list, and an empty one, name everybody and every port.
fn rule_admits(
    rule: &NetworkPolicyIngressRule,
    namespace: &str,
    from: &Endpoint,
    port: i32,
) -> bool {
    let peers = rule.from.as_deref().unwrap_or_default();
    let ports = rule.ports.as_deref().unwrap_or_default();
    (peers.is_empty() || peers.iter().any(|peer| peer_is(peer, namespace, from)))
        && (ports.is_empty() || ports.iter().any(|one| port_is(one, port)))
}

/// A peer's selectors must both hold; without one for namespaces, the policy's own is meant.
fn peer_is(peer: &NetworkPolicyPeer, namespace: &str, from: &Endpoint) -> bool {
    if let Some(block) = &peer.ip_block {
        return is_in(block, from.address);
    }
    let is_namespace = match &peer.namespace_selector {
        Some(selector) => matches(selector, &from.namespace_labels),
        None => from.namespace == namespace,
    };
    is_namespace
        && peer.pod_selector.as_ref().is_none_or(|selector| matches(selector, &from.labels))
}

fn port_is(rule: &NetworkPolicyPort, port: i32) -> bool {
    let is_tcp = rule.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
    is_tcp
        && match (&rule.port, rule.end_port) {
            (None, _) => true,
            (Some(IntOrString::Int(first)), Some(last)) => (*first..=last).contains(&port),
            (Some(IntOrString::Int(only)), None) => *only == port,
            (Some(IntOrString::String(name)), _) => panic!("port {name} is rendered by its number"),
        }
}

fn is_in(block: &IPBlock, address: Ipv4Addr) -> bool {
    let contains = |cidr: &str| {
        let (network, length) = cidr.split_once('/').expect("an address and a length");
        let network: Ipv4Addr = network.parse().expect("an IPv4 address");
        let length: u32 = length.parse().expect("a length");
        let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
        u32::from(network) & mask == u32::from(address) & mask
    };
    contains(&block.cidr) && !block.except.iter().flatten().any(|cidr| contains(cidr))
}

/// Every label and every requirement must hold; an empty selector holds for all.
fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    let wanted = selector.match_labels.iter().flatten();
    let requirements = selector.match_expressions.iter().flatten();
    wanted.into_iter().all(|(key, value)| labels.get(key) == Some(value))
        && requirements.into_iter().all(|requirement| holds(requirement, labels))
}

fn holds(requirement: &LabelSelectorRequirement, labels: &Labels) -> bool {
    let value = labels.get(&requirement.key);
    let values = requirement.values.as_deref().unwrap_or_default();
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|value| values.contains(value)),
        "NotIn" => value.is_none_or(|value| !values.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        other => panic!("{other} is no operator of a label selector"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Endpoint, Labels, NetworkPolicy, admits, matches};

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn endpoint(namespace: &str, pod: &[(&str, &str)], address: [u8; 4]) -> Endpoint {
        Endpoint {
            namespace: namespace.to_owned(),
            namespace_labels: labels(&[("kubernetes.io/metadata.name", namespace)]),
            labels: labels(pod),
            address: address.into(),
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "so that a test reads as what it is about")]
    fn policy(spec: Value) -> NetworkPolicy {
        let object = json!({"metadata": {"name": "p", "namespace": "a"}, "spec": spec});
        serde_json::from_value(object).expect("a policy")
    }

    /// The statements of the documentation, in its order.
    #[test]
    fn policies_mean_what_the_documentation_says() {
        let server = endpoint("a", &[("role", "db")], [10, 0, 0, 1]);
        let friend = endpoint("a", &[("role", "web")], [10, 0, 1, 1]);
        let stranger = endpoint("b", &[("role", "web")], [10, 0, 2, 1]);
        let all = |spec: Value| {
            let policies = [policy(spec)];
            [&friend, &stranger].map(|from| admits(&policies, from, &server, 80))
        };
        let db = json!({"matchLabels": {"role": "db"}});
        let web = json!({"matchLabels": {"role": "web"}});
        for (what, expected, spec) in [
            ("another pod is selected", [true, true], json!({"podSelector": web})),
            ("no rule: nobody", [false, false], json!({"podSelector": db})),
            ("only outgoing", [true, true], json!({"podSelector": db, "policyTypes": ["Egress"]})),
            (
                "a rule without peers: all",
                [true, true],
                json!({"podSelector": {}, "ingress": [{}]}),
            ),
            (
                "an empty list of peers: all",
                [true, true],
                json!({"podSelector": {}, "ingress": [{"from": []}]}),
            ),
            (
                "pods of the policy's own namespace",
                [true, false],
                json!({"podSelector": db, "ingress": [{"from": [{"podSelector": web}]}]}),
            ),
            (
                "pods of any namespace",
                [true, true],
                json!({"podSelector": db, "ingress": [
                    {"from": [{"podSelector": web, "namespaceSelector": {}}]},
                ]}),
            ),
            (
                "a block with an exception",
                [false, true],
                json!({"podSelector": db, "ingress": [
                    {"from": [{"ipBlock": {"cidr": "10.0.0.0/16", "except": ["10.0.1.0/24"]}}]},
                ]}),
            ),
            (
                "other ports",
                [false, false],
                json!({"podSelector": db, "ingress": [{"ports": [{"port": 81, "endPort": 90}]}]}),
            ),
            (
                "a range of ports",
                [true, true],
                json!({"podSelector": db, "ingress": [{"ports": [{"port": 79, "endPort": 90}]}]}),
            ),
        ] {
            assert_eq!(all(spec), expected, "{what}");
        }
    }

    #[test]
    fn requirements_of_a_selector_hold_together() {
        let labels = labels(&[("tier", "edge"), ("team", "a")]);
        for (operator, values, expected) in [
            ("In", json!(["edge"]), true),
            ("In", json!(["core"]), false),
            ("NotIn", json!(["core"]), true),
            ("NotIn", json!(["edge"]), false),
            ("Exists", json!(null), true),
            ("DoesNotExist", json!(null), false),
        ] {
            let requirement = json!({"key": "tier", "operator": operator, "values": values});
            let selector = json!({"matchLabels": {"team": "a"}, "matchExpressions": [requirement]});
            let selector = serde_json::from_value(selector).expect("a selector");
            assert_eq!(matches(&selector, &labels), expected, "{operator} {values}");
        }
    }
}

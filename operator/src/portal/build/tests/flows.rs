//! Who may connect to whom: the rendered policies, asked about every pair of pods and every port.

use std::fmt::Write;

use k8s_openapi::api::{apps::v1::Deployment, networking::v1::NetworkPolicy};
use serde_json::{Value, json};

use super::{
    example::{rendered, settings, typed},
    policy::{Endpoint, Labels, admits, selects},
};

const PORTS: [i32; 3] = [5000, 5001, 8081];

/// The pods of a portal and the clients around them, by name.
struct World {
    endpoints: Vec<(&'static str, Endpoint)>,
    policies: Vec<NetworkPolicy>,
}

impl World {
    /// The pods of a portal `demo` in the namespace `team` with the labels that they are rendered
    /// with, and everybody around them.
    fn around(spec: Value) -> Self {
        let children = rendered(spec, &settings());
        let find = |name: &str| {
            let deployments = typed::<Deployment>(&children, "Deployment");
            let mut deployments = deployments.into_iter();
            let found = deployments.find(|it| it.metadata.name.as_deref() == Some(name));
            let template = found.and_then(|it| it.spec)?.template;
            template.metadata.and_then(|metadata| metadata.labels)
        };
        let pod = |name: &str| find(name).expect("a Deployment with labels");
        let neighbour = |component: &str| {
            let mut labels = pod(&format!("demo-{component}"));
            labels.insert("app.kubernetes.io/instance".to_owned(), "other".to_owned());
            labels
        };
        let application = || labels(&[("app", "client")]);
        let mut endpoints = Vec::new();
        let mut add = |name, namespace: &str, more: &[(&str, &str)], labels: Labels| {
            let mut namespace_labels = self::labels(more);
            namespace_labels.insert("kubernetes.io/metadata.name".to_owned(), namespace.to_owned());
            let number = u8::try_from(endpoints.len()).expect("few");
            let address = [10, 244, 0, number].into();
            let namespace = namespace.to_owned();
            endpoints.push((name, Endpoint { namespace, namespace_labels, labels, address }));
        };
        if let Some(labels) = find("demo-collector") {
            add("collector", "team", &[], labels);
        }
        let monitoring = [("gill-hicks.dev/monitoring", "true")];
        add("hardware", "team", &[], pod("demo-hardware"));
        add("portal", "team", &[], pod("demo-portal"));
        add("hardware of another", "team", &[], neighbour("hardware"));
        add("portal of another", "team", &[], neighbour("portal"));
        add("stranger beside", "team", &[], application());
        add("operator", "gill-hicks-system", &[], application());
        add("monitoring", "observability", &monitoring, application());
        add("portal elsewhere", "elsewhere", &[], pod("demo-portal"));
        add("stranger elsewhere", "elsewhere", &[], application());
        Self { endpoints, policies: typed(&children, "NetworkPolicy") }
    }

    /// A line for each pod with the ports of hardware, of portal and of a collector that it may connect to.
    fn table(&self) -> String {
        let mut table = String::new();
        let ports_to = |from: &Endpoint, name: &str| {
            let to = self.endpoint(name);
            let open = PORTS.iter().filter(|port| admits(&self.policies, from, to, **port));
            open.map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        for (name, from) in &self.endpoints {
            let (hardware, portal) = (ports_to(from, "hardware"), ports_to(from, "portal"));
            write!(table, "{name:20}| {hardware:10}| {portal:10}").expect("a String takes all");
            if self.endpoints.iter().any(|(its, _)| *its == "collector") {
                write!(table, "| {}", ports_to(from, "collector")).expect("a String takes all");
            }
            table.push('\n');
        }
        table
    }

    fn endpoint(&self, name: &str) -> &Endpoint {
        &self.endpoints.iter().find(|(its, _)| *its == name).expect("one of them").1
    }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "so that a test reads as what it is about")]
fn assert_flows(spec: Value, expected: &str) {
    let found = World::around(spec.clone()).table();
    let lines = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.trim_end().to_owned()).filter(|it| !it.is_empty()).collect()
    };
    assert_eq!(lines(&found), lines(expected), "{spec}\nto hardware and to portal:\n{found}");
}

#[test]
fn by_default_the_page_is_open_and_the_api_to_its_namespace() {
    let expected = "
hardware            | 5001      | 5000
portal              | 5001      | 5000
hardware of another | 5001      | 5000
portal of another   | 5001      | 5000
stranger beside     | 5001      | 5000
operator            | 8081      | 5000 8081
monitoring          | 8081      | 5000 8081
portal elsewhere    |           | 5000
stranger elsewhere  |           | 5000";
    assert_flows(json!({}), expected);
    let source = json!({"secret": {"name": "database"}});
    assert_flows(json!({"database": {"mysql": {"source": source}}}), expected);
}

#[test]
fn allow_from_takes_the_place_of_the_default_and_the_page_still_reaches_the_api() {
    let client = json!({"podSelector": {"matchLabels": {"app": "client"}}});
    assert_flows(
        json!({"hardware": {"allowFrom": [client]}, "portal": {"allowFrom": [client]}}),
        "
hardware            |           |
portal              | 5001      |
hardware of another |           |
portal of another   |           |
stranger beside     | 5001      | 5000
operator            | 8081      | 8081
monitoring          | 8081      | 8081
portal elsewhere    |           |
stranger elsewhere  |           |",
    );
}

#[test]
fn allow_from_can_name_pods_of_other_namespaces_and_addresses() {
    let elsewhere = json!({
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "elsewhere"}},
        "podSelector": {"matchLabels": {"app": "client"}},
    });
    let address = json!({"ipBlock": {"cidr": "10.244.0.4/32"}});
    assert_flows(
        json!({"hardware": {"allowFrom": [elsewhere]}, "portal": {"allowFrom": [address]}}),
        "
hardware            |           |
portal              | 5001      |
hardware of another |           |
portal of another   |           |
stranger beside     |           | 5000
operator            | 8081      | 8081
monitoring          | 8081      | 8081
portal elsewhere    |           |
stranger elsewhere  | 5001      |",
    );
}

#[test]
fn an_empty_allow_from_admits_nobody() {
    assert_flows(
        json!({"hardware": {"allowFrom": []}, "portal": {"allowFrom": []}}),
        "
hardware            |           |
portal              | 5001      |
hardware of another |           |
portal of another   |           |
stranger beside     |           |
operator            | 8081      | 8081
monitoring          | 8081      | 8081
portal elsewhere    |           |
stranger elsewhere  |           |",
    );
}

#[test]
fn with_sources_the_collector_posts_to_the_api_and_the_operator_asks_it_whatever_is_allowed() {
    assert_flows(
        json!({"sources": [{"kubernetes": {}}], "hardware": {"allowFrom": []}}),
        "
collector           | 5001      | 5000      |
hardware            |           | 5000      |
portal              | 5001      | 5000      |
hardware of another |           | 5000      |
portal of another   |           | 5000      |
stranger beside     |           | 5000      |
operator            | 5001 8081 | 5000 8081 | 8081
monitoring          | 8081      | 5000 8081 | 8081
portal elsewhere    |           | 5000      |
stranger elsewhere  |           | 5000      |",
    );
}

#[test]
fn labels_that_a_user_adds_open_nothing() {
    let claims = json!({"podLabels": {"app": "client", "team": "a"}});
    let with = World::around(json!({"hardware": claims, "portal": claims})).table();
    assert_eq!(with, World::around(json!({})).table());
}

#[test]
fn only_the_pods_of_the_portal_are_selected() {
    let world = World::around(json!({}));
    for (name, pod) in &world.endpoints {
        let selected = world.policies.iter().filter(|policy| selects(policy, pod)).count();
        let expected = usize::from(["hardware", "portal"].contains(name));
        assert_eq!(selected, expected, "{name}");
    }
}

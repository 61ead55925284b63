//! `operator check` in front of an API server of a few objects.

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use crds::ResourceKind;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use k8s_openapi::ByteString;
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::service_fn;

use super::{Findings, cluster, crd_problem, find_problems, missing_rights, portals};
use crate::{
    cluster::scope::Scope,
    permissions::{CRD_NAMES, IN_WATCHED_NAMESPACES},
};

const PORTALS: &str = "/apis/gill-hicks.dev/v1alpha1/namespaces/team/hardwareportals";
const PODS: &str = "/api/v1/namespaces/team/pods";
const METRICS: &str = "/apis/metrics.k8s.io/v1beta1";
const STORED: &str = "/api/v1/namespaces/gill-hicks-system/secrets/rotation-u";
const CLASS: &str = "/apis/networking.k8s.io/v1/ingressclasses/alb";

/// A cluster in which everything is as it should be, with one portal.
#[derive(Clone)]
struct Cluster {
    objects: BTreeMap<String, Value>,
    denied: Vec<&'static str>,
}

impl Cluster {
    #[expect(clippy::needless_pass_by_value, reason = "so that a test reads as what it is about")]
    fn with_portal(spec: Value) -> Self {
        let portal = json!({
            "apiVersion": "gill-hicks.dev/v1alpha1", "kind": "HardwarePortal",
            "metadata": {"name": "demo", "namespace": "team", "uid": "u"},
            "spec": spec,
        });
        let pods = json!({"name": "pods", "singularName": "", "namespaced": true,
            "kind": "PodMetrics", "verbs": ["get"]});
        let objects = [
            ("/version".to_owned(), version("34")),
            (PORTALS.to_owned(), list("HardwarePortalList", &[portal])),
            (PODS.to_owned(), list("PodList", &[])),
            (
                METRICS.to_owned(),
                json!({"kind": "APIResourceList", "groupVersion": "metrics.k8s.io/v1beta1",
                    "resources": [pods]}),
            ),
            (CLASS.to_owned(), json!({"metadata": {"name": "alb"}})),
        ];
        let crds = ResourceKind::ALL.into_iter().zip(CRD_NAMES).map(|(resource, name)| {
            (crd_path(name), serde_json::to_value(resource.crd()).expect("plain data"))
        });
        let objects = objects.into_iter().chain(crds).collect();
        Self { objects, denied: Vec::new() }
    }

    fn with(mut self, path: &str, answer: Value) -> Self {
        self.objects.insert(path.to_owned(), answer);
        self
    }

    fn without(mut self, path: &str) -> Self {
        self.objects.remove(path);
        self
    }

    fn client(&self) -> Client {
        let cluster = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let cluster = cluster.clone();
            async move { Ok::<_, Infallible>(cluster.answer(request).await) }
        });
        Client::new(service, "default")
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let (code, body) = if request.method() == Method::POST {
            assert!(path.ends_with("/selfsubjectaccessreviews"), "{path} is written");
            let body = request.into_body().collect().await.expect("a body").to_bytes();
            let mut review: Value = serde_json::from_slice(&body).expect("JSON");
            let resource = &review["spec"]["resourceAttributes"]["resource"];
            let allowed = !self.denied.iter().any(|denied| resource == denied);
            review["status"] = json!({"allowed": allowed});
            (201, review)
        } else {
            match self.objects.get(&path) {
                Some(failure) if failure["code"].is_number() => {
                    let code = failure["code"].as_u64().and_then(|code| u16::try_from(code).ok());
                    (code.expect("a status"), failure.clone())
                }
                Some(object) => (200, object.clone()),
                None => (404, failure(404, "not found")),
            }
        };
        let body = Body::from(body.to_string().into_bytes());
        Response::builder().status(code).body(body).expect("an answer")
    }
}

fn crd_path(name: &str) -> String {
    format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")
}

fn version(minor: &str) -> Value {
    json!({"major": "1", "minor": minor, "gitVersion": format!("v1.{minor}.4"), "gitCommit": "",
        "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": ""})
}

fn list(kind: &str, items: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": kind, "metadata": {}, "items": items})
}

fn failure(code: u16, message: &str) -> Value {
    let reason = if code == 404 { "NotFound" } else { "" };
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "reason": reason, "message": message})
}

fn pod(name: &str, address: &str, phase: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "team"},
        "status": {"phase": phase, "podIP": address}})
}

fn mysql() -> Value {
    json!({"database": {"mysql": {"source": {"secret": {"name": "db"}}}}})
}

fn team() -> [Scope; 1] {
    [Scope::Namespace("team".to_owned())]
}

async fn findings(cluster: &Cluster) -> Findings {
    let mut found =
        find_problems(&cluster.client(), "gill-hicks-system", &team()).await.expect("answers");
    // Of this process's own environment, which the tests of images are about.
    found.problems.retain(|problem| !problem.contains("_IMAGE"));
    found
}

/// As [`findings`], with pods that are asked on this port.
async fn findings_of_portal(cluster: &Cluster, admin_port: u16) -> Findings {
    let (client, mut found) = (cluster.client(), Findings::default());
    let portals = portals::list(&client, &team(), &mut found).await.expect("answers");
    let reach = portals::Reach {
        admin_port,
        own_namespace: "gill-hicks-system".to_owned(),
        patience: Duration::from_secs(2),
    };
    for portal in &portals {
        reach.check_portal(&client, portal, &mut found).await.expect("answers");
    }
    found
}

/// A port that is listened on, and one that nobody listens on.
async fn ports() -> (TcpListener, u16, u16) {
    let open = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let closed = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let number = |listener: &TcpListener| listener.local_addr().expect("bound").port();
    let (open_port, closed_port) = (number(&open), number(&closed));
    (open, open_port, closed_port)
}

#[tokio::test]
async fn a_good_installation_has_no_findings() {
    let cluster = Cluster::with_portal(json!({}));
    assert_eq!(findings(&cluster).await, Findings::default());
}

#[tokio::test]
async fn an_old_cluster_is_named() {
    let cluster = Cluster::with_portal(json!({})).with("/version", version("32+"));
    let problem = cluster::version_problem(&cluster.client()).await.expect("an answer");
    let problem = problem.expect("it is too old");
    assert!(problem.contains("v1.32+.4, expected 1.33 or later"), "{problem}");
}

#[tokio::test]
async fn a_crd_that_is_old_or_missing_is_named() {
    for (resource, name) in ResourceKind::ALL.into_iter().zip(CRD_NAMES) {
        let (cluster, path) = (Cluster::with_portal(json!({})), crd_path(name));
        let mut older = cluster.objects[&path].clone();
        let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
        let fields = older.pointer_mut(spec).and_then(Value::as_object_mut).expect("fields");
        fields.remove("suspend").expect("a field");
        let cluster = cluster.with(&path, older);
        let problem = crd_problem(&cluster.client(), resource).await.expect("an answer");
        let problem = problem.expect("it lacks a field");
        let advice = format!("lacks .spec.suspend; apply crds/{}.yaml", resource.plural());
        assert!(problem.contains(&advice), "{problem}");
        let cluster = cluster.without(&path);
        let problem = crd_problem(&cluster.client(), resource).await.expect("an answer");
        let problem = problem.expect("it is missing");
        assert!(problem.contains(&format!("the CRD {name} is not installed")), "{problem}");
        assert!(findings(&cluster).await.problems.contains(&problem), "operator check says so");
    }
}

#[tokio::test]
async fn each_missing_right_is_named_with_its_namespace() {
    let mut cluster = Cluster::with_portal(json!({}));
    cluster.denied = vec!["ingresses"];
    let client = cluster.client();
    let [team] = team();
    let missing = missing_rights(&client, &team, IN_WATCHED_NAMESPACES, "role.yaml");
    let missing = missing.await.expect("answers");
    assert!(missing.len() >= 4, "{missing:?}");
    let sentence = "this account may not create ingresses (API group networking.k8s.io) in namespace team; apply role.yaml there";
    assert!(missing.contains(&sentence.to_owned()), "{missing:?}");
}

#[tokio::test]
async fn metrics_are_needed_only_if_an_autoscaler_is_on() {
    let fixed = json!({"portal": {"autoscaling": {"disabled": true}}});
    for (spec, answer, word) in [
        (json!({}), None, Some("does not serve metrics.k8s.io")),
        (json!({}), Some(failure(503, "no endpoints")), Some("does not answer (no endpoints")),
        (fixed, None, None),
    ] {
        let cluster = Cluster::with_portal(spec);
        let cluster = match answer {
            Some(answer) => cluster.with(METRICS, answer),
            None => cluster.without(METRICS),
        };
        let found = findings(&cluster).await;
        match word {
            Some(word) => {
                assert_eq!(found.problems.len(), 1, "{found:?}");
                assert!(found.problems[0].contains(word), "{found:?}");
            }
            None => assert_eq!(found, Findings::default()),
        }
    }
}

#[tokio::test]
async fn an_ingress_class_is_looked_for_where_a_portal_names_one() {
    let spec = json!({"portal": {"ingress": {"alb": {}}}});
    let cluster = Cluster::with_portal(spec);
    assert_eq!(findings(&cluster).await, Findings::default());
    let found = findings(&cluster.clone().without(CLASS)).await;
    assert!(found.problems[0].contains("the IngressClass alb does not exist"), "{found:?}");
    let found = findings(&cluster.with(CLASS, failure(403, "ingressclasses is forbidden"))).await;
    assert_eq!(found.problems, [""; 0], "what may not be read is not wrong");
    let sentence =
        "portal team/demo: its IngressClass could not be checked: ingressclasses is forbidden";
    assert_eq!(found.unchecked, [sentence]);
}

#[tokio::test]
async fn pods_that_run_and_cannot_be_reached_are_named() {
    let (_listener, open, closed) = ports().await;
    let pods = [
        pod("demo-hardware-1", "127.0.0.1", "Running"),
        pod("demo-hardware-2", "127.0.0.1", "Pending"),
    ];
    let cluster = Cluster::with_portal(json!({})).with(PODS, list("PodList", &pods));
    assert_eq!(findings_of_portal(&cluster, open).await, Findings::default());
    let found = findings_of_portal(&cluster, closed).await;
    assert_eq!(found.problems.len(), 1, "{found:?}");
    let problem = &found.problems[0];
    assert!(problem.contains(&format!("port {closed} of demo-hardware-1 (")), "{problem}");
    assert!(!problem.contains("demo-hardware-2"), "it does not run yet: {problem}");
}

#[tokio::test]
async fn a_database_that_cannot_be_reached_is_a_problem_and_an_unknown_one_is_unchecked() {
    let (_listener, open, closed) = ports().await;
    let stored = |host: &str, port: u16| {
        let place = json!({"host": host, "port": port, "database": "hardware"});
        let record = json!({
            "portal": {"namespace": "team", "name": "demo", "uid": "u"},
            "deletionPolicy": "Retain", "encryption": "shipped",
            "state": {"generation": 1, "place": place},
        });
        let record = ByteString(record.to_string().into_bytes());
        json!({"metadata": {"name": "rotation-u"}, "data": {"record.json": record}})
    };
    let cluster = Cluster::with_portal(mysql());
    let reached = cluster.clone().with(STORED, stored("127.0.0.1", open));
    assert_eq!(findings_of_portal(&reached, open).await, Findings::default());
    for (host, port) in [("127.0.0.1", closed), ("database.invalid", 3306)] {
        let cluster = cluster.clone().with(STORED, stored(host, port));
        let found = findings_of_portal(&cluster, open).await;
        let sentence = format!("portal team/demo: its database {host}:{port} cannot be reached");
        assert!(found.problems[0].starts_with(&sentence), "{found:?}");
    }
    let found = findings_of_portal(&cluster, open).await;
    assert!(found.problems.is_empty(), "{found:?}");
    assert!(found.unchecked[0].contains("no source has said yet"), "{found:?}");
}

#[tokio::test]
async fn an_object_that_is_no_portal_does_not_stop_the_check() {
    let good = json!({"apiVersion": "gill-hicks.dev/v1alpha1", "kind": "HardwarePortal",
        "metadata": {"name": "good", "namespace": "team"}, "spec": {}});
    let mut bad = good.clone();
    bad["metadata"]["name"] = json!("bad");
    bad["spec"] = json!({"suspend": "perhaps"});
    let cluster =
        Cluster::with_portal(json!({})).with(PORTALS, list("HardwarePortalList", &[bad, good]));
    let found = findings(&cluster.without(METRICS)).await;
    assert_eq!(found.problems.len(), 2, "{found:?}");
    assert!(found.problems[0].contains("team/bad is no HardwarePortal"), "{found:?}");
    assert!(found.problems[1].contains("metrics.k8s.io"), "{found:?}");
}

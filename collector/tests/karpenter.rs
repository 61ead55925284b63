//! The program between an API server that has Karpenter's objects and a service that takes attempts.

use std::{
    collections::{HashMap, VecDeque},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use chrono::{SecondsFormat, TimeDelta, Utc};
use futures::stream;
use serde_json::{Value, json};
use test_kit::{Running, eventually, free_addresses};
use tokio::{net::TcpListener, sync::broadcast};

const PROGRAM: &str = env!("CARGO_BIN_EXE_collector");
const NODE_CLAIMS: &str = "nodeclaims";
const EVENTS: &str = "events";

/// An API server, Karpenter's metrics and a hardware service, under one address.
#[derive(Clone)]
struct Stand {
    inner: Arc<Mutex<Inner>>,
    /// What happens to a kind, for the watches that are open.
    happens: broadcast::Sender<(&'static str, Value)>,
}

#[derive(Default)]
struct Inner {
    /// Status and objects of each kind, as a list gives them.
    kinds: HashMap<&'static str, (u16, Vec<Value>)>,
    /// Exposition, of each question; the last one of all further ones.
    metrics: VecDeque<&'static str>,
    observations: Vec<Value>,
    attempts: Vec<Value>,
    /// Answers to the next batches of attempts; 200 after the last of them.
    answers: VecDeque<StatusCode>,
}

impl Stand {
    fn new() -> Self {
        let (happens, _) = broadcast::channel(16);
        let stand = Self { inner: Arc::default(), happens };
        stand.list(NODE_CLAIMS, 200, &[]);
        stand.list(EVENTS, 200, &[]);
        stand
    }

    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.inner.lock().expect("no panic"))
    }

    fn list(&self, kind: &'static str, status: u16, objects: &[Value]) {
        self.with(|inner| inner.kinds.insert(kind, (status, objects.to_vec())));
    }

    /// Tells the open watches of a kind.
    fn tell(&self, kind: &'static str, change: &str, object: &Value) {
        let told = self.happens.send((kind, json!({"type": change, "object": object})));
        told.expect("a watch is open");
    }

    async fn serve(&self) -> String {
        let objects = |kind| {
            get(
                move |State(stand): State<Self>, query: Query<HashMap<String, String>>| async move {
                    stand.answer(kind, query.contains_key("watch"))
                },
            )
        };
        let router = Router::new()
            .route("/apis/karpenter.sh/v1/nodeclaims", objects(NODE_CLAIMS))
            .route("/api/v1/events", objects(EVENTS))
            .route("/metrics", get(answer_metrics))
            .route("/v1/observations", post(take_observations))
            .route("/v1/attempts", post(take_attempts))
            .with_state(self.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    fn answer(&self, kind: &'static str, is_watch: bool) -> Response {
        let (status, objects) = self.with(|inner| inner.kinds[kind].clone());
        if status != 200 {
            let message = "nodeclaims is forbidden: User \"system:serviceaccount:team:demo-collector\" cannot list";
            let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "metadata": {},
                "message": message, "reason": "NotThere", "code": status});
            return (StatusCode::from_u16(status).expect("a status"), Json(body)).into_response();
        }
        if is_watch {
            let receiver = self.happens.subscribe();
            let lines = stream::unfold(receiver, move |mut receiver| async move {
                loop {
                    let (of, event) = receiver.recv().await.ok()?;
                    if of == kind {
                        let line = Bytes::from(format!("{event}\n"));
                        return Some((Ok::<_, std::convert::Infallible>(line), receiver));
                    }
                }
            });
            return Body::from_stream(lines).into_response();
        }
        Json(json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"},
            "items": objects}))
        .into_response()
    }

    async fn wait_for_attempts(&self, batches: usize) -> Vec<Value> {
        eventually(&format!("{batches} batches of attempts"), async || {
            self.with(|inner| (inner.attempts.len() >= batches).then(|| inner.attempts.clone()))
        })
        .await
    }

    /// The first batch of observations for which `wanted` holds.
    async fn wait_for_observations(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(what, async || {
            self.with(|inner| inner.observations.iter().find(|batch| wanted(batch)).cloned())
        })
        .await
    }
}

async fn take_observations(State(stand): State<Stand>, Json(batch): Json<Value>) -> Json<Value> {
    stand.with(|inner| inner.observations.push(batch));
    Json(json!({
        "accepted": 1, "unchanged": 0, "duplicates": 0, "late": 0, "retired": 0,
        "refused_total": 0, "refused": [], "warnings": [],
    }))
}

async fn take_attempts(State(stand): State<Stand>, Json(batch): Json<Value>) -> Response {
    stand.with(|inner| {
        inner.attempts.push(batch);
        match inner.answers.pop_front() {
            None => {
                Json(json!({"accepted": 1, "duplicates": 0, "refused_total": 0, "refused": []}))
                    .into_response()
            }
            Some(status) => (status, Json(json!({"detail": "not now"}))).into_response(),
        }
    })
}

async fn answer_metrics(State(stand): State<Stand>) -> &'static str {
    stand.with(|inner| match inner.metrics.len() {
        0 | 1 => inner.metrics.front().copied().unwrap_or_default(),
        _ => inner.metrics.pop_front().unwrap_or_default(),
    })
}

fn start(address: &str, folder: &Path, options: &Value) -> Running {
    std::fs::write(folder.join("karpenter"), "token").expect("written");
    let kubeconfig = folder.join("kubeconfig");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "stand",
        "clusters": [{"name": "stand", "cluster": {"server": address}}],
        "users": [{"name": "nobody", "user": {}}],
        "contexts": [{"name": "stand", "context": {"cluster": "stand", "user": "nobody"}}],
    });
    std::fs::write(&kubeconfig, config.to_string()).expect("written");
    let [admin, _] = free_addresses();
    let mut command = Command::new(PROGRAM);
    command
        .env_clear()
        .env("SOURCES", json!([{"karpenter": options}]).to_string())
        .env("KUBECONFIG", kubeconfig)
        .env("HARDWARE_HOST", address)
        .env("SOURCE_TOKENS_FOLDER", folder)
        .env("ADMIN_LISTEN", admin)
        .env("DRAIN_DELAY", "0s")
        .arg("serve")
        .stderr(Stdio::null());
    Running(command.spawn().expect("it starts"))
}

fn ago(minutes: i64) -> String {
    (Utc::now() - TimeDelta::minutes(minutes)).to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A NodeClaim that asks for one type in one zone, and was given it if it was `launched`.
fn claim(uid: &str, launched: Option<&str>) -> Value {
    let requirement =
        |key: &str, value: &str| json!({"key": key, "operator": "In", "values": [value]});
    let mut labels = json!({"karpenter.sh/nodepool": "gpu"});
    let mut conditions = json!([]);
    if let Some(at) = launched {
        labels["node.kubernetes.io/instance-type"] = json!("m5.large");
        labels["topology.kubernetes.io/zone"] = json!("us-east-1a");
        labels["karpenter.sh/capacity-type"] = json!("spot");
        conditions = json!([{"type": "Launched", "status": "True", "reason": "Launched", "message": "",
            "lastTransitionTime": at}]);
    }
    json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
        "metadata": {"name": uid, "uid": uid, "resourceVersion": "2", "labels": labels},
        "spec": {
            "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default"},
            "requirements": [
                requirement("node.kubernetes.io/instance-type", "p5.48xlarge"),
                requirement("topology.kubernetes.io/zone", "us-east-1b"),
                requirement("karpenter.sh/capacity-type", "on-demand"),
            ],
        },
        "status": {"conditions": conditions},
    })
}

fn failure(uid: &str, at: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": format!("{uid}.1"), "namespace": "default", "resourceVersion": "3"},
        "involvedObject": {"kind": "NodeClaim", "name": uid, "uid": uid},
        "reason": "InsufficientCapacityError", "firstTimestamp": at, "message": "no capacity",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_of_requests_arrives_once_although_the_service_was_away() {
    let (stand, folder) = (Stand::new(), tempfile::tempdir().expect("a folder"));
    let address = stand.serve().await;
    let launched = ago(2);
    stand.list(NODE_CLAIMS, 200, &[claim("a", Some(&launched)), claim("b", None)]);
    stand.with(|inner| inner.answers.extend([StatusCode::SERVICE_UNAVAILABLE; 2]));
    let _running = start(&address, folder.path(), &json!({}));
    let batches = stand.wait_for_attempts(3).await;
    assert_eq!(
        (&batches[0], &batches[1]),
        (&batches[2], &batches[2]),
        "all is sent until it arrives"
    );
    assert_eq!(batches[0]["source"], "karpenter");
    let attempts = batches[0]["attempts"].as_array().expect("a list");
    let [attempt] = attempts.as_slice() else { panic!("{attempts:?}") };
    let place = ["provider", "name", "region", "zone", "tier", "outcome"].map(|it| &attempt[it]);
    assert_eq!(place, ["Amazon", "m5.large", "us-east-1", "us-east-1a", "spot", "succeeded"]);
    let at = attempt["at"].as_str().expect("a time");
    assert_eq!(at[..19], launched[..19], "the second in which it was launched");

    // Karpenter deletes what it could not launch, and says why in an event.
    stand.tell(NODE_CLAIMS, "DELETED", &claim("b", None));
    stand.tell(EVENTS, "ADDED", &failure("b", &ago(0)));
    let batches = stand.wait_for_attempts(4).await;
    let attempts = batches[3]["attempts"].as_array().expect("a list");
    let [attempt] = attempts.as_slice() else {
        panic!("what arrived is not sent again: {attempts:?}")
    };
    let place = ["name", "zone", "tier", "outcome", "code"].map(|it| &attempt[it]);
    let failed = "InsufficientCapacityError";
    assert_eq!(place, ["p5.48xlarge", "us-east-1b", "on-demand", "failed", failed]);
    let batch = stand.wait_for_observations("an empty statement", |_| true).await;
    assert_eq!((&batch["unlisted"], &batch["observations"]), (&json!("gone"), &json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn offerings_are_those_of_the_replica_that_has_them() {
    let (stand, folder) = (Stand::new(), tempfile::tempdir().expect("a folder"));
    let address = stand.serve().await;
    stand.with(|inner| {
        inner.metrics.push_back("karpenter_build_info{version=\"1.6.0\"} 1\n");
        inner.metrics.push_back(
            "karpenter_cloudprovider_instance_type_offering_available{capacity_type=\"spot\",\
             instance_type=\"c5.large\",zone=\"us-west-2a\"} 0\n",
        );
    });
    let options = json!({"metricsUrl": format!("{address}/metrics")});
    let _running = start(&address, folder.path(), &options);
    let batch = stand.wait_for_observations("the offerings", |_| true).await;
    assert_eq!(
        batch["observations"],
        json!([{"provider": "Amazon", "name": "c5.large", "region": "us-west-2", "zone": "us-west-2a",
            "tier": "spot", "unit": "unit", "available": false}])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_karpenter_and_a_missing_right_heal_by_themselves() {
    let (stand, folder) = (Stand::new(), tempfile::tempdir().expect("a folder"));
    let address = stand.serve().await;
    stand.list(NODE_CLAIMS, 404, &[]);
    let _running = start(&address, folder.path(), &json!({}));
    let has = |code: &'static str| move |batch: &Value| batch["problem"]["code"] == code;
    stand.wait_for_observations("no Karpenter", has("karpenter_not_installed")).await;
    stand.list(NODE_CLAIMS, 403, &[]);
    let batch = stand.wait_for_observations("no right", has("nodeclaims_forbidden")).await;
    let detail = batch["problem"]["detail"].as_str().expect("a sentence");
    let command = "kubectl create clusterrolebinding gill-hicks-collector-team-demo \
                   --clusterrole=gill-hicks-collector --serviceaccount=team:demo-collector";
    assert!(detail.ends_with(command), "{detail}");
    stand.list(NODE_CLAIMS, 200, &[claim("a", Some(&ago(1)))]);
    stand.wait_for_observations("a statement", |batch| batch["unlisted"] == "gone").await;
    assert_eq!(stand.wait_for_attempts(1).await.len(), 1);
}

//! A `hardware` that does what a test tells it.

use std::{
    future::pending,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;

/// How to answer.
#[derive(Clone, Debug)]
pub(crate) enum Behaviour {
    /// A good list, or good pools, as JSON.
    List(String),
    /// A good list that the database has not confirmed for so many seconds.
    StaleList(String, u64),
    /// An error.
    Status(StatusCode),
    /// A body that is no list.
    Garbage(&'static str),
    /// Never.
    Hang,
}

/// What it was asked.
#[derive(Debug, Default)]
struct Seen {
    full: usize,
    not_modified: usize,
    failed: usize,
}

/// A server on a port of its own; ends with its test.
#[derive(Clone)]
pub(crate) struct FakeHardware {
    pub(crate) address: String,
    behaviour: Arc<Mutex<Behaviour>>,
    pools: Arc<Mutex<Behaviour>>,
    seen: Arc<Mutex<Seen>>,
}

/// The list of the original.
pub(crate) fn both_rows() -> Behaviour {
    list(&[("Amazon", "c5", "HIGH"), ("Azure", "H16mr", "LOW")])
}

pub(crate) fn list(rows: &[(&str, &str, &str)]) -> Behaviour {
    Behaviour::List(json(rows))
}

pub(crate) fn json(rows: &[(&str, &str, &str)]) -> String {
    let row = |(provider, name, availability): &(&str, &str, &str)| serde_json::json!({"provider": provider, "name": name, "availability": availability});
    rows.iter().map(row).collect::<serde_json::Value>().to_string()
}

/// Pools of a lab, in this order: their ids, names, levels and probabilities.
pub(crate) fn pools(pools: &[(&str, &str, &str, f64)]) -> Behaviour {
    let pool = |(id, name, level, probability): &(&str, &str, &str, f64)| {
        serde_json::json!({
            "id": id, "provider": "lab", "name": name, "region": "eu", "zone": "", "tier": "owned",
            "unit": "slot", "units": 1, "level": level, "probability": probability,
            "interpolated": false, "free": 5, "total": 8, "age_s": 3, "freshness": "fresh",
            "source": "kubernetes", "reasons": [],
        })
    };
    let items: serde_json::Value = pools.iter().map(pool).collect();
    let page = serde_json::json!({"as_of": "2026-06-01T12:00:00Z", "units": 1, "items": items});
    Behaviour::List(page.to_string())
}

impl FakeHardware {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        // As one that has no such route.
        let pools = Behaviour::Status(StatusCode::NOT_FOUND);
        let fake = Self {
            address,
            behaviour: Arc::new(Mutex::new(behaviour)),
            pools: Arc::new(Mutex::new(pools)),
            seen: Arc::default(),
        };
        let router = Router::new()
            .route("/hardware/", get(answer_list))
            .route("/v1/availability", get(answer_pools))
            .with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.expect("served") });
        fake
    }

    pub(crate) fn now(&self, behaviour: Behaviour) {
        *self.behaviour.lock().expect("not poisoned") = behaviour;
    }

    /// How to answer from now on when it is asked for its pools.
    pub(crate) fn report(&self, pools: Behaviour) {
        *self.pools.lock().expect("not poisoned") = pools;
    }

    /// Requests that were answered with a whole list.
    pub(crate) fn full_answers(&self) -> usize {
        self.seen.lock().expect("not poisoned").full
    }

    /// Requests that were answered with 304.
    pub(crate) fn not_modified_answers(&self) -> usize {
        self.seen.lock().expect("not poisoned").not_modified
    }

    /// Requests that got no list.
    pub(crate) fn failed_answers(&self) -> usize {
        self.seen.lock().expect("not poisoned").failed
    }
}

async fn answer_list(State(fake): State<FakeHardware>, request: HeaderMap) -> Response {
    let behaviour = fake.behaviour.lock().expect("not poisoned").clone();
    let response = respond(behaviour, &request).await;
    let mut seen = fake.seen.lock().expect("not poisoned");
    match response.status() {
        StatusCode::NOT_MODIFIED => seen.not_modified += 1,
        _ if response.headers().contains_key(header::ETAG) => seen.full += 1,
        _ => seen.failed += 1,
    }
    response
}

async fn answer_pools(State(fake): State<FakeHardware>, request: HeaderMap) -> Response {
    let behaviour = fake.pools.lock().expect("not poisoned").clone();
    respond(behaviour, &request).await
}

async fn respond(behaviour: Behaviour, request: &HeaderMap) -> Response {
    let (body, age, freshness) = match behaviour {
        Behaviour::List(body) => (body, 1, "fresh"),
        Behaviour::StaleList(body, age) => (body, age, "stale"),
        Behaviour::Status(status) => return status.into_response(),
        Behaviour::Garbage(body) => return body.into_response(),
        Behaviour::Hang => pending().await,
    };
    // Good enough as a tag: short, and different for the lists of a test.
    let tag = format!("\"{}-{}\"", body.len(), body.bytes().map(u64::from).sum::<u64>());
    let headers = [
        (header::ETAG.as_str(), tag.clone()),
        (header::AGE.as_str(), age.to_string()),
        ("snapshot-freshness", freshness.to_owned()),
    ];
    if request.get(header::IF_NONE_MATCH).is_some_and(|known| known == tag.as_str()) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, body).into_response()
}

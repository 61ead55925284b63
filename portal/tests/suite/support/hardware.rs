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
    /// A good list, as JSON.
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

impl FakeHardware {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let fake =
            Self { address, behaviour: Arc::new(Mutex::new(behaviour)), seen: Arc::default() };
        let router = Router::new().route("/hardware/", get(answer)).with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.expect("served") });
        fake
    }

    pub(crate) fn now(&self, behaviour: Behaviour) {
        *self.behaviour.lock().expect("not poisoned") = behaviour;
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

async fn answer(State(fake): State<FakeHardware>, request: HeaderMap) -> Response {
    let behaviour = fake.behaviour.lock().expect("not poisoned").clone();
    let (body, age, freshness) = match behaviour {
        Behaviour::List(body) => (body, 1, "fresh"),
        Behaviour::StaleList(body, age) => (body, age, "stale"),
        other => {
            fake.seen.lock().expect("not poisoned").failed += 1;
            return match other {
                Behaviour::Status(status) => status.into_response(),
                Behaviour::Garbage(body) => body.into_response(),
                _ => pending().await,
            };
        }
    };
    // Good enough as a tag: short, and different for the lists of a test.
    let tag = format!("\"{}-{}\"", body.len(), body.bytes().map(u64::from).sum::<u64>());
    let headers = [
        (header::ETAG.as_str(), tag.clone()),
        (header::AGE.as_str(), age.to_string()),
        ("snapshot-freshness", freshness.to_owned()),
    ];
    let mut seen = fake.seen.lock().expect("not poisoned");
    if request.get(header::IF_NONE_MATCH).is_some_and(|known| known == tag.as_str()) {
        seen.not_modified += 1;
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    seen.full += 1;
    (headers, body).into_response()
}

//! The program as a process, between a server that answers queries and one that takes observations.

use std::{
    collections::VecDeque,
    path::Path,
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::post,
};
use serde_json::{Value, json};
use test_kit::{Running, eventually, free_addresses};
use tokio::net::TcpListener;

const PROGRAM: &str = env!("CARGO_BIN_EXE_collector");

/// Something that is asked over HTTP, and gives the answers that the test has prepared.
#[derive(Clone, Default)]
struct Stand(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    /// Token and body of each batch.
    batches: Vec<(String, Value)>,
    /// Answers to the next batches; 200 after the last of them.
    answers: VecDeque<StatusCode>,
    /// Answers to queries, by the query.
    queries: Vec<(&'static str, Value)>,
    /// How many queries have been answered.
    asked: usize,
    is_redirecting: bool,
}

impl Stand {
    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.0.lock().expect("no panic"))
    }

    /// Serves both APIs, and gives the address.
    async fn serve(&self) -> String {
        let router = Router::new()
            .route("/v1/observations", post(take_batch))
            .route("/prefix/api/v1/query", post(answer_query))
            .with_state(self.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    /// Answers a query with these values of partitions.
    fn series(&self, query: &'static str, series: &[(&str, &str)]) {
        let one = |(partition, value): &(&str, &str)| json!({"metric": {"partition": partition}, "value": [1.5, value]});
        let list: Vec<Value> = series.iter().map(one).collect();
        let data = json!({"resultType": "vector", "result": list});
        self.answer(query, json!({"status": "success", "data": data}));
    }

    /// Refuses a query.
    fn refuse(&self, query: &'static str) {
        let answer = json!({"status": "error", "errorType": "bad_data", "error": "parse error"});
        self.answer(query, answer);
    }

    fn answer(&self, query: &'static str, answer: Value) {
        self.with(|inner| {
            inner.queries.retain(|(known, _)| *known != query);
            inner.queries.push((query, answer));
        });
    }

    /// The batches that have come, once there are so many.
    async fn wait_for_batches(&self, count: usize) -> Vec<(String, Value)> {
        eventually(&format!("{count} batches"), async || {
            self.with(|inner| (inner.batches.len() >= count).then(|| inner.batches.clone()))
        })
        .await
    }
}

async fn take_batch(
    State(stand): State<Stand>,
    headers: HeaderMap,
    Json(batch): Json<Value>,
) -> Response {
    let token = headers.get(header::AUTHORIZATION).and_then(|it| it.to_str().ok());
    let token = token.unwrap_or_default().to_owned();
    stand.with(|inner| {
        inner.batches.push((token, batch));
        if inner.is_redirecting {
            return Redirect::temporary("/v1/observations").into_response();
        }
        match inner.answers.pop_front() {
            None => Json(json!({
                "accepted": 1, "unchanged": 0, "duplicates": 0, "late": 0, "retired": 0,
                "refused_total": 0, "refused": [], "warnings": [],
            }))
            .into_response(),
            Some(status) => (status, Json(json!({"detail": "not now"}))).into_response(),
        }
    })
}

async fn answer_query(State(stand): State<Stand>, body: Bytes) -> Response {
    let mut form = url::form_urlencoded::parse(&body);
    let asked = form.find_map(|(key, value)| (key == "query").then(|| value.into_owned()));
    let found = stand.with(|inner| {
        inner.asked += 1;
        let mut queries = inner.queries.iter();
        queries
            .find(|(known, _)| asked.as_deref() == Some(*known))
            .map(|(_, answer)| answer.clone())
    });
    match found {
        Some(answer) if answer["status"] == "success" => Json(answer).into_response(),
        Some(answer) => (StatusCode::BAD_REQUEST, Json(answer)).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn command(address: &str, tokens: &Path) -> Command {
    let pools = json!([{"total": "nodes", "inUse": "busy", "provider": "Lab",
        "name": "{partition}", "unit": "node"}]);
    let url = format!("{address}/prefix/");
    let prometheus = json!({"url": url, "interval": "5s", "pools": pools});
    let [admin, _] = free_addresses();
    let mut command = Command::new(PROGRAM);
    command
        .env_clear()
        .env("SOURCES", json!([{"name": "slurm", "prometheus": prometheus}]).to_string())
        .env("HARDWARE_HOST", address)
        .env("SOURCE_TOKENS_FOLDER", tokens)
        .env("ADMIN_LISTEN", admin)
        .env("DRAIN_DELAY", "0s")
        .stderr(Stdio::null());
    command
}

fn start(address: &str, tokens: &Path) -> Running {
    Running(command(address, tokens).arg("serve").spawn().expect("it starts"))
}

fn tokens() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("slurm"), "first\n").expect("written");
    folder
}

/// Exit code and text of a dry run.
async fn check(address: &str, tokens: &Path) -> (Option<i32>, String) {
    let mut command = command(address, tokens);
    command.arg("check");
    let output: Output = tokio::task::spawn_blocking(move || command.output().expect("it runs"))
        .await
        .expect("it ended");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_seen_is_posted_and_only_what_changed_after_that() {
    let stand = Stand::default();
    let (address, tokens) = (stand.serve().await, tokens());
    stand.series("nodes", &[("cpu", "16"), ("gpu", "4")]);
    stand.series("busy", &[("cpu", "3"), ("gpu", "4")]);
    let _running = start(&address, tokens.path());
    let batches = stand.wait_for_batches(1).await;
    let (token, first) = &batches[0];
    assert_eq!(token, "Bearer first");
    assert_eq!((&first["source"], &first["expected_interval_s"]), (&json!("slurm"), &json!(5)));
    assert_eq!(first["unlisted"], "gone");
    let pool = |name: &str, total: u32, in_use: u32| {
        json!({"provider": "Lab", "name": name, "tier": "owned", "unit": "node",
            "total": total, "in_use": in_use})
    };
    assert_eq!(first["observations"], json!([pool("cpu", 16, 3), pool("gpu", 4, 4)]));

    // The next token is read when it is needed.
    std::fs::write(tokens.path().join("slurm"), "second").expect("written");
    stand.series("busy", &[("cpu", "3"), ("gpu", "1")]);
    let batches = stand.wait_for_batches(2).await;
    let (token, second) = &batches[1];
    assert_eq!((token.as_str(), &second["unlisted"]), ("Bearer second", &json!("unchanged")));
    assert_eq!(second["observations"], json!([pool("gpu", 4, 1)]));

    // A query that is refused says why.
    stand.refuse("nodes");
    let batches = stand.wait_for_batches(3).await;
    assert_eq!(batches[2].1["problem"]["code"], "query_invalid");
    let detail = "Prometheus refuses the query \"nodes\": parse error";
    assert_eq!(batches[2].1["problem"]["detail"], detail);

    // One that gives nothing says nothing: an exporter that is gone looks so.
    stand.series("nodes", &[]);
    let (asked, posted) = stand.with(|inner| (inner.asked, inner.batches.len()));
    // Two rounds and the beginning of a third: what the first of them saw would have been posted.
    eventually("it is asked again", async || {
        stand.with(|inner| (inner.asked >= asked + 5).then_some(()))
    })
    .await;
    assert_eq!(stand.with(|inner| inner.batches.len()), posted, "nothing is known");
    stand.series("nodes", &[("cpu", "16")]);
    stand.series("busy", &[("cpu", "0")]);
    let batches = stand.wait_for_batches(posted + 1).await;
    // And everything is said anew after that.
    let last = &batches[posted].1;
    assert_eq!(last["observations"], json!([pool("cpu", 16, 0)]));
    assert_eq!((&last["unlisted"], &last["problem"]), (&json!("gone"), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_fails_is_asked_again_and_a_token_goes_nowhere_else() {
    let stand = Stand::default();
    let (address, tokens) = (stand.serve().await, tokens());
    stand.series("nodes", &[("cpu", "16")]);
    stand.series("busy", &[("cpu", "3")]);
    stand.with(|inner| inner.answers.extend([StatusCode::SERVICE_UNAVAILABLE; 2]));
    let mut running = start(&address, tokens.path());
    let batches = stand.wait_for_batches(3).await;
    assert!(batches.iter().all(|(_, batch)| batch["unlisted"] == "gone"), "all is said each time");

    // What a redirect leads to is not asked: it would come at once, and the next try does not.
    stand.with(|inner| inner.is_redirecting = true);
    let before = stand.with(|inner| inner.batches.len());
    stand.wait_for_batches(before + 1).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(stand.with(|inner| inner.batches.len()), before + 1, "the redirect was followed");

    let asked = Instant::now();
    let killed = Command::new("kill").arg(running.0.id().to_string()).status().expect("kill");
    assert!(killed.success());
    let status = eventually("it ends", async || running.0.try_wait().expect("ours")).await;
    assert!(status.success() && asked.elapsed() < Duration::from_secs(5), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_shows_a_table_and_posts_nothing() {
    let stand = Stand::default();
    let (address, tokens) = (stand.serve().await, tokens());
    stand.series("nodes", &[("cpu", "16")]);
    stand.series("busy", &[("cpu", "3")]);
    let (code, said) = check(&address, tokens.path()).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("ok    slurm: 1 pools\n"), "{said}");
    assert!(said.contains("Lab       cpu   -       -     owned  node  13    16"), "{said}");

    stand.refuse("busy");
    let (code, said) = check(&address, tokens.path()).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with("FAIL  slurm: query_invalid: Prometheus refuses"), "{said}");
    assert_eq!(stand.with(|inner| inner.batches.len()), 0);
}

#[test]
fn what_cannot_be_used_is_said_before_anything_starts() {
    for (variables, expected) in [
        (vec![("HARDWARE_HOST", "")], "HARDWARE_HOST is not set, expected HOST"),
        (vec![("HARDWARE_HOST", "https://h")], "asked over plain HTTP"),
        (vec![("HARDWARE_HOST", "h"), ("SOURCES", "[]")], "SOURCES is an empty list"),
        (vec![("HARDWARE_HOST", "h"), ("SOURCES", "?")], "SOURCES is not understood"),
    ] {
        let mut command = Command::new(PROGRAM);
        command.env_clear().envs(variables.iter().copied()).arg("serve");
        let output = command.env("ADMIN_LISTEN", "127.0.0.1:0").output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{variables:?}: {said}");
        assert!(said.contains(expected), "{variables:?}: expected {expected}, found {said}");
    }
}

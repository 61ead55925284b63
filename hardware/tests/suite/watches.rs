//! Watches: who is told, when, how often, and where requests may go.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::Path, routing::post};
use chrono::Utc;
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    support::{
        clients,
        database::{TestDatabase, execute},
        eventually,
        service::{TOKEN, TestService, replace_file},
    },
    two_pods::{self, three_hours},
};

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const FAST: Duration = Duration::from_millis(100);

/// One request that a receiver got.
#[derive(Clone, Debug)]
struct Received {
    path: String,
    headers: HeaderMap,
    body: String,
}

impl Received {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    fn id(&self) -> &str {
        self.headers["webhook-id"].to_str().expect("ASCII")
    }
}

/// Takes messages at any path, and answers with the status that it is told to.
#[derive(Clone)]
struct Receiver {
    url: String,
    port: u16,
    status: Arc<AtomicU16>,
    all: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let receiver = Self {
            url: format!("http://127.0.0.1:{port}"),
            port,
            status: Arc::new(AtomicU16::new(200)),
            all: Arc::default(),
        };
        let own = receiver.clone();
        let take = async move |Path(path): Path<String>, headers: HeaderMap, body: String| {
            own.take(Received { path, headers, body })
        };
        let routes = Router::new().route("/{*path}", post(take));
        tokio::spawn(async move { axum::serve(listener, routes).await.expect("it serves") });
        receiver
    }

    fn take(&self, received: Received) -> (StatusCode, HeaderMap) {
        self.all.lock().expect("no panic").push(received);
        let status = self.status.load(Ordering::Relaxed);
        let status = StatusCode::from_u16(status).expect("a status");
        let elsewhere = format!("{}/elsewhere", self.url);
        let location = header::HeaderValue::try_from(elsewhere).expect("a URL");
        let headers = status.is_redirection().then_some((header::LOCATION, location));
        (status, headers.into_iter().collect())
    }

    fn answer_with(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    fn received(&self) -> Vec<Received> {
        self.all.lock().expect("no panic").clone()
    }

    async fn wait_for(&self, count: usize) -> Vec<Received> {
        let what = format!("{count} messages");
        eventually(&what, async || Some(self.received()).filter(|all| all.len() >= count)).await
    }
}

/// A watch of c5 for two units, which tells a webhook.
fn watch(name: &str, receiver: &Receiver, change: impl FnOnce(&mut Value)) -> Value {
    let mut watch = json!({
        "name": name, "uid": format!("uid-of-{name}"), "generation": 1,
        "match": {"provider": "amazon", "name": "c5*"}, "units": 2, "level": "MEDIUM",
        "for_s": 0, "cooldown_s": 0,
        "deliver": [{"place": 0, "kind": "webhook", "url": format!("{}/{name}", receiver.url),
            "signing_key": KEY}],
    });
    change(&mut watch);
    watch
}

fn file_of(watches: &[Value]) -> String {
    json!({"allow_http": true, "allow_addresses": ["127.0.0.0/8"], "watches": watches}).to_string()
}

/// A service on SQLite that has watched a file from before that file was there.
struct World {
    service: TestService,
    file: std::path::PathBuf,
    folder: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("watches.json");
        let options =
            ["--watches-file", file.to_str().expect("UTF-8"), "--observations-token", TOKEN];
        let home = tempfile::tempdir().expect("a folder");
        let service = TestService::with_jobs_every(FAST, home, &options).await;
        service.wait_until_ready().await;
        Self { service, file, folder }
    }

    fn write(&self, content: &str) {
        replace_file(&self.file, content);
    }

    async fn observe(&self, batch: &Value) {
        let answer = self.service.observe(batch).await;
        assert_eq!(answer.status(), StatusCode::OK, "{:?}", answer.text().await);
    }

    /// What the operator is told of a watch.
    async fn report(&self, name: &str) -> Option<Value> {
        report(&self.service, name).await
    }
}

async fn report(service: &TestService, name: &str) -> Option<Value> {
    let answer: Value = service.get_admin("/watches").await.json().await.expect("a report");
    let items = answer["items"].as_array().expect("a list").clone();
    items.into_iter().find(|item| item["name"] == name)
}

/// c5 with so many units, two of them taken.
fn c5(total: u32) -> Value {
    let observation = json!({"provider": "Amazon", "name": "c5", "total": total, "in_use": 0,
        "observed_at": Utc::now()});
    json!({"source": "lab", "observations": [observation]})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_fires_once_and_again_after_its_level_had_gone() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    world.observe(&three_hours()).await;
    assert_eq!(world.report("gpus").await, None);
    world.write(&file_of(&[watch("gpus", &receiver, |_| {})]));
    let first = receiver.wait_for(1).await.remove(0);
    let said = first.json();
    assert_eq!(said["type"], "watch.fired");
    assert_eq!(said["data"]["watch"], "gpus");
    assert_eq!(
        (&said["data"]["pool"]["name"], &said["data"]["pool"]["free"]),
        (&json!("c5"), &json!(6))
    );

    // The specification's own library takes it, and nothing that was changed.
    let headers: BTreeMap<&str, &str> = first
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().expect("ASCII")))
        .collect();
    let message = json!({"headers": headers, "body": first.body}).to_string();
    let verified = clients::run("verify_webhook.py", &[KEY], message.as_bytes(), &message).await;
    assert_eq!(verified, said);

    let told = eventually("it is disarmed, and the delivery noted", async || {
        world.report("gpus").await.filter(|it| it["last_delivered"].is_string())
    })
    .await;
    assert_eq!(
        (&told["armed"], &told["pending"], &told["error"]),
        (&json!(false), &json!(0), &Value::Null)
    );
    assert!(told["holds_since"].is_string() && told["last_fired"].is_string(), "{told}");

    world.observe(&c5(1)).await;
    eventually("it is armed again", async || {
        world.report("gpus").await.filter(|it| it["armed"] == true)
    })
    .await;
    assert_eq!(receiver.received().len(), 1);
    world.observe(&c5(8)).await;
    let second = receiver.wait_for(2).await.remove(1);
    assert_ne!(first.id(), second.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_receiver_is_told_in_its_own_words_and_one_that_fails_holds_up_no_other() {
    let (world, good, bad) =
        (World::start().await, Receiver::start().await, Receiver::start().await);
    bad.answer_with(500);
    world.observe(&three_hours()).await;
    world.write(&file_of(&[watch("gpus", &good, |it| {
        it["deliver"] = json!([
            {"place": 0, "kind": "webhook", "url": format!("{}/bad", bad.url)},
            {"place": 1, "kind": "slack", "url": format!("{}/slack", good.url)},
            {"place": 3, "kind": "ntfy", "url": format!("{}/topic", good.url), "token": "tk_s3cret"},
        ]);
    })]));
    let told = good.wait_for(2).await;
    let of = |path: &str| told.iter().find(|it| it.path == path).expect("told");
    let text = "2 × Amazon c5 on-demand can be had: HIGH";
    let slack = of("slack").json()["text"].as_str().expect("a text").to_owned();
    assert!(slack.starts_with(text) && slack.ends_with("(gpus)"), "{slack}");
    let ntfy = of("topic");
    assert!(ntfy.body.starts_with(text), "{}", ntfy.body);
    assert_eq!(
        (&ntfy.headers["x-title"], &ntfy.headers["authorization"]),
        (&"gpus".parse().expect("one"), &"Bearer tk_s3cret".parse().expect("one"))
    );

    let report = eventually("the failure is told", async || {
        world.report("gpus").await.filter(|it| it["error"].is_object())
    })
    .await;
    let error = &report["error"];
    assert_eq!((&error["target"], &error["attempts"]), (&json!(0), &json!(1)));
    assert_eq!(error["message"], "it answered with the status 500 Internal Server Error");
    assert_eq!(report["pending"], 1);
    assert!(report["last_delivered"].is_string(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_taken_is_told_with_the_same_id_until_it_is() {
    let database = TestDatabase::mysql().await;
    drop(database.migrated().await);
    let receiver = Receiver::start().await;
    receiver.answer_with(503);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("watches.json");
    let watches: Vec<Value> =
        (0..1000).map(|number| watch(&format!("w{number}"), &receiver, |_| {})).collect();
    replace_file(&file, &file_of(&watches));
    let start = async || {
        two_pods::start_with_jobs_every_and(
            FAST,
            &database,
            &["--watches-file", file.to_str().expect("UTF-8")],
        )
        .await
    };
    let (one, other) = (start().await, start().await);
    let answer = one.observe(&three_hours()).await;
    assert_eq!(answer.status(), StatusCode::OK);
    receiver.wait_for(1000).await;
    let db = database.connect();
    eventually("all failures are noted", async || {
        let reports = db.report_deliveries().await.expect("asked");
        let failed = reports.values().filter(|it| it.failure.is_some()).count();
        (failed == 1000).then_some(())
    })
    .await;
    // Both are gone, with a thousand messages untold; two others come when they are due.
    drop((one, other));
    receiver.answer_with(200);
    execute(&db, "UPDATE delivery SET due = 0").await;
    let before: HashSet<String> = ids(&receiver.received());
    assert_eq!(before.len(), 1000);
    let at = receiver.received().len();
    let (one, other) = (start().await, start().await);
    eventually("everybody was told", async || {
        let pending = db.report_deliveries().await.expect("asked");
        pending.is_empty().then_some(())
    })
    .await;
    let later = receiver.received().split_off(at);
    assert_eq!(ids(&later), before, "a message keeps its id");
    assert_eq!(later.len(), 1000, "each was told once");
    for service in [&one, &other] {
        let report = report(service, "w999").await.expect("known");
        assert_eq!((&report["pending"], report["last_delivered"].is_string()), (&json!(0), true));
    }
}

fn ids(received: &[Received]) -> HashSet<String> {
    received.iter().map(|it| it.id().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_nowhere_but_to_public_addresses_unless_others_are_allowed() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    world.observe(&three_hours()).await;
    let port = receiver.port;
    let to =
        |name: &str, url: String| watch(name, &receiver, |it| it["deliver"][0]["url"] = json!(url));
    let watches = [
        to("address", format!("http://127.0.0.1:{port}/a")),
        to("mapped", format!("http://[::ffff:127.0.0.1]:{port}/a")),
        to("name", format!("http://localhost:{port}/a")),
        to("metadata", "http://169.254.169.254/latest/".to_owned()),
        to("number", format!("http://2130706433:{port}/a")),
        to("unknown", "https://nowhere.invalid/".to_owned()),
    ];
    let document = json!({"allow_http": true, "watches": watches});
    world.write(&document.to_string());
    let error = async |name: &str| {
        let report = eventually("it failed", async || {
            world.report(name).await.filter(|it| it["error"].is_object())
        });
        report.await["error"]["message"].as_str().expect("a sentence").to_owned()
    };
    for (name, expected) in [
        ("address", "its host has the address 127.0.0.1, which is not a public one"),
        ("mapped", "its host has the address ::ffff:127.0.0.1, which is not a public one"),
        ("name", "which is not a public one and not in the portal's spec.watches.allowAddresses"),
        ("metadata", "its host has the address 169.254.169.254"),
        ("number", "its host has the address 127.0.0.1"),
        ("unknown", "the name of its host was not resolved"),
    ] {
        let found = error(name).await;
        assert!(found.contains(expected), "{name}: {found}");
    }
    assert_eq!(receiver.received().len(), 0);

    // The same with other rules, and plain HTTP.
    let allowed = json!(["127.0.0.0/8", "::1/128"]);
    let plain = watch("plain", &receiver, |_| {});
    world.write(&json!({"allow_addresses": allowed, "watches": [plain]}).to_string());
    let found = error("plain").await;
    assert_eq!(found, "its url is http://, and the portal's spec.watches.allowHttp is false");
    // A redirect is an answer that is no success.
    receiver.answer_with(307);
    world.write(&file_of(&[watch("moved", &receiver, |_| {})]));
    assert_eq!(error("moved").await, "it answered with the status 307 Temporary Redirect");
    assert!(receiver.received().iter().all(|it| it.path == "moved"), "{:?}", receiver.received());
    assert!(world.folder.path().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_watch_or_file_spoils_no_other_watch() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    world.observe(&three_hours()).await;
    let bad = watch("bad", &receiver, |it| it["level"] = json!("GREAT"));
    world.write(&file_of(&[bad, watch("good", &receiver, |_| {})]));
    assert_eq!(receiver.wait_for(1).await[0].path, "good");
    assert_eq!(world.report("bad").await, None);
    // What cannot be read keeps what was there.
    world.write("{");
    world.observe(&c5(1)).await;
    eventually("the watch is still there", async || {
        world.report("good").await.filter(|it| it["armed"] == true)
    })
    .await;
    // A changed watch is told of what it asks for now.
    world.write(&file_of(&[watch("good", &receiver, |it| {
        it["generation"] = json!(2);
        it["units"] = json!(1);
    })]));
    receiver.wait_for(2).await;
    // One that is deleted is not told anything any more.
    world.write(&file_of(&[]));
    eventually("it is gone", async || world.report("good").await.is_none().then_some(())).await;
}

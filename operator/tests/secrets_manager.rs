//! Reading from Secrets Manager through the real SDK: against moto's server over TLS, and against a
//! server that only throttles. `e2e/with-aws` starts moto and sets what is needed; `make unit` runs it.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use aws_config::{BehaviorVersion, Region};
use aws_sdk_secretsmanager::{Client, types::Tag};
use axum::{Router, http::StatusCode, routing::post, serve::Listener};
use crds::Reason;
use operator::{
    cluster::retry::Retry,
    rotation::source::{Reading, Request, SourceError, secrets_manager::SecretsManager},
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

const REGION: &str = "eu-west-1";
const TAG: &str = "gill-hicks.dev/allow-portal";
const HOST_TAG: &str = "gill-hicks.dev/database-host";

fn endpoint() -> String {
    std::env::var("TEST_AWS_ENDPOINT").expect(
        "TEST_AWS_ENDPOINT is not set. Tests on Secrets Manager need moto's server: run `make unit`, \
         or `e2e/with-aws cargo test …`",
    )
}

/// As the administrator of secrets.
async fn administrator() -> Client {
    let config = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .endpoint_url(endpoint())
        .load()
        .await;
    Client::new(&config)
}

/// Creates a secret of a name of its own, and gives its ARN.
async fn create(administrator: &Client, name: &str, account: &Value, allows: &str) -> String {
    let name = format!("{name}-{}", std::process::id());
    let request = administrator.create_secret().name(name).secret_string(account.to_string());
    let request = request.tags(tag(TAG, allows));
    request.send().await.expect("moto creates a secret").arn.expect("an ARN")
}

fn tag(key: &str, value: &str) -> Tag {
    Tag::builder().key(key).value(value).build()
}

async fn put(administrator: &Client, arn: &str, account: &Value, stage: &str) {
    let request =
        administrator.put_secret_value().secret_id(arn).secret_string(account.to_string());
    request.version_stages(stage).send().await.expect("moto stores a version");
}

async fn read_at(endpoint: String, secret_id: &str) -> Result<Reading, SourceError> {
    let request =
        Request { namespace: "team", portal: "p", known_state: None, accepted_lineage: None };
    SecretsManager::new(Some(endpoint)).read(secret_id, REGION, &request).await
}

async fn read(secret_id: &str) -> Result<Reading, SourceError> {
    read_at(endpoint(), secret_id).await
}

fn account(password: &str) -> Value {
    json!({"username": "root", "password": password, "host": "db.example", "port": 3306})
}

fn passwords(reading: &Reading) -> Vec<&str> {
    reading.candidates.iter().map(|one| one.password.expose_secret()).collect()
}

#[tokio::test]
async fn a_rotation_is_followed_from_pending_to_current() {
    let administrator = administrator().await;
    let arn = create(&administrator, "rotated", &account("one"), "team/p").await;
    let first = read(&arn).await.expect("an allowed secret");
    assert_eq!(passwords(&first), ["one"]);
    assert_eq!(first.host.as_deref(), Some("db.example"));
    assert_eq!(first.port.as_deref(), Some("3306"));

    put(&administrator, &arn, &account("two"), "AWSPENDING").await;
    let pending = read(&arn).await.expect("an allowed secret");
    assert_eq!(passwords(&pending), ["one", "two"]);
    assert_eq!(pending.version, first.version, "nothing has changed yet");

    put(&administrator, &arn, &account("two"), "AWSCURRENT").await;
    let current = read(&arn).await.expect("an allowed secret");
    assert_eq!(passwords(&current), ["two", "one"]);
    assert_ne!(current.version, first.version);
    let described =
        administrator.describe_secret().secret_id(&arn).send().await.expect("described");
    let stages: &HashMap<_, _> = described.version_ids_to_stages().expect("versions");
    assert!(stages[&current.version].contains(&"AWSCURRENT".to_owned()), "{stages:?}");
}

#[tokio::test]
async fn a_secret_without_the_portals_tag_is_not_read() {
    let administrator = administrator().await;
    for allows in ["other/p", "team/other", "p", "other/p team/other"] {
        let name = format!("foreign-{}", allows.replace(['/', ' '], "-"));
        let arn = create(&administrator, &name, &account("s3cret"), allows).await;
        let error = read(&arn).await.expect_err("another portal's");
        assert_eq!(error.reason(), Reason::SourceNotAllowed);
        let message = error.to_string();
        assert!(message.contains(&format!("{TAG}=team/p")), "{message}");
    }
}

#[tokio::test]
async fn one_secret_can_be_for_several_portals() {
    let arn = create(&administrator().await, "shared", &account("one"), "other/q team/p").await;
    assert_eq!(passwords(&read(&arn).await.expect("one of two portals")), ["one"]);
}

/// As RDS manages it: a name and a password.
#[tokio::test]
async fn the_tag_of_a_secret_without_a_host_says_where_it_may_be_sent() {
    let administrator = administrator().await;
    let managed = json!({"username": "root", "password": "x"});
    let arn = create(&administrator, "managed", &managed, "team/p").await;
    let unnamed = read(&arn).await.expect("an allowed secret");
    assert_eq!((unnamed.host, unnamed.allowed_host), (None, None));

    let named = tag(HOST_TAG, "db.example:3307");
    administrator.tag_resource().secret_id(&arn).tags(named).send().await.expect("tagged");
    let reading = read(&arn).await.expect("an allowed secret");
    assert_eq!((reading.host, reading.allowed_host.as_deref()), (None, Some("db.example:3307")));

    put(&administrator, &arn, &account("x"), "AWSCURRENT").await;
    let reading = read(&arn).await.expect("an allowed secret");
    assert_eq!(reading.allowed_host.as_deref(), Some("db.example"), "its own host counts");
}

/// One client for all portals: its connection is used again.
#[tokio::test]
async fn readings_share_a_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let (listener, accepted) = Counting::new(listener);
    let untagged = post(async || json!({"ARN": "arn", "Name": "db"}).to_string());
    let service = Router::new().route("/", untagged);
    let server = tokio::spawn(async move { axum::serve(listener, service).await });
    let manager = SecretsManager::new(Some(format!("http://{address}")));
    for portal in ["p", "q", "r"] {
        let request =
            Request { namespace: "team", portal, known_state: None, accepted_lineage: None };
        let error = manager.read("db", REGION, &request).await.expect_err("no tag");
        assert_eq!(error.reason(), Reason::SourceNotAllowed, "{error}");
    }
    server.abort();
    assert_eq!(accepted.load(Ordering::SeqCst), 1, "connections for three readings");
}

/// Counts the connections that it accepts.
struct Counting {
    listener: TcpListener,
    accepted: Arc<AtomicUsize>,
}

impl Counting {
    fn new(listener: TcpListener) -> (Self, Arc<AtomicUsize>) {
        let accepted = Arc::new(AtomicUsize::new(0));
        (Self { listener, accepted: Arc::clone(&accepted) }, accepted)
    }
}

impl Listener for Counting {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        let connection = Listener::accept(&mut self.listener).await;
        self.accepted.fetch_add(1, Ordering::SeqCst);
        connection
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

#[tokio::test]
async fn what_is_missing_or_unusable_is_said() {
    let error = read("no-such-secret").await.expect_err("nothing there");
    assert_eq!(error.reason(), Reason::SourceNotFound);
    let arn = create(&administrator().await, "odd", &json!({"password": "s3cret"}), "team/p").await;
    let error = read(&arn).await.expect_err("no username");
    assert_eq!(error.reason(), Reason::SourceInvalid);
    assert!(!error.to_string().contains("s3cret"), "{error}");
}

#[tokio::test]
async fn a_service_that_throttles_is_asked_again_later() {
    for (status, code) in [
        (StatusCode::BAD_REQUEST, "ThrottlingException"),
        (StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let answer = json!({"__type": code, "message": "Rate exceeded"}).to_string();
        let throttle = post(move || async move { (status, answer) });
        let service = Router::new().route("/", throttle);
        let server = tokio::spawn(async move { axum::serve(listener, service).await });
        let error = read_at(format!("http://{address}"), "db").await.expect_err("throttled");
        server.abort();
        assert_eq!((error.reason(), error.retry()), (Reason::SourceUnavailable, Retry::Backoff));
        assert!(error.to_string().contains(&format!("{code}: Rate exceeded")), "{error}");
    }
}

#[tokio::test]
async fn a_service_that_cannot_be_reached_is_named_with_the_cause() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let error = read_at(format!("https://{address}"), "db").await.expect_err("nobody listens");
    assert_eq!((error.reason(), error.retry()), (Reason::SourceUnavailable, Retry::Backoff));
    assert!(error.to_string().contains("refused"), "{error}");
}

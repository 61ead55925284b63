//! The program between the Query API of EC2 and a service that takes observations. What moto has of that API
//! is asked over TLS, and checks signatures; the rest answers as AWS was recorded to.

use std::{
    collections::HashMap,
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Redirect, Response},
    routing::post,
};
use serde_json::{Value, json};
use test_kit::{Running, eventually, free_addresses};
use tokio::net::TcpListener;

const PROGRAM: &str = env!("CARGO_BIN_EXE_collector");
const RESERVATIONS: &str = "DescribeCapacityReservations";
const OFFERINGS: &str = "DescribeInstanceTypeOfferings";

/// An EC2 and a hardware service, under one address.
#[derive(Clone, Default)]
struct Stand(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    /// What EC2 was asked: the form and the headers.
    asked: Vec<(HashMap<String, String>, HeaderMap)>,
    /// Answers to each action, in turn; the last one to all further ones.
    answers: HashMap<&'static str, Vec<(u16, String)>>,
    /// Where the next question is sent on to.
    redirect: Option<String>,
    batches: Vec<Value>,
}

impl Stand {
    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.0.lock().expect("no panic"))
    }

    fn answer(&self, action: &'static str, answers: &[(u16, String)]) {
        self.with(|inner| inner.answers.insert(action, answers.to_vec()));
    }

    async fn serve(&self) -> String {
        let router = Router::new()
            .route("/", post(answer_query))
            .route("/v1/observations", post(take_batch))
            .with_state(self.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    async fn wait_for_batch(&self) -> Value {
        eventually("a batch", async || self.with(|inner| inner.batches.first().cloned())).await
    }
}

async fn answer_query(State(stand): State<Stand>, headers: HeaderMap, body: Bytes) -> Response {
    let form: HashMap<String, String> = url::form_urlencoded::parse(&body).into_owned().collect();
    stand.with(|inner| {
        let action = form.get("Action").cloned().unwrap_or_default();
        inner.asked.push((form, headers));
        if let Some(address) = &inner.redirect {
            return Redirect::temporary(address).into_response();
        }
        let Some(answers) = inner.answers.get_mut(action.as_str()) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
        (StatusCode::from_u16(answer.0).expect("a status"), answer.1).into_response()
    })
}

async fn take_batch(State(stand): State<Stand>, Json(batch): Json<Value>) -> Json<Value> {
    stand.with(|inner| inner.batches.push(batch));
    Json(json!({
        "accepted": 1, "unchanged": 0, "duplicates": 0, "late": 0, "retired": 0,
        "refused_total": 0, "refused": [], "warnings": [],
    }))
}

fn failure(code: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{code}</Code><Message>Request \
         limit exceeded.</Message></Error></Errors><RequestID>1d7c9bc9-example</RequestID></Response>"
    )
}

/// A page with one reservation, of eight of which three are free.
fn reservations(zone: &str, next: &str) -> String {
    format!(
        "<DescribeCapacityReservationsResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\
         <requestId>1d7c9bc9-example</requestId><capacityReservationSet><item>\
         <capacityReservationId>cr-1</capacityReservationId><availabilityZone>{zone}</availabilityZone>\
         <instanceType>p5.48xlarge</instanceType><totalInstanceCount>8</totalInstanceCount>\
         <availableInstanceCount>3</availableInstanceCount><state>active</state></item>\
         </capacityReservationSet>{next}</DescribeCapacityReservationsResponse>"
    )
}

fn offerings() -> String {
    let offering = |name: &str, zone: &str| {
        format!(
            "<item><instanceType>{name}</instanceType><location>{zone}</location>\
             <locationType>availability-zone</locationType></item>"
        )
    };
    format!(
        "<DescribeInstanceTypeOfferingsResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\
         <instanceTypeOfferingSet>{}{}{}</instanceTypeOfferingSet></DescribeInstanceTypeOfferingsResponse>",
        offering("p5.48xlarge", "eu-west-1a"),
        offering("m5.large", "eu-west-1a"),
        offering("m5.large", "eu-west-1b"),
    )
}

/// The program with one source, and credentials in its environment.
fn command(ec2: &Value) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .env_clear()
        .env("SOURCES", json!([{"ec2": ec2}]).to_string())
        .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "very-secret")
        .env("AWS_SESSION_TOKEN", "session")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        // Whoever asked it would not be answered.
        .env("HTTP_PROXY", "http://127.0.0.1:1")
        .env("HTTPS_PROXY", "http://127.0.0.1:1");
    command
}

fn options(endpoint: &str) -> Value {
    json!({"region": "eu-west-1", "endpoint": endpoint, "instanceTypes": ["p5.48xlarge", "m5.large"]})
}

/// Exit code and text of a dry run.
async fn check(mut command: Command) -> (Option<i32>, String) {
    command.arg("check");
    let output: Output = tokio::task::spawn_blocking(move || command.output().expect("it runs"))
        .await
        .expect("it ended");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn all_pages_are_read_although_some_requests_are_too_many() {
    let stand = Stand::default();
    let address = stand.serve().await;
    stand.answer(
        RESERVATIONS,
        &[
            (503, failure("RequestLimitExceeded")),
            (200, reservations("eu-west-1a", "<nextToken>page/2==</nextToken>")),
            (503, failure("RequestLimitExceeded")),
            (200, reservations("eu-west-1b", "")),
        ],
    );
    stand.answer(OFFERINGS, &[(200, offerings())]);
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("ec2"), "token").expect("written");
    let [admin, _] = free_addresses();
    let mut command = command(&options(&address));
    command
        .env("HARDWARE_HOST", &address)
        .env("SOURCE_TOKENS_FOLDER", folder.path())
        .env("ADMIN_LISTEN", admin)
        .env("DRAIN_DELAY", "0s")
        .arg("serve")
        .stderr(Stdio::null());
    let _running = Running(command.spawn().expect("it starts"));
    let batch = stand.wait_for_batch().await;
    let pool = |tier: &str, zone: &str| {
        json!({"provider": "Amazon", "name": "p5.48xlarge", "region": "eu-west-1", "zone": zone,
            "tier": tier, "unit": "unit"})
    };
    let counted = |zone: &str| {
        let mut pool = pool("reserved", zone);
        (pool["total"], pool["in_use"]) = (json!(8), json!(5));
        pool
    };
    let not_offered = |tier: &str| {
        let mut pool = pool(tier, "eu-west-1b");
        pool["available"] = json!(false);
        pool
    };
    let expected = [
        counted("eu-west-1a"),
        not_offered("on-demand"),
        counted("eu-west-1b"),
        not_offered("spot"),
    ];
    assert_eq!(batch["observations"], json!(expected));
    let asked = stand.with(|inner| inner.asked.clone());
    let tokens: Vec<Option<&str>> =
        asked.iter().map(|(form, _)| form.get("NextToken").map(String::as_str)).collect();
    let second = Some("page/2==");
    assert_eq!(tokens, [None, None, second, second, None]);
    for (form, headers) in &asked {
        assert_eq!(form["Version"], "2016-11-15");
        assert_eq!(headers["x-amz-security-token"], "session");
        let signature = headers["authorization"].to_str().expect("text");
        assert!(signature.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"), "{signature}");
    }
    let (form, _) = &asked[0];
    let filters = ["Filter.1.Name", "Filter.1.Value.1", "Filter.2.Name", "Filter.2.Value.2"];
    assert_eq!(
        filters.map(|it| form[it].as_str()),
        ["state", "active", "instance-type", "m5.large"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_aws_refuses_is_a_problem_with_what_to_do() {
    let stand = Stand::default();
    let address = stand.serve().await;
    for (status, code, expected) in [
        (403, "UnauthorizedOperation", "ec2_unauthorized: AWS does not allow the collector's role"),
        (400, "RequestExpired", "ec2_credentials_expired: AWS says that the credentials"),
        (401, "AuthFailure", "ec2_credentials_refused: AWS does not accept"),
        (503, "RequestLimitExceeded", "EC2 wants fewer requests from this account"),
    ] {
        stand.answer(RESERVATIONS, &[(status, failure(code))]);
        let (exit, said) = check(command(&options(&address))).await;
        assert_eq!(exit, Some(1), "{said}");
        assert!(said.starts_with(&format!("FAIL  ec2: {expected}")), "{said}");
        assert!(!said.contains("very-secret") && !said.contains("session"), "{said}");
    }
    let mut nobody = command(&options(&address));
    nobody.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    let (_, said) = check(nobody).await;
    assert!(said.starts_with("FAIL  ec2: ec2_credentials_missing: the collector has no"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed() {
    let (stand, other) = (Stand::default(), Stand::default());
    let (address, elsewhere) = (stand.serve().await, other.serve().await);
    other.answer(RESERVATIONS, &[(200, reservations("eu-west-1a", ""))]);
    stand.with(|inner| inner.redirect = Some(elsewhere));
    let (exit, said) = check(command(&options(&address))).await;
    assert_eq!(exit, Some(1), "{said}");
    assert!(said.contains("EC2 answers 307"), "{said}");
    assert_eq!(other.with(|inner| inner.asked.len()), 0, "a signed request went elsewhere");
}

/// moto checks signatures while this lives.
struct StrictMoto(String);

impl StrictMoto {
    fn new(endpoint: String) -> Self {
        let strict = Self(endpoint);
        strict.check_after("0");
        strict
    }

    /// After so many requests signatures are checked.
    fn check_after(&self, requests: &str) {
        // It reads the number from the body, which of a form would be taken for its fields.
        let url = format!("{}/moto-api/reset-auth", self.0);
        curl(&["--header", "Content-Type: text/plain", &url], requests);
    }
}

impl Drop for StrictMoto {
    fn drop(&mut self) {
        self.check_after("inf");
    }
}

fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set. Tests on EC2 need moto's server: run `make unit`, or `e2e/with-aws cargo test …`"
        )
    })
}

/// With curl, as nothing else here speaks TLS to an authority of a test's own.
fn curl(arguments: &[&str], data: &str) -> String {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--fail-with-body", "--cacert"]);
    command.arg(setting("TEST_AWS_CA_FILE")).args(["--data", data]).args(arguments);
    let output = command.output().expect("curl runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

/// Asks moto's IAM, which does not check the signature yet.
fn iam(endpoint: &str, form: &str) -> String {
    const AUTHORIZATION: &str = "Authorization: AWS4-HMAC-SHA256 \
        Credential=test/20200101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=0";
    curl(&["--header", AUTHORIZATION, endpoint], &format!("Version=2010-05-08&{form}"))
}

fn element(xml: &str, name: &str) -> String {
    let (_, rest) = xml.split_once(&format!("<{name}>")).expect(name);
    rest.split_once('<').expect("its end").0.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_accepts_the_signature_of_the_right_key_alone() {
    let endpoint = setting("TEST_AWS_ENDPOINT");
    let user = format!("collector-{}", std::process::id());
    iam(&endpoint, &format!("Action=CreateUser&UserName={user}"));
    let key = iam(&endpoint, &format!("Action=CreateAccessKey&UserName={user}"));
    let policy = "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%7B%22Effect%22%3A%22Allow%22%2C\
                  %22Action%22%3A%22ec2%3A%2A%22%2C%22Resource%22%3A%22%2A%22%7D%5D%7D";
    let put =
        format!("Action=PutUserPolicy&UserName={user}&PolicyName=ec2&PolicyDocument={policy}");
    iam(&endpoint, &put);
    let (id, secret) = (element(&key, "AccessKeyId"), element(&key, "SecretAccessKey"));
    let _strict = StrictMoto::new(endpoint.clone());
    let signed_with = |secret: &str| {
        let mut command = command(&options(&endpoint));
        command
            .env_remove("AWS_SESSION_TOKEN")
            .env("AWS_ACCESS_KEY_ID", &id)
            .env("AWS_SECRET_ACCESS_KEY", secret)
            .env("SSL_CERT_FILE", setting("SSL_CERT_FILE"));
        check(command)
    };
    let (_, said) = signed_with("another-secret").await;
    assert!(said.starts_with("FAIL  ec2: ec2_credentials_refused: "), "{said}");
    // moto has no reservations: it gets as far as to say so, and no further.
    let (_, said) = signed_with(&secret).await;
    assert!(!said.contains("ec2_credentials_refused"), "{said}");
    assert!(said.contains("EC2 answers 5"), "{said}");
}

use std::{io::Write, ops::ControlFlow, time::Duration};

use crds::{Reason, TerraformOutputs, TerraformStateSource};
use flate2::{Compression, write::GzEncoder};
use k8s_openapi::ByteString;
use kube::Api;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::{sync::Semaphore, time::timeout};

use super::{
    Fault, Inflater, MOST_BYTES, MOST_PIECES, State, StateReading, StateVersion, Unacceptable,
    judge, read, secret_region,
};
use crate::{
    cluster::fake_api::FakeApi,
    rotation::source::{Holder, Request, SourceError},
};

const SECRETS: &str = "/api/v1/namespaces/team/secrets/tfstate-default-rds";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/team/leases/lock-tfstate-default-rds";

/// A state as terraform writes it, with the password `s3cret`.
fn state(serial: u64) -> Value {
    json!({
        "version": 4, "terraform_version": "1.11.4", "serial": serial, "lineage": "lineage-1",
        "outputs": {
            "MYSQL_HOST": {"value": "db.example", "type": "string"},
            "MYSQL_PORT": {"value": 3306, "type": "number"},
            "MYSQL_USER": {"value": "root", "type": "string"},
            "MYSQL_PASSWORD": {"value": "s3cret", "type": "string", "sensitive": true},
            "MYSQL_DATABASE": {"value": "hardware", "type": "string"},
        },
        "resources": [], "check_results": null,
    })
}

fn pack(state: &Value) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(state.to_string().as_bytes()).expect("memory");
    encoder.finish().expect("memory")
}

/// Twelve chunks: more than have a one-digit number.
fn twelve(packed: &[u8]) -> Vec<Vec<u8>> {
    let chunks: Vec<_> = packed.chunks(packed.len().div_ceil(12)).map(<[u8]>::to_vec).collect();
    assert_eq!(chunks.len(), 12, "{} bytes", packed.len());
    chunks
}

fn chunk(data: &[u8], portal: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "x", "labels": {"gill-hicks.dev/allow-portal": portal}},
        "data": {"tfstate": ByteString(data.to_vec())},
    })
}

fn lease(holder: &Value) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "lock-tfstate-default-rds"}, "spec": {"holderIdentity": holder},
    })
}

/// The chunks as the Secrets of an API server.
fn stored(chunks: &[Vec<u8>]) -> FakeApi {
    chunks.iter().enumerate().fold(FakeApi::default(), |api, (index, data)| {
        let path = if index == 0 { SECRETS.to_owned() } else { format!("{SECRETS}-part-{index}") };
        api.with(&path, chunk(data, "p"))
    })
}

async fn read_after(
    api: &FakeApi,
    known: Option<&StateVersion>,
    accepted: Option<&str>,
) -> Result<StateReading, SourceError> {
    let request =
        Request { namespace: "team", portal: "p", known_state: known, accepted_lineage: accepted };
    read_in_turn(api, &request, &Semaphore::new(1)).await
}

async fn read_in_turn(
    api: &FakeApi,
    request: &Request<'_>,
    turn: &Semaphore,
) -> Result<StateReading, SourceError> {
    let source = TerraformStateSource {
        secret_suffix: "rds".to_owned(),
        workspace: "default".to_owned(),
        outputs: None,
    };
    let client = api.client();
    let (secrets, leases) =
        (Api::namespaced(client.clone(), "team"), Api::namespaced(client, "team"));
    read(&secrets, &leases, &source, request, turn).await
}

/// Inflates pieces as they are read.
fn unpack(pieces: &[Vec<u8>]) -> Result<Vec<u8>, Fault> {
    let mut inflater = Inflater::new();
    for piece in pieces {
        if inflater.take(piece)? == ControlFlow::Break(()) {
            break;
        }
    }
    inflater.finish()
}

fn parse(text: &str) -> Result<State, SourceError> {
    super::parse("it", text.as_bytes(), &TerraformOutputs::default())
}

async fn read_from(api: &FakeApi) -> Result<StateReading, SourceError> {
    read_after(api, None, None).await
}

#[tokio::test]
async fn the_outputs_of_a_state_are_a_reading() {
    let api = stored(&[pack(&state(7))]).with(LEASE, lease(&Value::Null));
    let StateReading { reading, password_secret_arn, .. } =
        read_from(&api).await.expect("a good state");
    assert_eq!(reading.version, "lineage-1/7");
    assert_eq!(reading.host.as_deref(), Some("db.example"));
    assert_eq!(reading.port.as_deref(), Some("3306"), "a number in the state");
    assert_eq!(reading.database.as_deref(), Some("hardware"));
    assert_eq!(reading.candidates[0].username, "root");
    assert_eq!(reading.candidates[0].password.expose_secret(), "s3cret");
    assert_eq!(reading.state, Some(StateVersion { lineage: "lineage-1".to_owned(), serial: 7 }));
    assert_eq!(password_secret_arn, None);
}

#[tokio::test]
async fn twelve_chunks_are_put_together_in_the_order_of_their_numbers() {
    let api = stored(&twelve(&pack(&state(7))));
    let found = read_from(&api).await.expect("a good state");
    assert_eq!(found.reading.host.as_deref(), Some("db.example"));
    let lists = api.requests().into_iter().filter(|request| request.ends_with("/secrets"));
    assert_eq!(lists.count(), 0, "the operator has no right to list Secrets");
}

/// Wherever terraform would cut it.
#[test]
fn a_state_may_be_cut_anywhere() {
    let packed = pack(&state(7));
    let text = state(7).to_string().into_bytes();
    for length in 1..packed.len() {
        let pieces: Vec<_> = packed.chunks(length).map(<[u8]>::to_vec).collect();
        assert_eq!(unpack(&pieces), Ok(text.clone()), "pieces of {length} bytes");
        let (begin, end) = (packed[..length].to_vec(), packed[length..].to_vec());
        assert_eq!(unpack(&[begin.clone(), end]), Ok(text.clone()), "cut after {length} bytes");
        let ended = unpack(&[begin]);
        assert!(matches!(ended, Err(Fault::Incomplete(_))), "the first {length} bytes: {ended:?}");
    }
}

#[test]
fn a_state_of_new_and_old_chunks_is_incomplete() {
    let mut torn = twelve(&pack(&state(8)));
    torn[11] = twelve(&pack(&state(7)))[11].clone();
    assert!(matches!(unpack(&torn), Err(Fault::Incomplete(_))), "two halves");
    torn.pop();
    assert!(matches!(unpack(&torn), Err(Fault::Incomplete(_))), "no end");
}

#[tokio::test]
async fn a_secret_that_is_not_filled_yet_is_incomplete() {
    let mut empty = chunk(b"", "p");
    empty.as_object_mut().expect("a Secret").remove("data");
    let error = read_from(&FakeApi::default().with(SECRETS, empty)).await.expect_err("empty");
    assert_eq!(error.reason(), Reason::StateIncomplete);
}

#[test]
fn a_chunk_left_over_from_a_longer_state_is_ignored() {
    let mut chunks = twelve(&pack(&state(8)));
    chunks.push(b"left over".to_vec());
    assert!(unpack(&chunks).is_ok());
    chunks.pop();
    chunks[11].extend(b"left over");
    let unpacked = unpack(&chunks);
    assert!(
        matches!(unpacked, Err(Fault::Incomplete(_))),
        "terraform writes nothing behind the end"
    );
}

#[tokio::test]
async fn what_is_left_over_from_a_longer_state_is_not_read_to_its_end() {
    let mut chunks = twelve(&pack(&state(8)));
    chunks.extend([b"left over".to_vec(), b"left over too".to_vec()]);
    let api = stored(&chunks);
    read_from(&api).await.expect("a good state");
    assert!(!api.requests().contains(&format!("metadata {SECRETS}-part-13")), "it is of no use");
}

/// Spaces, which are no JSON yet, but small as long as they are compressed.
fn spaces(bytes: usize, compression: Compression) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), compression);
    encoder.write_all(&vec![b' '; bytes]).expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn a_small_secret_cannot_fill_the_memory() {
    let most = spaces(MOST_BYTES, Compression::best());
    assert!(unpack(&[most]).is_ok(), "as much as there may be");
    let bomb = spaces(MOST_BYTES + 1, Compression::best());
    assert!(bomb.len() < 1 << 20, "it fits into one Secret");
    assert_eq!(unpack(&[bomb]), Err(Fault::TooLarge));
}

#[tokio::test]
async fn a_state_that_is_too_large_is_not_read_to_its_end() {
    let large = spaces(2 * MOST_BYTES, Compression::none());
    let chunks: Vec<_> = large.chunks(1 << 20).map(<[u8]>::to_vec).collect();
    let api = stored(&chunks);
    let error = read_from(&api).await.expect_err("too large");
    assert_eq!(error.reason(), Reason::SourceInvalid);
    assert!(error.to_string().contains("8 MiB"), "{error}");
    let last = format!("object {SECRETS}-part-8");
    assert_eq!(api.requests().last(), Some(&last), "the first byte too many is in it");

    // A piece that inflates to nothing: a block of deflate with no byte in it.
    let mut chunks = vec![pack(&state(7))[..10].to_vec()];
    chunks.extend(vec![vec![0, 0, 0, 0xff, 0xff]; MOST_PIECES]);
    let error = read_from(&stored(&chunks)).await.expect_err("too many pieces");
    assert_eq!(error.reason(), Reason::SourceInvalid, "{error}");
}

/// A list in an output takes up sixteen times its text as JSON values.
#[test]
fn only_the_outputs_that_are_asked_for_are_kept() {
    let mut large = state(7);
    large["outputs"]["LIST"] = json!({"value": vec![0; 1000]});
    large["outputs"]["MYSQL_DATABASE"] = json!({"value": vec![0; 1000]});
    large["outputs"]["OTHER"] = json!({"value": "x"});
    let state = parse(&large.to_string()).expect("a state");
    let kept: Vec<_> = state.outputs.keys().map(String::as_str).collect();
    assert_eq!(
        kept,
        ["MYSQL_DATABASE", "MYSQL_HOST", "MYSQL_PASSWORD", "MYSQL_PORT", "MYSQL_USER"]
    );
    assert!(matches!(state.outputs["MYSQL_DATABASE"], super::Value::Other));
}

#[tokio::test(start_paused = true)]
async fn one_state_is_read_at_a_time() {
    let api = stored(&[pack(&state(7))]);
    let request =
        Request { namespace: "team", portal: "p", known_state: None, accepted_lineage: None };
    let turn = Semaphore::new(1);
    let permit = turn.acquire().await.expect("open");
    let mut reading = Box::pin(read_in_turn(&api, &request, &turn));
    let early = timeout(Duration::from_mins(1), &mut reading).await;
    assert!(early.is_err(), "another state is being read");
    let secrets = api.requests().into_iter().filter(|request| request.contains("/secrets/"));
    assert_eq!(secrets.count(), 0, "none is in memory before its turn");
    drop(permit);
    reading.await.expect("a good state");
    assert_eq!(turn.available_permits(), 1);
}

/// Its Secret is in the namespace of those who wrote it: the host in it counts, and so does the one
/// that its label names.
#[tokio::test]
async fn a_state_with_a_login_may_name_its_host_in_either_place() {
    let api = stored(&[pack(&state(7))]);
    let reading = read_from(&api).await.expect("a good state").reading;
    assert_eq!(reading.allowed_host.as_deref(), Some("db.example"));
    let mut without = state(7);
    without["outputs"].as_object_mut().expect("outputs").remove("MYSQL_HOST");
    let mut secret = chunk(&pack(&without), "p");
    let api = FakeApi::default().with(SECRETS, secret.clone());
    let reading = read_from(&api).await.expect("a good state").reading;
    assert_eq!((reading.host, reading.allowed_host), (None, None));
    secret["metadata"]["labels"]["gill-hicks.dev/database-host"] = json!("named.example");
    let api = FakeApi::default().with(SECRETS, secret);
    let reading = read_from(&api).await.expect("a good state").reading;
    assert_eq!((reading.host, reading.allowed_host.as_deref()), (None, Some("named.example")));
}

#[tokio::test]
async fn a_locked_state_is_waited_for() {
    let api = stored(&[pack(&state(7))]).with(LEASE, lease(&json!("a9c3")));
    let error = read_from(&api).await.expect_err("locked");
    assert_eq!(error.reason(), Reason::StateLocked);
    assert!(error.to_string().contains("force-unlock a9c3"), "{error}");
    let api = stored(&[pack(&state(7))]).with(LEASE, lease(&json!("")));
    assert!(read_from(&api).await.is_ok(), "nobody holds it");
}

#[tokio::test]
async fn every_chunk_needs_the_label() {
    let chunks = twelve(&pack(&state(7)));
    let foreign = format!("{SECRETS}-part-3");
    let api = stored(&chunks).with(&foreign, chunk(&chunks[3], "another"));
    let error = read_from(&api).await.expect_err("not allowed");
    assert_eq!(error.reason(), Reason::SourceNotAllowed);
    let requests = api.requests();
    assert_eq!(requests.last(), Some(&format!("metadata {foreign}")), "its data stay unread");
}

#[tokio::test]
async fn a_state_that_does_not_exist_is_not_found() {
    let error = read_from(&FakeApi::default()).await.expect_err("no state");
    assert_eq!(error.reason(), Reason::SourceNotFound);
    assert!(error.to_string().contains("tfstate-default-rds"), "{error}");
}

#[tokio::test]
async fn an_older_state_and_another_one_change_nothing() {
    let known = StateVersion { lineage: "lineage-1".to_owned(), serial: 8 };
    let api = stored(&[pack(&state(7))]);
    let error = read_after(&api, Some(&known), None).await.expect_err("older");
    assert_eq!(error.reason(), Reason::StateOutdated);

    let known = StateVersion { lineage: "lineage-0".to_owned(), serial: 8 };
    let error = read_after(&api, Some(&known), None).await.expect_err("another");
    assert_eq!(error.reason(), Reason::StateLineageChanged);
    assert!(error.to_string().contains("accept-lineage=\"lineage-1\""), "{error}");
    assert!(read_after(&api, Some(&known), Some("lineage-1")).await.is_ok(), "it was allowed");
}

#[test]
fn states_are_judged_by_lineage_and_then_by_serial() {
    let version = |lineage: &str, serial| StateVersion { lineage: lineage.to_owned(), serial };
    let known = version("a", 5);
    let outdated = Err(Unacceptable::Outdated { found: 4, known: 5 });
    let changed =
        Err(Unacceptable::LineageChanged { found: "b".to_owned(), known: "a".to_owned() });
    for (stored, found, accepted, expected) in [
        (None, version("b", 1), None, Ok(())),
        (Some(&known), version("a", 5), None, Ok(())),
        (Some(&known), version("a", 6), None, Ok(())),
        (Some(&known), version("a", 4), None, outdated),
        (Some(&known), version("b", 9), None, changed),
        (Some(&known), version("b", 1), Some("b"), Ok(())),
    ] {
        assert_eq!(judge(stored, &found, accepted), expected, "{found:?} after {stored:?}");
    }
    assert!(judge(Some(&known), &version("b", 9), Some("c")).is_err(), "another was allowed");
    assert!(judge(Some(&known), &version("a", 4), Some("a")).is_err(), "still older");
}

#[test]
fn a_state_that_opentofu_encrypted_is_called_that() {
    let encrypted = json!({
        "serial": 7, "lineage": "lineage-1", "encryption_version": "v0",
        "meta": {"key_provider.pbkdf2.main": "e30="}, "encrypted_data": "bm8gc3RhdGU=",
    });
    let error = parse(&encrypted.to_string()).err().expect("encrypted");
    assert_eq!(error.reason(), Reason::StateEncrypted);
    assert!(error.to_string().contains("database.mysql.source.secret"), "{error}");
}

#[test]
fn no_message_shows_a_value() {
    for wrong in [
        r#"{"version":4,"serial":"s3cret"}"#,
        r#"{"version":4,"outputs":"s3cret"}"#,
        r#"{"version":4,"serial":1,"outputs":{"MYSQL_PASSWORD":{"value":"s3cret"}}"#,
    ] {
        let error = parse(wrong).err().expect(wrong);
        assert_eq!(error.reason(), Reason::StateIncomplete, "{error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
    for (wrong, expected) in [
        (r#"{"serial":1}"#, "without a version"),
        (r#"{"version":3,"serial":1,"lineage":"a"}"#, "version 4"),
        (r#"{"version":4,"serial":1,"lineage":"a\nb"}"#, "a lineage"),
        (r#"{"version":4,"lineage":"a"}"#, "a serial"),
    ] {
        let error = parse(wrong).err().expect(wrong);
        assert_eq!(error.reason(), Reason::SourceInvalid, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

/// What is read from a state with other outputs.
fn select(
    change: impl FnOnce(&mut Value),
    names: &TerraformOutputs,
) -> Result<StateReading, String> {
    let mut state = state(7);
    change(&mut state["outputs"]);
    let parsed = super::parse("it", state.to_string().as_bytes(), names);
    let parsed = parsed.map_err(|error| error.to_string())?;
    let holder = Holder::secret("it".to_owned());
    parsed.select("it".to_owned(), holder, names).map_err(|error| error.to_string())
}

#[test]
fn a_state_without_a_password_refers_to_secrets_manager() {
    const ARN: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:rds!db-1-AbCdEf";
    let found = select(
        |outputs| {
            outputs["MYSQL_PASSWORD"]["value"] = Value::Null;
            outputs["MYSQL_PASSWORD_SECRET_ARN"] = json!({"value": ARN, "type": "string"});
        },
        &TerraformOutputs::default(),
    );
    let found = found.expect("a reference");
    assert_eq!(found.password_secret_arn.as_deref(), Some(ARN));
    assert!(found.reading.candidates.is_empty());
    assert_eq!(found.reading.host.as_deref(), Some("db.example"));
}

#[test]
fn missing_outputs_are_named_as_the_spec_names_them() {
    let names = TerraformOutputs { password: "secret".to_owned(), ..TerraformOutputs::default() };
    let error = select(|_| (), &names).expect_err("no output of that name");
    assert!(error.contains("secret or MYSQL_PASSWORD_SECRET_ARN"), "{error}");
    let error =
        select(|outputs| outputs["MYSQL_USER"]["value"] = json!(""), &TerraformOutputs::default());
    assert!(error.expect_err("no user").contains("MYSQL_USER"));
    let error = select(
        |outputs| outputs["MYSQL_PASSWORD"]["value"] = json!({"a": "s3cret"}),
        &TerraformOutputs::default(),
    );
    let error = error.expect_err("an object");
    assert!(error.contains("MYSQL_PASSWORD") && !error.contains("s3cret"), "{error}");
}

#[test]
fn an_output_that_no_server_takes_is_refused_by_its_length() {
    let long = "s3cret".repeat(1000);
    for name in ["MYSQL_HOST", "MYSQL_PORT", "MYSQL_DATABASE", "MYSQL_USER", "MYSQL_PASSWORD"] {
        let found =
            select(|outputs| outputs[name] = json!({"value": long}), &TerraformOutputs::default());
        let error = found.expect_err(name);
        assert!(error.contains(name) && error.contains("found 6000"), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[test]
fn only_the_arn_of_a_secret_has_a_region() {
    let arn =
        |region: &str| format!("arn:aws-cn:secretsmanager:{region}:123456789012:secret:db-AbC:d");
    assert_eq!(secret_region(&arn("cn-north-1")), Some("cn-north-1"));
    for wrong in [
        arn(""),
        arn("evil.example/"),
        arn("eu-west-1@evil"),
        "arn:aws:ssm:eu-west-1:1:parameter:x".to_owned(),
        "arn:aws:secretsmanager:eu-west-1:1:secret:".to_owned(),
        "arn:aws:secretsmanager:eu-west-1:1:secret:a\nb".to_owned(),
        "db".to_owned(),
    ] {
        assert_eq!(secret_region(&wrong), None, "{wrong}");
    }
}

//! A secret of AWS Secrets Manager.

use std::{
    collections::HashMap,
    error::Error,
    fmt::{self, Write},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_config::{BehaviorVersion, Region, SdkConfig, timeout::TimeoutConfig};
use aws_sdk_secretsmanager::{
    Client, config,
    error::{ProvideErrorMetadata, SdkError},
    operation::{describe_secret::DescribeSecretOutput, get_secret_value::GetSecretValueOutput},
};
use crds::{ALLOW_PORTAL_LABEL, DATABASE_HOST_LABEL};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use service_kit::credentials::{Candidate, Problem};
use tokio::sync::OnceCell;
use tracing::debug;

use super::{
    Reading, Request, SourceError, bounds,
    permission::{Holder, missing_tag, tag_allows},
};
use crate::cluster::retry::Retry;

/// Names of versions, in the order in which their logins should be tried. A rotation creates the
/// pending one before it changes the server, and moves the names afterwards.
const STAGES: [&str; 3] = ["AWSCURRENT", "AWSPENDING", "AWSPREVIOUS"];

/// Most clients that are kept. Whoever writes a terraform state can write any region into it.
const MOST_CLIENTS: usize = 32;

/// AWS Secrets Manager, as whoever the SDK's own chain of credentials finds. There is one for all
/// portals of the process.
pub struct SecretsManager {
    endpoint: Option<String>,
    /// Read once, so that the credentials of the cloud are cached.
    sdk: OnceCell<SdkConfig>,
    /// By region. Each has connections and parsed certificate authorities of its own.
    clients: Mutex<HashMap<String, Client>>,
}

impl SecretsManager {
    /// `endpoint` takes the place of the address that the SDK would choose for the region.
    #[must_use]
    pub fn new(endpoint: Option<String>) -> Self {
        Self { endpoint, sdk: OnceCell::new(), clients: Mutex::default() }
    }

    /// Reads the logins of a secret by its name or ARN.
    pub async fn read(
        &self,
        secret_id: &str,
        region: &str,
        request: &Request<'_>,
    ) -> Result<Reading, SourceError> {
        let what = format!("the secret \"{secret_id}\" of Secrets Manager in {region}");
        let client = self.client(region).await;
        let described = client.describe_secret().secret_id(secret_id).send().await;
        let described = described.map_err(|error| refusal(&what, "DescribeSecret", &error))?;
        expect_allowed(&what, &described, request)?;
        let mut versions = Vec::new();
        for stage in STAGES {
            // A secret has the first one, and the others from time to time.
            if stage == STAGES[0] || has_stage(&described, stage) {
                versions.extend(get(&client, &what, secret_id, stage).await?);
            }
        }
        let mut reading = select(&what, versions)?;
        let named_host = tag(&described, DATABASE_HOST_LABEL).map(str::to_owned);
        reading.allowed_host = reading.allowed_host.or(given(named_host));
        Ok(reading)
    }

    /// The one client of a region.
    async fn client(&self, region: &str) -> Client {
        let sdk = self.sdk.get_or_init(load).await;
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(region) {
            return client.clone();
        }
        if clients.len() >= MOST_CLIENTS {
            clients.clear();
        }
        let mut config = config::Builder::from(sdk).region(Region::new(region.to_owned()));
        if let Some(endpoint) = &self.endpoint {
            config = config.endpoint_url(endpoint);
        }
        let client = Client::from_conf(config.build());
        clients.insert(region.to_owned(), client.clone());
        client
    }
}

/// The SDK tries three times, later each time.
async fn load() -> SdkConfig {
    let times = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .operation_attempt_timeout(Duration::from_secs(5))
        .operation_timeout(Duration::from_secs(15))
        .build();
    aws_config::defaults(BehaviorVersion::latest()).timeout_config(times).load().await
}

/// The tag says which portal may read the secret, since the operator may read those of all portals.
fn expect_allowed(
    what: &str,
    described: &DescribeSecretOutput,
    request: &Request<'_>,
) -> Result<(), SourceError> {
    let Request { namespace, portal, .. } = request;
    if tag_allows(tag(described, ALLOW_PORTAL_LABEL), namespace, portal) {
        return Ok(());
    }
    Err(SourceError::NotAllowed {
        what: what.to_owned(),
        permission: missing_tag(namespace, portal),
    })
}

/// The value of a tag. A secret has no two tags of one key.
fn tag<'a>(described: &'a DescribeSecretOutput, key: &str) -> Option<&'a str> {
    let found = described.tags().iter().find(|tag| tag.key() == Some(key));
    found.and_then(|tag| tag.value())
}

fn has_stage(described: &DescribeSecretOutput, stage: &str) -> bool {
    let mut versions = described.version_ids_to_stages().into_iter().flatten();
    versions.any(|(_, stages)| stages.iter().any(|one| one == stage))
}

/// One version, or none if the stage has moved on meanwhile.
async fn get(
    client: &Client,
    what: &str,
    secret_id: &str,
    stage: &str,
) -> Result<Option<Version>, SourceError> {
    let found = client.get_secret_value().secret_id(secret_id).version_stage(stage).send().await;
    match found {
        Ok(GetSecretValueOutput { secret_string, version_id, .. }) => Ok(Some(Version {
            id: version_id.unwrap_or_default(),
            text: secret_string.unwrap_or_default().into(),
        })),
        Err(SdkError::ServiceError(error))
            if stage != STAGES[0] && error.err().is_resource_not_found_exception() =>
        {
            Ok(None)
        }
        Err(error) => Err(refusal(what, "GetSecretValue", &error)),
    }
}

/// A version of a secret, the current one first.
struct Version {
    id: String,
    text: SecretString,
}

/// The JSON of RDS and of the rotation functions.
#[derive(Deserialize)]
struct Account {
    username: String,
    password: SecretString,
    host: Option<String>,
    port: Option<Port>,
    dbname: Option<String>,
}

/// RDS writes a number, people write text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Port {
    Number(u16),
    Text(String),
}

/// The current version's place, and the logins of all versions that are for the same server.
fn select(what: &str, versions: Vec<Version>) -> Result<Reading, SourceError> {
    let invalid = |problem: String| SourceError::Invalid { what: what.to_owned(), problem };
    let mut versions = versions.into_iter();
    let current =
        versions.next().ok_or_else(|| invalid("expected a version AWSCURRENT".to_owned()))?;
    let account = parse(&current).map_err(&invalid)?;
    let host = given(account.host);
    let mut reading = Reading {
        version: current.id,
        allowed_host: host.clone(),
        holder: Holder::managed(what.to_owned()),
        host,
        port: given(account.port.map(|port| match port {
            Port::Number(number) => number.to_string(),
            Port::Text(text) => text,
        })),
        database: given(account.dbname),
        candidates: vec![Candidate { username: account.username, password: account.password }],
        state: None,
    };
    for version in versions {
        match parse(&version) {
            Ok(account) if given(account.host.clone()) == reading.host => {
                let is_known = reading.candidates.iter().any(|known| {
                    known.username == account.username
                        && known.password.expose_secret() == account.password.expose_secret()
                });
                if !is_known {
                    let Account { username, password, .. } = account;
                    reading.candidates.push(Candidate { username, password });
                }
            }
            Ok(_) => debug!(what, version = version.id, "a version for another server is left out"),
            Err(problem) => debug!(what, version = version.id, problem, "a version is left out"),
        }
    }
    Ok(reading)
}

fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn parse(version: &Version) -> Result<Account, String> {
    let expected = "expected JSON {username, password, host?, port?, dbname?}";
    let value = version.text.expose_secret();
    bounds::expect_at_most(bounds::SECRET_VALUE, value)?;
    let account: Account = serde_json::from_str(value)
        .map_err(|error| format!("{expected}, found {}", Problem::from(&error)))?;
    if account.username.is_empty() || account.password.expose_secret().is_empty() {
        return Err(format!("{expected}, found an empty username or password"));
    }
    let port = match &account.port {
        Some(Port::Text(text)) => Some(text),
        Some(Port::Number(_)) | None => None,
    };
    for (name, most, text) in [
        ("username", bounds::USERNAME, Some(account.username.as_str())),
        ("password", bounds::PASSWORD, Some(account.password.expose_secret())),
        ("host", bounds::HOST, account.host.as_deref()),
        ("port", bounds::PORT, port.map(String::as_str)),
        ("dbname", bounds::DATABASE, account.dbname.as_deref()),
    ] {
        if let Some(text) = text {
            bounds::expect_at_most(most, text).map_err(|problem| format!("{name}: {problem}"))?;
        }
    }
    Ok(account)
}

/// What a refused or unanswered call means.
fn refusal<E>(what: &str, call: &str, error: &SdkError<E>) -> SourceError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let what = what.to_owned();
    let cause = Cause { error }.to_string();
    match error.code() {
        Some("ResourceNotFoundException") => SourceError::NotFound { what },
        // The second one: by the key that the secret is encrypted with.
        Some("AccessDeniedException" | "DecryptionFailure") => SourceError::NotAllowed {
            what,
            permission: format!(
                "the right secretsmanager:{call} for the operator's own identity ({cause})"
            ),
        },
        Some("InvalidParameterException" | "InvalidRequestException" | "ValidationException") => {
            SourceError::Invalid { what, problem: cause }
        }
        // Throttling too, after the SDK's own attempts.
        _ => SourceError::Unavailable { what, cause, retry: Retry::Backoff },
    }
}

/// What the service or the way to it says. Never an answer itself, which may hold the secret.
struct Cause<'a, E> {
    error: &'a SdkError<E>,
}

impl<E: ProvideErrorMetadata + Error + 'static> fmt::Display for Cause<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.error {
            SdkError::ServiceError(_) => {
                f.write_str(self.error.code().unwrap_or("an error without a code"))?;
                match self.error.message() {
                    Some(message) => write!(f, ": {message}"),
                    None => Ok(()),
                }
            }
            SdkError::ResponseError(_) => f.write_str("an answer that is none of the service's"),
            other => {
                let mut chain = other.source();
                let mut text = other.to_string();
                while let Some(error) = chain {
                    write!(text, ": {error}")?;
                    chain = error.source();
                }
                f.write_str(&text)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crds::Reason;
    use secrecy::ExposeSecret;
    use serde_json::{Value, json};

    use super::{MOST_CLIENTS, SecretsManager, Version, select};

    fn version(id: &str, text: &Value) -> Version {
        Version { id: id.to_owned(), text: text.to_string().into() }
    }

    fn account(username: &str, password: &str) -> Value {
        json!({"username": username, "password": password})
    }

    #[test]
    fn the_json_of_rds_is_a_reading() {
        let text = json!({
            "engine": "mysql", "host": "db.example", "port": 3306, "username": "root",
            "password": "s3cret", "dbname": "hardware", "dbInstanceIdentifier": "db-1",
        });
        let reading = select("it", vec![version("v1", &text)]).expect("a good secret");
        assert_eq!(reading.version, "v1");
        assert_eq!(reading.host.as_deref(), Some("db.example"));
        assert_eq!(reading.port.as_deref(), Some("3306"));
        assert_eq!(reading.database.as_deref(), Some("hardware"));
        assert_eq!(reading.candidates[0].password.expose_secret(), "s3cret");
        assert!(!format!("{reading:?}").contains("s3cret"));
        let text = json!({"username": "root", "password": "x", "port": "3307", "host": ""});
        let reading = select("it", vec![version("v1", &text)]).expect("a good secret");
        assert_eq!((reading.host, reading.port.as_deref()), (None, Some("3307")));
    }

    #[test]
    fn versions_are_tried_current_pending_previous_and_each_login_once() {
        let versions = vec![
            version("v2", &account("root", "two")),
            version("v3", &account("root", "two")),
            version("v1", &account("root", "one")),
        ];
        let reading = select("it", versions).expect("a good secret");
        let passwords: Vec<_> =
            reading.candidates.iter().map(|one| one.password.expose_secret()).collect();
        assert_eq!(passwords, ["two", "one"]);
        assert_eq!(reading.version, "v2", "the current one counts");
    }

    #[test]
    fn a_version_that_cannot_be_used_is_left_out_unless_it_is_the_current_one() {
        let elsewhere = json!({"username": "root", "password": "x", "host": "other.example"});
        let versions = vec![
            version("v2", &account("root", "two")),
            version("v3", &json!("not yet written")),
            version("v1", &elsewhere),
        ];
        let reading = select("it", versions).expect("a good secret");
        assert_eq!(reading.candidates.len(), 1, "a login is sent to its own server only");
    }

    #[test]
    fn a_value_that_no_server_takes_is_refused_by_its_length() {
        let long = "s3cret".repeat(1000);
        for field in ["username", "password", "host", "port", "dbname"] {
            let mut text = account("root", "x");
            text[field] = json!(long);
            let error = select("it", vec![version("v1", &text)]).expect_err(field);
            assert_eq!(error.reason(), Reason::SourceInvalid);
            let message = error.to_string();
            assert!(message.contains(field) && message.contains("found 6000"), "{message}");
            assert!(!message.contains("s3cret"), "{message}");
        }
        let mut text = account("root", "x");
        text["comment"] = json!("x".repeat(1 << 16));
        let error = select("it", vec![version("v1", &text)]).expect_err("larger than AWS has it");
        assert!(error.to_string().contains("at most 65536 bytes"), "{error}");
    }

    #[test]
    fn the_host_of_a_secret_is_the_one_that_it_may_be_sent_to() {
        let mut text = account("root", "x");
        let reading = select("it", vec![version("v1", &text)]).expect("a good secret");
        assert_eq!(reading.allowed_host, None, "as RDS manages it: nobody has named one");
        text["host"] = json!("db.example");
        let reading = select("it", vec![version("v1", &text)]).expect("a good secret");
        assert_eq!(reading.allowed_host.as_deref(), Some("db.example"));
    }

    /// A region in a state is of somebody else's choice.
    #[tokio::test]
    async fn clients_are_shared_and_bounded() {
        let manager = SecretsManager::new(Some("https://127.0.0.1:1".to_owned()));
        for number in 0..2 * MOST_CLIENTS {
            manager.client(&format!("eu-west-{number}")).await;
        }
        assert_eq!(manager.clients.lock().unwrap().len(), MOST_CLIENTS);
        manager.client(&format!("eu-west-{}", 2 * MOST_CLIENTS - 1)).await;
        assert_eq!(manager.clients.lock().unwrap().len(), MOST_CLIENTS, "it was there");
    }

    #[test]
    fn no_message_shows_a_value() {
        for wrong in [
            json!("s3cret"),
            json!({"username": "root", "password": ["s3cret"]}),
            json!({"username": "root", "password": "s3cret", "port": {"a": "s3cret"}}),
            json!({"username": "", "password": "s3cret"}),
        ] {
            let error = select("it", vec![version("v1", &wrong)]).expect_err("unusable");
            assert_eq!(error.reason(), Reason::SourceInvalid);
            assert!(!error.to_string().contains("s3cret"), "{error}");
            assert!(error.to_string().contains("expected JSON"), "{error}");
        }
    }
}

//! Where the root credential and the server's address come from.

mod bounds;
mod permission;
mod recent;
pub mod secret;
pub mod secrets_manager;
pub mod terraform_state;

use std::{fmt, sync::Arc, time::Duration};

use crds::{ACCEPT_LINEAGE_ANNOTATION, MysqlSource, Reason};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Secret};
use kube::{Api, Client};
use service_kit::credentials::Candidate;
use tokio::sync::Semaphore;

pub use self::permission::{Holder, Mark, allows, missing_label};
use self::{
    recent::RecentReadings,
    secrets_manager::SecretsManager,
    terraform_state::{StateReading, secret_region},
};
use crate::cluster::retry::Retry;

/// What a source says now, as it is written there.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Version of the source, as the source counts. Never derived from a password.
    pub version: String,
    /// Host, perhaps as `host:port`.
    pub host: Option<String>,
    /// The host that the logins may be sent to, perhaps as `host:port`, by the word of the
    /// administrator of the object that holds them: the host that it gives beside them, or else the one
    /// that its label, annotation or tag [`crds::DATABASE_HOST_LABEL`] names. A host that somebody
    /// else gives, in a spec or in a state that only refers to that object, is no such word.
    pub allowed_host: Option<String>,
    /// The object that holds the logins.
    pub holder: Holder,
    /// Port.
    pub port: Option<String>,
    /// Name of the schema.
    pub database: Option<String>,
    /// At least one login, in the order in which they should be tried: current, pending, previous.
    pub candidates: Vec<Candidate>,
    /// Which terraform state this was, if it was one.
    pub state: Option<StateVersion>,
}

/// Identity of a terraform state, so that an older or another one is noticed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StateVersion {
    /// Given once, when a state is created.
    pub lineage: String,
    /// Grows with each change of the state.
    pub serial: u64,
}

/// For whom a source is read, and what was known before.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Namespace of the portal, and of its sources in the cluster.
    pub namespace: &'a str,
    /// Name of the portal, which the source's label or tag must name.
    pub portal: &'a str,
    /// The terraform state that was read before, if one was.
    pub known_state: Option<&'a StateVersion>,
    /// Value of the annotation [`ACCEPT_LINEAGE_ANNOTATION`].
    pub accepted_lineage: Option<&'a str>,
}

/// Why a source gave no credential. Whatever it is, the pods keep what they hold. No variant shows a
/// secret value, and each says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It does not exist.
    #[error("failed to find {what}; create it, or correct database.mysql.source")]
    NotFound {
        /// The source.
        what: String,
    },
    /// Its owner has not allowed this portal, or the cloud this operator, to read it.
    #[error("{what} is not read: it lacks {permission}")]
    NotAllowed {
        /// The source.
        what: String,
        /// What would allow it.
        permission: String,
    },
    /// It holds what cannot be used.
    #[error("failed to use {what}: {problem}")]
    Invalid {
        /// The source.
        what: String,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// It does not answer.
    #[error("failed to read {what}: {cause}; everything stays as it is until it answers")]
    Unavailable {
        /// The source.
        what: String,
        /// What was said instead of an answer.
        cause: String,
        /// When to try again.
        retry: Retry,
    },
    /// Terraform is at work.
    #[error(
        "{what} is locked by terraform; waiting for its end (if no terraform runs any more: terraform force-unlock {holder})"
    )]
    StateLocked {
        /// The source.
        what: String,
        /// Who holds the lock: an id that terraform gave.
        holder: String,
    },
    /// It was read while it was being written, or was never written to its end. Terraform cannot read it
    /// then either, or takes it for an empty one, so that another run of it is no remedy.
    #[error(
        "{what} is incomplete ({problem}); looking again (if no terraform runs any more: restore its Secrets, or delete them and give terraform a good state with terraform state push)"
    )]
    StateIncomplete {
        /// The source.
        what: String,
        /// What is missing.
        problem: String,
    },
    /// OpenTofu has encrypted it.
    #[error(
        "{what} is encrypted by OpenTofu, so that the operator cannot read it; give the account in database.mysql.source.secret or .secretsManager instead"
    )]
    StateEncrypted {
        /// The source.
        what: String,
    },
    /// It is an older version than the one that was read before.
    #[error(
        "{what} has serial {found}, and {known} was read before; restore the newer state, or push this one with a higher serial (terraform state push)"
    )]
    StateOutdated {
        /// The source.
        what: String,
        /// Its serial.
        found: u64,
        /// The serial that was read before.
        known: u64,
    },
    /// It is another state than the one that was read before.
    #[error(
        "{what} has lineage {found}, and {known} was read before: it is another state; if that is intended, set the annotation {ACCEPT_LINEAGE_ANNOTATION}=\"{found}\" on this HardwarePortal"
    )]
    StateLineageChanged {
        /// The source.
        what: String,
        /// Its lineage.
        found: String,
        /// The lineage that was read before.
        known: String,
    },
}

impl SourceError {
    /// The word in conditions and events.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotFound { .. } => Reason::SourceNotFound,
            Self::NotAllowed { .. } => Reason::SourceNotAllowed,
            Self::Invalid { .. } => Reason::SourceInvalid,
            Self::Unavailable { .. } => Reason::SourceUnavailable,
            Self::StateLocked { .. } => Reason::StateLocked,
            Self::StateIncomplete { .. } => Reason::StateIncomplete,
            Self::StateEncrypted { .. } => Reason::StateEncrypted,
            Self::StateOutdated { .. } => Reason::StateOutdated,
            Self::StateLineageChanged { .. } => Reason::StateLineageChanged,
        }
    }

    /// What to do next. No source is watched: whatever its administrator has to change is polled. What
    /// does not answer, or asks for fewer requests, is asked ever more slowly.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Unavailable { retry, .. } => retry.clone(),
            _ => Retry::Poll,
        }
    }

    /// The API server did not answer as expected. Of a Secret that could not be parsed only that is
    /// said: the parser's message quotes values.
    fn of_api(what: &impl fmt::Display, error: &kube::Error) -> Self {
        let cause = match error {
            kube::Error::Api(status) => status.message.clone(),
            kube::Error::SerdeError(_) => "the API server's answer is malformed".to_owned(),
            other => other.to_string(),
        };
        Self::Unavailable { what: what.to_string(), cause, retry: Retry::of_api(error) }
    }
}

/// Every place that a source can be in. There is one for all portals of the process; a clone is the
/// same one.
#[derive(Clone)]
pub struct Sources {
    client: Client,
    shared: Arc<Shared>,
}

struct Shared {
    secrets_manager: SecretsManager,
    recent: RecentReadings,
    /// One terraform state is in memory at a time.
    terraform_turn: Semaphore,
}

impl Sources {
    /// The cluster behind `client`, and AWS; `aws_endpoint` takes the place of the address that the
    /// SDK would ask Secrets Manager at.
    #[must_use]
    pub fn new(client: Client, aws_endpoint: Option<String>) -> Self {
        let shared = Shared {
            secrets_manager: SecretsManager::new(aws_endpoint),
            recent: RecentReadings::default(),
            terraform_turn: Semaphore::new(1),
        };
        Self { client, shared: Arc::new(shared) }
    }

    /// Reads the one source that a spec names, or returns the reading of less than `poll_interval` ago: there
    /// are several passes a second while a credential changes, and cloud providers bill requests. A failure
    /// is not kept: the portal's own backoff decides when to read again.
    pub async fn read_recent(
        &self,
        source: &MysqlSource,
        request: &Request<'_>,
        uid: &str,
        poll_interval: Duration,
    ) -> Result<Reading, SourceError> {
        let recent = &self.shared.recent;
        if let Some(reading) = recent.get(uid, source, request, poll_interval) {
            return Ok(reading);
        }
        let reading = self.read(source, request).await?;
        recent.keep(uid, source, request, poll_interval, &reading);
        Ok(reading)
    }

    /// Drops what was read for a portal, so that its next pass reads the source: its login was refused,
    /// or somebody asks for a rotation.
    pub fn forget(&self, uid: &str) {
        self.shared.recent.forget(uid);
    }

    /// Reads the one source that a spec names, now.
    pub async fn read(
        &self,
        source: &MysqlSource,
        request: &Request<'_>,
    ) -> Result<Reading, SourceError> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), request.namespace);
        let MysqlSource { secret, terraform_state, secrets_manager } = source;
        if let Some(secret) = secret {
            return secret::read(&secrets, secret, request).await;
        }
        if let Some(state) = terraform_state {
            let leases: Api<Lease> = Api::namespaced(self.client.clone(), request.namespace);
            let turn = &self.shared.terraform_turn;
            let state = terraform_state::read(&secrets, &leases, state, request, turn).await?;
            return self.complete(state, request).await;
        }
        if let Some(managed) = secrets_manager {
            let manager = &self.shared.secrets_manager;
            return manager.read(&managed.secret_id, &managed.region, request).await;
        }
        Err(SourceError::Invalid {
            what: "database.mysql.source".to_owned(),
            problem: "expected one of secret, terraformState and secretsManager".to_owned(),
        })
    }

    /// Fetches what a state only refers to.
    async fn complete(
        &self,
        state: StateReading,
        request: &Request<'_>,
    ) -> Result<Reading, SourceError> {
        let StateReading { what, reading, password_secret_arn } = state;
        let Some(arn) = password_secret_arn else { return Ok(reading) };
        let region = secret_region(&arn).ok_or_else(|| SourceError::Invalid {
            what: what.clone(),
            problem: "the output that passwordSecretArn names is no ARN of a secret of AWS Secrets Manager".to_owned(),
        })?;
        let managed = self.shared.secrets_manager.read(&arn, region, request).await?;
        join(&what, reading, managed)
    }
}

/// The place that a state gives with the logins of the secret that it refers to. Where both give a
/// place it must be the same one: a credential is sent nowhere but to its own server. The state is in
/// the portal's namespace, so the host in it is not the word of the secret's administrator.
fn join(what: &str, state: Reading, managed: Reading) -> Result<Reading, SourceError> {
    for (name, here, there) in
        [("host", &state.host, &managed.host), ("port", &state.port, &managed.port)]
    {
        if let (Some(here), Some(there)) = (here, there)
            && here != there
        {
            return Err(SourceError::Invalid {
                what: what.to_owned(),
                problem: format!(
                    "its {name} is \"{here}\", and the secret that it refers to says \"{there}\"; correct one of them"
                ),
            });
        }
    }
    Ok(Reading {
        version: format!("{} {}", state.version, managed.version),
        host: state.host.or(managed.host),
        allowed_host: managed.allowed_host,
        holder: managed.holder,
        port: state.port.or(managed.port),
        database: state.database.or(managed.database),
        candidates: managed.candidates,
        state: state.state,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use crds::{MysqlSource, Reason, SecretSource};
    use serde_json::json;

    use super::{Holder, Reading, Request, SourceError, Sources, StateVersion, join};
    use crate::cluster::{fake_api::FakeApi, retry::Retry};

    /// A reading without a login, whose object gives this host.
    pub(super) fn reading(version: &str, host: Option<&str>, database: Option<&str>) -> Reading {
        Reading {
            version: version.to_owned(),
            host: host.map(str::to_owned),
            allowed_host: host.map(str::to_owned),
            holder: Holder::managed("it".to_owned()),
            port: None,
            database: database.map(str::to_owned),
            candidates: Vec::new(),
            state: None,
        }
    }

    #[test]
    fn a_state_gives_the_place_and_its_secret_the_login() {
        let mut state = reading("lineage/7", Some("db.example"), Some("hardware"));
        state.state = Some(StateVersion { lineage: "lineage".to_owned(), serial: 7 });
        let joined =
            join("it", state, reading("v1", None, Some("mysql"))).expect("no contradiction");
        assert_eq!(joined.version, "lineage/7 v1");
        assert_eq!(joined.host.as_deref(), Some("db.example"));
        assert_eq!(joined.database.as_deref(), Some("hardware"));
        assert_eq!(joined.allowed_host, None, "nobody but the state names it");
        assert_eq!(joined.state.map(|state| state.serial), Some(7));
        let (state, mut managed) =
            (reading("lineage/7", Some("db.example"), None), reading("v1", None, None));
        managed.allowed_host = Some("named.example".to_owned());
        let joined = join("it", state, managed).expect("no contradiction");
        assert_eq!(joined.allowed_host.as_deref(), Some("named.example"));
        let joined =
            join("it", reading("lineage/7", None, None), reading("v1", Some("db.example"), None));
        let allowed = joined.expect("no contradiction").allowed_host;
        assert_eq!(allowed.as_deref(), Some("db.example"), "the secret gives it itself");
    }

    #[test]
    fn a_secret_of_another_server_is_not_sent_to_the_one_in_the_state() {
        let state = reading("lineage/7", Some("db.example"), None);
        let error = join("the state", state, reading("v1", Some("other.example"), None))
            .expect_err("two servers");
        assert_eq!(error.reason(), Reason::SourceInvalid);
        assert!(error.to_string().contains("other.example"), "{error}");
    }

    #[tokio::test]
    async fn a_source_that_names_nothing_is_refused_without_a_request() {
        let api = FakeApi::default();
        let request =
            Request { namespace: "team", portal: "p", known_state: None, accepted_lineage: None };
        let read = Sources::new(api.client(), None).read(&MysqlSource::default(), &request).await;
        assert!(matches!(read, Err(SourceError::Invalid { .. })), "{read:?}");
        assert!(api.requests().is_empty());
    }

    /// While pods adopt a login there are several passes a second; the source is read as often as the spec
    /// asks for.
    #[tokio::test]
    async fn a_good_reading_is_kept_for_as_long_as_the_spec_says_and_a_failure_is_not() {
        let path = "/api/v1/namespaces/team/secrets/db";
        let request =
            Request { namespace: "team", portal: "p", known_state: None, accepted_lineage: None };
        let secret = SecretSource { name: "db".to_owned(), keys: None };
        let source = MysqlSource { secret: Some(secret), ..MysqlSource::default() };

        let api = FakeApi::default();
        let sources = Sources::new(api.client(), None);
        for _ in 0..2 {
            let missing =
                sources.read_recent(&source, &request, "uid", Duration::from_mins(1)).await;
            assert!(matches!(missing, Err(SourceError::NotFound { .. })), "{missing:?}");
        }
        assert_eq!(api.requests().len(), 2, "a failure is looked at again");

        let api = api.with(
            path,
            json!({
                "apiVersion": "v1", "kind": "Secret",
                "metadata": {
                    "name": "db", "uid": "1", "resourceVersion": "1",
                    "labels": {"gill-hicks.dev/allow-portal": "p"},
                },
                "data": {"MYSQL_USER": "cm9vdA==", "MYSQL_PASSWORD": "eA=="},
            }),
        );
        for _ in 0..3 {
            let read = sources.read_recent(&source, &request, "uid", Duration::from_mins(1)).await;
            assert_eq!(read.expect("a good Secret").version, "1/1");
        }
        assert_eq!(api.requests().len(), 4, "metadata and object, once");
        let another = sources.clone();
        let read = another.read_recent(&source, &request, "uid", Duration::from_mins(1)).await;
        assert_eq!(read.expect("kept from before").version, "1/1");
        assert_eq!(api.requests().len(), 4, "a clone is the same one");
        let read = sources.read_recent(&source, &request, "another", Duration::ZERO).await;
        assert_eq!(read.expect("a good Secret").version, "1/1");
        assert_eq!(api.requests().len(), 6, "a portal that was made anew reads anew");
        sources.forget("uid");
        let read = sources.read_recent(&source, &request, "uid", Duration::from_mins(1)).await;
        assert_eq!(read.expect("a good Secret").version, "1/1");
        assert_eq!(api.requests().len(), 8, "what was forgotten is read again");
    }

    /// What its administrator has to change is looked at now and then; what does not answer is asked
    /// ever more slowly.
    #[test]
    fn only_what_does_not_answer_is_asked_more_and_more_slowly() {
        let (what, problem) = (String::new, String::new);
        for error in [
            SourceError::NotFound { what: what() },
            SourceError::NotAllowed { what: what(), permission: String::new() },
            SourceError::Invalid { what: what(), problem: problem() },
            SourceError::StateLocked { what: what(), holder: String::new() },
            SourceError::StateIncomplete { what: what(), problem: problem() },
            SourceError::StateEncrypted { what: what() },
            SourceError::StateOutdated { what: what(), found: 1, known: 2 },
            SourceError::StateLineageChanged {
                what: what(),
                found: String::new(),
                known: String::new(),
            },
        ] {
            assert_eq!(error.retry(), Retry::Poll, "{error}");
        }
        let status = |code: u16, seconds: u32| {
            let status = json!({"code": code, "details": {"retryAfterSeconds": seconds}});
            kube::Error::Api(serde_json::from_value(status).expect("a status"))
        };
        for (code, seconds, expected) in [
            (429, 7, Retry::After(Duration::from_secs(7))),
            (429, 0, Retry::Backoff),
            (503, 0, Retry::Backoff),
            (403, 0, Retry::Poll),
        ] {
            let error = SourceError::of_api(&"it", &status(code, seconds));
            assert_eq!(error.retry(), expected, "{code}");
            assert_eq!(error.reason(), Reason::SourceUnavailable);
        }
    }
}

//! One pass over one portal: read, decide, write, report.

pub mod apply;
pub mod build;
pub mod dereference;
pub mod farewell;
pub mod live;
pub mod malformed;
pub mod pods;
pub mod refusal;
pub mod reporter;
pub mod retry;
pub mod status;
pub mod validate;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crds::{ConditionType, HardwarePortal, Reason};
use kube::{Api, Client, ResourceExt, core::DeserializeGuard};
use kube_runtime::controller::Action;
use metrics::{counter, histogram};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::{
    apply::{Applier, ApplyError},
    build::{build, migration},
    dereference::{DereferenceError, dereference},
    live::{
        Cache, Live,
        own_secrets::{Contents, OwnSecrets},
    },
    reporter::Reporter,
    retry::{Retries, Retry},
    status::{Failure, Outcome, report},
    validate::{ValidateError, ValidatedDatabase, ValidatedPortal, validate},
};
use crate::{
    credentials::{
        Credentials,
        rotator::{Rotator, RotatorError},
        source::Sources,
    },
    events::Events,
    settings::Settings,
};

/// A portal, or an object that is none: one that cannot be read must not stop the watch for all.
pub type Guarded = DeserializeGuard<HardwarePortal>;

/// What a pass works with.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The administrator's decisions.
    pub settings: Settings,
    /// The children as they are.
    pub cache: Cache,
    /// What the operator's own Secrets hold.
    pub contents: Contents,
    /// Where root credentials come from.
    pub sources: Sources,
    /// Changes the pods' credentials.
    pub rotator: Rotator,
    /// Writes children.
    pub applier: Applier,
    /// Writes statuses.
    pub reporter: Reporter,
    /// Writes events.
    pub events: Events,
    /// Delays after failures.
    pub retries: Retries,
    /// Told to stop: what has not begun does not begin.
    pub closing: CancellationToken,
}

impl Context {
    /// The operator's own Secrets of one portal.
    #[must_use]
    pub fn own_secrets<'a>(&'a self, namespace: &'a str, portal: &'a str) -> OwnSecrets<'a> {
        OwnSecrets {
            api: Api::namespaced(self.client.clone(), namespace),
            namespace,
            portal,
            cache: &self.cache,
            contents: &self.contents,
        }
    }
}

/// Why a pass did not reach its end. The variant's name is the label in metrics.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// What the spec refers to could not be read.
    #[error(transparent)]
    Dereference(#[from] DereferenceError),
    /// The spec contradicts itself, the source or the administrator.
    #[error(transparent)]
    Validate(#[from] ValidateError),
    /// There is no credential for the pods yet, and none could be made.
    #[error(transparent)]
    Rotate(#[from] RotatorError),
    /// A child could not be written.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The finalizer could not be written.
    #[error("failed to write the finalizer: {}", refusal::in_words(.0))]
    Finalizer(Box<kube::Error>),
    /// The status could not be written.
    #[error("failed to write the status: {}", refusal::in_words(.0))]
    Status(Box<kube::Error>),
}

/// Brings one portal closer to its spec, and says when to look again.
pub async fn reconcile(object: Arc<Guarded>, context: Arc<Context>) -> Action {
    let started = Instant::now();
    let portal = match &object.0 {
        Ok(portal) => portal,
        Err(invalid) => {
            let Context { client, events, retries, .. } = &*context;
            return malformed::explain(invalid, client, events, retries, at_rest()).await;
        }
    };
    // Whoever was told to stop no longer lists what is there, and the cache stays as it is.
    let filled = context.closing.run_until_cancelled(context.cache.wait_until_filled());
    if filled.await.is_none() {
        return Action::await_change();
    }
    if portal.metadata.deletion_timestamp.is_some() {
        return Box::pin(farewell::release(portal, &context)).await;
    }
    let namespace = portal.namespace().unwrap_or_default();
    let name = portal.name_any();
    let outcome = Box::pin(pass(portal, &namespace, &context)).await;
    histogram!("reconcile_duration_seconds").record(started.elapsed());
    let uid = portal.uid().unwrap_or_default();
    match outcome {
        Ok(next_look) => {
            counter!("reconcile_total", "outcome" => "applied").increment(1);
            context.retries.succeeded(&uid);
            debug!(namespace, name, ms = started.elapsed().as_millis(), "reconciled");
            Action::requeue(next_look)
        }
        Err(error) => {
            counter!("reconcile_total", "outcome" => error.label()).increment(1);
            let delay = context.retries.delay(&uid, &error.retry(), at_rest());
            warn!(namespace, name, %error, retry_s = delay.as_secs_f32(), "not reconciled");
            Action::requeue(delay)
        }
    }
}

/// The steps, and when to look again.
async fn pass(
    portal: &HardwarePortal,
    namespace: &str,
    context: &Context,
) -> Result<Duration, ReconcileError> {
    let portal = &context.reporter.up_to_date(portal);
    if portal.spec.suspend {
        let soon = say(portal, namespace, context, &Outcome::Suspended).await?;
        return Ok(soon.unwrap_or_else(at_rest));
    }
    let Decided { validated, credentials, live } = match decide(portal, namespace, context).await {
        Ok(decided) => decided,
        Err(error) => {
            say(portal, namespace, context, &Outcome::Failed(&error.failure())).await?;
            return Err(error);
        }
    };
    let credentials = credentials.as_ref();
    let children = build(&validated, credentials, &live);
    let name = portal.name_any();
    let own = context.own_secrets(namespace, &name);
    match context.applier.apply(&validated, children, &own).await {
        Ok(applied) => {
            let outcome = Outcome::Applied(&validated, credentials, &applied);
            let soon = say(portal, namespace, context, &outcome).await?;
            let soon = [soon, applied.confirm_after()].into_iter().flatten();
            Ok(soon.fold(next_look(&validated, credentials), Duration::min))
        }
        Err(error) => {
            let error = ReconcileError::Apply(error);
            let failure = error.failure();
            let outcome = Outcome::Halted(&validated, credentials, &failure);
            say(portal, namespace, context, &outcome).await?;
            Err(error)
        }
    }
}

/// What a pass has decided, before it writes children.
struct Decided {
    validated: ValidatedPortal,
    credentials: Option<Credentials>,
    live: Live,
}

async fn decide(
    portal: &HardwarePortal,
    namespace: &str,
    context: &Context,
) -> Result<Decided, ReconcileError> {
    let Context { client, settings, sources, rotator, .. } = context;
    let name = portal.name_any();
    let own = context.own_secrets(namespace, &name);
    let mut read = dereference(portal, namespace, client, sources, &own).await?;
    let validated = validate(portal, &read, settings)?;
    farewell::prepare(portal, namespace, client, &validated).await?;
    let credentials = match (&validated.database, &mut read.mysql) {
        (ValidatedDatabase::Mysql(mysql), Some(found)) => {
            let is_migrating = migration::is_outstanding(&validated, &read.live);
            let last = last_generation(portal);
            let advanced = rotator.advance(&validated, mysql, found, &own, is_migrating, last);
            Some(Box::pin(advanced).await?)
        }
        _ => None,
    };
    Ok(Decided { validated, credentials, live: read.live })
}

/// The generation that status remembers, for when both Secrets are lost: generations only go up.
fn last_generation(portal: &HardwarePortal) -> u64 {
    let status = portal.status.as_ref();
    let credentials = status.and_then(|status| status.credentials.as_ref());
    credentials.and_then(|it| u64::try_from(it.generation).ok()).unwrap_or_default()
}

/// Writes the status if it says anything new, and an event if Ready turned. Gives the time after which
/// there may be more to say: it was too early for it, or the pods are to be asked.
async fn say(
    portal: &HardwarePortal,
    namespace: &str,
    context: &Context,
    outcome: &Outcome<'_>,
) -> Result<Option<Duration>, ReconcileError> {
    let name = portal.name_any();
    let live = Live::read(&context.cache, namespace, &name);
    let (last, now) = (portal.status.as_ref(), jiff::Timestamp::now());
    let troubles = pods::ask(&context.client, namespace, &name, last, now).await;
    let status = report(portal, outcome, &live, &troubles, now);
    let to_ask_pods = pods::next_look(Some(&status), now);
    // Failures come ever more slowly, and the next pass may be far.
    let is_urgent = matches!(outcome, Outcome::Failed(_) | Outcome::Halted(..));
    let said = context.reporter.say(portal, status, is_urgent).await;
    let early = said.map_err(|error| ReconcileError::Status(Box::new(error)))?;
    Ok([early, to_ask_pods].into_iter().flatten().min())
}

/// When to look again without a reason: as soon as the credential asks for it, otherwise at rest.
fn next_look(portal: &ValidatedPortal, credentials: Option<&Credentials>) -> Duration {
    match (&portal.database, credentials) {
        (ValidatedDatabase::Mysql(mysql), Some(credentials)) => {
            let now = jiff::Timestamp::now();
            credentials.next_look(mysql.poll_interval, &mysql.plan, now)
        }
        _ => at_rest(),
    }
}

/// Every few minutes, not all portals at once.
fn at_rest() -> Duration {
    Duration::from_secs(rand::random_range(300..600))
}

impl ReconcileError {
    fn label(&self) -> &'static str {
        match self {
            Self::Dereference(_) => "dereference",
            Self::Validate(_) => "validate",
            Self::Rotate(_) => "rotate",
            Self::Apply(_) => "apply",
            Self::Finalizer(_) => "finalizer",
            Self::Status(_) => "status",
        }
    }

    /// What to do next.
    fn retry(&self) -> Retry {
        match self {
            // The source is not watched.
            Self::Validate(ValidateError::NoSource { .. }) => Retry::Poll,
            Self::Validate(_) => Retry::AfterChange,
            Self::Rotate(error) => error.retry(),
            Self::Dereference(DereferenceError::Api { source, .. }) => Retry::of_api(source),
            // What is missing is not watched: it is polled.
            Self::Dereference(_) => Retry::Poll,
            Self::Apply(error) => Retry::of_api(&error.source),
            Self::Finalizer(error) | Self::Status(error) => Retry::of_api(error),
        }
    }

    /// What the status says of it.
    fn failure(&self) -> Failure {
        let (concerns, reason) = match self {
            Self::Dereference(error) => match error {
                DereferenceError::CaNotFound { .. } => {
                    (ConditionType::DatabaseReady, Reason::CaNotFound)
                }
                DereferenceError::CaNotAllowed { .. } => {
                    (ConditionType::DatabaseReady, Reason::SourceNotAllowed)
                }
                DereferenceError::Memory(_) | DereferenceError::Api { .. } => {
                    (ConditionType::Progressing, Reason::ApiError)
                }
            },
            Self::Validate(error) => match error {
                ValidateError::LocalHost(_) | ValidateError::HostNotAllowed(_) => {
                    (ConditionType::DatabaseReady, Reason::HostNotAllowed)
                }
                ValidateError::DataWouldBeLost => {
                    (ConditionType::DatabaseReady, Reason::DataWouldBeLost)
                }
                ValidateError::Malformed { .. } => {
                    (ConditionType::CredentialsReady, Reason::SourceInvalid)
                }
                ValidateError::NoSource { reason, .. } => {
                    (ConditionType::CredentialsReady, *reason)
                }
                ValidateError::RotateAt(_) => {
                    (ConditionType::CredentialsReady, Reason::InvalidSpec)
                }
                ValidateError::Metadata(_)
                | ValidateError::Missing(_)
                | ValidateError::Overridden { .. } => {
                    (ConditionType::DatabaseReady, Reason::InvalidSpec)
                }
            },
            Self::Rotate(error) => (ConditionType::CredentialsReady, error.reason()),
            Self::Apply(error) if Retry::of_api(&error.source) == Retry::Poll => {
                (ConditionType::Progressing, Reason::Refused)
            }
            Self::Apply(_) | Self::Finalizer(_) | Self::Status(_) => {
                (ConditionType::Progressing, Reason::ApiError)
            }
        };
        Failure { concerns, reason, message: self.to_string() }
    }
}

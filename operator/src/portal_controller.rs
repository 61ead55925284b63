//! One pass over one portal: read, decide, write, report.

pub mod apply;
pub mod build;
pub mod dereference;
pub mod live;
pub mod retry;
pub mod status;
pub mod validate;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crds::{ConditionType, HardwarePortal, Reason};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
    core::DeserializeGuard,
};
use kube_runtime::controller::Action;
use metrics::{counter, histogram};
use serde_json::json;
use tracing::{debug, warn};

use self::{
    apply::{Applied, Applier, ApplyError},
    build::build,
    dereference::{DereferenceError, dereference},
    live::Cache,
    retry::{Retries, Retry},
    status::{Failure, Outcome, report},
    validate::{ValidateError, ValidatedPortal, validate},
};
use crate::{events::Events, settings::Settings};

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
    /// Writes children.
    pub applier: Applier,
    /// Writes events.
    pub events: Events,
    /// Delays after failures.
    pub retries: Retries,
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
    /// A child could not be written.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The status could not be written.
    #[error("failed to write the status: {0}")]
    Status(Box<kube::Error>),
}

/// Brings one portal closer to its spec, and says when to look again.
pub async fn reconcile(object: Arc<Guarded>, context: Arc<Context>) -> Action {
    let started = Instant::now();
    let portal = match &object.0 {
        Ok(portal) => portal,
        Err(invalid) => {
            let namespace = invalid.metadata.namespace.clone().unwrap_or_default();
            let name = invalid.metadata.name.clone().unwrap_or_default();
            warn!(
                namespace,
                name,
                error = invalid.error,
                "an object is no HardwarePortal; waiting until it is changed"
            );
            counter!("reconcile_total", "outcome" => "malformed").increment(1);
            return Action::await_change();
        }
    };
    // The garbage collector removes the children of a portal that goes.
    if portal.metadata.deletion_timestamp.is_some() {
        return Action::await_change();
    }
    context.cache.wait_until_filled().await;
    let namespace = portal.namespace().unwrap_or_default();
    let name = portal.name_any();
    let outcome = pass(portal, &namespace, &context).await;
    histogram!("reconcile_duration_seconds").record(started.elapsed());
    let uid = portal.uid().unwrap_or_default();
    match outcome {
        Ok(()) => {
            counter!("reconcile_total", "outcome" => "applied").increment(1);
            context.retries.succeeded(&uid);
            debug!(namespace, name, ms = started.elapsed().as_millis(), "reconciled");
            Action::requeue(next_look(portal))
        }
        Err(error) => {
            counter!("reconcile_total", "outcome" => error.label()).increment(1);
            let delay = context.retries.delay(&uid, &error.retry(), next_look(portal));
            warn!(namespace, name, %error, retry_s = delay.as_secs_f32(), "not reconciled");
            Action::requeue(delay)
        }
    }
}

/// The five steps.
async fn pass(
    portal: &HardwarePortal,
    namespace: &str,
    context: &Context,
) -> Result<(), ReconcileError> {
    if portal.spec.suspend {
        return say(portal, namespace, context, &Outcome::Suspended).await;
    }
    match write_children(portal, namespace, context).await {
        Ok((validated, applied)) => {
            say(portal, namespace, context, &Outcome::Applied(&validated, &applied)).await
        }
        Err(error) => {
            say(portal, namespace, context, &Outcome::Failed(&error.failure())).await?;
            Err(error)
        }
    }
}

async fn write_children(
    portal: &HardwarePortal,
    namespace: &str,
    context: &Context,
) -> Result<(ValidatedPortal, Applied), ReconcileError> {
    let read = dereference(portal, namespace, &context.client, &context.cache).await?;
    let validated = validate(portal, &read, &context.settings)?;
    let children = build(&validated, &read.live);
    let applied = context.applier.apply(&validated, children, &context.cache).await?;
    Ok((validated, applied))
}

/// Writes the status if it says anything new, and an event if Ready turned.
async fn say(
    portal: &HardwarePortal,
    namespace: &str,
    context: &Context,
    outcome: &Outcome<'_>,
) -> Result<(), ReconcileError> {
    let live = context.cache.live(namespace, &portal.name_any());
    let status = report(portal, outcome, &live, jiff::Timestamp::now());
    if portal.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let portals: Api<HardwarePortal> = Api::namespaced(context.client.clone(), namespace);
    let patch = Patch::Merge(json!({"status": status}));
    let written = portals.patch_status(&portal.name_any(), &PatchParams::default(), &patch).await;
    match written {
        Ok(_) => {}
        // Deleted meanwhile: nobody is left to be told.
        Err(kube::Error::Api(error)) if error.code == 404 => return Ok(()),
        Err(error) => return Err(ReconcileError::Status(Box::new(error))),
    }
    context.events.publish_transitions(portal, &status).await;
    Ok(())
}

/// When to look again without a reason: at the source as often as the spec asks, otherwise every few
/// minutes, not all portals at once.
fn next_look(portal: &HardwarePortal) -> Duration {
    let database = portal.spec.database.as_ref();
    let mysql = database.and_then(|database| database.mysql.as_ref());
    let poll = mysql.map(|mysql| mysql.rotation.clone().unwrap_or_default().poll_interval);
    poll.and_then(|text| humantime::parse_duration(&text).ok())
        .unwrap_or_else(|| Duration::from_secs(rand::random_range(300..600)))
}

impl ReconcileError {
    fn label(&self) -> &'static str {
        match self {
            Self::Dereference(_) => "dereference",
            Self::Validate(_) => "validate",
            Self::Apply(_) => "apply",
            Self::Status(_) => "status",
        }
    }

    /// What to do next.
    fn retry(&self) -> Retry {
        match self {
            Self::Validate(_) => Retry::AfterChange,
            Self::Dereference(DereferenceError::Api { source, .. }) => Retry::of_api(source),
            // What is missing is not watched: it is polled.
            Self::Dereference(_) => Retry::Poll,
            Self::Apply(error) => Retry::of_api(&error.source),
            Self::Status(error) => Retry::of_api(error),
        }
    }

    /// What the status says of it.
    fn failure(&self) -> Failure {
        let (concerns, reason) = match self {
            Self::Dereference(error) => match error {
                DereferenceError::SourceNotFound(_) => {
                    (ConditionType::CredentialsReady, Reason::SourceNotFound)
                }
                DereferenceError::SourceNotAllowed { .. } => {
                    (ConditionType::CredentialsReady, Reason::SourceNotAllowed)
                }
                DereferenceError::SourceInvalid { .. } => {
                    (ConditionType::CredentialsReady, Reason::SourceInvalid)
                }
                DereferenceError::CaNotFound { .. } => {
                    (ConditionType::DatabaseReady, Reason::CaNotFound)
                }
                DereferenceError::Api { .. } => (ConditionType::Progressing, Reason::ApiError),
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
                ValidateError::Metadata(_)
                | ValidateError::Missing(_)
                | ValidateError::Overridden { .. } => {
                    (ConditionType::DatabaseReady, Reason::InvalidSpec)
                }
            },
            Self::Apply(error) if Retry::of_api(&error.source) == Retry::Poll => {
                (ConditionType::Progressing, Reason::Refused)
            }
            Self::Apply(_) | Self::Status(_) => (ConditionType::Progressing, Reason::ApiError),
        };
        Failure { concerns, reason, message: self.to_string() }
    }
}

//! One pass over one portal: read, decide, write, report.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crds::HardwarePortal;
use kube::{Api, Client, ResourceExt};
use kube_runtime::controller::Action;
use metrics::{counter, histogram};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    apply::Applier,
    build::{build, migration},
    error::ReconcileError,
    finalizer,
    gather::gather,
    live::Live,
    malformed, pods,
    resolve::{ResolvedDatabase, ResolvedPortal, resolve},
    status::{self, ReconcileOutcome, publisher::StatusPublisher},
};
use crate::{
    cluster::{
        Guarded,
        cache::Cache,
        events::Events,
        labels::{self, Component},
        names,
        retry::Retries,
        secrets::{OwnSecrets, SecretContents},
    },
    rotation::{Credentials, executor::Executor, source::Sources},
    settings::Settings,
};

/// What a pass works with.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The administrator's decisions.
    pub settings: Settings,
    /// The children as they are.
    pub cache: Cache,
    /// What the operator's own Secrets hold.
    pub contents: SecretContents,
    /// Where root credentials come from.
    pub sources: Sources,
    /// Changes the pods' credentials.
    pub executor: Executor,
    /// Writes children.
    pub applier: Applier,
    /// Writes statuses.
    pub publisher: StatusPublisher,
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
        return Box::pin(finalizer::release(portal, &context)).await;
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
    let portal = &context.publisher.up_to_date(portal);
    if portal.spec.suspend {
        let soon = publish_status(portal, namespace, context, &ReconcileOutcome::Suspended).await?;
        return Ok(soon.unwrap_or_else(at_rest));
    }
    let Decided { validated, credentials, live } = match decide(portal, namespace, context).await {
        Ok(decided) => decided,
        Err(error) => {
            publish_status(portal, namespace, context, &ReconcileOutcome::Failed(&error.failure()))
                .await?;
            return Err(error);
        }
    };
    let credentials = credentials.as_ref();
    let children = build(&validated, credentials, &live);
    let name = portal.name_any();
    let own = context.own_secrets(namespace, &name);
    let (applied, result) = context.applier.apply(&validated, &children, &own).await;
    match result {
        Ok(()) => {
            let outcome =
                ReconcileOutcome::Applied { resolved: &validated, credentials, applied: &applied };
            let soon = publish_status(portal, namespace, context, &outcome).await?;
            let soon = [soon, applied.confirm_after()].into_iter().flatten();
            Ok(soon.fold(next_look(&validated, credentials), Duration::min))
        }
        Err(error) => {
            let error = ReconcileError::Apply(error);
            let outcome = ReconcileOutcome::PartlyApplied {
                resolved: &validated,
                credentials,
                applied: &applied,
                failure: &error.failure(),
            };
            publish_status(portal, namespace, context, &outcome).await?;
            Err(error)
        }
    }
}

/// What a pass has decided, before it writes children.
struct Decided {
    validated: ResolvedPortal,
    credentials: Option<Credentials>,
    live: Live,
}

async fn decide(
    portal: &HardwarePortal,
    namespace: &str,
    context: &Context,
) -> Result<Decided, ReconcileError> {
    let Context { client, settings, sources, executor, .. } = context;
    let name = portal.name_any();
    let own = context.own_secrets(namespace, &name);
    let mut read = gather(portal, namespace, client, sources, &own).await?;
    let validated = resolve(portal, &read, settings)?;
    finalizer::prepare(portal, namespace, client, &validated).await?;
    let credentials = match (&validated.database, &mut read.mysql) {
        (ResolvedDatabase::Mysql(mysql), Some(found)) => {
            let is_migrating = migration::is_outstanding(&validated, &read.live);
            let last = last_generation(portal);
            let metadata =
                labels::owned(&validated, Component::Hardware, names::rotation_secret(&name));
            let advanced = executor.advance(
                &mysql.request,
                &mut found.stored,
                found.published.as_ref(),
                found.source.as_ref().err(),
                &own,
                metadata,
                is_migrating,
                last,
            );
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
/// there may be more to say: it was too early for it, or the pods are to be looked at.
async fn publish_status(
    portal: &HardwarePortal,
    namespace: &str,
    context: &Context,
    outcome: &ReconcileOutcome<'_>,
) -> Result<Option<Duration>, ReconcileError> {
    let name = portal.name_any();
    let live = Live::read(&context.cache, namespace, &name);
    let (last, now) = (portal.status.as_ref(), jiff::Timestamp::now());
    let pod_problems =
        pods::find_problems(&context.client, namespace, &name, &live, last, now).await;
    let status = status::compute(portal, outcome, &live, &pod_problems, now);
    let to_find_problems = pods::next_search(Some(&status), now);
    // Failures come ever more slowly, and the next pass may be far.
    let is_urgent =
        matches!(outcome, ReconcileOutcome::Failed(_) | ReconcileOutcome::PartlyApplied { .. });
    let said = context.publisher.publish(portal, status, is_urgent).await;
    let early = said.map_err(|error| ReconcileError::Status(Box::new(error)))?;
    Ok([early, to_find_problems].into_iter().flatten().min())
}

/// When to look again without a reason: as soon as the credential asks for it, otherwise at rest.
fn next_look(portal: &ResolvedPortal, credentials: Option<&Credentials>) -> Duration {
    match (&portal.database, credentials) {
        (ResolvedDatabase::Mysql(mysql), Some(credentials)) => {
            let now = jiff::Timestamp::now();
            credentials.next_look(mysql.request.poll_interval, &mysql.request.plan, now)
        }
        _ => at_rest(),
    }
}

/// Every few minutes, not all portals at once.
fn at_rest() -> Duration {
    Duration::from_secs(rand::random_range(300..600))
}

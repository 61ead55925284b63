//! One pass over one portal: read, decide, write, report.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crds::{HardwarePortal, Reason};
use kube::{Resource, ResourceExt};
use kube_runtime::controller::Action;
use metrics::{counter, histogram};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::{
    build::{build, migration},
    context::Context,
    error::ReconcileError,
    finalizer,
    gather::gather,
    live::Live,
    malformed, pods,
    resolve::{ResolvedDatabase, ResolvedPortal, resolve},
    source_reports,
    status::{self, ReconcileOutcome},
};
use crate::{
    cluster::{Guarded, cache::SECRET, names, retry::Retry, secrets::OwnSecrets},
    rotation::{Credentials, request::PortalKey, store},
};

/// Time after which a kind that cannot be listed is reported on the portals.
const UNLISTED_AFTER: Duration = Duration::from_secs(30);

/// Brings one portal closer to its spec. Gives the time of the next pass.
pub async fn reconcile(object: Arc<Guarded>, context: Arc<Context>) -> Action {
    let started = Instant::now();
    // A portal that is being deleted needs none of its children, which may not be listed any more.
    let is_deleted = object.meta().deletion_timestamp.is_some();
    let portal = match &object.0 {
        Ok(portal) if is_deleted => return Box::pin(finalizer::release(portal, &context)).await,
        Err(invalid) if is_deleted => {
            return Box::pin(finalizer::release_malformed(invalid, &context)).await;
        }
        Ok(portal) => portal,
        Err(invalid) => {
            let Context { client, events, retries, .. } = &*context;
            return malformed::explain(invalid, client, events, retries, at_rest()).await;
        }
    };
    // After shutdown begins the reflectors stop, so that the cache is not filled any more.
    let filled = timeout(UNLISTED_AFTER, async {
        context.cache.wait_until_filled().await;
        context.watches.index.wait_until_listed().await;
    });
    let Some(filled) = context.closing.run_until_cancelled(filled).await else {
        return Action::await_change();
    };
    let Ok(_permit) = context.passes.acquire().await else { return Action::await_change() };
    let namespace = portal.namespace().unwrap_or_default();
    let name = portal.name_any();
    let outcome = match filled {
        Ok(()) => Box::pin(run_steps(portal, &namespace, &context)).await,
        Err(_) => Err(publish_unlisted(portal, &namespace, &context).await),
    };
    histogram!("reconcile_duration_seconds").record(started.elapsed());
    let uid = portal.uid().unwrap_or_default();
    match outcome {
        Ok(Next::After(time)) => {
            counter!("reconcile_total", "outcome" => "applied").increment(1);
            context.retries.succeeded(&uid);
            debug!(namespace, name, ms = started.elapsed().as_millis(), "reconciled");
            Action::requeue(time)
        }
        Ok(Next::Retry(retry, at_the_latest)) => {
            counter!("reconcile_total", "outcome" => "applied").increment(1);
            let delay = context.retries.delay(&uid, &retry, at_rest()).min(at_the_latest);
            debug!(namespace, name, retry_s = delay.as_secs_f32(), "reconciled, with a trouble");
            Action::requeue(delay)
        }
        Err(error) => {
            counter!("reconcile_total", "outcome" => error.label()).increment(1);
            let delay = context.retries.delay(&uid, &error.retry(), at_rest());
            warn!(namespace, name, %error, retry_s = delay.as_secs_f32(), "not reconciled");
            Action::requeue(delay)
        }
    }
}

/// When the next pass is due.
enum Next {
    /// After this time.
    After(Duration),
    /// As a trouble of the rotation asks for, and not later than this. The children are applied all the same.
    Retry(Retry, Duration),
}

/// gather → resolve → finalizer → rotate → build → apply → status.
async fn run_steps(
    portal: &HardwarePortal,
    namespace: &str,
    context: &Context,
) -> Result<Next, ReconcileError> {
    let portal = &context.publisher.up_to_date(portal);
    if portal.spec.suspend {
        let soon = publish_status(portal, namespace, context, &ReconcileOutcome::Suspended).await?;
        return Ok(Next::After(soon.unwrap_or_else(at_rest)));
    }
    let Decided { resolved, credentials, live } = match decide(portal, namespace, context).await {
        Ok(decided) => decided,
        Err(error) => {
            let outcome = error.failure();
            publish_status(portal, namespace, context, &ReconcileOutcome::Failed(&outcome)).await?;
            return Err(error);
        }
    };
    let credentials = credentials.as_ref();
    let children = build(&resolved, credentials, &live);
    let name = portal.name_any();
    let own = context.own_secrets(namespace, &name);
    let (applied, result) = context.applier.apply(&resolved, &children, &own).await;
    if applied.contains(SECRET, &names::watches_secret(&name)) {
        context.watches.renditions.record(namespace, &name, &resolved.watches.outcomes);
    }
    match result {
        Ok(()) => {
            let outcome =
                ReconcileOutcome::Applied { resolved: &resolved, credentials, applied: &applied };
            let soon = publish_status(portal, namespace, context, &outcome).await?;
            let to_read_secrets = resolved.watches.next_look;
            let soon = [soon, applied.confirm_after(), to_read_secrets].into_iter().flatten().min();
            Ok(next_pass(&resolved, credentials, soon))
        }
        Err(error) => {
            let error = ReconcileError::Apply(error);
            let outcome = ReconcileOutcome::PartlyApplied {
                resolved: &resolved,
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
    resolved: ResolvedPortal,
    credentials: Option<Credentials>,
    live: Live,
}

async fn decide(
    portal: &HardwarePortal,
    namespace: &str,
    context: &Context,
) -> Result<Decided, ReconcileError> {
    let Context { client, settings, sources, executor, watches, .. } = context;
    let name = portal.name_any();
    let own = context.own_secrets(namespace, &name);
    move_earlier_state(portal, &own, context).await?;
    let read =
        gather(portal, namespace, client, sources, executor.store(), Some(watches), &own).await?;
    let mut resolved = resolve(portal, &read, settings)?;
    finalizer::prepare(portal, client, &resolved).await?;
    let is_migrated = !migration::is_outstanding(&resolved, &read.live);
    let credentials = match (&mut resolved.database, read.mysql) {
        (ResolvedDatabase::Mysql(mysql), Some(found)) => {
            mysql.request.is_migrated = is_migrated;
            let advanced = Box::pin(executor.advance(&mysql.request, found.state)).await;
            let is_rejected = match &advanced {
                Ok(credentials) => {
                    let trouble = credentials.trouble.as_ref();
                    trouble.is_some_and(|trouble| trouble.reason == Reason::RootRejected)
                }
                Err(error) => error.reason() == Reason::RootRejected,
            };
            if is_rejected {
                // What was read of the source may be old by now.
                sources.forget(&mysql.request.portal.uid);
            }
            Some(advanced?)
        }
        _ => None,
    };
    Ok(Decided { resolved, credentials, live: read.live })
}

/// Moves what an earlier version stored in the portal's namespace.
async fn move_earlier_state(
    portal: &HardwarePortal,
    own: &OwnSecrets<'_>,
    context: &Context,
) -> Result<(), ReconcileError> {
    let key = PortalKey {
        namespace: own.namespace.to_owned(),
        name: own.portal.to_owned(),
        uid: portal.uid().unwrap_or_default(),
    };
    let moved = store::move_earlier(context.executor.store(), own, key).await;
    if let Some(refused) = moved.map_err(ReconcileError::MoveState)? {
        warn!(namespace = own.namespace, name = own.portal, refused, "refused a state");
        let reason = Reason::StateRefused.as_str();
        context.events.publish(portal.object_ref(&()), false, reason, refused).await;
    }
    Ok(())
}

/// Publishes on a portal that its children cannot be listed, and why.
async fn publish_unlisted(
    portal: &HardwarePortal,
    namespace: &str,
    context: &Context,
) -> ReconcileError {
    let (cache, watches) = (&context.cache, &context.watches.index);
    let (message, is_refused) = if cache.is_filled() {
        (watches.describe_unlisted(), watches.has_failed_list())
    } else {
        (cache.describe_unlisted(), cache.has_failed_lists())
    };
    let error = ReconcileError::Unlisted { message, is_refused };
    let portal = &context.publisher.up_to_date(portal);
    let failure = error.failure();
    let outcome = ReconcileOutcome::Failed(&failure);
    match publish_status(portal, namespace, context, &outcome).await {
        Ok(_) => error,
        Err(error) => error,
    }
}

/// Writes the status if it differs, and events of its transitions. Gives the time after which it may have
/// to be written again: a write came too early, the pods have to be searched for problems, or the sources'
/// reports have to be asked for.
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
    let reports = context.source_reports.ask(portal, namespace, &live).await;
    let status = status::compute(portal, outcome, &live, &pod_problems, &reports, now);
    let to_find_problems = pods::next_search(Some(&status), now);
    let to_ask_for_reports = source_reports::next_ask(portal, &status);
    // After a failure the backoff decides the next pass, which may be much later.
    let is_urgent =
        matches!(outcome, ReconcileOutcome::Failed(_) | ReconcileOutcome::PartlyApplied { .. });
    let published = context.publisher.publish(portal, status, is_urgent).await;
    let early = published.map_err(|error| ReconcileError::Status(Box::new(error)))?;
    Ok([early, to_find_problems, to_ask_for_reports].into_iter().flatten().min())
}

/// The next pass: as soon as the status or the credential asks for it, otherwise at rest.
fn next_pass(
    portal: &ResolvedPortal,
    credentials: Option<&Credentials>,
    soon: Option<Duration>,
) -> Next {
    let (ResolvedDatabase::Mysql(mysql), Some(credentials)) = (&portal.database, credentials)
    else {
        return Next::After(soon.unwrap_or_else(at_rest));
    };
    let poll_interval = mysql.request.poll_interval;
    let now = jiff::Timestamp::now();
    let soon = soon.unwrap_or(Duration::MAX);
    match &credentials.trouble {
        Some(trouble) => Next::Retry(trouble.retry.clone(), poll_interval.min(soon)),
        None => {
            Next::After(credentials.next_pass(poll_interval, &mysql.request.plan, now).min(soon))
        }
    }
}

/// Every few minutes, not all portals at once.
fn at_rest() -> Duration {
    Duration::from_secs(rand::random_range(300..600))
}

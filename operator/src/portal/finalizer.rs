//! The end of a portal. The garbage collector removes its children; accounts on a database server are
//! outside of its reach, so under `deletionPolicy: DropAccounts` a finalizer holds the portal until
//! they are dropped.

use std::time::Duration;

use crds::{DeletionPolicy, HardwarePortal};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
};
use kube_runtime::controller::Action;
use serde_json::json;
use tracing::{info, warn};

use super::{
    controller::Context,
    error::ReconcileError,
    gather::gather,
    resolve::{ResolvedDatabase, ResolvedPortal, resolve},
    status::transitions::publish_accounts_left,
};
use crate::{
    cluster::retry::Retry,
    rotation::mysql::{AccountName, Slot},
};

/// Holds a portal until its accounts are dropped.
const FINALIZER: &str = "gill-hicks.dev/drop-accounts";

/// How long a deletion waits. When a namespace goes, the Secret with the root credential is gone
/// first, and nobody wants a namespace that never ends.
const DEADLINE: jiff::SignedDuration = jiff::SignedDuration::from_mins(3);
const AGAIN: Duration = Duration::from_secs(5);

/// Sets or removes the finalizer, before an account is made that somebody wants to be dropped.
pub async fn prepare(
    portal: &HardwarePortal,
    namespace: &str,
    client: &Client,
    validated: &ResolvedPortal,
) -> Result<(), ReconcileError> {
    let is_wanted = match &validated.database {
        ResolvedDatabase::Embedded { .. } => false,
        ResolvedDatabase::Mysql(mysql) => {
            mysql.request.deletion_policy == DeletionPolicy::DropAccounts
        }
    };
    if is_wanted == is_held(portal) {
        return Ok(());
    }
    let mut finalizers = portal.finalizers().to_vec();
    if is_wanted {
        finalizers.push(FINALIZER.to_owned());
    } else {
        finalizers.retain(|one| one != FINALIZER);
    }
    write_finalizers(portal, namespace, client, &finalizers)
        .await
        .map_err(|error| ReconcileError::Finalizer(Box::new(error)))
}

/// Drops the accounts of a portal that is being deleted, if its spec asks for it, and lets it go.
pub async fn release(portal: &HardwarePortal, context: &Context) -> Action {
    if !is_held(portal) {
        return Action::await_change();
    }
    let namespace = portal.namespace().unwrap_or_default();
    let name = portal.name_any();
    let outcome = drop_accounts(portal, &namespace, context).await;
    if let Err(why) = &outcome {
        if !is_overdue(portal, jiff::Timestamp::now()) {
            warn!(namespace, name, why, "the accounts are not dropped yet");
            return Action::requeue(AGAIN);
        }
        let accounts = accounts_of(portal);
        // Also for the log: a namespace that is being deleted takes no new event.
        let left = accounts.join(", ");
        warn!(namespace, name, left, why, "the accounts are left on the server");
        publish_accounts_left(&context.events, portal, &accounts, why).await;
    }
    let mut finalizers = portal.finalizers().to_vec();
    finalizers.retain(|one| one != FINALIZER);
    match write_finalizers(portal, &namespace, &context.client, &finalizers).await {
        Ok(()) => {
            info!(namespace, name, dropped = outcome.is_ok(), "the portal is released");
            Action::await_change()
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Action::await_change(),
        Err(error) => {
            warn!(namespace, name, %error, "failed to release the portal");
            let uid = portal.uid().unwrap_or_default();
            Action::requeue(context.retries.delay(&uid, &Retry::of_api(&error), AGAIN))
        }
    }
}

async fn drop_accounts(
    portal: &HardwarePortal,
    namespace: &str,
    context: &Context,
) -> Result<(), String> {
    let Err(why) = drop_accounts_as_asked(portal, namespace, context).await else { return Ok(()) };
    // A namespace that is being deleted is empty by now, and the rights to read in it are gone.
    match context.executor.drop_kept_accounts(&portal.uid().unwrap_or_default()).await {
        Some(Ok(())) => Ok(()),
        Some(Err(trouble)) => Err(format!("{why}; {}", trouble.message)),
        None => Err(why),
    }
}

async fn drop_accounts_as_asked(
    portal: &HardwarePortal,
    namespace: &str,
    context: &Context,
) -> Result<(), String> {
    let Context { client, sources, settings, executor, .. } = context;
    let name = portal.name_any();
    let own = context.own_secrets(namespace, &name);
    let read = gather(portal, namespace, client, sources, &own).await;
    let read = read.map_err(|error| error.to_string())?;
    let validated = resolve(portal, &read, settings).map_err(|error| error.to_string())?;
    match (&validated.database, &read.mysql) {
        (ResolvedDatabase::Mysql(mysql), Some(found)) => {
            let last = found.stored.state.as_ref().and_then(|state| state.root.clone());
            executor.drop_accounts(&mysql.request, last).await.map_err(|trouble| trouble.message)
        }
        _ => Ok(()),
    }
}

fn accounts_of(portal: &HardwarePortal) -> Vec<String> {
    let uid = portal.uid().unwrap_or_default();
    let names = [Slot::A, Slot::B, Slot::Migration].map(|slot| AccountName::for_portal(&uid, slot));
    names.into_iter().flatten().map(|name| name.to_string()).collect()
}

fn is_held(portal: &HardwarePortal) -> bool {
    portal.finalizers().iter().any(|one| one == FINALIZER)
}

fn is_overdue(portal: &HardwarePortal, now: jiff::Timestamp) -> bool {
    let since = portal.metadata.deletion_timestamp.as_ref();
    since.is_some_and(|Time(since)| now.duration_since(*since) >= DEADLINE)
}

async fn write_finalizers(
    portal: &HardwarePortal,
    namespace: &str,
    client: &Client,
    finalizers: &[String],
) -> Result<(), kube::Error> {
    let portals: Api<HardwarePortal> = Api::namespaced(client.clone(), namespace);
    // The version, so that a finalizer that somebody else set meanwhile is not lost.
    let patch = json!({"metadata": {
        "finalizers": finalizers,
        "resourceVersion": portal.metadata.resource_version,
    }});
    let name = portal.name_any();
    portals.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use crds::HardwarePortal;
    use serde_json::json;

    use super::{DEADLINE, FINALIZER, is_held, is_overdue};

    #[test]
    fn a_deletion_waits_for_the_accounts_but_not_for_ever() {
        let portal: HardwarePortal = serde_json::from_value(json!({
            "apiVersion": "gill-hicks.dev/v1alpha1", "kind": "HardwarePortal",
            "metadata": {
                "name": "p", "finalizers": [FINALIZER],
                "deletionTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {},
        }))
        .expect("a portal");
        assert!(is_held(&portal));
        let deleted: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        assert!(!is_overdue(&portal, deleted + DEADLINE / 2));
        assert!(is_overdue(&portal, deleted + DEADLINE));
    }
}

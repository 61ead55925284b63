//! The end of a portal. The garbage collector removes its children; accounts on a database server are
//! outside of its reach, so under `deletionPolicy: DropAccounts` a finalizer holds the portal until
//! they are dropped.

use std::time::Duration;

use crds::{DeletionPolicy, HardwarePortal};
use k8s_openapi::{
    api::core::v1::ObjectReference,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::error_boundary::InvalidObject,
};
use kube_runtime::controller::Action;
use serde_json::json;
use tracing::{info, warn};

use super::{
    context::Context,
    error::ReconcileError,
    gather::gather,
    resolve::{ResolvedDatabase, ResolvedPortal, resolve},
    status::transitions::publish_accounts_left,
};
use crate::{
    cluster::retry::Retry,
    rotation::{request::Request, retirement},
};

/// Holds a portal until its accounts are dropped.
const FINALIZER: &str = "gill-hicks.dev/drop-accounts";

/// How long the finalizer holds a deletion. In a namespace that is being deleted, the Secret with the root
/// credential may be deleted first, and the namespace must end all the same.
const DEADLINE: jiff::SignedDuration = jiff::SignedDuration::from_mins(3);
const AGAIN: Duration = Duration::from_secs(5);

/// Adds or removes the finalizer, before an account is created that has to be dropped.
pub async fn prepare(
    portal: &HardwarePortal,
    client: &Client,
    resolved: &ResolvedPortal,
) -> Result<(), ReconcileError> {
    let is_wanted = match &resolved.database {
        ResolvedDatabase::Embedded { .. } => false,
        ResolvedDatabase::Mysql(mysql) => {
            mysql.request.deletion_policy == DeletionPolicy::DropAccounts
        }
    };
    if is_wanted == is_held(&portal.metadata) {
        return Ok(());
    }
    let mut finalizers = portal.finalizers().to_vec();
    if is_wanted {
        finalizers.push(FINALIZER.to_owned());
    } else {
        finalizers.retain(|one| one != FINALIZER);
    }
    write_finalizers(&portal.metadata, client, &finalizers)
        .await
        .map_err(|error| ReconcileError::Finalizer(Box::new(error)))
}

/// Drops the accounts of a portal that is being deleted, if its spec asks for it, and removes the finalizer. The
/// Secrets and the Role of a namespace that is being deleted go first, so that what is stored in the
/// operator's own namespace has to suffice.
pub async fn release(portal: &HardwarePortal, context: &Context) -> Action {
    let held = Held { metadata: &portal.metadata, regarding: portal.object_ref(&()) };
    let request = read_request(portal, context).await;
    held.release(request, context).await
}

/// The same for an object that cannot be read as a portal.
pub async fn release_malformed(invalid: &InvalidObject, context: &Context) -> Action {
    let ObjectMeta { name, namespace, uid, .. } = invalid.metadata.clone();
    let regarding = ObjectReference {
        api_version: Some(HardwarePortal::api_version(&()).into_owned()),
        kind: Some(HardwarePortal::kind(&()).into_owned()),
        name,
        namespace,
        uid,
        ..ObjectReference::default()
    };
    let held = Held { metadata: &invalid.metadata, regarding };
    held.release(Err(invalid.error.clone()), context).await
}

/// An object that is being deleted.
struct Held<'a> {
    metadata: &'a ObjectMeta,
    regarding: ObjectReference,
}

impl Held<'_> {
    async fn release(&self, request: Result<Option<Request>, String>, context: &Context) -> Action {
        if !is_held(self.metadata) {
            return Action::await_change();
        }
        let namespace = self.metadata.namespace.clone().unwrap_or_default();
        let name = self.metadata.name.clone().unwrap_or_default();
        let uid = self.metadata.uid.clone().unwrap_or_default();
        let outcome = drop_accounts(&uid, request, context).await;
        if let Err(why) = &outcome {
            if !is_overdue(self.metadata, jiff::Timestamp::now()) {
                warn!(namespace, name, why, "the accounts are not dropped yet");
                return Action::requeue(
                    context.retries.delay(&uid, &Retry::Backoff, AGAIN).min(AGAIN),
                );
            }
            let accounts = retirement::accounts_of(&uid);
            // Also for the log: a namespace that is being deleted takes no new event.
            let left = accounts.join(", ");
            warn!(namespace, name, left, why, "the accounts are left on the server");
            publish_accounts_left(&context.events, self.regarding.clone(), &accounts, why).await;
        }
        let finalizers: Vec<String> = self.metadata.finalizers.iter().flatten().cloned().collect();
        let finalizers: Vec<String> =
            finalizers.into_iter().filter(|one| one != FINALIZER).collect();
        match write_finalizers(self.metadata, &context.client, &finalizers).await {
            Ok(()) => {
                info!(namespace, name, dropped = outcome.is_ok(), "the portal is released");
                Action::await_change()
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Action::await_change(),
            Err(error) => {
                warn!(namespace, name, %error, "failed to release the portal");
                Action::requeue(context.retries.delay(&uid, &Retry::of_api(&error), AGAIN))
            }
        }
    }
}

async fn drop_accounts(
    uid: &str,
    request: Result<Option<Request>, String>,
    context: &Context,
) -> Result<(), String> {
    let Context { executor, settings, .. } = context;
    let dropped = executor.drop_accounts(
        uid,
        request.as_ref().ok().and_then(Option::as_ref),
        &settings.rds_authorities,
    );
    dropped.await.map_err(|trouble| match request {
        Ok(_) => trouble.message,
        Err(why) => format!("{}; {why}", trouble.message),
    })
}

/// What the spec and its source say, if they can still be read.
async fn read_request(
    portal: &HardwarePortal,
    context: &Context,
) -> Result<Option<Request>, String> {
    let Context { client, sources, settings, executor, .. } = context;
    let (namespace, name) = (portal.namespace().unwrap_or_default(), portal.name_any());
    let own = context.own_secrets(&namespace, &name);
    let read = gather(portal, &namespace, client, sources, executor.store(), None, &own).await;
    let read = read.map_err(|error| error.to_string())?;
    let resolved = resolve(portal, &read, settings).map_err(|error| error.to_string())?;
    Ok(match resolved.database {
        ResolvedDatabase::Mysql(mysql) => Some(mysql.request),
        ResolvedDatabase::Embedded { .. } => None,
    })
}

fn is_held(metadata: &ObjectMeta) -> bool {
    metadata.finalizers.iter().flatten().any(|one| one == FINALIZER)
}

fn is_overdue(metadata: &ObjectMeta, now: jiff::Timestamp) -> bool {
    let since = metadata.deletion_timestamp.as_ref();
    since.is_some_and(|Time(since)| now.duration_since(*since) >= DEADLINE)
}

async fn write_finalizers(
    metadata: &ObjectMeta,
    client: &Client,
    finalizers: &[String],
) -> Result<(), kube::Error> {
    let namespace = metadata.namespace.clone().unwrap_or_default();
    let name = metadata.name.clone().unwrap_or_default();
    let resource = ApiResource::erase::<HardwarePortal>(&());
    let portals: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
    // With its resourceVersion, so that a finalizer that somebody else set meanwhile is not lost.
    let patch = json!({"metadata": {
        "finalizers": finalizers,
        "resourceVersion": metadata.resource_version,
    }});
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
        assert!(is_held(&portal.metadata));
        let deleted: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        assert!(!is_overdue(&portal.metadata, deleted + DEADLINE / 2));
        assert!(is_overdue(&portal.metadata, deleted + DEADLINE));
    }
}

//! How soon the operator acts on what somebody did.

use std::{
    fmt::Debug,
    pin::Pin,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use crds::HardwarePortal;
use e2e::Namespace;
use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Service};
use kube::{
    Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
    core::{NamespaceResourceScope, PartialObjectMeta},
    runtime::{WatchStreamExt, watcher},
};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::timeout;

use super::fleet::Fleet;

/// An action that takes longer has been missed.
const DEADLINE: Duration = Duration::from_secs(30);

/// From the request that changes a portal's title until its Deployment has changed.
pub(crate) async fn edits(fleet: &Fleet<'_>, samples: usize) -> Result<Vec<Duration>> {
    let portals = fleet.namespace.api::<HardwarePortal>();
    let deployments = fleet.namespace.api::<Deployment>();
    let mut changes = watch::<Deployment>(fleet.namespace);
    let mut times = Vec::new();
    for (number, portal) in fleet.sample(samples).enumerate() {
        let child = format!("{portal}-portal");
        let before = deployments.get_metadata(&child).await?.metadata.generation;
        let edit = json!({"spec": {"portal": {"title": format!("Edited {number}")}}});
        let started = Instant::now();
        portals.patch(portal, &PatchParams::default(), &Patch::Merge(edit)).await?;
        let is_changed = |object: &PartialObjectMeta<Deployment>| {
            object.name_any() == child && object.metadata.generation > before
        };
        wait_for(&mut changes, is_changed)
            .await
            .with_context(|| format!("no change of {child} after an edit"))?;
        times.push(started.elapsed());
        // The rollout that follows must not be in the next one's way.
        fleet.namespace.wait_until_ready(portal).await?;
    }
    Ok(times)
}

/// From the request that deletes a portal's Service until there is a new one.
pub(crate) async fn deletions(fleet: &Fleet<'_>, samples: usize) -> Result<Vec<Duration>> {
    let services = fleet.namespace.api::<Service>();
    let mut changes = watch::<Service>(fleet.namespace);
    let mut times = Vec::new();
    for portal in fleet.sample(samples) {
        let child = format!("{portal}-hardware");
        let before = services.get_metadata(&child).await?.metadata.uid;
        let started = Instant::now();
        services.delete(&child, &DeleteParams::default()).await?;
        let is_new = |object: &PartialObjectMeta<Service>| {
            object.name_any() == child && object.metadata.uid != before
        };
        wait_for(&mut changes, is_new)
            .await
            .with_context(|| format!("{child} did not return after it was deleted"))?;
        times.push(started.elapsed());
    }
    Ok(times)
}

type Changes<K> = Pin<Box<dyn Stream<Item = watcher::Result<PartialObjectMeta<K>>> + Send>>;

/// Every object, and from then on each that changes.
fn watch<K>(namespace: &Namespace) -> Changes<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    PartialObjectMeta<K>: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    watcher(namespace.api(), watcher::Config::default()).applied_objects().boxed()
}

async fn wait_for<K>(
    changes: &mut Changes<K>,
    is_it: impl Fn(&PartialObjectMeta<K>) -> bool,
) -> Result<()> {
    let search = async {
        loop {
            let object = changes.try_next().await?.context("the watch has ended")?;
            if is_it(&object) {
                return Ok(());
            }
        }
    };
    timeout(DEADLINE, search).await?
}

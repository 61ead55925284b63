//! Many portals at once.

use std::{
    collections::HashSet,
    pin::pin,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use crds::HardwarePortal;
use e2e::{Namespace, fake_nodes, namespace::expect_condition, owned};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::{api::apps::v1::Deployment, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{
    Resource, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
    core::PartialObjectMeta,
    runtime::{watcher, watcher::Event},
};
use serde_json::json;
use tokio::time::{sleep, timeout};

/// Portals that are created at the same time, so that the client is not what is measured.
const CREATIONS: usize = 8;

/// Deployments of one portal: hardware and portal.
const DEPLOYMENTS: usize = 2;

/// Portals that are there and Ready.
pub(crate) struct Fleet<'a> {
    pub(crate) namespace: &'a Namespace,
    pub(crate) names: Vec<String>,
}

/// Times from the first request that creates a portal.
pub(crate) struct Growth {
    /// Until the last Deployment is there.
    pub(crate) deployments: Duration,
    /// Until every portal is Ready.
    pub(crate) ready: Duration,
}

impl<'a> Fleet<'a> {
    /// Creates portals and waits until all are Ready.
    pub(crate) async fn grow(namespace: &'a Namespace, size: usize) -> Result<(Self, Growth)> {
        let names = (0..size).map(|number| format!("scaled-{number:04}")).collect();
        let fleet = Self { namespace, names };
        let deadline = Duration::from_mins(2) + Duration::from_secs(2) * u32::try_from(size)?;
        let growth = timeout(deadline, fleet.create_and_watch());
        let growth = growth.await.with_context(|| {
            format!("the portals were not all Ready after {} s", deadline.as_secs())
        })??;
        Ok((fleet, growth))
    }

    async fn create_and_watch(&self) -> Result<Growth> {
        let size = self.names.len();
        let config = watcher::Config::default();
        let deployments = self.namespace.api::<PartialObjectMeta<Deployment>>();
        let mut deployments = watcher(deployments, config.clone()).boxed();
        let mut portals = watcher(self.namespace.api::<HardwarePortal>(), config).boxed();
        let started = Instant::now();
        let mut creation = pin!(self.create());
        let mut is_created = false;
        let (mut created, mut ready) = (HashSet::new(), HashSet::new());
        let mut last_created = None;
        loop {
            tokio::select! {
                result = &mut creation, if !is_created => {
                    result?;
                    is_created = true;
                }
                event = deployments.try_next() => {
                    if let Event::Apply(one) | Event::InitApply(one) = event?.context("no watch")? {
                        created.insert(one.name_any());
                    }
                    if created.len() == size * DEPLOYMENTS && last_created.is_none() {
                        last_created = Some(started.elapsed());
                    }
                }
                event = portals.try_next() => {
                    if let Event::Apply(one) | Event::InitApply(one) = event?.context("no watch")? {
                        if expect_condition(&one, "Ready", "True").is_ok() {
                            ready.insert(one.name_any());
                        } else {
                            ready.remove(&one.name_any());
                        }
                    }
                }
            }
            if let Some(deployments) = last_created
                && ready.len() == size
            {
                return Ok(Growth { deployments, ready: started.elapsed() });
            }
        }
    }

    async fn create(&self) -> Result<()> {
        let portals = self.namespace.api::<HardwarePortal>();
        let create = async |name: &String| -> Result<()> {
            let portal = serde_json::from_value(json!({
                "apiVersion": "gill-hicks.dev/v1alpha1", "kind": "HardwarePortal",
                "metadata": {"name": name},
                "spec": fake_nodes::spec(2),
            }))?;
            portals.create(&PostParams::default(), &portal).await?;
            Ok(())
        };
        stream::iter(&self.names).map(create).buffer_unordered(CREATIONS).try_collect().await
    }

    /// Objects that name one of the portals as their owner.
    pub(crate) async fn count_children(&self) -> Result<usize> {
        let is_of_portal = |owners: &[OwnerReference]| {
            owners.iter().any(|owner| owner.kind == HardwarePortal::kind(&()))
        };
        let mut children = 0;
        for kind in owned::kinds() {
            let all = self.namespace.api_of(&kind).list_metadata(&ListParams::default()).await?;
            children += all.iter().filter(|one| is_of_portal(one.owner_references())).count();
        }
        Ok(children)
    }

    /// Some of the portals, evenly spread, as many as asked for even where there are fewer.
    pub(crate) fn sample(&self, number: usize) -> impl Iterator<Item = &String> {
        let step = (self.names.len() / number).max(1);
        self.names.iter().step_by(step).cycle().take(number)
    }
}

/// Deletes every portal and waits until nothing of them is left.
pub(crate) async fn remove(namespace: &Namespace) -> Result<()> {
    let portals = namespace.api::<HardwarePortal>();
    portals.delete_collection(&DeleteParams::background(), &ListParams::default()).await?;
    let started = Instant::now();
    'kinds: for kind in owned::kinds() {
        let objects = namespace.api_of(&kind);
        // Enough to tell; all of them would keep the API server from removing them.
        let some = ListParams::default().limit(20);
        loop {
            let found = objects.list_metadata(&some).await?;
            if !found.iter().any(|one| !one.owner_references().is_empty()) {
                continue 'kinds;
            }
            if started.elapsed() > Duration::from_mins(15) {
                bail!("objects of kind {} are left in {}", kind.kind, namespace.name());
            }
            sleep(Duration::from_secs(1)).await;
        }
    }
    let left = portals.list_metadata(&ListParams::default()).await?.items.len();
    ensure!(left == 0, "{left} portals are left in {}", namespace.name());
    Ok(())
}

//! The operator that is installed: its replicas, and what they say about themselves.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, ObjectList},
};

use crate::{namespace::is_ready, scrape, wait::eventually};

/// Where `deploy/install` puts it.
pub const NAMESPACE: &str = "gill-hicks-system";

/// A replica that does not answer is not ready for longer than its probe takes.
const ANSWERED: Duration = Duration::from_secs(30);

/// The operator's pods.
pub async fn pods(client: &Client) -> Result<ObjectList<Pod>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let selector = ListParams::default().labels("app.kubernetes.io/name=gill-hicks-operator");
    let found = pods.list(&selector).await?;
    ensure!(!found.items.is_empty(), "no pod of the operator runs in {NAMESPACE}");
    Ok(found)
}

/// Who holds the Lease; empty if nobody does.
pub async fn holder(client: &Client) -> Result<String> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let lease = leases.get("gill-hicks-operator").await?;
    Ok(lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default())
}

/// The pod that leads, once there is another one to follow it.
pub async fn leader(client: &Client) -> Result<Pod> {
    let pods = pods(client).await?.items;
    let ready = pods.iter().filter(|pod| is_ready(pod)).count();
    ensure!(ready == 2 && pods.len() == 2, "{ready} of {} replicas are ready", pods.len());
    let holder = holder(client).await?;
    let mut pods = pods.into_iter();
    pods.find(|pod| holder.starts_with(&format!("{}_", pod.name_any()))).context(holder)
}

/// Passes over portals since the start, whatever came of them, of all ready replicas together.
pub async fn passes(client: &Client) -> Result<u64> {
    // One that is called ready may just have ended.
    eventually("the counters of all replicas", ANSWERED, async || {
        let mut passes = 0;
        for pod in pods(client).await?.iter().filter(|pod| is_ready(pod)) {
            let series = scrape::admin_port(pod).await?;
            passes += scrape::count(&series, "reconcile_total", &[]);
        }
        Ok(passes)
    })
    .await
}

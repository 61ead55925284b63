//! The operator that is installed: its replicas, and what they say about themselves.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{apps::v1::Deployment, coordination::v1::Lease, core::v1::Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, ObjectList},
};

use crate::{audit, namespace::is_ready, program::run_in_shell, scrape, wait::eventually};

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

/// The namespaces that `WATCH_NAMESPACES` names; none if it works in all.
pub async fn watched_namespaces(client: &Client) -> Result<Vec<String>> {
    let container = deployment(client).await?.spec.and_then(|spec| spec.template.spec);
    let container = container.and_then(|pod| pod.containers.into_iter().next());
    let environment = container.and_then(|container| container.env).unwrap_or_default();
    let named = environment.into_iter().find(|variable| variable.name == "WATCH_NAMESPACES");
    let named = named.and_then(|variable| variable.value).unwrap_or_default();
    Ok(named.split(',').filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect())
}

/// Its Deployment.
pub async fn deployment(client: &Client) -> Result<Deployment> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    Ok(deployments.get("gill-hicks-operator").await?)
}

/// Whether its account may read the Secrets of a namespace.
pub fn may_read_secrets(namespace: &str) -> Result<bool> {
    // A "no" is an exit status as well.
    let ask = format!(
        "kubectl auth can-i list secrets --namespace {namespace} --as {} || true",
        audit::OPERATOR
    );
    match run_in_shell(&ask)?.trim() {
        "yes" => Ok(true),
        "no" => Ok(false),
        said => anyhow::bail!("kubectl answered \"{said}\""),
    }
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

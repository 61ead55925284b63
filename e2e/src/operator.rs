//! What the running operator says about itself on its admin port.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{ListParams, ObjectList},
};

use crate::scrape;

/// Where `deploy/install` puts it.
pub const NAMESPACE: &str = "gill-hicks-system";

/// The operator's pods.
pub async fn pods(client: &Client) -> Result<ObjectList<Pod>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let selector = ListParams::default().labels("app.kubernetes.io/name=gill-hicks-operator");
    let found = pods.list(&selector).await?;
    ensure!(!found.items.is_empty(), "no pod of the operator runs in {NAMESPACE}");
    Ok(found)
}

/// Passes over portals since the start, whatever came of them, of all replicas together.
pub async fn passes(client: &Client) -> Result<u64> {
    let mut passes = 0;
    for pod in pods(client).await? {
        let series = scrape::admin_port(&pod).await?;
        passes += scrape::count(&series, "reconcile_total", &[]);
    }
    Ok(passes)
}

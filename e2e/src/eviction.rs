//! Ends of pods by the Eviction API, as a node drain asks for them.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::EvictParams};

use crate::{Namespace, namespace::connect_without_retries};

/// What became of a request to evict a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// The pod is on its way out.
    Granted,
    /// 429: the disruption budget allows no more for now.
    TooMany,
}

/// Asks for the end of a pod.
pub async fn evict(namespace: &Namespace, pod: &str) -> Result<Eviction> {
    // Kubernetes says 429 for what the budget forbids.
    let client = connect_without_retries().await?;
    let pods: Api<Pod> = Api::namespaced(client, namespace.name());
    match pods.evict(pod, &EvictParams::default()).await {
        Ok(_) => Ok(Eviction::Granted),
        Err(kube::Error::Api(status)) if status.code == 429 => Ok(Eviction::TooMany),
        Err(error) => Err(error).with_context(|| format!("failed to evict {pod}")),
    }
}

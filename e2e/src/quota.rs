//! A `ResourceQuota` that refuses what a portal needs.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::{Namespace, wait::eventually};

/// Its name, which the API server's refusals contain.
pub const NAME: &str = "tight";

/// Allows at most so many objects of one kind in the namespace, and waits until that is in force.
pub async fn limit(namespace: &Namespace, kind: &str, most: usize) -> Result<()> {
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": NAME},
        "spec": {"hard": {kind: most.to_string()}},
    });
    let parameters = PatchParams::apply("e2e").force();
    let quotas = namespace.api::<ResourceQuota>();
    quotas.patch(NAME, &parameters, &Patch::Apply(quota)).await?;
    // Until its controller has counted what is there, nothing at all is let in.
    eventually(&format!("a count of {kind}"), Duration::from_secs(30), async || {
        let used = quotas.get(NAME).await?.status.and_then(|status| status.used);
        ensure!(used.is_some_and(|used| used.contains_key(kind)), "not counted");
        Ok(())
    })
    .await
}

/// Takes the limit away, if there is one.
pub async fn lift(namespace: &Namespace) -> Result<()> {
    let quotas = namespace.api::<ResourceQuota>();
    if quotas.get_opt(NAME).await?.is_some() {
        quotas.delete(NAME, &DeleteParams::default()).await?;
    }
    Ok(())
}

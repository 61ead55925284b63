//! Portals whose pods are only said to run, on the nodes of `e2e/cluster/cluster kwok-up`.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    api::{ListParams, ObjectList},
};
use serde_json::{Value, json};

/// Fails if there are none, as portals would wait for them for ever.
pub async fn expect_some(client: &Client) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let fake: ObjectList<Node> = nodes.list(&ListParams::default().labels("type=kwok")).await?;
    ensure!(!fake.items.is_empty(), "there are no fake nodes: run 'e2e/cluster/cluster kwok-up'");
    Ok(())
}

/// What brings pods there.
#[must_use]
pub fn scheduling() -> Value {
    json!({
        "nodeSelector": {"type": "kwok"},
        "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}],
    })
}

/// A portal on the embedded database with a fixed number of pods, all on fake nodes.
#[must_use]
pub fn spec(portal_replicas: usize) -> Value {
    json!({
        "hardware": {"scheduling": scheduling()},
        "portal": {
            "replicas": portal_replicas,
            "autoscaling": {"disabled": true},
            "scheduling": scheduling(),
        },
    })
}

//! A portal with nothing chosen: `spec: {}` on the embedded database.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{Namespace, wait::eventually};
use kube::ResourceExt;
use serde_json::json;

#[tokio::test]
async fn an_empty_spec_is_a_complete_portal_and_leaves_nothing_behind() -> Result<()> {
    let namespace = Namespace::open("e2e-embedded").await?;
    namespace.apply_portal("plain", json!({})).await?;
    let portal = namespace.wait_until_ready("plain").await?;

    let unknown =
        |provider: &str, name: &str| (provider.to_owned(), name.to_owned(), "UNKNOWN".to_owned());
    assert_eq!(
        namespace.hardware_rows("plain").await?,
        [unknown("Amazon", "c5"), unknown("Azure", "H16mr")],
        "nothing was observed yet"
    );

    let uid = portal.uid().context("a stored object has a uid")?;
    let owned = namespace.objects_owned_by(&uid).await?;
    ensure!(owned.contains(&"Deployment/plain-hardware".to_owned()), "owned: {owned:?}");
    namespace.delete_portal("plain").await
}

#[tokio::test]
async fn an_entry_added_to_the_catalog_appears_without_a_restart() -> Result<()> {
    let namespace = Namespace::open("e2e-catalog").await?;
    namespace.apply_portal("edited", json!({})).await?;
    namespace.wait_until_ready("edited").await?;
    let before = namespace.hardware_restarts("edited").await?;

    let catalog = json!([
        {"provider": "Amazon", "name": "c5"},
        {"provider": "Azure", "name": "H16mr"},
        {"provider": "Hetzner", "name": "GEX44"},
    ]);
    namespace.apply_portal("edited", json!({"catalog": catalog})).await?;
    // The kubelet brings a changed ConfigMap into the pod within its sync period and cache time.
    eventually("the new entry in /hardware/", Duration::from_mins(2), async || {
        let rows = namespace.hardware_rows("edited").await?;
        ensure!(rows.iter().any(|(_, name, _)| name == "GEX44"), "rows: {rows:?}");
        Ok(())
    })
    .await?;
    assert_eq!(namespace.hardware_restarts("edited").await?, before, "no pod was replaced");
    namespace.delete_portal("edited").await
}

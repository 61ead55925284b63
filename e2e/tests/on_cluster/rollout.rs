//! A new image under load.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{
    Namespace,
    database::Database,
    load::{Connections, Load, Report},
    setting, source,
    wait::eventually,
};
use serde_json::json;

#[tokio::test]
async fn a_new_image_rolls_out_without_a_failed_request() -> Result<()> {
    let (namespace, database) = (Namespace::open("e2e-rollout").await?, Database::from_settings()?);
    let password = database.create_schema("e2e_rollout").await?;
    source::offer(&namespace, &database, "e2e_rollout", &password, source::allow("rolled")).await?;
    namespace.apply_portal("rolled", source::spec()).await?;
    namespace.wait_until_ready("rolled").await?;

    let hardware = format!("{}/hardware/", namespace.url("rolled-hardware").await?);
    let portal = format!("{}/", namespace.url("rolled-portal").await?);
    let loads = [hardware, portal]
        .map(|url| Load::start(&url, 4, Duration::from_millis(10), Connections::Fresh));

    let mut spec = source::spec();
    spec["hardware"] = json!({"image": setting("E2E_NEXT_HARDWARE_IMAGE")?});
    spec["portal"] = json!({"image": setting("E2E_NEXT_PORTAL_IMAGE")?});
    namespace.apply_portal("rolled", spec).await?;
    for (component, image) in
        [("hardware", "E2E_NEXT_HARDWARE_IMAGE"), ("portal", "E2E_NEXT_PORTAL_IMAGE")]
    {
        eventually("only pods of the new image", e2e::namespace::SETTLED, async || {
            let image = setting(image)?;
            let pods = namespace.pods("rolled", component).await?;
            ensure!(!pods.is_empty(), "no {component} pod");
            for pod in pods {
                let spec = pod.spec.context("a pod has a spec")?;
                let found = spec.containers.into_iter().next().and_then(|one| one.image);
                ensure!(found.as_ref() == Some(&image), "a {component} pod still runs {found:?}");
            }
            Ok(())
        })
        .await?;
    }
    namespace.wait_until_ready("rolled").await?;

    for (service, load) in ["hardware", "portal"].into_iter().zip(loads) {
        let Report { requests, failures, slowest } = load.stop().await;
        println!(
            "rollout of {service}: {requests} requests, slowest {slowest:?}, failed {failures:?}"
        );
        ensure!(requests > 200, "too few requests to prove anything: {requests}");
        ensure!(failures.is_empty(), "requests to {service} failed: {failures:?}");
    }
    namespace.delete_portal("rolled").await
}

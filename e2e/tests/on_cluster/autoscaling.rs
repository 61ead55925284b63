//! A real HPA on real load: up within a minute, down again afterwards, and never by our hand.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::{
    Namespace,
    database::Database,
    load::{Connections, Load},
    source,
    wait::eventually,
};
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};

#[tokio::test]
async fn load_raises_replicas_within_a_minute_and_they_fall_again() -> Result<()> {
    let (namespace, database) =
        (Namespace::open("e2e-autoscaling").await?, Database::from_settings()?);
    let password = database.create_schema("e2e_autoscaling").await?;
    source::offer(&namespace, &database, "e2e_autoscaling", &password, source::allow("busy"))
        .await?;
    let scaled = json!({"autoscaling": {
        "minReplicas": 1, "maxReplicas": 3, "cpuUtilization": 70,
        // The defaults wait five minutes before they scale down.
        "behavior": {"scaleDown": {
            "stabilizationWindowSeconds": 0,
            "policies": [{"type": "Pods", "value": 3, "periodSeconds": 5}],
        }},
    }});
    let mut spec = source::spec();
    spec["hardware"] = scaled.clone();
    spec["portal"] = scaled;
    namespace.apply_portal("busy", spec).await?;
    namespace.wait_until_ready("busy").await?;
    namespace.wait_for_condition("busy", "AutoscalingActive", "True").await?;

    // One after the other: this machine has two cores for the load and what it loads.
    for (service, path) in [("busy-hardware", "/hardware/"), ("busy-portal", "/")] {
        wait_for_replicas(&namespace, service, Duration::from_mins(2), |count| count == 1).await?;
        let url = format!("{}{path}", namespace.url(service).await?);
        let started = Instant::now();
        let load = Load::start(&url, 4, Duration::ZERO, Connections::Kept);
        let raised =
            wait_for_replicas(&namespace, service, Duration::from_mins(1), |count| count > 1).await;
        let raised_after = started.elapsed();
        let report = load.stop().await;
        raised?;
        expect_replicas_to_be_of_the_hpa(&namespace, service).await?;

        let stopped = Instant::now();
        wait_for_replicas(&namespace, service, Duration::from_mins(3), |count| count == 1).await?;
        println!(
            "{service}: scaled up after {:.0} s of load ({} requests, {} failed), down {:.0} s after its end",
            raised_after.as_secs_f64(),
            report.requests,
            report.failed(),
            stopped.elapsed().as_secs_f64(),
        );
        ensure!(report.failed() == 0, "failed requests: {:?}", report.failures);
        expect_replicas_to_be_of_the_hpa(&namespace, service).await?;
    }
    namespace.delete_portal("busy").await
}

async fn wait_for_replicas(
    namespace: &Namespace,
    deployment: &str,
    deadline: Duration,
    is_wanted: impl Fn(i32) -> bool,
) -> Result<()> {
    let what = format!("the wanted number of replicas of {deployment}");
    eventually(&what, deadline, async || {
        let found: Deployment = namespace.api().get(deployment).await?;
        let count = found.spec.and_then(|spec| spec.replicas).unwrap_or_default();
        ensure!(is_wanted(count), "it has {count}");
        Ok(())
    })
    .await
}

/// `managedFields` is the API server's own record of who wrote what.
async fn expect_replicas_to_be_of_the_hpa(namespace: &Namespace, deployment: &str) -> Result<()> {
    let found: Deployment = namespace.api().get(deployment).await?;
    let managers = found.metadata.managed_fields.context("a stored object has managed fields")?;
    let owners: Vec<String> = managers
        .into_iter()
        .filter(|entry| {
            let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
            let replicas = fields.and_then(|fields: &Value| fields.pointer("/f:spec/f:replicas"));
            replicas.is_some()
        })
        .filter_map(|entry| entry.manager)
        .collect();
    ensure!(
        owners == ["kube-controller-manager"],
        "spec.replicas of {deployment} belongs to {owners:?}"
    );
    Ok(())
}

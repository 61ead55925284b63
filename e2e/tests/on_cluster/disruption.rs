//! Pods are taken away under load: by the Eviction API, by fewer replicas, by hand, and by force.
#![expect(clippy::print_stdout, reason = "the figures of a run are part of its proof")]

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::{
    Namespace,
    database::Database,
    eviction::{Eviction, evict},
    load::{Connections, Load, Report},
    namespace::{SETTLED, is_ready},
    node::kill,
    source::{self, COMPONENTS, scaled},
    wait::eventually,
};
use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget};
use kube::{ResourceExt, api::DeleteParams};
use serde_json::{Value, json};

const PORTAL: &str = "shaken";

fn fixed(replicas: i32) -> Value {
    scaled(&json!({"autoscaling": {"disabled": true}, "replicas": replicas}))
}

/// Waits until exactly so many pods of a component exist, and all are ready.
async fn wait_for_pods(namespace: &Namespace, component: &str, count: usize) -> Result<Vec<Pod>> {
    let what = format!("{count} ready pods of {component} and no other");
    eventually(&what, SETTLED, async || {
        let mut pods = namespace.pods(PORTAL, component).await?;
        pods.sort_by_key(ResourceExt::name_any);
        let ready = pods.iter().filter(|pod| is_ready(pod)).count();
        ensure!(ready == count && pods.len() == count, "{ready} of {} are ready", pods.len());
        Ok(pods)
    })
    .await
}

/// Waits until the disruption budget has seen that all is well.
async fn wait_for_budget(namespace: &Namespace, component: &str) -> Result<()> {
    let name = format!("{PORTAL}-{component}");
    eventually(&format!("a disruption allowed by {name}"), SETTLED, async || {
        let budget: PodDisruptionBudget = namespace.api().get(&name).await?;
        let allowed = budget.status.map(|status| status.disruptions_allowed);
        ensure!(allowed == Some(1), "it allows {allowed:?}");
        Ok(())
    })
    .await
}

/// Does something to both components under load, and gives what became of the requests to each. A new
/// connection for each request: a kept one would stay with its pod.
async fn under_load<F>(
    namespace: &Namespace,
    what: &str,
    disturb: impl FnOnce() -> F,
) -> Result<Vec<Report>>
where
    F: Future<Output = Result<()>>,
{
    let mut loads = Vec::new();
    for (component, path) in COMPONENTS.into_iter().zip(["/hardware/", "/"]) {
        let url = namespace.url(&format!("{PORTAL}-{component}")).await?;
        let pause = Duration::from_millis(10);
        loads.push(Load::start(&format!("{url}{path}"), 3, pause, Connections::Fresh));
    }
    let disturbed = disturb().await;
    let mut reports = Vec::new();
    for (component, load) in COMPONENTS.into_iter().zip(loads) {
        let report = load.stop().await;
        let Report { requests, failures, slowest } = &report;
        println!(
            "{what}, {component}: {requests} requests, slowest {slowest:?}, failed {failures:?}"
        );
        reports.push(report);
    }
    disturbed?;
    Ok(reports)
}

fn expect_no_failure(what: &str, reports: &[Report]) -> Result<()> {
    for Report { requests, failures, .. } in reports {
        ensure!(*requests > 200, "{what}: too few requests to prove anything: {requests}");
        ensure!(failures.is_empty(), "{what}: requests failed: {failures:?}");
    }
    Ok(())
}

/// Two pods: the budget lets one go, refuses the other for as long as the first has no successor, and
/// then lets it go as well.
async fn drain(namespace: &Namespace) -> Result<()> {
    for component in COMPONENTS {
        let before = wait_for_pods(namespace, component, 2).await?;
        wait_for_budget(namespace, component).await?;
        let (first, second) = (before[0].name_any(), before[1].name_any());
        assert_eq!(evict(namespace, &first).await?, Eviction::Granted, "{first}");
        assert_eq!(evict(namespace, &second).await?, Eviction::TooMany, "{second}, too early");
        eventually(&format!("an eviction of {second}"), SETTLED, async || {
            let outcome = evict(namespace, &second).await?;
            ensure!(outcome == Eviction::Granted, "the budget does not allow it yet");
            Ok(())
        })
        .await?;
        let after = wait_for_pods(namespace, component, 2).await?;
        let stayed = |pod: &&Pod| before.iter().any(|it| it.uid() == pod.uid());
        assert_eq!(after.iter().filter(stayed).count(), 0, "both were replaced");
    }
    Ok(())
}

#[tokio::test]
async fn pods_that_are_taken_away_gracefully_fail_no_request() -> Result<()> {
    let (namespace, database) =
        (Namespace::open("e2e-disruption").await?, Database::from_settings()?);
    let password = database.create_schema("e2e_disruption").await?;
    source::offer(&namespace, &database, "e2e_disruption", &password, source::allow(PORTAL))
        .await?;
    namespace.apply_portal(PORTAL, fixed(2)).await?;
    namespace.wait_until_ready(PORTAL).await?;

    let reports = under_load(&namespace, "evictions", || drain(&namespace)).await?;
    expect_no_failure("evictions", &reports)?;

    let reports = under_load(&namespace, "deleted pods", async || {
        for component in COMPONENTS {
            let pods = wait_for_pods(&namespace, component, 2).await?;
            let name = pods[0].name_any();
            namespace.api::<Pod>().delete(&name, &DeleteParams::default()).await?;
        }
        for component in COMPONENTS {
            wait_for_pods(&namespace, component, 2).await?;
        }
        Ok(())
    })
    .await?;
    expect_no_failure("deleted pods", &reports)?;

    let reports = under_load(&namespace, "one replica less", async || {
        namespace.apply_portal(PORTAL, fixed(1)).await?;
        for component in COMPONENTS {
            wait_for_pods(&namespace, component, 1).await?;
        }
        Ok(())
    })
    .await?;
    expect_no_failure("one replica less", &reports)?;

    namespace.apply_portal(PORTAL, fixed(2)).await?;
    for component in COMPONENTS {
        wait_for_pods(&namespace, component, 2).await?;
    }
    // So many percent of so little CPU that one pod is enough.
    let automatic = json!({"autoscaling": {
        "minReplicas": 1, "maxReplicas": 2, "cpuUtilization": 1000,
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
    }});
    let reports = under_load(&namespace, "an autoscaler's way down", async || {
        namespace.apply_portal(PORTAL, scaled(&automatic)).await?;
        for component in COMPONENTS {
            wait_for_pods(&namespace, component, 1).await?;
        }
        Ok(())
    })
    .await?;
    expect_no_failure("an autoscaler's way down", &reports)?;

    // Without a warning, requests under way are lost: how many is printed. The pod comes back.
    namespace.apply_portal(PORTAL, fixed(2)).await?;
    for component in COMPONENTS {
        wait_for_pods(&namespace, component, 2).await?;
    }
    let reports = under_load(&namespace, "killed processes", async || {
        for component in COMPONENTS {
            let pods = wait_for_pods(&namespace, component, 2).await?;
            kill(&pods[0])?;
            let name = pods[0].name_any();
            eventually(&format!("a restart of {name}"), SETTLED, async || {
                let pod: Pod = namespace.api().get(&name).await?;
                let containers = pod.status.and_then(|status| status.container_statuses);
                let restarts: i32 = containers.iter().flatten().map(|it| it.restart_count).sum();
                ensure!(restarts == 1, "it was restarted {restarts} times");
                Ok(())
            })
            .await?;
            wait_for_pods(&namespace, component, 2).await?;
        }
        Ok(())
    })
    .await?;
    for Report { requests, failures, .. } in &reports {
        let failed: u64 = failures.values().sum();
        // One pod of two was gone at a time, and only until its address was taken out.
        ensure!(failed < requests / 2, "{failed} of {requests} requests failed: {failures:?}");
    }
    namespace.wait_until_ready(PORTAL).await?;
    namespace.delete_portal(PORTAL).await
}

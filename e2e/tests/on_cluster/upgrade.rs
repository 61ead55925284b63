//! Another version of the operator takes over, and back. Nothing that runs for users notices.
#![expect(clippy::print_stdout, reason = "the figures of a run are part of its proof")]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use e2e::{
    Namespace,
    load::{Connections, Load},
    namespace::SETTLED,
    neighbour::{Neighbour, small},
    operator, setting,
    wait::eventually,
};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;

const OPERATOR: &str = "gill-hicks-operator";

fn image_of(pod: &Pod) -> Option<&String> {
    pod.spec.as_ref()?.containers.first()?.image.as_ref()
}

async fn operators_image(client: &Client) -> Result<String> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), operator::NAMESPACE);
    let spec = deployments.get(OPERATOR).await?.spec.and_then(|spec| spec.template.spec);
    let image = spec.and_then(|pod| pod.containers.into_iter().next()).and_then(|one| one.image);
    image.context("the operator's Deployment has an image")
}

/// Gives the operator another image, and waits until only that one runs.
async fn run_operator(client: &Client, image: &str) -> Result<()> {
    let started = Instant::now();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), operator::NAMESPACE);
    let patch = json!({"spec": {"template": {"spec": {
        "containers": [{"name": "operator", "image": image}],
    }}}});
    deployments.patch(OPERATOR, &PatchParams::default(), &Patch::Strategic(patch)).await?;
    eventually(&format!("an operator of {image} alone"), SETTLED, async || {
        let deployment = deployments.get(OPERATOR).await?;
        let wanted = deployment.spec.and_then(|spec| spec.replicas);
        let ready = deployment.status.and_then(|status| status.ready_replicas);
        ensure!(wanted == ready, "{ready:?} of {wanted:?} are ready");
        for pod in operator::pods(client).await? {
            let found = image_of(&pod);
            ensure!(found.is_some_and(|it| it == image), "{} runs {found:?}", pod.name_any());
        }
        Ok(())
    })
    .await?;
    println!("operator {image} took over within {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Of each pod its uid and restarts, of each Deployment its generation: what a restart would change.
async fn what_runs(namespace: &Namespace) -> Result<BTreeMap<String, (String, i64)>> {
    let mut all = BTreeMap::new();
    for pod in namespace.api::<Pod>().list(&ListParams::default()).await? {
        let containers = pod.status.iter().flat_map(|status| &status.container_statuses).flatten();
        let restarts: i32 = containers.map(|container| container.restart_count).sum();
        let uid = pod.uid().unwrap_or_default();
        all.insert(format!("Pod/{}", pod.name_any()), (uid, i64::from(restarts)));
    }
    for deployment in namespace.api::<Deployment>().list(&ListParams::default()).await? {
        let uid = deployment.uid().unwrap_or_default();
        let generation = deployment.metadata.generation.unwrap_or_default();
        all.insert(format!("Deployment/{}", deployment.name_any()), (uid, generation));
    }
    Ok(all)
}

#[tokio::test]
async fn another_version_of_the_operator_and_the_way_back_restart_no_pod_of_a_user() -> Result<()> {
    let namespace = Namespace::open("e2e-upgrade").await?;
    let mut neighbour = Neighbour::start(&namespace).await?;
    let mut spec = small();
    spec["portal"]["autoscaling"] = json!({"minReplicas": 2, "maxReplicas": 2});
    namespace.apply_portal("steady", spec).await?;
    namespace.wait_until_ready("steady").await?;
    let client = namespace.client();
    let old = operators_image(&client).await?;
    let before = what_runs(&namespace).await?;
    ensure!(before.len() == 5 + 4, "something else runs here: {before:?}");
    let url = format!("{}/", namespace.url("steady-portal").await?);
    let load = Load::start(&url, 2, Duration::from_millis(20), Connections::Fresh);

    let walked = there_and_back(&client, &old, &mut neighbour).await;
    // The other tests share this operator.
    run_operator(&client, &old).await?;
    walked?;
    let report = load.stop().await;
    println!("upgrade and downgrade: {} requests, failed {:?}", report.requests, report.failures);
    ensure!(report.requests > 200, "too few requests to prove anything: {}", report.requests);
    ensure!(report.failures.is_empty(), "requests failed: {:?}", report.failures);
    assert_eq!(what_runs(&namespace).await?, before, "something was restarted or rolled out");
    namespace.delete_portal("steady").await?;
    namespace.delete_portal("neighbour").await
}

/// Each version works: an edit reaches the child.
async fn there_and_back(client: &Client, old: &str, neighbour: &mut Neighbour) -> Result<()> {
    for image in [&setting("E2E_NEXT_OPERATOR_IMAGE")?, old] {
        run_operator(client, image).await?;
        let took = neighbour.expect_to_go_on().await?;
        println!("operator {image}: an edit is in the child after {took:?}");
    }
    Ok(())
}

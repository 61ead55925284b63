//! A rotation of the database credential under a load through the store: by the operator, and the usual
//! way. The usual way is a Deployment of the same image with the credential in its environment: a
//! rotation function gives the one account another password, External Secrets replaces the Secret, and
//! Reloader restarts the Deployment. Neither of the two is installed; what they do is done at once here,
//! without the hour that External Secrets may take to notice.
//!
//! The load begins when the credential changes, as traffic does that rises at the wrong time: it needs
//! connections that the pods have not opened yet. Those that are open stay open on either way.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::{
    Namespace,
    database::{Database, random_password},
    rotation::{last_rotation, published, wait_for_rotation},
    source,
    store_load::{Figures, StoreLoad},
    wait::eventually,
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{ConfigMap, Secret, Service},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PropagationPolicy},
    core::NamespaceResourceScope,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::figure::{Figure, Goal};

/// The portal that the operator looks after. Its Deployment is the model for the other one.
const OURS: &str = "bench-ours";
const USUAL: &str = "bench-usual";
/// Longer than a rollout of two pods takes on a busy machine.
const ROLLED_OUT: Duration = Duration::from_mins(4);
/// How long each load goes on after what is measured.
const CALM: Duration = Duration::from_secs(3);

/// What a rotation came to.
struct Rotated {
    figures: Figures,
    /// From the change of the source until the old credential was refused by the server.
    old_is_dead: Duration,
    /// From the change of the source until every pod held the new credential.
    all_have_new: Duration,
}

/// Measures both in a namespace of the operator, one after the other.
pub(crate) async fn measure(namespace: &str, found: &mut impl FnMut(Figure)) -> Result<()> {
    let (namespace, database) = (Namespace::keep(namespace).await?, Database::from_settings()?);
    clean_up(&namespace).await?;
    let outcome = measure_both(&namespace, &database, found).await;
    clean_up(&namespace).await?;
    outcome
}

async fn measure_both(
    namespace: &Namespace,
    database: &Database,
    found: &mut impl FnMut(Figure),
) -> Result<()> {
    start_ours(namespace, database).await?;
    let ours = rotate_ours(namespace, database).await?;
    eprintln!("bench: rotation by the operator: {}", ours.figures);
    ours.figures.expect_no_failure()?;
    let password = start_usual(namespace, database).await?;
    namespace.delete_portal(OURS).await?;
    let usual = rotate_usual(namespace, database, &password).await?;
    eprintln!("bench: rotation the usual way: {} {:?}", usual.figures, usual.figures.failures);
    for (name, rotated, is_ours) in [("operator", ours, true), ("usual_way", usual, false)] {
        report(name, &rotated, is_ours, found);
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts of a few thousand")]
fn report(name: &str, rotated: &Rotated, is_ours: bool, found: &mut impl FnMut(Figure)) {
    let Rotated { figures, old_is_dead, all_have_new } = rotated;
    let mut count = |what: &str, value: f64, unit: &'static str, most: f64| {
        let figure = Figure::new(format!("rotation_{name}_{what}"), value, unit);
        found(if is_ours { figure.with_goal(Goal::AtMost(most)) } else { figure });
    };
    let failed_requests: u64 = figures.failures.values().sum();
    count("failed_store_operations", figures.store_failed as f64, "operations", 0.0);
    count("failed_requests", failed_requests as f64, "requests", 0.0);
    count("denied_logins", figures.denied as f64, "logins", 0.0);
    count("replaced_pods", figures.pods_replaced as f64, "pods", 0.0);
    count("old_credential_dead_after", old_is_dead.as_secs_f64(), "s", 30.0);
    count("new_credential_in_all_pods_after", all_have_new.as_secs_f64(), "s", 30.0);
}

/// Ours, with a source that is looked at every ten seconds.
async fn start_ours(namespace: &Namespace, database: &Database) -> Result<()> {
    let mut spec = source::rotating("AlternatingUsers");
    let mysql = &mut spec["database"]["mysql"];
    mysql["rotation"]["pollInterval"] = json!("10s");
    mysql["source"]["secret"]["name"] = json!(OURS);
    mysql["tls"]["ca"]["configMapKeyRef"]["name"] = json!(OURS);
    mysql["deletionPolicy"] = json!("DropAccounts");
    let password = database.create_root("bench_ours").await?;
    let data = source::data(database, "bench_ours", "bench_ours", &password)?;
    namespace.apply_secret(OURS, source::allow(OURS), data).await?;
    write_authority(namespace, database, OURS).await?;
    namespace.apply_portal(OURS, spec).await?;
    namespace.wait_until_ready(OURS).await.map(drop)
}

/// The root's password changes on the server, then in the source.
async fn rotate_ours(namespace: &Namespace, database: &Database) -> Result<Rotated> {
    let (_, before) = published(namespace, OURS).await?;
    let (user, password) = &before[0];
    let last = last_rotation(namespace, OURS).await?;
    let changed = random_password()?;
    let alter = format!("ALTER USER 'bench_ours'@'%' IDENTIFIED BY '{changed}'");
    database.execute(&alter).await?;
    let data = source::data(database, "bench_ours", "bench_ours", &changed)?;
    let started = Instant::now();
    namespace.apply_secret(OURS, source::allow(OURS), data).await?;
    let load = StoreLoad::start(namespace, OURS, database).await?;
    // Its end is what the operator says after the server has refused the old login.
    let ended = wait_for_rotation(namespace, OURS, last.generation).await?;
    let old_is_dead = started.elapsed();
    database.expect_denied(user, password).await?;
    tokio::time::sleep(CALM).await;
    let (adopted, revoked) = (ended.adopted_at, ended.revoked_at);
    let before_the_end = adopted.zip(revoked).map(|(adopted, revoked)| {
        Duration::try_from(revoked.0.duration_since(adopted.0)).unwrap_or_default()
    });
    let before_the_end = before_the_end.context("it was adopted and revoked")?;
    Ok(Rotated {
        figures: load.stop(database).await?,
        old_is_dead,
        all_have_new: old_is_dead.saturating_sub(before_the_end),
    })
}

/// A Deployment, a Service and a Secret of a person's own, with the pods that the operator would run.
async fn start_usual(namespace: &Namespace, database: &Database) -> Result<String> {
    let password = database.create_schema("bench_usual").await?;
    write_usual_secret(namespace, database, &password).await?;
    write_authority(namespace, database, USUAL).await?;
    let token = random_password()?;
    namespace
        .apply_secret(&format!("{USUAL}-observations"), json!({}), json!({"token": token}))
        .await?;
    let pod = usual_pod(namespace).await?;
    migrate(namespace, &pod).await?;
    let labels = json!({
        "app.kubernetes.io/instance": USUAL, "app.kubernetes.io/component": "hardware",
    });
    let name = format!("{USUAL}-hardware");
    apply::<Service>(
        namespace,
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": labels, "ports": [{"port": 5001, "targetPort": "http"}]},
        }),
    )
    .await?;
    apply::<Deployment>(
        namespace,
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": {
                "replicas": 2,
                "minReadySeconds": 3,
                "selector": {"matchLabels": labels},
                "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }),
    )
    .await?;
    wait_for_rollout(namespace).await?;
    Ok(password)
}

/// The pod of the operator's Deployment with the same probes, hooks and limits, but its credential in
/// the environment.
async fn usual_pod(namespace: &Namespace) -> Result<Value> {
    let ours: Deployment = namespace.api().get(&format!("{OURS}-hardware")).await?;
    let pod = ours.spec.and_then(|spec| spec.template.spec).context("a Deployment has a pod")?;
    let mut pod = serde_json::to_value(pod)?;
    let variable = |name: &str, value: &str| json!({"name": name, "value": value});
    let container = &mut pod["containers"][0];
    let env = container["env"].as_array().cloned().unwrap_or_default();
    let is_kept = |one: &Value| {
        ["DRAIN_DELAY", "SHUTDOWN_DEADLINE", "REFRESH_INTERVAL"]
            .iter()
            .any(|name| one["name"] == *name)
    };
    let mut env: Vec<Value> = env.into_iter().filter(is_kept).collect();
    env.push(variable("MYSQL_TLS_CA_FILE", "/etc/ca/ca.pem"));
    env.push(json!({
        "name": "OBSERVATIONS_TOKEN",
        "valueFrom": {"secretKeyRef": {"name": format!("{USUAL}-observations"), "key": "token"}},
    }));
    container["env"] = json!(env);
    container["envFrom"] = json!([{"secretRef": {"name": USUAL}}]);
    container["volumeMounts"] = json!([{"name": "ca", "mountPath": "/etc/ca"}]);
    pod["volumes"] = json!([{"name": "ca", "configMap": {"name": USUAL}}]);
    for of_the_operator in ["serviceAccountName", "serviceAccount", "topologySpreadConstraints"] {
        pod.as_object_mut().context("a pod's spec")?.remove(of_the_operator);
    }
    Ok(pod)
}

async fn migrate(namespace: &Namespace, pod: &Value) -> Result<()> {
    let mut pod = pod.clone();
    let container = pod["containers"][0].as_object_mut().context("a container")?;
    for of_a_server in ["startupProbe", "livenessProbe", "readinessProbe", "lifecycle", "ports"] {
        container.remove(of_a_server);
    }
    container.insert("args".to_owned(), json!(["migrate"]));
    pod["restartPolicy"] = json!("Never");
    apply::<Job>(
        namespace,
        json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": USUAL},
            "spec": {"template": {"spec": pod}},
        }),
    )
    .await?;
    eventually("the schema", ROLLED_OUT, async || {
        let job: Job = namespace.api().get(USUAL).await?;
        let succeeded = job.status.and_then(|status| status.succeeded);
        ensure!(succeeded == Some(1), "the Job has not succeeded");
        Ok(())
    })
    .await
}

async fn rotate_usual(
    namespace: &Namespace,
    database: &Database,
    password: &str,
) -> Result<Rotated> {
    let changed = random_password()?;
    let started = Instant::now();
    // The function of a single user changes the server first; from here on the old one is refused.
    let alter = format!("ALTER USER 'bench_usual'@'%' IDENTIFIED BY '{changed}'");
    database.execute(&alter).await?;
    let old_is_dead = started.elapsed();
    database.expect_denied("bench_usual", password).await?;
    let load = StoreLoad::start(namespace, USUAL, database).await?;
    write_usual_secret(namespace, database, &changed).await?;
    let restart = json!({"spec": {"template": {"metadata": {"annotations": {
        "reloader.stakater.com/last-reloaded-from": format!("{USUAL} at {started:?}"),
    }}}}});
    let deployments = namespace.api::<Deployment>();
    let name = format!("{USUAL}-hardware");
    deployments.patch(&name, &PatchParams::default(), &Patch::Merge(restart)).await?;
    wait_for_rollout(namespace).await?;
    let all_have_new = started.elapsed();
    tokio::time::sleep(CALM).await;
    Ok(Rotated { figures: load.stop(database).await?, old_is_dead, all_have_new })
}

async fn write_usual_secret(
    namespace: &Namespace,
    database: &Database,
    password: &str,
) -> Result<()> {
    let data = source::data(database, "bench_usual", "bench_usual", password)?;
    namespace.apply_secret(USUAL, json!({}), data).await
}

async fn write_authority(namespace: &Namespace, database: &Database, name: &str) -> Result<()> {
    let authority = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
        "data": {"ca.pem": database.authority()?},
    });
    apply::<ConfigMap>(namespace, authority).await
}

/// Until only pods of the latest template run; those before are on their way out.
async fn wait_for_rollout(namespace: &Namespace) -> Result<()> {
    eventually("a rollout", ROLLED_OUT, async || {
        let found: Deployment = namespace.api().get(&format!("{USUAL}-hardware")).await?;
        let status = found.status.context("a status")?;
        ensure!(status.observed_generation == found.metadata.generation, "it is not begun");
        let counts = [
            status.replicas,
            status.updated_replicas,
            status.ready_replicas,
            status.available_replicas,
        ];
        ensure!(counts == [Some(2); 4], "pods, new, ready and available ones: {counts:?}");
        let pods = namespace.running_pods(USUAL, "hardware").await?;
        ensure!(pods.len() == 2, "{} pods are not on their way out", pods.len());
        Ok(())
    })
    .await
}

async fn apply<K>(namespace: &Namespace, object: Value) -> Result<()>
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Serialize,
{
    let name = object["metadata"]["name"].as_str().context("a name")?.to_owned();
    let objects: Api<K> = namespace.api();
    let parameters = PatchParams::apply("bench").force();
    objects.patch(&name, &parameters, &Patch::Apply(object)).await?;
    Ok(())
}

/// Also what an interrupted run left.
async fn clean_up(namespace: &Namespace) -> Result<()> {
    namespace.delete_portal(OURS).await?;
    let server = format!("{USUAL}-hardware");
    delete::<Deployment>(namespace, &server).await?;
    delete::<Service>(namespace, &server).await?;
    delete::<Job>(namespace, USUAL).await?;
    for name in [USUAL.to_owned(), OURS.to_owned(), format!("{USUAL}-observations")] {
        delete::<Secret>(namespace, &name).await?;
    }
    for name in [USUAL, OURS] {
        delete::<ConfigMap>(namespace, name).await?;
    }
    eventually("the end of all pods", ROLLED_OUT, async || {
        let pods = namespace.pods(USUAL, "hardware").await?;
        let names: Vec<String> = pods.iter().map(ResourceExt::name_any).collect();
        ensure!(names.is_empty(), "there are {}", names.join(", "));
        Ok(())
    })
    .await
}

async fn delete<K>(namespace: &Namespace, name: &str) -> Result<()>
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let parameters = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        ..DeleteParams::default()
    };
    match namespace.api::<K>().delete(name, &parameters).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

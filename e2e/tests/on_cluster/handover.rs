//! The number of pods passes from one hand to another without a pod too few at any moment.
#![expect(clippy::print_stdout, reason = "the figures of a run are part of its proof")]

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use e2e::{
    Namespace,
    database::Database,
    load::{Connections, Load},
    namespace::SETTLED,
    source::{self, COMPONENTS, scaled},
    wait::{eventually, throughout},
};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::{apps::v1::Deployment, autoscaling::v2::HorizontalPodAutoscaler};
use kube::{
    Api,
    api::{Patch, PatchParams, WatchEvent, WatchParams},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const PORTAL: &str = "handed";

/// One stored version of a Deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moment {
    wanted: i32,
    ready: i32,
}

impl Moment {
    fn of(deployment: &Deployment) -> Self {
        let spec = deployment.spec.as_ref();
        let status = deployment.status.as_ref();
        Self {
            wanted: spec.and_then(|spec| spec.replicas).unwrap_or_default(),
            ready: status.and_then(|status| status.ready_replicas).unwrap_or_default(),
        }
    }
}

/// Every version of a Deployment that the API server stores, as a watch gets them: what looks now and
/// then would miss a number that is written and corrected at once.
struct Record {
    moments: Arc<Mutex<Vec<Moment>>>,
    watch: JoinHandle<Result<()>>,
}

impl Record {
    async fn start(namespace: &Namespace, name: &str) -> Result<Self> {
        let deployments: Api<Deployment> = namespace.api();
        let first = deployments.get(name).await?;
        let moments = Arc::new(Mutex::new(vec![Moment::of(&first)]));
        let seen = Arc::clone(&moments);
        let only = format!("metadata.name={name}");
        let version = first.metadata.resource_version.context("a stored object has a version")?;
        let watch = tokio::spawn(async move {
            let parameters = WatchParams::default().fields(&only);
            let mut events = deployments.watch(&parameters, &version).await?.boxed();
            while let Some(event) = events.try_next().await? {
                if let WatchEvent::Modified(deployment) = event {
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.push(Moment::of(&deployment));
                }
            }
            anyhow::bail!("the watch ended: a version may have been missed")
        });
        Ok(Self { moments, watch })
    }

    /// Every version so far. Fails if one may have been missed.
    async fn stop(self) -> Result<Vec<Moment>> {
        if self.watch.is_finished() {
            self.watch.await??;
        } else {
            self.watch.abort();
        }
        Ok(self.moments.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

async fn wait_for_ready_replicas(namespace: &Namespace, name: &str, count: i32) -> Result<()> {
    eventually(&format!("{count} ready pods of {name}"), SETTLED, async || {
        let found = Moment::of(&namespace.api::<Deployment>().get(name).await?);
        ensure!(found == Moment { wanted: count, ready: count }, "it has {found:?}");
        Ok(())
    })
    .await
}

/// Who has written `spec.replicas`, by the API server's own record.
async fn managers_of_replicas(namespace: &Namespace, name: &str) -> Result<Vec<String>> {
    let found: Deployment = namespace.api().get(name).await?;
    let managers = found.metadata.managed_fields.context("a stored object has managed fields")?;
    let of_replicas = managers.into_iter().filter(|entry| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        fields.is_some_and(|fields: &Value| fields.pointer("/f:spec/f:replicas").is_some())
    });
    Ok(of_replicas.filter_map(|entry| entry.manager).collect())
}

#[tokio::test]
async fn switching_autoscaling_on_and_off_under_load_never_takes_a_pod_away() -> Result<()> {
    let (namespace, database) =
        (Namespace::open("e2e-handover").await?, Database::from_settings()?);
    let password = database.create_schema("e2e_handover").await?;
    source::offer(&namespace, &database, "e2e_handover", &password, source::allow(PORTAL)).await?;
    let off = json!({"autoscaling": {"disabled": true}});
    let names = COMPONENTS.map(|component| format!("{PORTAL}-{component}"));
    namespace.apply_portal(PORTAL, scaled(&off)).await?;
    namespace.wait_until_ready(PORTAL).await?;
    let (mut loads, mut records) = (Vec::new(), Vec::new());
    for (name, path) in names.iter().zip(["/hardware/", "/"]) {
        wait_for_ready_replicas(&namespace, name, 2).await?;
        let url = format!("{}{path}", namespace.url(name).await?);
        loads.push(Load::start(&url, 3, Duration::from_millis(10), Connections::Fresh));
        records.push(Record::start(&namespace, name).await?);
    }

    // Its least is more than what runs, so that the number is the autoscaler's own doing.
    let on = json!({"autoscaling": {"minReplicas": 3, "maxReplicas": 4, "cpuUtilization": 1000}});
    namespace.apply_portal(PORTAL, scaled(&on)).await?;
    for name in &names {
        wait_for_ready_replicas(&namespace, name, 3).await?;
        assert_eq!(managers_of_replicas(&namespace, name).await?, ["kube-controller-manager"]);
    }
    namespace.apply_portal(PORTAL, scaled(&off)).await?;
    eventually("the end of the autoscalers", SETTLED, async || {
        for name in &names {
            let scaler = namespace.api::<HorizontalPodAutoscaler>().get_opt(name).await?;
            ensure!(scaler.is_none(), "{name} still has one");
        }
        Ok(())
    })
    .await?;
    namespace.wait_until_ready(PORTAL).await?;
    throughout("what the autoscalers had reached goes on", Duration::from_secs(10), async || {
        for name in &names {
            let found = Moment::of(&namespace.api::<Deployment>().get(name).await?);
            ensure!(found == Moment { wanted: 3, ready: 3 }, "{name} has {found:?}");
        }
        Ok(())
    })
    .await?;
    for name in &names {
        let managers = managers_of_replicas(&namespace, name).await?;
        ensure!(
            managers.iter().any(|it| it == "gill-hicks-operator/replicas"),
            "spec.replicas of {name} belongs to {managers:?}"
        );
    }

    for (name, (load, record)) in names.iter().zip(loads.into_iter().zip(records)) {
        let report = load.stop().await;
        let moments = record.stop().await?;
        let least = moments.iter().map(|it| it.wanted.min(it.ready)).min().unwrap_or_default();
        println!(
            "{name}: {} requests, failed {:?}, {} versions of the Deployment, never fewer than {least} pods",
            report.requests,
            report.failures,
            moments.len()
        );
        ensure!(report.failures.is_empty(), "requests to {name} failed: {:?}", report.failures);
        ensure!(report.requests > 200, "too few requests to prove anything: {}", report.requests);
        let fell = moments
            .windows(2)
            .find(|pair| pair[1].wanted < pair[0].wanted || pair[1].ready < pair[0].ready);
        ensure!(fell.is_none(), "{name} had fewer pods than before: {fell:?}");
    }
    a_foreign_scaler_is_respected(&namespace, &names).await?;
    namespace.delete_portal(PORTAL).await
}

/// With autoscaling off and no number in the spec, whoever scales the Deployments decides, as KEDA does.
async fn a_foreign_scaler_is_respected(namespace: &Namespace, names: &[String]) -> Result<()> {
    let deployments = namespace.api::<Deployment>();
    let parameters =
        PatchParams { field_manager: Some("e2e-scaler".into()), ..PatchParams::default() };
    for name in names {
        let scale = json!({"spec": {"replicas": 1}});
        deployments.patch_scale(name, &parameters, &Patch::Merge(scale)).await?;
        wait_for_ready_replicas(namespace, name, 1).await?;
    }
    let mut records = Vec::new();
    for name in names {
        records.push(Record::start(namespace, name).await?);
    }
    // The operator writes both Deployments, and not the number in them.
    let mut edited = scaled(&json!({
        "autoscaling": {"disabled": true}, "podAnnotations": {"e2e.example/edited": "yes"},
    }));
    edited["portal"]["title"] = json!("Scaled by somebody else");
    namespace.apply_portal(PORTAL, edited).await?;
    namespace.wait_until_ready(PORTAL).await?;
    eventually("the end of the rollouts", SETTLED, async || {
        for name in names {
            let deployment = deployments.get(name).await?;
            let (meta, status) = (&deployment.metadata, deployment.status.unwrap_or_default());
            ensure!(
                status.observed_generation == meta.generation
                    && (status.replicas, status.updated_replicas) == (Some(1), Some(1)),
                "{name} is at {status:?}"
            );
        }
        Ok(())
    })
    .await?;
    for (name, record) in names.iter().zip(records) {
        let moments = record.stop().await?;
        ensure!(moments.len() > 1, "{name} was not written at all");
        ensure!(moments.iter().all(|it| it.wanted == 1), "somebody scaled {name}: {moments:?}");
        assert_eq!(managers_of_replicas(namespace, name).await?, ["e2e-scaler"]);
    }
    println!("a foreign scaler's number stayed through a rollout of both Deployments");
    Ok(())
}

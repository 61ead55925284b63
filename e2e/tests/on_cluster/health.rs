//! The tools that deliver a portal read it as what it is: kstatus (Flux, Helm, kpt), Argo CD and
//! `kubectl wait`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use crds::HardwarePortal;
use e2e::{
    Namespace,
    health::{
        ARGO_CD_SCRIPT, argo_cd, expect_health, expect_kubectl_to_wait, kstatus, kubectl_wait,
        wait_for_health,
    },
    namespace::SETTLED,
    neighbour::small,
    program::{read_page, run_in_root, run_in_shell},
    quota, setting,
    wait::eventually,
};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::ConfigMap};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

/// No operator works in it. Without the prefix by which `e2e/run` finds the namespaces that it gives to
/// the operator.
const UNWATCHED: &str = "unwatched";

const DELIVERED: [&str; 2] = ["Current", "Healthy"];
const ON_ITS_WAY: [&str; 2] = ["InProgress", "Progressing"];
const REFUSED: [&str; 2] = ["Failed", "Degraded"];

/// Nothing runs yet, and a status that is merely missing would be read as Current.
#[tokio::test]
async fn a_portal_that_no_operator_has_seen_is_in_progress() -> Result<()> {
    run_in_shell(&format!(
        "kubectl create namespace {UNWATCHED} --dry-run=client --output yaml | kubectl apply --server-side --filename -"
    ))?;
    let namespace = Namespace::open(UNWATCHED).await?;
    namespace.apply_portal("unseen", small()).await?;
    let (portal, _) = expect_health(&namespace, "unseen", ON_ITS_WAY).await?;
    assert_eq!(portal["status"], json!({"observedGeneration": -1}));
    expect_kubectl_to_wait(&namespace, "unseen")?;
    namespace.delete_portal("unseen").await
}

#[tokio::test]
async fn a_rollout_is_in_progress_until_the_last_pod_is_new() -> Result<()> {
    let namespace = Namespace::open("e2e-health-rollout").await?;
    namespace.apply_portal("rolling", small()).await?;
    expect_delivered_once_it_is(&namespace, "rolling", None).await?;
    kubectl_wait(&namespace, "rolling", "5s")?;

    let (mut spec, image) = (small(), setting("E2E_NEXT_PORTAL_IMAGE")?);
    spec["portal"]["image"] = json!(image);
    namespace.apply_portal("rolling", spec).await?;
    // Not only as its generation is a new one: the operator says that it is at work.
    eventually("a rollout that is said", SETTLED, async || {
        let (portal, verdicts) = expect_health(&namespace, "rolling", ON_ITS_WAY).await?;
        ensure!(
            portal["status"]["observedGeneration"] == portal["metadata"]["generation"],
            "the operator has not seen the edit yet: {verdicts:?}"
        );
        Ok(())
    })
    .await?;
    expect_delivered_once_it_is(&namespace, "rolling", Some(&image)).await?;
    kubectl_wait(&namespace, "rolling", "5s")?;
    namespace.delete_portal("rolling").await
}

/// Waits until the portal is called delivered, and fails if it was not when it was first called so.
async fn expect_delivered_once_it_is(
    namespace: &Namespace,
    portal: &str,
    image: Option<&str>,
) -> Result<()> {
    wait_for_health(namespace, portal, DELIVERED).await?;
    for component in ["hardware", "portal"] {
        let deployment: Deployment = namespace.api().get(&format!("{portal}-{component}")).await?;
        let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
        let status = deployment.status.context("a Deployment has a status")?;
        assert_eq!(status.observed_generation, deployment.metadata.generation, "{component}");
        for (what, found) in [
            ("updated", status.updated_replicas),
            ("available", status.available_replicas),
            ("existing", status.replicas),
        ] {
            assert_eq!(found, wanted, "{what} pods of {component}, which is called delivered");
        }
        if component == "portal"
            && let Some(image) = image
        {
            let pod = deployment.spec.and_then(|spec| spec.template.spec);
            let container = pod.and_then(|pod| pod.containers.into_iter().next());
            assert_eq!(container.and_then(|it| it.image).as_deref(), Some(image));
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_portal_whose_deployments_are_refused_has_failed_until_they_are_not() -> Result<()> {
    let namespace = Namespace::open("e2e-health-refused").await?;
    quota::lift(&namespace).await?;
    quota::limit(&namespace, "count/deployments.apps", 0).await?;
    namespace.apply_portal("refused", small()).await?;
    let (_, verdicts) = wait_for_health(&namespace, "refused", REFUSED).await?;
    for verdict in verdicts {
        ensure!(verdict.message.contains("exceeded quota: tight"), "{verdict:?}");
    }
    expect_kubectl_to_wait(&namespace, "refused")?;

    quota::lift(&namespace).await?;
    expect_delivered_once_it_is(&namespace, "refused", None).await?;
    kubectl_wait(&namespace, "refused", "5s")?;
    namespace.delete_portal("refused").await
}

/// What runs goes on, so the portal is still Ready, but not for the generation that is asked for.
#[tokio::test]
async fn an_edit_that_is_refused_has_failed_although_the_portal_serves() -> Result<()> {
    let namespace = Namespace::open("e2e-health-edit").await?;
    quota::lift(&namespace).await?;
    namespace.apply_portal("edited", small()).await?;
    wait_for_health(&namespace, "edited", DELIVERED).await?;

    quota::limit(&namespace, "persistentvolumeclaims", 0).await?;
    let mut spec = small();
    spec["database"] = json!({"embedded": {"storage": {"retain": false}}});
    namespace.apply_portal("edited", spec).await?;
    let (portal, verdicts) = wait_for_health(&namespace, "edited", REFUSED).await?;
    for verdict in verdicts {
        ensure!(verdict.message.contains("exceeded quota: tight"), "{verdict:?}");
    }
    let ready = condition(&portal, "Ready").context("there is a condition Ready")?;
    assert_eq!(ready["status"], "True", "{ready}");
    ensure!(ready["observedGeneration"] != portal["metadata"]["generation"], "judged: {ready}");
    expect_kubectl_to_wait(&namespace, "edited")?;
    assert_eq!(reqwest::get(namespace.url("edited-portal").await?).await?.status(), 200);

    namespace.apply_portal("edited", small()).await?;
    expect_delivered_once_it_is(&namespace, "edited", None).await?;
    kubectl_wait(&namespace, "edited", "5s")?;
    quota::lift(&namespace).await?;
    namespace.delete_portal("edited").await
}

/// The old pods serve; the new ones are refused, and somebody has to do something about it.
#[tokio::test]
async fn a_rollout_whose_pods_are_refused_has_failed() -> Result<()> {
    let namespace = Namespace::open("e2e-health-pods").await?;
    quota::lift(&namespace).await?;
    namespace.apply_portal("stuck", small()).await?;
    wait_for_health(&namespace, "stuck", DELIVERED).await?;

    quota::limit(&namespace, "pods", 2).await?;
    let mut spec = small();
    spec["portal"]["image"] = json!(setting("E2E_NEXT_PORTAL_IMAGE")?);
    namespace.apply_portal("stuck", spec).await?;
    let (_, verdicts) = wait_for_health(&namespace, "stuck", REFUSED).await?;
    for verdict in verdicts {
        ensure!(verdict.message.contains("exceeded quota: tight"), "{verdict:?}");
    }
    quota::lift(&namespace).await?;
    expect_delivered_once_it_is(&namespace, "stuck", None).await?;
    namespace.delete_portal("stuck").await
}

#[tokio::test]
async fn a_suspended_portal_is_suspended_and_not_failed() -> Result<()> {
    let namespace = Namespace::open("e2e-health-suspended").await?;
    let (mut suspended, spec) = (small(), small());
    suspended["suspend"] = json!(true);
    // Nothing of it was ever written.
    namespace.apply_portal("paused", suspended.clone()).await?;
    eventually("a suspended portal in its status", SETTLED, async || {
        let (portal, _) = expect_health(&namespace, "paused", ["InProgress", "Suspended"]).await?;
        let suspended = condition(&portal, "Suspended").context("no condition Suspended yet")?;
        ensure!(suspended["status"] == "True", "{suspended}");
        Ok(())
    })
    .await?;
    expect_kubectl_to_wait(&namespace, "paused")?;

    namespace.apply_portal("paused", spec).await?;
    wait_for_health(&namespace, "paused", DELIVERED).await?;
    // What runs goes on running.
    namespace.apply_portal("paused", suspended).await?;
    eventually("a running portal that is suspended", SETTLED, async || {
        let portal = namespace.stored_portal("paused").await?;
        let (kstatus, argo_cd) = (kstatus(&portal)?, argo_cd(&portal)?);
        let suspended = condition(&portal, "Suspended").context("no condition Suspended yet")?;
        ensure!(suspended["status"] == "True", "{suspended}");
        ensure!(argo_cd.word == "Suspended", "{argo_cd:?}");
        ensure!(kstatus.word != "Failed", "{kstatus:?}");
        Ok(())
    })
    .await?;
    namespace.delete_portal("paused").await
}

#[tokio::test]
async fn a_portal_that_a_finalizer_holds_is_terminating() -> Result<()> {
    let namespace = Namespace::open("e2e-health-deleted").await?;
    namespace.apply_portal("held", small()).await?;
    wait_for_health(&namespace, "held", DELIVERED).await?;
    hold(&namespace, json!(["e2e.example/hold"])).await?;
    namespace.api::<HardwarePortal>().delete("held", &DeleteParams::default()).await?;
    expect_health(&namespace, "held", ["Terminating", "Progressing"]).await?;
    hold(&namespace, json!(null)).await?;
    eventually("the end of the portal", SETTLED, async || {
        let held = namespace.api::<HardwarePortal>().get_metadata_opt("held").await?;
        ensure!(held.is_none(), "it is still there");
        Ok(())
    })
    .await
}

async fn hold(namespace: &Namespace, finalizers: Value) -> Result<()> {
    let patch = json!({"metadata": {"finalizers": finalizers}});
    let portals = namespace.api::<HardwarePortal>();
    portals.patch_metadata("held", &PatchParams::default(), &Patch::Merge(&patch)).await?;
    Ok(())
}

fn condition<'a>(portal: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = portal.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().find(|one| one["type"] == kind)
}

/// A portal of generation 2 with this status.
fn portal(spec: &Value, status: &Value) -> Value {
    json!({
        "apiVersion": "gill-hicks.dev/v1alpha1", "kind": "HardwarePortal",
        "metadata": {"name": "p", "namespace": "n", "generation": 2},
        "spec": spec, "status": status,
    })
}

/// A condition of this generation.
fn judged(kind: &str, is_true: bool, reason: &str, generation: i64) -> Value {
    let status = if is_true { "True" } else { "False" };
    json!({"type": kind, "status": status, "reason": reason, "message": format!("{kind} {reason}"),
        "observedGeneration": generation})
}

#[test]
fn each_rule_of_the_script_for_argo_cd_gives_its_word() -> Result<()> {
    let with = |conditions: &[Value]| json!({"observedGeneration": 2, "conditions": conditions});
    let ready = || judged("Ready", true, "AsExpected", 2);
    let not_ready = |reason| judged("Ready", false, reason, 2);
    let (idle, well) =
        (judged("Reconciling", false, "Idle", 2), judged("Stalled", false, "Well", 2));
    let suspended = json!({"suspend": true});
    let cases = [
        (suspended, with(&[ready()]), "Suspended spec.suspend is true: nothing is written"),
        (json!({}), json!(null), "Progressing the operator has not seen this generation yet"),
        (
            json!({}),
            json!({"observedGeneration": -1}),
            "Progressing the operator has not seen this generation yet",
        ),
        (
            json!({}),
            json!({"observedGeneration": 1, "conditions": [ready()]}),
            "Progressing the operator has not seen this generation yet",
        ),
        (json!({}), with(&[]), "Progressing there is no condition Ready yet"),
        (json!({}), with(&[ready(), idle.clone(), well.clone()]), "Healthy Ready AsExpected"),
        (
            json!({}),
            with(&[ready(), judged("Reconciling", true, "RollingOut", 2), well.clone()]),
            "Progressing Reconciling RollingOut",
        ),
        (
            json!({}),
            with(&[
                judged("Ready", true, "AsExpected", 1),
                judged("Reconciling", true, "RollingOut", 2),
                judged("Stalled", true, "Refused", 2),
            ]),
            "Degraded Stalled Refused",
        ),
        (
            json!({}),
            with(&[not_ready("ScaledToZero"), idle.clone(), well.clone()]),
            "Suspended Ready ScaledToZero",
        ),
        (
            json!({}),
            with(&[judged("Ready", true, "AsExpected", 1), idle.clone(), well.clone()]),
            "Progressing Ready is about an earlier generation",
        ),
        (
            json!({}),
            with(&[not_ready("DatabaseUnreachable"), idle, well]),
            "Degraded Ready DatabaseUnreachable",
        ),
    ];
    for (spec, status, expected) in cases {
        let found = argo_cd(&portal(&spec, &status))?;
        assert_eq!(format!("{} {}", found.word, found.message), expected, "{spec} {status}");
    }
    Ok(())
}

/// The command of docs/gitops.md as it stands there; only the namespace is another one.
#[tokio::test]
async fn the_documented_command_adds_the_script_to_what_argo_cd_is_configured_with() -> Result<()> {
    let namespace = Namespace::keep("e2e-health-argocd").await?;
    let config_maps = namespace.api::<ConfigMap>();
    if config_maps.get_opt("argocd-cm").await?.is_some() {
        config_maps.delete("argocd-cm", &DeleteParams::default()).await?;
    }
    let other: ConfigMap = serde_json::from_value(
        json!({"metadata": {"name": "argocd-cm"}, "data": {"url": "https://argocd.example.com"}}),
    )?;
    config_maps.create(&PostParams::default(), &other).await?;

    let page = read_page("gitops.md")?;
    let mut blocks = page.split("```").skip(1).step_by(2);
    let command = blocks.find(|block| block.contains("create configmap argocd-cm"));
    let command = command.context("docs/gitops.md has the command")?;
    let command =
        command.replace("--namespace argocd", &format!("--namespace {}", namespace.name()));
    // Twice: a changed script is applied over the former one.
    for _ in 0..2 {
        run_in_root(&command)?;
    }
    let data = config_maps.get("argocd-cm").await?.data.unwrap_or_default();
    let key = "resource.customizations.health.gill-hicks.dev_HardwarePortal";
    let expected = BTreeMap::from([
        ("url".to_owned(), "https://argocd.example.com".to_owned()),
        (key.to_owned(), std::fs::read_to_string(ARGO_CD_SCRIPT)?),
    ]);
    assert_eq!(data, expected);
    Ok(())
}

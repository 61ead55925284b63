//! Whoever changes a portal's children by hand: what is ours comes back, what is others' stays.

mod alike;
mod edit;
mod world;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use e2e::{
    Namespace,
    managed::applied_fields,
    operator,
    owned::Owned,
    wait::{eventually, eventually_every},
};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Service};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use self::{
    edit::{Outcome, edit_and_wait},
    world::{
        MANAGERS, children, give_foreign_fields, has_foreign_fields, is_left_to_people,
        is_made_anew, start_portal,
    },
};

/// The operator acts within a fraction of a second; the rest is for a busy machine.
const RESTORED: Duration = Duration::from_secs(30);

/// Sooner than by looking again for whatever the watches have missed.
const AT_ONCE: Duration = Duration::from_secs(8);

/// Short against the times that are measured by looking.
const LOOK: Duration = Duration::from_millis(10);

#[tokio::test]
async fn every_child_that_is_deleted_by_hand_returns_as_it_was() -> Result<()> {
    let (namespace, uid) = start_portal("e2e-drift-deleted", "e2e_drift_deleted").await?;
    let mut times: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
    let mut problems = Vec::new();
    for child in children(&namespace, &uid).await? {
        match delete_and_wait(&namespace, &child).await {
            Ok(time) => times.entry(child.resource.kind.clone()).or_default().push(time),
            Err(error) => problems.push(format!("{child}: {error:#}")),
        }
        namespace.wait_until_ready("drifted").await?;
    }
    for (kind, times) in &times {
        println!("{kind} deleted by hand, back after {times:.0?}");
    }
    ensure!(problems.is_empty(), "did not return as they were: {problems:#?}");
    namespace.delete_portals().await
}

/// Time until another object of the same name has everything that the deleted one had from us.
async fn delete_and_wait(namespace: &Namespace, child: &Owned) -> Result<Duration> {
    let (api, name) = (namespace.api_of(&child.resource), child.object.name_any());
    let before = serde_json::to_value(&child.object)?;
    let mut ours = Vec::new();
    for manager in MANAGERS {
        ours.extend(applied_fields(&child.object, manager)?);
    }
    let started = Instant::now();
    api.delete(&name, &DeleteParams::background()).await?;
    eventually_every(LOOK, "its return", RESTORED, async || {
        let now = api.get(&name).await?;
        ensure!(now.uid() != child.object.uid(), "it is still there");
        let now = serde_json::to_value(&now)?;
        for field in &ours {
            let value = |object: &Value| {
                field.find(object).and_then(|pointer| object.pointer(&pointer).cloned())
            };
            let (old, new) = (value(&before), value(&now));
            // Not the values: some are of Secrets.
            ensure!(new.is_some(), "{field} is missing");
            ensure!(new == old || is_made_anew(child, field), "{field} is not what it was");
        }
        Ok(())
    })
    .await?;
    Ok(started.elapsed())
}

/// As when the operator died between the two writes that make a Deployment.
#[tokio::test]
async fn a_number_of_pods_that_nobody_has_set_is_set() -> Result<()> {
    const ROUNDS: usize = 5;
    let namespace = Namespace::open("e2e-drift-unset").await?;
    let spec = json!({
        "hardware": {"autoscaling": {"disabled": true}, "replicas": 0},
        "portal": {
            // Kept as it is from then on, whoever changes it.
            "autoscaling": {"disabled": true},
            "scheduling": {"nodeSelector": {"gill-hicks.dev/nowhere": "true"}},
        },
    });
    namespace.apply_portal("unset", spec.clone()).await?;
    let deployments = namespace.api::<Deployment>();
    let expect = async |replicas: i32| {
        eventually_every(
            Duration::from_millis(1),
            &format!("{replicas} pods"),
            RESTORED,
            async || {
                let scale = deployments.get_scale("unset-portal").await?;
                let found = scale.spec.and_then(|spec| spec.replicas);
                ensure!(found == Some(replicas), "{found:?}");
                Ok(())
            },
        )
        .await
    };
    expect(2).await?;
    for round in 0..ROUNDS {
        // Who applies nothing gives up what he applied before, and the API server puts its default there.
        let nothing = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "unset-portal"},
        });
        let second_manager = PatchParams::apply("gill-hicks-operator/replicas").force();
        let before = deployments.get("unset-portal").await?.metadata.generation;
        let given_up =
            deployments.patch("unset-portal", &second_manager, &Patch::Apply(nothing)).await?;
        ensure!(given_up.metadata.generation > before, "nothing was given up in round {round}");
        expect(2).await?;
        // In the moment it was set, so that the operator's watch has not shown either write yet.
        let three = Patch::Merge(json!({"spec": {"replicas": 3}}));
        deployments.patch_scale("unset-portal", &PatchParams::default(), &three).await?;
        let title = format!("Written anew {round}");
        let mut titled = spec.clone();
        titled["portal"]["title"] = json!(title);
        namespace.apply_portal("unset", titled).await?;
        eventually("another template", RESTORED, async || {
            let template = json!(deployments.get("unset-portal").await?.spec).to_string();
            ensure!(template.contains(&title), "it is {template}");
            Ok(())
        })
        .await?;
        let scale = deployments.get_scale("unset-portal").await?;
        let kept = scale.spec.and_then(|spec| spec.replicas);
        ensure!(kept == Some(3), "round {round}: {kept:?} pods instead of the 3 that somebody set");
        // As at first, and of the operator.
        let two = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "unset-portal"},
            "spec": {"replicas": 2},
        });
        // By this answer the operator knows that somebody was faster than its watches.
        let unforced = PatchParams::apply("gill-hicks-operator/replicas");
        let refused = deployments.patch("unset-portal", &unforced, &Patch::Apply(&two)).await;
        let Err(kube::Error::Api(status)) = &refused else {
            bail!("another manager's number was overwritten: {refused:?}");
        };
        let causes = status.details.iter().flat_map(|details| &details.causes);
        let reasons: Vec<_> = causes.map(|cause| cause.reason.as_str()).collect();
        ensure!(reasons == ["FieldManagerConflict"], "{status:?}");
        deployments.patch("unset-portal", &second_manager, &Patch::Apply(two)).await?;
    }
    namespace.delete_portal("unset").await
}

/// So soon that the end of it comes before the answer to the write that made it, or with it.
#[tokio::test]
async fn a_child_that_is_deleted_in_the_moment_it_returns_returns_again() -> Result<()> {
    const ROUNDS: usize = 50;
    let namespace = Namespace::open("e2e-drift-again").await?;
    let none = json!({"autoscaling": {"disabled": true}, "replicas": 0});
    namespace.apply_portal("again", json!({"hardware": none, "portal": none})).await?;
    namespace.wait_until_scaled_to_zero("again").await?;
    let services = namespace.api::<Service>();
    let mut last = services.get_metadata("again-hardware").await?.uid();
    let mut slowest = Duration::ZERO;
    for round in 0..ROUNDS {
        let started = Instant::now();
        services.delete("again-hardware", &DeleteParams::background()).await?;
        let what = format!("its return in round {round}");
        last = eventually_every(Duration::from_millis(1), &what, AT_ONCE, async || {
            let now = services.get_metadata("again-hardware").await?.uid();
            ensure!(now != last, "it is still there");
            Ok(now)
        })
        .await?;
        slowest = slowest.max(started.elapsed());
    }
    println!("deleted {ROUNDS} times in the moment it returned, back after {slowest:.0?} at most");
    namespace.delete_portal("again").await
}

#[tokio::test]
async fn every_managed_field_that_is_edited_by_hand_is_restored() -> Result<()> {
    let (namespace, uid) = start_portal("e2e-drift-edited", "e2e_drift_edited").await?;
    let (mut times, mut refused, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    for child in children(&namespace, &uid).await? {
        for manager in MANAGERS {
            let mut fields = applied_fields(&child.object, manager)?;
            fields.retain(|field| !is_left_to_people(&child, field));
            for field in fields {
                match edit_and_wait(&namespace, &child, &field, RESTORED).await {
                    Ok(Outcome::Restored(time)) => times.push(time),
                    Ok(Outcome::Refused) => refused.push(format!("{child} {field}")),
                    Err(error) => problems.push(format!("{child} {field}: {error:#}")),
                }
            }
        }
    }
    times.sort();
    // Of the fields that a portal's children have today; fewer are some that got lost.
    ensure!(times.len() >= 240, "only {} edits were accepted", times.len());
    println!(
        "{} fields edited by hand, restored after {:.0?} (median), {:.0?} (most); {} edits refused \
         by the API server: {refused:#?}",
        times.len(),
        times[times.len() / 2],
        times[times.len() - 1],
        refused.len(),
    );
    ensure!(problems.is_empty(), "{} were not restored: {problems:#?}", problems.len());
    namespace.wait_until_ready("drifted").await?;
    namespace.delete_portals().await
}

#[tokio::test]
async fn fields_of_other_managers_stay_when_ours_are_restored() -> Result<()> {
    let (namespace, uid) = start_portal("e2e-drift-foreign", "e2e_drift_foreign").await?;
    let (mut count, mut problems) = (0, Vec::new());
    for child in children(&namespace, &uid).await? {
        match make_operator_write(&namespace, &child).await {
            Ok(()) => count += 1,
            Err(error) => problems.push(format!("{child}: {error:#}")),
        }
    }
    println!("{count} children kept the fields of another manager");
    ensure!(problems.is_empty(), "{problems:#?}");
    namespace.delete_portals().await
}

/// A child that lacks one of our fields is applied as a whole.
async fn make_operator_write(namespace: &Namespace, child: &Owned) -> Result<()> {
    let (api, name) = (namespace.api_of(&child.resource), child.object.name_any());
    give_foreign_fields(namespace, child).await?;
    let edit = json!({"metadata": {"labels": {"app.kubernetes.io/component": "edited"}}});
    api.patch(&name, &PatchParams::default(), &Patch::Merge(edit)).await?;
    eventually_every(LOOK, "our label", RESTORED, async || {
        let label = api.get(&name).await?.labels().get("app.kubernetes.io/component").cloned();
        ensure!(label.as_deref() != Some("edited"), "it is {label:?}");
        Ok(())
    })
    .await?;
    let now = api.get(&name).await?;
    ensure!(now.uid() == child.object.uid(), "it was replaced");
    has_foreign_fields(&child.resource.kind, &now)
}

/// Watches tell what changes while they run. What happened before must be seen in the list.
#[tokio::test]
async fn deletions_while_the_operator_is_killed_are_noticed() -> Result<()> {
    let (namespace, uid) = start_portal("e2e-drift-killed", "e2e_drift_killed").await?;
    let children = children(&namespace, &uid).await?;
    let deployments: Api<Deployment> = Api::namespaced(namespace.client(), operator::NAMESPACE);
    let replicas = scale_operator(&deployments, 0).await?;
    let outcome = change_unwatched(&namespace, &children).await;
    // Whatever happened: others need the operator.
    scale_operator(&deployments, replicas).await?;
    outcome?;
    let started = Instant::now();
    eventually("the return of every child", RESTORED * 2, async || {
        for child in &children {
            let name = child.object.name_any();
            let now = namespace.api_of(&child.resource).get(&name).await?;
            ensure!(now.uid() != child.object.uid(), "{child} is still there");
            let owners = now.owner_references();
            ensure!(owners.iter().any(|owner| owner.uid == uid), "{child} has no owner");
        }
        Ok(())
    })
    .await?;
    println!(
        "{} children deleted while no operator ran, back {:.1} s after its start",
        children.len(),
        started.elapsed().as_secs_f64()
    );
    namespace.wait_until_ready("drifted").await?;
    namespace.delete_portals().await
}

async fn change_unwatched(namespace: &Namespace, children: &[Owned]) -> Result<()> {
    for child in children {
        let name = child.object.name_any();
        namespace.api_of(&child.resource).delete(&name, &DeleteParams::background()).await?;
    }
    eventually("the end of the children", RESTORED, async || {
        for child in children {
            let now = namespace.api_of(&child.resource).get_opt(&child.object.name_any()).await?;
            ensure!(now.is_none(), "{child} is still there");
        }
        Ok(())
    })
    .await
}

/// Says how many there were, and waits until there are as many as asked for.
async fn scale_operator(deployments: &Api<Deployment>, replicas: i32) -> Result<i32> {
    let name = "gill-hicks-operator";
    let scale = deployments.get_scale(name).await?.spec.context("a Deployment has a scale")?;
    // The API leaves a zero out.
    let before = scale.replicas.unwrap_or(0);
    let patch = json!({"spec": {"replicas": replicas}});
    deployments.patch_scale(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    eventually(&format!("{replicas} pods of the operator"), RESTORED * 2, async || {
        let status = deployments.get(name).await?.status.unwrap_or_default();
        let running = (status.replicas.unwrap_or(0), status.ready_replicas.unwrap_or(0));
        ensure!(running == (replicas, replicas), "running and ready: {running:?}");
        Ok(())
    })
    .await?;
    Ok(before)
}

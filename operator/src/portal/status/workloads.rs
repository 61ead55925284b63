//! The conditions about the Deployments, and about the pods where those do not do their work.

use crds::{ConditionType, Reason};
use k8s_openapi::api::apps::v1::DeploymentCondition;

use super::Judgement;
use crate::{
    cluster::labels::Component,
    portal::{
        build::migration,
        live::{Live, LiveDeployment},
        pods::{PodProblem, PodProblems, refused_pods},
        resolve::ResolvedPortal,
    },
};

/// A component is available when its Deployment's own controller says so of its latest spec. Counting
/// replicas instead would call a surge an outage.
pub(super) fn availability(
    component: Component,
    name: &str,
    live: Option<&LiveDeployment>,
    pod_problems: &PodProblems,
) -> Judgement {
    let kind = match component {
        Component::Portal => ConditionType::PortalAvailable,
        Component::Collector => ConditionType::SourcesReporting,
        Component::Hardware | Component::Migration => ConditionType::HardwareAvailable,
    };
    let Some(live) = live else {
        let message = format!("Deployment {name} does not exist yet");
        return Judgement::new(kind, false, Reason::NotCreated, message);
    };
    if live.replicas == 0 {
        let advice = match component {
            Component::Collector => {
                "the operator sets it to one as soon as it writes again".to_owned()
            }
            Component::Hardware | Component::Portal | Component::Migration => format!(
                "write another number into {}.replicas, or kubectl scale the Deployment if that is not set",
                component.as_str()
            ),
        };
        let message =
            format!("Deployment {name} is scaled to zero, so that no pod serves; {advice}");
        return Judgement::new(kind, false, Reason::ScaledToZero, message);
    }
    // Also while a rollout does not advance, or its controller has yet to see a newer spec: the old pods
    // serve, of the generation that the condition then is of.
    if condition(live, "Available").is_some_and(|it| it.status == "True") {
        let message = format!("Deployment {name} is available");
        return Judgement::new(kind, true, Reason::AsExpected, message);
    }
    if !live.is_observed() {
        let message =
            format!("Deployment {name} has a new spec that its controller has not seen yet");
        return Judgement::new(kind, false, Reason::RollingOut, message);
    }
    let count = format!(
        "Deployment {name} has {} of {} pods available",
        live.status.available_replicas.unwrap_or_default(),
        live.replicas
    );
    match obstacle(live, pod_problems.of(component)) {
        Some(PodProblem { reason, message }) => {
            Judgement::new(kind, false, reason, format!("{count}: {message}"))
        }
        None => Judgement::new(kind, false, Reason::MinimumReplicasUnavailable, count),
    }
}

fn condition<'a>(live: &'a LiveDeployment, wanted: &str) -> Option<&'a DeploymentCondition> {
    live.status.conditions.iter().flatten().find(|condition| condition.type_ == wanted)
}

/// What keeps a Deployment's pods from being made, or those that were made from their work. Past the
/// deadline of a rollout, nobody waits for pods that merely are not ready.
fn obstacle(live: &LiveDeployment, problem: Option<&PodProblem>) -> Option<PodProblem> {
    let refused = condition(live, "ReplicaFailure").filter(|it| it.status == "True");
    let refused = refused.map(|it| refused_pods(it.message.as_deref().unwrap_or_default()));
    let found = refused.or_else(|| problem.cloned());
    let late = condition(live, "Progressing").filter(|it| it.status == "False");
    match (found, late) {
        // A node for them may still be on its way, but not beyond the deadline.
        (Some(found), late)
            if is_stuck(found.reason)
                && (late.is_none() || found.reason != Reason::Unschedulable) =>
        {
            Some(found)
        }
        (found, Some(late)) => Some(PodProblem {
            reason: Reason::ProgressDeadlineExceeded,
            message: found
                .map(|it| it.message)
                .or_else(|| late.message.clone())
                .unwrap_or_default(),
        }),
        (found, None) => found,
    }
}

/// Whether pods with such a problem are not merely on their way.
pub(super) fn is_stuck(reason: Reason) -> bool {
    !matches!(reason, Reason::MinimumReplicasUnavailable | Reason::Migrating)
}

/// Whether something is on its way to what the spec asks for: the migration first, as the new hardware
/// pods wait for it, then the rollouts.
pub(super) fn progress(
    portal: &ResolvedPortal,
    database: &Judgement,
    live: &Live,
    pod_problems: &PodProblems,
) -> Judgement {
    if migration::is_outstanding(portal, live) {
        return migration_progress(database);
    }
    let mut deployments = vec![
        (Component::Hardware, live.hardware.as_ref()),
        (Component::Portal, live.portal.as_ref()),
    ];
    if portal.collector.is_some() {
        deployments.push((Component::Collector, live.collector.as_ref()));
    }
    rollout_progress(&deployments, pod_problems)
}

pub(super) fn migration_progress(database: &Judgement) -> Judgement {
    let kind = ConditionType::Progressing;
    match database.reason {
        Reason::Migrating | Reason::DatabaseUnreachable => {
            let message = "new hardware pods wait for the migration";
            Judgement::new(kind, true, Reason::Migrating, message)
        }
        reason => Judgement::new(kind, false, reason, database.message.clone()),
    }
}

/// How far the rollouts of Deployments are.
pub(super) fn rollout_progress(
    deployments: &[(Component, Option<&LiveDeployment>)],
    pod_problems: &PodProblems,
) -> Judgement {
    let kind = ConditionType::Progressing;
    let is_rolling = |live: Option<&LiveDeployment>| {
        live.is_none_or(|live| {
            !live.is_observed()
                || live.lacks_new_pods()
                || live.status.available_replicas.unwrap_or_default() < live.replicas
                || live.status.replicas.unwrap_or_default() > live.replicas
        })
    };
    let rolling: Vec<(Component, Option<&LiveDeployment>)> =
        deployments.iter().copied().filter(|(_, live)| is_rolling(*live)).collect();
    if rolling.is_empty() {
        let message = "everything is as the spec asks";
        return Judgement::new(kind, false, Reason::AsExpected, message);
    }
    let mut seen = rolling.iter().filter_map(|(_, live)| *live);
    // A paused Deployment is scaled, but its template is not rolled out.
    if let Some(paused) = seen.find(|it| it.is_observed() && it.is_paused && it.lacks_new_pods()) {
        let name = &paused.name;
        let message = format!(
            "Deployment {name} is paused, so that its new pods are not started; kubectl rollout resume deployment/{name}"
        );
        return Judgement::new(kind, false, Reason::Paused, message);
    }
    let stuck = rolling.iter().find_map(|(component, live)| {
        let found = obstacle((*live)?, pod_problems.of(*component))?;
        is_stuck(found.reason).then_some((*component, found))
    });
    if let Some((component, PodProblem { reason, message })) = stuck {
        let message = format!("{} makes no progress: {message}", component.as_str());
        return Judgement::new(kind, false, reason, message);
    }
    let names: Vec<&str> = rolling.iter().map(|(component, _)| component.as_str()).collect();
    let message = format!("pods of {} are being started, replaced or ended", names.join(" and "));
    Judgement::new(kind, true, Reason::RollingOut, message)
}

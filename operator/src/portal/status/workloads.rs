//! What is said about the Deployments, and about the pods where those do not do their work.

use crds::{ConditionType, Reason};
use k8s_openapi::api::apps::v1::DeploymentCondition;

use super::Finding;
use crate::{
    cluster::{api_error, labels::Component},
    portal::{
        live::LiveDeployment,
        pods::{PodProblem, PodProblems},
    },
};

/// A component is available when its Deployment's own controller says so of its latest spec. Counting
/// replicas instead would call a surge an outage.
pub(super) fn availability(
    component: Component,
    name: &str,
    live: Option<&LiveDeployment>,
    pod_problems: &PodProblems,
) -> Finding {
    let kind = match component {
        Component::Portal => ConditionType::PortalAvailable,
        Component::Hardware | Component::Migration => ConditionType::HardwareAvailable,
    };
    let Some(live) = live else {
        return Finding::new(
            kind,
            false,
            Reason::NotCreated,
            format!("Deployment {name} does not exist yet"),
        );
    };
    if live.status.observed_generation.unwrap_or_default() < live.generation {
        return Finding::new(
            kind,
            false,
            Reason::RollingOut,
            format!("Deployment {name} has a new spec that its controller has not seen yet"),
        );
    }
    let is_available = condition(live, "Available").is_some_and(|it| it.status == "True");
    let stuck = condition(live, "Progressing").filter(|it| it.status == "False");
    if is_available && stuck.is_none() {
        let message = format!("Deployment {name} is available");
        return Finding::new(kind, true, Reason::AsExpected, message);
    }
    let count = format!(
        "Deployment {name} has {} of {} pods available",
        live.status.available_replicas.unwrap_or_default(),
        live.replicas
    );
    let (reason, why) = match (obstacle(live, pod_problems.of(component)), stuck) {
        (Some(PodProblem { reason, message }), _) => (reason, message),
        (None, Some(stuck)) => {
            (Reason::ProgressDeadlineExceeded, stuck.message.clone().unwrap_or_default())
        }
        (None, None) => {
            return Finding::new(kind, false, Reason::MinimumReplicasUnavailable, count);
        }
    };
    Finding::new(kind, false, reason, format!("{count}: {why}"))
}

fn condition<'a>(live: &'a LiveDeployment, wanted: &str) -> Option<&'a DeploymentCondition> {
    live.status.conditions.iter().flatten().find(|condition| condition.type_ == wanted)
}

/// What keeps a Deployment's pods from being made, or those that were made from their work.
fn obstacle(live: &LiveDeployment, problem: Option<&PodProblem>) -> Option<PodProblem> {
    let refused = condition(live, "ReplicaFailure").filter(|it| it.status == "True");
    let refused = refused.map(|refused| {
        let message = refused.message.clone().unwrap_or_default();
        // What comes before names the pod, which is another one at each try.
        let why = message.split_once("is forbidden: ").map_or(&*message, |(_, why)| why);
        let advice = api_error::advice(&message).map(|advice| format!("; {advice}"));
        PodProblem {
            reason: Reason::Refused,
            message: format!("its pods are refused: {why}{}", advice.unwrap_or_default()),
        }
    });
    refused.or_else(|| problem.cloned())
}

/// Whether pods with such a problem are not merely on their way.
pub(super) fn is_stuck(reason: Reason) -> bool {
    reason != Reason::MinimumReplicasUnavailable
}

/// How far the rollouts of Deployments are.
pub(super) fn progress_of<const N: usize>(
    deployments: [(Component, Option<&LiveDeployment>); N],
    pod_problems: &PodProblems,
) -> Finding {
    let kind = ConditionType::Progressing;
    let is_rolling = |live: Option<&LiveDeployment>| {
        live.is_none_or(|live| {
            live.status.observed_generation.unwrap_or_default() < live.generation
                || live.status.updated_replicas.unwrap_or_default() < live.replicas
                || live.status.available_replicas.unwrap_or_default() < live.replicas
                || live.status.replicas.unwrap_or_default() > live.replicas
        })
    };
    let rolling: Vec<(Component, Option<&LiveDeployment>)> =
        deployments.into_iter().filter(|(_, live)| is_rolling(*live)).collect();
    if rolling.is_empty() {
        return Finding::new(kind, false, Reason::AsExpected, "everything is as the spec asks");
    }
    let stuck = rolling.iter().find_map(|(component, live)| {
        let found = obstacle((*live)?, pod_problems.of(*component))?;
        is_stuck(found.reason).then_some((*component, found))
    });
    if let Some((component, PodProblem { reason, message })) = stuck {
        let message = format!("{} makes no progress: {message}", component.as_str());
        return Finding::new(kind, false, reason, message);
    }
    let names: Vec<&str> = rolling.iter().map(|(component, _)| component.as_str()).collect();
    let message = format!("pods of {} are being started, replaced or ended", names.join(" and "));
    Finding::new(kind, true, Reason::RollingOut, message)
}

//! The status of a portal: pure, from what was applied and what was seen.

mod autoscaling;
mod credentials;
mod database;
pub mod publisher;
mod readiness;
mod sources;
#[cfg(test)]
mod tests;
pub mod transitions;
mod url;
mod workloads;

use crds::{
    ConditionType, DatabaseKind, HardwarePortal, HardwarePortalStatus, Reason, WorkloadStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use self::workloads::{availability, progress};
use super::{
    apply::Applied,
    live::{Live, LiveDeployment, claim_phase},
    pods::PodProblems,
    resolve::{ResolvedDatabase, ResolvedPortal},
    source_reports::Reports,
};
use crate::{
    cluster::{labels::Component, names},
    rotation::{Credentials, machine::Plan},
};

/// Why a pass did not reach its end, in the words of conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The condition that could not be decided because of it.
    pub concerns: ConditionType,
    /// The word for machines.
    pub reason: Reason,
    /// The sentence for people.
    pub message: String,
}

/// How a pass ended.
#[derive(Debug)]
pub enum ReconcileOutcome<'a> {
    /// The children are as the spec asks.
    Applied {
        /// What the spec asks for.
        resolved: &'a ResolvedPortal,
        /// The credentials of the pods, if they need any.
        credentials: Option<&'a Credentials>,
        /// The children.
        applied: &'a Applied,
    },
    /// A child could not be written, and neither were those that come after it.
    PartlyApplied {
        /// What the spec asks for.
        resolved: &'a ResolvedPortal,
        /// The credentials of the pods, if they need any.
        credentials: Option<&'a Credentials>,
        /// The children that were applied before it.
        applied: &'a Applied,
        /// Why it could not be written.
        failure: &'a Failure,
    },
    /// Nothing was written, as the spec asks.
    Suspended,
    /// Nothing was written, as it could not be decided what to write.
    Failed(&'a Failure),
}

impl<'a> ReconcileOutcome<'a> {
    fn failure(&self) -> Option<&'a Failure> {
        match self {
            Self::Applied { .. } | Self::Suspended => None,
            Self::PartlyApplied { failure, .. } | Self::Failed(failure) => Some(failure),
        }
    }
}

/// The status after a pass. Transition times of conditions whose status did not change stay.
#[must_use]
pub fn compute(
    portal: &HardwarePortal,
    outcome: &ReconcileOutcome<'_>,
    live: &Live,
    pod_problems: &PodProblems,
    reports: &Reports,
    now: jiff::Timestamp,
) -> HardwarePortalStatus {
    let old = portal.status.clone().unwrap_or_default();
    let live = &match outcome {
        ReconcileOutcome::Applied { resolved, applied, .. }
        | ReconcileOutcome::PartlyApplied { resolved, applied, .. } => {
            after_writes(live, &resolved.name, applied)
        }
        ReconcileOutcome::Suspended | ReconcileOutcome::Failed(_) => live.clone(),
    };
    let generation = portal.metadata.generation;
    let judgements = judge(portal, outcome, live, pod_problems, reports);
    let conditions = judgements.into_iter().map(|one| one.into_condition(&old, generation, now));
    let conditions = conditions.collect();
    let mut status = HardwarePortalStatus {
        observed_generation: generation,
        conditions,
        hardware: live.hardware.as_ref().map(summarize).or_else(|| old.hardware.clone()),
        portal: live.portal.as_ref().map(summarize).or_else(|| old.portal.clone()),
        sources: sources::describe(portal, reports),
        ..old
    };
    if let ReconcileOutcome::Applied { resolved, credentials, .. }
    | ReconcileOutcome::PartlyApplied { resolved, credentials, .. } = outcome
    {
        status.database = Some(match &resolved.database {
            ResolvedDatabase::Embedded { .. } => DatabaseKind::Embedded,
            ResolvedDatabase::Mysql(_) => DatabaseKind::Mysql,
        });
        let plan = plan(resolved);
        status.credentials = credentials.map(|it| credentials::describe(it, plan));
    }
    if let ReconcileOutcome::Applied { resolved, applied, .. } = outcome {
        status.url = url::locate(resolved, applied);
    }
    status
}

/// What the rotation of the credential is planned by; none for an embedded database.
fn plan(resolved: &ResolvedPortal) -> Option<&Plan> {
    match &resolved.database {
        ResolvedDatabase::Embedded { .. } => None,
        ResolvedDatabase::Mysql(mysql) => Some(&mysql.request.plan),
    }
}

/// The children as the API server answered the writes that the watches have not shown yet.
fn after_writes(live: &Live, portal: &str, applied: &Applied) -> Live {
    let deployment =
        |name: &str| applied.get("Deployment", name).as_ref().and_then(LiveDeployment::read);
    let claim = applied.get("PersistentVolumeClaim", &names::data_claim(portal));
    Live {
        is_unlisted: live.is_unlisted,
        hardware: deployment(&names::hardware(portal)).or_else(|| live.hardware.clone()),
        portal: deployment(&names::portal(portal)).or_else(|| live.portal.clone()),
        collector: deployment(&names::collector(portal)).or_else(|| live.collector.clone()),
        claim: claim.as_ref().map(claim_phase).or_else(|| live.claim.clone()),
        jobs: live.jobs.clone(),
    }
}

/// A condition before it has times.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Judgement {
    kind: ConditionType,
    is_true: bool,
    reason: Reason,
    message: String,
    /// The generation of the spec that was judged, where it may be an earlier one than the portal's; 0
    /// if none was yet. `kubectl wait` goes on waiting for a condition of an earlier generation.
    generation: Option<i64>,
}

impl Judgement {
    /// Of the portal's generation.
    fn new(kind: ConditionType, is_true: bool, reason: Reason, message: impl Into<String>) -> Self {
        Self { kind, is_true, reason, message: message.into(), generation: None }
    }

    /// The same of the generation that this condition was last judged for.
    fn of_last_generation(self, portal: &HardwarePortal) -> Self {
        let generation = last(portal, self.kind).and_then(|old| old.observed_generation);
        let current = portal.metadata.generation.unwrap_or(i64::MAX);
        // A status that came with a restored object may be of a generation that is not there yet.
        Self { generation: Some(generation.filter(|old| *old <= current).unwrap_or(0)), ..self }
    }

    fn into_condition(
        self,
        old: &HardwarePortalStatus,
        current: Option<i64>,
        now: jiff::Timestamp,
    ) -> Condition {
        let Self { kind, is_true, reason, message, generation } = self;
        let status = if is_true { "True" } else { "False" };
        let mut old = old.conditions.iter();
        let same = old.find(|old| old.type_ == kind.as_str() && old.status == status);
        let since = same.map(|same| same.last_transition_time.clone());
        Condition {
            type_: kind.as_str().to_owned(),
            status: status.to_owned(),
            reason: reason.as_str().to_owned(),
            message,
            observed_generation: generation.or(current),
            last_transition_time: since.unwrap_or(Time(now)),
        }
    }
}

/// A condition of the last status.
fn last(portal: &HardwarePortal, kind: ConditionType) -> Option<&Condition> {
    let status = portal.status.as_ref()?;
    status.conditions.iter().find(|old| old.type_ == kind.as_str())
}

/// One judgement per type, in their order.
fn judge(
    portal: &HardwarePortal,
    outcome: &ReconcileOutcome<'_>,
    live: &Live,
    pod_problems: &PodProblems,
    reports: &Reports,
) -> Vec<Judgement> {
    let mut judgements = match outcome {
        ReconcileOutcome::Applied { resolved, credentials, applied } => {
            judge_applied(portal, resolved, *credentials, applied, live, pod_problems)
        }
        ReconcileOutcome::PartlyApplied { resolved, credentials, applied, failure } => {
            let mut judgements = judge_failed(portal, failure, live, pod_problems);
            // What was decided about the database and its credential holds, whichever child is missing.
            let is_published = applied.holds_credentials();
            for decided in [
                database::after_failure(resolved, *credentials, live, pod_problems),
                credentials::ready(*credentials, plan(resolved), is_published, Some(failure)),
            ] {
                judgements.retain(|one| one.kind != decided.kind);
                judgements.push(decided);
            }
            judgements
        }
        ReconcileOutcome::Suspended => judge_suspended(portal, live, pod_problems),
        ReconcileOutcome::Failed(failure) => judge_failed(portal, failure, live, pod_problems),
    };
    let reporting = sources::reporting(portal, live, pod_problems, reports);
    // What an earlier generation asked for goes on reporting, also where the present one cannot be applied.
    let is_of_this_generation = matches!(outcome, ReconcileOutcome::Applied { .. })
        && live.collector.as_ref().is_none_or(|collector| !collector.has_old_pods());
    judgements.push(if is_of_this_generation {
        reporting
    } else {
        reporting.of_last_generation(portal)
    });
    judgements.push(match outcome {
        ReconcileOutcome::Suspended => Judgement::new(
            ConditionType::Suspended,
            true,
            Reason::SuspendedBySpec,
            "spec.suspend is true: nothing is written",
        ),
        _ => Judgement::new(ConditionType::Suspended, false, Reason::NotSuspended, ""),
    });
    let ready = readiness::ready(&judgements, outcome.failure());
    judgements.extend(readiness::activity(outcome, &judgements, &ready, live).into_judgements());
    judgements.push(ready);
    judgements.sort_by_key(|one| one.kind);
    judgements
}

fn judge_applied(
    portal: &HardwarePortal,
    resolved: &ResolvedPortal,
    credentials: Option<&Credentials>,
    applied: &Applied,
    live: &Live,
    pod_problems: &PodProblems,
) -> Vec<Judgement> {
    let available = |component, name: String, deployment: Option<&LiveDeployment>| {
        let judgement = availability(component, &name, deployment, pod_problems);
        let is_of_this_generation = deployment.is_none_or(|deployment| {
            applied.contains("Deployment", &name) && !deployment.has_old_pods()
        });
        // While old pods are left, it is they that are available, also where the new ones never come.
        if is_of_this_generation { judgement } else { judgement.of_last_generation(portal) }
    };
    let database = database::ready(resolved, credentials, live, pod_problems);
    vec![
        progress(resolved, &database, live, pod_problems),
        database,
        credentials::ready(credentials, plan(resolved), applied.holds_credentials(), None),
        available(Component::Hardware, names::hardware(&resolved.name), live.hardware.as_ref()),
        available(Component::Portal, names::portal(&resolved.name), live.portal.as_ref()),
        autoscaling::active(applied),
    ]
}

/// What runs is still judged, of the generation that it was applied for.
fn judge_suspended(
    portal: &HardwarePortal,
    live: &Live,
    pod_problems: &PodProblems,
) -> Vec<Judgement> {
    let mut judgements = last_known(portal, live, pod_problems);
    judgements.push(Judgement::new(
        ConditionType::Progressing,
        false,
        Reason::SuspendedBySpec,
        "nothing is written while spec.suspend is true",
    ));
    judgements
}

fn judge_failed(
    portal: &HardwarePortal,
    failure: &Failure,
    live: &Live,
    pod_problems: &PodProblems,
) -> Vec<Judgement> {
    let mut judgements = last_known(portal, live, pod_problems);
    for kind in [ConditionType::Progressing, failure.concerns] {
        judgements.retain(|one| one.kind != kind);
        judgements.push(Judgement::new(kind, false, failure.reason, failure.message.clone()));
    }
    judgements
}

/// The conditions of the last status, of the generations that they were judged for. The Deployments are
/// judged by what runs now, which is what was applied for that generation.
fn last_known(portal: &HardwarePortal, live: &Live, pod_problems: &PodProblems) -> Vec<Judgement> {
    let name = portal.metadata.name.clone().unwrap_or_default();
    let known = |kind: ConditionType| {
        let old = last(portal, kind);
        let reason = old.and_then(|old| Reason::ALL.iter().find(|one| one.as_str() == old.reason));
        match (old, reason) {
            (Some(old), Some(reason)) => {
                Judgement::new(kind, old.status == "True", *reason, old.message.clone())
            }
            _ => Judgement::new(kind, false, Reason::NotCreated, "not decided yet"),
        }
    };
    let (hardware, page) = (live.hardware.as_ref(), live.portal.as_ref());
    let [of_hardware, of_page] = if live.is_unlisted {
        [known(ConditionType::HardwareAvailable), known(ConditionType::PortalAvailable)]
    } else {
        [
            availability(Component::Hardware, &names::hardware(&name), hardware, pod_problems),
            availability(Component::Portal, &names::portal(&name), page, pod_problems),
        ]
    };
    let judgements = [
        known(ConditionType::DatabaseReady),
        known(ConditionType::CredentialsReady),
        of_hardware,
        of_page,
        known(ConditionType::AutoscalingActive),
    ];
    judgements.into_iter().map(|one| one.of_last_generation(portal)).collect()
}

fn summarize(live: &LiveDeployment) -> WorkloadStatus {
    let ready = live.status.ready_replicas.unwrap_or_default();
    WorkloadStatus {
        replicas: live.replicas,
        ready,
        image: live.image.clone(),
        summary: format!("{ready}/{}", live.replicas),
    }
}

//! The condition `DatabaseReady`: by the objects that are there, not by those that are wanted.

use crds::{ConditionType, Reason};

use super::{Judgement, workloads::is_stuck};
use crate::{
    cluster::{labels::Component, names},
    portal::{
        build::migration,
        live::{Live, LiveDeployment, Migration},
        pods::{PodProblem, PodProblems},
        resolve::{ResolvedDatabase, ResolvedPortal},
    },
    rotation::Credentials,
};

fn judgement(is_true: bool, reason: Reason, message: impl Into<String>) -> Judgement {
    Judgement::new(ConditionType::DatabaseReady, is_true, reason, message)
}

/// Whether the data are where the spec wants them, with the schema that the image needs.
pub(super) fn ready(
    portal: &ResolvedPortal,
    credentials: Option<&Credentials>,
    live: &Live,
    pod_problems: &PodProblems,
) -> Judgement {
    match &portal.database {
        ResolvedDatabase::Embedded { storage } => {
            embedded(&portal.name, storage.is_some(), live.hardware.as_ref(), live.claim.as_deref())
        }
        ResolvedDatabase::Mysql(_) => {
            let problem = credentials.and_then(|credentials| credentials.database.as_ref());
            let problem = problem.filter(|problem| problem.is_confirmed);
            if let Some(problem) = problem {
                return judgement(false, Reason::DatabaseUnreachable, problem.message.clone());
            }
            let job = migration::name(portal).unwrap_or_default();
            migrated(&job, live.jobs.get(&job), pod_problems.of(Component::Migration))
        }
    }
}

/// The same after a child could not be applied: where that came before the migration's Job, none is at
/// work.
pub(super) fn after_failure(
    portal: &ResolvedPortal,
    credentials: Option<&Credentials>,
    live: &Live,
    pod_problems: &PodProblems,
) -> Judgement {
    missing_job(migration::name(portal), live)
        .unwrap_or_else(|| ready(portal, credentials, live, pod_problems))
}

pub(super) fn missing_job(job: Option<String>, live: &Live) -> Option<Judgement> {
    let job = job.filter(|job| !live.jobs.contains_key(job))?;
    Some(judgement(false, Reason::NotCreated, format!("Job {job} does not exist yet")))
}

/// An embedded database is where the hardware Deployment mounts it.
pub(super) fn embedded(
    portal: &str,
    wants_claim: bool,
    hardware: Option<&LiveDeployment>,
    claim_phase: Option<&str>,
) -> Judgement {
    let claim = names::data_claim(portal);
    if wants_claim && claim_phase != Some("Bound") {
        return judgement(false, Reason::VolumePending, unbound(&claim, claim_phase));
    }
    let Some(hardware) = hardware else {
        let message = format!("Deployment {} does not exist yet", names::hardware(portal));
        return judgement(false, Reason::NotCreated, message);
    };
    let name = &hardware.name;
    match (&hardware.data_claim, wants_claim) {
        (Some(mounted), true) if *mounted == claim => judgement(
            true,
            Reason::EmbeddedPersistent,
            format!("SQLite on the volume claim {claim}"),
        ),
        (Some(mounted), _) => judgement(
            false,
            Reason::EmbeddedPersistent,
            format!("Deployment {name} still keeps the database on the volume claim {mounted}"),
        ),
        (None, true) => judgement(
            false,
            Reason::EmbeddedEphemeral,
            format!("Deployment {name} does not mount the volume claim {claim} yet"),
        ),
        (None, false) if hardware.is_embedded => judgement(
            true,
            Reason::EmbeddedEphemeral,
            "SQLite without a volume: its data are lost with the pod; set database.embedded.storage to keep them",
        ),
        (None, false) => judgement(
            false,
            Reason::RollingOut,
            format!("Deployment {name} does not keep an embedded database yet"),
        ),
    }
}

fn unbound(claim: &str, phase: Option<&str>) -> String {
    match phase {
        None => format!("PersistentVolumeClaim {claim} does not exist yet"),
        Some("Pending") => format!(
            "PersistentVolumeClaim {claim} is Pending; a StorageClass that waits for the first consumer binds it when the pod is scheduled, otherwise kubectl describe pvc {claim} says why"
        ),
        Some(phase) => format!(
            "PersistentVolumeClaim {claim} is {phase}, so its volume is not there; kubectl describe pvc {claim} says why"
        ),
    }
}

/// A schema on a server is as the last migration has left it.
pub(super) fn migrated(
    job: &str,
    migration: Option<&Migration>,
    problem: Option<&PodProblem>,
) -> Judgement {
    match (migration, problem) {
        (Some(Migration::Succeeded), _) => {
            judgement(true, Reason::AsExpected, "the schema is current")
        }
        (Some(Migration::Failed { why, had_pods: true }), _) => judgement(
            false,
            Reason::MigrationFailed,
            format!(
                "Job {job} failed ({why}); its pods' log says why: kubectl logs job/{job}; it is tried again"
            ),
        ),
        (Some(Migration::Failed { why, had_pods: false }), _) => judgement(
            false,
            Reason::MigrationFailed,
            format!(
                "Job {job} failed ({why}) and never had a pod; kubectl describe job {job} says why; it is tried again"
            ),
        ),
        (Some(Migration::Running { .. }) | None, Some(PodProblem { reason, message }))
            if is_stuck(*reason) =>
        {
            let message = format!("Job {job} cannot bring the schema up to date: {message}");
            judgement(false, *reason, message)
        }
        // Not known to be stuck, but more than that it runs.
        (
            Some(Migration::Running { .. }) | None,
            Some(PodProblem { reason: Reason::Migrating, message }),
        ) => judgement(false, Reason::Migrating, message.clone()),
        (Some(Migration::Running { .. }) | None, _) => {
            judgement(false, Reason::Migrating, format!("Job {job} brings the schema up to date"))
        }
    }
}

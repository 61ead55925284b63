//! What is said about a portal: pure, from what was applied.

mod credentials;
pub mod publisher;
#[cfg(test)]
mod tests;
pub mod transitions;
mod workloads;

use crds::{
    ConditionType, DatabaseKind, HardwarePortal, HardwarePortalStatus, Reason, WorkloadStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::Value;

use self::workloads::{availability, is_stuck, progress_of};
use super::{
    apply::Applied,
    build::migration,
    live::{Live, LiveDeployment, Migration},
    pods::{PodProblem, PodProblems},
    resolve::{ResolvedDatabase, ResolvedPortal},
};
use crate::{
    cluster::{labels::Component, names},
    rotation::Credentials,
};

/// Why a pass did not reach its end, in the words of conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What could not be decided because of it.
    pub concerns: ConditionType,
    /// The word for machines.
    pub reason: Reason,
    /// The sentence for people.
    pub message: String,
}

/// How a pass went.
#[derive(Debug)]
pub enum ReconcileOutcome<'a> {
    /// The children are as they should be, with these credentials if they need any.
    Applied(&'a ResolvedPortal, Option<&'a Credentials>, &'a Applied),
    /// A child could not be written. What was decided holds for those that are there.
    Halted(&'a ResolvedPortal, Option<&'a Credentials>, &'a Failure),
    /// Nothing was written, as the spec asks.
    Suspended,
    /// Something is in the way.
    Failed(&'a Failure),
}

/// The status after a pass. Times of conditions that did not change stay.
#[must_use]
pub fn report(
    portal: &HardwarePortal,
    outcome: &ReconcileOutcome<'_>,
    live: &Live,
    pod_problems: &PodProblems,
    now: jiff::Timestamp,
) -> HardwarePortalStatus {
    let old = portal.status.clone().unwrap_or_default();
    let findings = Findings::collect(portal, outcome, live, pod_problems);
    let generation = portal.metadata.generation;
    let conditions = findings.into_iter().map(|finding| {
        let kind = finding.kind.as_str();
        let status = if finding.is_true { "True" } else { "False" };
        let same = old.conditions.iter().find(|old| old.type_ == kind && old.status == status);
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: finding.reason.as_str().to_owned(),
            message: finding.message,
            observed_generation: generation,
            last_transition_time: same
                .map_or_else(|| Time(now), |same| same.last_transition_time.clone()),
        }
    });
    let conditions = conditions.collect();
    let mut status = HardwarePortalStatus {
        observed_generation: generation,
        conditions,
        hardware: live.hardware.as_ref().map(summarize).or_else(|| old.hardware.clone()),
        portal: live.portal.as_ref().map(summarize).or_else(|| old.portal.clone()),
        ..old
    };
    if let ReconcileOutcome::Applied(validated, credentials, _)
    | ReconcileOutcome::Halted(validated, credentials, _) = outcome
    {
        status.database = Some(match &validated.database {
            ResolvedDatabase::Embedded { .. } => DatabaseKind::Embedded,
            ResolvedDatabase::Mysql(_) => DatabaseKind::Mysql,
        });
        status.credentials = credentials.map(credentials::describe);
    }
    if let ReconcileOutcome::Applied(validated, _, applied) = outcome {
        status.url = locate(validated, applied);
        status.hardware = find(applied, &names::hardware(&validated.name))
            .as_ref()
            .map(summarize)
            .or(status.hardware);
        status.portal = find(applied, &names::portal(&validated.name)).as_ref().map(summarize);
    }
    status
}

/// One condition before it has times.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    kind: ConditionType,
    is_true: bool,
    reason: Reason,
    message: String,
}

impl Finding {
    fn new(kind: ConditionType, is_true: bool, reason: Reason, message: impl Into<String>) -> Self {
        Self { kind, is_true, reason, message: message.into() }
    }
}

struct Findings;

impl Findings {
    /// One finding per type, in their order.
    fn collect(
        portal: &HardwarePortal,
        outcome: &ReconcileOutcome<'_>,
        live: &Live,
        pod_problems: &PodProblems,
    ) -> Vec<Finding> {
        let (mut findings, failure) = match outcome {
            ReconcileOutcome::Applied(validated, credentials, applied) => {
                (of_applied(validated, *credentials, applied, live, pod_problems), None)
            }
            ReconcileOutcome::Halted(validated, credentials, failure) => {
                let decided =
                    of_halted(portal, validated, *credentials, failure, live, pod_problems);
                (decided, Some(*failure))
            }
            ReconcileOutcome::Suspended => (of_suspended(portal, live, pod_problems), None),
            ReconcileOutcome::Failed(failure) => {
                (of_failed(portal, failure, live, pod_problems), Some(*failure))
            }
        };
        let is_suspended = matches!(outcome, ReconcileOutcome::Suspended);
        findings.push(if is_suspended {
            Finding::new(
                ConditionType::Suspended,
                true,
                Reason::SuspendedBySpec,
                "spec.suspend is true: nothing is written",
            )
        } else {
            Finding::new(ConditionType::Suspended, false, Reason::NotSuspended, "")
        });
        findings.insert(0, readiness(&findings, failure));
        findings.sort_by_key(|finding| finding.kind);
        findings
    }
}

/// Ready, as a consequence of the others. The first that is in the way gives the reason. Pods that hold
/// a login go on serving while its rotation has problem, so that alone is no obstacle. What does not
/// exist yet, or is not decided, is so because of the failure, which is then what people have to know.
fn readiness(findings: &[Finding], failure: Option<&Failure>) -> Finding {
    let has_credentials = findings
        .iter()
        .any(|finding| finding.kind == ConditionType::HardwareAvailable && finding.is_true);
    let needed = [
        (!has_credentials).then_some(ConditionType::CredentialsReady),
        Some(ConditionType::DatabaseReady),
        Some(ConditionType::HardwareAvailable),
        Some(ConditionType::PortalAvailable),
    ];
    let obstacle = needed
        .iter()
        .flatten()
        .find_map(|kind| findings.iter().find(|finding| finding.kind == *kind && !finding.is_true));
    match (obstacle, failure) {
        (Some(Finding { reason: Reason::NotCreated, .. }), Some(failure)) => {
            Finding::new(ConditionType::Ready, false, failure.reason, failure.message.clone())
        }
        (Some(Finding { reason, message, .. }), _) => {
            Finding::new(ConditionType::Ready, false, *reason, message.clone())
        }
        (None, _) => {
            Finding::new(ConditionType::Ready, true, Reason::AsExpected, "the portal serves")
        }
    }
}

fn of_applied(
    portal: &ResolvedPortal,
    credentials: Option<&Credentials>,
    applied: &Applied,
    live: &Live,
    pod_problems: &PodProblems,
) -> Vec<Finding> {
    let (api, web) = (names::hardware(&portal.name), names::portal(&portal.name));
    let current = |name: &str, cached: Option<&LiveDeployment>| {
        find(applied, name).or_else(|| cached.cloned())
    };
    let hardware = current(&api, live.hardware.as_ref());
    let page = current(&web, live.portal.as_ref());
    vec![
        progress(portal, hardware.as_ref(), page.as_ref(), live, pod_problems),
        database(portal, live, pod_problems.of(Component::Migration)),
        credentials::find(credentials),
        availability(Component::Hardware, &api, hardware.as_ref(), pod_problems),
        availability(Component::Portal, &web, page.as_ref(), pod_problems),
        autoscaling(applied),
    ]
}

fn database(portal: &ResolvedPortal, live: &Live, problem: Option<&PodProblem>) -> Finding {
    let finding = |is_true, reason, message: String| {
        Finding::new(ConditionType::DatabaseReady, is_true, reason, message)
    };
    match (&portal.database, migration::name(portal)) {
        (ResolvedDatabase::Embedded { storage: Some(_) }, _) => finding(
            true,
            Reason::EmbeddedPersistent,
            format!("SQLite on the volume claim {}", names::data_claim(&portal.name)),
        ),
        (ResolvedDatabase::Embedded { storage: None }, _) => finding(
            true,
            Reason::EmbeddedEphemeral,
            "SQLite without a volume: its data are lost with the pod; set database.embedded.storage to keep them".to_owned(),
        ),
        (ResolvedDatabase::Mysql(_), job) => {
            let job = job.unwrap_or_default();
            match live.jobs.get(&job) {
                Some(Migration::Succeeded) => {
                    finding(true, Reason::AsExpected, "the schema is current".to_owned())
                }
                Some(Migration::Failed(why)) => finding(
                    false,
                    Reason::MigrationFailed,
                    format!("Job {job} failed ({why}); its pods' log says why: kubectl logs job/{job}; it is tried again"),
                ),
                Some(Migration::Running) | None => match problem {
                    Some(PodProblem { reason, message }) if is_stuck(*reason) => finding(
                        false,
                        *reason,
                        format!("Job {job} cannot bring the schema up to date: {message}"),
                    ),
                    _ => finding(
                        false,
                        Reason::Migrating,
                        format!("Job {job} brings the schema up to date"),
                    ),
                },
            }
        }
    }
}

fn progress(
    portal: &ResolvedPortal,
    hardware: Option<&LiveDeployment>,
    page: Option<&LiveDeployment>,
    live: &Live,
    pod_problems: &PodProblems,
) -> Finding {
    let kind = ConditionType::Progressing;
    if migration::is_outstanding(portal, live) {
        if let Some(stuck) = pod_problems.of(Component::Migration).filter(|it| is_stuck(it.reason))
        {
            return Finding::new(kind, false, stuck.reason, stuck.message.clone());
        }
        return Finding::new(
            kind,
            true,
            Reason::Migrating,
            "new hardware pods wait for the migration",
        );
    }
    progress_of([(Component::Hardware, hardware), (Component::Portal, page)], pod_problems)
}

fn autoscaling(applied: &Applied) -> Finding {
    let kind = ConditionType::AutoscalingActive;
    let mut scalers = applied.of_kind("HorizontalPodAutoscaler").peekable();
    if scalers.peek().is_none() {
        return Finding::new(kind, false, Reason::Disabled, "the numbers of pods are fixed");
    }
    let inactive = scalers.find_map(|scaler| {
        let name = scaler.metadata.name.clone().unwrap_or_default();
        let conditions = scaler.data.pointer("/status/conditions").and_then(Value::as_array);
        let active = conditions.into_iter().flatten().find(|one| one["type"] == "ScalingActive");
        match active {
            Some(active) if active["status"] == "True" => None,
            Some(active) => {
                Some(format!("{name}: {}", active["message"].as_str().unwrap_or_default()))
            }
            None => Some(format!("{name} has not looked at metrics yet")),
        }
    });
    match inactive {
        Some(message) => Finding::new(kind, false, Reason::MetricsUnavailable, message),
        None => Finding::new(kind, true, Reason::AsExpected, "the numbers of pods follow the load"),
    }
}

/// What was decided about the database and its credential is so, whichever child is missing.
fn of_halted(
    portal: &HardwarePortal,
    validated: &ResolvedPortal,
    credentials: Option<&Credentials>,
    failure: &Failure,
    live: &Live,
    pod_problems: &PodProblems,
) -> Vec<Finding> {
    let mut findings = of_failed(portal, failure, live, pod_problems);
    let database = missing_job(migration::name(validated), live)
        .unwrap_or_else(|| database(validated, live, pod_problems.of(Component::Migration)));
    for decided in [database, credentials::find(credentials)] {
        findings.retain(|finding| finding.kind != decided.kind);
        findings.push(decided);
    }
    findings
}

/// Where the failure came before the migration's Job, none is at work.
fn missing_job(job: Option<String>, live: &Live) -> Option<Finding> {
    let job = job.filter(|job| !live.jobs.contains_key(job))?;
    let message = format!("Job {job} does not exist yet");
    Some(Finding::new(ConditionType::DatabaseReady, false, Reason::NotCreated, message))
}

/// What runs is still described; what is unknown is taken from the last status.
fn of_suspended(portal: &HardwarePortal, live: &Live, pod_problems: &PodProblems) -> Vec<Finding> {
    let mut findings = remembered(portal, live, pod_problems);
    findings.push(Finding::new(
        ConditionType::Progressing,
        false,
        Reason::SuspendedBySpec,
        "nothing is written while spec.suspend is true",
    ));
    findings
}

fn of_failed(
    portal: &HardwarePortal,
    failure: &Failure,
    live: &Live,
    pod_problems: &PodProblems,
) -> Vec<Finding> {
    let mut findings = remembered(portal, live, pod_problems);
    let blocked = Finding::new(failure.concerns, false, failure.reason, failure.message.clone());
    findings.retain(|finding| finding.kind != blocked.kind);
    findings.push(blocked);
    if failure.concerns != ConditionType::Progressing {
        findings.push(Finding::new(
            ConditionType::Progressing,
            false,
            failure.reason,
            failure.message.clone(),
        ));
    }
    findings
}

fn remembered(portal: &HardwarePortal, live: &Live, pod_problems: &PodProblems) -> Vec<Finding> {
    let name = portal.metadata.name.clone().unwrap_or_default();
    let last = |kind: ConditionType| {
        let status = portal.status.as_ref();
        let old = status
            .and_then(|status| status.conditions.iter().find(|old| old.type_ == kind.as_str()));
        let reason = old.and_then(|old| Reason::ALL.iter().find(|one| one.as_str() == old.reason));
        match (old, reason) {
            (Some(old), Some(reason)) => {
                Finding::new(kind, old.status == "True", *reason, old.message.clone())
            }
            _ => Finding::new(kind, false, Reason::NotCreated, "not decided yet"),
        }
    };
    vec![
        last(ConditionType::DatabaseReady),
        last(ConditionType::CredentialsReady),
        availability(
            Component::Hardware,
            &names::hardware(&name),
            live.hardware.as_ref(),
            pod_problems,
        ),
        availability(Component::Portal, &names::portal(&name), live.portal.as_ref(), pod_problems),
        last(ConditionType::AutoscalingActive),
    ]
}

fn find(applied: &Applied, name: &str) -> Option<LiveDeployment> {
    applied.get("Deployment", name).as_ref().and_then(LiveDeployment::read)
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

/// Where the page is reached: by the Ingress's host, by the load balancer, or by the Service's own
/// address, in this order.
fn locate(portal: &ResolvedPortal, applied: &Applied) -> Option<String> {
    if let Some(ingress) = &portal.ingress
        && let Some(host) = &ingress.host
    {
        let is_encrypted = ingress.tls_secret_name.is_some() || ingress.alb.is_some();
        let scheme = if is_encrypted { "https" } else { "http" };
        return Some(format!("{scheme}://{host}/"));
    }
    let service = applied.get("Service", &names::portal(&portal.name))?;
    let text = |path: &str| service.data.pointer(path).and_then(Value::as_str);
    let balancer = "/status/loadBalancer/ingress/0";
    let host = text(&format!("{balancer}/hostname"))
        .or_else(|| text(&format!("{balancer}/ip")))
        .or_else(|| text("/spec/clusterIP"))?;
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    Some(format!("http://{host}:{}/", super::build::portal::PORT))
}

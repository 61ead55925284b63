//! The condition `CredentialsReady` and `status.credentials`. Names and numbers only.

use crds::{
    ConditionType, CredentialsStatus, ROTATE_AT_ANNOTATION, Reason, RotationCause, RotationMode,
    RotationOutcome, RotationPhase, RotationRecord,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Failure, Judgement};
use crate::rotation::{
    Credentials, PlannedRotations, Trouble,
    machine::{Cause, HistoryEntry, Outcome, Phase, Plan},
};

/// Whether the pods' Secret holds a login. `is_published` is whether it was seen to hold the credentials;
/// if it does not, the failure is why.
pub(super) fn ready(
    credentials: Option<&Credentials>,
    plan: Option<&Plan>,
    is_published: bool,
    failure: Option<&Failure>,
) -> Judgement {
    let judgement = |is_true, reason, message: String| {
        Judgement::new(ConditionType::CredentialsReady, is_true, reason, message)
    };
    let Some(credentials) = credentials else {
        let message = "the embedded database needs no account";
        return judgement(true, Reason::NotNeeded, message.to_owned());
    };
    let generation = credentials.for_pods.generation;
    if !is_published {
        let reason = failure.map_or(Reason::NotCreated, |failure| failure.reason);
        let why = failure.map(|failure| format!(": {}", failure.message)).unwrap_or_default();
        let message = format!("generation {generation} is not published yet{why}");
        return judgement(false, reason, message);
    }
    if let Some(Trouble { reason, message, .. }) = &credentials.trouble {
        let message =
            format!("{message}; the pods keep generation {generation}, which is published");
        return judgement(false, *reason, message);
    }
    if let Some(phase) = credentials.phase() {
        let message = format!("generation {generation} is published; the rotation is at {phase:?}");
        return judgement(true, Reason::Rotating, message);
    }
    if credentials.mode == RotationMode::Follow && credentials.is_privileged {
        let message = format!(
            "generation {generation} is published, but the source's account may create users: give the pods a smaller one, or choose rotation.mode AlternatingUsers"
        );
        return judgement(true, Reason::AccountPrivileged, message);
    }
    let planned = plan.map(|plan| credentials.planned(plan)).unwrap_or_default();
    let request = describe_request(planned).map(|text| format!("; {text}")).unwrap_or_default();
    let message = format!("generation {generation} is published to the pods{request}");
    judgement(true, Reason::Published, message)
}

/// When the rotation begins that a person has asked for.
fn describe_request(planned: PlannedRotations) -> Option<String> {
    let requested = planned.requested?;
    let by_whom = format!("(requested by the annotation {ROTATE_AT_ANNOTATION})");
    Some(match planned.by_interval {
        Some(earlier) if earlier < requested => format!(
            "the next rotation is planned for {earlier} (rotation.interval), and another one for {requested} {by_whom}"
        ),
        _ => format!("the next rotation is planned for {requested} {by_whom}"),
    })
}

/// `status.credentials`.
pub(super) fn describe(credentials: &Credentials, plan: Option<&Plan>) -> CredentialsStatus {
    let state = &credentials.state;
    let phase = credentials.phase().map_or(RotationPhase::Idle, phase);
    let planned = plan.and_then(|plan| credentials.planned(plan).next());
    CredentialsStatus {
        generation: count(state.generation),
        phase: Some(phase),
        mode: Some(credentials.mode),
        account: state.active().map(|login| login.username.clone()),
        last_rotation_time: state.last_rotation.map(Time),
        next_rotation_time: planned.map(Time),
        source_version: state.source_version.clone(),
        summary: format!("{} ({phase})", state.generation),
        history: state.history.iter().map(record).collect(),
    }
}

fn count(generation: u64) -> i64 {
    i64::try_from(generation).unwrap_or(i64::MAX)
}

fn record(entry: &HistoryEntry) -> RotationRecord {
    RotationRecord {
        generation: count(entry.generation),
        reason: match entry.cause {
            Cause::First => RotationCause::FirstCredential,
            Cause::Moved | Cause::ModeChanged => RotationCause::SpecChanged,
            Cause::Drift | Cause::Resumed => RotationCause::Drift,
            Cause::SourceChanged => RotationCause::SourceChanged,
            Cause::Requested => RotationCause::Requested,
            Cause::Interval => RotationCause::IntervalElapsed,
        },
        source_version: entry.source_version.clone(),
        started_at: Some(Time(entry.started_at)),
        adopted_at: entry.adopted_at.map(Time),
        revoked_at: (entry.outcome == Outcome::Revoked).then_some(Time(entry.ended_at)),
        outcome: match entry.outcome {
            Outcome::Revoked | Outcome::Adopted => RotationOutcome::Completed,
            Outcome::RolledBack => RotationOutcome::RolledBack,
        },
    }
}

fn phase(phase: Phase) -> RotationPhase {
    match phase {
        Phase::Observed => RotationPhase::Observed,
        Phase::RootVerified => RotationPhase::RootVerified,
        Phase::Staged => RotationPhase::Staged,
        Phase::Applied => RotationPhase::Applied,
        Phase::Verified => RotationPhase::Verified,
        Phase::Published => RotationPhase::Published,
        Phase::Adopted => RotationPhase::Adopted,
        Phase::Drained => RotationPhase::Drained,
        Phase::Revoked => RotationPhase::Revoked,
    }
}

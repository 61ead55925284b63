//! What is said about the database credential. Names and numbers only.

use crds::{
    ConditionType, CredentialsStatus, Reason, RotationCause, RotationMode, RotationOutcome,
    RotationPhase, RotationRecord,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Finding;
use crate::rotation::{
    Credentials, Trouble,
    machine::{Cause, HistoryEntry, Outcome, Phase},
};

/// The condition `CredentialsReady`.
pub(super) fn find(credentials: Option<&Credentials>) -> Finding {
    let kind = ConditionType::CredentialsReady;
    let Some(credentials) = credentials else {
        return Finding::new(
            kind,
            true,
            Reason::NotNeeded,
            "the embedded database needs no account",
        );
    };
    let generation = credentials.state.generation;
    if let Some(Trouble { reason, message, .. }) = &credentials.trouble {
        let message =
            format!("{message}; the pods keep generation {generation}, which is published");
        return Finding::new(kind, false, *reason, message);
    }
    if let Some(phase) = credentials.phase() {
        let message = format!("generation {generation} is published; the rotation is at {phase:?}");
        return Finding::new(kind, true, Reason::Rotating, message);
    }
    if credentials.mode == RotationMode::Follow && credentials.is_privileged {
        let message = format!(
            "generation {generation} is published, but the source's account may create users: give the pods a smaller one, or choose rotation.mode AlternatingUsers"
        );
        return Finding::new(kind, true, Reason::AccountPrivileged, message);
    }
    let message = format!("generation {generation} is published to the pods");
    Finding::new(kind, true, Reason::Published, message)
}

/// `status.credentials`.
pub(super) fn describe(credentials: &Credentials) -> CredentialsStatus {
    let state = &credentials.state;
    let phase = credentials.phase().map_or(RotationPhase::Idle, phase);
    CredentialsStatus {
        generation: count(state.generation),
        phase: Some(phase),
        mode: Some(credentials.mode),
        account: state.active().map(|login| login.username.clone()),
        last_rotation_time: state.last_rotation.map(Time),
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

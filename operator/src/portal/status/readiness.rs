//! The conditions that follow from the others: Ready for people, and Reconciling and Stalled, by which
//! kstatus (Helm, Flux, kpt) tells what advances by itself from what waits for somebody.

use crds::{ConditionType, Reason};

use super::{Failure, Judgement, ReconcileOutcome};
use crate::portal::live::Live;

fn find(judgements: &[Judgement], kind: ConditionType) -> Option<&Judgement> {
    judgements.iter().find(|one| one.kind == kind)
}

/// Whether the portal serves. The first condition that is in the way gives the reason. Pods that hold a
/// login go on serving while its rotation has a problem, so that alone is no obstacle. What does not exist
/// yet, or is not decided, is so because of the failure, which is then what people have to know.
///
/// A portal that serves does so for the generation that its conditions are of. One that does not serve,
/// does not serve for the present generation either.
pub(super) fn ready(judgements: &[Judgement], failure: Option<&Failure>) -> Judgement {
    let kind = ConditionType::Ready;
    let of = |kind| find(judgements, kind);
    let is_available = |kind| of(kind).is_some_and(|one| one.is_true);
    let has_hardware = is_available(ConditionType::HardwareAvailable);
    let old_pods_serve =
        failure.is_some() && has_hardware && is_available(ConditionType::PortalAvailable);
    let is_stopped =
        of(ConditionType::HardwareAvailable).is_some_and(|it| it.reason == Reason::ScaledToZero);
    let needed = [
        of(ConditionType::CredentialsReady).filter(|_| !has_hardware),
        of(ConditionType::DatabaseReady).filter(|it| {
            // The database of the generation that could not be applied; the pods use another one.
            let is_of_no_pod = old_pods_serve && !it.is_true && is_missing(it.reason);
            // Without a pod, nothing binds the claim.
            let waits_for_pods = is_stopped && it.reason == Reason::VolumePending;
            !is_of_no_pod && !waits_for_pods
        }),
        of(ConditionType::HardwareAvailable),
        of(ConditionType::PortalAvailable),
    ];
    let obstacle = needed.into_iter().flatten().find(|one| !one.is_true);
    match (obstacle, failure) {
        (Some(Judgement { reason: Reason::NotCreated, .. }), Some(failure)) => {
            Judgement::new(kind, false, failure.reason, failure.message.clone())
        }
        (Some(Judgement { reason, message, .. }), _) => {
            Judgement::new(kind, false, *reason, message.clone())
        }
        (None, _) => {
            let earliest = needed.into_iter().flatten().filter_map(|one| one.generation).min();
            let ready = Judgement::new(kind, true, Reason::AsExpected, "the portal serves");
            Judgement { generation: earliest, ..ready }
        }
    }
}

/// Whether a database is not ready merely as its objects are not there yet.
fn is_missing(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::NotCreated
            | Reason::VolumePending
            | Reason::EmbeddedEphemeral
            | Reason::EmbeddedPersistent
            | Reason::RollingOut
    )
}

/// Whether what runs differs from the spec, and who does something about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    /// Nobody has to do anything, or it heals by itself without an end that could be waited for.
    Settled(Reason),
    /// The operator, a controller or the kubelet is at work.
    Reconciling(Reason, String),
    /// Somebody else has to act.
    Stalled(Reason, String),
}

impl Activity {
    /// Both conditions; at most one of them is true.
    pub(super) fn into_judgements(self) -> [Judgement; 2] {
        let (reconciling, stalled) = (ConditionType::Reconciling, ConditionType::Stalled);
        let no = |kind, reason| Judgement::new(kind, false, reason, "");
        match self {
            Self::Settled(reason) => [no(reconciling, reason), no(stalled, reason)],
            Self::Reconciling(reason, message) => [
                Judgement::new(reconciling, true, reason, message),
                no(stalled, Reason::AsExpected),
            ],
            Self::Stalled(reason, message) => [
                no(reconciling, Reason::AsExpected),
                Judgement::new(stalled, true, reason, message),
            ],
        }
    }

    fn of(reason: Reason, message: &str) -> Self {
        if needs_somebody(reason) {
            Self::Stalled(reason, message.to_owned())
        } else {
            Self::Reconciling(reason, message.to_owned())
        }
    }
}

/// What is done about the difference between the spec and what runs, from the other conditions.
pub(super) fn activity(
    outcome: &ReconcileOutcome<'_>,
    judgements: &[Judgement],
    ready: &Judgement,
    live: &Live,
) -> Activity {
    if matches!(outcome, ReconcileOutcome::Suspended) {
        return Activity::Settled(Reason::SuspendedBySpec);
    }
    if let Some(failure) = outcome.failure() {
        return Activity::of(failure.reason, &failure.message);
    }
    let of = |kind, wanted: &[Reason]| {
        let found = find(judgements, kind).filter(|one| !one.is_true);
        found.filter(|one| wanted.contains(&one.reason))
    };
    // Pods that do not start without their database need nobody but the database.
    if of(ConditionType::DatabaseReady, &[Reason::DatabaseUnreachable]).is_some() {
        return Activity::Settled(Reason::AsExpected);
    }
    let progress = find(judgements, ConditionType::Progressing);
    if let Some(stuck) = progress.filter(|it| !it.is_true && it.reason != Reason::AsExpected) {
        return Activity::of(stuck.reason, &stuck.message);
    }
    let pods = live.hardware.as_ref().and_then(|it| it.status.available_replicas);
    let locked_out = of(
        ConditionType::CredentialsReady,
        &[Reason::RootRejected, Reason::AccountsFailed, Reason::StateRefused],
    );
    if let Some(locked_out) = locked_out.filter(|_| pods.unwrap_or_default() == 0) {
        return Activity::Stalled(locked_out.reason, locked_out.message.clone());
    }
    if let Some(progress) = progress.filter(|it| it.is_true) {
        return Activity::Reconciling(progress.reason, progress.message.clone());
    }
    let is_claim_lost = live.claim.as_deref() == Some("Lost");
    match of(ConditionType::DatabaseReady, &[Reason::VolumePending]) {
        Some(lost) if is_claim_lost => Activity::Stalled(lost.reason, lost.message.clone()),
        _ if ready.is_true || ready.reason == Reason::ScaledToZero => {
            Activity::Settled(Reason::AsExpected)
        }
        _ => Activity::of(ready.reason, &ready.message),
    }
}

/// Whether nothing advances until somebody else acts. What passes by itself, and what the operator tries
/// again with a prospect of success, does not need anybody.
fn needs_somebody(reason: Reason) -> bool {
    // Without `_`: a new reason has to be thought about.
    match reason {
        Reason::Paused
        | Reason::ImagePullBackOff
        | Reason::CrashLoopBackOff
        | Reason::ContainerNotCreated
        | Reason::ProgressDeadlineExceeded
        | Reason::MigrationFailed
        | Reason::SourceNotFound
        | Reason::SourceNotAllowed
        | Reason::SourceInvalid
        | Reason::StateEncrypted
        | Reason::StateOutdated
        | Reason::StateLineageChanged
        | Reason::StateRefused
        | Reason::HostNotNamed
        | Reason::RootRejected
        | Reason::RotationStalled
        | Reason::AccountsLeft
        | Reason::AccountPrivileged
        | Reason::AccountsFailed
        | Reason::CaNotFound
        | Reason::InvalidSpec
        | Reason::HostNotAllowed
        | Reason::DataWouldBeLost
        | Reason::SourceForbidden
        | Reason::PortalNotFound
        | Reason::SecretNotFound
        | Reason::SecretNotAllowed
        | Reason::SecretInvalid
        | Reason::TooManyWatches
        | Reason::Refused
        | Reason::ListForbidden => true,
        Reason::AsExpected
        | Reason::RollingOut
        | Reason::ScaledToZero
        | Reason::MinimumReplicasUnavailable
        // An autoscaler may add a node; the deadline of the rollout ends the wait for it.
        | Reason::Unschedulable
        | Reason::NotCreated
        | Reason::EmbeddedPersistent
        | Reason::EmbeddedEphemeral
        | Reason::VolumePending
        | Reason::DatabaseUnreachable
        | Reason::Migrating
        | Reason::NotNeeded
        | Reason::Published
        | Reason::SourceUnavailable
        | Reason::StateLocked
        | Reason::StateIncomplete
        | Reason::RootUnreachable
        | Reason::Rotating
        | Reason::RolledBack
        | Reason::Rotated
        | Reason::ApiError
        // The source says what it waits for, if that is somebody.
        | Reason::ReportPending
        | Reason::SourceSilent
        | Reason::SourceFailing
        | Reason::HardwareUnreachable
        | Reason::Watching
        | Reason::RolloutPending
        | Reason::DeliveryFailing
        | Reason::MetricsUnavailable
        | Reason::Disabled
        | Reason::SuspendedBySpec
        | Reason::NotSuspended => false,
    }
}

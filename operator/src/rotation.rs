//! The database credential: where the first one comes from, and how the pods' own one changes
//! without a failed request.
//!
//! Two tiers. The *root* login comes from a [`source`] and is used by the operator alone; the
//! *application accounts* that the pods hold are made and changed by the operator ([`accounts`]), one
//! step of [`rotation`] at a time. In mode `Follow` there is one tier: the pods hold what the source
//! says. [`rotator`] carries the steps out, [`memory`] keeps what must not be forgotten, and
//! [`adoption`] asks the pods what they hold.

pub mod executor;
pub mod machine;
pub mod mysql;
pub mod pod_reports;
pub mod request;
pub mod source;
pub mod store;

use std::time::Duration;

use crds::{Reason, RotationMode};
use jiff::Timestamp;
use service_kit::credentials::CredentialSet;

use self::machine::{Phase, Plan, State};

/// How often to look while pods take over a new login.
const IN_MOTION: Duration = Duration::from_millis(250);
/// How often to look while something is in the way.
const OBSTRUCTED: Duration = Duration::from_secs(5);

/// What a portal's pods should hold now, and how far its rotation is.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The pods' file.
    pub for_pods: CredentialSet,
    /// The migration's file, while a migration is outstanding.
    pub for_migration: Option<CredentialSet>,
    /// What is remembered.
    pub state: State,
    /// Who changes the credential.
    pub mode: RotationMode,
    /// What is in the way, if anything is.
    pub trouble: Option<Trouble>,
    /// Whether the pods' account may do more than it should.
    pub is_privileged: bool,
    /// Why the database does not answer the pods' login, if it was tried and does not.
    pub database: Option<DatabaseProblem>,
}

/// Why the database does not answer the pods' login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseProblem {
    /// The sentence for people.
    pub message: String,
}

/// What the next rotations are planned for. Both are none while a rotation is under way, and in mode
/// Follow, where only the source changes the credential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlannedRotations {
    /// When the credential reaches the age of `rotation.interval`.
    pub by_interval: Option<Timestamp>,
    /// When a person asked for a rotation, if it has not been made yet.
    pub requested: Option<Timestamp>,
}

impl PlannedRotations {
    /// The earlier of both.
    #[must_use]
    pub fn next(&self) -> Option<Timestamp> {
        self.by_interval.into_iter().chain(self.requested).min()
    }
}

/// Why a rotation does not go on, or the source says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The word for machines.
    pub reason: Reason,
    /// The sentence for people.
    pub message: String,
}

impl Credentials {
    /// The last step that was reached; none at rest.
    #[must_use]
    pub fn phase(&self) -> Option<Phase> {
        self.state.change.as_ref().map(|change| change.phase)
    }

    /// When to look again: soon while something moves, otherwise at the source as often as the spec
    /// asks, and not later than the next rotation is due.
    #[must_use]
    pub fn next_look(&self, poll: Duration, plan: &Plan, now: Timestamp) -> Duration {
        if self.trouble.is_some() {
            return OBSTRUCTED.min(poll);
        }
        if self.state.change.is_some() {
            return IN_MOTION;
        }
        let PlannedRotations { by_interval, requested } = self.planned(plan);
        // A request in the past that is not met yet waits for something else than time.
        let due = by_interval.into_iter().chain(requested.filter(|at| *at > now)).min();
        let until = due.and_then(|due| Duration::try_from(due.duration_since(now)).ok());
        until.unwrap_or(poll).clamp(IN_MOTION, poll.max(IN_MOTION))
    }

    /// What the next rotations are planned for. It does not depend on the present time, so that the
    /// status does not change with each pass.
    #[must_use]
    pub fn planned(&self, plan: &Plan) -> PlannedRotations {
        let State { change, last_rotation, requested, not_before, .. } = &self.state;
        if change.is_some() || self.mode == RotationMode::Follow {
            return PlannedRotations::default();
        }
        // After a rotation that was rolled back, the next one waits.
        let not_earlier = |at: Timestamp| not_before.map_or(at, |until| at.max(until));
        let by_interval = last_rotation.and_then(|last| last.checked_add(plan.interval).ok());
        let is_unmet = |at: &Timestamp| requested.is_none_or(|last| last < *at);
        PlannedRotations {
            by_interval: by_interval.map(not_earlier),
            requested: plan.requested.filter(is_unmet).map(not_earlier),
        }
    }
}

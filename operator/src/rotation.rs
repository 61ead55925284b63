//! The middle layer: the accounts that a portal's pods log in to their database with.
//!
//! Two tiers. The *root* login comes from a [`source`] and is used by the operator alone. The
//! *application accounts* that the pods hold are made and changed by the operator ([`mysql`]), one
//! transition of the [`machine`] at a time. In mode `Follow` there is one tier: the pods hold what the
//! source says. The [`executor`] carries the transitions out, the [`store`] keeps the state in the
//! operator's own namespace, and [`pod_reports`] asks the pods which generation they hold.
//!
//! The layer is told what to do by a [`request`] and knows nothing of how a portal is built or applied.

pub mod executor;
pub mod login_gate;
pub mod machine;
pub mod mysql;
pub mod place;
pub mod pod_reports;
pub mod request;
pub mod retirement;
pub mod source;
pub mod store;

use std::time::Duration;

use crds::{Reason, RotationMode};
use jiff::Timestamp;
use service_kit::credentials::CredentialSet;

use self::machine::{Phase, Plan, State};
use crate::cluster::retry::Retry;

/// Time until the next transition is looked for while pods take over a new login.
const IN_MOTION: Duration = Duration::from_millis(250);
/// The same while it waits for a migration.
const WAITING: Duration = Duration::from_secs(5);

/// Time until a login that the database did not answer is tried again. It is short until that is confirmed.
fn unanswered_retry(is_confirmed: bool) -> Duration {
    Duration::from_secs(if is_confirmed { 30 } else { 5 })
}

/// What a portal's pods should hold now, and how far its rotation is.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The pods' file.
    pub for_pods: CredentialSet,
    /// The migration's file, while a migration is outstanding.
    pub for_migration: Option<CredentialSet>,
    /// What is stored.
    pub state: State,
    /// Who changes the credential.
    pub mode: RotationMode,
    /// What is in the way, if anything is.
    pub trouble: Option<Trouble>,
    /// Why the database does not answer the pods' login, if it does not.
    pub database: Option<DatabaseProblem>,
    /// Whether the pods' account may do more than it should.
    pub is_privileged: bool,
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
    /// The reason of the condition.
    pub reason: Reason,
    /// The message of the condition.
    pub message: String,
    /// When to try again.
    pub retry: Retry,
}

impl Trouble {
    /// A trouble after which the next try comes ever more slowly.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), retry: Retry::Backoff }
    }
}

/// The database server does not answer the login that the pods use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseProblem {
    /// What the network or the server says.
    pub message: String,
    /// Whether it has been so for some seconds. Until then it may be a connection that was lost.
    pub is_confirmed: bool,
}

impl Credentials {
    /// The last phase that was reached; none at rest.
    #[must_use]
    pub fn phase(&self) -> Option<Phase> {
        self.state.change.as_ref().map(|change| change.phase)
    }

    /// Time until the next pass without a trouble: soon while something moves, otherwise when the source
    /// is to be read, and not later than the next rotation is due.
    #[must_use]
    pub fn next_pass(&self, poll_interval: Duration, plan: &Plan, now: Timestamp) -> Duration {
        if let Some(problem) = &self.database {
            return unanswered_retry(problem.is_confirmed).min(poll_interval);
        }
        if self.state.change.as_ref().is_some_and(|change| change.phase == Phase::Verified) {
            // A move that waits for its migration, whose end makes a pass of its own.
            return WAITING.min(poll_interval);
        }
        if self.state.change.is_some() {
            return IN_MOTION;
        }
        let PlannedRotations { by_interval, requested } = self.planned(plan);
        // A request in the past that is not met yet waits for something else than time.
        let due = by_interval.into_iter().chain(requested.filter(|at| *at > now)).min();
        let until = due.and_then(|due| Duration::try_from(due.duration_since(now)).ok());
        until.unwrap_or(poll_interval).clamp(IN_MOTION, poll_interval.max(IN_MOTION))
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

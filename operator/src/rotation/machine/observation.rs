//! What was observed of source, server and pods.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use service_kit::credentials::Candidate;

/// What has to be observed. An observation costs logins and requests, so only what is needed is observed.
/// The sessions come before the logins, which are sessions themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "any of them may be asked for, in any combination"
)]
pub struct Needs {
    /// Which login of the source is let in.
    pub root: bool,
    /// Whether the new login is let in.
    pub next: bool,
    /// Whether the old login is let in.
    pub old: bool,
    /// What the pods report.
    pub pods: bool,
    /// Who is logged in.
    pub sessions: bool,
}

/// What was observed; none for what was not needed or could not be observed.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// What the source gives.
    pub source: Option<ObservedSource>,
    /// Which login of the source is let in.
    pub root: Option<ObservedRoot>,
    /// Whether the login that the pods lead with is let in.
    pub active: Option<ObservedLogin>,
    /// Whether the new login is let in.
    pub next: Option<ObservedLogin>,
    /// Whether the old login is let in.
    pub old: Option<ObservedLogin>,
    /// Every pod that is not on its way out, ready or not.
    pub pods: Option<Vec<PodReport>>,
    /// The server's sessions.
    pub sessions: Option<ObservedSessions>,
    /// Whether the schema at the place that the spec asks for is migrated.
    pub is_migrated: bool,
}

/// What the source says.
#[derive(Clone, Debug)]
pub struct ObservedSource {
    /// Version of the source, as the source counts.
    pub version: String,
    /// At least one login: current, pending, previous.
    pub candidates: Vec<Candidate>,
}

/// Which login of the source is let in.
#[derive(Clone, Debug)]
pub enum ObservedRoot {
    /// This one.
    Works(Candidate),
    /// None of them, with what is known of them and what to do.
    Rejected(String),
    /// The server could not be asked.
    Unreachable(String),
}

/// Whether a login is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObservedLogin {
    /// Yes, and it may do what it should.
    Accepted {
        /// Whether it may create users, which an application account should not.
        is_privileged: bool,
    },
    /// Yes, but its rights differ, as said here.
    Differs(String),
    /// The server refuses it.
    Denied,
    /// The server could not be asked.
    Unreachable(String),
}

/// What a pod reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodReport {
    /// Its name.
    pub name: String,
    /// The generation that it logs in with; none if it cannot be asked.
    pub generation: Option<u64>,
    /// Its open connections by the generation that they logged in with.
    pub connections: BTreeMap<u64, usize>,
    /// The generation for which its kubelet was last told to refresh its volumes, and when.
    pub nudged: Option<(u64, Timestamp)>,
}

impl PodReport {
    /// Whether it logs in with this generation or a later one.
    #[must_use]
    pub fn has_adopted(&self, generation: u64) -> bool {
        self.generation.is_some_and(|own| own >= generation)
    }

    /// Whether it has a connection that logged in before this generation.
    #[must_use]
    pub fn has_connections_before(&self, generation: u64) -> bool {
        self.connections.range(..generation).any(|(_, open)| *open > 0)
    }
}

/// What the server's process list shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedSessions {
    /// The sessions of this portal's accounts.
    pub of_accounts: Vec<ObservedSession>,
    /// The ids of sessions that have not authenticated yet: each may become one of any account.
    pub unauthenticated: BTreeSet<u64>,
}

/// A session of one of the portal's accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedSession {
    /// The account.
    pub user: String,
    /// The server's number of the session.
    pub id: u64,
    /// Where it comes from.
    pub host: String,
}

//! The state of a rotation. It holds passwords, so it is kept in a Secret that the operator alone may
//! read; the status only mirrors what may be seen.

use std::collections::BTreeSet;

use crds::RotationMode;
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use service_kit::credentials::Candidate;

use crate::rotation::{mysql::AccountName, place::Place, source::StateVersion};

/// Entries of the history that are kept.
const HISTORY: usize = 10;

/// The stored state of a rotation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct State {
    /// Generation of what is published; only ever grows. 0 before the first.
    pub generation: u64,
    /// What the pods' file holds, best first.
    #[serde(with = "logins")]
    pub published: Vec<Candidate>,
    /// Where these logins are for.
    pub place: Option<Place>,
    /// The rotation that is under way.
    pub change: Option<Change>,
    /// The root login that worked last.
    #[serde(with = "login")]
    pub root: Option<Candidate>,
    /// Where the root login worked. It is sent nowhere else: whoever may edit the portal chooses the source,
    /// and with it the server.
    pub root_place: Option<Place>,
    /// The root login that worked last on the server that the pods are to leave.
    #[serde(with = "login")]
    pub former_root: Option<Candidate>,
    /// Version of the source at the end of the last rotation.
    pub source_version: Option<String>,
    /// The request that was last met.
    pub requested: Option<Timestamp>,
    /// End of the last rotation.
    pub last_rotation: Option<Timestamp>,
    /// Time before which nothing is started, after a rotation was rolled back.
    pub not_before: Option<Timestamp>,
    /// The account that migrates the schema, while it exists.
    #[serde(with = "login")]
    pub owner: Option<Candidate>,
    /// Whether the migration's account may exist though `owner` is none: the stored state was lost.
    pub migration_account_may_exist: bool,
    /// Servers that the portal has left, with accounts that are still to be locked or dropped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<LeftPlace>,
    /// The terraform state that was last accepted.
    pub terraform: Option<StateVersion>,
    /// The last rotations, the latest first.
    pub history: Vec<HistoryEntry>,
}

/// A server that the portal has left. Its accounts are locked or dropped, as the deletion policy says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftPlace {
    /// Server and schema.
    pub place: Place,
    /// The root login that worked there last.
    #[serde(with = "login")]
    pub root: Option<Candidate>,
    /// The first generation of the next place. Pods with connections of an older one still use this place.
    pub until_generation: u64,
    /// When its accounts are given up, if the server cannot be reached until then.
    pub give_up_at: Timestamp,
}

/// A rotation that is under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// The last step that was reached.
    pub phase: Phase,
    /// How it is done, even if the spec changes once it is published.
    pub mode: RotationMode,
    /// Why it was started.
    pub cause: Cause,
    /// Where the new logins are for.
    pub place: Place,
    /// What is to be published; empty until it is known.
    #[serde(with = "logins")]
    pub next: Vec<Candidate>,
    /// The login that the pods led with before, if there was one.
    #[serde(with = "login")]
    pub old: Option<Candidate>,
    /// Version of the source.
    pub source_version: Option<String>,
    /// The request that it meets.
    pub requested: Option<Timestamp>,
    /// When it was started.
    pub started_at: Timestamp,
    /// When its phase was reached.
    pub since: Timestamp,
    /// When the last pod had taken it over.
    pub adopted_at: Option<Timestamp>,
    /// Since when no session of the old login was observed.
    pub unused_since: Option<Timestamp>,
    /// The ids of the sessions that had not authenticated at that time. One of them may be a login of the
    /// old account that is under way, so each has to authenticate or end before the account is locked.
    #[serde(default)]
    pub unauthenticated: BTreeSet<u64>,
}

/// The steps of a rotation, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// There is a cause.
    Observed,
    /// A login of the source is let in.
    RootVerified,
    /// The new login is stored; the database does not know it yet.
    Staged,
    /// The database knows it.
    Applied,
    /// It is let in and may do what it should.
    Verified,
    /// The pods' file holds it.
    Published,
    /// Every pod logs in with it.
    Adopted,
    /// Nobody uses the old one.
    Drained,
    /// The old one was taken away; the proof is outstanding.
    Revoked,
}

/// Why a rotation was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// There was no login before.
    First,
    /// The database is at another place now.
    Moved,
    /// The login no longer works, or its rights were changed.
    Drift,
    /// The source has a new version.
    SourceChanged,
    /// The spec asks for another way.
    ModeChanged,
    /// A person asked for it.
    Requested,
    /// The login had reached its age.
    Interval,
    /// The stored state of a rotation was lost; it goes on from the pods' file.
    Resumed,
}

/// How a rotation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The old login is refused by the server.
    Revoked,
    /// The new login is in use; the old one is not ours to revoke, or there was none.
    Adopted,
    /// The old login leads again, as the new one stopped working.
    RolledBack,
}

/// A rotation that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// Generation at its end.
    pub generation: u64,
    /// Why it was started.
    pub cause: Cause,
    /// Version of the source.
    pub source_version: Option<String>,
    /// When it was started.
    pub started_at: Timestamp,
    /// When the last pod had taken the new login over.
    pub adopted_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Timestamp,
    /// How it ended.
    pub outcome: Outcome,
}

impl Change {
    /// A change of which nothing but its beginning is known.
    pub(super) fn new(
        phase: Phase,
        mode: RotationMode,
        cause: Cause,
        place: Place,
        now: Timestamp,
    ) -> Self {
        Self {
            phase,
            mode,
            cause,
            place,
            next: Vec::new(),
            old: None,
            source_version: None,
            requested: None,
            started_at: now,
            since: now,
            adopted_at: None,
            unused_since: None,
            unauthenticated: BTreeSet::new(),
        }
    }

    /// Since when it waits for what it waits for now. A session that comes and goes sends it back
    /// and forth between two phases, which is one long wait.
    pub(super) fn waits_since(&self) -> Timestamp {
        match self.phase {
            Phase::Adopted | Phase::Drained => self.adopted_at.unwrap_or(self.since),
            _ => self.since,
        }
    }
}

impl State {
    /// The login that the pods try first.
    #[must_use]
    pub fn active(&self) -> Option<&Candidate> {
        self.published.first()
    }

    /// Whether the published logins are for an account of this place's server. Accounts belong to a server,
    /// their rights to a schema.
    #[must_use]
    pub fn is_on_server_of(&self, place: &Place) -> bool {
        self.place.as_ref().is_some_and(|own| own.is_on_server_of(place))
    }

    /// Whether the published logins are for this place.
    #[must_use]
    pub fn is_at(&self, place: &Place) -> bool {
        self.place.as_ref() == Some(place)
    }

    /// Whether the pods' file holds this login.
    #[must_use]
    pub fn publishes(&self, login: &Candidate) -> bool {
        self.published.iter().any(|one| one.is_same(login))
    }

    /// Whether this root login worked last.
    #[must_use]
    pub fn was_root(&self, login: &Candidate) -> bool {
        self.root.as_ref().is_some_and(|root| root.is_same(login))
    }

    /// The root login that worked last on the server of this place.
    #[must_use]
    pub fn root_at(&self, place: &Place) -> Option<&Candidate> {
        let own = self.root_place.as_ref();
        self.root.as_ref().filter(|_| own.is_some_and(|own| own.is_on_server_of(place)))
    }

    /// Whether the pods' file holds an account of this portal.
    #[must_use]
    pub fn publishes_own(&self, own: &AccountName) -> bool {
        self.published.iter().any(|login| own.is_of_same_portal(&login.username))
    }

    /// An application account of another portal that this state names, if there is one. Nobody but the
    /// operator makes accounts of such names.
    #[must_use]
    pub fn foreign_account(&self, own: &AccountName) -> Option<String> {
        let change = self.change.iter();
        let of_change = change.flat_map(|change| change.next.iter().chain(&change.old));
        let logins = self.published.iter().chain(of_change).chain(&self.owner);
        let mut names = logins.map(|login| &login.username);
        let is_foreign =
            |name: &&String| AccountName::parse(name).is_ok() && !own.is_of_same_portal(name);
        names.find(is_foreign).cloned()
    }

    /// Whether both say the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        // Compared as it is stored, as secrets have no comparison of their own.
        let text = |state: &Self| serde_json::to_value(state).expect("plain data");
        text(self) == text(other)
    }

    /// Puts logins into the pods' file, as a new generation.
    pub(super) fn publish(&mut self, logins: Vec<Candidate>, place: &Place) {
        self.generation = self.generation.saturating_add(1);
        self.published = logins;
        self.place = Some(place.clone());
    }

    /// Adds to the history.
    pub(super) fn remember(&mut self, entry: HistoryEntry) {
        self.history.insert(0, entry);
        self.history.truncate(HISTORY);
    }
}

/// A login as the Secret holds it.
#[derive(Serialize, Deserialize)]
struct Stored {
    username: String,
    password: String,
}

impl From<&Candidate> for Stored {
    fn from(login: &Candidate) -> Self {
        Self {
            username: login.username.clone(),
            password: login.password.expose_secret().to_owned(),
        }
    }
}

impl From<Stored> for Candidate {
    fn from(stored: Stored) -> Self {
        Self { username: stored.username, password: stored.password.into() }
    }
}

/// One login, or none.
mod login {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use service_kit::credentials::Candidate;

    use super::Stored;

    #[expect(clippy::ref_option, reason = "serde gives a reference to the field")]
    pub(super) fn serialize<S: Serializer>(
        login: &Option<Candidate>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        login.as_ref().map(Stored::from).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Candidate>, D::Error> {
        let stored = Option::<Stored>::deserialize(deserializer)?;
        Ok(stored.map(Candidate::from))
    }
}

/// Logins in their order.
mod logins {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use service_kit::credentials::Candidate;

    use super::Stored;

    pub(super) fn serialize<S: Serializer>(
        logins: &[Candidate],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        logins.iter().map(Stored::from).collect::<Vec<_>>().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Candidate>, D::Error> {
        let stored = Vec::<Stored>::deserialize(deserializer)?;
        Ok(stored.into_iter().map(Candidate::from).collect())
    }
}

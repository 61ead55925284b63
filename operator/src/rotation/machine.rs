//! One step of a credential rotation at a time: pure, from the stored state and an observation to the
//! effects and the next state.
//!
//! ```text
//! Observed ► RootVerified ► Staged ► Applied ► Verified ► Published ► Adopted ► Drained ► Revoked ► Idle
//! ```
//!
//! The caller carries out the effects of a step, then stores the new state, then observes again. Every
//! effect may be repeated, so a crash at any point loses nothing: the state says which step was under
//! way, and a password is stored before the database learns it. Until `Drained` the old login stays
//! valid and published, whatever happens; nothing is revoked because time has passed.

mod observation;
mod state;
mod transition;

use crds::RotationMode;
use jiff::{SignedDuration, Timestamp};
use service_kit::credentials::Candidate;

use self::transition::Transition;
pub use self::{
    observation::{
        Needs, Observation, ObservedLogin, ObservedRoot, ObservedSession, ObservedSessions,
        ObservedSource, PodReport,
    },
    state::{Cause, Change, HistoryEntry, LeftPlace, Outcome, Phase, State},
};
use super::mysql::{AccountName, Slot};
pub use super::place::Place;

/// Waiting for longer than this is a stall, which is reported. It revokes nothing.
pub(super) const STALL_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// Time after which the accounts of a server that cannot be reached any more are given up.
pub(super) const GIVE_UP_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// What the spec asks for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The first of the portal's two accounts; the other follows from it.
    pub account: AccountName,
    /// Who changes the credential, and how.
    pub mode: RotationMode,
    /// Age at which a credential is replaced. Without effect in mode Follow.
    pub interval: SignedDuration,
    /// The server and schema.
    pub place: Place,
    /// When a person asked for a rotation, if one did.
    pub requested: Option<Timestamp>,
}

/// What to do with the pods, or as [`State::root`] in the database. Each may be repeated.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Make the account, or give it this password, these rights and unlock it.
    EnsureAccount(Candidate),
    /// Give the account a second password besides the one it has.
    AddPassword {
        /// The account with its new password.
        next: Candidate,
        /// The same account with the one it has.
        old: Candidate,
    },
    /// Take the account's first password away; `next` remains.
    DropOldPassword {
        /// The account with the password that remains.
        next: Candidate,
    },
    /// Let nobody log in as this account any more.
    Lock(String),
    /// Make the kubelet bring the new file into these pods now.
    Nudge(Vec<String>),
}

/// Why a rotation does not go on. The reasons of conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// None of the source's logins is let in, as said here.
    RootRejected(String),
    /// The server cannot be reached, or not asked.
    Unreachable(String),
    /// The new login is not let in, or its rights are not what was issued.
    NotVerified(String),
    /// It waits for pods or sessions, named here, for longer than usual.
    Stalled(String),
    /// The old login is still let in after it was revoked.
    StillAccepted,
}

/// What follows from an observation.
#[derive(Clone, Debug)]
pub struct Step {
    /// The state to store, once the effects have been carried out.
    pub state: State,
    /// What to do first, in this order.
    pub effects: Vec<Effect>,
    /// Why it does not go on, if something is in the way.
    pub obstacle: Option<Obstacle>,
}

/// What has to be observed before the next step can be decided.
#[must_use]
pub fn needs(state: &State, plan: &Plan, now: Timestamp) -> Needs {
    let Some(change) = &state.change else { return Needs::default() };
    if is_overtaken(state, change, plan) {
        return Needs::default();
    }
    let rotates = change.mode != RotationMode::Follow;
    let asks_server = has_slots(change.mode) || ends_account(change, &plan.account);
    // If the pods' own login may not work, the older one is tried too.
    let is_late = now.duration_since(change.waits_since()) >= STALL_AFTER;
    match change.phase {
        Phase::Observed => Needs { root: true, ..Needs::default() },
        Phase::RootVerified => Needs {
            root: rotates,
            sessions: rotates,
            pods: rotates && (change.old.is_some() || comes_back(state, change)),
            next: !rotates,
            old: rotates && change.old.is_some(),
        },
        Phase::Staged => Needs { root: true, next: keeps_account(change), ..Needs::default() },
        Phase::Applied => Needs { next: true, ..Needs::default() },
        Phase::Verified => Needs::default(),
        Phase::Published => Needs { pods: true, next: is_late, old: is_late, ..Needs::default() },
        Phase::Adopted => Needs {
            root: rotates && asks_server,
            sessions: asks_server,
            pods: true,
            next: is_late,
            old: is_late,
        },
        Phase::Drained => Needs {
            root: rotates,
            sessions: asks_server,
            pods: true,
            next: rotates || asks_server,
            old: is_late || leaves_account(change, &plan.account),
        },
        Phase::Revoked => Needs { old: true, ..Needs::default() },
    }
}

/// Whether this is one of the two accounts that we make for the portal.
#[must_use]
pub fn is_ours(account: &AccountName, login: &Candidate) -> bool {
    [Slot::A, Slot::B].iter().any(|slot| account.in_slot(*slot).as_str() == login.username)
}

fn has_slots(mode: RotationMode) -> bool {
    mode == RotationMode::AlternatingUsers
}

/// Whether the new login is the old account with another password.
fn keeps_account(change: &Change) -> bool {
    let next = change.next.first().map(|next| &next.username);
    next.is_some() && next == change.old.as_ref().map(|old| &old.username)
}

/// Whether mode Follow replaces an account of ours, which the operator has to lock.
fn leaves_account(change: &Change, account: &AccountName) -> bool {
    let Some(old) = &change.old else { return false };
    change.mode == RotationMode::Follow
        && is_ours(account, old)
        && change.next.iter().all(|next| next.username != old.username)
}

/// Whether the old login is an account of ours that the new one is not: the server tells whose its sessions
/// are, and the account is locked in the end.
fn ends_account(change: &Change, account: &AccountName) -> bool {
    let has_own = change.old.as_ref().is_some_and(|old| is_ours(account, old));
    leaves_account(change, account)
        || (change.mode != RotationMode::Follow && has_own && !keeps_account(change))
}

/// Whether the pods return to a server that they have left, where some of them may still be.
fn comes_back(state: &State, change: &Change) -> bool {
    state.left.iter().any(|left| left.place.is_on_server_of(&change.place))
}

/// Whether the spec asks for something else, and the change can still be given up. One that is
/// published goes on as it was begun, but no login of another place can be adopted or revoked.
fn is_overtaken(state: &State, change: &Change, plan: &Plan) -> bool {
    if is_published(state, change) {
        // The pods may use either of the published accounts, so the rotation is finished before they move
        // to another schema of the server.
        return !change.place.is_on_server_of(&plan.place);
    }
    change.place != plan.place || change.mode != plan.mode
}

fn is_published(state: &State, change: &Change) -> bool {
    state.is_at(&change.place) && change.next.first().is_some_and(|next| state.publishes(next))
}

/// Where a pass works: at the place of the plan, unless a rotation at another schema has to be finished.
#[must_use]
pub fn place_of_pass<'a>(state: &'a State, plan: &'a Plan) -> &'a Place {
    match &state.change {
        Some(change) if !is_overtaken(state, change, plan) => &change.place,
        _ => &plan.place,
    }
}

/// Decides the next step. `password` makes a new one where one is needed.
pub fn step(
    state: &State,
    plan: &Plan,
    seen: &Observation,
    now: Timestamp,
    password: impl FnOnce() -> secrecy::SecretString,
) -> Step {
    let mut next = Step { state: state.clone(), effects: Vec::new(), obstacle: None };
    match &state.change {
        None => begin(&mut next, plan, seen, now),
        Some(change) if is_overtaken(state, change, plan) => {
            leave_abandoned(&mut next.state, change, plan, now);
            next.state.change = None;
        }
        Some(change) => {
            let turn = Transition { plan, seen, now, change };
            turn.take(&mut next, password);
        }
    }
    next
}

/// A change that is given up may have made an account on a server that the pods do not go to.
fn leave_abandoned(state: &mut State, change: &Change, plan: &Plan, now: Timestamp) {
    let is_used = state.is_on_server_of(&change.place) || change.place.is_on_server_of(&plan.place);
    let Some(root) = state.root_at(&change.place).cloned() else { return };
    if is_used || change.mode == RotationMode::Follow || change.phase < Phase::Staged {
        return;
    }
    state.left.retain(|left| !left.place.is_on_server_of(&change.place));
    state.left.push(LeftPlace {
        place: change.place.clone(),
        root: Some(root),
        until_generation: state.generation,
        give_up_at: now.checked_add(GIVE_UP_AFTER).unwrap_or(now),
    });
}

/// Starts a rotation if there is a cause.
fn begin(next: &mut Step, plan: &Plan, seen: &Observation, now: Timestamp) {
    let state = &mut next.state;
    if let Some(change) = resume(state, plan, now) {
        state.change = Some(change);
        return;
    }
    let Some(cause) = find_cause(state, plan, seen, now) else {
        // A version that brings nothing new, as when only a label of the Secret was changed.
        let is_followed = plan.mode == RotationMode::Follow;
        let source =
            seen.source.as_ref().filter(|source| is_followed || !brings_new_root(state, source));
        if let Some(source) = source {
            state.source_version = Some(source.version.clone());
        }
        return;
    };
    // Accounts of another server cannot be drained or revoked here.
    let old = state.active().filter(|_| state.is_on_server_of(&plan.place)).cloned();
    let source_version = seen.source.as_ref().map(|source| source.version.clone());
    let requested = plan.requested.filter(|at| *at <= now);
    state.change = Some(Change {
        old,
        source_version,
        requested,
        ..Change::new(Phase::Observed, plan.mode, cause, plan.place.clone(), now)
    });
}

/// The pods' file holds a login of ours and the one before it: a rotation whose state was lost. It goes
/// on at `Applied`, with the older login to be revoked as in any rotation. The pair is published again,
/// as a new generation: a pod that was refused the new login may have sessions of the older one under the
/// present generation, and would never retire them.
fn resume(state: &State, plan: &Plan, now: Timestamp) -> Option<Change> {
    let [new, old, ..] = state.published.as_slice() else { return None };
    let place = state.place.as_ref()?;
    if plan.mode == RotationMode::Follow
        || !state.is_on_server_of(&plan.place)
        || !is_ours(&plan.account, new)
    {
        return None;
    }
    let mode = if new.username == old.username {
        RotationMode::DualPassword
    } else {
        RotationMode::AlternatingUsers
    };
    Some(Change {
        next: vec![new.clone()],
        old: Some(old.clone()),
        source_version: state.source_version.clone(),
        ..Change::new(Phase::Applied, mode, Cause::Resumed, place.clone(), now)
    })
}

/// Why a rotation should start now. The most urgent cause comes first.
fn find_cause(state: &State, plan: &Plan, seen: &Observation, now: Timestamp) -> Option<Cause> {
    let source = seen.source.as_ref()?;
    let Some(active) = state.active() else { return Some(Cause::First) };
    if !state.is_at(&plan.place) {
        return Some(Cause::Moved);
    }
    let is_ours = is_ours(&plan.account, active);
    let has_drifted = match &seen.active {
        Some(ObservedLogin::Denied) => true,
        // Somebody else's account has the rights that somebody else gave it.
        Some(ObservedLogin::Differs(_)) => is_ours && plan.mode != RotationMode::Follow,
        Some(ObservedLogin::Accepted { .. } | ObservedLogin::Unreachable(_)) | None => false,
    };
    if has_drifted {
        return Some(Cause::Drift);
    }
    if state.not_before.is_some_and(|until| now < until) {
        return None;
    }
    if plan.mode == RotationMode::Follow {
        return differs_from(state, source).then_some(Cause::SourceChanged);
    }
    if !is_ours {
        return Some(Cause::ModeChanged);
    }
    let is_requested =
        plan.requested.is_some_and(|at| at <= now && state.requested.is_none_or(|last| last < at));
    if is_requested {
        return Some(Cause::Requested);
    }
    if brings_new_root(state, source) {
        return Some(Cause::SourceChanged);
    }
    let age = state.last_rotation.map(|last| now.duration_since(last));
    age.is_none_or(|age| age >= plan.interval).then_some(Cause::Interval)
}

/// Whether the pods' file holds other logins than the source, in whatever order, and however often
/// the source repeats one (AWSPENDING stays at the version that became AWSCURRENT).
fn differs_from(state: &State, source: &ObservedSource) -> bool {
    let is_in_source = |login: &Candidate| source.candidates.iter().any(|one| one.is_same(login));
    !source.candidates.iter().all(|one| state.publishes(one))
        || !state.published.iter().all(is_in_source)
}

fn brings_new_root(state: &State, source: &ObservedSource) -> bool {
    state.source_version.as_ref().is_some_and(|last| *last != source.version)
        && !source.candidates.first().is_some_and(|first| state.was_root(first))
}

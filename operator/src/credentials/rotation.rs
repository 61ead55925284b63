//! One step of a credential rotation at a time: pure, from what is remembered and what was seen to
//! what to do and what to remember next.
//!
//! ```text
//! Observed ► RootVerified ► Staged ► Applied ► Verified ► Published ► Adopted ► Drained ► Revoked ► Idle
//! ```
//!
//! The caller carries out the effects of a step, then stores the new state, then looks again. Every
//! effect may be repeated, so a crash at any point loses nothing: the state says which step was under
//! way, and a password is stored before the database learns it. Until `Drained` the old login stays
//! valid and published, whatever happens; nothing is revoked because time has passed.

mod seen;
mod state;
#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};

pub use self::{
    seen::{LoginSeen, Needs, PodSeen, RootSeen, Seen, SessionSeen, SourceSeen},
    state::{Cause, Change, HistoryEntry, Outcome, Phase, Place, State},
};
use super::accounts::{AccountName, Slot};
use crds::RotationMode;
use service_kit::credentials::Candidate;

/// Empty process lists in a row after which nobody uses the old account.
const EMPTY_LISTS: u8 = 2;
/// Waiting for longer than this is a stall, which is reported. It revokes nothing.
const STALL_AFTER: SignedDuration = SignedDuration::from_secs(60);
/// Pods or sessions that a stall names; the others are counted.
const LISTED: usize = 5;
/// A kubelet that was told to look may not have seen the new file yet, and is told again.
const NUDGE_AGAIN_AFTER: SignedDuration = SignedDuration::from_secs(3);
/// Time until the next try after a rotation was rolled back.
const RETRY_AFTER: SignedDuration = SignedDuration::from_mins(5);

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
    /// None of the source's logins is let in.
    RootRejected,
    /// The server cannot be reached, or not asked.
    Unreachable(String),
    /// The new login is not let in, or its rights are not what was issued.
    NotVerified(String),
    /// It waits for pods or sessions, named here, for longer than usual.
    Stalled(String),
    /// The old login is still let in after it was revoked.
    StillAccepted,
}

/// What follows from a look.
#[derive(Clone, Debug)]
pub struct Step {
    /// What to remember, once the effects have been carried out.
    pub state: State,
    /// What to do first, in this order.
    pub effects: Vec<Effect>,
    /// Why it does not go on, if something is in the way.
    pub obstacle: Option<Obstacle>,
}

/// What has to be looked at before the next step can be decided.
#[must_use]
pub fn needs(state: &State, plan: &Plan, now: Timestamp) -> Needs {
    let Some(change) = &state.change else { return Needs::default() };
    if is_overtaken(state, change, plan) {
        return Needs::default();
    }
    let rotates = change.mode != RotationMode::Follow;
    let asks_server = has_slots(change.mode) || leaves_account(change, &plan.account);
    // Where the pods' own login is in doubt, the way back is looked for too.
    let is_late = now.duration_since(change.waits_since()) >= STALL_AFTER;
    match change.phase {
        Phase::Observed => Needs { root: true, ..Needs::default() },
        Phase::RootVerified => Needs {
            root: rotates,
            sessions: rotates,
            pods: rotates && change.old.is_some(),
            next: !rotates,
            old: rotates && change.old.is_some(),
        },
        Phase::Staged => Needs { root: true, next: keeps_account(change), ..Needs::default() },
        Phase::Applied => Needs { next: true, ..Needs::default() },
        Phase::Verified => Needs::default(),
        Phase::Published => Needs { pods: true, next: is_late, old: is_late, ..Needs::default() },
        Phase::Adopted => Needs {
            root: has_slots(change.mode),
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

/// Whether mode Follow takes the place of an account of ours, which nobody but us would ever end.
fn leaves_account(change: &Change, account: &AccountName) -> bool {
    let Some(old) = &change.old else { return false };
    change.mode == RotationMode::Follow
        && is_ours(account, old)
        && change.next.iter().all(|next| next.username != old.username)
}

/// Whether the spec asks for something else, and the change can still be given up. One that is
/// published goes on as it was begun, but no login of another place can be adopted or revoked.
fn is_overtaken(state: &State, change: &Change, plan: &Plan) -> bool {
    let is_published = change.next.first().is_some_and(|next| state.publishes(next));
    change.place != plan.place || (change.mode != plan.mode && !is_published)
}

/// Decides the next step. `password` makes a new one where one is needed.
pub fn step(
    state: &State,
    plan: &Plan,
    seen: &Seen,
    now: Timestamp,
    password: impl FnOnce() -> secrecy::SecretString,
) -> Step {
    let mut next = Step { state: state.clone(), effects: Vec::new(), obstacle: None };
    match &state.change {
        None => begin(&mut next, plan, seen, now),
        Some(change) if is_overtaken(state, change, plan) => next.state.change = None,
        Some(change) => {
            let turn = Turn { plan, seen, now, change };
            turn.take(&mut next, password);
        }
    }
    next
}

/// Starts a rotation if there is a cause.
fn begin(next: &mut Step, plan: &Plan, seen: &Seen, now: Timestamp) {
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
    // Logins of another place cannot be tried, drained or revoked here.
    let old = state.active().filter(|_| state.is_at(&plan.place)).cloned();
    let source_version = seen.source.as_ref().map(|source| source.version.clone());
    let requested = plan.requested.filter(|at| *at <= now);
    state.change = Some(Change {
        old,
        source_version,
        requested,
        ..Change::new(Phase::Observed, plan.mode, cause, plan.place.clone(), now)
    });
}

/// A file with a login of ours and the one before it is a rotation that was not ended: its memory was
/// lost. Pods may hold nothing but the older one, so that is given up like any other.
fn resume(state: &State, plan: &Plan, now: Timestamp) -> Option<Change> {
    let [new, old, ..] = state.published.as_slice() else { return None };
    if plan.mode == RotationMode::Follow
        || !state.is_at(&plan.place)
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
        ..Change::new(Phase::Published, mode, Cause::Resumed, plan.place.clone(), now)
    })
}

/// Why a rotation should start now. The most urgent cause comes first.
fn find_cause(state: &State, plan: &Plan, seen: &Seen, now: Timestamp) -> Option<Cause> {
    let source = seen.source.as_ref()?;
    let Some(active) = state.active() else { return Some(Cause::First) };
    if !state.is_at(&plan.place) {
        return Some(Cause::Moved);
    }
    let is_ours = is_ours(&plan.account, active);
    let has_drifted = match &seen.active {
        Some(LoginSeen::Denied) => true,
        // Somebody else's account has the rights that somebody else gave it.
        Some(LoginSeen::Differs(_)) => is_ours && plan.mode != RotationMode::Follow,
        Some(LoginSeen::Accepted { .. } | LoginSeen::Unreachable(_)) | None => false,
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
fn differs_from(state: &State, source: &SourceSeen) -> bool {
    let is_in_source = |login: &Candidate| source.candidates.iter().any(|one| one.is_same(login));
    !source.candidates.iter().all(|one| state.publishes(one))
        || !state.published.iter().all(is_in_source)
}

fn brings_new_root(state: &State, source: &SourceSeen) -> bool {
    state.source_version.as_ref().is_some_and(|last| *last != source.version)
        && !source.candidates.first().is_some_and(|first| state.was_root(first))
}

/// For a sentence that stays readable.
fn list<T: AsRef<str>>(names: &[T]) -> String {
    let shown: Vec<&str> = names.iter().take(LISTED).map(AsRef::as_ref).collect();
    let more = names.len().saturating_sub(LISTED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// One look at a change that is under way.
struct Turn<'a> {
    plan: &'a Plan,
    seen: &'a Seen,
    now: Timestamp,
    change: &'a Change,
}

impl Turn<'_> {
    fn take(&self, next: &mut Step, password: impl FnOnce() -> secrecy::SecretString) {
        if let Some(RootSeen::Works(login)) = &self.seen.root
            && self.rotates()
        {
            next.state.root = Some(login.clone());
        }
        match self.change.phase {
            Phase::Observed => self.verify_root(next),
            Phase::RootVerified => self.stage(next, password),
            Phase::Staged => self.apply(next),
            Phase::Applied => self.verify(next),
            Phase::Verified => self.publish(next),
            Phase::Published | Phase::Adopted | Phase::Drained if self.has_newer_source(next) => {
                self.enter(next, Phase::Observed);
            }
            Phase::Published => self.await_adoption(next),
            Phase::Adopted => self.await_drain(next),
            Phase::Drained => self.revoke(next),
            Phase::Revoked => self.prove(next),
        }
        let after = next.state.change.as_ref().map(|change| (change.phase, change.empty_lists));
        if after == Some((self.change.phase, self.change.empty_lists)) && next.obstacle.is_none() {
            self.report_stall(next, || self.describe_silence());
        }
    }

    /// Where nothing is revoked there is no reason to wait for the last pod before the next login.
    fn has_newer_source(&self, next: &Step) -> bool {
        let source = self.seen.source.as_ref();
        !self.rotates() && source.is_some_and(|source| differs_from(&next.state, source))
    }

    /// What is wanting when a look showed nothing at all.
    fn describe_silence(&self) -> String {
        let what = match self.change.phase {
            Phase::Observed | Phase::Staged => "logins of the source could not be tried",
            Phase::RootVerified | Phase::Adopted => {
                "pods and the server's sessions could not be looked at"
            }
            Phase::Applied | Phase::Verified => "new login could not be tried",
            Phase::Published => "pods could not be asked",
            Phase::Drained => "pods, the server's sessions or the new login could not be looked at",
            Phase::Revoked => "old login could not be tried",
        };
        format!("the {what}")
    }

    fn rotates(&self) -> bool {
        self.change.mode != RotationMode::Follow
    }

    fn verify_root(&self, next: &mut Step) {
        let Some(login) = self.find_root(next) else { return };
        let change = next.state.change.as_mut().expect("under way");
        if let Some(source) = &self.seen.source {
            change.source_version = Some(source.version.clone());
        }
        if !self.rotates() {
            // The one that works leads; the others stay behind it in their order.
            let others = self.seen.source.iter().flat_map(|source| &source.candidates);
            change.next = vec![login.clone()];
            for other in others {
                if !change.next.iter().any(|one| one.is_same(other)) {
                    change.next.push(other.clone());
                }
            }
        }
        self.enter(next, Phase::RootVerified);
    }

    /// The login that changes the database. Without it nothing is ordered; it may have changed since
    /// the rotation began.
    fn find_root(&self, next: &mut Step) -> Option<&Candidate> {
        match self.seen.root.as_ref()? {
            RootSeen::Works(login) => Some(login),
            RootSeen::Rejected => {
                next.obstacle = Some(Obstacle::RootRejected);
                None
            }
            RootSeen::Unreachable(why) => {
                next.obstacle = Some(Obstacle::Unreachable(why.clone()));
                None
            }
        }
    }

    /// Chooses account and password. Nothing but the state knows them yet.
    fn stage(&self, next: &mut Step, password: impl FnOnce() -> secrecy::SecretString) {
        if !self.rotates() {
            // Its login is in the state since the root was verified.
            return self.verify(next);
        }
        let Some(_) = self.find_root(next) else { return };
        if let Some(old) = &self.change.old
            && matches!(self.seen.old, Some(LoginSeen::Denied | LoginSeen::Differs(_)))
            && self.revokes(old)
        {
            // The pods are let in again at once; when they can move is another question.
            next.effects.push(Effect::EnsureAccount(old.clone()));
        }
        // A pod that lags may hold nothing but what the standby has now.
        if self.change.old.is_some() && !self.has_every_pod(next) {
            return;
        }
        let Some(sessions) = &self.seen.sessions else { return };
        let username = match &self.change.old {
            Some(old) if !has_slots(self.change.mode) && is_ours(&self.plan.account, old) => {
                old.username.clone()
            }
            _ => self.standby(sessions),
        };
        let change = next.state.change.as_mut().expect("under way");
        change.next = vec![Candidate { username, password: password() }];
        self.enter(next, Phase::Staged);
    }

    /// The account that the pods do not use. Where nothing says which one they use (both Secrets
    /// were lost), the one without a session.
    fn standby(&self, sessions: &[SessionSeen]) -> String {
        let [first, second] = [Slot::A, Slot::B].map(|slot| self.plan.account.in_slot(slot));
        let first_is_used = match &self.change.old {
            Some(old) if is_ours(&self.plan.account, old) => old.username == first.as_str(),
            _ => sessions.iter().any(|session| session.user == first.as_str()),
        };
        if first_is_used { second.to_string() } else { first.to_string() }
    }

    fn apply(&self, next: &mut Step) {
        let Some(login) = self.change.next.first().cloned() else { return };
        let Some(_) = self.find_root(next) else { return };
        match &self.change.old {
            // The same account: it must go on taking the password that the pods hold.
            Some(old) if old.username == login.username => match &self.seen.next {
                Some(LoginSeen::Accepted { .. }) => {}
                Some(LoginSeen::Denied | LoginSeen::Differs(_)) => {
                    // MySQL retains whichever password is the first, so that is made the pods' one:
                    // another may be there, of a rotation that was given up or forgotten.
                    next.effects.push(Effect::EnsureAccount(old.clone()));
                    next.effects.push(Effect::AddPassword { next: login, old: old.clone() });
                }
                Some(LoginSeen::Unreachable(why)) => {
                    next.obstacle = Some(Obstacle::Unreachable(why.clone()));
                    return;
                }
                None => return,
            },
            _ => next.effects.push(Effect::EnsureAccount(login)),
        }
        self.enter(next, Phase::Applied);
    }

    fn verify(&self, next: &mut Step) {
        match &self.seen.next {
            None => {}
            Some(LoginSeen::Accepted { .. }) => self.enter(next, Phase::Verified),
            Some(LoginSeen::Denied) => self.not_verified(next, "it is refused"),
            Some(LoginSeen::Differs(difference)) => self.not_verified(next, difference),
            Some(LoginSeen::Unreachable(why)) => {
                next.obstacle = Some(Obstacle::Unreachable(why.clone()));
            }
        }
    }

    /// The account is issued anew, with the same password: it may be published already.
    fn not_verified(&self, next: &mut Step, difference: &str) {
        next.obstacle = Some(Obstacle::NotVerified(difference.to_owned()));
        self.enter(next, if self.rotates() { Phase::Staged } else { Phase::Observed });
    }

    fn publish(&self, next: &mut Step) {
        let mut logins = self.change.next.clone();
        if self.rotates() {
            logins.extend(self.change.old.clone());
        }
        next.state.publish(logins, &self.change.place);
        self.enter(next, Phase::Published);
    }

    fn await_adoption(&self, next: &mut Step) {
        if self.replace_dead(next) || !self.has_every_pod(next) {
            return;
        }
        let change = next.state.change.as_mut().expect("under way");
        change.adopted_at = Some(self.now);
        change.empty_lists = 0;
        self.enter(next, Phase::Adopted);
        if self.change.old.is_none() {
            // Nothing is known that could be revoked.
            self.finish(next);
        }
    }

    /// Whether every pod has taken over what is published. Those that have not are told to look.
    fn has_every_pod(&self, next: &mut Step) -> bool {
        let Some(pods) = &self.seen.pods else { return false };
        let generation = next.state.generation;
        let late: Vec<&PodSeen> = pods.iter().filter(|pod| !pod.has_adopted(generation)).collect();
        if late.is_empty() {
            return true;
        }
        self.nudge(next, &late);
        self.report_stall(next, || {
            let names: Vec<&str> = late.iter().map(|pod| pod.name.as_str()).collect();
            format!("these pods have not taken over generation {generation}: {}", list(&names))
        });
        false
    }

    /// Decides what follows if the login that the pods lead with stopped working, by somebody
    /// else's hand. The way back stays open until the old login is revoked.
    fn replace_dead(&self, next: &mut Step) -> bool {
        match (&self.seen.next, &self.seen.old) {
            (Some(LoginSeen::Denied), Some(LoginSeen::Accepted { .. })) => self.roll_back(next),
            (Some(LoginSeen::Denied), Some(LoginSeen::Denied | LoginSeen::Differs(_))) => {
                self.not_verified(next, "it is refused since the pods have it");
            }
            (Some(LoginSeen::Denied), None) if self.change.old.is_none() => {
                self.not_verified(next, "it is refused since the pods have it");
            }
            (Some(LoginSeen::Differs(difference)), _) if self.rotates() => {
                self.not_verified(next, difference);
            }
            _ => return false,
        }
        true
    }

    fn await_drain(&self, next: &mut Step) {
        if self.replace_dead(next) {
            return;
        }
        match self.find_users(next.state.generation) {
            None => {
                self.find_root(next);
            }
            Some(users) if users.is_empty() => {
                let change = next.state.change.as_mut().expect("under way");
                change.empty_lists += 1;
                if change.empty_lists >= EMPTY_LISTS {
                    self.enter(next, Phase::Drained);
                }
            }
            Some(users) => {
                next.state.change.as_mut().expect("under way").empty_lists = 0;
                self.nudge_late(next);
                self.report_stall(next, || list(&users));
            }
        }
    }

    /// Looks once more before it cuts the old login off: a pod may have come meanwhile, or the new
    /// login may have gone.
    fn revoke(&self, next: &mut Step) {
        let ends_account = self.rotates() || leaves_account(self.change, &self.plan.account);
        if self.replace_dead(next) || (ends_account && !self.is_ready_to_revoke(next)) {
            return;
        }
        let Some(users) = self.find_users(next.state.generation) else { return };
        if !users.is_empty() {
            next.state.change.as_mut().expect("under way").empty_lists = 0;
            self.report_stall(next, || list(&users));
            return self.enter(next, Phase::Adopted);
        }
        match (&self.change.old, self.change.next.first()) {
            // In mode Follow the operator may have lost the right to do so, and a person did.
            (Some(old), _)
                if !self.rotates()
                    && self.revokes(old)
                    && self.seen.old == Some(LoginSeen::Denied) =>
            {
                self.enter(next, Phase::Revoked);
            }
            (Some(old), Some(new)) if self.revokes(old) => {
                next.effects.push(if old.username == new.username {
                    Effect::DropOldPassword { next: new.clone() }
                } else {
                    Effect::Lock(old.username.clone())
                });
                self.enter(next, Phase::Revoked);
            }
            // Somebody else's account: it is theirs to end.
            _ => self.finish(next),
        }
    }

    fn revokes(&self, old: &Candidate) -> bool {
        (self.rotates() && is_ours(&self.plan.account, old))
            || leaves_account(self.change, &self.plan.account)
    }

    fn is_ready_to_revoke(&self, next: &mut Step) -> bool {
        if self.rotates() && self.find_root(next).is_none() {
            return false;
        }
        match &self.seen.next {
            Some(LoginSeen::Accepted { .. } | LoginSeen::Differs(_)) => true,
            Some(LoginSeen::Unreachable(why)) => {
                next.obstacle = Some(Obstacle::Unreachable(why.clone()));
                false
            }
            Some(LoginSeen::Denied) | None => false,
        }
    }

    /// The negative test: the server itself must refuse the old login.
    fn prove(&self, next: &mut Step) {
        match &self.seen.old {
            None => {}
            Some(LoginSeen::Denied) => self.finish(next),
            Some(LoginSeen::Accepted { .. } | LoginSeen::Differs(_)) => {
                next.obstacle = Some(Obstacle::StillAccepted);
                self.enter(next, Phase::Drained);
            }
            Some(LoginSeen::Unreachable(why)) => {
                next.obstacle = Some(Obstacle::Unreachable(why.clone()));
            }
        }
    }

    fn finish(&self, next: &mut Step) {
        let was_revoked = self.change.phase == Phase::Revoked;
        if self.rotates() && self.change.old.is_some() {
            let place = self.change.place.clone();
            next.state.publish(self.change.next.clone(), &place);
        }
        let outcome = if was_revoked { Outcome::Revoked } else { Outcome::Adopted };
        self.close(next, outcome);
        next.state.last_rotation = Some(self.now);
        next.state.source_version.clone_from(&self.change.source_version);
        next.state.requested = self.change.requested.or(next.state.requested);
        next.state.not_before = None;
    }

    /// A new, higher generation that carries the old login alone.
    fn roll_back(&self, next: &mut Step) {
        let old = self.change.old.iter().cloned().collect();
        let place = self.change.place.clone();
        next.state.publish(old, &place);
        self.close(next, Outcome::RolledBack);
        next.state.not_before = self.now.checked_add(RETRY_AFTER).ok();
    }

    fn close(&self, next: &mut Step, outcome: Outcome) {
        let adopted_at = next.state.change.as_ref().and_then(|change| change.adopted_at);
        next.state.remember(HistoryEntry {
            generation: next.state.generation,
            cause: self.change.cause,
            source_version: self.change.source_version.clone(),
            started_at: self.change.started_at,
            adopted_at,
            ended_at: self.now,
            outcome,
        });
        next.state.change = None;
    }

    /// Who still uses, or may still use, the old login; none if that is not known. Where the server
    /// tells accounts apart it is asked, otherwise the pods' own reports count.
    fn find_users(&self, generation: u64) -> Option<Vec<String>> {
        let pods = self.seen.pods.as_ref()?;
        let late = pods.iter().filter(|pod| !pod.has_adopted(generation));
        let mut users: Vec<String> =
            late.map(|pod| format!("pod {} has not taken over the new login", pod.name)).collect();
        let old = self.change.old.as_ref();
        let has_own_account =
            old.is_some_and(|old| is_ours(&self.plan.account, old)) && !keeps_account(self.change);
        let is_left = leaves_account(self.change, &self.plan.account);
        if is_left || (has_slots(self.change.mode) && has_own_account) {
            let old = old.map(|old| old.username.as_str());
            let sessions = self.seen.sessions.as_ref()?;
            let of_old = sessions.iter().filter(|session| Some(session.user.as_str()) == old);
            users.extend(of_old.map(|session| {
                format!(
                    "session {} from {} is logged in as {}",
                    session.id, session.host, session.user
                )
            }));
        } else {
            let busy = pods.iter().filter(|pod| pod.has_connections_before(generation));
            users.extend(
                busy.map(|pod| format!("pod {} still has connections of the old login", pod.name)),
            );
        }
        Some(users)
    }

    fn nudge_late(&self, next: &mut Step) {
        let generation = next.state.generation;
        let pods = self.seen.pods.iter().flatten();
        let late: Vec<&PodSeen> = pods.filter(|pod| !pod.has_adopted(generation)).collect();
        self.nudge(next, &late);
    }

    fn nudge(&self, next: &mut Step, late: &[&PodSeen]) {
        let generation = next.state.generation;
        let is_due = |pod: &&&PodSeen| match pod.nudged {
            Some((last, at)) if last == generation => {
                self.now.duration_since(at) >= NUDGE_AGAIN_AFTER
            }
            _ => true,
        };
        let names = late.iter().filter(is_due);
        let names: Vec<String> = names.map(|pod| pod.name.clone()).collect();
        if !names.is_empty() {
            next.effects.push(Effect::Nudge(names));
        }
    }

    fn report_stall(&self, next: &mut Step, what: impl FnOnce() -> String) {
        if self.now.duration_since(self.change.waits_since()) >= STALL_AFTER {
            next.obstacle = Some(Obstacle::Stalled(what()));
        }
    }

    fn enter(&self, next: &mut Step, phase: Phase) {
        let change = next.state.change.as_mut().expect("under way");
        change.phase = phase;
        change.since = self.now;
    }
}

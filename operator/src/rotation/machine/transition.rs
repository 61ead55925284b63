//! The step out of each phase of a change that is under way.

use std::collections::BTreeSet;

use crds::RotationMode;
use jiff::{SignedDuration, Timestamp};
use service_kit::credentials::Candidate;

use super::{
    Cause, Change, Effect, GIVE_UP_AFTER, HistoryEntry, LeftPlace, Observation, ObservedLogin,
    ObservedRoot, ObservedSession, ObservedSessions, ObservedSource, Obstacle, Outcome, Phase,
    Place, Plan, PodReport, STALL_AFTER, State, Step, comes_back, differs_from, ends_account,
    has_slots, is_ours, leaves_account,
};
use crate::rotation::mysql::Slot;

/// Time for which no session of the old account must be observed before it is locked.
const UNUSED_FOR: SignedDuration = SignedDuration::from_secs(5);
/// Pods or sessions that a stall names; the others are counted.
const LISTED: usize = 5;
/// A kubelet that was told to refresh may not have seen the new file yet, and is told again.
const NUDGE_AGAIN_AFTER: SignedDuration = SignedDuration::from_secs(3);
/// Time until the next try after a rotation was rolled back.
const RETRY_AFTER: SignedDuration = SignedDuration::from_mins(5);

/// A change that is under way, and an observation.
pub(super) struct Transition<'a> {
    pub(super) plan: &'a Plan,
    pub(super) seen: &'a Observation,
    pub(super) now: Timestamp,
    pub(super) change: &'a Change,
}

impl Transition<'_> {
    /// Takes the step, into `next`.
    pub(super) fn take(&self, next: &mut Step, password: impl FnOnce() -> secrecy::SecretString) {
        if let Some(ObservedRoot::Works(login)) = &self.seen.root
            && self.rotates()
        {
            note_root(&mut next.state, login, &self.change.place);
        }
        match self.change.phase {
            Phase::Observed => self.verify_root(next),
            Phase::RootVerified => self.stage(next, password),
            Phase::Staged => self.apply(next),
            Phase::Applied
            | Phase::Verified
            | Phase::Published
            | Phase::Adopted
            | Phase::Drained
                if self.has_newer_source(next) =>
            {
                self.enter(next, Phase::Observed);
            }
            Phase::Applied => self.verify(next),
            Phase::Verified => self.publish(next),
            Phase::Published => self.await_adoption(next),
            Phase::Adopted => self.await_drain(next),
            Phase::Drained => self.revoke(next),
            Phase::Revoked => self.prove(next),
        }
    }

    /// Where nothing is revoked there is no reason to wait for the last pod before the next login.
    fn has_newer_source(&self, next: &Step) -> bool {
        let source = self.seen.source.as_ref();
        let is_new = |source: &ObservedSource| {
            if self.change.phase >= Phase::Published {
                return differs_from(&next.state, source);
            }
            let is_in_source =
                |login: &Candidate| source.candidates.iter().any(|one| one.is_same(login));
            !self.change.next.iter().all(is_in_source)
        };
        !self.rotates() && source.is_some_and(is_new)
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
            ObservedRoot::Works(login) => Some(login),
            ObservedRoot::Rejected(why) => {
                next.obstacle = Some(Obstacle::RootRejected(why.clone()));
                None
            }
            ObservedRoot::Unreachable(why) => {
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
            && matches!(self.seen.old, Some(ObservedLogin::Denied | ObservedLogin::Differs(_)))
            && self.revokes(old)
            && self.change.cause != Cause::Moved
        {
            // The pods are let in again at once; when they can move is another question.
            next.effects.push(Effect::EnsureAccount(old.clone()));
        }
        // A pod that lags may hold nothing but what the standby has now.
        let comes_back = comes_back(&next.state, self.change);
        if (self.change.old.is_some() || comes_back) && !self.has_every_pod(next) {
            return;
        }
        let Some(sessions) = &self.seen.sessions else { return };
        let username = match &self.change.old {
            // The rights of an account in use stay those on the schema that it is used for.
            Some(old)
                if !has_slots(self.change.mode)
                    && is_ours(&self.plan.account, old)
                    && self.change.cause != Cause::Moved =>
            {
                old.username.clone()
            }
            _ => self.standby(&next.state, sessions),
        };
        if comes_back || self.change.old.as_ref().is_some_and(|old| old.username != username) {
            // After a rotation that was given up or forgotten, logins of this account may be under way.
            let generation = next.state.generation;
            let pods = self.seen.pods.iter().flatten();
            let busy: Vec<String> = pods
                .filter(|pod| pod.has_connections_before(generation))
                .map(|pod| format!("pod {} has connections of {username}", pod.name))
                .collect();
            if !busy.is_empty() {
                return self.report_stall(next, || list(&busy));
            }
        }
        let change = next.state.change.as_mut().expect("under way");
        change.next = vec![Candidate { username, password: password() }];
        self.enter(next, Phase::Staged);
    }

    /// Whether the pods are to move to another schema or server.
    fn is_moving(&self, next: &Step) -> bool {
        !next.state.published.is_empty() && !next.state.is_at(&self.change.place)
    }

    /// The account that the pods do not use. Where nothing says which one they use (both Secrets
    /// were lost), the one without a session.
    fn standby(&self, state: &State, sessions: &ObservedSessions) -> String {
        let [first, second] = [Slot::A, Slot::B].map(|slot| self.plan.account.in_slot(slot));
        let published =
            state.published.iter().filter(|_| state.is_on_server_of(&self.change.place));
        let used =
            published.chain(&self.change.old).find(|login| is_ours(&self.plan.account, login));
        let first_is_used = match used {
            Some(used) => used.username == first.as_str(),
            None => sessions.of_accounts.iter().any(|session| session.user == first.as_str()),
        };
        if first_is_used { second.to_string() } else { first.to_string() }
    }

    fn apply(&self, next: &mut Step) {
        let Some(login) = self.change.next.first().cloned() else { return };
        let Some(_) = self.find_root(next) else { return };
        match &self.change.old {
            // The same account: it must go on taking the password that the pods hold.
            Some(old) if old.username == login.username => match &self.seen.next {
                Some(ObservedLogin::Accepted { .. }) => {}
                Some(ObservedLogin::Denied | ObservedLogin::Differs(_)) => {
                    // MySQL retains whichever password is the first, so that is made the pods' one:
                    // another may be there, of a rotation that was given up or forgotten.
                    next.effects.push(Effect::EnsureAccount(old.clone()));
                    next.effects.push(Effect::AddPassword { next: login, old: old.clone() });
                }
                Some(ObservedLogin::Unreachable(why)) => {
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
            Some(ObservedLogin::Accepted { .. }) => self.enter(next, Phase::Verified),
            Some(ObservedLogin::Denied) => self.not_verified(next, "it is refused"),
            Some(ObservedLogin::Differs(difference)) => self.not_verified(next, difference),
            Some(ObservedLogin::Unreachable(why)) => {
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
        let is_moving = self.is_moving(next);
        if is_moving && !self.seen.is_migrated {
            let Place { host, port, database } = &self.change.place;
            return self.report_stall(next, || {
                format!(
                    "the pods move to {database} on {host}:{port} once the migration there has succeeded"
                )
            });
        }
        let mut logins = self.change.next.clone();
        // A login of the schema that is left would find the other one empty.
        if self.rotates() && self.change.cause != Cause::Moved {
            logins.extend(self.change.old.clone());
        }
        // The pods come to a server that they had left, or of which a change was given up: its accounts are in
        // use again.
        next.state.left.retain(|left| !left.place.is_on_server_of(&self.change.place));
        if is_moving {
            self.note_left_place(next);
        }
        next.state.publish(logins, &self.change.place);
        self.enter(next, Phase::Published);
    }

    /// Accounts on another server are locked or dropped once no pod uses them any more. Those on the same
    /// server are the old login of this rotation.
    fn note_left_place(&self, next: &mut Step) {
        let state = &mut next.state;
        let Some(place) = state.place.clone() else { return };
        let is_on_same_server = state.is_on_server_of(&self.change.place);
        let has_accounts = state.published.iter().any(|login| is_ours(&self.plan.account, login));
        // Without a login of its root nothing can be done there.
        let root = state.former_root.take();
        if is_on_same_server || !has_accounts || root.is_none() {
            return;
        }
        state.left.retain(|left| left.place != place);
        state.left.push(LeftPlace {
            place,
            root,
            until_generation: state.generation + 1,
            give_up_at: self.now.checked_add(GIVE_UP_AFTER).unwrap_or(self.now),
        });
    }

    fn await_adoption(&self, next: &mut Step) {
        if self.replace_dead(next) || !self.has_every_pod(next) {
            return;
        }
        let change = next.state.change.as_mut().expect("under way");
        change.adopted_at = Some(self.now);
        change.unused_since = None;
        self.enter(next, Phase::Adopted);
        if self.change.old.is_none() {
            // Nothing is known that could be revoked.
            self.finish(next);
        }
    }

    /// Whether every pod has taken over what is published. The kubelets of those that have not are told
    /// to refresh their volumes.
    fn has_every_pod(&self, next: &mut Step) -> bool {
        let Some(pods) = &self.seen.pods else { return false };
        let generation = next.state.generation;
        let late: Vec<&PodReport> =
            pods.iter().filter(|pod| !pod.has_adopted(generation)).collect();
        if late.is_empty() {
            return true;
        }
        self.nudge(next, &late);
        self.report_stall(next, || list(&describe_late(&late, generation)));
        false
    }

    /// Decides what follows if the login that the pods lead with stopped working, by somebody
    /// else's hand. The way back stays open until the old login is revoked.
    fn replace_dead(&self, next: &mut Step) -> bool {
        match (&self.seen.next, &self.seen.old) {
            (Some(ObservedLogin::Denied), Some(ObservedLogin::Accepted { .. })) => {
                self.roll_back(next);
            }
            (
                Some(ObservedLogin::Denied),
                Some(ObservedLogin::Denied | ObservedLogin::Differs(_)),
            ) => {
                self.not_verified(next, "it is refused since the pods have it");
            }
            (Some(ObservedLogin::Denied), None) if self.change.old.is_none() => {
                self.not_verified(next, "it is refused since the pods have it");
            }
            (Some(ObservedLogin::Denied), Some(ObservedLogin::Unreachable(why))) => {
                next.obstacle = Some(Obstacle::Unreachable(why.clone()));
            }
            (Some(ObservedLogin::Differs(difference)), _) if self.rotates() => {
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
            Some(users) if users.is_empty() => self.await_unused(next),
            Some(users) => {
                next.state.change.as_mut().expect("under way").unused_since = None;
                self.nudge_late(next);
                self.report_stall(next, || list(&users));
            }
        }
    }

    /// Waits until the old login has been unused for long enough, and until every session that had not
    /// authenticated when that began has authenticated or ended: a slow login may become one of the old
    /// account. Sessions that begin later are no concern, as every pod tries the new login first.
    fn await_unused(&self, next: &mut Step) {
        let nothing = BTreeSet::new();
        let observed = self.seen.sessions.as_ref().map_or(&nothing, |it| &it.unauthenticated);
        let change = next.state.change.as_mut().expect("under way");
        let Some(since) = change.unused_since else {
            change.unused_since = Some(self.now);
            change.unauthenticated.clone_from(observed);
            return;
        };
        if self.now.duration_since(since) < UNUSED_FOR {
            return;
        }
        let pending = change.unauthenticated.intersection(observed).count();
        if pending == 0 {
            return self.enter(next, Phase::Drained);
        }
        self.report_stall(next, || format!("{pending} logins are under way for longer than usual"));
    }

    /// Observes once more before it revokes the old login: a pod may have come meanwhile, or the new
    /// login may have gone.
    fn revoke(&self, next: &mut Step) {
        let ends_account = self.rotates() || leaves_account(self.change, &self.plan.account);
        if self.replace_dead(next) || (ends_account && !self.is_ready_to_revoke(next)) {
            return;
        }
        let Some(users) = self.find_users(next.state.generation) else { return };
        if !users.is_empty() {
            next.state.change.as_mut().expect("under way").unused_since = None;
            self.report_stall(next, || list(&users));
            return self.enter(next, Phase::Adopted);
        }
        match (&self.change.old, self.change.next.first()) {
            // In mode Follow the operator may have lost the right to do so, and a person did.
            (Some(old), _)
                if !self.rotates()
                    && self.revokes(old)
                    && self.seen.old == Some(ObservedLogin::Denied) =>
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
            Some(ObservedLogin::Accepted { .. } | ObservedLogin::Differs(_)) => true,
            Some(ObservedLogin::Unreachable(why)) => {
                next.obstacle = Some(Obstacle::Unreachable(why.clone()));
                false
            }
            Some(ObservedLogin::Denied) | None => false,
        }
    }

    /// The negative test: the server itself must refuse the old login.
    fn prove(&self, next: &mut Step) {
        match &self.seen.old {
            None => {}
            Some(ObservedLogin::Denied) => self.finish(next),
            Some(ObservedLogin::Accepted { .. } | ObservedLogin::Differs(_)) => {
                next.obstacle = Some(Obstacle::StillAccepted);
                self.enter(next, Phase::Drained);
            }
            Some(ObservedLogin::Unreachable(why)) => {
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
        let late: Vec<&PodReport> =
            pods.iter().filter(|pod| !pod.has_adopted(generation)).collect();
        let mut users = describe_late(&late, generation);
        // A login that is under way counts as a connection in the pod's own report.
        let busy = pods.iter().filter(|pod| pod.has_connections_before(generation));
        users.extend(busy.map(|pod| format!("pod {} has connections of the old login", pod.name)));
        let old = self.change.old.as_ref();
        if ends_account(self.change, &self.plan.account) {
            let old = old.map(|old| old.username.as_str());
            let sessions = &self.seen.sessions.as_ref()?.of_accounts;
            let of_old = sessions.iter().filter(|session| Some(session.user.as_str()) == old);
            users.extend(describe_sessions(of_old));
        }
        Some(users)
    }

    fn nudge_late(&self, next: &mut Step) {
        let generation = next.state.generation;
        let pods = self.seen.pods.iter().flatten();
        let late: Vec<&PodReport> = pods.filter(|pod| !pod.has_adopted(generation)).collect();
        self.nudge(next, &late);
    }

    fn nudge(&self, next: &mut Step, late: &[&PodReport]) {
        let generation = next.state.generation;
        let is_due = |pod: &&&PodReport| match pod.nudged {
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

/// Keeps the login that works. That of the server which the pods still use is kept besides, as their
/// accounts there are to be locked once they have moved.
fn note_root(state: &mut State, login: &Candidate, place: &Place) {
    let is_elsewhere = state.place.is_some() && !state.is_on_server_of(place);
    if !is_elsewhere {
        state.former_root = None;
    } else if state.former_root.is_none() {
        let own = state.place.clone();
        state.former_root = own.and_then(|own| state.root_at(&own).cloned());
    }
    state.root = Some(login.clone());
    state.root_place = Some(place.clone());
}

/// The pods that keep a rotation waiting: those that hold an older generation, and those that cannot be
/// asked, of which it is not known.
fn describe_late(late: &[&PodReport], generation: u64) -> Vec<String> {
    let describe = |pod: &&PodReport| match pod.generation {
        Some(own) => format!("pod {} holds generation {own} and not yet {generation}", pod.name),
        None => format!("pod {} cannot be asked which generation it holds", pod.name),
    };
    late.iter().map(describe).collect()
}

/// Sessions by account and host. Ids and ports change from login to login, and a status that named them
/// would be written anew each time.
fn describe_sessions<'a>(sessions: impl Iterator<Item = &'a ObservedSession>) -> Vec<String> {
    let without_port = |host: &'a str| host.rsplit_once(':').map_or(host, |(host, _)| host);
    let logins: BTreeSet<(&str, &str)> =
        sessions.map(|session| (&*session.user, without_port(&session.host))).collect();
    logins.iter().map(|(user, host)| format!("{user} is logged in from {host}")).collect()
}

/// For a sentence that stays readable.
fn list<T: AsRef<str>>(names: &[T]) -> String {
    let shown: Vec<&str> = names.iter().take(LISTED).map(AsRef::as_ref).collect();
    let more = names.len().saturating_sub(LISTED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

//! The step out of each phase of a change that is under way.

use crds::RotationMode;
use jiff::{SignedDuration, Timestamp};
use service_kit::credentials::Candidate;

use super::{
    Change, Effect, HistoryEntry, Observation, ObservedLogin, ObservedRoot, ObservedSession,
    Obstacle, Outcome, Phase, Plan, PodReport, STALL_AFTER, Step, differs_from, has_slots, is_ours,
    keeps_account, leaves_account,
};
use crate::rotation::mysql::Slot;

/// Empty process lists in a row after which nobody uses the old account.
const EMPTY_LISTS: u8 = 2;
/// Pods or sessions that a stall names; the others are counted.
const LISTED: usize = 5;
/// A kubelet that was told to look may not have seen the new file yet, and is told again.
const NUDGE_AGAIN_AFTER: SignedDuration = SignedDuration::from_secs(3);
/// Time until the next try after a rotation was rolled back.
const RETRY_AFTER: SignedDuration = SignedDuration::from_mins(5);

/// One look at a change that is under way.
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
    fn standby(&self, sessions: &[ObservedSession]) -> String {
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
        let late: Vec<&PodReport> =
            pods.iter().filter(|pod| !pod.has_adopted(generation)).collect();
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

/// For a sentence that stays readable.
fn list<T: AsRef<str>>(names: &[T]) -> String {
    let shown: Vec<&str> = names.iter().take(LISTED).map(AsRef::as_ref).collect();
    let more = names.len().saturating_sub(LISTED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

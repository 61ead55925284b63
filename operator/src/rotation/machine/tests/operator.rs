//! A turn of the operator, as the real driver takes it, with everything that can go wrong in it.

use crds::RotationMode;
use service_kit::credentials::Candidate;

use super::{
    super::{
        Change, Effect, Needs, Observation, ObservedLogin, ObservedRoot, ObservedSession, Obstacle,
        Outcome, Phase, Place, State, Step, needs, step,
    },
    pods::{File, server_of},
    world::{Actor, World, show},
};

/// What cannot be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blind {
    Root,
    Active,
    Next,
    Old,
    Pods,
    Sessions,
}

/// What goes wrong in a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Faults {
    pub(super) blind: Option<Blind>,
    /// The database fails at this effect, before or after it has happened.
    pub(super) effect: Option<(usize, Happened)>,
    pub(super) crash: Option<CrashBefore>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happened {
    No,
    Yes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CrashBefore {
    Effects,
    StoredState,
    File,
    Status,
}

/// What a turn came to.
#[derive(Clone, Debug)]
pub(super) struct Done {
    pub(super) phase: Option<Phase>,
    pub(super) effects: Vec<Effect>,
    pub(super) obstacle: Option<Obstacle>,
    pub(super) has_moved: bool,
}

impl World {
    /// What the operator knows when it starts.
    pub(super) fn remember(&self) -> State {
        if let Some(memory) = &self.memory {
            return serde_json::from_str(memory).expect("what was written");
        }
        let file = self.file.as_ref();
        State {
            generation: self.status.max(file.map_or(0, |file| file.generation)),
            published: file.map(|file| file.candidates.clone()).unwrap_or_default(),
            place: file.map(|file| file.place.clone()),
            ..State::default()
        }
    }

    /// One look, one step, its effects, and what is stored.
    pub(super) fn turn(&mut self, faults: Faults) -> Done {
        let state = self.remember();
        let needs = needs(&state, &self.plan, self.now);
        let seen = self.look(&state, needs, faults.blind);
        let fresh = self.new_password();
        let mut next = step(&state, &self.plan, &seen, self.now, || fresh.into());
        let shown = format!("{state:?} {next:?} {seen:?}");
        assert!(!shown.contains("s3cret"), "a password is shown: {shown}");
        assert!(
            next.state.generation >= state.generation,
            "the generation fell from {} to {}",
            state.generation,
            next.state.generation
        );
        let has_moved = has_moved(&state, &next);
        if faults.crash != Some(CrashBefore::Effects) {
            let failed =
                self.act(Actor::Operator, |world| world.carry_out(&state, &next, faults.effect));
            match failed {
                Ok(()) => {
                    self.prove_finish(&state, &next);
                    self.act(Actor::Operator, |world| world.store(&next, faults.crash));
                }
                // The real driver reports it, and takes the step again.
                Err(why) => next.obstacle = Some(Obstacle::Unreachable(why)),
            }
        }
        Done {
            phase: self.remember().change.map(|change| change.phase),
            effects: next.effects,
            obstacle: next.obstacle,
            has_moved,
        }
    }

    fn store(&mut self, next: &Step, crash: Option<CrashBefore>) {
        if crash == Some(CrashBefore::StoredState) {
            return;
        }
        let state = &next.state;
        self.memory = Some(serde_json::to_string(state).expect("plain data"));
        if crash == Some(CrashBefore::File) {
            return;
        }
        if let Some(place) = state.place.clone().filter(|_| !state.published.is_empty()) {
            let candidates = state.published.clone();
            // In a rotating mode a file of root logins is what mode Follow left.
            let is_ours = candidates.first().is_some_and(|one| one.username.starts_with("hw_"));
            let mode = if is_ours { self.plan.mode } else { RotationMode::Follow };
            self.write_file(File { generation: state.generation, place, candidates }, mode);
        }
        if crash != Some(CrashBefore::Status) {
            self.status = state.generation;
        }
    }

    fn look(&mut self, state: &State, needs: Needs, blind: Option<Blind>) -> Observation {
        let can_see = |what| blind != Some(what);
        let source = self.source_is_up.then(|| self.source.clone());
        let change = state.change.as_ref();
        let root = source.as_ref().filter(|_| needs.root && can_see(Blind::Root)).map(|source| {
            let server = &self.servers[server_of(&self.plan.place)];
            if server.is_down {
                return ObservedRoot::Unreachable("it is down".to_owned());
            }
            // The one that worked last goes on working for a while after the source was changed;
            // to pods nothing but the source is given.
            let follows = change.is_some_and(|change| change.mode == RotationMode::Follow);
            let last = state.root.as_ref().filter(|_| !follows);
            let logins = source.candidates.iter().chain(last);
            let mut works = logins.filter(|login| server.accepts(login));
            works.next().map_or_else(
                || ObservedRoot::Rejected("refused".to_owned()),
                |login| ObservedRoot::Works(login.clone()),
            )
        });
        let is_root_let_in = match &root {
            Some(ObservedRoot::Works(_)) => true,
            _ => self.has_root(state),
        };
        let sees_sessions = needs.sessions && can_see(Blind::Sessions) && is_root_let_in;
        let next = change.filter(|_| needs.next && can_see(Blind::Next));
        let old = change.filter(|_| needs.old && can_see(Blind::Old));
        let active = state.active().filter(|_| {
            change.is_none() && state.is_at(&self.plan.place) && can_see(Blind::Active)
        });
        let try_one = |change: &Change, login: Option<&Candidate>| {
            login.map(|login| self.try_login(&change.place, login))
        };
        Observation {
            root,
            active: active.map(|login| self.try_login(&self.plan.place, login)),
            next: next.and_then(|change| try_one(change, change.next.first())),
            old: old.and_then(|change| try_one(change, change.old.as_ref())),
            pods: (needs.pods && can_see(Blind::Pods)).then(|| {
                self.pods
                    .iter()
                    .filter(|pod| !pod.is_terminating)
                    .map(super::pods::Pod::report)
                    .collect()
            }),
            sessions: sees_sessions.then(|| self.list_sessions(change)),
            source,
        }
    }

    /// Whether the driver finds a session to work with: as the root that worked last or, where others
    /// rotate, as what the source says.
    fn has_root(&self, state: &State) -> bool {
        let mode = state.change.as_ref().map_or(self.plan.mode, |change| change.mode);
        let follows = mode == RotationMode::Follow && self.source_is_up;
        let of_source = self.source.candidates.iter().filter(|_| follows);
        let mut logins = state.root.iter().chain(of_source);
        logins.any(|login| self.is_let_in(&self.plan.place, login))
    }

    fn is_let_in(&self, place: &Place, login: &Candidate) -> bool {
        let server = &self.servers[server_of(place)];
        !server.is_down && server.accepts(login)
    }

    fn try_login(&self, place: &Place, login: &Candidate) -> ObservedLogin {
        let server = &self.servers[server_of(place)];
        let is_ours = login.username.starts_with("hw_");
        if server.is_down {
            ObservedLogin::Unreachable("it is down".to_owned())
        } else if !server.accepts(login) {
            ObservedLogin::Denied
        } else if is_ours && !server.accounts[&login.username].has_rights {
            ObservedLogin::Differs("INSERT is missing".to_owned())
        } else {
            ObservedLogin::Accepted { is_privileged: !is_ours }
        }
    }

    fn list_sessions(&self, change: Option<&Change>) -> Vec<ObservedSession> {
        let sessions = &self.servers[server_of(&self.plan.place)].sessions;
        let old = change.and_then(|change| change.old.as_ref()).map(|old| &old.username);
        let ours = sessions
            .iter()
            .filter(|(_, session)| session.user.starts_with("hw_") || Some(&session.user) == old);
        ours.map(|(id, session)| ObservedSession {
            user: session.user.clone(),
            id: *id,
            host: session.pod.clone().unwrap_or_else(|| "stranger".to_owned()),
        })
        .collect()
    }

    /// Carries the effects out in their order, as the root of the new state.
    fn carry_out(
        &mut self,
        before: &State,
        next: &Step,
        fault: Option<(usize, Happened)>,
    ) -> Result<(), String> {
        for (number, effect) in next.effects.iter().enumerate() {
            let fault = fault.filter(|(at, _)| *at == number).map(|(_, happened)| happened);
            if fault == Some(Happened::No) {
                return Err("the database failed".to_owned());
            }
            self.apply(before, next, effect)?;
            if fault.is_some() {
                return Err("the database failed afterwards".to_owned());
            }
        }
        Ok(())
    }

    fn apply(&mut self, before: &State, next: &Step, effect: &Effect) -> Result<(), String> {
        if let Effect::Nudge(names) = effect {
            let (generation, now) = (next.state.generation, self.now);
            for pod in self.pods.iter_mut().filter(|pod| names.contains(&pod.name)) {
                pod.nudged = Some((generation, now));
            }
            return Ok(());
        }
        if !self.has_root(&next.state) {
            return Err("the root is not let in".to_owned());
        }
        match effect {
            Effect::EnsureAccount(login) => self.server().ensure_account(login),
            Effect::AddPassword { next, old } => self.server().add_password(next, old)?,
            Effect::DropOldPassword { next } => {
                self.assert_unused(before, None);
                self.server().drop_old_password(next)?;
            }
            Effect::Lock(username) => {
                self.assert_unused(before, Some(username));
                self.server().lock(username);
            }
            Effect::Nudge(_) => {}
        }
        Ok(())
    }

    /// The old login is about to be revoked; `account` is set where the server can tell its sessions
    /// from others.
    fn assert_unused(&self, before: &State, account: Option<&str>) {
        let generation = before.generation;
        for pod in self.pods.iter().filter(|pod| !pod.is_terminating) {
            assert!(
                pod.has_adopted(generation),
                "the old login is revoked while {} holds {:?} and not generation {generation}",
                pod.name,
                pod.file.as_ref().map(|file| file.generation)
            );
            let is_busy = pod.connections.iter().any(|(_, _, of)| *of < generation);
            assert!(
                account.is_some() || !is_busy,
                "the old password is revoked while {} has connections of it",
                pod.name
            );
        }
        let sessions = &self.servers[server_of(&self.plan.place)].sessions;
        let of_old = sessions.iter().find(|(_, session)| Some(session.user.as_str()) == account);
        assert!(of_old.is_none(), "{account:?} is locked while {of_old:?} is logged in");
    }

    /// What a rotation says it revoked is refused.
    fn prove_finish(&self, before: &State, next: &Step) {
        let (Some(change), None) = (&before.change, &next.state.change) else { return };
        let has_ended = next.state.history != before.history;
        if !has_ended {
            return;
        }
        let old = change.old.as_ref().filter(|_| next.state.history[0].outcome == Outcome::Revoked);
        if let Some(old) = old {
            assert!(!self.accepts(&change.place, old), "{} is let in after all", show(old));
            assert!(!next.state.publishes(old), "the old login is still published");
        }
    }

    /// Takes turns until nothing moves or something is in the way, and returns what each did.
    pub(super) fn settle(&mut self) -> Vec<Done> {
        let mut turns = Vec::new();
        loop {
            let done = self.turn(Faults::default());
            let goes_on = done.has_moved && done.obstacle.is_none();
            turns.push(done);
            if !goes_on {
                return turns;
            }
            assert!(
                turns.len() < 40,
                "the operator runs hot: {:?}",
                turns.iter().map(|done| (done.phase, &done.effects)).collect::<Vec<_>>()
            );
        }
    }
}

fn has_moved(before: &State, next: &Step) -> bool {
    let place = |state: &State| {
        let change = state.change.as_ref();
        (change.map(|change| (change.phase, change.empty_lists)), state.generation)
    };
    place(before) != place(&next.state)
}

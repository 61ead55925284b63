//! A step of the real executor on the simulated world, with everything that can go wrong in it.

use crds::{DeletionPolicy, Reason, RotationMode};
use futures::FutureExt;
use jiff::Timestamp;
use secrecy::SecretString;
use service_kit::credentials::{Candidate, CredentialSet};

use super::{
    super::{
        AccountChange, ChangeFailed, Execution, LastTry, Stepped, World as ExecutorWorld,
        initial_state, restore,
    },
    pods::{File, server_of},
    world::{Actor, World, show},
};
use crate::rotation::{
    Trouble,
    machine::{
        Effect, LeftPlace, ObservedLogin, ObservedRoot, ObservedSession, ObservedSessions,
        Obstacle, Outcome, Phase, Place, PodReport, State, place_of_pass,
    },
    mysql::{SchemaName, Server, Slot, Tls},
    request::{PortalKey, Request},
    store::StoreError,
};

/// What cannot be observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blind {
    Root,
    Active,
    Next,
    Old,
    Pods,
    Sessions,
}

/// What goes wrong in a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Faults {
    pub(super) blind: Option<Blind>,
    /// The database fails at this change, before or after it has happened.
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

/// What a step came to.
#[derive(Clone, Debug)]
pub(super) struct Done {
    pub(super) phase: Option<Phase>,
    pub(super) effects: Vec<Effect>,
    pub(super) obstacle: Option<Obstacle>,
    pub(super) has_moved: bool,
}

/// The simulated world as the executor sees it in one step.
struct Seen<'a> {
    world: &'a mut World,
    faults: Faults,
    before: State,
    place: Place,
    is_root_open: bool,
    /// Changes that were tried so far.
    changes: usize,
    stored: bool,
}

impl World {
    /// What the operator knows when it starts.
    pub(super) fn remember(&self) -> State {
        match &self.memory {
            Some(memory) => serde_json::from_str(memory).expect("what was written"),
            None => restore(self.published().as_ref(), &self.plan.account, self.status),
        }
    }

    fn published(&self) -> Option<CredentialSet> {
        let File { generation, place, candidates } = self.file.clone()?;
        let Place { host, port, database } = place;
        Some(CredentialSet { generation, host, port, database, candidates })
    }

    fn request(&self) -> Request {
        let Place { host, port, database } = self.plan.place.clone();
        let schema = SchemaName::new(&database).expect("a name");
        Request {
            portal: PortalKey {
                namespace: "team".to_owned(),
                name: "demo".to_owned(),
                uid: "0a1b2c3d-4e5f-4607-8899-aabbccddeeff".to_owned(),
            },
            server: Server { host, port, schema, tls: Tls::Disabled },
            own_authorities: None,
            plan: self.plan.clone(),
            source: if self.source_is_up {
                Ok(self.source.clone())
            } else {
                Err(Trouble::new(Reason::SourceUnavailable, "the source is down"))
            },
            terraform: None,
            poll_interval: std::time::Duration::from_mins(1),
            deletion_policy: DeletionPolicy::Retain,
            published: self.published(),
            last_generation: self.status,
            is_migrated: self.migrated.contains(&self.plan.place),
        }
    }

    /// One step of the executor, what follows from it for servers that were left, and the pods' file.
    pub(super) fn turn(&mut self, faults: Faults) -> Done {
        let before = self.remember();
        let request = self.request();
        let stored = self.memory.is_some().then(|| before.clone());
        let state = initial_state(&request, stored);
        let mut seen = Seen {
            place: place_of_pass(&before, &self.plan).clone(),
            faults,
            before: before.clone(),
            is_root_open: false,
            changes: 0,
            stored: false,
            world: self,
        };
        let mut execution = Execution::new(&request, state, LastTry::default(), &mut seen);
        let stepped = execution.step().now_or_never().expect("nothing waits here");
        let is_crashed =
            matches!(faults.crash, Some(CrashBefore::Effects | CrashBefore::StoredState));
        if stepped.is_ok() && !is_crashed {
            let retired =
                execution.retire_left_places().now_or_never().expect("nothing waits here");
            retired.expect("the store works");
        }
        // What the source says, or does not, keeps nothing from going on.
        let is_of_source = |trouble: &&Trouble| trouble.reason == Reason::SourceUnavailable;
        let trouble = execution.trouble.as_ref().filter(|trouble| !is_of_source(trouble));
        let trouble = trouble.map(|trouble| Obstacle::Unreachable(trouble.message.clone()));
        let shown = format!("{:?} {:?}", execution.state, execution.trouble);
        assert!(!shown.contains("s3cret"), "a password is shown: {shown}");
        let Stepped { effects, obstacle, .. } =
            stepped.unwrap_or(Stepped { effects: Vec::new(), obstacle: None, goes_on: false });
        let was_stored = seen.stored;
        if was_stored || self.memory.is_some() {
            self.act(Actor::Operator, |world| world.publish(faults.crash));
        }
        let after = self.remember();
        Done {
            phase: after.change.as_ref().map(|change| change.phase),
            effects,
            obstacle: obstacle.or(trouble),
            has_moved: has_moved(&before, &after),
        }
    }

    fn publish(&mut self, crash: Option<CrashBefore>) {
        if matches!(
            crash,
            Some(CrashBefore::Effects | CrashBefore::StoredState | CrashBefore::File)
        ) {
            return;
        }
        let state = self.remember();
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

    /// Takes steps until nothing moves or something is in the way, and returns what each did.
    pub(super) fn run_until_blocked(&mut self) -> Vec<Done> {
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

    /// The old login is about to be revoked; `account` is set where the server can tell its sessions
    /// from others.
    fn assert_unused(&self, before: &State, place: &Place, account: Option<&str>) {
        let generation = before.generation;
        for pod in self.pods.iter().filter(|pod| !pod.is_terminating && !pod.is_orphan) {
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
        let sessions = &self.servers[server_of(place)].sessions;
        let of_old = sessions.iter().find(|(_, session)| Some(session.user.as_str()) == account);
        assert!(of_old.is_none(), "{account:?} is locked while {of_old:?} is logged in");
    }
}

impl Seen<'_> {
    fn can_see(&self, what: Blind) -> bool {
        self.faults.blind != Some(what)
    }

    /// Which of the logins of the state this is: each can be out of sight by itself.
    fn is_blind_to(&self, login: &Candidate) -> bool {
        let change = self.before.change.as_ref();
        let Some(change) = change else { return !self.can_see(Blind::Active) };
        let is_next = change.next.first().is_some_and(|next| next.is_same(login));
        let is_old = change.old.as_ref().is_some_and(|old| old.is_same(login));
        (is_next && !self.can_see(Blind::Next)) || (is_old && !self.can_see(Blind::Old))
    }

    fn is_crashed(&self, points: &[CrashBefore]) -> bool {
        self.faults.crash.is_some_and(|point| points.contains(&point))
    }

    fn place(&self) -> Place {
        self.place.clone()
    }

    /// What a rotation says it revoked is refused.
    fn prove_finish(&self, next: &State) {
        let (Some(change), None) = (&self.before.change, &next.change) else { return };
        if next.history == self.before.history {
            return;
        }
        let old = change.old.as_ref().filter(|_| next.history[0].outcome == Outcome::Revoked);
        if let Some(old) = old {
            assert!(!self.world.accepts(&change.place, old), "{} is let in after all", show(old));
            assert!(!next.publishes(old), "the old login is still published");
        }
    }
}

fn trouble(why: &str) -> Trouble {
    Trouble::new(Reason::AccountsFailed, why)
}

impl ExecutorWorld for Seen<'_> {
    fn now(&self) -> Timestamp {
        self.world.now
    }

    fn new_password(&mut self) -> SecretString {
        self.world.new_password().into()
    }

    async fn open_root(&mut self, logins: &[Candidate]) -> ObservedRoot {
        let server = &self.world.servers[server_of(&self.place())];
        if server.is_down {
            return ObservedRoot::Unreachable("it is down".to_owned());
        }
        if !self.can_see(Blind::Root) {
            return ObservedRoot::Unreachable("out of sight".to_owned());
        }
        let works = logins.iter().find(|login| server.accepts(login)).cloned();
        self.is_root_open = works.is_some();
        works.map_or(ObservedRoot::Rejected("refused".to_owned()), ObservedRoot::Works)
    }

    async fn try_login(&mut self, login: &Candidate, is_own: bool) -> ObservedLogin {
        let server = &self.world.servers[server_of(&self.place())];
        if server.is_down || self.is_blind_to(login) {
            ObservedLogin::Unreachable("it is down".to_owned())
        } else if !server.accepts(login) {
            ObservedLogin::Denied
        } else if !server.serves(&self.place(), login) {
            ObservedLogin::Differs("INSERT is missing".to_owned())
        } else {
            ObservedLogin::Accepted { is_privileged: !is_own }
        }
    }

    async fn find_source_login(&mut self, logins: &[Candidate]) -> ObservedRoot {
        if !self.can_see(Blind::Root) {
            return ObservedRoot::Unreachable("out of sight".to_owned());
        }
        for login in logins {
            match self.try_login(login, false).await {
                ObservedLogin::Denied => {}
                ObservedLogin::Unreachable(why) => return ObservedRoot::Unreachable(why),
                ObservedLogin::Accepted { .. } | ObservedLogin::Differs(_) => {
                    return ObservedRoot::Works(login.clone());
                }
            }
        }
        ObservedRoot::Rejected("refused".to_owned())
    }

    async fn list_sessions(&mut self, users: &[String]) -> Result<ObservedSessions, Trouble> {
        assert!(self.is_root_open, "sessions are listed without a session of the root");
        if !self.can_see(Blind::Sessions) {
            return Err(trouble("out of sight"));
        }
        let server = &self.world.servers[server_of(&self.place())];
        let of_accounts = server.sessions.iter().filter(|(_, one)| users.contains(&one.user));
        Ok(ObservedSessions {
            of_accounts: of_accounts
                .map(|(id, session)| ObservedSession {
                    user: session.user.clone(),
                    id: *id,
                    host: session.pod.clone().unwrap_or_else(|| "stranger".to_owned()),
                })
                .collect(),
            unauthenticated: server.unauthenticated.clone(),
        })
    }

    async fn change_account(&mut self, change: AccountChange<'_>) -> Result<(), ChangeFailed> {
        assert!(self.is_root_open, "{change:?} without a session of the root");
        if self.is_crashed(&[CrashBefore::Effects]) {
            return Err(trouble("crashed").into());
        }
        let number = self.changes;
        self.changes += 1;
        let fault =
            self.faults.effect.filter(|(at, _)| *at == number).map(|(_, happened)| happened);
        if fault == Some(Happened::No) {
            return Err(trouble("the database failed").into());
        }
        let (place, before) = (self.place(), self.before.clone());
        let done = self.world.act(Actor::Operator, |world| {
            match change {
                AccountChange::Ensure(_, login) => world.server().ensure_account(login, &place),
                AccountChange::AddPassword { next, old, .. } => {
                    world.server().add_password(next, old)?;
                }
                AccountChange::DropOldPassword(_, login) => {
                    world.assert_unused(&before, &place, None);
                    world.server().drop_old_password(login)?;
                }
                AccountChange::Lock(account) => {
                    world.assert_unused(&before, &place, Some(account.as_str()));
                    world.server().lock(account.as_str());
                }
                AccountChange::EnsureMigration(..) | AccountChange::Drop(_) => {}
            }
            Ok::<(), String>(())
        });
        done.map_err(|why| trouble(&why))?;
        if fault.is_some() { Err(trouble("the database failed afterwards").into()) } else { Ok(()) }
    }

    async fn retire_left(
        &mut self,
        left: &LeftPlace,
        _active: Option<&Candidate>,
    ) -> Result<(), Trouble> {
        let server = server_of(&left.place);
        if self.world.servers[server].is_down {
            return Err(trouble("it is down"));
        }
        for pod in self.world.pods.iter().filter(|pod| !pod.is_terminating && !pod.is_orphan) {
            let Some(file) = &pod.file else { continue };
            assert!(
                file.generation >= left.until_generation,
                "accounts are locked that {} may use with generation {}",
                pod.name,
                file.generation
            );
        }
        self.world.act(Actor::Operator, |world| {
            for slot in [Slot::A, Slot::B] {
                let account = world.account(slot);
                world.servers[server].lock(&account);
            }
        });
        Ok(())
    }

    async fn list_pods(&mut self) -> Result<Vec<PodReport>, Trouble> {
        if !self.can_see(Blind::Pods) {
            return Err(trouble("out of sight"));
        }
        let pods = self.world.pods.iter().filter(|pod| !pod.is_terminating);
        Ok(pods.map(super::pods::Pod::report).collect())
    }

    async fn nudge(&mut self, pod: &str, generation: u64) -> Result<(), Trouble> {
        if self.is_crashed(&[CrashBefore::Effects]) {
            return Err(trouble("crashed"));
        }
        let now = self.world.now;
        for pod in self.world.pods.iter_mut().filter(|one| one.name == pod) {
            pod.nudged = Some((generation, now));
        }
        Ok(())
    }

    async fn store(&mut self, state: &State) -> Result<(), StoreError> {
        if self.is_crashed(&[CrashBefore::Effects, CrashBefore::StoredState]) {
            return Err(StoreError::Conflict("crashed".to_owned()));
        }
        assert!(
            state.generation >= self.before.generation,
            "the generation fell from {} to {}",
            self.before.generation,
            state.generation
        );
        self.prove_finish(state);
        self.world.memory = Some(serde_json::to_string(state).expect("plain data"));
        self.stored = true;
        Ok(())
    }
}

fn has_moved(before: &State, after: &State) -> bool {
    let place = |state: &State| {
        let change = state.change.as_ref();
        (change.map(|change| (change.phase, change.unused_since)), state.generation)
    };
    place(before) != place(after)
}

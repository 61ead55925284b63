//! Carries out what the [`machine`](super::machine) decides: observes, acts, stores, and observes again
//! until there is nothing to do but wait.

mod live;
mod login;
mod observe;
#[cfg(test)]
mod tests;
mod world;

use std::{
    collections::HashMap,
    fmt::Display,
    sync::{Mutex, PoisonError},
};

use crds::{Reason, RotationMode};
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use metrics::counter;
use service_kit::credentials::{Candidate, CredentialSet};
use tracing::{debug, info, warn};

pub use self::world::{AccountChange, ChangeFailed, World};
use self::{
    live::LiveWorld,
    observe::{Observed, observe, open_root, root_rejected},
};
use super::{
    Credentials, DatabaseProblem, Trouble,
    login_gate::LoginGate,
    machine::{
        self, Effect, Observation, ObservedLogin, ObservedRoot, Obstacle, Outcome, Phase, Place,
        PodReport, State, Step,
    },
    mysql::{AccountName, Slot, SqlError},
    pod_reports::PodReports,
    request::Request,
    retirement,
    store::{Record, Store, StoreError},
};
use crate::cluster::{client::Fence, retry::Retry};

/// Steps of one pass. A rotation has nine, and may observe twice in the same phase.
const MOST_STEPS: usize = 24;
/// Staged passwords that a server's policy may refuse in one pass.
const MOST_DISCARDS: usize = 3;
/// A database that does not answer is reported once it has not answered for this long.
const UNREACHABLE_AFTER: SignedDuration = SignedDuration::from_secs(5);

/// The outcome, in the metric, of a rotation that was given up before the pods got anything of it.
const ABANDONED: &str = "Abandoned";

/// Why the pods have no credential yet. Once they have one, whatever fails is a [`Trouble`] beside it.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The first credential could not be made.
    #[error("{}", .0.message)]
    Trouble(Trouble),
    /// The state could not be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RotationError {
    /// What to do next.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Trouble(trouble) => trouble.retry.clone(),
            Self::Store(error) => error.retry(),
        }
    }

    /// The reason of the condition.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Trouble(trouble) => trouble.reason,
            Self::Store(error) => error.reason(),
        }
    }
}

/// The last try of the login that a portal's pods use.
#[derive(Clone, Debug, Default)]
struct LastTry {
    at: Option<Timestamp>,
    /// Whether it may do more than it should, as far as that was observed.
    is_privileged: bool,
    /// Since when the server does not answer it, and why.
    unreachable: Option<(Timestamp, String)>,
}

/// Changes the credentials of portals.
pub struct Executor {
    client: Client,
    pod_reports: PodReports,
    store: Store,
    /// Passed by what changes accounts, as every write to the API server does.
    fence: Fence,
    gate: LoginGate,
    /// By the portal's uid.
    last_tries: Mutex<HashMap<String, LastTry>>,
}

impl Executor {
    /// An executor that writes through `client`, changes accounts while `fence` is open, and keeps states in
    /// `store`.
    #[must_use]
    pub fn new(client: Client, pod_reports: PodReports, store: Store, fence: Fence) -> Self {
        // From 0 on: a counter that begins with 1 has not increased, and no alert would notice.
        let outcomes = [Outcome::Revoked, Outcome::Adopted, Outcome::RolledBack];
        let outcomes = outcomes.map(|outcome| format!("{outcome:?}"));
        for outcome in outcomes.into_iter().chain([ABANDONED.to_owned()]) {
            counter!("rotations_total", "outcome" => outcome).increment(0);
        }
        Self {
            client,
            pod_reports,
            store,
            fence,
            gate: LoginGate::default(),
            last_tries: Mutex::default(),
        }
    }

    /// Locks or drops what is stored of a portal that is gone, and forgets it.
    pub async fn retire_stored(
        &self,
        record: &Record,
        shipped_authorities: &[u8],
    ) -> Result<(), Trouble> {
        let Self { fence, gate, .. } = self;
        retirement::retire_stored(record, shipped_authorities, &[], fence, gate).await?;
        let deleted = self.store.delete(&record.portal.uid).await;
        deleted.map_err(|error| Trouble::new(error.reason(), error.to_string()))
    }

    /// Where the states are.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Forgets portals that are gone.
    pub fn retain(&self, is_alive: impl Fn(&str) -> bool) {
        let mut tries = self.last_tries.lock().unwrap_or_else(PoisonError::into_inner);
        tries.retain(|uid, _| is_alive(uid));
    }

    /// Takes the rotation of one portal as far as it goes now. Gives what its pods should hold.
    pub async fn advance(
        &self,
        request: &Request,
        stored: Option<State>,
    ) -> Result<Credentials, RotationError> {
        let last_try = self.recall(request);
        let state = initial_state(request, stored);
        let place = machine::place_of_pass(&state, &request.plan);
        let server = request.server.at(place);
        let server = server.map_err(|error| {
            RotationError::Trouble(Trouble::new(Reason::StateRefused, error.to_string()))
        })?;
        let mut world = LiveWorld::new(request, server, self);
        let mut execution = Execution::new(request, state, last_try, &mut world);
        let outcome = execution.run().await;
        let last_try = execution.last_try.clone();
        let concluded = execution.conclude();
        self.note(request, last_try);
        outcome?;
        let credentials = concluded?;
        self.store.keep_request(request).await?;
        Ok(credentials)
    }

    /// Drops every account of a portal that is being deleted, and what is stored of it. The source's logins
    /// and place are used where they could be read, and otherwise what is stored.
    pub async fn drop_accounts(
        &self,
        uid: &str,
        request: Option<&Request>,
        shipped_authorities: &[u8],
    ) -> Result<(), Trouble> {
        let failed_to_read = |error: StoreError| Trouble::new(error.reason(), error.to_string());
        let record = self.store.read(uid).await.map_err(failed_to_read)?;
        let place = record.as_ref().and_then(|record| record.state.place.as_ref());
        // A login of the source is sent to no server but the source's own.
        let is_for_place =
            |request: &&Request| place.is_none_or(|place| place.is_on_server_of(request.place()));
        let request = request.filter(is_for_place);
        let of_source = request.iter().flat_map(|it| &it.source).flat_map(|it| &it.candidates);
        let of_source: Vec<Candidate> = of_source.cloned().collect();
        let Self { fence, gate, .. } = self;
        match (&record, request) {
            (Some(record), _) => {
                let mut record = match request {
                    // Its encryption is that of today.
                    Some(request) => Record::new(request, record.state.clone()),
                    None => record.clone(),
                };
                record.deletion_policy = crds::DeletionPolicy::DropAccounts;
                retirement::retire_stored(&record, shipped_authorities, &of_source, fence, gate)
                    .await?;
            }
            (None, Some(request)) => {
                let account = &request.plan.account;
                let server = &request.server;
                retirement::retire_accounts(server, account, &of_source, true, fence, gate).await?;
            }
            // A state is stored before any account is made.
            (None, None) => {}
        }
        self.store.delete(uid).await.map_err(failed_to_read)
    }

    fn recall(&self, request: &Request) -> LastTry {
        let tries = self.last_tries.lock().unwrap_or_else(PoisonError::into_inner);
        tries.get(&request.portal.uid).cloned().unwrap_or_default()
    }

    fn note(&self, request: &Request, last_try: LastTry) {
        let mut tries = self.last_tries.lock().unwrap_or_else(PoisonError::into_inner);
        tries.insert(request.portal.uid.clone(), last_try);
    }
}

/// One pass over one portal's credential.
struct Execution<'a, W> {
    request: &'a Request,
    world: &'a mut W,
    /// The generation that the pods' Secret holds.
    published: u64,
    state: State,
    last_try: LastTry,
    trouble: Option<Trouble>,
    /// What the last list of pods showed.
    pods: Option<Vec<PodReport>>,
    /// Staged passwords that the server's policy refused.
    discards: usize,
}

/// What one step came to.
#[derive(Clone, Debug)]
pub(super) struct Stepped {
    /// The effects that were carried out, or begun.
    pub(super) effects: Vec<Effect>,
    /// What keeps the machine from going on.
    pub(super) obstacle: Option<Obstacle>,
    /// Whether another step may follow at once.
    pub(super) goes_on: bool,
}

impl<'a, W: World> Execution<'a, W> {
    fn new(request: &'a Request, state: State, last_try: LastTry, world: &'a mut W) -> Self {
        let published = request.published.as_ref();
        Self {
            request,
            world,
            published: published.map_or(0, |set| set.generation),
            state,
            last_try,
            trouble: request.source.as_ref().err().cloned(),
            pods: None,
            discards: 0,
        }
    }

    async fn run(&mut self) -> Result<(), RotationError> {
        self.rotate().await?;
        self.provide_migration_account().await?;
        self.retire_left_places().await
    }

    async fn rotate(&mut self) -> Result<(), RotationError> {
        for _ in 0..MOST_STEPS {
            let change = self.state.change.as_ref();
            let has_published = change.is_some_and(|change| change.phase >= Phase::Published);
            if has_published && self.published < self.state.generation {
                // The children are written after this; until then no pod can follow.
                return Ok(());
            }
            let Stepped { effects, obstacle, goes_on } = self.step().await?;
            debug!(portal = self.request.portal.name, ?effects, ?obstacle, "took a step");
            if !goes_on {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Observes, decides, acts and stores, once.
    async fn step(&mut self) -> Result<Stepped, RotationError> {
        let now = self.world.now();
        let needs = machine::needs(&self.state, &self.request.plan, now);
        let tries_active = self.state.change.is_none() && self.is_try_due(now);
        let Observed { observation, trouble } =
            observe(self.request, &self.state, needs, tries_active, self.world).await;
        if let Some(trouble) = trouble {
            self.trouble = Some(trouble);
            return Ok(Stepped { effects: Vec::new(), obstacle: None, goes_on: false });
        }
        if tries_active {
            self.last_try.at = Some(now);
        }
        self.note_reachability(&observation, now);
        let logins = [&observation.next, &observation.active].into_iter().flatten();
        for login in logins {
            if let ObservedLogin::Accepted { is_privileged } = login {
                self.last_try.is_privileged = *is_privileged;
            }
        }
        if observation.pods.is_some() {
            self.pods.clone_from(&observation.pods);
        }
        let password = || self.world.new_password();
        let step = machine::step(&self.state, &self.request.plan, &observation, now, password);
        self.carry_out(step).await
    }

    /// A login that somebody else changed is noticed only by trying it.
    fn is_try_due(&self, now: Timestamp) -> bool {
        let poll_interval = self.request.poll_interval;
        let interval = match &self.last_try.unreachable {
            Some((since, _)) => {
                super::unanswered_retry(now.duration_since(*since) >= UNREACHABLE_AFTER)
                    .min(poll_interval)
            }
            None => poll_interval,
        };
        self.last_try.at.is_none_or(|last| now.duration_since(last).unsigned_abs() >= interval)
    }

    /// Any answer of the server, also a refusal, shows that it is there.
    fn note_reachability(&mut self, observation: &Observation, now: Timestamp) {
        let of_login = |login: &ObservedLogin| match login {
            ObservedLogin::Unreachable(why) => Err(why.clone()),
            _ => Ok(()),
        };
        let of_root = observation.root.as_ref().map(|root| match root {
            ObservedRoot::Unreachable(why) => Err(why.clone()),
            ObservedRoot::Works(_) | ObservedRoot::Rejected(_) => Ok(()),
        });
        let logins = [&observation.active, &observation.next, &observation.old];
        let mut answers: Vec<Result<(), String>> = of_root.into_iter().collect();
        answers.extend(logins.into_iter().flatten().map(of_login));
        // The rotation's own server is another one while the pods are to move.
        if answers.is_empty()
            || !self.state.is_at(machine::place_of_pass(&self.state, &self.request.plan))
        {
            return;
        }
        let unreachable = answers.into_iter().collect::<Result<Vec<()>, String>>().err();
        self.last_try.unreachable = unreachable.map(|why| {
            let since = self.last_try.unreachable.as_ref().map_or(now, |(since, _)| *since);
            (since, why)
        });
    }

    async fn carry_out(&mut self, step: Step) -> Result<Stepped, RotationError> {
        let Step { state, effects, obstacle } = step;
        for effect in &effects {
            if let Err(failed) = self.act(effect).await {
                let is_refused = failed.is_password_refused && self.discards < MOST_DISCARDS;
                let goes_on = is_refused && self.discard_staged_password().await?;
                if goes_on {
                    return Ok(Stepped { effects, obstacle: None, goes_on });
                }
                self.trouble = Some(failed.trouble);
                let obstacle = Some(Obstacle::Unreachable("an effect failed".to_owned()));
                return Ok(Stepped { effects, obstacle, goes_on: false });
            }
        }
        let has_changed = !state.is_same(&self.state);
        let (before, after) = (self.state.change.as_ref(), state.change.as_ref());
        let (before, after) = (before.map(|it| it.phase), after.map(|it| it.phase));
        if before != after {
            self.log_transition(before, &state);
        }
        let has_ended = after.is_none() && before.is_some();
        self.state = state;
        if has_changed {
            self.world.store(&self.state).await?;
        }
        if let Some(obstacle) = &obstacle {
            self.trouble = Some(self.describe(obstacle));
        }
        let goes_on = obstacle.is_none() && has_changed && !has_ended;
        Ok(Stepped { effects, obstacle, goes_on })
    }

    /// The server's policy refuses the password that was staged: another one is staged, if none was
    /// published yet. No generated password passes every dictionary.
    async fn discard_staged_password(&mut self) -> Result<bool, RotationError> {
        let Some(change) = &mut self.state.change else { return Ok(false) };
        if change.phase != Phase::Staged {
            return Ok(false);
        }
        change.phase = Phase::RootVerified;
        change.next.clear();
        self.discards += 1;
        self.world.store(&self.state).await?;
        Ok(true)
    }

    fn log_transition(&self, before: Option<Phase>, state: &State) {
        let portal = &self.request.portal;
        let (namespace, name, generation) = (&portal.namespace, &portal.name, state.generation);
        if let Some(change) = &state.change {
            info!(namespace, name, generation, phase = ?change.phase, "rotating the credential");
        } else if before.is_some() {
            let ended = state.history.first().filter(|_| state.history != self.state.history);
            let outcome = ended.map(|entry| format!("{:?}", entry.outcome));
            let outcome = outcome.unwrap_or_else(|| ABANDONED.to_owned());
            info!(namespace, name, generation, outcome, "the rotation has ended");
            counter!("rotations_total", "outcome" => outcome).increment(1);
        }
    }

    async fn act(&mut self, effect: &Effect) -> Result<(), ChangeFailed> {
        if let Effect::Nudge(pods) = effect {
            for pod in pods {
                self.world.nudge(pod, self.state.generation).await?;
            }
            return Ok(());
        }
        open_root(self.request, &self.state, self.world).await?;
        match effect {
            Effect::EnsureAccount(login) => {
                let account = self.own_account(&login.username)?;
                self.world.change_account(AccountChange::Ensure(&account, login)).await
            }
            Effect::AddPassword { next, old } => {
                let account = &self.own_account(&next.username)?;
                self.world.change_account(AccountChange::AddPassword { account, next, old }).await
            }
            Effect::DropOldPassword { next } => {
                let account = self.own_account(&next.username)?;
                self.world.change_account(AccountChange::DropOldPassword(&account, next)).await
            }
            Effect::Lock(username) => {
                let account = self.own_account(username)?;
                self.world.change_account(AccountChange::Lock(&account)).await
            }
            Effect::Nudge(_) => Ok(()),
        }
    }

    /// The operator changes no account but this portal's own, whatever its stored state was made to say.
    fn own_account(&self, username: &str) -> Result<AccountName, Trouble> {
        let own = [Slot::A, Slot::B].map(|slot| self.request.plan.account.in_slot(slot));
        own.into_iter().find(|account| account.as_str() == username).ok_or_else(|| {
            Trouble::new(
                Reason::StateRefused,
                format!(
                    "the stored state names the account {username}, which is not this portal's; it is not changed"
                ),
            )
        })
    }

    /// The account that migrates the schema exists only while a migration is outstanding. Its password is
    /// stored before the server knows it, so that a crash leaves nothing behind.
    async fn provide_migration_account(&mut self) -> Result<(), RotationError> {
        let is_wanted = !self.request.is_migrated && self.request.plan.mode != RotationMode::Follow;
        if *machine::place_of_pass(&self.state, &self.request.plan) != self.request.plan.place {
            // A rotation at another schema is finished first; the session is one of that schema.
            return Ok(());
        }
        let may_exist = self.state.owner.is_some() || self.state.migration_account_may_exist;
        if !is_wanted && !may_exist {
            return Ok(());
        }
        let name = self.request.plan.account.in_slot(Slot::Migration);
        if is_wanted && self.state.owner.is_none() {
            let password = self.world.new_password();
            self.state.owner = Some(Candidate { username: name.to_string(), password });
            self.world.store(&self.state).await?;
        }
        let owner = self.state.owner.clone().filter(|_| is_wanted);
        let change = match &owner {
            Some(login) => AccountChange::EnsureMigration(&name, login),
            None => AccountChange::Drop(&name),
        };
        let opened = open_root(self.request, &self.state, self.world).await;
        let changed = match opened {
            Ok(()) => self.world.change_account(change).await,
            Err(trouble) => Err(trouble.into()),
        };
        if changed.as_ref().is_err_and(|failed| failed.is_password_refused) {
            self.state.owner = None;
            self.world.store(&self.state).await?;
        }
        match changed.map_err(|failed| failed.trouble) {
            Ok(()) if is_wanted => Ok(()),
            Ok(()) => {
                self.state.owner = None;
                self.state.migration_account_may_exist = false;
                Ok(self.world.store(&self.state).await?)
            }
            // The migration cannot run without it, and new pods wait for the migration.
            Err(trouble) if is_wanted && self.state.published.is_empty() => {
                Err(RotationError::Trouble(trouble))
            }
            Err(trouble) => {
                self.trouble.get_or_insert(trouble);
                Ok(())
            }
        }
    }

    /// Locks or drops the accounts on servers that the portal has left, once no pod uses them any more.
    async fn retire_left_places(&mut self) -> Result<(), RotationError> {
        if self.state.left.is_empty() || self.state.change.is_some() {
            return Ok(());
        }
        if self.pods.is_none() {
            match self.world.list_pods().await {
                Ok(pods) => self.pods = Some(pods),
                Err(trouble) => {
                    self.trouble.get_or_insert(trouble);
                    return Ok(());
                }
            }
        }
        let pods = self.pods.clone().unwrap_or_default();
        let now = self.world.now();
        let mut remaining = Vec::new();
        let before = self.state.left.len();
        for left in std::mem::take(&mut self.state.left) {
            let is_used = pods.iter().any(|pod| {
                !pod.has_adopted(left.until_generation)
                    || pod.has_connections_before(left.until_generation)
            });
            if is_used {
                remaining.push(left);
                continue;
            }
            let Place { host, port, .. } = &left.place;
            match self.world.retire_left(&left, self.state.published.first()).await {
                Ok(()) => info!(host, port, "the accounts on the server that was left are retired"),
                Err(trouble) if now < left.give_up_at => {
                    let message = format!(
                        "the accounts on {host}:{port}, which the portal has left, are still usable: {}",
                        trouble.message
                    );
                    self.trouble.get_or_insert(Trouble { message, ..trouble });
                    remaining.push(left);
                }
                Err(trouble) => {
                    let accounts = retirement::accounts_of(&self.request.portal.uid).join(", ");
                    warn!(host, port, accounts, why = trouble.message, "accounts are given up");
                }
            }
        }
        let has_changed = remaining.len() != before;
        self.state.left = remaining;
        if has_changed {
            self.world.store(&self.state).await?;
        }
        Ok(())
    }

    fn describe(&self, obstacle: &Obstacle) -> Trouble {
        match obstacle {
            Obstacle::RootRejected(why) => root_rejected(self.request, why.clone()),
            Obstacle::Unreachable(why) => Trouble::new(Reason::RootUnreachable, why.clone()),
            Obstacle::NotVerified(why) => Trouble::new(
                Reason::AccountsFailed,
                format!("the new account is not usable yet: {why}; it is issued again"),
            ),
            Obstacle::Stalled(what) => Trouble::new(
                Reason::RotationStalled,
                format!("the old login stays valid, as it may still be used: {what}"),
            ),
            Obstacle::StillAccepted => Trouble::new(
                Reason::AccountsFailed,
                "the server still accepts the login that was revoked; it is revoked again",
            ),
        }
    }

    fn conclude(self) -> Result<Credentials, RotationError> {
        let now = self.world.now();
        let Self { state, request, trouble, last_try, .. } = self;
        let Some(for_pods) = file(&state, state.published.clone()) else {
            let trouble = trouble.unwrap_or_else(|| {
                Trouble::new(Reason::Rotating, "the first credential is being made")
            });
            return Err(RotationError::Trouble(trouble));
        };
        let database = last_try.unreachable.map(|(since, message)| DatabaseProblem {
            message,
            is_confirmed: now.duration_since(since) >= UNREACHABLE_AFTER,
        });
        Ok(Credentials {
            for_migration: for_migration(request, &state, &for_pods),
            for_pods,
            mode: request.plan.mode,
            trouble,
            database,
            is_privileged: last_try.is_privileged,
            state,
        })
    }
}

fn file(state: &State, candidates: Vec<Candidate>) -> Option<CredentialSet> {
    let place = state.place.clone().filter(|_| !candidates.is_empty())?;
    let Place { host, port, database } = place;
    Some(CredentialSet { generation: state.generation, host, port, database, candidates })
}

/// The migration goes to the place of the plan, also while the pods are still elsewhere. In mode Follow it
/// logs in as the pods will.
fn for_migration(
    request: &Request,
    state: &State,
    for_pods: &CredentialSet,
) -> Option<CredentialSet> {
    if request.is_migrated {
        return None;
    }
    let candidates = if request.plan.mode == RotationMode::Follow {
        let change = state.change.as_ref().filter(|change| !change.next.is_empty());
        match change {
            Some(change) => change.next.clone(),
            // Logins are for their own server.
            None if state.is_at(request.place()) => state.published.clone(),
            None => return None,
        }
    } else {
        vec![state.owner.clone()?]
    };
    let Place { host, port, database } = request.place().clone();
    Some(CredentialSet { generation: for_pods.generation, host, port, database, candidates })
}

/// Whether a generation is one that another operator may have reached meanwhile. Whoever may write Secrets
/// in the portal's namespace can write any number.
fn is_newer(published: u64, stored: u64) -> bool {
    published > stored && published - stored <= 1_000_000
}

/// The state to go on from: what is stored, or what can be known without it. Generations only grow, so a
/// state of a lower one than the pods hold is older than they are.
pub(super) fn initial_state(request: &Request, stored: Option<State>) -> State {
    let published = request.published.as_ref();
    let restored = || restore(published, &request.plan.account, request.last_generation);
    let mut state = match stored {
        // An earlier version of the operator, which keeps its state elsewhere, has rotated since.
        Some(stale) if published.is_some_and(|set| is_newer(set.generation, stale.generation)) => {
            State {
                root: stale.root,
                root_place: stale.root_place,
                left: stale.left,
                source_version: stale.source_version,
                requested: stale.requested,
                last_rotation: stale.last_rotation,
                terraform: stale.terraform,
                history: stale.history,
                ..restored()
            }
        }
        Some(stored) => stored,
        None => restored(),
    };
    // So that an older state of terraform is noticed later.
    if let Some(version) = &request.terraform {
        state.terraform = Some(version.clone());
    }
    state
}

/// What can be known without a stored state: what the pods hold. In a namespace that was restored that may
/// be accounts of another portal, which are none of this one's to use or to change.
pub(super) fn restore(
    published: Option<&CredentialSet>,
    own: &AccountName,
    last_generation: u64,
) -> State {
    let Some(set) = published else {
        return State { generation: last_generation, ..State::default() };
    };
    let is_usable = |login: &&Candidate| {
        AccountName::parse(&login.username).is_err() || own.is_of_same_portal(&login.username)
    };
    let usable: Vec<Candidate> = set.candidates.iter().filter(is_usable).cloned().collect();
    State {
        generation: set.generation.max(last_generation),
        place: (!usable.is_empty()).then(|| Place {
            host: set.host.clone(),
            port: set.port,
            database: set.database.clone(),
        }),
        migration_account_may_exist: usable
            .iter()
            .any(|login| own.is_of_same_portal(&login.username)),
        published: usable,
        ..State::default()
    }
}

fn failed(reason: Reason, error: &dyn Display) -> Trouble {
    Trouble::new(reason, error.to_string())
}

fn of_sql(error: &SqlError) -> Trouble {
    failed(Reason::AccountsFailed, error)
}

fn of_api(what: &str, error: &kube::Error) -> Trouble {
    Trouble {
        retry: Retry::of_api(error),
        ..Trouble::new(Reason::ApiError, format!("failed to {what}: {error}"))
    }
}

//! Carries out what [`rotation`](super::rotation) decides: looks, acts, remembers, and looks again
//! until there is nothing to do but wait.

mod observe;

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crds::{DeletionPolicy, Reason, RotationMode};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::ObjectMeta};
use metrics::counter;
use service_kit::credentials::{Candidate, CredentialSet};
use tracing::info;

use self::observe::{Observer, Root};
use super::{
    Credentials, Trouble,
    machine::{self, Effect, Obstacle, Outcome, Phase, Place, State, Step},
    mysql::{self, AccountName, Password, Slot, SqlError},
    pod_reports::{self, PodReports},
    request::Request,
    source::SourceError,
    store::{StoreError, StoredState},
};
use crate::cluster::{client::Fence, retry::Retry, secrets::OwnSecrets};

/// Steps of one pass. A rotation has nine, and may look twice at the same one.
const MOST_STEPS: usize = 24;

/// Why the pods have no credential yet. Once they have one, whatever fails is a [`Trouble`] beside it.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The first credential could not be made.
    #[error("{}", .0.message)]
    Trouble(Trouble),
    /// The state could not be kept.
    #[error(transparent)]
    StoredState(#[from] StoreError),
}

impl RotationError {
    /// What to do next.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Trouble(trouble) if trouble.reason == Reason::RootRejected => Retry::Poll,
            Self::StoredState(StoreError::Api { source, .. }) => Retry::of_api(source),
            Self::Trouble(_) | Self::StoredState(_) => Retry::Backoff,
        }
    }

    /// The word in conditions.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Trouble(trouble) => trouble.reason,
            Self::StoredState(_) => Reason::ApiError,
        }
    }
}

/// Changes the credentials of portals.
pub struct Executor {
    client: Client,
    pod_reports: PodReports,
    /// Passed by what changes accounts, as every write to the API server does.
    fence: Fence,
    /// The last try of each portal's login, by the portal's uid.
    tried: Mutex<HashMap<String, Tried>>,
    /// What the accounts of portals that want that can be dropped with, by the portal's uid.
    kept: Mutex<HashMap<String, Kept>>,
}

/// The way to a portal's accounts. When a namespace is deleted, everything that it could be read from
/// is gone before the portal is.
struct Kept {
    mysql: Request,
    root: Option<Candidate>,
}

/// A try of the pods' login.
#[derive(Clone, Copy, Default)]
struct Tried {
    at: Option<Timestamp>,
    /// Whether it may do more than it should, as far as that was seen.
    is_privileged: bool,
}

impl Executor {
    /// A rotator that writes through `client`, and changes accounts while `fence` is open.
    #[must_use]
    pub fn new(client: Client, pod_reports: PodReports, fence: Fence) -> Self {
        // From 0 on: a counter that begins with 1 has not increased, and no alert would notice.
        for outcome in [Outcome::Revoked, Outcome::Adopted, Outcome::RolledBack] {
            counter!("rotations_total", "outcome" => format!("{outcome:?}")).increment(0);
        }
        Self { client, pod_reports, fence, tried: Mutex::default(), kept: Mutex::default() }
    }

    /// Forgets portals that are gone.
    pub fn retain(&self, is_alive: impl Fn(&str) -> bool) {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        tried.retain(|uid, _| is_alive(uid));
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|uid, _| is_alive(uid));
    }

    #[expect(clippy::too_many_arguments, reason = "what is stored becomes a part of the request")]
    /// Takes the rotation of one portal as far as it goes now, and says what its pods should hold.
    pub async fn advance(
        &self,
        request: &Request,
        stored: &mut StoredState,
        published: Option<&CredentialSet>,
        source_error: Option<&SourceError>,
        secrets: &OwnSecrets<'_>,
        metadata: ObjectMeta,
        is_migrating: bool,
        last_generation: u64,
    ) -> Result<Credentials, RotationError> {
        let state = match stored.state.clone() {
            Some(state) => state,
            None => restore(published, last_generation),
        };
        let mut pass = Pass {
            rotator: self,
            request,
            secrets,
            metadata,
            pods: Api::namespaced(self.client.clone(), &request.portal.namespace),
            published: published.map_or(0, |set| set.generation),
            root: Root::new(request, state.root.clone(), &self.fence),
            state,
            memory: stored,
            trouble: source_error.map(of_source),
        };
        pass.note_terraform();
        pass.turn().await?;
        pass.provide_owner(is_migrating).await?;
        pass.conclude()
    }

    /// Drops every account that was made for a portal, for good.
    pub async fn drop_accounts(
        &self,
        mysql: &Request,
        last_root: Option<Candidate>,
    ) -> Result<(), Trouble> {
        let mut root = Root::new(mysql, last_root, &self.fence);
        for slot in [Slot::A, Slot::B, Slot::Migration] {
            let name = mysql.plan.account.in_slot(slot);
            let dropped = mysql::drop_account(root.session().await?, &name).await;
            dropped.map_err(|error| of_sql(&error))?;
        }
        Ok(())
    }

    /// The same with what was known when the portal was last looked at; none if it never was.
    pub async fn drop_kept_accounts(&self, uid: &str) -> Option<Result<(), Trouble>> {
        let (mysql, root) = {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let Kept { mysql, root } = kept.get(uid)?;
            (mysql.clone(), root.clone())
        };
        Some(self.drop_accounts(&mysql, root).await)
    }

    fn keep(&self, mysql: &Request, root: Option<Candidate>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = mysql.portal.uid.clone();
        if mysql.deletion_policy == DeletionPolicy::DropAccounts {
            kept.insert(uid, Kept { mysql: mysql.clone(), root });
        } else {
            kept.remove(&uid);
        }
    }

    /// Whether it is time to try the pods' login again. A change of it by somebody else is noticed
    /// only by trying.
    fn is_due(&self, request: &Request, now: Timestamp) -> bool {
        let last = self.recall(request).at;
        last.is_none_or(|last| now.duration_since(last).unsigned_abs() >= request.poll_interval)
    }

    fn recall(&self, request: &Request) -> Tried {
        let tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        tried.get(&request.portal.uid).copied().unwrap_or_default()
    }

    fn note(&self, request: &Request, tried: Tried) {
        let mut all = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(request.portal.uid.clone(), tried);
    }
}

/// One pass over one portal's credential.
struct Pass<'a> {
    rotator: &'a Executor,
    request: &'a Request,
    metadata: ObjectMeta,
    secrets: &'a OwnSecrets<'a>,
    pods: Api<Pod>,
    /// Generation that the pods' Secret holds.
    published: u64,
    root: Root<'a>,
    state: State,
    memory: &'a mut StoredState,
    trouble: Option<Trouble>,
}

impl Pass<'_> {
    /// The terraform state that was read, so that an older one is noticed later.
    fn note_terraform(&mut self) {
        if let Some(version) = &self.request.terraform {
            self.state.terraform = Some(version.clone());
        }
    }

    async fn turn(&mut self) -> Result<(), RotationError> {
        for _ in 0..MOST_STEPS {
            let has_published =
                self.state.change.as_ref().is_some_and(|change| change.phase >= Phase::Published);
            if has_published && self.published < self.state.generation {
                // The children are written after this; until then no pod can follow.
                return Ok(());
            }
            let now = Timestamp::now();
            let needs = machine::needs(&self.state, &self.request.plan, now);
            let is_due = self.state.change.is_none() && self.rotator.is_due(self.request, now);
            let observer = Observer {
                request: self.request,
                state: &self.state,
                pods: &self.pods,
                pod_reports: &self.rotator.pod_reports,
            };
            let seen = observer.observe(needs, is_due, &mut self.root).await;
            if let Some(problem) = seen.problem {
                self.trouble = Some(problem);
                return Ok(());
            }
            // What was seen is said until the next try, or the condition would turn with every pass.
            let last = self.rotator.recall(self.request);
            let at = if is_due { Some(now) } else { last.at };
            let is_privileged = seen.is_privileged.unwrap_or(last.is_privileged);
            self.rotator.note(self.request, Tried { at, is_privileged });
            let step =
                machine::step(&self.state, &self.request.plan, &seen.seen, now, new_password);
            if !self.carry_out(step).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether it goes on at once.
    async fn carry_out(&mut self, step: Step) -> Result<bool, RotationError> {
        let Step { state, effects, obstacle } = step;
        for effect in effects {
            if let Err(trouble) = self.act(effect).await {
                self.trouble = Some(trouble);
                return Ok(false);
            }
        }
        let has_changed = !state.is_same(&self.state);
        let (before, after) = (self.state.change.as_ref(), state.change.as_ref());
        let (before, after) = (before.map(|it| it.phase), after.map(|it| it.phase));
        if before != after {
            self.announce(before, &state);
        }
        let has_ended = after.is_none() && before.is_some();
        self.state = state;
        if has_changed {
            self.remember().await?;
        }
        if let Some(obstacle) = obstacle {
            self.trouble = Some(of_obstacle(&obstacle));
            return Ok(false);
        }
        Ok(has_changed && !has_ended)
    }

    fn announce(&self, before: Option<Phase>, state: &State) {
        let (namespace, name) = (&self.request.portal.namespace, &self.request.portal.name);
        let generation = state.generation;
        if let Some(change) = &state.change {
            info!(namespace, name, generation, phase = ?change.phase, "rotating the credential");
        } else if before.is_some() {
            let outcome = state.history.first().map(|entry| format!("{:?}", entry.outcome));
            let outcome = outcome.unwrap_or_else(|| "Abandoned".to_owned());
            info!(namespace, name, generation, outcome, "the rotation has ended");
            counter!("rotations_total", "outcome" => outcome).increment(1);
        }
    }

    async fn remember(&mut self) -> Result<(), RotationError> {
        Ok(self.memory.write(self.secrets, self.metadata.clone(), &self.state).await?)
    }

    async fn act(&mut self, effect: Effect) -> Result<(), Trouble> {
        let generation = self.state.generation;
        let server = |error: SqlError| of_sql(&error);
        match effect {
            Effect::Nudge(names) => {
                for name in names {
                    let nudged =
                        pod_reports::nudge(&self.pods, &name, generation, Timestamp::now());
                    nudged.await.map_err(|error| of_api("tell a kubelet to look", &error))?;
                }
                Ok(())
            }
            Effect::EnsureAccount(login) => {
                let (name, password) = split(&login)?;
                let root = self.root.session().await?;
                mysql::ensure_application_account(root, &name, &password).await.map_err(server)
            }
            Effect::AddPassword { next, old } => {
                let ((name, new), (_, old)) = (split(&next)?, split(&old)?);
                let root = self.root.session().await?;
                mysql::retain_password(root, &name, &new, &old).await.map_err(server)
            }
            Effect::DropOldPassword { next } => {
                let (name, password) = split(&next)?;
                let root = self.root.session().await?;
                mysql::discard_old_password(root, &name, &password).await.map_err(server)
            }
            Effect::Lock(username) => {
                let name = parse(&username)?;
                let root = self.root.session().await?;
                mysql::lock_account(root, &name).await.map_err(server)
            }
        }
    }

    /// The account that migrates the schema exists only while a migration is outstanding. Its
    /// password is remembered before the server learns it, so a crash leaves nothing behind.
    async fn provide_owner(&mut self, is_migrating: bool) -> Result<(), RotationError> {
        let is_wanted = is_migrating && self.request.plan.mode != RotationMode::Follow;
        if !is_wanted && self.state.owner.is_none() {
            return Ok(());
        }
        let name = self.request.plan.account.in_slot(Slot::Migration);
        if is_wanted && self.state.owner.is_none() {
            let username = name.to_string();
            self.state.owner = Some(Candidate { username, password: new_password() });
            self.remember().await?;
        }
        let outcome = self.ensure_or_drop_owner(&name, is_wanted).await;
        if let Err(trouble) = outcome {
            if is_wanted {
                return Err(RotationError::Trouble(trouble));
            }
            self.trouble = Some(trouble);
            return Ok(());
        }
        if !is_wanted {
            self.state.owner = None;
            self.remember().await?;
        }
        Ok(())
    }

    async fn ensure_or_drop_owner(
        &mut self,
        name: &AccountName,
        is_wanted: bool,
    ) -> Result<(), Trouble> {
        let owner = self.state.owner.clone();
        let root = self.root.session().await?;
        let changed = match owner.filter(|_| is_wanted) {
            Some(login) => {
                let password = Password::from_secret(login.password);
                mysql::ensure_migration_account(root, name, &password).await
            }
            None => mysql::drop_account(root, name).await,
        };
        changed.map_err(|error| of_sql(&error))
    }

    fn conclude(self) -> Result<Credentials, RotationError> {
        let is_privileged = self.rotator.recall(self.request).is_privileged;
        self.rotator.keep(self.request, self.state.root.clone());
        let Self { state, request: mysql, trouble, .. } = self;
        let Some(for_pods) = file(&state, state.published.clone()) else {
            let trouble = trouble.unwrap_or_else(|| Trouble {
                reason: Reason::Rotating,
                message: "the first credential is being made".to_owned(),
            });
            return Err(RotationError::Trouble(trouble));
        };
        let owner = state.owner.clone();
        // The migration goes where the pods will go, also while they are still elsewhere.
        let for_migration = owner.map(|owner| CredentialSet {
            host: mysql.server.host.clone(),
            port: mysql.server.port,
            database: mysql.plan.place.database.clone(),
            candidates: vec![owner],
            ..for_pods.clone()
        });
        let mode = mysql.plan.mode;
        Ok(Credentials { for_pods, for_migration, state, mode, trouble, is_privileged })
    }
}

fn file(state: &State, candidates: Vec<Candidate>) -> Option<CredentialSet> {
    let place = state.place.clone().filter(|_| !candidates.is_empty())?;
    let Place { host, port, database } = place;
    Some(CredentialSet { generation: state.generation, host, port, database, candidates })
}

/// What can be known without the operator's own Secret: what the pods hold.
fn restore(published: Option<&CredentialSet>, last_generation: u64) -> State {
    let Some(set) = published else {
        return State { generation: last_generation, ..State::default() };
    };
    State {
        generation: set.generation.max(last_generation),
        published: set.candidates.clone(),
        place: Some(Place {
            host: set.host.clone(),
            port: set.port,
            database: set.database.clone(),
        }),
        ..State::default()
    }
}

fn new_password() -> secrecy::SecretString {
    Password::generate(&mut rand::rng()).secret().clone()
}

fn split(login: &Candidate) -> Result<(AccountName, Password), Trouble> {
    Ok((parse(&login.username)?, Password::from_secret(login.password.clone())))
}

/// The operator changes its own accounts only, whatever its Secret was made to say.
fn parse(username: &str) -> Result<AccountName, Trouble> {
    AccountName::parse(username).map_err(|error| failed(Reason::AccountsFailed, &error))
}

fn failed(reason: Reason, error: &dyn std::fmt::Display) -> Trouble {
    Trouble { reason, message: error.to_string() }
}

fn of_sql(error: &SqlError) -> Trouble {
    failed(Reason::AccountsFailed, error)
}

fn of_api(what: &str, error: &kube::Error) -> Trouble {
    failed(Reason::ApiError, &format!("failed to {what}: {error}"))
}

fn of_source(error: &SourceError) -> Trouble {
    failed(error.reason(), error)
}

fn of_obstacle(obstacle: &Obstacle) -> Trouble {
    let (reason, message) = match obstacle {
        Obstacle::RootRejected(why) => (Reason::RootRejected, why.clone()),
        Obstacle::Unreachable(why) => (Reason::RootUnreachable, why.clone()),
        Obstacle::NotVerified(why) => (
            Reason::AccountsFailed,
            format!("the new account is not usable yet: {why}; it is issued again"),
        ),
        Obstacle::Stalled(who) => (
            Reason::RotationStalled,
            format!("the old login stays valid, as it may still be used: {who}"),
        ),
        Obstacle::StillAccepted => (
            Reason::AccountsFailed,
            "the server still accepts the login that was revoked; it is revoked again".to_owned(),
        ),
    };
    Trouble { reason, message }
}

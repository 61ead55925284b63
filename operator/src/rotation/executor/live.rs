//! The world as it is: SQL, pods, the store and the clock.

use crds::{DeletionPolicy, Reason};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use secrecy::SecretString;
use service_kit::credentials::Candidate;

use super::{AccountChange, World, failed, of_api, of_sql};
use crate::{
    cluster::{
        labels::{self, Component},
        names,
    },
    rotation::{
        Trouble,
        login_gate::LoginGate,
        machine::{
            LeftPlace, ObservedLogin, ObservedRoot, ObservedSession, ObservedSessions, PodReport,
            State,
        },
        mysql::{self, LoginError, Password, Rights, Server, Session, VerifyError},
        pod_reports::{self, ADMIN_PORT, PodReports},
        request::Request,
        retirement,
        store::{Record, Store, StoreError},
    },
};

/// The world of one portal, for one pass.
pub(super) struct LiveWorld<'a> {
    pub(super) request: &'a Request,
    /// The server, with the schema of the place where this pass works.
    server: Server,
    pub(super) gate: &'a LoginGate,
    pub(super) pod_reports: &'a PodReports,
    pub(super) store: &'a Store,
    pub(super) pods: Api<Pod>,
    /// Opened when it is first needed and kept for the pass.
    root: Option<(Session, Candidate)>,
}

impl<'a> LiveWorld<'a> {
    pub(super) fn new(
        request: &'a Request,
        server: Server,
        client: &Client,
        gate: &'a LoginGate,
        pod_reports: &'a PodReports,
        store: &'a Store,
    ) -> Self {
        let pods = Api::namespaced(client.clone(), &request.portal.namespace);
        Self { request, server, gate, pod_reports, store, pods, root: None }
    }

    fn session(&mut self) -> Result<&mut Session, Trouble> {
        let session = self.root.as_mut().map(|(session, _)| session);
        session
            .ok_or_else(|| Trouble::new(Reason::RootUnreachable, "no session of the root is open"))
    }
}

impl World for LiveWorld<'_> {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn new_password(&mut self) -> SecretString {
        Password::generate(&mut rand::rng()).secret().clone()
    }

    async fn open_root(&mut self, logins: &[Candidate]) -> ObservedRoot {
        if let Some((_, login)) = &self.root {
            return ObservedRoot::Works(login.clone());
        }
        let server = &self.server;
        for login in logins {
            if !self.gate.may_try(server, login, self.request.poll_interval) {
                continue;
            }
            match mysql::login_as_root(server, login).await {
                Ok(session) => {
                    self.gate.note_accepted(server, login);
                    self.root = Some((session, login.clone()));
                    return ObservedRoot::Works(login.clone());
                }
                Err(LoginError::Denied { .. }) => self.gate.note_denied(server, login),
                Err(error) => return ObservedRoot::Unreachable(error.to_string()),
            }
        }
        ObservedRoot::Rejected
    }

    async fn try_login(&mut self, login: &Candidate, is_own: bool) -> ObservedLogin {
        let issued = is_own.then_some(Rights::Application);
        match mysql::verify(&self.server, login, issued).await {
            Ok(verified) => ObservedLogin::Accepted { is_privileged: verified.may_create_users },
            Err(VerifyError::Login(LoginError::Denied { .. })) => ObservedLogin::Denied,
            Err(VerifyError::Login(error)) => ObservedLogin::Unreachable(error.to_string()),
            Err(error @ (VerifyError::NotEncrypted { .. } | VerifyError::Rights { .. })) => {
                ObservedLogin::Differs(error.to_string())
            }
            Err(VerifyError::Sql(error)) => ObservedLogin::Unreachable(error.to_string()),
        }
    }

    async fn try_source_login(&mut self, login: &Candidate) -> ObservedLogin {
        if !self.gate.may_try(&self.server, login, self.request.poll_interval) {
            return ObservedLogin::Denied;
        }
        let observed = self.try_login(login, false).await;
        match observed {
            ObservedLogin::Denied => self.gate.note_denied(&self.server, login),
            ObservedLogin::Accepted { .. } | ObservedLogin::Differs(_) => {
                self.gate.note_accepted(&self.server, login);
            }
            ObservedLogin::Unreachable(_) => {}
        }
        observed
    }

    async fn list_sessions(&mut self, users: &[String]) -> Result<ObservedSessions, Trouble> {
        let users: Vec<&str> = users.iter().map(String::as_str).collect();
        let found = mysql::sessions_of(self.session()?, &users).await;
        let found = found.map_err(|error| of_sql(&error))?;
        let of_accounts = found.into_iter().flat_map(|(user, sessions)| {
            sessions.into_iter().map(move |session| ObservedSession {
                user: user.clone(),
                id: session.id,
                host: session.host,
            })
        });
        Ok(ObservedSessions { of_accounts: of_accounts.collect(), ..ObservedSessions::default() })
    }

    async fn change_account(&mut self, change: AccountChange<'_>) -> Result<(), Trouble> {
        let password = |login: &Candidate| Password::from_secret(login.password.clone());
        let root = self.session()?;
        let changed = match change {
            AccountChange::Ensure(name, login) => {
                mysql::ensure_application_account(root, name, &password(login)).await
            }
            AccountChange::EnsureMigration(name, login) => {
                mysql::ensure_owner_account(root, name, &password(login)).await
            }
            AccountChange::AddPassword { account, next, old } => {
                mysql::retain_password(root, account, &password(next), &password(old)).await
            }
            AccountChange::DropOldPassword(name, login) => {
                mysql::discard_old_password(root, name, &password(login)).await
            }
            AccountChange::Lock(name) => mysql::lock_account(root, name).await,
            AccountChange::Drop(name) => mysql::drop_account(root, name).await,
        };
        changed.map_err(|error| of_sql(&error))
    }

    async fn retire_left(&mut self, left: &LeftPlace) -> Result<(), Trouble> {
        let server = self
            .request
            .server
            .at(&left.place)
            .map_err(|error| failed(Reason::AccountsFailed, &error))?;
        let is_dropped = self.request.deletion_policy == DeletionPolicy::DropAccounts;
        // Not those of the source, which are for another server now.
        let logins: Vec<Candidate> = left.root.iter().cloned().collect();
        retirement::retire_accounts(&server, &self.request.plan.account, &logins, is_dropped).await
    }

    async fn list_pods(&mut self) -> Result<Vec<PodReport>, Trouble> {
        let portal = &self.request.portal.name;
        let selector: Vec<String> = labels::selecting(portal, Component::Hardware)
            .into_iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let deployment = names::hardware(portal);
        let asked =
            self.pod_reports.ask(&self.pods, &selector.join(","), &deployment, ADMIN_PORT).await;
        asked.map_err(|error| of_api("list the pods of hardware", &error))
    }

    async fn nudge(&mut self, pod: &str, generation: u64) -> Result<(), Trouble> {
        let nudged = pod_reports::nudge(&self.pods, pod, generation, Timestamp::now()).await;
        nudged.map_err(|error| of_api("make a kubelet refresh its volumes", &error))
    }

    async fn store(&mut self, state: &State) -> Result<(), StoreError> {
        self.store.write(Record::new(self.request, state.clone())).await
    }
}

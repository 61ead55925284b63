//! The world as it is: SQL, pods, the store and the clock.

use crds::{DeletionPolicy, Reason};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use secrecy::SecretString;
use service_kit::credentials::Candidate;

use super::{
    AccountChange, ChangeFailed, Executor, World, failed,
    login::{describe_rejection, observed_login},
    of_api, of_sql,
};
use crate::{
    cluster::{
        labels::{self, Component},
        names,
    },
    rotation::{
        Trouble,
        machine::{
            LeftPlace, ObservedLogin, ObservedRoot, ObservedSession, ObservedSessions, PodReport,
            State,
        },
        mysql::{self, LoginError, Password, Rights, Server, Session, VerifyError},
        pod_reports::{self, ADMIN_PORT},
        request::Request,
        retirement,
        store::{Record, StoreError},
    },
};

/// The world of one portal, for one pass.
pub(super) struct LiveWorld<'a> {
    request: &'a Request,
    /// The server, with the schema of the place where this pass works.
    server: Server,
    executor: &'a Executor,
    pods: Api<Pod>,
    /// Opened when it is first needed and kept for the pass.
    root: Option<(Session, Candidate)>,
}

impl<'a> LiveWorld<'a> {
    pub(super) fn new(request: &'a Request, server: Server, executor: &'a Executor) -> Self {
        let pods = Api::namespaced(executor.client.clone(), &request.portal.namespace);
        Self { request, server, executor, pods, root: None }
    }

    /// Whether a login was refused so lately that it is not repeated now.
    fn is_refused(&self, login: &Candidate, advice: &mut Vec<String>) -> bool {
        let poll_interval = self.request.poll_interval;
        let refusal = self.executor.gate.refusal(&self.server, login, poll_interval);
        advice.extend(refusal.as_ref().and_then(|refusal| refusal.advice.clone()));
        refusal.is_some()
    }

    /// Records what the server answered to a login; none if it refused it, so that another may be tried.
    fn record<T>(
        &self,
        login: &Candidate,
        answer: Result<T, LoginError>,
        advice: &mut Vec<String>,
    ) -> Option<Result<T, LoginError>> {
        let gate = &self.executor.gate;
        match answer {
            Ok(accepted) => {
                gate.note_accepted(&self.server, login);
                Some(Ok(accepted))
            }
            Err(error @ (LoginError::Denied { .. } | LoginError::Restricted { .. })) => {
                gate.note_refused(&self.server, login, error.advice());
                advice.extend(error.advice());
                None
            }
            Err(error) => Some(Err(error)),
        }
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
        let mut advice = Vec::new();
        for login in logins {
            if self.is_refused(login, &mut advice) {
                continue;
            }
            let answer = mysql::login_as_root(&self.server, login, &self.executor.fence).await;
            match self.record(login, answer, &mut advice) {
                Some(Ok(session)) => {
                    self.root = Some((session, login.clone()));
                    return ObservedRoot::Works(login.clone());
                }
                Some(Err(error)) => return ObservedRoot::Unreachable(error.to_string()),
                None => {}
            }
        }
        ObservedRoot::Rejected(describe_rejection(advice))
    }

    async fn try_login(&mut self, login: &Candidate, is_own: bool) -> ObservedLogin {
        // Accounts of ours must have exactly the rights that were issued; others only have to work.
        let issued = is_own.then_some(Rights::Application);
        observed_login(mysql::verify(&self.server, login, issued).await, is_own)
    }

    async fn find_source_login(&mut self, logins: &[Candidate]) -> ObservedRoot {
        let mut advice = Vec::new();
        for login in logins {
            if self.is_refused(login, &mut advice) {
                continue;
            }
            let answer = match mysql::verify(&self.server, login, None).await {
                Err(VerifyError::Login(error)) => Err(error),
                Err(VerifyError::Sql(error)) => {
                    return ObservedRoot::Unreachable(error.to_string());
                }
                Ok(_) | Err(VerifyError::NotEncrypted { .. } | VerifyError::Rights { .. }) => {
                    Ok(())
                }
            };
            match self.record(login, answer, &mut advice) {
                Some(Ok(())) => return ObservedRoot::Works(login.clone()),
                Some(Err(error)) => return ObservedRoot::Unreachable(error.to_string()),
                None => {}
            }
        }
        ObservedRoot::Rejected(describe_rejection(advice))
    }

    async fn list_sessions(&mut self, users: &[String]) -> Result<ObservedSessions, Trouble> {
        let users: Vec<&str> = users.iter().map(String::as_str).collect();
        let found = mysql::sessions_of(self.session()?, &users).await;
        let found = found.map_err(|error| of_sql(&error))?;
        let of_accounts = found.by_user.into_iter().flat_map(|(user, sessions)| {
            sessions.into_iter().map(move |session| ObservedSession {
                user: user.clone(),
                id: session.id,
                host: session.host,
            })
        });
        let unauthenticated = found.unauthenticated.iter().map(|session| session.id).collect();
        Ok(ObservedSessions { of_accounts: of_accounts.collect(), unauthenticated })
    }

    async fn change_account(&mut self, change: AccountChange<'_>) -> Result<(), ChangeFailed> {
        let password = |login: &Candidate| Password::from_secret(login.password.clone());
        let root = self.session()?;
        let changed = match change {
            AccountChange::Ensure(name, login) => {
                mysql::ensure_application_account(root, name, &password(login)).await
            }
            AccountChange::EnsureMigration(name, login) => {
                mysql::ensure_migration_account(root, name, &password(login)).await
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
        changed.map_err(|error| ChangeFailed {
            is_password_refused: error.refuses_password(),
            trouble: of_sql(&error),
        })
    }

    async fn retire_left(
        &mut self,
        left: &LeftPlace,
        active: Option<&Candidate>,
    ) -> Result<(), Trouble> {
        let server = self
            .request
            .server
            .at(&left.place)
            .map_err(|error| failed(Reason::AccountsFailed, &error))?;
        let is_dropped = self.request.deletion_policy == DeletionPolicy::DropAccounts;
        if let Some(active) = active
            && let Ok(session) = mysql::login(&server, active).await
        {
            // It is the server that the pods use, under another name.
            session.close().await;
            return Ok(());
        }
        // Not those of the source, which are for another server now.
        let logins: Vec<Candidate> = left.root.iter().cloned().collect();
        let account = &self.request.plan.account;
        let Executor { fence, gate, .. } = self.executor;
        retirement::retire_accounts(&server, account, &logins, is_dropped, fence, gate).await
    }

    async fn list_pods(&mut self) -> Result<Vec<PodReport>, Trouble> {
        let portal = &self.request.portal.name;
        let selector: Vec<String> = labels::selecting(portal, Component::Hardware)
            .into_iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let deployment = names::hardware(portal);
        let asked = self
            .executor
            .pod_reports
            .ask(&self.pods, &selector.join(","), &deployment, ADMIN_PORT)
            .await;
        asked.map_err(|error| of_api("list the pods of hardware", &error))
    }

    async fn nudge(&mut self, pod: &str, generation: u64) -> Result<(), Trouble> {
        let nudged = pod_reports::nudge(&self.pods, pod, generation, Timestamp::now()).await;
        nudged.map_err(|error| of_api("make a kubelet refresh its volumes", &error))
    }

    async fn store(&mut self, state: &State) -> Result<(), StoreError> {
        self.executor.store.write(Record::new(self.request, state.clone())).await
    }
}

//! Looks at the server and at the pods, at no more than was asked for.

use crds::{Reason, RotationMode};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use service_kit::credentials::Candidate;

use super::{super::Trouble, failed, of_api, of_sql};
use crate::{
    credentials::{
        accounts::{self, AccountName, LoginError, Rights, Session, Slot, VerifyError},
        adoption::Inquirer,
        rotation::{LoginSeen, Needs, RootSeen, Seen, SessionSeen, State, is_ours},
    },
    portal_controller::{
        build::{
            labels::{self, Component},
            names,
            pod::ADMIN_PORT,
        },
        validate::{ValidatedMysql, ValidatedPortal},
    },
};

/// The root's session, opened when it is first needed and kept for one pass.
pub(super) struct Root<'a> {
    mysql: &'a ValidatedMysql,
    /// The login that worked last, which goes on working for a while after the source was changed.
    last: Option<Candidate>,
    session: Option<(Session, Candidate)>,
}

impl<'a> Root<'a> {
    pub(super) fn new(mysql: &'a ValidatedMysql, last: Option<Candidate>) -> Self {
        Self { mysql, last, session: None }
    }

    /// The session, as the first login that is let in: the source's in their order, then the one
    /// that worked last. In mode Follow the source's is the pods' own, which may hardly change
    /// anything, so the one that worked last comes first: what is left of another mode is ended with it.
    pub(super) async fn session(&mut self) -> Result<&mut Session, Trouble> {
        match self.open().await {
            RootSeen::Works(_) => {}
            RootSeen::Rejected => {
                let message = "the database refuses every login of the source; correct the source";
                return Err(failed(Reason::RootRejected, &message));
            }
            RootSeen::Unreachable(why) => return Err(failed(Reason::RootUnreachable, &why)),
        }
        let (session, _) = self.session.as_mut().expect("just opened");
        Ok(session)
    }

    async fn open(&mut self) -> RootSeen {
        if let Some((_, login)) = &self.session {
            return RootSeen::Works(login.clone());
        }
        let of_source = self.mysql.source.iter().flat_map(|source| &source.candidates);
        let logins: Vec<Candidate> = if self.mysql.plan.mode == RotationMode::Follow {
            self.last.iter().chain(of_source).cloned().collect()
        } else {
            of_source.chain(&self.last).cloned().collect()
        };
        for login in logins {
            match accounts::login_as_root(&self.mysql.server, &login).await {
                Ok(session) => {
                    self.session = Some((session, login.clone()));
                    return RootSeen::Works(login);
                }
                Err(LoginError::Denied { .. }) => {}
                Err(error) => return RootSeen::Unreachable(error.to_string()),
            }
        }
        RootSeen::Rejected
    }
}

/// What a look showed, or why nothing could be seen.
pub(super) struct Look {
    pub(super) seen: Seen,
    /// Whether the pods' login may do more than it should, if one was let in.
    pub(super) is_privileged: Option<bool>,
    pub(super) problem: Option<Trouble>,
}

/// Looks for one step.
pub(super) struct Looker<'a> {
    pub(super) portal: &'a ValidatedPortal,
    pub(super) mysql: &'a ValidatedMysql,
    pub(super) state: &'a State,
    pub(super) pods: &'a Api<Pod>,
    pub(super) inquirer: &'a Inquirer,
}

impl Looker<'_> {
    pub(super) async fn look(&self, needs: Needs, tries_active: bool, root: &mut Root<'_>) -> Look {
        let mut seen = Seen { source: self.mysql.source.clone(), ..Seen::default() };
        let change = self.state.change.as_ref();
        // Before the logins, which are sessions themselves.
        let mut problem = None;
        if needs.sessions {
            match self.find_sessions(root).await {
                Ok(sessions) => seen.sessions = Some(sessions),
                Err(trouble) => problem = Some(trouble),
            }
        }
        if needs.root {
            seen.root = Some(self.find_root(root).await);
        }
        if needs.next {
            seen.next = self.try_login(change.and_then(|change| change.next.first())).await;
        }
        if needs.old {
            seen.old = self.try_login(change.and_then(|change| change.old.as_ref())).await;
        }
        if tries_active && self.state.is_at(self.mysql.place()) {
            seen.active = self.try_login(self.state.active()).await;
        }
        let is_privileged =
            [&seen.next, &seen.active].into_iter().flatten().find_map(|login| match login {
                LoginSeen::Accepted { is_privileged } => Some(*is_privileged),
                LoginSeen::Differs(_) | LoginSeen::Denied | LoginSeen::Unreachable(_) => None,
            });
        if needs.pods {
            let selector: Vec<String> = labels::selecting(self.portal, Component::Hardware)
                .into_iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            let deployment = names::hardware(&self.portal.name);
            let asked =
                self.inquirer.ask(self.pods, &selector.join(","), &deployment, ADMIN_PORT).await;
            match asked {
                Ok(pods) => seen.pods = Some(pods),
                Err(error) => problem = Some(of_api("list the pods of hardware", &error)),
            }
        }
        Look { seen, is_privileged, problem }
    }

    /// In mode Follow the source's logins are the pods' own, and are tried as those.
    async fn find_root(&self, root: &mut Root<'_>) -> RootSeen {
        if self.state.change.as_ref().is_none_or(|change| change.mode != RotationMode::Follow) {
            return root.open().await;
        }
        for login in self.mysql.source.iter().flat_map(|source| &source.candidates) {
            match self.try_login(Some(login)).await {
                Some(LoginSeen::Denied) | None => {}
                Some(LoginSeen::Unreachable(why)) => return RootSeen::Unreachable(why),
                Some(LoginSeen::Accepted { .. } | LoginSeen::Differs(_)) => {
                    return RootSeen::Works(login.clone());
                }
            }
        }
        RootSeen::Rejected
    }

    /// Accounts of ours must have exactly the rights that were issued; others only have to work.
    async fn try_login(&self, login: Option<&Candidate>) -> Option<LoginSeen> {
        let login = login?;
        let issued = is_ours(&self.mysql.plan.account, login).then_some(Rights::Application);
        let verified = accounts::verify(&self.mysql.server, login, issued).await;
        Some(match verified {
            Ok(verified) => LoginSeen::Accepted { is_privileged: verified.may_create_users },
            Err(VerifyError::Login(LoginError::Denied { .. })) => LoginSeen::Denied,
            Err(VerifyError::Login(error)) => LoginSeen::Unreachable(error.to_string()),
            Err(error @ (VerifyError::NotEncrypted { .. } | VerifyError::Rights { .. })) => {
                LoginSeen::Differs(error.to_string())
            }
            Err(VerifyError::Sql(error)) => LoginSeen::Unreachable(error.to_string()),
        })
    }

    async fn find_sessions(&self, root: &mut Root<'_>) -> Result<Vec<SessionSeen>, Trouble> {
        let accounts = [Slot::A, Slot::B].map(|slot| self.mysql.plan.account.in_slot(slot));
        let old = self.state.change.as_ref().and_then(|change| change.old.as_ref());
        let mut users: Vec<&str> = accounts.iter().map(AccountName::as_str).collect();
        users.extend(old.map(|old| old.username.as_str()).filter(|old| !users.contains(old)));
        let found = accounts::sessions_of(root.session().await?, &users).await;
        let found = found.map_err(|error| of_sql(&error))?;
        let sessions = found.into_iter().flat_map(|(user, sessions)| {
            sessions.into_iter().map(move |session| SessionSeen {
                user: user.clone(),
                id: session.id,
                host: session.host,
            })
        });
        Ok(sessions.collect())
    }
}

//! Looks at the server and at the pods, at no more than was asked for.

use crds::{Reason, RotationMode};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use service_kit::credentials::Candidate;

use super::{failed, of_api, of_sql};
use crate::{
    cluster::{
        labels::{self, Component},
        names,
    },
    rotation::{
        Trouble,
        machine::{
            Needs, Observation, ObservedLogin, ObservedRoot, ObservedSession, State, is_ours,
        },
        mysql::{self, AccountName, LoginError, Rights, Session, Slot, VerifyError},
        pod_reports::{ADMIN_PORT, PodReports},
        request::Request,
    },
};

/// The root's session, opened when it is first needed and kept for one pass.
pub(super) struct Root<'a> {
    request: &'a Request,
    /// The login that worked last, which goes on working for a while after the source was changed.
    last: Option<Candidate>,
    session: Option<(Session, Candidate)>,
}

impl<'a> Root<'a> {
    pub(super) fn new(request: &'a Request, last: Option<Candidate>) -> Self {
        Self { request, last, session: None }
    }

    /// The session, as the first login that is let in: the source's in their order, then the one
    /// that worked last. In mode Follow the source's is the pods' own, which may hardly change
    /// anything, so the one that worked last comes first: what is left of another mode is ended with it.
    pub(super) async fn session(&mut self) -> Result<&mut Session, Trouble> {
        match self.open().await {
            ObservedRoot::Works(_) => {}
            ObservedRoot::Rejected => {
                let message = "the database refuses every login of the source; correct the source";
                return Err(failed(Reason::RootRejected, &message));
            }
            ObservedRoot::Unreachable(why) => return Err(failed(Reason::RootUnreachable, &why)),
        }
        let (session, _) = self.session.as_mut().expect("just opened");
        Ok(session)
    }

    async fn open(&mut self) -> ObservedRoot {
        if let Some((_, login)) = &self.session {
            return ObservedRoot::Works(login.clone());
        }
        let of_source = self.request.source.iter().flat_map(|source| &source.candidates);
        let logins: Vec<Candidate> = if self.request.plan.mode == RotationMode::Follow {
            self.last.iter().chain(of_source).cloned().collect()
        } else {
            of_source.chain(&self.last).cloned().collect()
        };
        for login in logins {
            match mysql::login_as_root(&self.request.server, &login).await {
                Ok(session) => {
                    self.session = Some((session, login.clone()));
                    return ObservedRoot::Works(login);
                }
                Err(LoginError::Denied { .. }) => {}
                Err(error) => return ObservedRoot::Unreachable(error.to_string()),
            }
        }
        ObservedRoot::Rejected
    }
}

/// What a look showed, or why nothing could be seen.
pub(super) struct Observed {
    pub(super) seen: Observation,
    /// Whether the pods' login may do more than it should, if one was let in.
    pub(super) is_privileged: Option<bool>,
    pub(super) problem: Option<Trouble>,
}

/// Looks for one step.
pub(super) struct Observer<'a> {
    pub(super) request: &'a Request,
    pub(super) state: &'a State,
    pub(super) pods: &'a Api<Pod>,
    pub(super) pod_reports: &'a PodReports,
}

impl Observer<'_> {
    pub(super) async fn observe(
        &self,
        needs: Needs,
        tries_active: bool,
        root: &mut Root<'_>,
    ) -> Observed {
        let mut seen =
            Observation { source: self.request.source.clone(), ..Observation::default() };
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
        if tries_active && self.state.is_at(self.request.place()) {
            seen.active = self.try_login(self.state.active()).await;
        }
        let is_privileged =
            [&seen.next, &seen.active].into_iter().flatten().find_map(|login| match login {
                ObservedLogin::Accepted { is_privileged } => Some(*is_privileged),
                ObservedLogin::Differs(_)
                | ObservedLogin::Denied
                | ObservedLogin::Unreachable(_) => None,
            });
        if needs.pods {
            let selector: Vec<String> =
                labels::selecting(&self.request.portal.name, Component::Hardware)
                    .into_iter()
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect();
            let deployment = names::hardware(&self.request.portal.name);
            let asked =
                self.pod_reports.ask(self.pods, &selector.join(","), &deployment, ADMIN_PORT).await;
            match asked {
                Ok(pods) => seen.pods = Some(pods),
                Err(error) => problem = Some(of_api("list the pods of hardware", &error)),
            }
        }
        Observed { seen, is_privileged, problem }
    }

    /// In mode Follow the source's logins are the pods' own, and are tried as those.
    async fn find_root(&self, root: &mut Root<'_>) -> ObservedRoot {
        if self.state.change.as_ref().is_none_or(|change| change.mode != RotationMode::Follow) {
            return root.open().await;
        }
        for login in self.request.source.iter().flat_map(|source| &source.candidates) {
            match self.try_login(Some(login)).await {
                Some(ObservedLogin::Denied) | None => {}
                Some(ObservedLogin::Unreachable(why)) => return ObservedRoot::Unreachable(why),
                Some(ObservedLogin::Accepted { .. } | ObservedLogin::Differs(_)) => {
                    return ObservedRoot::Works(login.clone());
                }
            }
        }
        ObservedRoot::Rejected
    }

    /// Accounts of ours must have exactly the rights that were issued; others only have to work.
    async fn try_login(&self, login: Option<&Candidate>) -> Option<ObservedLogin> {
        let login = login?;
        let issued = is_ours(&self.request.plan.account, login).then_some(Rights::Application);
        let verified = mysql::verify(&self.request.server, login, issued).await;
        Some(match verified {
            Ok(verified) => ObservedLogin::Accepted { is_privileged: verified.may_create_users },
            Err(VerifyError::Login(LoginError::Denied { .. })) => ObservedLogin::Denied,
            Err(VerifyError::Login(error)) => ObservedLogin::Unreachable(error.to_string()),
            Err(error @ (VerifyError::NotEncrypted { .. } | VerifyError::Rights { .. })) => {
                ObservedLogin::Differs(error.to_string())
            }
            Err(VerifyError::Sql(error)) => ObservedLogin::Unreachable(error.to_string()),
        })
    }

    async fn find_sessions(&self, root: &mut Root<'_>) -> Result<Vec<ObservedSession>, Trouble> {
        let accounts = [Slot::A, Slot::B].map(|slot| self.request.plan.account.in_slot(slot));
        let old = self.state.change.as_ref().and_then(|change| change.old.as_ref());
        let mut users: Vec<&str> = accounts.iter().map(AccountName::as_str).collect();
        users.extend(old.map(|old| old.username.as_str()).filter(|old| !users.contains(old)));
        let found = mysql::sessions_of(root.session().await?, &users).await;
        let found = found.map_err(|error| of_sql(&error))?;
        let sessions = found.into_iter().flat_map(|(user, sessions)| {
            sessions.into_iter().map(move |session| ObservedSession {
                user: user.clone(),
                id: session.id,
                host: session.host,
            })
        });
        Ok(sessions.collect())
    }
}

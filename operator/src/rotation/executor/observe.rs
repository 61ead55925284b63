//! Looks at the server and at the pods, at no more than was asked for.

use crds::{Reason, RotationMode};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use service_kit::credentials::Candidate;

use super::{failed, of_api, of_sql};
use crate::{
    cluster::{
        client::Fence,
        labels::{self, Component},
        names,
    },
    rotation::{
        Trouble,
        machine::{
            Needs, Observation, ObservedLogin, ObservedRoot, ObservedSession, State, is_ours,
        },
        mysql::{self, AccountName, LoginError, Rights, Session, Slot, Verified, VerifyError},
        pod_reports::{ADMIN_PORT, PodReports},
        request::Request,
    },
};

/// The root's session, opened when it is first needed and kept for one pass.
pub(super) struct Root<'a> {
    request: &'a Request,
    /// The login that worked last, which goes on working for a while after the source was changed.
    last: Option<Candidate>,
    /// Passed by what it changes.
    fence: Fence,
    session: Option<(Session, Candidate)>,
}

impl<'a> Root<'a> {
    pub(super) fn new(request: &'a Request, last: Option<Candidate>, fence: &Fence) -> Self {
        Self { request, last, fence: fence.clone(), session: None }
    }

    /// The session, as the first login that is let in: the source's in their order, then the one
    /// that worked last. In mode Follow the source's is the pods' own, which may hardly change
    /// anything, so the one that worked last comes first: what is left of another mode is ended with it.
    pub(super) async fn session(&mut self) -> Result<&mut Session, Trouble> {
        match self.open().await {
            ObservedRoot::Works(_) => {}
            ObservedRoot::Rejected(why) => return Err(failed(Reason::RootRejected, &why)),
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
        let mut refusals = Vec::new();
        for login in logins {
            match mysql::login_as_root(&self.request.server, &login, &self.fence).await {
                Ok(session) => {
                    self.session = Some((session, login.clone()));
                    return ObservedRoot::Works(login);
                }
                Err(error @ (LoginError::Denied { .. } | LoginError::Restricted { .. })) => {
                    refusals.push(error);
                }
                Err(error) => return ObservedRoot::Unreachable(error.to_string()),
            }
        }
        ObservedRoot::Rejected(describe_rejection(&refusals))
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
        let mut refusals = Vec::new();
        for login in self.request.source.iter().flat_map(|source| &source.candidates) {
            match self.verify(login).await {
                Err(VerifyError::Login(
                    error @ (LoginError::Denied { .. } | LoginError::Restricted { .. }),
                )) => refusals.push(error),
                Err(VerifyError::Login(error)) => {
                    return ObservedRoot::Unreachable(error.to_string());
                }
                Err(VerifyError::Sql(error)) => {
                    return ObservedRoot::Unreachable(error.to_string());
                }
                Ok(_) | Err(VerifyError::NotEncrypted { .. } | VerifyError::Rights { .. }) => {
                    return ObservedRoot::Works(login.clone());
                }
            }
        }
        ObservedRoot::Rejected(describe_rejection(&refusals))
    }

    async fn try_login(&self, login: Option<&Candidate>) -> Option<ObservedLogin> {
        let login = login?;
        let verified = self.verify(login).await;
        Some(observed_login(verified, is_ours(&self.request.plan.account, login)))
    }

    /// Accounts of ours must have exactly the rights that were issued; others only have to work.
    async fn verify(&self, login: &Candidate) -> Result<Verified, VerifyError> {
        let issued = is_ours(&self.request.plan.account, login).then_some(Rights::Application);
        mysql::verify(&self.request.server, login, issued).await
    }

    async fn find_sessions(&self, root: &mut Root<'_>) -> Result<Vec<ObservedSession>, Trouble> {
        let accounts = [Slot::A, Slot::B].map(|slot| self.request.plan.account.in_slot(slot));
        let old = self.state.change.as_ref().and_then(|change| change.old.as_ref());
        let mut users: Vec<&str> = accounts.iter().map(AccountName::as_str).collect();
        users.extend(old.map(|old| old.username.as_str()).filter(|old| !users.contains(old)));
        let found = mysql::sessions_of(root.session().await?, &users).await;
        let found = found.map_err(|error| of_sql(&error))?;
        let sessions = found.by_user.into_iter().flat_map(|(user, sessions)| {
            sessions.into_iter().map(move |session| ObservedSession {
                user: user.clone(),
                id: session.id,
                host: session.host,
            })
        });
        Ok(sessions.collect())
    }
}

/// What a try of a login shows. Whatever keeps an account of ours from being used is put right by making
/// it again, so it differs; an account of somebody else is refused.
fn observed_login(verified: Result<Verified, VerifyError>, is_ours: bool) -> ObservedLogin {
    match verified {
        Ok(verified) => ObservedLogin::Accepted { is_privileged: verified.may_create_users },
        Err(VerifyError::Login(error)) => match error {
            LoginError::Restricted { .. } if is_ours => ObservedLogin::Differs(error.to_string()),
            // It says nothing of the password, so it neither proves that one is dead.
            LoginError::Denied { .. } if is_ours && error.is_blocked() => {
                ObservedLogin::Differs(error.to_string())
            }
            LoginError::Denied { .. } | LoginError::Restricted { .. } => ObservedLogin::Denied,
            LoginError::Unreachable { .. } | LoginError::Other { .. } => {
                ObservedLogin::Unreachable(error.to_string())
            }
        },
        Err(error @ (VerifyError::NotEncrypted { .. } | VerifyError::Rights { .. })) => {
            ObservedLogin::Differs(error.to_string())
        }
        Err(VerifyError::Sql(error)) => ObservedLogin::Unreachable(error.to_string()),
    }
}

/// Why no login of the source is let in. A password that is wrong is corrected in the source; an account
/// that is blocked, locked or restricted is put right on the server.
fn describe_rejection(refusals: &[LoginError]) -> String {
    let mut advice: Vec<String> = refusals.iter().filter_map(LoginError::advice).collect();
    advice.dedup();
    if advice.is_empty() {
        return "the database refuses every login of the source; correct the source".to_owned();
    }
    format!("the database refuses every login of the source: {}", advice.join("; "))
}

#[cfg(test)]
mod tests {
    use super::{LoginError, ObservedLogin, VerifyError, describe_rejection, observed_login};
    use crate::rotation::mysql::{SqlError, TableState, Verified};

    fn denied(code: u16) -> LoginError {
        LoginError::Denied { username: "app".to_owned(), code }
    }

    fn restricted(code: u16) -> LoginError {
        LoginError::Restricted { username: "app".to_owned(), code }
    }

    fn observed(error: LoginError, is_ours: bool) -> ObservedLogin {
        observed_login(Err(VerifyError::Login(error)), is_ours)
    }

    #[test]
    fn an_account_of_ours_that_may_not_be_used_differs_and_is_not_unreachable() {
        for code in [1044, 1142, 1820, 1862] {
            let ObservedLogin::Differs(words) = observed(restricted(code), true) else {
                panic!("{code} is no finding about the account")
            };
            assert!(words.contains("app") && words.contains(&code.to_string()), "{words}");
        }
    }

    #[test]
    fn an_account_of_ours_that_is_blocked_differs_as_no_password_was_looked_at() {
        for code in [3955, 4150] {
            assert!(matches!(observed(denied(code), true), ObservedLogin::Differs(_)), "{code}");
        }
        for code in [1045, 1698, 3118, 4151, 2059] {
            assert_eq!(observed(denied(code), true), ObservedLogin::Denied, "{code}");
        }
    }

    #[test]
    fn an_account_of_somebody_else_that_may_not_be_used_is_refused() {
        for error in [restricted(1044), restricted(1862), denied(4150), denied(1045)] {
            assert_eq!(observed(error, false), ObservedLogin::Denied);
        }
    }

    #[test]
    fn a_server_that_cannot_be_asked_and_a_schema_that_is_gone_say_nothing_of_the_account() {
        let other = |reason: &str| LoginError::Other {
            host: "db".to_owned(),
            port: 3306,
            username: "app".to_owned(),
            reason: reason.to_owned(),
        };
        let unknown = observed(other("Unknown database 'hardware'"), true);
        assert!(matches!(unknown, ObservedLogin::Unreachable(why) if why.contains("Unknown")));
        let late = SqlError::Late { purpose: "verify an account".to_owned() };
        let late = observed_login(Err(VerifyError::Sql(late)), true);
        assert!(matches!(late, ObservedLogin::Unreachable(_)), "{late:?}");
        let verified = Verified { contents: TableState::Readable, may_create_users: true };
        let accepted = observed_login(Ok(verified), true);
        assert_eq!(accepted, ObservedLogin::Accepted { is_privileged: true });
    }

    #[test]
    fn a_source_whose_password_is_wrong_is_to_be_corrected() {
        assert_eq!(
            describe_rejection(&[denied(1045), denied(1045)]),
            "the database refuses every login of the source; correct the source"
        );
    }

    #[test]
    fn a_source_whose_account_is_blocked_or_expired_says_what_to_do_on_the_server() {
        let words = describe_rejection(&[denied(1045), denied(4150), denied(4150)]);
        assert!(words.starts_with("the database refuses every login of the source: "), "{words}");
        assert_eq!(words.matches("FLUSH PRIVILEGES").count(), 1, "{words}");
        let words = describe_rejection(&[restricted(1862)]);
        assert!(words.contains("the password of app has expired; set another one"), "{words}");
    }
}

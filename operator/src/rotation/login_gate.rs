//! Keeps a denied login from being repeated. Servers block an account after a number of wrong passwords
//! (MariaDB's `max_password_errors`, MySQL's `FAILED_LOGIN_ATTEMPTS`), and the master account would then be
//! blocked for everybody.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use secrecy::ExposeSecret;
use service_kit::credentials::Candidate;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::mysql::Server;

/// Denied logins are counted over this time.
const WINDOW: Duration = Duration::from_mins(2);
/// Denied logins of one account within the window after which no login that was denied is repeated. The
/// smallest limit that is in use on servers is 5.
const MOST_DENIED: usize = 4;

/// The denied logins of all portals: several may use one root account.
#[derive(Debug)]
pub struct LoginGate {
    /// Distinguishes passwords without keeping them.
    salt: [u8; 32],
    denied: Mutex<HashMap<Account, VecDeque<Refusal>>>,
}

/// Host, port and user name.
type Account = (String, u16, String);

/// A login that the server refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    at: Instant,
    password: [u8; 32],
    /// What is to be done about it on the server, if that is where it is put right.
    pub advice: Option<String>,
}

impl Default for LoginGate {
    fn default() -> Self {
        Self { salt: rand::random(), denied: Mutex::default() }
    }
}

impl LoginGate {
    /// The refusal that keeps this login from being tried now; none if it may be. A login that was not
    /// refused lately may; one that was may be repeated after `poll_interval`, and not at all while its
    /// account has been refused too often.
    #[must_use]
    pub fn refusal(
        &self,
        server: &Server,
        login: &Candidate,
        poll_interval: Duration,
    ) -> Option<Refusal> {
        let (password, now) = (self.digest(login), Instant::now());
        self.with(server, login, |refusals| {
            refusals.retain(|refusal| now.duration_since(refusal.at) < WINDOW.max(poll_interval));
            let last = refusals.iter().rfind(|refusal| refusal.password == password)?;
            let in_window =
                refusals.iter().filter(|refusal| now.duration_since(refusal.at) < WINDOW).count();
            let may_try = now.duration_since(last.at) >= poll_interval && in_window < MOST_DENIED;
            (!may_try).then(|| last.clone())
        })
    }

    /// Records that the server refused a login, and what is to be done about it on the server.
    pub fn note_refused(&self, server: &Server, login: &Candidate, advice: Option<String>) {
        let refusal = Refusal { at: Instant::now(), password: self.digest(login), advice };
        self.with(server, login, |refusals| refusals.push_back(refusal));
    }

    /// Records that the server accepted a login, after which it counts anew.
    pub fn note_accepted(&self, server: &Server, login: &Candidate) {
        let mut denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
        denied.remove(&account(server, login));
    }

    fn with<T>(
        &self,
        server: &Server,
        login: &Candidate,
        act: impl FnOnce(&mut VecDeque<Refusal>) -> T,
    ) -> T {
        let mut denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
        let account = account(server, login);
        let outcome = act(denied.entry(account.clone()).or_default());
        if denied.get(&account).is_some_and(VecDeque::is_empty) {
            denied.remove(&account);
        }
        outcome
    }

    fn digest(&self, login: &Candidate) -> [u8; 32] {
        let hash = Sha256::new().chain_update(self.salt);
        hash.chain_update(login.password.expose_secret()).finalize().into()
    }
}

fn account(server: &Server, login: &Candidate) -> Account {
    (server.host.clone(), server.port, login.username.clone())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use service_kit::credentials::Candidate;
    use tokio::time::advance;

    use super::LoginGate;
    use crate::rotation::mysql::{SchemaName, Server, Tls};

    fn server() -> Server {
        Server {
            host: "db.example".to_owned(),
            port: 3306,
            schema: SchemaName::new("hardware").expect("a name"),
            tls: Tls::Disabled,
        }
    }

    fn root(password: &str) -> Candidate {
        Candidate { username: "root".to_owned(), password: password.into() }
    }

    /// Two minutes of a wrong password, tried whenever it may be.
    #[tokio::test(start_paused = true)]
    async fn a_wrong_password_is_tried_fewer_than_five_times_in_two_minutes() {
        for poll_seconds in [1, 10, 60] {
            let (gate, poll) = (LoginGate::default(), Duration::from_secs(poll_seconds));
            let mut tried = 0;
            for _ in 0..1200 {
                for password in ["current", "pending", "previous"] {
                    if gate.refusal(&server(), &root(password), poll).is_none() {
                        gate.note_refused(&server(), &root(password), None);
                        tried += 1;
                    }
                }
                advance(Duration::from_millis(100)).await;
            }
            assert!((3..5).contains(&tried), "{tried} times with a poll of {poll_seconds} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn another_password_is_tried_at_once_and_an_accepted_login_clears_the_account() {
        let (gate, poll) = (LoginGate::default(), Duration::from_secs(1));
        for _ in 0..4 {
            gate.note_refused(&server(), &root("wrong"), None);
        }
        advance(poll).await;
        assert!(gate.refusal(&server(), &root("wrong"), poll).is_some());
        assert!(gate.refusal(&server(), &root("right"), poll).is_none());
        gate.note_accepted(&server(), &root("right"));
        assert!(gate.refusal(&server(), &root("wrong"), poll).is_none());
    }
}

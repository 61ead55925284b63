//! A database server as far as accounts go.

use std::collections::{BTreeMap, BTreeSet};

use secrecy::ExposeSecret;
use service_kit::credentials::Candidate;

use crate::rotation::machine::Place;

/// What an account knows of a login.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    /// The first password and, in the second place, the one that is retained.
    pub(super) passwords: Vec<String>,
    pub(super) is_locked: bool,
    /// The schema that it has its rights on; none if somebody took them away. The root has all.
    pub(super) schema: Option<String>,
}

/// Somebody who is logged in.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) user: String,
    /// None for a stranger, who is neither pod nor operator.
    pub(super) pod: Option<String>,
}

/// Which of the two servers' ways it has to keep a second password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    /// The first password becomes the second, whichever it was.
    MySql,
    /// Both are set.
    MariaDb,
}

#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) flavour: Flavour,
    pub(super) accounts: BTreeMap<String, Account>,
    pub(super) sessions: BTreeMap<u64, Session>,
    /// Logins that are under way.
    pub(super) unauthenticated: BTreeSet<u64>,
    pub(super) is_down: bool,
    next_session: u64,
}

impl Server {
    pub(super) fn new(flavour: Flavour, root: &Candidate) -> Self {
        let account = Account { passwords: vec![password(root)], is_locked: false, schema: None };
        Self {
            flavour,
            accounts: [(root.username.clone(), account)].into(),
            sessions: BTreeMap::new(),
            unauthenticated: BTreeSet::new(),
            is_down: false,
            next_session: 1,
        }
    }

    /// Whether a login would be let in if the server were up.
    pub(super) fn accepts(&self, login: &Candidate) -> bool {
        self.accounts.get(&login.username).is_some_and(|account| {
            !account.is_locked && account.passwords.contains(&password(login))
        })
    }

    /// Whether it is let in, and may use the schema of this place.
    pub(super) fn serves(&self, place: &Place, login: &Candidate) -> bool {
        self.accepts(login) && self.has_rights(place, &login.username)
    }

    pub(super) fn has_rights(&self, place: &Place, username: &str) -> bool {
        let is_ours = username.starts_with("hw_");
        let account = self.accounts.get(username);
        account.is_some_and(|account| !is_ours || account.schema.as_ref() == Some(&place.database))
    }

    pub(super) fn begin_login(&mut self) -> u64 {
        let id = self.next_session;
        self.next_session += 1;
        self.unauthenticated.insert(id);
        id
    }

    pub(super) fn log_in(&mut self, login: &Candidate, pod: Option<&str>) -> Option<u64> {
        if self.is_down || !self.accepts(login) {
            return None;
        }
        let id = self.next_session;
        self.next_session += 1;
        let session = Session { user: login.username.clone(), pod: pod.map(str::to_owned) };
        self.sessions.insert(id, session);
        Some(id)
    }

    pub(super) fn ensure_account(&mut self, login: &Candidate, place: &Place) {
        let schema = Some(place.database.clone());
        let account = Account { passwords: vec![password(login)], is_locked: false, schema };
        self.accounts.insert(login.username.clone(), account);
    }

    pub(super) fn add_password(&mut self, next: &Candidate, old: &Candidate) -> Result<(), String> {
        let is_let_in = self.accepts(next);
        let account = self.accounts.get_mut(&next.username).ok_or("no such account")?;
        match self.flavour {
            // The real effect tries the new password first, too.
            Flavour::MySql if is_let_in => {}
            Flavour::MySql => {
                account.passwords.insert(0, password(next));
                account.passwords.truncate(2);
            }
            Flavour::MariaDb => account.passwords = vec![password(next), password(old)],
        }
        Ok(())
    }

    pub(super) fn drop_old_password(&mut self, next: &Candidate) -> Result<(), String> {
        let account = self.accounts.get_mut(&next.username).ok_or("no such account")?;
        match self.flavour {
            Flavour::MySql => account.passwords.truncate(1),
            Flavour::MariaDb => account.passwords = vec![password(next)],
        }
        Ok(())
    }

    pub(super) fn lock(&mut self, username: &str) {
        if let Some(account) = self.accounts.get_mut(username) {
            account.is_locked = true;
        }
    }
}

pub(super) fn password(login: &Candidate) -> String {
    login.password.expose_secret().to_owned()
}

pub(super) fn login(username: &str, password: &str) -> Candidate {
    Candidate { username: username.to_owned(), password: password.to_owned().into() }
}

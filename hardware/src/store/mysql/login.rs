//! Logins that follow a rotating credential, and connections that retire.
//!
//! `AsyncMysqlConnection::establish` loses the server's error number, which tells a denied login
//! (try the next account) from everything else. So connections are opened with `mysql_async` and
//! then handed to diesel. The pool's manager is our own for one reason: a connection here knows the
//! generation of the credential it logged in with, which decides when it retires.

use std::{
    ops::{Deref, DerefMut},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use diesel_async::{AsyncMysqlConnection, SimpleAsyncConnection};
use mysql_async::{Conn, OptsBuilder, SslOpts};
use mysql_login::find_denial;
use secrecy::ExposeSecret;
use service_kit::credentials::{Candidate, CredentialSet};
use tokio::sync::watch;

use super::Connection;
use crate::store::{
    StoreError,
    sessions::{CountedSession, Sessions},
};

/// Age from which a connection of another candidate than the first is closed when it is idle: the first may
/// be let in by then, and a rotation waits for the sessions of the others to end. A rotation is reported as
/// stalled after a minute; a first candidate that stays dead costs a denied login per connection and time.
const FALLBACK_MAX_AGE: Duration = Duration::from_secs(15);

/// Milliseconds between probes of an idle connection, so that a dead peer is noticed.
const KEEPALIVE_MS: u32 = 30_000;

/// What statements mean must not depend on the server's settings. Each statement sees what is committed,
/// not what was when its transaction began: a batch of observations waits for the lock of its source and
/// must then see what the lock's holder wrote.
const SESSION_SETUP: &str = "SET NAMES utf8mb4; \
                             SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'; \
                             SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";

/// Whether and how the connection is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// The server's certificate must come from one of the roots in this PEM file, and no others.
    Required {
        /// The file, read at each login.
        ca_file: PathBuf,
    },
    /// Passwords may be read and answers changed on the way.
    Disabled,
}

/// A login that has begun.
struct Login {
    set: Arc<CredentialSet>,
    counted: CountedSession,
}

/// Opens connections with the latest credentials. Clones count their connections together.
#[derive(Clone)]
pub struct Opener {
    credentials: watch::Receiver<Arc<CredentialSet>>,
    tls: Tls,
    sessions: Arc<Sessions>,
}

impl Opener {
    /// Logs in with what `credentials` holds at the time of each login.
    #[must_use]
    pub fn new(credentials: watch::Receiver<Arc<CredentialSet>>, tls: Tls) -> Self {
        Self { credentials, tls, sessions: Arc::default() }
    }

    /// The generation that new connections log in with.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.credentials.borrow().generation
    }

    /// The credentials that new connections log in with.
    #[must_use]
    pub fn latest_credentials(&self) -> Arc<CredentialSet> {
        Arc::clone(&self.credentials.borrow())
    }

    /// Notices when the credentials change.
    #[must_use]
    pub fn credentials(&self) -> watch::Receiver<Arc<CredentialSet>> {
        self.credentials.clone()
    }

    /// The open connections, and the logins under way, by generation.
    #[must_use]
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// Logs in as the first candidate that is let in. A login that fails is repeated if other credentials
    /// have come since it began: its account may have been locked, or its server left, because of them.
    /// Each repetition needs another change, so there is an end.
    pub async fn open(&self) -> Result<Session, StoreError> {
        let mut login = self.begin_login();
        loop {
            let generation = login.counted.generation();
            let error = match self.log_in(login).await {
                Ok(session) => return Ok(session),
                Err(error) => error,
            };
            login = self.begin_login();
            if login.counted.generation() == generation {
                return Err(error);
            }
            tracing::debug!(generation, %error, "a login failed, repeating it with newer credentials");
        }
    }

    /// A login with the latest credentials. It is counted before they can be replaced, so whoever sees a
    /// newer generation in a report sees there all logins and connections of older ones.
    fn begin_login(&self) -> Login {
        let latest = self.credentials.borrow();
        Login { set: Arc::clone(&latest), counted: self.sessions.count(latest.generation) }
    }

    async fn log_in(&self, Login { set, counted }: Login) -> Result<Session, StoreError> {
        let mut denied = 0;
        for (index, candidate) in set.candidates.iter().enumerate() {
            match Conn::new(self.options(&set, candidate)).await {
                Ok(connection) => {
                    self.note_login(set.generation, index);
                    let connection = AsyncMysqlConnection::try_from(connection).await;
                    let mut connection = connection.map_err(|error| StoreError::Connect {
                        host: set.host.clone(),
                        port: set.port,
                        reason: error.to_string(),
                    })?;
                    connection.batch_execute(SESSION_SETUP).await?;
                    return Ok(Session { connection, counted, is_first_candidate: index == 0 });
                }
                Err(error) => {
                    denied = find_denial(&error).ok_or_else(|| StoreError::Connect {
                        host: set.host.clone(),
                        port: set.port,
                        reason: error.to_string(),
                    })?;
                    tracing::debug!(candidate = index, code = denied, "login denied");
                }
            }
        }
        // The server's message names the account, so only its number is passed on.
        Err(StoreError::Denied { candidates: set.candidates.len(), code: denied })
    }

    /// A login that ends after the credentials were replaced does not hide those with the new ones.
    fn note_login(&self, generation: u64, candidate: usize) {
        let latest = self.credentials.borrow();
        if latest.generation == generation {
            self.sessions.note_login(generation, candidate);
        }
    }

    /// Why a connection is not to be used again, if so.
    pub(in crate::store) fn find_retirement(
        &self,
        session: &Session,
        metrics: &Metrics,
    ) -> Option<&'static str> {
        if session.counted.generation() != self.generation() {
            Some("logged in with an older credential")
        } else if !session.is_first_candidate && metrics.age() >= FALLBACK_MAX_AGE {
            Some("logged in as a later candidate, too long ago")
        } else {
            None
        }
    }

    fn options(&self, set: &CredentialSet, candidate: &Candidate) -> OptsBuilder {
        let tls = match &self.tls {
            Tls::Required { ca_file } => Some(
                SslOpts::default()
                    .with_root_certs(vec![ca_file.clone().into()])
                    .with_disable_built_in_roots(true),
            ),
            Tls::Disabled => None,
        };
        OptsBuilder::default()
            .ip_or_hostname(set.host.clone())
            .tcp_port(set.port)
            .db_name(Some(set.database.clone()))
            .user(Some(candidate.username.clone()))
            .pass(Some(candidate.password.expose_secret()))
            .ssl_opts(tls)
            // A Unix socket would go round TLS and round the host that was asked for.
            .prefer_socket(false)
            .tcp_keepalive(Some(KEEPALIVE_MS))
            // Diesel keeps prepared statements itself, and expects the rows that an UPDATE matched.
            .stmt_cache_size(0)
            .client_found_rows(true)
    }
}

impl Manager for Opener {
    type Type = Session;
    type Error = StoreError;

    async fn create(&self) -> Result<Session, StoreError> {
        self.open().await
    }

    async fn recycle(&self, session: &mut Session, metrics: &Metrics) -> RecycleResult<StoreError> {
        // A connection that was opened by this very call is not recycled, so refusing an older
        // generation cannot loop.
        if let Some(reason) = self.find_retirement(session, metrics) {
            return Err(RecycleError::message(reason));
        }
        // Without this query, sessions that the server killed are handed out for ever: measured,
        // 870 failures of 2 900 requests without it, 5 (those in flight) with it. It leaves no transaction
        // open, whatever became of the last one.
        let checked = session.connection.batch_execute("ROLLBACK").await;
        checked.map_err(|error| RecycleError::Backend(error.into()))
    }
}

/// A pooled connection that knows which credential it logged in with.
pub struct Session {
    connection: Connection,
    counted: CountedSession,
    /// Whether the first candidate was let in.
    is_first_candidate: bool,
}

impl Session {
    /// The bare connection, no longer counted.
    pub fn into_connection(self) -> Connection {
        self.connection
    }
}

impl Deref for Session {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

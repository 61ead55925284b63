//! Where to log in, and how a login can fail.

use std::time::Duration;

use mysql_async::{Conn, DriverError, OptsBuilder};
use mysql_login::{
    ACCOUNT_BLOCKED_MARIADB, ACCOUNT_BLOCKED_MYSQL, ACCOUNT_LOCKED_MARIADB, ACCOUNT_LOCKED_MYSQL,
    NO_RIGHT_ON_SCHEMA, PASSWORD_EXPIRED, PASSWORD_MUST_BE_SET, PLUGIN_CANNOT_LOAD, find_denial,
    find_restriction,
};
use secrecy::ExposeSecret;
use service_kit::credentials::Candidate;

use super::{Authorities, NameError, SchemaName};
use crate::rotation::place::Place;

/// Time in which a login is over: connection, TLS, password and the session's settings.
pub(super) const LOGIN_DEADLINE: Duration = Duration::from_secs(5);

/// Whether and how logins are encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// The server's certificate must be for its host and come from one of these roots, and no others.
    Required(Authorities),
    /// Passwords and data may be read and changed on the way.
    Disabled,
}

/// The database server, and the schema of one portal on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The schema that the portal's accounts may use.
    pub schema: SchemaName,
    /// Whether and how logins are encrypted.
    pub tls: Tls,
}

impl Server {
    /// The same way of connecting to another place.
    pub fn at(&self, place: &Place) -> Result<Self, NameError> {
        let schema = SchemaName::new(&place.database)?;
        Ok(Self { host: place.host.clone(), port: place.port, schema, tls: self.tls.clone() })
    }
}

/// Why nobody is logged in. Never shows a password.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The server refuses this credential; or, in the same words, a login without TLS.
    #[error("the server refuses {username} (error {code}{})", describe_denial(*.code))]
    Denied {
        /// As whom.
        username: String,
        /// The server's number of the error, or the client's.
        code: u16,
    },
    /// The server accepts this credential, and the account may still not be used as pods use it. An
    /// account of ours is put right by making it again.
    #[error("{} (error {code})", describe_restriction(.username, *.code))]
    Restricted {
        /// As whom.
        username: String,
        /// The server's number of the error.
        code: u16,
    },
    /// Nothing is known about the credential: no connection, no valid certificate, no answer in time.
    #[error("failed to reach the database server {host}:{port}: {reason}")]
    Unreachable {
        /// Where.
        host: String,
        /// Where.
        port: u16,
        /// What the network or TLS says.
        reason: String,
    },
    /// The server answers, but something else than the credential is wrong.
    #[error("failed to log in to {host}:{port} as {username}: {reason}")]
    Other {
        /// Where.
        host: String,
        /// Where.
        port: u16,
        /// As whom.
        username: String,
        /// What the server or the protocol says. The server knows no password to quote.
        reason: String,
    },
}

impl LoginError {
    /// Whether the server knows the credential and refuses it for a lock, not for the password.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Denied { code: ACCOUNT_LOCKED_MYSQL | ACCOUNT_LOCKED_MARIADB, .. })
    }

    /// Whether the server refuses every password of this account, after too many wrong ones.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        matches!(self, Self::Denied { code: ACCOUNT_BLOCKED_MYSQL | ACCOUNT_BLOCKED_MARIADB, .. })
    }

    /// What somebody has to do about the account on the server, where that is known: the credential
    /// itself need not be wrong.
    #[must_use]
    pub fn advice(&self) -> Option<String> {
        let is_known = self.is_locked() || self.is_blocked();
        (is_known || matches!(self, Self::Restricted { .. })).then(|| self.to_string())
    }

    pub(super) fn new(server: &Server, candidate: &Candidate, error: &mysql_async::Error) -> Self {
        let username = candidate.username.clone();
        if let Some(code) = find_denial(error) {
            return Self::Denied { username, code };
        }
        if let Some(code) = find_restriction(error) {
            return Self::Restricted { username, code };
        }
        match error {
            mysql_async::Error::Io(_)
            | mysql_async::Error::Driver(DriverError::ConnectionClosed) => {
                Self::unreachable(server, error.to_string())
            }
            error => Self::Other {
                host: server.host.clone(),
                port: server.port,
                username,
                reason: error.to_string(),
            },
        }
    }

    pub(super) fn late(server: &Server) -> Self {
        Self::unreachable(server, format!("no answer within {} s", LOGIN_DEADLINE.as_secs()))
    }

    fn unreachable(server: &Server, reason: String) -> Self {
        Self::Unreachable { host: server.host.clone(), port: server.port, reason }
    }
}

fn describe_denial(code: u16) -> &'static str {
    match code {
        ACCOUNT_LOCKED_MYSQL | ACCOUNT_LOCKED_MARIADB => {
            ", the account is locked; ALTER USER … ACCOUNT UNLOCK lifts that"
        }
        ACCOUNT_BLOCKED_MYSQL => {
            ", the account is blocked after too many wrong passwords; ALTER USER … ACCOUNT UNLOCK \
             lifts that"
        }
        ACCOUNT_BLOCKED_MARIADB => {
            ", the account is blocked after too many wrong passwords; FLUSH PRIVILEGES or \
             mariadb-admin flush-privileges lifts that"
        }
        PLUGIN_CANNOT_LOAD => {
            ", there is no such account, or it has an authentication plugin other than \
             caching_sha2_password and mysql_native_password"
        }
        _ => "",
    }
}

fn describe_restriction(username: &str, code: u16) -> String {
    match code {
        NO_RIGHT_ON_SCHEMA => format!(
            "the account {username} has no right on its schema; grant what it needs on that schema"
        ),
        PASSWORD_EXPIRED | PASSWORD_MUST_BE_SET => format!(
            "the password of {username} has expired; set another one, and ALTER USER … PASSWORD \
             EXPIRE NEVER keeps that from happening again"
        ),
        _ => format!("the account {username} may not read the table hardware; grant SELECT on it"),
    }
}

/// Whether a session begins in the portal's schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// As the pods log in.
    InSchema,
    /// As an administrator does, who can clean up when the schema is gone.
    Anywhere,
}

pub(super) async fn connect(
    server: &Server,
    candidate: &Candidate,
    start: Start,
) -> Result<Conn, mysql_async::Error> {
    let options = match &server.tls {
        Tls::Required(authorities) => authorities.options(),
        Tls::Disabled => OptsBuilder::default(),
    };
    let schema = (start == Start::InSchema).then(|| server.schema.as_str());
    let options = options
        .ip_or_hostname(server.host.clone())
        .tcp_port(server.port)
        .db_name(schema)
        .user(Some(candidate.username.clone()))
        .pass(Some(candidate.password.expose_secret()))
        // A Unix socket would go round TLS and round the host that was asked for.
        .prefer_socket(false)
        .stmt_cache_size(0);
    Conn::new(options).await
}

#[cfg(test)]
mod tests {
    use mysql_async::{DriverError, Error, ServerError};
    use service_kit::credentials::Candidate;

    use super::{LoginError, Server, Tls};
    use crate::rotation::mysql::SchemaName;

    fn login_error(code: u16, message: &str) -> LoginError {
        let (state, message) = ("HY000".to_owned(), message.to_owned());
        classify(&Error::Server(ServerError { code, message, state }))
    }

    fn classify(error: &Error) -> LoginError {
        let server = Server {
            host: "db.example".to_owned(),
            port: 3306,
            schema: SchemaName::new("hardware").expect("a name"),
            tls: Tls::Disabled,
        };
        let candidate = Candidate { username: "app".to_owned(), password: "s3cret".into() };
        LoginError::new(&server, &candidate, error)
    }

    #[test]
    fn what_the_server_says_to_a_wrong_or_locked_credential_is_denied() {
        for (code, is_locked) in [(1045, false), (1698, false), (3118, true), (4151, true)] {
            let error = login_error(code, "Access denied for user 'app'@'10.0.0.7'");
            assert!(matches!(error, LoginError::Denied { code: denied, .. } if denied == code));
            assert_eq!(error.is_locked(), is_locked);
        }
        assert_eq!(
            login_error(4151, "").to_string(),
            "the server refuses app (error 4151, the account is locked; ALTER USER … ACCOUNT UNLOCK \
             lifts that)"
        );
    }

    #[test]
    fn an_account_that_is_blocked_says_nothing_of_its_password_and_who_lifts_it() {
        for (code, lift) in [(3955, "ACCOUNT UNLOCK"), (4150, "FLUSH PRIVILEGES")] {
            let error = login_error(code, "blocked");
            assert!(matches!(error, LoginError::Denied { code: denied, .. } if denied == code));
            assert!(error.is_blocked() && !error.is_locked());
            let advice = error.advice().expect("advice");
            assert!(advice.contains("too many wrong passwords") && advice.contains(lift));
        }
        assert_eq!(login_error(1045, "Access denied").advice(), None, "correct the source");
    }

    #[test]
    fn an_account_that_may_not_be_used_is_told_from_a_wrong_password_and_a_dead_server() {
        for (code, advice) in
            [(1044, "grant what it needs"), (1862, "set another one"), (1820, "EXPIRE NEVER")]
        {
            let error =
                login_error(code, "Access denied for user 'app'@'%' to database 'hardware'");
            assert!(matches!(error, LoginError::Restricted { code: found, .. } if found == code));
            assert!(error.advice().expect("advice").contains(advice), "{error}");
            assert!(error.to_string().contains(&format!("(error {code})")), "{error}");
        }
    }

    /// MySQL asks so for accounts that do not exist, too: no pod can use such a login.
    #[test]
    fn a_plugin_that_the_driver_lacks_is_denied() {
        let name = "sha256_password".to_owned();
        let error = classify(&Error::Driver(DriverError::UnknownAuthPlugin { name }));
        assert!(matches!(error, LoginError::Denied { code: 2059, .. }), "{error}");
        assert!(error.to_string().contains("there is no such account, or"), "{error}");
    }

    #[test]
    fn an_unknown_schema_is_not_denied() {
        let error = login_error(1049, "Unknown database 'hardware'");
        assert!(matches!(error, LoginError::Other { .. }));
        assert!(error.to_string().contains("Unknown database"), "{error}");
    }
}

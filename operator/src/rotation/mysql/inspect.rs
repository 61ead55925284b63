//! What changes nothing: proofs that a credential works or is dead, and who is logged in.

use std::collections::BTreeMap;

use mysql_async::Value;
use service_kit::credentials::Candidate;

use super::{
    Difference, Flavour, Rights, Server, Session, SqlError, Tls, login, quote::literal, rights,
    server::LoginError, session::bounded,
};

/// The server's number for a table that does not exist.
const NO_SUCH_TABLE: u16 = 1146;

/// The server's numbers for a table, a column or a routine that an account may not use.
const NO_RIGHT_ON_TABLE: [u16; 3] = [1142, 1143, 1370];

/// The user that both servers list for a connection that has not authenticated yet.
const UNAUTHENTICATED: &str = "unauthenticated user";

/// What a verified account could read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableState {
    /// The table `hardware`.
    Readable,
    /// There is no such table: the first migration has not run yet.
    NotMigrated,
}

/// What is known of a credential that works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Whether there is something to read.
    pub contents: TableState,
    /// Whether it may create other accounts, which no account of pods should.
    pub may_create_users: bool,
}

/// Why pods should not be given a credential.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The login was refused, the account may not be used, or the server could not be asked.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// TLS is required, and the server says that this session has none.
    #[error("the session of {username} is not encrypted")]
    NotEncrypted {
        /// Whose session.
        username: String,
    },
    /// Its rights are not those that were issued.
    #[error("the account {username} {difference}")]
    Rights {
        /// Whose rights.
        username: String,
        /// What is too much or too little.
        difference: Difference,
    },
    /// A query failed.
    #[error(transparent)]
    Sql(#[from] SqlError),
}

/// Logs in as pods do, and does what pods do: the session is encrypted, its rights are those of
/// `issued` (any, if none: accounts that others made), and a row can be read.
pub async fn verify(
    server: &Server,
    candidate: &Candidate,
    issued: Option<Rights>,
) -> Result<Verified, VerifyError> {
    let mut session = login(server, candidate).await?;
    let verified = bounded(verify_session(&mut session, issued)).await;
    let verified = verified
        .unwrap_or_else(|_| Err(SqlError::Late { purpose: "verify an account".to_owned() }.into()));
    session.close().await;
    verified
}

async fn verify_session(
    session: &mut Session,
    issued: Option<Rights>,
) -> Result<Verified, VerifyError> {
    let username = session.username().to_owned();
    if session.server.tls != Tls::Disabled && !is_encrypted(session).await? {
        return Err(VerifyError::NotEncrypted { username });
    }
    if let Some(issued) = issued
        && let Some(difference) = grants_are_as_issued(session, issued).await?
    {
        return Err(VerifyError::Rights { username, difference });
    }
    let may_create_users = may_create_users(session).await?;
    let read: Result<Vec<i64>, _> =
        session.rows("read a row of the table hardware", "SELECT id FROM hardware LIMIT 1").await;
    let contents = match read {
        Ok(_) => TableState::Readable,
        Err(SqlError::Refused { code: NO_SUCH_TABLE, .. }) => TableState::NotMigrated,
        Err(SqlError::Refused { code, .. }) if NO_RIGHT_ON_TABLE.contains(&code) => {
            return Err(LoginError::Restricted { username, code }.into());
        }
        Err(error) => return Err(error.into()),
    };
    Ok(Verified { contents, may_create_users })
}

/// The negative test: whether the server *refuses* a credential. A server that does not answer, or
/// answers something else, is an error and no proof; nor is an account that is blocked for a while after
/// too many wrong passwords, since the server then looks at no password. A login without TLS to an account that must use
/// it is refused like a wrong password (measured, on MariaDB), so `server` must have the TLS setting
/// under which the credential once worked.
pub async fn is_refused(server: &Server, candidate: &Candidate) -> Result<bool, LoginError> {
    match login(server, candidate).await {
        Ok(session) => {
            session.close().await;
            Ok(false)
        }
        Err(LoginError::Restricted { .. }) => Ok(false),
        Err(error @ LoginError::Denied { .. }) if !error.is_blocked() => Ok(true),
        Err(error) => Err(error),
    }
}

/// Compares what was granted to the session's account with a constant list; none if it is the same.
pub async fn grants_are_as_issued(
    session: &mut Session,
    issued: Rights,
) -> Result<Option<Difference>, SqlError> {
    let lines = issued_grants(session).await?;
    let schema = session.server.schema.as_str();
    Ok(rights::compare(issued, schema, &session.dialect, &lines).difference())
}

/// Whether a session may create accounts: the root must, in every mode but `Follow`, and no account
/// of pods should.
pub async fn may_create_users(session: &mut Session) -> Result<bool, SqlError> {
    Ok(rights::has_global("CREATE USER", &own_grants(session).await?))
}

/// Who is logged in, and who is about to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sessions {
    /// With an entry for each account that was asked for.
    pub by_user: BTreeMap<String, Vec<SessionInfo>>,
    /// Connections that have not authenticated yet: each may become a session of any account.
    pub unauthenticated: Vec<SessionInfo>,
}

/// A session of somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// The server's number of it.
    pub id: u64,
    /// Where it comes from, as `address:port`.
    pub host: String,
}

/// The sessions of accounts. Those on read replicas or behind a proxy are invisible.
pub async fn sessions_of(root: &mut Session, users: &[&str]) -> Result<Sessions, SqlError> {
    let work = async {
        if !rights::has_global("PROCESS", &own_grants(root).await?) {
            return Err(SqlError::SessionsHidden);
        }
        let by_user = users.iter().map(|user| ((*user).to_owned(), Vec::new())).collect();
        let mut sessions = Sessions { by_user, unauthenticated: Vec::new() };
        let wanted: Vec<&str> = users.iter().copied().chain([UNAUTHENTICATED]).collect();
        for (user, session) in list_sessions(root, &wanted).await? {
            match sessions.by_user.get_mut(&user) {
                Some(of_user) => of_user.push(session),
                None => sessions.unauthenticated.push(session),
            }
        }
        Ok(sessions)
    };
    let done = bounded(work).await;
    root.finish("list sessions", done)
}

async fn list_sessions(
    root: &mut Session,
    users: &[&str],
) -> Result<Vec<(String, SessionInfo)>, SqlError> {
    const PURPOSE: &str = "list sessions";
    match root.flavour() {
        Flavour::MariaDb => {
            let names: Vec<String> = users.iter().map(|user| literal(user)).collect();
            let sql = format!(
                "SELECT user, id, host FROM information_schema.PROCESSLIST WHERE user IN ({}) \
                 ORDER BY id",
                names.join(", ")
            );
            let rows: Vec<(String, u64, String)> = root.rows(PURPOSE, &sql).await?;
            Ok(rows.into_iter().map(|(user, id, host)| (user, SessionInfo { id, host })).collect())
        }
        // It tells what others are doing, too, which is not kept. But the same table cannot be read while
        // anybody runs a statement with characters of four bytes (error 3854, measured on 9.7), and that
        // of performance_schema is empty where that is off.
        Flavour::MySql => {
            let rows: Vec<Process> = root.rows(PURPOSE, "SHOW PROCESSLIST").await?;
            let of_users = rows.into_iter().filter(|(_, user, ..)| users.contains(&user.as_str()));
            Ok(of_users.map(|(id, user, host, ..)| (user, SessionInfo { id, host })).collect())
        }
    }
}

/// Id, user, host, database, command, time, state and statement.
type Process = (u64, String, String, Value, Value, Value, Value, Value);

/// How many logins the server has refused since it started, as MariaDB counts them; MySQL does not.
pub async fn denied_logins(session: &mut Session) -> Result<Option<u64>, SqlError> {
    let rows: Vec<(String, u64)> = session
        .rows("count denied logins", "SHOW GLOBAL STATUS LIKE 'Access_denied_errors'")
        .await?;
    Ok(rows.first().map(|(_, count)| *count))
}

/// What was granted to the session's account. MySQL's plain `SHOW GRANTS` adds the roles that every account
/// has (`mandatory_roles`), and the rights of those that are active (`activate_all_roles_on_login`).
async fn issued_grants(session: &mut Session) -> Result<Vec<String>, SqlError> {
    if session.flavour() == Flavour::MariaDb {
        return own_grants(session).await;
    }
    let own: Vec<String> =
        session.rows("ask for the session's account", "SELECT CURRENT_USER()").await?;
    let (user, host) = own.first().and_then(|own| own.rsplit_once('@')).unwrap_or_default();
    let sql = format!("SHOW GRANTS FOR {}@{}", literal(user), literal(host));
    session.rows("read what was granted to the session's account", &sql).await
}

/// What the session may do, with its roles.
async fn own_grants(session: &mut Session) -> Result<Vec<String>, SqlError> {
    session.rows("read the session's own rights", "SHOW GRANTS").await
}

async fn is_encrypted(session: &mut Session) -> Result<bool, SqlError> {
    let rows: Vec<(String, String)> = session
        .rows("ask for the session's cipher", "SHOW SESSION STATUS LIKE 'Ssl_cipher'")
        .await?;
    Ok(rows.iter().any(|(_, cipher)| !cipher.is_empty()))
}

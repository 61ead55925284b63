//! One connection: it is thrown away unless each answer was read to its end.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    time::Duration,
};

use mysql_async::{
    Conn, Row,
    prelude::{FromRow, Queryable},
};
use secrecy::ExposeSecret;
use service_kit::credentials::Candidate;

use super::{
    AccountName, Difference, Flavour,
    dialect::Dialect,
    quote::literal,
    rights::parse_roles,
    server::{LOGIN_DEADLINE, LoginError, Server, Start, connect},
    statement::Statement,
};
use crate::cluster::client::Fence;

/// Seconds to wait for another operator that works on the same portal's accounts.
const LOCK_WAIT_S: u32 = 10;

/// Time for one operation with all its statements, the wait for the lock included.
const OPERATION_DEADLINE: Duration = Duration::from_secs(20);

/// Seconds after which the server ends a session that says nothing, and gives its lock back. A machine
/// that loses its power closes no connection, and by default the server would wait for eight hours.
const IDLE_S: u32 = 60;

/// The servers' number for a password that their policy refuses.
const PASSWORD_REFUSED: u16 = 1819;

/// Why a statement was not carried out. Never shows a password.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// The server's answer is an error.
    #[error("failed to {purpose}: the server answered error {code}{detail}")]
    Refused {
        /// What was to be done.
        purpose: String,
        /// The server's number of the error.
        code: u16,
        /// The server's message, unless the statement holds a password: messages quote statements.
        detail: String,
    },
    /// The server's own policy refuses the password, as MySQL's `validate_password` does. It may take
    /// another one: a dictionary refuses words that a random text holds by chance.
    #[error(
        "failed to {purpose}: the server's password policy refuses the password (error \
         {PASSWORD_REFUSED}); it has to accept 32 characters with 4 of each class (validate_password.*)"
    )]
    PasswordRefused {
        /// What was to be done.
        purpose: String,
    },
    /// Another operator may lead by now, and change the same accounts.
    #[error("this operator is no longer the leader, so it changes no account")]
    NotLeader,
    /// The connection broke, or was given up earlier.
    #[error("failed to {purpose}: {reason}")]
    Connection {
        /// What was to be done.
        purpose: String,
        /// What the network or the protocol says.
        reason: String,
    },
    /// No answer in time. The server may still carry the statement out, but under the portal's lock.
    #[error("failed to {purpose}: no answer within {} s", OPERATION_DEADLINE.as_secs())]
    Late {
        /// What was to be done.
        purpose: String,
    },
    /// Another operator holds the portal's lock.
    #[error(
        "failed to take the lock {lock} within {LOCK_WAIT_S} s: another operator changes the same \
         accounts"
    )]
    Busy {
        /// Name of the lock.
        lock: String,
    },
    /// `GRANT` and `REVOKE` succeeded and the rights are still others.
    #[error("the account {account} cannot be given its rights: it {difference}")]
    Rights {
        /// Whose.
        account: AccountName,
        /// What is still wrong.
        difference: Difference,
    },
    /// Without the right PROCESS an account sees its own sessions only, and would find that nobody
    /// uses the old one.
    #[error(
        "the root account lacks the right PROCESS, so sessions of other accounts are invisible to it"
    )]
    SessionsHidden,
    /// The login that an operation needs besides its session failed.
    #[error(transparent)]
    Login(#[from] LoginError),
}

impl SqlError {
    /// Whether the same operation may succeed with another password.
    #[must_use]
    pub fn refuses_password(&self) -> bool {
        matches!(self, Self::PasswordRefused { .. })
    }
}

/// Somebody who is logged in.
pub struct Session {
    pub(super) server: Server,
    pub(super) dialect: Dialect,
    username: String,
    /// Passed by every statement that changes something.
    fence: Fence,
    /// None once an answer was not read to its end: the next statement would read it.
    connection: Option<Conn>,
}

impl fmt::Debug for Session {
    /// Without the connection, whose options hold the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("host", &self.server.host)
            .field("port", &self.server.port)
            .field("username", &self.username)
            .field("dialect", &self.dialect)
            .finish_non_exhaustive()
    }
}

impl Session {
    pub(super) async fn open(
        server: &Server,
        candidate: &Candidate,
        start: Start,
        fence: &Fence,
    ) -> Result<Self, LoginError> {
        let opened = async {
            let mut connection = connect(server, candidate, start).await?;
            let dialect = prepare(&mut connection).await?;
            Ok::<_, mysql_async::Error>((connection, dialect))
        };
        let opened = tokio::time::timeout(LOGIN_DEADLINE, opened).await;
        let opened = opened.map_err(|_| LoginError::late(server))?;
        let (connection, dialect) =
            opened.map_err(|error| LoginError::new(server, candidate, &error))?;
        Ok(Self {
            server: server.clone(),
            dialect,
            username: candidate.username.clone(),
            fence: fence.clone(),
            connection: Some(connection),
        })
    }

    /// Whose SQL the server speaks.
    #[must_use]
    pub fn flavour(&self) -> Flavour {
        self.dialect.flavour
    }

    /// As whom.
    #[must_use]
    pub fn username(&self) -> &str {
        &self.username
    }

    /// Closes the session in order. A session that is dropped is closed as well, at some later time.
    pub async fn close(mut self) {
        if let Some(connection) = self.connection.take() {
            let closed = tokio::time::timeout(LOGIN_DEADLINE, connection.disconnect()).await;
            if !matches!(closed, Ok(Ok(()))) {
                tracing::debug!(username = self.username, "a session ended without goodbye");
            }
        }
    }

    /// Carries out statements that change something, one after the other. Each passes the leader's fence,
    /// as the lead can be lost between two of them.
    pub(super) async fn execute(&mut self, statements: &[Statement]) -> Result<(), SqlError> {
        for statement in statements {
            if !self.fence.is_open() {
                return Err(SqlError::NotLeader);
            }
            let mut connection = self.take(&statement.purpose)?;
            let done = connection.query_drop(statement.sql.expose_secret()).await;
            self.keep(connection, &done);
            done.map_err(|error| failure(&statement.purpose, &error, statement.has_secret))?;
        }
        Ok(())
    }

    /// All rows of a query.
    pub(super) async fn rows<T>(&mut self, purpose: &str, sql: &str) -> Result<Vec<T>, SqlError>
    where
        T: FromRow + Send + 'static,
    {
        let mut connection = self.take(purpose)?;
        let rows: Result<Vec<Row>, _> = connection.query(sql).await;
        self.keep(connection, &rows);
        let rows = rows.map_err(|error| failure(purpose, &error, false))?;
        // `query::<T>` panics at a row of another shape, and its message would show the row.
        let rows = rows.into_iter().map(mysql_async::from_row_opt).collect::<Result<_, _>>();
        rows.map_err(|_| SqlError::Connection {
            purpose: purpose.to_owned(),
            reason: "the server's answer has another shape than expected".to_owned(),
        })
    }

    /// Takes the lock of a portal's accounts. It ends with the session at the latest.
    pub(super) async fn lock(&mut self, name: &AccountName) -> Result<(), SqlError> {
        let lock = name.lock_name();
        let sql = format!("SELECT GET_LOCK({}, {LOCK_WAIT_S})", literal(&lock));
        let granted: Vec<Option<i64>> =
            self.rows("take the lock of the portal's accounts", &sql).await?;
        if granted == [Some(1)] { Ok(()) } else { Err(SqlError::Busy { lock }) }
    }

    /// Gives the lock back; a session that cannot say so is given up, which does the same.
    pub(super) async fn unlock(&mut self, name: &AccountName) {
        let sql = format!("SELECT RELEASE_LOCK({})", literal(&name.lock_name()));
        let released: Result<Vec<Option<i64>>, _> =
            self.rows("give the lock of the portal's accounts back", &sql).await;
        if released.is_err() {
            self.connection = None;
        }
    }

    /// Carries out statements under the lock of a portal's accounts.
    pub(super) async fn execute_locked(
        &mut self,
        name: &AccountName,
        statements: &[Statement],
    ) -> Result<(), SqlError> {
        let purpose = statements.first().map_or("do nothing", |first| &first.purpose);
        let work = async {
            self.lock(name).await?;
            let done = self.execute(statements).await;
            self.unlock(name).await;
            done
        };
        let done = bounded(work).await;
        self.finish(purpose, done)
    }

    /// What came of an operation that had [`OPERATION_DEADLINE`]; a session that was late is given up,
    /// and with it the lock.
    pub(super) fn finish<T>(
        &mut self,
        purpose: &str,
        done: Result<Result<T, SqlError>, tokio::time::error::Elapsed>,
    ) -> Result<T, SqlError> {
        done.unwrap_or_else(|_| {
            self.connection = None;
            Err(SqlError::Late { purpose: purpose.to_owned() })
        })
    }

    /// The connection, for one statement. If the caller's future is dropped before it gives the
    /// connection back, the connection is dropped with it.
    fn take(&mut self, purpose: &str) -> Result<Conn, SqlError> {
        self.connection.take().ok_or_else(|| SqlError::Connection {
            purpose: purpose.to_owned(),
            reason: "the session was given up".to_owned(),
        })
    }

    fn keep<T>(&mut self, connection: Conn, outcome: &Result<T, mysql_async::Error>) {
        if !outcome.as_ref().is_err_and(mysql_async::Error::is_fatal) {
            self.connection = Some(connection);
        }
    }
}

/// Learns what the server is, and sets the session to what [`super::quote`] relies on.
async fn prepare(connection: &mut Conn) -> Result<Dialect, mysql_async::Error> {
    let variables = read_variables(connection).await?;
    let is = |name: &str, value: &str| variables.get(name).is_some_and(|found| found == value);
    // MariaDB puts its name there; MySQL has only a number.
    let is_mariadb = variables.get("version").is_some_and(|version| version.contains("MariaDB"));
    let flavour = if is_mariadb { Flavour::MariaDb } else { Flavour::MySql };
    let mode = match flavour {
        Flavour::MySql => "STRICT_ALL_TABLES",
        // Without it, GRANT would create an account that is missing, without a password. MySQL has
        // neither that behaviour nor the mode any more.
        Flavour::MariaDb => "STRICT_ALL_TABLES,NO_AUTO_CREATE_USER",
    };
    let mandatory_roles = match flavour {
        // SHOW VARIABLES cuts what is long.
        Flavour::MySql => connection
            .query_first::<Option<String>, _>("SELECT @@GLOBAL.mandatory_roles")
            .await?
            .flatten()
            .map(|roles| parse_roles(&roles))
            .unwrap_or_default(),
        Flavour::MariaDb => BTreeSet::new(),
    };
    connection
        .query_drop(format!(
            "SET SESSION sql_mode = '{mode}', SESSION sql_quote_show_create = 1, \
             SESSION wait_timeout = {IDLE_S}"
        ))
        .await?;
    Ok(Dialect {
        flavour,
        folds_schema_names: !is("lower_case_table_names", "0"),
        // MariaDB has no such variable.
        partial_revokes: is("partial_revokes", "ON"),
        mandatory_roles,
    })
}

async fn read_variables(
    connection: &mut Conn,
) -> Result<HashMap<String, String>, mysql_async::Error> {
    let rows: Vec<Row> = connection
        .query(
            "SHOW VARIABLES WHERE Variable_name IN \
             ('version', 'lower_case_table_names', 'partial_revokes')",
        )
        .await?;
    Ok(rows.into_iter().filter_map(|row| mysql_async::from_row_opt(row).ok()).collect())
}

fn failure(purpose: &str, error: &mysql_async::Error, has_secret: bool) -> SqlError {
    let purpose = purpose.to_owned();
    match error {
        mysql_async::Error::Server(error) if has_secret && error.code == PASSWORD_REFUSED => {
            SqlError::PasswordRefused { purpose }
        }
        mysql_async::Error::Server(error) => SqlError::Refused {
            purpose,
            code: error.code,
            detail: if has_secret { String::new() } else { format!(": {}", error.message) },
        },
        error => SqlError::Connection { purpose, reason: error.to_string() },
    }
}

/// Runs an operation for as long as an operation may take.
pub(super) async fn bounded<F: Future>(
    operation: F,
) -> Result<F::Output, tokio::time::error::Elapsed> {
    tokio::time::timeout(OPERATION_DEADLINE, operation).await
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use mysql_async::{Error, ServerError};

    use super::{Dialect, Fence, Flavour, Session, SqlError, failure};
    use crate::rotation::mysql::{
        AccountName, SchemaName, Server, Slot, Tls, statement::lock_account,
    };

    /// A session whose connection is gone: whatever is sent fails.
    fn session(fence: &Fence) -> Session {
        Session {
            server: Server {
                host: "db.example".to_owned(),
                port: 3306,
                schema: SchemaName::new("hardware").expect("a name"),
                tls: Tls::Disabled,
            },
            dialect: Dialect {
                flavour: Flavour::MySql,
                folds_schema_names: false,
                partial_revokes: false,
                mandatory_roles: BTreeSet::new(),
            },
            username: "admin".to_owned(),
            fence: fence.clone(),
            connection: None,
        }
    }

    #[tokio::test]
    async fn a_statement_is_sent_only_while_the_fence_is_open() {
        let name = AccountName::for_portal("0a1b2c3d-4e5f-4607-8899-aabbccddeeff", Slot::A);
        let lock = [lock_account(Flavour::MySql, &name.expect("a uid"))];
        let fence = Fence::always_open();
        let mut session = session(&fence);
        let sent = session.execute(&lock).await;
        assert!(matches!(sent, Err(SqlError::Connection { .. })), "{sent:?}");
        fence.close();
        let refused = session.execute(&lock).await.expect_err("another one may lead");
        assert!(matches!(refused, SqlError::NotLeader), "{refused:?}");
        assert!(refused.to_string().contains("no longer the leader"), "{refused}");
    }

    #[test]
    fn a_password_that_the_policy_refuses_is_told_from_other_errors_and_not_shown() {
        let refused = Error::Server(ServerError {
            code: 1819,
            message: "Your password 's3cret' does not satisfy the policy".to_owned(),
            state: "HY000".to_owned(),
        });
        let error = failure("set the password of x", &refused, true);
        assert!(error.refuses_password(), "{error:?}");
        assert!(error.to_string().contains("password policy"), "{error}");
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        assert!(!failure("set the password of x", &syntax_error(), true).refuses_password());
    }

    fn syntax_error() -> Error {
        Error::Server(ServerError {
            code: 1064,
            message: "the right syntax to use near 's3cret'".to_owned(),
            state: "42000".to_owned(),
        })
    }

    #[test]
    fn a_message_that_may_quote_a_password_is_not_passed_on() {
        let error = failure("set the password of hw_0a1b2c3d4e5f46078899_a", &syntax_error(), true);
        assert_eq!(
            error.to_string(),
            "failed to set the password of hw_0a1b2c3d4e5f46078899_a: the server answered error 1064"
        );
        assert!(!format!("{error:?}").contains("s3cret"));
    }

    #[test]
    fn a_message_to_an_open_statement_is_passed_on() {
        let error = failure("lock the account x", &syntax_error(), false);
        assert!(error.to_string().ends_with("near 's3cret'"), "{error}");
    }
}

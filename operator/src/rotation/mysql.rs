//! The accounts on the database server: all of the operator's SQL, for MySQL (8.0.19 and later) and MariaDB 10.11.
//!
//! The operator logs in as the *root* of a portal's source and makes accounts for the pods, with
//! rights from a constant list, on one schema. The root needs CREATE USER, PROCESS, SELECT on the
//! schema `mysql` (for `SHOW GRANTS FOR`, and to look for an account) and, with GRANT OPTION, the rights
//! that it passes on; the master user of RDS has them all. Every change passes the leader's fence, may be
//! repeated, and is made under a lock of the portal's accounts, so that two operators never interleave.
//!
//! # Where passwords can be seen
//! A password is part of a statement, so the server's own records may hold it. MySQL writes hashes
//! to its binary log and `<secret>` to its general log. MariaDB (measured, 10.11) writes statements
//! as they are to the binary log, the general log and the slow query log; whoever reads those, or
//! the process list in the moment of the change, can read the password. Messages of the server quote
//! statements, so they are left out of our errors where a statement has a password.
//!
//! # Measured on MariaDB 10.11
//! | what | outcome |
//! |---|---|
//! | login to a locked account with its password | error 4151, not counted in `Access_denied_errors` |
//! | login to a locked account with a wrong password | error 1045, counted |
//! | login to an account that does not exist | error 1045 (22 of 30 names) or 1698 (8), by its name; counted |
//! | login without TLS, with the right password, where the account or the server requires TLS | error 1045, counted |
//! | login with the second of two passwords | let in, not counted |
//! | login to an account that is blocked (`max_password_errors`), with any password | error 4150; `ALTER USER` and `FLUSH PRIVILEGES` lift the block |
//! | login into a schema without any right on it, whether it exists or not | error 1044 |
//! | login into a schema that is gone, with rights on it | error 1049 |
//! | login with an expired password | let in, and error 1820 to each statement |
//! | a connection that has not said who it is, in the process list | of `unauthenticated user` |
//! | a session during `ACCOUNT LOCK`, a new password, `DROP USER` | goes on |
//!
//! # Measured on MySQL 9.7
//! As above, except that every login that is not let in is counted, in `Aborted_connects` alone, and:
//!
//! | what | outcome |
//! |---|---|
//! | login to a locked account with its password | error 3118 |
//! | login to an account that is blocked (`FAILED_LOGIN_ATTEMPTS`), locked or not, with any password | error 3955; `ACCOUNT UNLOCK` and `FAILED_LOGIN_ATTEMPTS` lift the block, `ACCOUNT LOCK` does not |
//! | login with an expired password | error 1862 |
//! | `ALTER USER IF EXISTS … ACCOUNT LOCK` without such an account, with `validate_password` | error 1819 |
//! | `SHOW GRANTS FOR` an account | leaves out mandatory roles, unless they were granted to it; `REVOKE` of those is error 3628 |
//! | login to an account that does not exist | error 1045, or a request for `sha256_password`, by its name; a driver that lacks that gives up ([`mysql_login::find_denial`]) |

mod authorities;
mod dialect;
mod inspect;
mod name;
mod password;
mod provision;
mod quote;
mod rights;
mod server;
mod session;
mod statement;

pub use self::{
    authorities::Authorities,
    dialect::Flavour,
    inspect::{
        SessionInfo, Sessions, TableState, Verified, VerifyError, denied_logins,
        grants_are_as_issued, is_refused, may_create_users, sessions_of, verify,
    },
    name::{AccountName, NameError, SchemaName, Slot},
    password::Password,
    provision::{
        discard_old_password, drop_account, ensure_application_account, ensure_migration_account,
        lock_account, retain_password,
    },
    rights::{Difference, Rights},
    server::{LoginError, Server, Tls},
    session::{Session, SqlError},
};

use service_kit::credentials::Candidate;

use self::server::Start;
use crate::cluster::client::Fence;

/// Logs in as the pods do: into the portal's schema.
pub async fn login(server: &Server, candidate: &Candidate) -> Result<Session, LoginError> {
    // Pods change no accounts, and neither does whoever tries their login.
    Session::open(server, candidate, Start::InSchema, &Fence::default()).await
}

/// Logs in as the root, into no schema: its accounts can be removed when the schema is gone. Whatever the
/// session changes passes `fence`.
pub async fn login_as_root(
    server: &Server,
    candidate: &Candidate,
    fence: &Fence,
) -> Result<Session, LoginError> {
    Session::open(server, candidate, Start::Anywhere, fence).await
}

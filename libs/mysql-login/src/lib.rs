//! How MySQL and MariaDB refuse a login.

use mysql_async::{DriverError, Error};

/// Error codes of MySQL and MariaDB that refuse a login for who it is: the next candidate may be let in.
/// Any other code is a failure of the server, or a [restriction](find_restriction) of the account.
///
/// - 1045: access denied. MariaDB also answers it to a right password without TLS where the account or
///   the server requires TLS (measured).
/// - 1698: access denied, if the account it looked at has no password; MariaDB also answers it for
///   accounts that do not exist (measured: for some names 1045, for others 1698).
/// - 3118, 4151: the account is locked.
/// - 3955, 4150: the account is blocked after too many wrong passwords, whatever the password.
const DENIED_LOGIN_CODES: [u16; 6] = [
    1045,
    1698,
    ACCOUNT_LOCKED_MYSQL,
    ACCOUNT_LOCKED_MARIADB,
    ACCOUNT_BLOCKED_MYSQL,
    ACCOUNT_BLOCKED_MARIADB,
];

/// What MySQL answers where an account is locked and the password is right.
pub const ACCOUNT_LOCKED_MYSQL: u16 = 3118;

/// What MariaDB answers where an account is locked and the password is right.
pub const ACCOUNT_LOCKED_MARIADB: u16 = 4151;

/// What MySQL answers to any password after as many wrong ones as the account's `FAILED_LOGIN_ATTEMPTS`.
pub const ACCOUNT_BLOCKED_MYSQL: u16 = 3955;

/// What MariaDB answers to any password after as many wrong ones as the server's `max_password_errors`.
pub const ACCOUNT_BLOCKED_MARIADB: u16 = 4150;

/// What clients of MySQL call it if the server asks for a way to authenticate that they lack
/// (`CR_AUTH_PLUGIN_CANNOT_LOAD`). No other password would be let in. MySQL asks so for some accounts that
/// do not exist, so that nobody learns which do (measured on 9.7: `sha256_password` for one name in two).
pub const PLUGIN_CANNOT_LOAD: u16 = 2059;

/// What both servers answer to a login into a schema on which the account has no right at all.
pub const NO_RIGHT_ON_SCHEMA: u16 = 1044;

/// What both servers answer to a login whose password has expired. MariaDB does so only with
/// `disconnect_on_expired_password`.
pub const PASSWORD_EXPIRED: u16 = 1862;

/// What MariaDB answers to every statement of a session whose password has expired.
pub const PASSWORD_MUST_BE_SET: u16 = 1820;

/// Error codes that tell a right password from an account that may be used.
const RESTRICTED_CODES: [u16; 3] = [NO_RIGHT_ON_SCHEMA, PASSWORD_EXPIRED, PASSWORD_MUST_BE_SET];

/// The code by which a login was refused for who it is; none if something else went wrong.
#[must_use]
pub fn find_denial(error: &Error) -> Option<u16> {
    match error {
        Error::Server(error) => Some(error.code).filter(|code| DENIED_LOGIN_CODES.contains(code)),
        Error::Driver(DriverError::UnknownAuthPlugin { .. }) => Some(PLUGIN_CANNOT_LOAD),
        _ => None,
    }
}

/// The code by which the server accepts a password and still does not let the account be used; none if
/// something else went wrong.
#[must_use]
pub fn find_restriction(error: &Error) -> Option<u16> {
    match error {
        Error::Server(error) => Some(error.code).filter(|code| RESTRICTED_CODES.contains(code)),
        _ => None,
    }
}

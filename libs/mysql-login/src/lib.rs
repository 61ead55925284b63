//! How MySQL and MariaDB refuse a login.

use mysql_async::{DriverError, Error};

/// Error codes of MySQL and MariaDB that refuse a login for who it is: the next candidate may be let in.
/// Any other code is a failure of the server.
///
/// - 1045: access denied. MariaDB also answers it to a right password without TLS where the account or
///   the server requires TLS (measured).
/// - 1698: access denied, if the account it looked at has no password; MariaDB also answers it for
///   accounts that do not exist (measured: for some names 1045, for others 1698).
/// - 3118, 4151: the account is locked.
const DENIED_LOGIN_CODES: [u16; 4] = [1045, 1698, ACCOUNT_LOCKED_MYSQL, ACCOUNT_LOCKED_MARIADB];

/// What MySQL answers where an account is locked.
pub const ACCOUNT_LOCKED_MYSQL: u16 = 3118;

/// What MariaDB answers where an account is locked.
pub const ACCOUNT_LOCKED_MARIADB: u16 = 4151;

/// What clients of MySQL call it if the server asks for a way to authenticate that they lack
/// (`CR_AUTH_PLUGIN_CANNOT_LOAD`). No other password would be let in. MySQL asks so for some accounts that
/// do not exist, so that nobody learns which do (measured on 9.7: `sha256_password` for one name in two).
pub const PLUGIN_CANNOT_LOAD: u16 = 2059;

/// The code by which a login was refused for who it is; none if something else went wrong.
#[must_use]
pub fn find_denial(error: &Error) -> Option<u16> {
    match error {
        Error::Server(error) => Some(error.code).filter(|code| DENIED_LOGIN_CODES.contains(code)),
        Error::Driver(DriverError::UnknownAuthPlugin { .. }) => Some(PLUGIN_CANNOT_LOAD),
        _ => None,
    }
}

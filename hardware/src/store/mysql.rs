//! MySQL and MariaDB.

mod lock;
mod login;

pub(super) use self::lock::{lock, unlock};
pub use self::login::{Opener, Tls};

/// What statements run on.
pub(super) type Connection = diesel_async::AsyncMysqlConnection;

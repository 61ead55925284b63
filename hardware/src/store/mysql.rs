//! MySQL and MariaDB.

mod lock;
mod login;
mod statements;

pub use self::login::{Opener, Tls};
pub(super) use self::{
    lock::{lock, unlock},
    statements::{execute, load},
};

/// What statements run on.
pub(super) type Connection = diesel_async::AsyncMysqlConnection;

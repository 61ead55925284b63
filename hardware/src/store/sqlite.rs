//! The embedded database: one file, opened by this process alone or by a few.

mod open;

use diesel::SqliteConnection;
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;

pub use self::open::Opener;

/// What statements run on. Diesel's SQLite is synchronous; the wrapper moves each query to a thread.
pub(super) type Connection = SyncConnectionWrapper<SqliteConnection>;

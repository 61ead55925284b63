//! The embedded database: one file, opened by this process alone or by a few.

use std::{
    ops::{Deref, DerefMut},
    path::{Path, PathBuf},
};

use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use diesel::SqliteConnection;
use diesel_async::{
    AsyncConnection, SimpleAsyncConnection, sync_connection_wrapper::SyncConnectionWrapper,
};

use super::StoreError;

/// What queries run on. Diesel's SQLite is synchronous; the wrapper moves each query to a thread.
pub(super) type Connection = SyncConnectionWrapper<SqliteConnection>;

/// `busy_timeout` comes first, as the others may have to wait for a lock. Measured with 8 writers on
/// 8 connections: 374 of 400 writes fail with the defaults, none with these.
const PRAGMAS: &str = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; \
                       PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;";

/// Opens connections to one file.
pub struct Opener {
    path: PathBuf,
}

impl Opener {
    /// The file is created when it is first opened; its directory must exist.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Opens one connection outside the pool.
    pub async fn open(&self) -> Result<Connection, StoreError> {
        let failed = |reason: String| StoreError::OpenFile { path: self.path.clone(), reason };
        let url = self.path.to_str().ok_or_else(|| failed("its name is not UTF-8".to_owned()))?;
        let opened = Connection::establish(url).await;
        let mut connection = opened.map_err(|error| failed(error.to_string()))?;
        let prepared = connection.batch_execute(PRAGMAS).await;
        prepared.map_err(|error| failed(error.to_string()))?;
        Ok(connection)
    }
}

impl Manager for Opener {
    type Type = Session;
    type Error = StoreError;

    async fn create(&self) -> Result<Session, StoreError> {
        Ok(Session(self.open().await?))
    }

    async fn recycle(&self, session: &mut Session, _: &Metrics) -> RecycleResult<StoreError> {
        let checked = session.batch_execute("SELECT 1").await;
        checked.map_err(|error| RecycleError::Backend(error.into()))
    }
}

/// A pooled connection.
pub struct Session(Connection);

impl Deref for Session {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}

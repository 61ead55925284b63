//! The database: one file with SQLite, or a server with MySQL or MariaDB.
//!
//! Statements are written once and run on a [`connection::Connection`] to either; what differs between the
//! databases is in `mysql/` and `sqlite/`.
//!
//! `diesel_async::RunQueryDsl` is imported where it is needed and nowhere else: it takes over `.load()` of
//! everything in scope.

mod attempts;
mod carry_over;
mod connection;
mod coverage;
mod guard;
mod hardware_table;
mod history;
mod import;
mod ingest;
mod lease;
mod levels;
mod migrations;
mod mysql;
mod place;
mod pools;
mod problems;
mod quality;
mod rebuild;
mod retention;
mod retire;
mod rows;
mod schema;
mod sessions;
mod sources;
mod sqlite;
mod watches;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use availability::{Segment, Timestamp};
use deadpool::managed::{BuildError, TimeoutType};
use diesel::QueryResult;
use service_kit::credentials::CredentialSet;
use tokio::sync::watch;

use self::connection::Connection;
pub use self::{
    attempts::AttemptRow,
    guard::{Connections, Guarded},
    import::{Imported, PoolHistory},
    ingest::Arrival,
    lease::{Lease, Step},
    levels::{ChangeRow, FeedState, KnownLevels},
    mysql::{Opener as MysqlOpener, Tls},
    place::{Moves, Place},
    problems::SourceProblem,
    quality::QualityRow,
    rebuild::Rebuilt,
    rows::{
        AddedRows, CatalogEntry, CoverageRow, HardwareRow, HardwareRows, PoolIdentity, PoolRow,
        Presence, RefusedEntry, SourceRow, StateRow,
    },
    sessions::SessionReport,
    sqlite::Opener as SqliteOpener,
    watches::{DeliveryFailure, DeliveryReport, DeliveryRow, Tried, WatchRow},
};
use crate::observation::{Batch, Recorded};

/// Connections for reading: requests are answered from memory, so that few are needed.
const READING: usize = 2;

/// Connections for writing.
const WRITING: usize = 4;

/// How long one process that adds rows to the catalog waits for another.
const CATALOG_LOCK_WAIT_S: i32 = 10;

/// Which database to use.
#[derive(Clone, Debug)]
pub enum StoreConfig {
    /// A file, created and migrated by `serve` itself.
    Sqlite {
        /// Where it is.
        path: PathBuf,
    },
    /// A server, migrated by `hardware migrate`.
    Mysql {
        /// Where to log in, now and after each rotation.
        credentials: watch::Receiver<Arc<CredentialSet>>,
        /// Whether the connection is encrypted.
        tls: Tls,
    },
}

/// What went wrong with the database, without any secret.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file could not be opened.
    #[error("failed to open the database {}: {reason}; check SQLITE_PATH and its directory", path.display())]
    OpenFile {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        reason: String,
    },
    /// The server could not be reached or refused for another reason than the account.
    #[error("failed to connect to the database at {host}:{port}: {reason}")]
    Connect {
        /// Host of the server.
        host: String,
        /// Port of the server.
        port: u16,
        /// What the driver or the server said.
        reason: String,
    },
    /// The server let no account in.
    #[error(
        "failed to log in to the database: all {candidates} accounts were denied (error {code}); \
         check user and password"
    )]
    Denied {
        /// How many accounts were tried.
        candidates: usize,
        /// The server's error number for the last one.
        code: u16,
    },
    /// Waiting for a connection, opening one or checking one took too long.
    #[error("failed to get a database connection in time ({0:?})")]
    Timeout(TimeoutType),
    /// A write took too long and was cut off.
    #[error("failed to write to the database within {0:?}")]
    TooSlow(Duration),
    /// The pool is closed.
    #[error("failed to get a database connection: the pool is closed")]
    Closed,
    /// The pool could not be set up.
    #[error("failed to set up the database connections: {0}")]
    Setup(#[from] BuildError),
    /// Somebody else holds a lock for longer than is sensible.
    #[error("failed to get the lock \"{0}\" of the database: another process has held it too long")]
    Locked(&'static str),
    /// A migration failed.
    #[error("failed to migrate the database: {0}")]
    Migrate(String),
    /// A query failed.
    #[error("failed to query the database: {0}")]
    Query(#[from] diesel::result::Error),
}

/// The database.
pub enum Db {
    /// See [`StoreConfig::Sqlite`].
    Sqlite(Connections<SqliteOpener>),
    /// See [`StoreConfig::Mysql`].
    Mysql(Connections<MysqlOpener>),
}

impl Db {
    /// Prepares connections, without opening one.
    pub fn new(config: &StoreConfig) -> Result<Self, StoreError> {
        Ok(match config {
            StoreConfig::Sqlite { path } => {
                Self::Sqlite(Connections::new(SqliteOpener::new(path), READING, WRITING)?)
            }
            StoreConfig::Mysql { credentials, tls } => {
                let opener = MysqlOpener::new(credentials.clone(), tls.clone());
                Self::Mysql(Connections::new(opener, READING, WRITING)?)
            }
        })
    }

    /// Whether a connection can be had.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.read(async |_| Ok(())).await
    }

    /// The generation of the credential and who still uses which; nothing for SQLite.
    #[must_use]
    pub fn session_report(&self) -> Option<SessionReport> {
        match self {
            Self::Sqlite(_) => None,
            Self::Mysql(connections) => {
                let opener = connections.opener();
                Some(opener.sessions().report(opener.generation()))
            }
        }
    }

    /// Connections that exist, and those of them that are idle.
    #[must_use]
    pub fn connections(&self) -> (usize, usize) {
        match self {
            Self::Sqlite(connections) => connections.count(),
            Self::Mysql(connections) => connections.count(),
        }
    }

    /// The rows of the original table, in its order.
    pub async fn list_hardware(&self) -> Result<HardwareRows, StoreError> {
        self.read(async |connection| hardware_table::list_hardware(connection).await).await
    }

    /// Adds the entries that no row has yet. Several processes may do so at once: the table has no
    /// unique key, so they take turns.
    pub async fn add_missing_hardware(
        &self,
        entries: &[CatalogEntry],
    ) -> Result<AddedRows, StoreError> {
        match self {
            Self::Sqlite(_) => {
                self.transaction(async |connection| {
                    hardware_table::add_missing(connection, entries).await
                })
                .await
            }
            // Not in a transaction: the table may be of an engine that has none.
            Self::Mysql(connections) => {
                let added = connections.writing.run(async |connection| {
                    let granted = mysql::lock(connection, "catalog", CATALOG_LOCK_WAIT_S).await?;
                    if !granted {
                        return Ok(None);
                    }
                    let mut both = Connection::Mysql(connection);
                    let added = hardware_table::add_missing(&mut both, entries).await;
                    mysql::unlock(connection, "catalog").await?;
                    added.map(Some)
                });
                added.await?.ok_or(StoreError::Locked("catalog"))
            }
        }
    }

    /// Adds `entries` to a table that a migration made, once in its life, and returns how many those
    /// were. A table that was there before stays as it is.
    pub async fn add_default_hardware(
        &self,
        entries: &[CatalogEntry],
    ) -> Result<usize, StoreError> {
        self.transaction(async |connection| hardware_table::add_defaults(connection, entries).await)
            .await
    }

    /// Every source with the revision of its latest batch.
    pub async fn list_sources(&self) -> Result<Vec<SourceRow>, StoreError> {
        self.read(async |connection| sources::list(connection).await).await
    }

    /// The spans of a source that ended after `since`, in milliseconds; the oldest first.
    pub async fn list_coverage(
        &self,
        source_id: i32,
        since: i64,
    ) -> Result<Vec<CoverageRow>, StoreError> {
        self.read(async |connection| coverage::list_since(connection, source_id, since).await).await
    }

    /// The pools of a source that changed after a revision, as they are now: at most `limit`, those with
    /// the smallest ids above `after`.
    pub async fn list_changed_pools(
        &self,
        source_id: i32,
        revision: i64,
        after: i32,
        limit: usize,
    ) -> Result<Vec<PoolRow>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(async |connection| {
            pools::list_changed(connection, source_id, revision, after, limit).await
        })
        .await
    }

    /// The closed segments of a pool that are kept, the oldest first.
    pub async fn list_history(&self, pool_id: i32) -> Result<Vec<Segment>, StoreError> {
        let histories =
            self.read(async |connection| history::load_all(connection, &[pool_id]).await).await?;
        Ok(history::segments_of(&histories, pool_id))
    }

    /// What was seen of some pools from `since` to `until`, by pool; that of each is the oldest first, and
    /// some of it may be of later.
    pub async fn list_histories(
        &self,
        pool_ids: &[i32],
        since: Timestamp,
        until: Timestamp,
    ) -> Result<BTreeMap<i32, Vec<Segment>>, StoreError> {
        let seen = self
            .read(async |connection| history::load_seen(connection, pool_ids, since, until).await);
        Ok(seen.await?.into_iter().map(|(id, pool)| (id, pool.segments)).collect())
    }

    /// Writes a batch in one transaction. Repeating it changes nothing.
    pub async fn record(&self, batch: &Batch, arrival: Arrival) -> Result<Recorded, StoreError> {
        self.transaction(async |connection| ingest::record(connection, batch, arrival).await).await
    }

    /// Runs `work` with a connection for reading.
    async fn read<R>(
        &self,
        work: impl AsyncFnOnce(&mut Connection<'_>) -> QueryResult<R>,
    ) -> Result<R, StoreError> {
        match self {
            Self::Sqlite(Connections { reading, .. }) => {
                reading.run(async |lent| work(&mut Connection::Sqlite(lent)).await).await
            }
            Self::Mysql(Connections { reading, .. }) => {
                reading.run(async |lent| work(&mut Connection::Mysql(lent)).await).await
            }
        }
    }

    /// Runs `work` with a connection for writing.
    async fn write<R>(
        &self,
        work: impl AsyncFnOnce(&mut Connection<'_>) -> QueryResult<R>,
    ) -> Result<R, StoreError> {
        match self {
            Self::Sqlite(Connections { writing, .. }) => {
                writing.run(async |lent| work(&mut Connection::Sqlite(lent)).await).await
            }
            Self::Mysql(Connections { writing, .. }) => {
                writing.run(async |lent| work(&mut Connection::Mysql(lent)).await).await
            }
        }
    }

    /// Runs `work` in a transaction, which ends without a trace if it fails or is dropped.
    async fn transaction<R>(
        &self,
        work: impl AsyncFnOnce(&mut Connection<'_>) -> QueryResult<R>,
    ) -> Result<R, StoreError> {
        self.write(async |connection| {
            connection.begin().await?;
            let outcome = match work(connection).await {
                Ok(answer) => connection.commit().await.map(|()| answer),
                Err(error) => Err(error),
            };
            if outcome.is_err() {
                // The database may have done so itself, or be gone. A connection whose transaction is open
                // after all is not lent again.
                let rolled_back = connection.roll_back().await;
                tracing::debug!(?rolled_back, "a transaction failed");
            }
            outcome
        })
        .await
    }
}

//! The database: one file with SQLite, or a server with MySQL or MariaDB.
//!
//! Queries are written once, in `queries/`, and compiled twice, with `Connection` naming one
//! database's connection or the other's. Diesel's `MultiConnection` exists only for synchronous
//! connections, and functions that are generic over the connection need half a page of bounds each;
//! this way a query reads like any other and each compiled copy is checked against its database.
//!
//! `diesel_async::RunQueryDsl` is imported in `queries/` and nowhere else: it takes over `.load()` of
//! everything in scope.

mod guard;
mod migrations;
mod mysql;
mod place;
mod retire;
mod rows;
mod schema;
mod sessions;
mod sqlite;

use std::{path::PathBuf, sync::Arc, time::Duration};

use chrono::NaiveDateTime;
use deadpool::managed::{BuildError, TimeoutType};
use service_kit::credentials::CredentialSet;
use tokio::sync::watch;

pub use self::{
    guard::Guarded,
    mysql::{Opener as MysqlOpener, Tls},
    place::{Moves, Place},
    rows::{
        AddedRows, CatalogEntry, HardwareRow, HardwareRows, PoolRow, RefusedEntry, SegmentRow,
        SourceRow,
    },
    sessions::SessionReport,
    sqlite::Opener as SqliteOpener,
};
use crate::observation::{Batch, Recorded};

#[path = "store"]
mod on_sqlite {
    use super::sqlite::Connection;

    const INSERT_OR_IGNORE: &str = "INSERT OR IGNORE";
    const LIST_HARDWARE: &str = "SELECT CAST(id AS BLOB) AS id, CAST(provider AS BLOB) AS provider, \
                                 CAST(name AS BLOB) AS name FROM hardware ORDER BY hardware.id";

    #[path = "queries/catalog.rs"]
    pub(super) mod catalog;
    #[path = "queries/observations.rs"]
    pub(super) mod observations;
    #[path = "queries/pools.rs"]
    pub(super) mod pools;
}

#[path = "store"]
mod on_mysql {
    use super::mysql::Connection;

    const INSERT_OR_IGNORE: &str = "INSERT IGNORE";
    const LIST_HARDWARE: &str = "SELECT CAST(id AS CHAR) AS id, \
                                 CONVERT(provider USING utf8mb4) AS provider, \
                                 CONVERT(name USING utf8mb4) AS name \
                                 FROM hardware ORDER BY hardware.id";

    #[expect(clippy::duplicate_mod, reason = "each query is compiled for both databases")]
    #[path = "queries/catalog.rs"]
    pub(super) mod catalog;
    #[expect(clippy::duplicate_mod, reason = "each query is compiled for both databases")]
    #[path = "queries/observations.rs"]
    pub(super) mod observations;
    #[expect(clippy::duplicate_mod, reason = "each query is compiled for both databases")]
    #[path = "queries/pools.rs"]
    pub(super) mod pools;
}

/// Connections kept to either database. Requests never wait for one: they read the snapshot.
const POOL_SIZE: usize = 4;

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
    Sqlite(Guarded<SqliteOpener>),
    /// See [`StoreConfig::Mysql`].
    Mysql(Guarded<MysqlOpener>),
}

/// Runs a query of `queries/` on whichever database it is.
macro_rules! run {
    ($db:expr, $module:ident::$query:ident($($argument:expr),*)) => {
        match $db {
            Db::Sqlite(guarded) => {
                guarded.run(async |connection| {
                    on_sqlite::$module::$query(connection, $($argument),*).await
                }).await
            }
            Db::Mysql(guarded) => {
                guarded.run(async |connection| {
                    on_mysql::$module::$query(connection, $($argument),*).await
                }).await
            }
        }
    };
}

impl Db {
    /// Prepares connections, without opening one.
    pub fn new(config: &StoreConfig) -> Result<Self, StoreError> {
        Ok(match config {
            StoreConfig::Sqlite { path } => {
                Self::Sqlite(Guarded::new(SqliteOpener::new(path), POOL_SIZE)?)
            }
            StoreConfig::Mysql { credentials, tls } => {
                let opener = MysqlOpener::new(credentials.clone(), tls.clone());
                Self::Mysql(Guarded::new(opener, POOL_SIZE)?)
            }
        })
    }

    /// Whether a connection can be had.
    pub async fn ping(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(guarded) => guarded.run(async |_| Ok(())).await,
            Self::Mysql(guarded) => guarded.run(async |_| Ok(())).await,
        }
    }

    /// The generation of the credential and who still uses which; nothing for SQLite.
    #[must_use]
    pub fn session_report(&self) -> Option<SessionReport> {
        match self {
            Self::Sqlite(_) => None,
            Self::Mysql(guarded) => {
                let opener = guarded.pool().manager();
                Some(opener.sessions().report(opener.generation()))
            }
        }
    }

    /// Connections that exist, and those of them that are idle.
    #[must_use]
    pub fn connections(&self) -> (usize, usize) {
        let status = match self {
            Self::Sqlite(guarded) => guarded.pool().status(),
            Self::Mysql(guarded) => guarded.pool().status(),
        };
        (status.size, status.available)
    }

    /// The rows of the original table, in its order.
    pub async fn list_hardware(&self) -> Result<HardwareRows, StoreError> {
        run!(self, catalog::list_hardware())
    }

    /// Adds the entries that no row has yet. Several processes may do so at once: the table has no
    /// unique key, so they take turns.
    pub async fn add_missing_hardware(
        &self,
        entries: &[CatalogEntry],
    ) -> Result<AddedRows, StoreError> {
        match self {
            Self::Sqlite(guarded) => {
                guarded
                    .run(async |connection| {
                        connection
                            .immediate_transaction(async |connection| {
                                on_sqlite::catalog::add_missing(connection, entries).await
                            })
                            .await
                    })
                    .await
            }
            Self::Mysql(guarded) => {
                let added = guarded.run(async |connection| {
                    let granted = mysql::lock(connection, "catalog", CATALOG_LOCK_WAIT_S).await?;
                    if !granted {
                        return Ok(None);
                    }
                    let added = on_mysql::catalog::add_missing(connection, entries).await;
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
        match self {
            Self::Sqlite(guarded) => {
                guarded
                    .run(async |connection| {
                        connection
                            .immediate_transaction(async |connection| {
                                on_sqlite::catalog::add_defaults(connection, entries).await
                            })
                            .await
                    })
                    .await
            }
            Self::Mysql(guarded) => {
                guarded
                    .run(async |connection| {
                        diesel_async::AsyncConnection::transaction(connection, async |connection| {
                            on_mysql::catalog::add_defaults(connection, entries).await
                        })
                        .await
                    })
                    .await
            }
        }
    }

    /// Every source with the revision of its latest batch.
    pub async fn list_sources(&self) -> Result<Vec<SourceRow>, StoreError> {
        run!(self, pools::list_sources())
    }

    /// The pools of a source that changed after a revision, as they are now.
    pub async fn list_pools_changed_since(
        &self,
        source_id: i32,
        revision: i64,
    ) -> Result<Vec<PoolRow>, StoreError> {
        run!(self, pools::list_changed_since(source_id, revision))
    }

    /// The finished runs of some pools that were last seen at `since` or later, by pool and time.
    pub async fn list_segments(
        &self,
        pool_ids: &[i32],
        since: NaiveDateTime,
    ) -> Result<Vec<SegmentRow>, StoreError> {
        run!(self, pools::list_segments(pool_ids, since))
    }

    /// Writes a batch in one transaction. Repeating it changes nothing.
    pub async fn record(&self, batch: &Batch, now: NaiveDateTime) -> Result<Recorded, StoreError> {
        match self {
            // A transaction that begins as a reader cannot wait to become a writer.
            Self::Sqlite(guarded) => {
                guarded
                    .run(async |connection| {
                        connection
                            .immediate_transaction(async |connection| {
                                on_sqlite::observations::record(connection, batch, now).await
                            })
                            .await
                    })
                    .await
            }
            Self::Mysql(guarded) => {
                guarded
                    .run(async |connection| {
                        diesel_async::AsyncConnection::transaction(connection, async |connection| {
                            on_mysql::observations::record(connection, batch, now).await
                        })
                        .await
                    })
                    .await
            }
        }
    }
}

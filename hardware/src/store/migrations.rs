//! Schema changes: small steps that only go forward and may be repeated, since MySQL cannot undo a
//! half-done one.

use std::collections::BTreeSet;

use diesel::{
    migration::{Migration, MigrationSource},
    mysql::Mysql,
};
use diesel_async::AsyncMigrationHarness;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::{Db, StoreError, mysql};

const MYSQL: EmbeddedMigrations = embed_migrations!("../migrations/mysql");
const SQLITE: EmbeddedMigrations = embed_migrations!("../migrations/sqlite");

/// How long one migrating process waits for another.
const LOCK_WAIT_S: i32 = 300;

impl Db {
    /// Applies what is pending and returns the versions applied. Any number may run at once: on
    /// MySQL one holds a lock and the others then find nothing to do; SQLite has one writer anyway.
    ///
    /// Needs tokio's multi-threaded runtime: diesel's migrations are synchronous.
    pub async fn migrate(&self) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Sqlite(guarded) => {
                let mut connection = guarded.pool().manager().open().await?;
                // The write lock of the file, from before what is pending is looked up.
                let applied = connection.spawn_blocking(|connection| {
                    Ok(connection.immediate_transaction(|connection| apply(connection, SQLITE)))
                });
                applied.await?
            }
            Self::Mysql(guarded) => {
                let mut session = guarded.pool().manager().open().await?;
                if !mysql::lock(&mut session, "migrate", LOCK_WAIT_S).await? {
                    return Err(StoreError::Locked("migrate"));
                }
                // The lock ends with the connection, which ends here whatever happens.
                apply(&mut AsyncMigrationHarness::new(session.into_connection()), MYSQL)
            }
        }
    }

    /// The versions that this program needs and the database lacks. Versions that this program does
    /// not know are not its business: they are there after an image was rolled back.
    pub async fn pending_migrations(&self) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Sqlite(guarded) => {
                let connection = guarded.pool().manager().open().await?;
                let pending = AsyncMigrationHarness::new(connection).pending_migrations(SQLITE);
                let pending = pending.map_err(|error| StoreError::Migrate(error.to_string()))?;
                Ok(pending.iter().map(|migration| migration.name().version().to_string()).collect())
            }
            // Diesel would create its table here, which a reader may not be allowed to do.
            Self::Mysql(guarded) => {
                let applied =
                    guarded.run(async |connection| mysql::list_migrations(connection).await);
                let applied: BTreeSet<String> = applied.await?.into_iter().collect();
                let migrations = MigrationSource::<Mysql>::migrations(&MYSQL);
                let needed = migrations.map_err(|error| StoreError::Migrate(error.to_string()))?;
                let needed = needed.iter().map(|migration| migration.name().version().to_string());
                Ok(needed.filter(|version| !applied.contains(version)).collect())
            }
        }
    }
}

fn apply<D: diesel::backend::Backend>(
    harness: &mut impl MigrationHarness<D>,
    migrations: EmbeddedMigrations,
) -> Result<Vec<String>, StoreError>
where
    EmbeddedMigrations: MigrationSource<D>,
{
    let applied = harness.run_pending_migrations(migrations);
    let applied = applied.map_err(|error| StoreError::Migrate(error.to_string()))?;
    Ok(applied.iter().map(ToString::to_string).collect())
}

//! Schema changes: small steps that only go forward and may be repeated, since MySQL cannot undo a
//! half-done one.

use std::collections::BTreeSet;

use diesel::{
    QueryResult, QueryableByName,
    migration::{Migration, MigrationSource},
    mysql::Mysql,
    sql_types::Text,
};
use diesel_async::AsyncMigrationHarness;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::{
    Db, StoreError, carry_over,
    connection::{Connection, Statement},
    mysql,
};

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
        let (mut applied, _lock) = match self {
            Self::Sqlite(connections) => {
                let mut connection = connections.opener().open().await?;
                // The write lock of the file, from before what is pending is looked up.
                let applied = connection.spawn_blocking(|connection| {
                    Ok(connection.immediate_transaction(|connection| apply(connection, SQLITE)))
                });
                (applied.await??, None)
            }
            Self::Mysql(connections) => {
                let mut session = connections.opener().open().await?;
                if !mysql::lock(&mut session, "migrate", LOCK_WAIT_S).await? {
                    return Err(StoreError::Locked("migrate"));
                }
                let mut harness = AsyncMigrationHarness::new(session.into_connection());
                // The lock ends with the connection, which ends here whatever happens.
                (apply(&mut harness, MYSQL)?, Some(harness))
            }
        };
        if self.carry_over().await? {
            applied.push(carry_over::NAME.to_owned());
        }
        Ok(applied)
    }

    /// The versions that this program needs and the database lacks. Versions that this program does
    /// not know are not its business: they are there after an image was rolled back.
    pub async fn pending_migrations(&self) -> Result<Vec<String>, StoreError> {
        let mut pending: Vec<String> = match self {
            Self::Sqlite(connections) => {
                let connection = connections.opener().open().await?;
                let pending = AsyncMigrationHarness::new(connection).pending_migrations(SQLITE);
                let pending = pending.map_err(|error| StoreError::Migrate(error.to_string()))?;
                pending.iter().map(|migration| migration.name().version().to_string()).collect()
            }
            // Diesel would create its table here, which a reader may not be allowed to do.
            Self::Mysql(_) => {
                let applied = self.read(async |connection| list_applied(connection).await);
                let applied: BTreeSet<String> = applied.await?.into_iter().collect();
                let migrations = MigrationSource::<Mysql>::migrations(&MYSQL);
                let needed = migrations.map_err(|error| StoreError::Migrate(error.to_string()))?;
                let needed = needed.iter().map(|migration| migration.name().version().to_string());
                needed.filter(|version| !applied.contains(version)).collect()
            }
        };
        if pending.is_empty() && self.is_carrying_over_due().await? {
            pending.push(carry_over::NAME.to_owned());
        }
        Ok(pending)
    }
}

#[derive(QueryableByName)]
struct Version {
    #[diesel(sql_type = Text)]
    version: String,
}

/// The versions of the migrations that were applied; none if the table of them is missing.
async fn list_applied(connection: &mut Connection<'_>) -> QueryResult<Vec<String>> {
    let tables = Statement::new(
        "SELECT COUNT(*) AS value FROM information_schema.tables \
         WHERE table_schema = DATABASE() AND table_name = '__diesel_schema_migrations'",
    );
    if connection.number(tables).await? == Some(0) {
        return Ok(Vec::new());
    }
    let versions = Statement::new("SELECT version FROM __diesel_schema_migrations");
    let versions: Vec<Version> = connection.load(versions).await?;
    Ok(versions.into_iter().map(|row| row.version).collect())
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

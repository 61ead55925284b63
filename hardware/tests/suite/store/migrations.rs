//! The schema comes to be, whoever was there before and however many start at once.

use futures::future::join_all;
use hardware::store::{CatalogEntry, Db};

use crate::support::database::{TestDatabase, execute, on_both_databases};

on_both_databases!(
    many_that_migrate_at_once_do_it_once,
    the_table_of_the_original_is_accepted_with_its_rows,
    a_table_that_a_migration_made_gets_default_rows_once,
    a_migration_can_be_repeated,
    migrations_of_a_newer_version_are_tolerated,
);

async fn many_that_migrate_at_once_do_it_once(database: TestDatabase) {
    let processes: Vec<_> = (0..4).map(|_| database.connect()).collect();
    let pending = processes[0].pending_migrations().await.expect("a list");
    assert_eq!(pending, ["0000", "0001", "0002", "0003", "0004", "0005", "0006"]);
    let tasks = processes.into_iter().map(|db| tokio::spawn(async move { db.migrate().await }));
    let applied: usize = join_all(tasks)
        .await
        .into_iter()
        .map(|task| task.expect("no panic").expect("migrated").len())
        .sum();
    assert_eq!(applied, pending.len(), "each migration was applied by one of them");
    assert!(database.connect().pending_migrations().await.expect("a list").is_empty());
}

async fn the_table_of_the_original_is_accepted_with_its_rows(database: TestDatabase) {
    let db = database.connect();
    let auto_increment = if database.mysql.is_some() { "AUTO_INCREMENT" } else { "" };
    execute(
        &db,
        &format!(
            "CREATE TABLE hardware (id integer NOT NULL PRIMARY KEY {auto_increment}, \
             provider text NOT NULL, name text NOT NULL)"
        ),
    )
    .await;
    execute(&db, "INSERT INTO hardware (provider, name) VALUES ('Amazon', 'c5')").await;
    db.migrate().await.expect("migrated");
    assert_eq!(db.add_default_hardware(&[entry("p", "n")]).await.expect("none are due"), 0);
    let rows = db.list_hardware().await.expect("rows").rows;
    assert_eq!((rows[0].id.as_str(), rows[0].name.as_str(), rows.len()), ("1", "c5", 1));
}

fn entry(provider: &str, name: &str) -> CatalogEntry {
    CatalogEntry { provider: provider.to_owned(), name: name.to_owned() }
}

async fn a_table_that_a_migration_made_gets_default_rows_once(database: TestDatabase) {
    drop(database.migrated().await);
    let defaults = [entry("Amazon", "c5"), entry("Azure", "H16mr")];
    let processes: Vec<Db> = (0..4).map(|_| database.connect()).collect();
    let added = join_all(processes.iter().map(|db| db.add_default_hardware(&defaults))).await;
    assert_eq!(added.into_iter().map(|added| added.expect("added")).sum::<usize>(), 2);
    execute(&processes[0], "DELETE FROM hardware").await;
    assert_eq!(processes[0].add_default_hardware(&defaults).await.expect("no more"), 0);
}

/// MySQL cannot undo a statement that changes tables, so a migration may be found half done.
async fn a_migration_can_be_repeated(database: TestDatabase) {
    let db = database.migrated().await;
    execute(&db, "DELETE FROM __diesel_schema_migrations").await;
    assert_eq!(db.migrate().await.expect("migrated again").len(), 7);
}

/// An image that is rolled back meets the schema of its successor.
async fn migrations_of_a_newer_version_are_tolerated(database: TestDatabase) {
    let db = database.migrated().await;
    execute(&db, "INSERT INTO __diesel_schema_migrations (version) VALUES ('9999')").await;
    assert!(db.pending_migrations().await.expect("a list").is_empty());
    assert!(db.migrate().await.expect("nothing to do").is_empty());
}

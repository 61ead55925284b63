//! The original table.

use std::collections::HashSet;

use diesel::{QueryResult, result::Error};

use super::{
    connection::{Connection, Statement},
    rows::{AddedRows, CatalogEntry, HardwareRows, RefusedEntry, StoredRow},
};

/// The types of the columns are anybody's: SQLite gives their bytes, MySQL converts them to UTF-8.
const LIST_ON_SQLITE: &str = "SELECT CAST(id AS BLOB) AS id, CAST(provider AS BLOB) AS provider, \
                              CAST(name AS BLOB) AS name FROM hardware ORDER BY hardware.id";
const LIST_ON_MYSQL: &str = "SELECT CAST(id AS CHAR) AS id, \
                             CONVERT(provider USING utf8mb4) AS provider, \
                             CONVERT(name USING utf8mb4) AS name FROM hardware ORDER BY hardware.id";

pub(super) async fn list_hardware(connection: &mut Connection<'_>) -> QueryResult<HardwareRows> {
    let query = match connection {
        Connection::Sqlite(_) => LIST_ON_SQLITE,
        Connection::Mysql(_) => LIST_ON_MYSQL,
    };
    let stored: Vec<StoredRow> = connection.load(Statement::new(query)).await?;
    Ok(stored.into_iter().collect())
}

/// Adds what is missing. The caller keeps others out meanwhile. An entry that the table refuses keeps no
/// other out.
pub(super) async fn add_missing(
    connection: &mut Connection<'_>,
    entries: &[CatalogEntry],
) -> QueryResult<AddedRows> {
    // Whoever has a catalog wants no other rows, then or later.
    take_default_rows_due(connection).await?;
    let there = list_hardware(connection).await?;
    let is_empty = there.rows.is_empty() && there.unreadable.is_empty();
    let known: HashSet<(&str, &str)> =
        there.rows.iter().map(|row| (&*row.provider, &*row.name)).collect();
    // The table has no index: to look for each entry in it takes as long as the square of their number.
    let needs_no_look = is_empty && are_distinct(entries);
    let mut rows = AddedRows::default();
    for entry in entries.iter().filter(|entry| !known.contains(&(&*entry.provider, &*entry.name))) {
        let added = if needs_no_look {
            add(connection, entry).await
        } else {
            add_if_missing(connection, entry).await
        };
        match added {
            Ok(added) => rows.added += added,
            Err(Error::DatabaseError(_, reason)) => {
                let reason = reason.message().to_owned();
                rows.refused.push(RefusedEntry { entry: entry.clone(), reason });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(rows)
}

/// Adds the default rows if the table was made by a migration and has never got them.
pub(super) async fn add_defaults(
    connection: &mut Connection<'_>,
    entries: &[CatalogEntry],
) -> QueryResult<usize> {
    let mut added = 0;
    if take_default_rows_due(connection).await? {
        for entry in entries {
            added += add_if_missing(connection, entry).await?;
        }
    }
    Ok(added)
}

/// Removes the note that default rows are due, and returns whether there was one.
async fn take_default_rows_due(connection: &mut Connection<'_>) -> QueryResult<bool> {
    let taken = Statement::new("DELETE FROM gill_hicks_setting WHERE name = 'default_rows'");
    Ok(connection.execute(taken).await? > 0)
}

/// Whether no two entries are the same to a database that ignores case and spaces at the end.
fn are_distinct(entries: &[CatalogEntry]) -> bool {
    let folded = |text: &str| text.trim_end().to_lowercase();
    let mut seen = HashSet::new();
    entries.iter().all(|entry| seen.insert((folded(&entry.provider), folded(&entry.name))))
}

async fn add(
    connection: &mut Connection<'_>,
    CatalogEntry { provider, name }: &CatalogEntry,
) -> QueryResult<usize> {
    let statement = Statement::new("INSERT INTO hardware (provider, name) VALUES (?, ?)");
    connection.execute(statement.bind(provider).bind(name)).await
}

async fn add_if_missing(
    connection: &mut Connection<'_>,
    CatalogEntry { provider, name }: &CatalogEntry,
) -> QueryResult<usize> {
    // The derived table is a form that MySQL, MariaDB and SQLite all accept without a FROM of their
    // own.
    let statement = Statement::new(
        "INSERT INTO hardware (provider, name) \
         SELECT provider, name FROM (SELECT ? AS provider, ? AS name) AS wanted \
         WHERE NOT EXISTS (SELECT 1 FROM hardware WHERE provider = ? AND name = ?)",
    );
    connection.execute(statement.bind(provider).bind(name).bind(provider).bind(name)).await
}

//! The original table.

use diesel::{prelude::*, result::Error, sql_types::Text};
use diesel_async::RunQueryDsl;

use super::{Connection, LIST_HARDWARE};
use crate::store::rows::{AddedRows, CatalogEntry, HardwareRows, RefusedEntry, StoredRow};

pub(in crate::store) async fn list_hardware(
    connection: &mut Connection,
) -> QueryResult<HardwareRows> {
    let stored: Vec<StoredRow> = diesel::sql_query(LIST_HARDWARE).load(connection).await?;
    Ok(stored.into_iter().collect())
}

/// Adds what is missing. The caller keeps others out meanwhile. An entry that the table refuses keeps no
/// other out.
pub(in crate::store) async fn add_missing(
    connection: &mut Connection,
    entries: &[CatalogEntry],
) -> QueryResult<AddedRows> {
    // Whoever has a catalog wants no other rows, then or later.
    take_note(connection).await?;
    let mut rows = AddedRows::default();
    for entry in entries {
        match add_if_missing(connection, entry).await {
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
pub(in crate::store) async fn add_defaults(
    connection: &mut Connection,
    entries: &[CatalogEntry],
) -> QueryResult<usize> {
    let mut added = 0;
    if take_note(connection).await? {
        for entry in entries {
            added += add_if_missing(connection, entry).await?;
        }
    }
    Ok(added)
}

/// Removes the note that default rows are due, and returns whether there was one.
async fn take_note(connection: &mut Connection) -> QueryResult<bool> {
    let taken = diesel::sql_query("DELETE FROM gill_hicks_setting WHERE name = 'default_rows'");
    Ok(taken.execute(connection).await? > 0)
}

async fn add_if_missing(connection: &mut Connection, entry: &CatalogEntry) -> QueryResult<usize> {
    // The derived table is a form that MySQL, MariaDB and SQLite all accept without a FROM of their
    // own.
    diesel::sql_query(
        "INSERT INTO hardware (provider, name) \
         SELECT provider, name FROM (SELECT ? AS provider, ? AS name) AS wanted \
         WHERE NOT EXISTS (SELECT 1 FROM hardware WHERE provider = ? AND name = ?)",
    )
    .bind::<Text, _>(&entry.provider)
    .bind::<Text, _>(&entry.name)
    .bind::<Text, _>(&entry.provider)
    .bind::<Text, _>(&entry.name)
    .execute(connection)
    .await
}

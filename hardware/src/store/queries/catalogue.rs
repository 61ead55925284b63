//! The original table.

use diesel::{prelude::*, sql_types::Text};
use diesel_async::RunQueryDsl;

use super::Connection;
use crate::store::{
    rows::{CatalogueEntry, HardwareRow},
    schema::hardware,
};

pub(in crate::store) async fn list_hardware(
    connection: &mut Connection,
) -> QueryResult<Vec<HardwareRow>> {
    hardware::table.order(hardware::id).select(HardwareRow::as_select()).load(connection).await
}

/// The caller keeps others out meanwhile.
pub(in crate::store) async fn add_missing(
    connection: &mut Connection,
    entries: &[CatalogueEntry],
) -> QueryResult<usize> {
    let mut added = 0;
    for entry in entries {
        // The derived table is a form that MySQL, MariaDB and SQLite all accept without a FROM of
        // their own.
        added += diesel::sql_query(
            "INSERT INTO hardware (provider, name) \
             SELECT provider, name FROM (SELECT ? AS provider, ? AS name) AS wanted \
             WHERE NOT EXISTS (SELECT 1 FROM hardware WHERE provider = ? AND name = ?)",
        )
        .bind::<Text, _>(&entry.provider)
        .bind::<Text, _>(&entry.name)
        .bind::<Text, _>(&entry.provider)
        .bind::<Text, _>(&entry.name)
        .execute(connection)
        .await?;
    }
    Ok(added)
}

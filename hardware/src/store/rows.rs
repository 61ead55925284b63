//! What queries take and give.

use chrono::NaiveDateTime;
use diesel::{
    prelude::*,
    sql_types::{Binary, Nullable},
};
use serde::Deserialize;

use super::schema::{segment, source};
use crate::observation::{Run, Supply};

/// A row that should exist in `hardware`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogEntry {
    /// Who offers it.
    pub provider: String,
    /// What the provider calls it.
    pub name: String,
}

/// A row of the original table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HardwareRow {
    /// Its identity there, a number or a text; it stands in logs only.
    pub id: String,
    /// Who offers it.
    pub provider: String,
    /// What the provider calls it.
    pub name: String,
}

/// The original table, which may have been made by anybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HardwareRows {
    /// The rows that can be shown, in the order of the table.
    pub rows: Vec<HardwareRow>,
    /// The identities of those that cannot: provider or name is NULL or not text.
    pub unreadable: Vec<String>,
}

/// A row as it is stored, whatever the types of its columns are.
#[derive(QueryableByName)]
pub(super) struct StoredRow {
    #[diesel(sql_type = Nullable<Binary>)]
    id: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Binary>)]
    provider: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Binary>)]
    name: Option<Vec<u8>>,
}

impl FromIterator<StoredRow> for HardwareRows {
    fn from_iter<I: IntoIterator<Item = StoredRow>>(stored: I) -> Self {
        let mut all = Self::default();
        for StoredRow { id, provider, name } in stored {
            let id = id.map_or_else(|| "NULL".to_owned(), |id| String::from_utf8_lossy(&id).into());
            let text =
                |bytes: Option<Vec<u8>>| bytes.and_then(|bytes| String::from_utf8(bytes).ok());
            match (text(provider), text(name)) {
                (Some(provider), Some(name)) => all.rows.push(HardwareRow { id, provider, name }),
                _ => all.unreadable.push(id),
            }
        }
        all
    }
}

/// What adding a catalog did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddedRows {
    /// How many rows were missing.
    pub added: usize,
    /// The entries that the table did not take.
    pub refused: Vec<RefusedEntry>,
}

/// An entry that the table did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedEntry {
    /// The entry.
    pub entry: CatalogEntry,
    /// What the database said.
    pub reason: String,
}

/// Who reports.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = source)]
pub struct SourceRow {
    /// Identity in the database.
    pub id: i32,
    /// Its own name.
    pub name: String,
    /// Seconds between two reports.
    pub expected_interval_s: i32,
    /// Grows with each batch.
    pub revision: i64,
}

/// A pool and the run of counts that goes on there.
#[derive(Clone, Debug, PartialEq, Eq, Queryable)]
pub struct PoolRow {
    /// Identity in the database.
    pub id: i32,
    /// Who offers it.
    pub provider: String,
    /// What the provider calls it.
    pub name: String,
    /// Region, or empty.
    pub region: String,
    /// Zone, or empty.
    pub zone: String,
    /// How it is sold.
    pub tier: String,
    /// What is counted.
    pub unit: String,
    /// When the run began.
    pub started_at: NaiveDateTime,
    /// When it was last confirmed.
    pub last_seen_at: NaiveDateTime,
    /// Units that exist, unless the source only says yes or no.
    pub total: Option<i32>,
    /// Units that are free.
    pub free: i32,
}

impl From<&PoolRow> for Run {
    fn from(row: &PoolRow) -> Self {
        Self {
            started_at: row.started_at,
            last_seen_at: row.last_seen_at,
            supply: Supply::from_columns(row.total, row.free),
        }
    }
}

/// A finished run of counts.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = segment)]
pub struct SegmentRow {
    /// Whose run it was.
    pub pool_id: i32,
    /// When the run began.
    pub started_at: NaiveDateTime,
    /// When it was last confirmed.
    pub last_seen_at: NaiveDateTime,
    /// Units that existed, unless the source only says yes or no.
    pub total: Option<i32>,
    /// Units that were free.
    pub free: i32,
}

impl From<&SegmentRow> for Run {
    fn from(row: &SegmentRow) -> Self {
        Self {
            started_at: row.started_at,
            last_seen_at: row.last_seen_at,
            supply: Supply::from_columns(row.total, row.free),
        }
    }
}

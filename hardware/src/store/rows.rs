//! What queries take and give.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use serde::Deserialize;

use super::schema::{hardware, segment, source};
use crate::observation::{Run, Supply};

/// A row that should exist in `hardware`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogueEntry {
    /// Who offers it.
    pub provider: String,
    /// What the provider calls it.
    pub name: String,
}

/// A row of the original table.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = hardware)]
pub struct HardwareRow {
    /// Its place in the list.
    pub id: i32,
    /// Who offers it.
    pub provider: String,
    /// What the provider calls it.
    pub name: String,
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

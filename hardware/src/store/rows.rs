//! What queries take and give.

use std::time::Duration;

use availability::{
    Coverage, DecodeError, ExpectedInterval, Observation, PoolState, Segment, Timestamp,
};
use diesel::{
    prelude::*,
    sql_types::{Binary, Nullable},
};
use serde::Deserialize;

use super::{
    connection::Value,
    problems::SourceProblem,
    schema::{pool, pool_state, segment, source_coverage},
};
use crate::observation::PoolName;

/// Milliseconds of a day: what `day` counts.
pub(super) const DAY_MS: i64 = 86_400_000;

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRow {
    /// Identity in the database.
    pub id: i32,
    /// Its own name.
    pub name: String,
    /// Seconds between two reports, as its latest batch said.
    pub expected_interval_s: i32,
    /// Grows with each batch.
    pub revision: i64,
    /// When its latest batch came, in milliseconds.
    pub last_seen: i64,
    /// When it last said of all its pools that they were as they had been, in milliseconds.
    pub covered: Option<i64>,
    /// What keeps it from seeing its pools as they are, as its latest batch said.
    pub problem: Option<SourceProblem>,
}

impl SourceRow {
    /// How often it reports.
    #[must_use]
    pub fn interval(&self) -> ExpectedInterval {
        interval_of(self.expected_interval_s)
    }
}

/// A span in which a source said of all its pools that nothing had changed but what it listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, QueryableByName)]
#[diesel(table_name = source_coverage)]
pub struct CoverageRow {
    /// Whose span it is.
    pub source_id: i32,
    /// The first batch that said so, in milliseconds.
    pub started: i64,
    /// The last one.
    pub last_seen: i64,
    /// Seconds between two of them.
    pub interval_s: i32,
}

impl From<&CoverageRow> for Coverage {
    fn from(row: &CoverageRow) -> Self {
        Self {
            started: Timestamp::from_millis(row.started),
            last_seen: Timestamp::from_millis(row.last_seen),
            interval: interval_of(row.interval_s),
        }
    }
}

/// When a source had a pool, so that what it said of all its pools was about this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Since when; none if it never listed it, and somebody imported its history.
    pub listed: Option<i64>,
    /// Until when, if it has it no longer.
    pub retired: Option<i64>,
}

impl Presence {
    /// The parts of `spans` in which the source had the pool.
    pub fn within(self, spans: &[CoverageRow]) -> impl Iterator<Item = Coverage> + use<'_> {
        let from = self.listed.map(Timestamp::from_millis);
        let until = Timestamp::from_millis(self.retired.unwrap_or(i64::MAX));
        spans.iter().filter_map(move |span| Coverage::from(span).within(from?, until))
    }
}

/// A pool, the segment that is open there and what its past was folded into.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct PoolRow {
    /// The pool itself.
    #[diesel(embed)]
    pub pool: PoolIdentity,
    /// How it is.
    #[diesel(embed)]
    pub state: StateRow,
}

/// What identifies a pool within its source, as it was spelled first.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
#[diesel(table_name = pool)]
pub struct PoolIdentity {
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
    /// When its source first listed it.
    pub listed: Option<i64>,
    /// When its source no longer had it.
    pub retired: Option<i64>,
}

impl PoolIdentity {
    /// Its names as they were spelled first.
    #[must_use]
    pub fn pool_name(&self) -> PoolName {
        let Self { provider, name, region, zone, tier, unit, .. } = self.clone();
        PoolName { provider, name, region, zone, tier, unit }
    }

    /// When its source had it.
    #[must_use]
    pub fn presence(&self) -> Presence {
        Presence { listed: self.listed, retired: self.retired }
    }
}

/// The open segment of a pool, and its states.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
#[diesel(table_name = pool_state)]
pub struct StateRow {
    /// Whose they are.
    pub pool_id: i32,
    /// Seconds between two reports.
    pub interval_s: i32,
    /// When the segment began, in milliseconds.
    pub started: i64,
    /// When it was last confirmed.
    pub last_seen: i64,
    /// Units that exist, unless the source only says yes or no.
    pub total: Option<i64>,
    /// Units that are free.
    pub free: i64,
    /// See [`PoolState::encode_states`].
    pub states: Vec<u8>,
}

impl StateRow {
    /// The columns of the table but `pool_id`, `source_id` and `revision`.
    pub(super) fn values(state: &PoolState) -> [Value; 6] {
        let open = state.open_segment();
        let (total, free) = columns_of(open.observation);
        [
            seconds(state.interval()).into(),
            open.started.as_millis().into(),
            open.last_seen.as_millis().into(),
            total.into(),
            free.into(),
            state.encode_states().into(),
        ]
    }

    /// The open segment.
    #[must_use]
    pub fn open_segment(&self) -> Segment {
        segment_of(self.started, self.last_seen, self.total, self.free)
    }

    /// How often the source reports.
    #[must_use]
    pub fn interval(&self) -> ExpectedInterval {
        interval_of(self.interval_s)
    }

    /// What the columns say together.
    pub fn decode(&self) -> Result<PoolState, DecodeError> {
        PoolState::decode(self.open_segment(), self.interval(), &self.states)
    }
}

/// A closed segment, or the part of it that lies in one day.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
#[diesel(table_name = segment)]
pub struct SegmentRow {
    /// Days since the Unix epoch.
    pub day: i32,
    /// Whose it was.
    pub pool_id: i32,
    /// When it began, in milliseconds.
    pub started: i64,
    /// When it was last confirmed.
    pub last_seen: i64,
    /// Units that existed, unless the source only says yes or no.
    pub total: Option<i64>,
    /// Units that were free.
    pub free: i64,
}

impl SegmentRow {
    /// The rows of what of a segment is not older than `oldest_kept`: it is cut at midnight UTC.
    pub(super) fn of(pool_id: i32, segment: Segment, oldest_kept: Timestamp) -> Vec<Self> {
        if segment.last_seen < oldest_kept {
            return Vec::new();
        }
        let (total, free) = columns_of(segment.observation);
        let last = segment.last_seen.as_millis();
        let mut started = segment.started.max(oldest_kept).as_millis();
        let mut rows = Vec::with_capacity(1);
        loop {
            let day = started.div_euclid(DAY_MS);
            let midnight = (day + 1) * DAY_MS;
            let last_seen = last.min(midnight);
            let day = i32::try_from(day).expect("times are after 1970 and before the year 9999");
            rows.push(Self { day, pool_id, started, last_seen, total, free });
            // What ends at midnight has no part in the next day.
            if last <= midnight {
                return rows;
            }
            started = midnight;
        }
    }

    pub(super) fn values(&self) -> Vec<Value> {
        vec![
            self.day.into(),
            self.pool_id.into(),
            self.started.into(),
            self.last_seen.into(),
            self.total.into(),
            self.free.into(),
        ]
    }
}

impl From<&SegmentRow> for Segment {
    fn from(row: &SegmentRow) -> Self {
        segment_of(row.started, row.last_seen, row.total, row.free)
    }
}

/// The number that `interval_s` holds.
pub(super) fn seconds(interval: ExpectedInterval) -> i32 {
    i32::try_from(interval.get().as_secs()).expect("at most a day")
}

/// The interval that `interval_s` holds.
pub(super) fn interval_of(seconds: i32) -> ExpectedInterval {
    // Somebody wrote to the table by hand if this fails: what is posted is checked.
    ExpectedInterval::new(Duration::from_secs(seconds.unsigned_abs().into())).unwrap_or_default()
}

fn segment_of(started: i64, last_seen: i64, total: Option<i64>, free: i64) -> Segment {
    let [started, last_seen] = [started, last_seen].map(Timestamp::from_millis);
    let units = |count: i64| u32::try_from(count.max(0)).unwrap_or(u32::MAX);
    let observation = match total {
        Some(total) => Observation::counts(units(total), units(total.saturating_sub(free))),
        None => Observation::Available(free > 0),
    };
    Segment { started, last_seen, observation }
}

/// The columns `total` and `free`: without a total, `free` says yes or no.
fn columns_of(observation: Observation) -> (Option<i64>, i64) {
    match observation {
        Observation::Counts { total, free } => (Some(total.get().into()), free.get().into()),
        Observation::Available(is_available) => (None, is_available.into()),
    }
}

#[cfg(test)]
mod tests {
    use availability::{Observation, Segment, Timestamp, join_touching};
    use proptest::prelude::*;

    use super::SegmentRow;

    proptest! {
        #[test]
        fn the_rows_of_a_segment_put_together_are_the_segment(
            started in 0_i64..400_000_000, lasted in 0_i64..400_000_000,
            total in proptest::option::of(0_u32..5),
        ) {
            let observation = match total {
                Some(total) => Observation::counts(total, 1),
                None => Observation::Available(true),
            };
            let at = Timestamp::from_millis;
            let segment = Segment { started: at(started), last_seen: at(started + lasted), observation };
            let rows = SegmentRow::of(7, segment, at(0));
            for row in &rows {
                prop_assert_eq!(i64::from(row.day), row.started / 86_400_000);
                prop_assert!(row.last_seen - row.started <= 86_400_000);
            }
            let pieces = rows.iter().map(Segment::from).collect();
            prop_assert_eq!(join_touching(pieces), [segment]);
            let middle = at(started + lasted / 2);
            let kept: Vec<Segment> =
                SegmentRow::of(7, segment, middle).iter().map(Segment::from).collect();
            prop_assert_eq!(join_touching(kept), [Segment { started: middle, ..segment }]);
            prop_assert_eq!(SegmentRow::of(7, segment, at(started + lasted + 1)), []);
        }
    }
}

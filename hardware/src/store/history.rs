//! Closed segments: what history, backtests and late observations need, and levels do not.
//!
//! The key leads with the day, so that what is old goes in one place. A query names each day, as then both
//! databases go straight to the rows of a pool.

use std::collections::BTreeMap;

use availability::{ExpectedInterval, Segment, Timestamp, join_touching};
use diesel::{
    QueryResult, QueryableByName,
    sql_types::{Integer, Nullable},
};

use super::{
    connection::{Connection, Insert, KEYS_PER_STATEMENT, OnConflict, Statement, question_marks},
    coverage, pools,
    rows::{DAY_MS, SegmentRow, StateRow},
};

/// Days in one statement, of as many pools as it names: both together stay below what SQLite allows.
const DAYS_PER_STATEMENT: usize = 400;

const COLUMNS: [&str; 6] = ["day", "pool_id", "started", "last_seen", "total", "free"];

#[derive(QueryableByName)]
struct Days {
    #[diesel(sql_type = Nullable<Integer>)]
    earliest: Option<i32>,
    #[diesel(sql_type = Nullable<Integer>)]
    latest: Option<i32>,
}

/// The rows of some pools, by pool; those of each are the oldest first.
pub(super) type Histories = BTreeMap<i32, Vec<SegmentRow>>;

/// The history of some pools from `since` on; what was cut there, or at midnight, is cut.
pub(super) async fn load_since(
    connection: &mut Connection<'_>,
    pool_ids: &[i32],
    since: Timestamp,
) -> QueryResult<Histories> {
    load(connection, pool_ids, first_day(since), i32::MAX).await
}

/// The day of the first rows that may be of `since` or later: what ended at midnight is in those of the day
/// before.
fn first_day(since: Timestamp) -> i32 {
    day_of(Timestamp::from_millis(since.as_millis() - 1))
}

fn day_of(at: Timestamp) -> i32 {
    i32::try_from(at.as_millis().div_euclid(DAY_MS)).unwrap_or(i32::MAX)
}

/// The whole history of some pools that is kept.
pub(super) async fn load_all(
    connection: &mut Connection<'_>,
    pool_ids: &[i32],
) -> QueryResult<Histories> {
    load(connection, pool_ids, i32::MIN, i32::MAX).await
}

/// What was seen of a pool, up to now.
pub(super) struct SeenPool {
    /// None if nothing was.
    pub(super) interval: Option<ExpectedInterval>,
    /// The oldest first.
    pub(super) segments: Vec<Segment>,
}

/// What was seen of some pools from `since` to `until`, with the segments that are open, or were closed by what
/// their sources said of all pools.
pub(super) async fn load_seen(
    connection: &mut Connection<'_>,
    pool_ids: &[i32],
    since: Timestamp,
    until: Timestamp,
) -> QueryResult<BTreeMap<i32, SeenPool>> {
    let known = pools::load_pools_by_id(connection, pool_ids).await?;
    let histories = load(connection, pool_ids, first_day(since), day_of(until)).await?;
    let mut spans = BTreeMap::new();
    for (source_id, _) in known.values() {
        if !spans.contains_key(source_id) {
            spans.insert(*source_id, coverage::list_all(connection, *source_id).await?);
        }
    }
    let seen = known.into_iter().map(|(id, (source_id, stored))| {
        let mut segments = segments_of(&histories, id);
        // One that was open when the pool was read may have been closed before its history was.
        let closed = segments.last().map(|segment| segment.last_seen);
        let open = stored.open_segments(&spans[&source_id]);
        segments.extend(open.into_iter().filter(|segment| Some(segment.started) > closed));
        (id, SeenPool { interval: stored.state.as_ref().map(StateRow::interval), segments })
    });
    Ok(seen.collect())
}

async fn load(
    connection: &mut Connection<'_>,
    pool_ids: &[i32],
    first: i32,
    last: i32,
) -> QueryResult<Histories> {
    let mut histories = Histories::new();
    if pool_ids.is_empty() {
        return Ok(histories);
    }
    // Either end of the key is found at once.
    let ends = Statement::new(
        "SELECT (SELECT MIN(day) FROM segment) AS earliest, (SELECT MAX(day) FROM segment) AS latest",
    );
    let ends: Option<Days> = connection.first(ends).await?;
    let Some((earliest, latest)) = ends.and_then(|days| days.earliest.zip(days.latest)) else {
        return Ok(histories);
    };
    let days: Vec<i32> = (earliest.max(first)..=latest.min(last)).collect();
    for days in days.chunks(DAYS_PER_STATEMENT) {
        for ids in pool_ids.chunks(KEYS_PER_STATEMENT) {
            let query = Statement::new(format!(
                "SELECT {} FROM segment WHERE day IN ({}) AND pool_id IN ({}) \
                 ORDER BY day, pool_id, started",
                COLUMNS.join(", "),
                question_marks(days.len()),
                question_marks(ids.len())
            ));
            let query = query.bind_all(days.iter().copied()).bind_all(ids.iter().copied());
            let rows: Vec<SegmentRow> = connection.load(query).await?;
            for row in rows {
                histories.entry(row.pool_id).or_default().push(row);
            }
        }
    }
    Ok(histories)
}

/// The rows of a pool, the oldest first.
pub(super) fn rows_of(histories: &Histories, pool_id: i32) -> &[SegmentRow] {
    histories.get(&pool_id).map_or(&[], Vec::as_slice)
}

/// The segments of a pool, the oldest first.
pub(super) fn segments_of(histories: &Histories, pool_id: i32) -> Vec<Segment> {
    join_touching(rows_of(histories, pool_id).iter().map(Segment::from).collect())
}

/// Adds segments that closed, unless they are too old. Those that are there already, as after a batch that was
/// sent again, are the same.
pub(super) async fn write(
    connection: &mut Connection<'_>,
    segments: &[(i32, Segment)],
    oldest_kept: Timestamp,
) -> QueryResult<()> {
    let rows = segments
        .iter()
        .flat_map(|(pool_id, segment)| SegmentRow::of(*pool_id, *segment, oldest_kept));
    write_rows(connection, rows).await
}

async fn write_rows(
    connection: &mut Connection<'_>,
    rows: impl Iterator<Item = SegmentRow>,
) -> QueryResult<()> {
    let on_conflict = OnConflict::Overwrite { key: &["day", "pool_id", "started"] };
    let into = Insert { table: "segment", columns: &COLUMNS, on_conflict };
    let rows: Vec<_> = rows.map(|row| row.values()).collect();
    connection.insert(&into, rows).await
}

/// Makes `segments` all that is kept of a pool which has the rows `before`, and writes only what differs.
pub(super) async fn replace(
    connection: &mut Connection<'_>,
    pool_id: i32,
    before: &[SegmentRow],
    segments: &[Segment],
    oldest_kept: Timestamp,
) -> QueryResult<()> {
    let key = |row: &SegmentRow| (row.day, row.started);
    let rows = segments.iter().flat_map(|segment| SegmentRow::of(pool_id, *segment, oldest_kept));
    let mut wanted: BTreeMap<(i32, i64), SegmentRow> = rows.map(|row| (key(&row), row)).collect();
    for row in before {
        match wanted.get(&key(row)) {
            Some(wanted_row) if wanted_row == row => {
                wanted.remove(&key(row));
            }
            Some(_) => {}
            None => {
                let delete = Statement::new(
                    "DELETE FROM segment WHERE day = ? AND pool_id = ? AND started = ?",
                );
                let delete = delete.bind(row.day).bind(pool_id).bind(row.started);
                connection.execute(delete).await?;
            }
        }
    }
    write_rows(connection, wanted.into_values()).await
}

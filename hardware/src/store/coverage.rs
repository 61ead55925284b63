//! Spans in which a source spoke of all its pools at once.

use availability::{ExpectedInterval, Timestamp};
use diesel::QueryResult;

use super::{
    connection::{Connection, Statement},
    rows::{CoverageRow, seconds},
};

/// All spans of a source, the oldest first.
pub(super) async fn list_all(
    connection: &mut Connection<'_>,
    source_id: i32,
) -> QueryResult<Vec<CoverageRow>> {
    let query = Statement::new(
        "SELECT source_id, started, last_seen, interval_s FROM source_coverage \
         WHERE source_id = ? ORDER BY started",
    );
    connection.load(query.bind(source_id)).await
}

/// The spans of a source that ended after `since`, in milliseconds; the oldest first.
pub(super) async fn list_since(
    connection: &mut Connection<'_>,
    source_id: i32,
    since: i64,
) -> QueryResult<Vec<CoverageRow>> {
    let query = Statement::new(
        "SELECT source_id, started, last_seen, interval_s FROM source_coverage \
         WHERE source_id = ? AND last_seen > ? ORDER BY started",
    );
    connection.load(query.bind(source_id).bind(since)).await
}

/// A batch that confirms what it does not list makes the span of its source longer, or begins one. Returns
/// whether it came after a gap.
pub(super) async fn extend(
    connection: &mut Connection<'_>,
    source_id: i32,
    interval: ExpectedInterval,
    at: Timestamp,
) -> QueryResult<bool> {
    let latest = Statement::new(
        "SELECT source_id, started, last_seen, interval_s FROM source_coverage \
         WHERE source_id = ? ORDER BY started DESC LIMIT 1",
    );
    let latest: Option<CoverageRow> = connection.first(latest.bind(source_id)).await?;
    let last_seen = latest.map(|span| Timestamp::from_millis(span.last_seen));
    match (latest, last_seen) {
        // Sent again, or late: what it could confirm has been said since.
        (Some(_), Some(last_seen)) if at <= last_seen => Ok(false),
        (Some(span), Some(last_seen))
            if at.since(last_seen) <= interval.speaks_for()
                && span.interval_s == seconds(interval) =>
        {
            let update = Statement::new(
                "UPDATE source_coverage SET last_seen = ? WHERE source_id = ? AND started = ?",
            );
            let update = update.bind(at.as_millis()).bind(source_id).bind(span.started);
            connection.execute(update).await?;
            Ok(false)
        }
        _ => {
            let insert = Statement::new(
                "INSERT INTO source_coverage (source_id, started, last_seen, interval_s) \
                 VALUES (?, ?, ?, ?)",
            );
            let insert = insert.bind(source_id).bind(at.as_millis()).bind(at.as_millis());
            connection.execute(insert.bind(seconds(interval))).await?;
            Ok(last_seen.is_some_and(|last_seen| at.since(last_seen) > interval.speaks_for()))
        }
    }
}

//! What a refresh of the snapshot reads.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::Connection;
use crate::store::{
    rows::{PoolRow, SegmentRow, SourceRow},
    schema::{hardware_key, pool, pool_current, segment, source},
};

/// Identities in one `IN (…)`: far below what either database allows.
const CHUNK: usize = 500;

pub(in crate::store) async fn list_sources(
    connection: &mut Connection,
) -> QueryResult<Vec<SourceRow>> {
    source::table.select(SourceRow::as_select()).load(connection).await
}

pub(in crate::store) async fn list_changed_since(
    connection: &mut Connection,
    source_id: i32,
    revision: i64,
) -> QueryResult<Vec<PoolRow>> {
    pool_current::table
        .inner_join(pool::table.inner_join(hardware_key::table))
        .filter(pool_current::source_id.eq(source_id))
        .filter(pool_current::revision.gt(revision))
        .select((
            pool::id,
            hardware_key::provider,
            hardware_key::name,
            pool::region,
            pool::zone,
            pool::tier,
            pool::unit,
            pool_current::started_at,
            pool_current::last_seen_at,
            pool_current::total,
            pool_current::free,
        ))
        .load(connection)
        .await
}

pub(in crate::store) async fn list_segments(
    connection: &mut Connection,
    pool_ids: &[i32],
    since: NaiveDateTime,
) -> QueryResult<Vec<SegmentRow>> {
    let mut segments = Vec::new();
    for ids in pool_ids.chunks(CHUNK) {
        let chunk = segment::table
            .filter(segment::pool_id.eq_any(ids))
            .filter(segment::last_seen_at.ge(since))
            .order((segment::pool_id, segment::started_at))
            .select(SegmentRow::as_select())
            .load(connection)
            .await?;
        segments.extend(chunk);
    }
    Ok(segments)
}

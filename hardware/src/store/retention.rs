//! Deletes history that is no longer kept, in steps that hold no lock for long.

use availability::Timestamp;
use diesel::{
    QueryResult, QueryableByName,
    sql_types::{BigInt, Integer},
};

use super::{
    Db, StoreError,
    connection::{Connection, Statement},
    lease::{Lease, Step},
    rows::DAY_MS,
};

/// A step deletes at least this many rows, rounded up to a whole pool.
const ROWS_PER_STEP: i64 = 5000;

/// Days by which `quality_day` outlives history: a year of it has some thousand rows.
const RECORD_DAYS: i64 = 366;

#[derive(QueryableByName)]
struct PoolId {
    #[diesel(sql_type = Integer)]
    pool_id: i32,
}

#[derive(QueryableByName)]
struct AttemptTime {
    #[diesel(sql_type = BigInt)]
    at: i64,
}

impl Db {
    /// Deletes some of the rows that ended before the day of `oldest_kept`. May be cut off at any time.
    pub async fn delete_old_history(
        &self,
        lease: &Lease,
        oldest_kept: Timestamp,
    ) -> Result<Step, StoreError> {
        self.transaction(async |connection| {
            if !lease.is_held(connection).await? {
                return Ok(Step::LostLease);
            }
            delete_step(connection, oldest_kept.as_millis()).await
        })
        .await
    }
}

async fn delete_step(connection: &mut Connection<'_>, oldest_kept: i64) -> QueryResult<Step> {
    let first_kept = oldest_kept.div_euclid(DAY_MS);
    let oldest = Statement::new("SELECT MIN(day) AS value FROM segment");
    let Some(day) = connection.number(oldest).await?.filter(|day| *day < first_kept) else {
        let spans = Statement::new("DELETE FROM source_coverage WHERE last_seen < ?");
        let spans = connection.execute(spans.bind(oldest_kept)).await?;
        let records = Statement::new("DELETE FROM quality_day WHERE day < ?");
        let records = connection.execute(records.bind(first_kept - RECORD_DAYS)).await?;
        // At most as many as are kept.
        let changes = Statement::new("DELETE FROM level_change WHERE at < ?");
        let changes = connection.execute(changes.bind(oldest_kept)).await?;
        let attempts = delete_attempts(connection, oldest_kept).await?;
        let deleted = spans + records + changes + attempts;
        return Ok(if deleted > 0 { Step::Did(deleted) } else { Step::Done });
    };
    // Neither database deletes "the first so many" in the same words: find where they end.
    let end = Statement::new(
        "SELECT pool_id FROM segment WHERE day = ? ORDER BY pool_id LIMIT 1 OFFSET ?",
    );
    let end: Option<PoolId> = connection.first(end.bind(day).bind(ROWS_PER_STEP)).await?;
    let delete = Statement::new("DELETE FROM segment WHERE day = ? AND pool_id <= ?");
    let last = end.map_or(i32::MAX, |end| end.pool_id);
    let deleted = connection.execute(delete.bind(day).bind(last)).await?;
    Ok(Step::Did(deleted))
}

/// Deletes some of the attempts that were made before `oldest_kept`, the oldest first.
async fn delete_attempts(connection: &mut Connection<'_>, oldest_kept: i64) -> QueryResult<usize> {
    let end = Statement::new("SELECT at FROM attempt ORDER BY at LIMIT 1 OFFSET ?");
    let end: Option<AttemptTime> = connection.first(end.bind(ROWS_PER_STEP)).await?;
    let end = end.map_or(oldest_kept, |end| oldest_kept.min(end.at.saturating_add(1)));
    let delete = Statement::new("DELETE FROM attempt WHERE at < ?");
    connection.execute(delete.bind(end)).await
}

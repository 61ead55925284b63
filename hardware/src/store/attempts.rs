//! Attempts to get hardware, which sources report.

use std::collections::HashMap;

use availability::{Attempt, ExpectedInterval, Timestamp, Wanted};
use diesel::{
    QueryResult, QueryableByName,
    result::Error,
    sql_types::{BigInt, Integer, Nullable, Text},
};

use super::{
    Arrival, Db, StoreError,
    connection::{Connection, Insert, KEYS_PER_STATEMENT, OnConflict, Statement, question_marks},
    pools,
    schema::attempt,
    sources::{self, Cause},
};
use crate::observation::{AttemptBatch, KEPT_ATTEMPTS, PoolName, TakenAttempt};

/// An attempt as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRow {
    /// The names of its pool, as they were spelled first.
    pub pool: PoolName,
    /// What was tried, and what came of it.
    pub attempt: Attempt,
    /// What the provider said, if the source passed it on.
    pub code: Option<String>,
}

#[derive(QueryableByName)]
struct StoredAttempt {
    #[diesel(sql_type = Text)]
    provider: String,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    region: String,
    #[diesel(sql_type = Text)]
    zone: String,
    #[diesel(sql_type = Text)]
    tier: String,
    #[diesel(sql_type = Text)]
    unit: String,
    #[diesel(sql_type = BigInt)]
    at: i64,
    #[diesel(sql_type = Integer)]
    units: i32,
    #[diesel(sql_type = Text)]
    outcome: String,
    #[diesel(sql_type = Nullable<Text>)]
    code: Option<String>,
}

impl StoredAttempt {
    /// None for a row that another version or somebody by hand wrote.
    fn read(self) -> Option<AttemptRow> {
        let attempt = read_attempt(self.at, self.units, &self.outcome)?;
        let Self { provider, name, region, zone, tier, unit, code, .. } = self;
        let pool = PoolName { provider, name, region, zone, tier, unit };
        Some(AttemptRow { pool, attempt, code })
    }
}

#[derive(QueryableByName)]
#[diesel(table_name = attempt)]
struct KnownAttempt {
    pool_id: i32,
    at: i64,
    units: i32,
    outcome: String,
}

fn read_attempt(at: i64, units: i32, outcome: &str) -> Option<Attempt> {
    let succeeded = match outcome {
        SUCCEEDED => true,
        FAILED => false,
        _ => return None,
    };
    let units = u32::try_from(units).ok().and_then(Wanted::new)?;
    Some(Attempt { at: Timestamp::from_millis(at), units, succeeded })
}

const SUCCEEDED: &str = "succeeded";
const FAILED: &str = "failed";

impl Db {
    /// Writes attempts in one transaction, and says what became of each. Repeating it changes nothing.
    pub async fn record_attempts(
        &self,
        batch: &AttemptBatch,
        arrival: Arrival,
    ) -> Result<Vec<TakenAttempt>, StoreError> {
        self.transaction(async |connection| record(connection, batch, arrival).await).await
    }

    /// The attempts of a source that were taken in after a revision, of each pool the latest
    /// [`KEPT_ATTEMPTS`] at most.
    pub async fn list_attempts(
        &self,
        source_id: i32,
        revision: i64,
    ) -> Result<Vec<AttemptRow>, StoreError> {
        let query = Statement::new(
            "SELECT pool.provider, pool.name, pool.region, pool.zone, pool.tier, pool.unit, \
             latest.at, latest.units, latest.outcome, latest.code \
             FROM (SELECT pool_id, at, units, outcome, code, ROW_NUMBER() OVER \
             (PARTITION BY pool_id ORDER BY at DESC, units) AS place \
             FROM attempt WHERE source_id = ? AND revision > ?) AS latest \
             JOIN pool ON pool.id = latest.pool_id WHERE latest.place <= ?",
        );
        let most = i64::try_from(KEPT_ATTEMPTS).unwrap_or(i64::MAX);
        let query = query.bind(source_id).bind(revision).bind(most);
        let rows: Vec<StoredAttempt> =
            self.read(async |connection| connection.load(query).await).await?;
        Ok(rows.into_iter().filter_map(StoredAttempt::read).collect())
    }
}

/// An attempt is told from others by its pool, its time and the number of units.
type Key = (i32, Timestamp, Wanted);

async fn record(
    connection: &mut Connection<'_>,
    batch: &AttemptBatch,
    arrival: Arrival,
) -> QueryResult<Vec<TakenAttempt>> {
    let AttemptBatch { source: name, items } = batch;
    // Of a source that is known the interval stays as it is.
    let interval = ExpectedInterval::default();
    let source =
        sources::add_or_advance(connection, name, interval, arrival.at, Cause::Attempts).await?;
    let kept = items.iter().filter(|item| item.attempt.at >= arrival.oldest_kept);
    let names = kept.clone().map(|item| &item.pool);
    let pools = pools::find_named_pools(connection, source.id, name, names).await?;
    let ids: Vec<i32> = pools.values().map(|pool| pool.id).collect();
    let times = kept.map(|item| item.attempt.at);
    let mut known = match (times.clone().min(), times.max()) {
        (Some(first), Some(last)) => load_known(connection, &ids, first, last).await?,
        _ => HashMap::new(),
    };
    let (mut taken, mut rows) = (Vec::with_capacity(items.len()), Vec::new());
    for item in items {
        let Attempt { at, units, succeeded } = item.attempt;
        if at < arrival.oldest_kept {
            taken.push(TakenAttempt::TooOld);
            continue;
        }
        let pool = pools.get(&item.pool.identity(name)).ok_or(Error::NotFound)?;
        let key: Key = (pool.id, at, units);
        taken.push(match known.get(&key) {
            Some(outcome) if *outcome == succeeded => TakenAttempt::Duplicate,
            Some(_) => TakenAttempt::Contradicts,
            None => {
                known.insert(key, succeeded);
                rows.push(vec![
                    pool.id.into(),
                    at.as_millis().into(),
                    i64::from(units.get()).into(),
                    if succeeded { SUCCEEDED } else { FAILED }.into(),
                    item.code.as_ref().into(),
                    source.id.into(),
                    source.revision.into(),
                ]);
                TakenAttempt::Accepted
            }
        });
    }
    let into = Insert {
        table: "attempt",
        columns: &["pool_id", "at", "units", "outcome", "code", "source_id", "revision"],
        on_conflict: OnConflict::Ignore,
    };
    connection.insert(&into, rows).await?;
    Ok(taken)
}

/// What is known of attempts in some pools between two times: whether each has succeeded.
async fn load_known(
    connection: &mut Connection<'_>,
    pool_ids: &[i32],
    first: Timestamp,
    last: Timestamp,
) -> QueryResult<HashMap<Key, bool>> {
    let mut known = HashMap::new();
    for ids in pool_ids.chunks(KEYS_PER_STATEMENT) {
        let marks = question_marks(ids.len());
        let query = Statement::new(format!(
            "SELECT pool_id, at, units, outcome FROM attempt \
             WHERE pool_id IN ({marks}) AND at >= ? AND at <= ?"
        ));
        let query = query.bind_all(ids.iter().copied());
        let query = query.bind(first.as_millis()).bind(last.as_millis());
        let rows: Vec<KnownAttempt> = connection.load(query).await?;
        known.extend(rows.into_iter().filter_map(|row| {
            let Attempt { at, units, succeeded } = read_attempt(row.at, row.units, &row.outcome)?;
            Some(((row.pool_id, at, units), succeeded))
        }));
    }
    Ok(known)
}

//! Carries the data of the first schema over into the present one.
//!
//! A migration has put its tables aside as `previous_…`. Their segments are joined and folded into states; two spellings of one supply become one pool. Each step may be repeated, so a process that dies
//! in the middle leaves the rest to the next one, and the tables that were put aside are dropped at the end.

use std::collections::BTreeMap;

use availability::{ExpectedInterval, Observation, Segment, Timestamp};
use chrono::NaiveDateTime;
use diesel::{
    QueryResult, QueryableByName,
    sql_types::{BigInt, Integer, Nullable, Text, Timestamp as Datetime},
};
use tracing::info;

use super::{
    Db, StoreError,
    connection::{Connection, Insert, KEYS_PER_STATEMENT, OnConflict, Statement, question_marks},
    history, pools,
    rows::interval_of,
};
use crate::observation::{Identity, PoolName, refold};

/// Segments that are read and written in one transaction, and those of one more pool.
const SEGMENTS_AT_ONCE: i64 = 20_000;

/// What is due is listed beside the migrations under this name.
pub(super) const NAME: &str = "carry over";

/// Each before those that it refers to. They are dropped in this order when all is carried over, so where one
/// is missing there is nothing more to do.
const TABLES: [&str; 5] = [
    "previous_pool_current",
    "previous_segment",
    "previous_pool",
    "previous_hardware_key",
    "previous_source",
];

impl Db {
    /// Carries over what there is; false if there was nothing. On MySQL the caller holds a lock.
    pub(super) async fn carry_over(&self) -> Result<bool, StoreError> {
        if let Self::Sqlite(_) = self {
            return self.transaction(async |connection| carry_all(connection).await).await;
        }
        if !self.is_carrying_over_due().await? {
            return Ok(false);
        }
        let pools = self.transaction(async |connection| prepare(connection).await).await?;
        info!(pools = pools.len(), "carrying the data of the previous version over");
        for pools in in_parts(&pools) {
            self.transaction(async |connection| carry(connection, pools).await).await?;
        }
        self.write(async |connection| drop_tables(connection).await).await?;
        Ok(true)
    }

    /// Whether data of the previous version wait for `hardware migrate`.
    pub(super) async fn is_carrying_over_due(&self) -> Result<bool, StoreError> {
        self.read(async |connection| is_due(connection).await).await
    }
}

async fn is_due(connection: &mut Connection<'_>) -> QueryResult<bool> {
    Ok(count_tables(connection).await? > 0)
}

/// Whether nothing was dropped yet.
async fn are_complete(connection: &mut Connection<'_>) -> QueryResult<bool> {
    Ok(usize::try_from(count_tables(connection).await?) == Ok(TABLES.len()))
}

async fn count_tables(connection: &mut Connection<'_>) -> QueryResult<i64> {
    let tables = match connection {
        Connection::Sqlite(_) => "sqlite_master WHERE type = 'table' AND name",
        Connection::Mysql(_) => {
            "information_schema.tables WHERE table_schema = DATABASE() AND table_name"
        }
    };
    let marks = question_marks(TABLES.len());
    let query = Statement::new(format!("SELECT COUNT(*) AS value FROM {tables} IN ({marks})"));
    Ok(connection.number(query.bind_all(TABLES)).await?.unwrap_or(0))
}

/// In one transaction, so that of several processes one does it.
async fn carry_all(connection: &mut Connection<'_>) -> QueryResult<bool> {
    if !is_due(connection).await? {
        return Ok(false);
    }
    let pools = prepare(connection).await?;
    for pools in in_parts(&pools) {
        carry(connection, pools).await?;
    }
    drop_tables(connection).await?;
    Ok(true)
}

async fn drop_tables(connection: &mut Connection<'_>) -> QueryResult<()> {
    for table in TABLES {
        connection.execute(Statement::new(format!("DROP TABLE IF EXISTS {table}"))).await?;
    }
    Ok(())
}

#[derive(QueryableByName)]
struct PreviousSource {
    #[diesel(sql_type = Integer)]
    id: i32,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Integer)]
    expected_interval_s: i32,
    #[diesel(sql_type = BigInt)]
    revision: i64,
    #[diesel(sql_type = Datetime)]
    last_seen_at: NaiveDateTime,
}

#[derive(QueryableByName)]
struct PreviousPool {
    #[diesel(sql_type = Integer)]
    id: i32,
    #[diesel(sql_type = Integer)]
    source_id: i32,
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
    segments: i64,
}

#[derive(QueryableByName)]
struct PreviousSegment {
    #[diesel(sql_type = Integer)]
    pool_id: i32,
    #[diesel(sql_type = Datetime)]
    started_at: NaiveDateTime,
    #[diesel(sql_type = Datetime)]
    last_seen_at: NaiveDateTime,
    #[diesel(sql_type = Nullable<Integer>)]
    total: Option<i32>,
    #[diesel(sql_type = Integer)]
    free: i32,
}

impl From<&PreviousSegment> for Segment {
    fn from(run: &PreviousSegment) -> Self {
        let units = |count: i32| u32::try_from(count).unwrap_or(0);
        let observation = match run.total {
            Some(total) => Observation::counts(units(total), units(total.saturating_sub(run.free))),
            None => Observation::Available(run.free > 0),
        };
        let [started, last_seen] = [run.started_at, run.last_seen_at]
            .map(|at| Timestamp::from_millis(at.and_utc().timestamp_millis()));
        Self { started, last_seen, observation }
    }
}

/// A pool of the present schema, and the previous ones that it was.
struct CarriedPool {
    identity: Identity,
    source_id: i32,
    revision: i64,
    interval: ExpectedInterval,
    name: PoolName,
    previous_ids: Vec<i32>,
    /// How many segments those have.
    segments: i64,
}

/// Parts of the pools that have about as many segments as fit into a transaction.
fn in_parts(pools: &[CarriedPool]) -> Vec<&[CarriedPool]> {
    let mut parts = Vec::new();
    let (mut begin, mut segments) = (0, 0);
    for (place, pool) in pools.iter().enumerate() {
        segments += pool.segments;
        if segments >= SEGMENTS_AT_ONCE {
            parts.push(&pools[begin..=place]);
            (begin, segments) = (place + 1, 0);
        }
    }
    parts.push(&pools[begin..]);
    parts
}

/// Carries the sources over, and lists the pools that are to follow.
async fn prepare(connection: &mut Connection<'_>) -> QueryResult<Vec<CarriedPool>> {
    if !are_complete(connection).await? {
        return Ok(Vec::new());
    }
    let sources =
        "SELECT id, name, expected_interval_s, revision, last_seen_at FROM previous_source";
    let sources: Vec<PreviousSource> = connection.load(Statement::new(sources)).await?;
    let columns = ["id", "name", "expected_interval_s", "revision", "last_seen"];
    let into = Insert { table: "source", columns: &columns, on_conflict: OnConflict::Ignore };
    let rows = sources.iter().map(|source| {
        vec![
            source.id.into(),
            (&source.name).into(),
            source.expected_interval_s.into(),
            source.revision.into(),
            source.last_seen_at.and_utc().timestamp_millis().into(),
        ]
    });
    connection.insert(&into, rows.collect::<Vec<_>>()).await?;

    let pools = "SELECT previous_pool.id, previous_pool.source_id, previous_hardware_key.provider, \
                 previous_hardware_key.name, previous_pool.region, previous_pool.zone, \
                 previous_pool.tier, previous_pool.unit, \
                 (SELECT COUNT(*) FROM previous_segment \
                 WHERE previous_segment.pool_id = previous_pool.id) + 1 AS segments \
                 FROM previous_pool \
                 JOIN previous_hardware_key \
                 ON previous_hardware_key.id = previous_pool.hardware_key_id \
                 ORDER BY previous_pool.id";
    let pools: Vec<PreviousPool> = connection.load(Statement::new(pools)).await?;
    let sources: BTreeMap<i32, &PreviousSource> =
        sources.iter().map(|source| (source.id, source)).collect();
    let mut carried: BTreeMap<Identity, CarriedPool> = BTreeMap::new();
    for PreviousPool { id, source_id, provider, name, region, zone, tier, unit, segments } in pools
    {
        let Some(source) = sources.get(&source_id) else { continue };
        let name = PoolName { provider, name, region, zone, tier, unit };
        let identity = name.identity(&source.name);
        let pool = carried.entry(identity).or_insert_with(|| CarriedPool {
            identity,
            source_id,
            revision: source.revision,
            interval: interval_of(source.expected_interval_s),
            name,
            previous_ids: Vec::new(),
            segments: 0,
        });
        pool.previous_ids.push(id);
        pool.segments += segments;
    }
    Ok(carried.into_values().collect())
}

async fn carry(connection: &mut Connection<'_>, pools: &[CarriedPool]) -> QueryResult<()> {
    let ids: Vec<i32> = pools.iter().flat_map(|pool| pool.previous_ids.iter().copied()).collect();
    let mut segments: BTreeMap<i32, Vec<Segment>> = BTreeMap::new();
    for table in ["previous_segment", "previous_pool_current"] {
        for ids in ids.chunks(KEYS_PER_STATEMENT) {
            let query = Statement::new(format!(
                "SELECT pool_id, started_at, last_seen_at, total, free FROM {table} \
                 WHERE pool_id IN ({})",
                question_marks(ids.len())
            ));
            let query = query.bind_all(ids.iter().copied());
            let found: Vec<PreviousSegment> = connection.load(query).await?;
            for row in &found {
                segments.entry(row.pool_id).or_default().push(Segment::from(row));
            }
        }
    }
    let columns = [
        "id",
        "identity",
        "source_id",
        "provider",
        "name",
        "region",
        "zone",
        "tier",
        "unit",
        "listed",
    ];
    let into = Insert { table: "pool", columns: &columns, on_conflict: OnConflict::Ignore };
    let rows =
        pools.iter().map(|CarriedPool { identity, source_id, name, previous_ids, .. }| {
            vec![
                previous_ids[0].into(),
                identity.as_slice().into(),
                (*source_id).into(),
                (&name.provider).into(),
                (&name.name).into(),
                (&name.region).into(),
                (&name.zone).into(),
                (&name.tier).into(),
                (&name.unit).into(),
                // As long as anything is known of it.
                0_i64.into(),
            ]
        });
    connection.insert(&into, rows.collect::<Vec<_>>()).await?;
    let (mut closed_segments, mut states) = (Vec::new(), BTreeMap::<_, Vec<_>>::new());
    for pool in pools {
        let id = pool.previous_ids[0];
        let pieces =
            pool.previous_ids.iter().filter_map(|id| segments.remove(id)).flatten().collect();
        // A pool whose rows somebody deleted has no past, and begins anew when it is seen.
        let Some((closed, state)) = refold(Vec::new(), pieces, pool.interval) else { continue };
        closed_segments.extend(closed.into_iter().map(|segment| (id, segment)));
        states.entry((pool.source_id, pool.revision)).or_default().push((id, state));
    }
    history::write(connection, &closed_segments, Timestamp::from_millis(i64::MIN)).await?;
    for ((source_id, revision), states) in states {
        pools::write_states(connection, source_id, revision, states).await?;
    }
    Ok(())
}

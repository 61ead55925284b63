//! Pools, the names that they have in the database, and their states.

use std::collections::{BTreeMap, HashMap};

use availability::{PoolState, Segment, Timestamp};
use diesel::{
    QueryResult, QueryableByName,
    result::Error,
    sql_types::{BigInt, Binary, Integer, Nullable},
};

use super::{
    connection::{Connection, Insert, KEYS_PER_STATEMENT, OnConflict, Statement, question_marks},
    rows::{CoverageRow, PoolRow, Presence, StateRow},
};
use crate::observation::{Identity, PoolName};

/// At most `limit` pools of a source with a later revision, those with the smallest ids above `after`.
pub(super) async fn list_changed(
    connection: &mut Connection<'_>,
    source_id: i32,
    revision: i64,
    after: i32,
    limit: i64,
) -> QueryResult<Vec<PoolRow>> {
    let query = Statement::new(
        "SELECT pool.id, pool.provider, pool.name, pool.region, pool.zone, pool.tier, pool.unit, \
         pool.listed, pool.retired, pool_state.pool_id, pool_state.interval_s, pool_state.started, \
         pool_state.last_seen, pool_state.total, pool_state.free, pool_state.states \
         FROM pool_state JOIN pool ON pool.id = pool_state.pool_id \
         WHERE pool_state.source_id = ? AND pool_state.revision > ? AND pool_state.pool_id > ? \
         ORDER BY pool_state.pool_id LIMIT ?",
    );
    let query = query.bind(source_id).bind(revision).bind(after).bind(limit);
    connection.load(query).await
}

#[derive(QueryableByName)]
struct CountRow {
    #[diesel(sql_type = Integer)]
    source_id: i32,
    #[diesel(sql_type = BigInt)]
    pools: i64,
}

/// How many pools each source has, by its id.
pub(super) async fn count(connection: &mut Connection<'_>) -> QueryResult<BTreeMap<i32, i64>> {
    let query = "SELECT source_id, COUNT(*) AS pools FROM pool_state GROUP BY source_id";
    let counts: Vec<CountRow> = connection.load(Statement::new(query)).await?;
    Ok(counts.into_iter().map(|row| (row.source_id, row.pools)).collect())
}

#[derive(QueryableByName)]
struct PresentRow {
    #[diesel(sql_type = Integer)]
    id: i32,
}

/// The pools that a source has and that were last seen before `at`.
pub(super) async fn list_present(
    connection: &mut Connection<'_>,
    source_id: i32,
    at: Timestamp,
) -> QueryResult<Vec<i32>> {
    let query = Statement::new(
        "SELECT pool.id FROM pool JOIN pool_state ON pool_state.pool_id = pool.id \
         WHERE pool.source_id = ? AND pool.retired IS NULL AND pool_state.last_seen < ?",
    );
    let rows: Vec<PresentRow> = connection.load(query.bind(source_id).bind(at.as_millis())).await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

fn read_identity(bytes: &[u8]) -> QueryResult<Identity> {
    Identity::try_from(bytes).map_err(|error| Error::DeserializationError(Box::new(error)))
}

/// A pool that a batch or an import names.
pub(super) struct StoredPool {
    pub(super) id: i32,
    pub(super) presence: Presence,
    /// None for a pool that is new.
    pub(super) state: Option<StateRow>,
}

impl StoredPool {
    pub(super) fn last_seen(&self) -> Option<Timestamp> {
        self.state.as_ref().map(|state| Timestamp::from_millis(state.last_seen))
    }

    /// Whether a report of that time means that the source has the pool, which it did not before.
    pub(super) fn is_listed_by(&self, at: Timestamp) -> bool {
        match self.presence {
            Presence { listed: None, .. } => true,
            Presence { retired: None, .. } => false,
            Presence { retired: Some(retired), .. } => at.as_millis() >= retired,
        }
    }

    /// The open segment, and those that closed before it in spans of the source.
    pub(super) fn open_segments(&self, spans: &[CoverageRow]) -> Vec<Segment> {
        let Some(row) = &self.state else { return Vec::new() };
        let Ok(mut state) = row.decode() else { return vec![row.open_segment()] };
        let spans = self.presence.within(spans);
        let mut segments: Vec<Segment> = spans.flat_map(|span| state.cover(&span)).collect();
        segments.push(state.open_segment());
        segments
    }
}

/// The pools of a source with these names, by identity; those that are new get a row.
pub(super) async fn find_named_pools<'a>(
    connection: &mut Connection<'_>,
    source_id: i32,
    source: &str,
    names: impl Iterator<Item = &'a PoolName>,
) -> QueryResult<HashMap<Identity, StoredPool>> {
    let names = names.map(|name| (name.identity(source), name)).collect();
    find_or_add(connection, source_id, names).await
}

/// The same for names whose identities are known.
pub(super) async fn find_or_add(
    connection: &mut Connection<'_>,
    source_id: i32,
    names: BTreeMap<Identity, &PoolName>,
) -> QueryResult<HashMap<Identity, StoredPool>> {
    let identities: Vec<Identity> = names.keys().copied().collect();
    let mut stored = load_pools(connection, &identities).await?;
    let is_new = |identity: &&Identity| !stored.contains_key(*identity);
    let new: Vec<Identity> = identities.iter().filter(is_new).copied().collect();
    if !new.is_empty() {
        let names = new.iter().map(|identity| (*identity, names[identity]));
        add_pools(connection, source_id, names).await?;
        stored.extend(load_pools(connection, &new).await?);
    }
    Ok(stored)
}

#[derive(QueryableByName)]
struct NamedPool {
    #[diesel(sql_type = Integer)]
    id: i32,
    #[diesel(sql_type = Integer)]
    source_id: i32,
    #[diesel(sql_type = Binary)]
    identity: Vec<u8>,
    #[diesel(sql_type = Nullable<BigInt>)]
    listed: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    retired: Option<i64>,
    #[diesel(sql_type = Nullable<Integer>)]
    interval_s: Option<i32>,
    #[diesel(sql_type = Nullable<BigInt>)]
    started: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    last_seen: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    total: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    free: Option<i64>,
    #[diesel(sql_type = Nullable<Binary>)]
    states: Option<Vec<u8>>,
}

impl From<NamedPool> for StoredPool {
    fn from(row: NamedPool) -> Self {
        let NamedPool { id, total, .. } = row;
        let state = row.interval_s.zip(row.started).zip(row.last_seen.zip(row.free));
        let state =
            state.zip(row.states).map(|(((interval_s, started), (last_seen, free)), states)| {
                StateRow { pool_id: id, interval_s, started, last_seen, total, free, states }
            });
        let presence = Presence { listed: row.listed, retired: row.retired };
        Self { id, presence, state }
    }
}

const SELECT_POOLS: &str = "SELECT pool.id, pool.source_id, pool.identity, pool.listed, pool.retired, \
                            pool_state.interval_s, pool_state.started, pool_state.last_seen, \
                            pool_state.total, pool_state.free, pool_state.states \
                            FROM pool LEFT JOIN pool_state ON pool_state.pool_id = pool.id";

/// Pools with the sources that they belong to, by id.
pub(super) async fn load_pools_by_id(
    connection: &mut Connection<'_>,
    ids: &[i32],
) -> QueryResult<BTreeMap<i32, (i32, StoredPool)>> {
    let mut pools = BTreeMap::new();
    for ids in ids.chunks(KEYS_PER_STATEMENT) {
        let marks = question_marks(ids.len());
        let query = Statement::new(format!("{SELECT_POOLS} WHERE pool.id IN ({marks})"));
        let rows: Vec<NamedPool> = connection.load(query.bind_all(ids.iter().copied())).await?;
        pools.extend(rows.into_iter().map(|row| (row.id, (row.source_id, row.into()))));
    }
    Ok(pools)
}

async fn load_pools(
    connection: &mut Connection<'_>,
    identities: &[Identity],
) -> QueryResult<HashMap<Identity, StoredPool>> {
    let mut pools = HashMap::with_capacity(identities.len());
    for identities in identities.chunks(KEYS_PER_STATEMENT) {
        let marks = question_marks(identities.len());
        let query = Statement::new(format!("{SELECT_POOLS} WHERE pool.identity IN ({marks})"));
        let query = query.bind_all(identities.iter().map(Identity::as_slice));
        let rows: Vec<NamedPool> = connection.load(query).await?;
        for row in rows {
            pools.insert(read_identity(&row.identity)?, row.into());
        }
    }
    Ok(pools)
}

/// Only batches of this source add such pools, and those take turns.
async fn add_pools<'a>(
    connection: &mut Connection<'_>,
    source_id: i32,
    pools: impl Iterator<Item = (Identity, &'a PoolName)>,
) -> QueryResult<()> {
    let columns = ["identity", "source_id", "provider", "name", "region", "zone", "tier", "unit"];
    let into = Insert { table: "pool", columns: &columns, on_conflict: OnConflict::Ignore };
    let rows = pools.map(|(identity, pool)| {
        vec![
            identity.as_slice().into(),
            source_id.into(),
            (&pool.provider).into(),
            (&pool.name).into(),
            (&pool.region).into(),
            (&pool.zone).into(),
            (&pool.tier).into(),
            (&pool.unit).into(),
        ]
    });
    connection.insert(&into, rows.collect::<Vec<_>>()).await
}

/// Writes the states of pools of a source, and lets readers know by the revision.
pub(super) async fn write_states(
    connection: &mut Connection<'_>,
    source_id: i32,
    revision: i64,
    states: Vec<(i32, PoolState)>,
) -> QueryResult<()> {
    let columns = [
        "pool_id",
        "source_id",
        "revision",
        "interval_s",
        "started",
        "last_seen",
        "total",
        "free",
        "states",
    ];
    let on_conflict = OnConflict::Overwrite { key: &["pool_id"] };
    let into = Insert { table: "pool_state", columns: &columns, on_conflict };
    let rows = states.into_iter().map(|(pool_id, state)| {
        let mut row = vec![pool_id.into(), source_id.into(), revision.into()];
        row.extend(StateRow::values(&state));
        row
    });
    connection.insert(&into, rows).await
}

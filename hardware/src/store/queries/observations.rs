//! Writing a batch of observations, inside a transaction.

use std::collections::{BTreeMap, HashMap};

use chrono::NaiveDateTime;
use diesel::{
    prelude::*,
    result::Error,
    sql_types::{BigInt, Binary, Integer, Nullable, Text, Timestamp},
};
use diesel_async::RunQueryDsl;

use super::{Connection, INSERT_OR_IGNORE};
use crate::{
    observation::{Batch, KeyHash, Observation, PoolName, Recorded, Run, Supply, Timeline},
    store::{
        rows::SegmentRow,
        schema::{hardware_key, pool, pool_current, segment, source},
    },
};

/// Rows in one statement, which is put together here as diesel can do so on MySQL only. Seven values
/// each stay far below the 32 766 that SQLite allows.
const CHUNK: usize = 500;

/// The source's row is written first and stays locked, so the batches of one source take turns and
/// a reader that knows a revision has seen everything up to it.
pub(in crate::store) async fn record(
    connection: &mut Connection,
    batch: &Batch,
    now: NaiveDateTime,
) -> QueryResult<Recorded> {
    let (source_id, revision) = lock_source(connection, batch, now).await?;
    let by_pool = find_pools(connection, source_id, batch).await?;
    let mut timelines = load_timelines(connection, &by_pool).await?;

    let (mut outcomes, mut pools_with_gap) = (Vec::new(), 0);
    let (mut current, mut finished) = (Vec::new(), Vec::new());
    for (pool_id, observations) in by_pool {
        let mut timeline = timelines.remove(&pool_id).unwrap_or_default();
        for (place, observation) in observations {
            outcomes.push((place, timeline.apply(observation, batch.max_gap())));
        }
        pools_with_gap += u32::from(timeline.has_gap());
        if let Some((run, closed)) = timeline.into_changes() {
            current.push((pool_id, run));
            finished.extend(closed.into_iter().map(|run| (pool_id, run)));
        }
    }
    for rows in finished.chunks(CHUNK) {
        write_segments(connection, rows).await?;
    }
    for rows in current.chunks(CHUNK) {
        write_current(connection, rows, source_id, revision).await?;
    }
    outcomes.sort_unstable_by_key(|(place, _)| *place);
    let outcomes = outcomes.into_iter().map(|(_, outcome)| outcome).collect();
    Ok(Recorded { outcomes, pools_with_gap })
}

async fn lock_source(
    connection: &mut Connection,
    batch: &Batch,
    now: NaiveDateTime,
) -> QueryResult<(i32, i64)> {
    if advance_source(connection, batch, now).await? == 0 {
        diesel::insert_or_ignore_into(source::table)
            .values((
                source::name.eq(&batch.source),
                source::expected_interval_s.eq(batch.expected_interval_s),
                source::revision.eq(0),
                source::last_seen_at.eq(now),
            ))
            .execute(connection)
            .await?;
        advance_source(connection, batch, now).await?;
    }
    source::table
        .filter(source::name.eq(&batch.source))
        .select((source::id, source::revision))
        .first(connection)
        .await
}

async fn advance_source(
    connection: &mut Connection,
    batch: &Batch,
    now: NaiveDateTime,
) -> QueryResult<usize> {
    diesel::update(source::table.filter(source::name.eq(&batch.source)))
        .set((
            source::expected_interval_s.eq(batch.expected_interval_s),
            source::revision.eq(source::revision + 1_i64),
            source::last_seen_at.eq(now),
        ))
        .execute(connection)
        .await
}

type PoolIdentity = (i32, String, String, String, String);

/// An observation and its place among those of the batch.
type Placed<'batch> = (usize, &'batch Observation);

/// The observations by pool, in order of time; pools that are new get a row.
async fn find_pools<'batch>(
    connection: &mut Connection,
    source_id: i32,
    batch: &'batch Batch,
) -> QueryResult<BTreeMap<i32, Vec<Placed<'batch>>>> {
    let mut names: BTreeMap<KeyHash, &PoolName> = BTreeMap::new();
    for observation in &batch.observations {
        names.entry(observation.pool.key_hash()).or_insert(&observation.pool);
    }
    let keys = find_keys(connection, &names).await?;

    let mut by_identity: BTreeMap<PoolIdentity, Vec<Placed>> = BTreeMap::new();
    for (place, observation) in batch.observations.iter().enumerate() {
        let name = &observation.pool;
        let key_id = keys.get(name.key_hash().as_slice()).copied().ok_or(Error::NotFound)?;
        let (region, zone) = (name.region.clone(), name.zone.clone());
        let identity = (key_id, region, zone, name.tier.clone(), name.unit.clone());
        by_identity.entry(identity).or_default().push((place, observation));
    }
    let mut pools = load_pools(connection, source_id, &keys).await?;
    let is_new = |identity: &&PoolIdentity| !pools.contains_key(*identity);
    let new: Vec<&PoolIdentity> = by_identity.keys().filter(is_new).collect();
    if !new.is_empty() {
        for identities in new.chunks(CHUNK) {
            add_pools(connection, source_id, identities).await?;
        }
        pools = load_pools(connection, source_id, &keys).await?;
    }

    let mut by_pool = BTreeMap::new();
    for (identity, mut observations) in by_identity {
        observations.sort_by_key(|(_, observation)| observation.observed_at);
        let pool_id = pools.get(&identity).copied().ok_or(Error::NotFound)?;
        by_pool.insert(pool_id, observations);
    }
    Ok(by_pool)
}

async fn find_keys(
    connection: &mut Connection,
    names: &BTreeMap<KeyHash, &PoolName>,
) -> QueryResult<HashMap<Vec<u8>, i32>> {
    let hashes: Vec<&[u8]> = names.keys().map(KeyHash::as_slice).collect();
    let mut keys = load_keys(connection, &hashes).await?;
    // In the order of the hashes, so that two batches with the same new keys cannot deadlock.
    let is_new = |(hash, _): &(&KeyHash, _)| !keys.contains_key(hash.as_slice());
    let new: Vec<(&KeyHash, &&PoolName)> = names.iter().filter(is_new).collect();
    for names in new.chunks(CHUNK) {
        add_keys(connection, names).await?;
    }
    let new: Vec<&[u8]> = new.iter().map(|(hash, _)| hash.as_slice()).collect();
    keys.extend(load_keys(connection, &new).await?);
    Ok(keys)
}

async fn load_keys(
    connection: &mut Connection,
    hashes: &[&[u8]],
) -> QueryResult<HashMap<Vec<u8>, i32>> {
    let mut keys = HashMap::new();
    for hashes in hashes.chunks(CHUNK) {
        let rows: Vec<(Vec<u8>, i32)> = hardware_key::table
            .filter(hardware_key::key_hash.eq_any(hashes.iter().copied()))
            .select((hardware_key::key_hash, hardware_key::id))
            .load(connection)
            .await?;
        keys.extend(rows);
    }
    Ok(keys)
}

/// Another source may add the same key meanwhile; the first one stays.
async fn add_keys(
    connection: &mut Connection,
    names: &[(&KeyHash, &&PoolName)],
) -> QueryResult<usize> {
    let places = vec!["(?, ?, ?)"; names.len()].join(", ");
    let mut query = diesel::sql_query(format!(
        "{INSERT_OR_IGNORE} INTO hardware_key (key_hash, provider, name) VALUES {places}"
    ))
    .into_boxed();
    for (hash, name) in names {
        query = query
            .bind::<Binary, _>(hash.as_slice())
            .bind::<Text, _>(&name.provider)
            .bind::<Text, _>(&name.name);
    }
    query.execute(connection).await
}

async fn load_pools(
    connection: &mut Connection,
    source_id: i32,
    keys: &HashMap<Vec<u8>, i32>,
) -> QueryResult<HashMap<PoolIdentity, i32>> {
    let key_ids: Vec<i32> = keys.values().copied().collect();
    let mut pools = HashMap::new();
    for key_ids in key_ids.chunks(CHUNK) {
        let rows: Vec<(PoolIdentity, i32)> = pool::table
            .filter(pool::source_id.eq(source_id))
            .filter(pool::hardware_key_id.eq_any(key_ids))
            .select((
                (pool::hardware_key_id, pool::region, pool::zone, pool::tier, pool::unit),
                pool::id,
            ))
            .load(connection)
            .await?;
        pools.extend(rows);
    }
    Ok(pools)
}

/// Only batches of this source add such pools, and those take turns.
async fn add_pools(
    connection: &mut Connection,
    source_id: i32,
    identities: &[&PoolIdentity],
) -> QueryResult<usize> {
    let places = vec!["(?, ?, ?, ?, ?, ?)"; identities.len()].join(", ");
    let mut query = diesel::sql_query(format!(
        "INSERT INTO pool (source_id, hardware_key_id, region, zone, tier, unit) VALUES {places}"
    ))
    .into_boxed();
    for (key_id, region, zone, tier, unit) in identities {
        query = query
            .bind::<Integer, _>(source_id)
            .bind::<Integer, _>(key_id)
            .bind::<Text, _>(region)
            .bind::<Text, _>(zone)
            .bind::<Text, _>(tier)
            .bind::<Text, _>(unit);
    }
    query.execute(connection).await
}

async fn load_timelines(
    connection: &mut Connection,
    by_pool: &BTreeMap<i32, Vec<Placed<'_>>>,
) -> QueryResult<HashMap<i32, Timeline>> {
    let pool_ids: Vec<i32> = by_pool.keys().copied().collect();
    let mut timelines = HashMap::new();
    for pool_ids in pool_ids.chunks(CHUNK) {
        let rows: Vec<(i32, NaiveDateTime, NaiveDateTime, Option<i32>, i32)> = pool_current::table
            .filter(pool_current::pool_id.eq_any(pool_ids))
            .select((
                pool_current::pool_id,
                pool_current::started_at,
                pool_current::last_seen_at,
                pool_current::total,
                pool_current::free,
            ))
            .load(connection)
            .await?;
        for (pool_id, started_at, last_seen_at, total, free) in rows {
            let supply = Supply::from_columns(total, free);
            let mut timeline = Timeline::new(Run { started_at, last_seen_at, supply });
            let earliest = by_pool[&pool_id][0].1.observed_at;
            if earliest < started_at {
                let past = load_past(connection, pool_id, earliest).await?;
                timeline.remember(past);
            }
            timelines.insert(pool_id, timeline);
        }
    }
    Ok(timelines)
}

/// Needed for observations that are late, to tell a repetition from a contradiction.
async fn load_past(
    connection: &mut Connection,
    pool_id: i32,
    since: NaiveDateTime,
) -> QueryResult<Vec<Run>> {
    let rows = segment::table
        .filter(segment::pool_id.eq(pool_id))
        .filter(segment::last_seen_at.ge(since))
        .select(SegmentRow::as_select())
        .load(connection)
        .await?;
    Ok(rows.iter().map(Run::from).collect())
}

/// `REPLACE` is the one form of "insert or update" that both databases have.
async fn write_segments(connection: &mut Connection, rows: &[(i32, Run)]) -> QueryResult<usize> {
    let places = vec!["(?, ?, ?, ?, ?)"; rows.len()].join(", ");
    let mut query = diesel::sql_query(format!(
        "REPLACE INTO segment (pool_id, started_at, last_seen_at, total, free) VALUES {places}"
    ))
    .into_boxed();
    for (pool_id, run) in rows {
        let (total, free) = run.supply.columns();
        query = query
            .bind::<Integer, _>(pool_id)
            .bind::<Timestamp, _>(run.started_at)
            .bind::<Timestamp, _>(run.last_seen_at)
            .bind::<Nullable<Integer>, _>(total)
            .bind::<Integer, _>(free);
    }
    query.execute(connection).await
}

async fn write_current(
    connection: &mut Connection,
    rows: &[(i32, Run)],
    source_id: i32,
    revision: i64,
) -> QueryResult<usize> {
    let places = vec!["(?, ?, ?, ?, ?, ?, ?)"; rows.len()].join(", ");
    let mut query = diesel::sql_query(format!(
        "REPLACE INTO pool_current \
         (pool_id, source_id, revision, started_at, last_seen_at, total, free) VALUES {places}"
    ))
    .into_boxed();
    for (pool_id, run) in rows {
        let (total, free) = run.supply.columns();
        query = query
            .bind::<Integer, _>(pool_id)
            .bind::<Integer, _>(source_id)
            .bind::<BigInt, _>(revision)
            .bind::<Timestamp, _>(run.started_at)
            .bind::<Timestamp, _>(run.last_seen_at)
            .bind::<Nullable<Integer>, _>(total)
            .bind::<Integer, _>(free);
    }
    query.execute(connection).await
}

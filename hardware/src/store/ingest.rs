//! Writing a batch of observations, inside a transaction.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use availability::{PoolState, Segment, Timestamp};
use diesel::{QueryResult, result::Error};

use super::{
    connection::{Connection, KEYS_PER_STATEMENT, Statement, question_marks},
    coverage,
    history::{self, Histories},
    pools::{self, StoredPool},
    problems,
    rows::CoverageRow,
    sources::{self, Cause, LockedSource},
};
use crate::observation::{
    Batch, Changes, Identity, Item, Outcome, Recorded, Timeline, Unlisted, refold,
};

/// Pools that are dealt with at a time, with their history if they need it.
const POOLS_AT_ONCE: usize = 500;

/// Pools that were confirmed at the same time and are written by one `UPDATE`, from so many on.
const CONFIRMED_TOGETHER: usize = 8;

/// When a batch arrived, and what is still kept then.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// By this process's clock.
    pub at: Timestamp,
    /// Observations that are older are not taken.
    pub oldest_kept: Timestamp,
}

impl Arrival {
    /// Where history is kept for `retention`.
    #[must_use]
    pub fn new(at: Timestamp, retention: Duration) -> Self {
        let kept = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        Self { at, oldest_kept: Timestamp::from_millis(at.as_millis().saturating_sub(kept)) }
    }
}

pub(super) async fn record(
    connection: &mut Connection<'_>,
    batch: &Batch,
    arrival: Arrival,
) -> QueryResult<Recorded> {
    let Batch { source, interval, .. } = batch;
    let source =
        sources::add_or_advance(connection, source, *interval, arrival.at, Cause::Report).await?;
    problems::take_in(connection, &source, batch.problem.as_ref(), arrival.at).await?;
    let by_pool = find_pools(connection, source.id, batch).await?;
    let spans = match earliest_last_seen(&by_pool) {
        Some(since) => coverage::list_since(connection, source.id, since.as_millis()).await?,
        None => Vec::new(),
    };

    let mut outcomes = vec![Outcome::Duplicate; batch.items.len()];
    let (mut pools_with_gap, mut writes) = (0, Writes::default());
    for some in by_pool.chunks(POOLS_AT_ONCE) {
        let changes = apply(connection, batch, some, &spans, arrival, &mut outcomes).await?;
        pools_with_gap += changes.pools_with_gap;
        writes.add(connection, changes.of_pools, arrival.oldest_kept).await?;
    }
    writes.write(connection, &source, arrival.oldest_kept).await?;

    let was_refused =
        outcomes.iter().any(|it| matches!(it, Outcome::TooOld | Outcome::Contradicts(_)));
    let is_whole = batch.is_whole && !was_refused;
    let mut retired = 0;
    match batch.unlisted {
        Some(Unlisted::Unchanged(at)) if is_whole => {
            let after_gap = coverage::extend(connection, source.id, batch.interval, at).await?;
            pools_with_gap += u32::from(after_gap);
        }
        Some(Unlisted::Gone(at)) if is_whole => {
            let listed = by_pool.iter().map(|(stored, _)| stored.id).collect();
            retired = retire_unlisted(connection, &source, &listed, at).await?;
        }
        _ => {}
    }
    let is_incomplete = batch.unlisted.is_some() && !is_whole;
    Ok(Recorded { outcomes, pools_with_gap, retired, is_incomplete })
}

/// An observation and its place among those of the batch.
type Placed<'batch> = (usize, &'batch Item);

/// The observations by pool, in order of time; pools that are new get a row.
async fn find_pools<'batch>(
    connection: &mut Connection<'_>,
    source_id: i32,
    batch: &'batch Batch,
) -> QueryResult<Vec<(StoredPool, Vec<Placed<'batch>>)>> {
    // In the order of identities, so that two batches with the same new pools cannot deadlock.
    let mut by_identity: BTreeMap<Identity, Vec<Placed>> = BTreeMap::new();
    for (place, item) in batch.items.iter().enumerate() {
        let identity = item.pool.identity(&batch.source);
        by_identity.entry(identity).or_default().push((place, item));
    }
    let names = by_identity.iter().map(|(identity, items)| (*identity, &items[0].1.pool));
    let mut stored = pools::find_or_add(connection, source_id, names.collect()).await?;
    let mut by_pool = Vec::with_capacity(by_identity.len());
    for (identity, mut items) in by_identity {
        items.sort_by_key(|(_, item)| item.at);
        let pool = stored.remove(&identity).ok_or(Error::NotFound)?;
        by_pool.push((pool, items));
    }
    Ok(by_pool)
}

/// The earliest `last_seen` of these pools.
fn earliest_last_seen(by_pool: &[(StoredPool, Vec<Placed<'_>>)]) -> Option<Timestamp> {
    by_pool.iter().filter_map(|(pool, _)| pool.last_seen()).min()
}

/// The first observation of a pool, if it is older than the open segment: only then are closed segments
/// compared with it.
fn earliest_late(stored: &StoredPool, items: &[Placed<'_>]) -> Option<Timestamp> {
    let started = stored.state.as_ref()?.open_segment().started;
    items.first().map(|(_, item)| item.at).filter(|at| *at < started)
}

/// What a batch changes in some pools.
struct AppliedPools<'a> {
    pools_with_gap: u32,
    of_pools: Vec<(&'a StoredPool, Changes)>,
}

/// Takes in the observations of some pools, and notes what became of each.
async fn apply<'a>(
    connection: &mut Connection<'_>,
    batch: &Batch,
    pools: &'a [(StoredPool, Vec<Placed<'_>>)],
    spans: &[CoverageRow],
    arrival: Arrival,
    outcomes: &mut [Outcome],
) -> QueryResult<AppliedPools<'a>> {
    let late = pools.iter().filter_map(|(stored, items)| {
        earliest_late(stored, items).map(|earliest| (stored.id, earliest))
    });
    let late: BTreeMap<i32, Timestamp> = late.collect();
    let known = match late.values().min() {
        Some(earliest) => {
            let ids: Vec<i32> = late.keys().copied().collect();
            history::load_since(connection, &ids, *earliest).await?
        }
        None => Histories::new(),
    };
    let mut applied = AppliedPools { pools_with_gap: 0, of_pools: Vec::with_capacity(pools.len()) };
    for (stored, items) in pools {
        let mut timeline = begin_timeline(connection, stored, spans, batch).await?;
        timeline.add_known(history::segments_of(&known, stored.id));
        for (place, item) in items {
            outcomes[*place] = timeline.apply(item.at, item.observation, arrival.oldest_kept);
        }
        applied.pools_with_gap += u32::from(timeline.has_gap());
        if let Some(changes) = timeline.into_changes(stored.last_seen()) {
            applied.of_pools.push((stored, changes));
        }
    }
    Ok(applied)
}

/// The pool as it was before the batch. A state that cannot be read, as a newer version may have written it, is
/// folded anew.
async fn begin_timeline(
    connection: &mut Connection<'_>,
    stored: &StoredPool,
    spans: &[CoverageRow],
    batch: &Batch,
) -> QueryResult<Timeline> {
    let Some(row) = &stored.state else {
        return Ok(Timeline::new(None, batch.interval, Vec::new()));
    };
    let spans = stored.presence.within(spans).collect();
    match row.decode() {
        Ok(state) => Ok(Timeline::new(Some(state), batch.interval, spans)),
        Err(error) => {
            tracing::warn!(pool = stored.id, %error, "folding the history of a pool anew");
            let history = history::load_all(connection, &[stored.id]).await?;
            let mut segments = history::segments_of(&history, stored.id);
            segments.push(row.open_segment());
            let (_, state) = refold(segments, Vec::new(), row.interval()).ok_or(Error::NotFound)?;
            let mut timeline = Timeline::new(Some(state), batch.interval, spans);
            timeline.write_in_any_case();
            Ok(timeline)
        }
    }
}

/// What a batch changes, gathered, as each statement costs a way to the server.
#[derive(Default)]
struct Writes {
    /// Pools whose open segment goes on, by the time at which it was last seen.
    confirmed: BTreeMap<Timestamp, Vec<(i32, PoolState)>>,
    changed: Vec<(i32, PoolState)>,
    closed: Vec<(i32, Segment)>,
    /// Pools that their source had not listed before, or no longer, and lists now: since when.
    listed: BTreeMap<Timestamp, Vec<i32>>,
}

impl Writes {
    async fn add(
        &mut self,
        connection: &mut Connection<'_>,
        changes: Vec<(&StoredPool, Changes)>,
        oldest_kept: Timestamp,
    ) -> QueryResult<()> {
        let late: Vec<i32> = changes
            .iter()
            .filter(|(_, changes)| !changes.late.is_empty())
            .map(|(stored, _)| stored.id)
            .collect();
        let histories = history::load_all(connection, &late).await?;
        for (stored, changes) in changes {
            let Changes { mut state, mut closed, late, is_confirmation } = changes;
            let last_seen = state.open_segment().last_seen;
            if stored.is_listed_by(last_seen) {
                self.listed.entry(last_seen).or_default().push(stored.id);
            }
            if !late.is_empty() {
                let mut segments = history::segments_of(&histories, stored.id);
                segments.append(&mut closed);
                segments.push(state.open_segment());
                let folded = refold(segments, late, state.interval());
                (closed, state) = folded.ok_or(Error::NotFound)?;
                let before = history::rows_of(&histories, stored.id);
                history::replace(connection, stored.id, before, &closed, oldest_kept).await?;
                closed.clear();
            }
            self.closed.extend(closed.into_iter().map(|segment| (stored.id, segment)));
            if is_confirmation {
                self.confirmed.entry(last_seen).or_default().push((stored.id, state));
            } else {
                self.changed.push((stored.id, state));
            }
        }
        Ok(())
    }

    async fn write(
        mut self,
        connection: &mut Connection<'_>,
        source: &LockedSource,
        oldest_kept: Timestamp,
    ) -> QueryResult<()> {
        history::write(connection, &self.closed, oldest_kept).await?;
        for (last_seen, pools) in self.confirmed {
            if pools.len() < CONFIRMED_TOGETHER {
                self.changed.extend(pools);
                continue;
            }
            for pools in pools.chunks(KEYS_PER_STATEMENT) {
                let update = Statement::new(format!(
                    "UPDATE pool_state SET last_seen = ?, revision = ? WHERE pool_id IN ({})",
                    question_marks(pools.len())
                ));
                let update = update.bind(last_seen.as_millis()).bind(source.revision);
                connection.execute(update.bind_all(pools.iter().map(|(id, _)| *id))).await?;
            }
        }
        for (since, pools) in self.listed {
            for pools in pools.chunks(KEYS_PER_STATEMENT) {
                let update = Statement::new(format!(
                    "UPDATE pool SET listed = ?, retired = NULL WHERE id IN ({})",
                    question_marks(pools.len())
                ));
                let update = update.bind(since.as_millis()).bind_all(pools.iter().copied());
                connection.execute(update).await?;
            }
        }
        pools::write_states(connection, source.id, source.revision, self.changed).await
    }
}

/// Retires the pools that a batch does not list, unless they were seen later, and returns how many.
async fn retire_unlisted(
    connection: &mut Connection<'_>,
    source: &LockedSource,
    listed: &HashSet<i32>,
    at: Timestamp,
) -> QueryResult<u32> {
    let present = pools::list_present(connection, source.id, at).await?;
    let gone: Vec<i32> = present.into_iter().filter(|id| !listed.contains(id)).collect();
    for ids in gone.chunks(KEYS_PER_STATEMENT) {
        let marks = question_marks(ids.len());
        let retire = Statement::new(format!("UPDATE pool SET retired = ? WHERE id IN ({marks})"));
        let retire = retire.bind(at.as_millis()).bind_all(ids.iter().copied());
        connection.execute(retire).await?;
        let notice = Statement::new(format!(
            "UPDATE pool_state SET revision = ? WHERE pool_id IN ({marks})"
        ));
        let notice = notice.bind(source.revision).bind_all(ids.iter().copied());
        connection.execute(notice).await?;
    }
    Ok(u32::try_from(gone.len()).unwrap_or(u32::MAX))
}

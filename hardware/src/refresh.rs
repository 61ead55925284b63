//! Keeps the snapshot in step with the database.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use availability::Timestamp;
use backon::{BackoffBuilder, ExponentialBuilder};
use hardware_api::Hardware;
use service_kit::{Clock, readiness::Gate};
use tokio::{
    sync::Notify,
    task::{JoinError, spawn_blocking},
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};

use crate::{
    metrics::RefreshMetrics,
    pools::SharedPools,
    quality::{Corrections, QUALITY_DAYS},
    snapshot::Published,
    store::{
        AttemptRow, ChangeRow, CoverageRow, Db, FeedState, HardwareRow, HardwareRows, Place,
        PoolRow, QualityRow, SourceRow, StoreError,
    },
};

/// A query that takes longer has met a database that hangs.
const DEADLINE: Duration = Duration::from_secs(10);

/// Pools that are read by one query.
const POOLS_PER_QUERY: usize = 10_000;

/// After an ingest the snapshot follows at once, but not more often than this.
const LEAST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause between two attempts while the database is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Pools that are updated before other tasks get a turn: each takes microseconds.
const POOLS_PER_TURN: usize = 1000;

/// How long what was learned may be read late: it changes slowly.
const CORRECTIONS_PAUSE: Duration = Duration::from_mins(1);

const DAY_S: i64 = 86_400;

/// Rows that are named in one line of the log.
const MAX_NAMED: usize = 20;

/// Why a refresh did not succeed.
#[derive(Debug, thiserror::Error)]
enum RefreshError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("failed to read the database within {DEADLINE:?}")]
    Deadline,
    #[error("failed to encode the snapshot: {0}")]
    Encode(#[from] std::io::Error),
    #[error("failed to assess the pools: {0}")]
    Assess(#[from] JoinError),
}

/// What a refresh needs and what it remembers from one to the next.
pub struct Refresher {
    db: Arc<Db>,
    published: Arc<Published>,
    interval: Duration,
    clock: Clock,
    rows: Arc<Vec<HardwareRow>>,
    /// When they were last read.
    listed: Option<Instant>,
    /// The rows that cannot be shown.
    unreadable: Vec<String>,
    /// What was read of each source.
    seen: HashMap<i32, SeenSource>,
    pools: SharedPools,
    /// When what was learned was last read.
    corrected: Option<Instant>,
    /// Which changes of levels were read.
    feed: Option<FeedState>,
    /// Where all of these were read.
    place: Option<Place>,
    metrics: RefreshMetrics,
}

impl Refresher {
    /// Reads `db` every `interval` into `published`.
    pub fn new(db: Arc<Db>, published: Arc<Published>, interval: Duration, clock: Clock) -> Self {
        Self {
            place: db.place(),
            db,
            published,
            interval,
            clock,
            rows: Arc::default(),
            listed: None,
            unreadable: Vec::new(),
            seen: HashMap::new(),
            pools: SharedPools::default(),
            corrected: None,
            feed: None,
            metrics: RefreshMetrics::register(),
        }
    }

    /// The pools as they are known at any time.
    #[must_use]
    pub fn pools(&self) -> SharedPools {
        self.pools.clone()
    }

    /// Refreshes for ever, sooner when `wake` is notified. Opens `gate` with the first snapshot and
    /// never closes it: an old snapshot is better than none. May be dropped at any time.
    pub async fn run(mut self, wake: Arc<Notify>, gate: Gate) {
        let mut failures = retry_pauses();
        let mut is_failing = false;
        loop {
            let outcome = self.refresh().await;
            self.metrics.observe(&self.db, self.published.age());
            let pause = match outcome {
                Ok(()) => {
                    if is_failing {
                        info!("the snapshot is up to date again");
                    }
                    gate.open();
                    is_failing = false;
                    failures = retry_pauses();
                    jittered(self.interval)
                }
                Err(error) => {
                    self.metrics.count_failure();
                    if !is_failing {
                        warn!(%error, "failed to refresh the snapshot, serving the last one");
                        gate_reason(&gate, &self.published, &error);
                    }
                    is_failing = true;
                    failures.next().unwrap_or(LONGEST_PAUSE)
                }
            };
            sleep(LEAST_PAUSE).await;
            tokio::select! {
                () = wake.notified() => {}
                () = sleep(pause) => {}
            }
        }
    }

    async fn refresh(&mut self) -> Result<(), RefreshError> {
        // Revisions of another database say nothing of this one.
        let place = self.db.place();
        let has_moved = place != self.place;
        if has_moved {
            self.seen.clear();
            self.corrected = None;
            self.feed = None;
            self.listed = None;
        }
        let outcome = match self.read().await {
            Ok(changes) => {
                if has_moved {
                    self.pools.write().clear();
                    self.place = place;
                }
                self.apply(changes).await;
                Ok(())
            }
            Err(error) => Err(error),
        };
        if outcome.is_ok() || self.published.latest().is_some() {
            // Levels age even while the database is away.
            let now = Timestamp::from_millis(self.clock.now().timestamp_millis());
            let (pools, rows) = (self.pools.clone(), Arc::clone(&self.rows));
            let levels = spawn_blocking(move || pools.tick(&rows, now)).await?;
            let rows: Vec<Hardware> = self.rows.iter().zip(levels).map(hardware).collect();
            self.published.publish(&rows)?;
        }
        outcome?;
        self.published.confirm();
        Ok(())
    }

    async fn read(&self) -> Result<Changes, RefreshError> {
        // A batch wakes the refresh, and changes nothing there.
        let is_due = self.listed.is_none_or(|at| at.elapsed() >= self.interval / 2);
        let hardware = if is_due { Some(in_time(self.db.list_hardware()).await?) } else { None };
        let mut sources = Vec::new();
        let all = in_time(self.db.list_sources()).await?;
        for source in all.clone() {
            // A revision that went back means that somebody replaced the tables.
            let seen = self.seen.get(&source.id).filter(|seen| seen.revision <= source.revision);
            if seen.is_some_and(|seen| seen.revision == source.revision) {
                continue;
            }
            let since = seen.map_or(i64::MIN, |seen| seen.covered);
            let coverage = if source.covered.is_some_and(|covered| covered > since) {
                in_time(self.db.list_coverage(source.id, since)).await?
            } else {
                Vec::new()
            };
            let since = seen.map_or(-1, |seen| seen.revision);
            let pools = self.read_pools(source.id, since).await?;
            let attempts = in_time(self.db.list_attempts(source.id, since)).await?;
            let is_new = seen.is_none();
            sources.push(SourceChanges { source, is_new, coverage, pools, attempts });
        }
        let is_due = self.corrected.is_none_or(|at| at.elapsed() >= CORRECTIONS_PAUSE);
        let corrections =
            if is_due { Some(in_time(self.db.list_corrections()).await?) } else { None };
        let quality = if is_due {
            let first_day =
                self.clock.now().timestamp().div_euclid(DAY_S) - i64::from(QUALITY_DAYS - 1);
            let first_day = i32::try_from(first_day).unwrap_or(0);
            Some(in_time(self.db.list_quality(first_day)).await?)
        } else {
            None
        };
        let feed = self.read_feed().await?;
        Ok(Changes { hardware, all, sources, corrections, quality, feed })
    }

    /// The changes of levels that are not known yet, if any came or went.
    async fn read_feed(&self) -> Result<Option<FeedChanges>, RefreshError> {
        let Some(state) = in_time(self.db.feed_state()).await? else { return Ok(None) };
        if self.feed.as_ref() == Some(&state) {
            return Ok(None);
        }
        // Those that went back, or are of another origin, are those of tables that somebody put in their place.
        let known = self
            .feed
            .as_ref()
            .filter(|known| known.seed == state.seed && known.newest <= state.newest);
        let after = known.map_or(0, |known| known.newest.unwrap_or(0));
        let rows = if state.newest.is_some_and(|newest| newest > after) {
            in_time(self.db.list_level_changes(after)).await?
        } else {
            Vec::new()
        };
        Ok(Some(FeedChanges { is_new: known.is_none(), state, rows }))
    }

    /// The pools of a source that changed after a revision. Of those that change meanwhile some are read
    /// as they are then; the next refresh reads them again.
    async fn read_pools(
        &self,
        source_id: i32,
        revision: i64,
    ) -> Result<Vec<PoolRow>, RefreshError> {
        let mut pools: Vec<PoolRow> = Vec::new();
        loop {
            let after = pools.last().map_or(i32::MIN, |row| row.pool.id);
            let more = self.db.list_changed_pools(source_id, revision, after, POOLS_PER_QUERY);
            let more = in_time(more).await?;
            let is_last = more.len() < POOLS_PER_QUERY;
            pools.extend(more);
            if is_last {
                return Ok(pools);
            }
        }
    }

    fn take_rows(&mut self, HardwareRows { rows, unreadable }: HardwareRows) {
        if !unreadable.is_empty() && unreadable != self.unreadable {
            let ids = unreadable.iter().take(MAX_NAMED).map(String::as_str).collect::<Vec<_>>();
            warn!(
                count = unreadable.len(),
                ids = ids.join(", "),
                "rows of the table hardware are not shown, as provider or name is NULL or not text"
            );
        }
        self.metrics.show_unreadable(unreadable.len());
        (self.rows, self.unreadable) = (Arc::new(rows), unreadable);
        self.listed = Some(Instant::now());
    }

    /// Takes in what changed. Not under the deadline: after a restart that may be every pool there is.
    async fn apply(&mut self, changes: Changes) {
        if let Some(hardware) = changes.hardware {
            self.take_rows(hardware);
        }
        let ids: HashSet<i32> = changes.all.iter().map(|source| source.id).collect();
        self.seen.retain(|id, _| ids.contains(id));
        let is_kept = |id: i32| {
            let replaced = changes.sources.iter().any(|it| it.is_new && it.source.id == id);
            !replaced && ids.contains(&id)
        };
        {
            let mut pools = self.pools.write();
            pools.keep_sources(is_kept);
            pools.set_sources(changes.all);
        }
        for SourceChanges { source, is_new, coverage, pools, attempts } in changes.sources {
            let seen = self.seen.entry(source.id).or_default();
            if is_new {
                *seen = SeenSource::default();
            }
            seen.take_in(source.revision, &coverage);
            if !is_new {
                self.pools.write().cover(source.id, &coverage);
            }
            for rows in pools.chunks(POOLS_PER_TURN) {
                {
                    let mut known = self.pools.write();
                    for row in rows {
                        known.update(row, &source, &seen.spans);
                    }
                }
                tokio::task::yield_now().await;
            }
            self.pools.write().take_attempts(&source, attempts);
        }
        if let Some(corrections) = changes.corrections {
            self.pools.write().set_corrections(corrections);
            self.corrected = Some(Instant::now());
        }
        if let Some(quality) = changes.quality {
            self.pools.set_quality(quality);
        }
        if let Some(FeedChanges { mut state, is_new, rows }) = changes.feed {
            // Some may have come between the two queries.
            state.newest = state.newest.max(rows.last().map(|row| row.id));
            self.pools.write().take_changes(&state, is_new, rows);
            self.feed = Some(state);
        }
    }
}

/// What was read of a source.
#[derive(Default)]
struct SeenSource {
    /// The revision up to which its pools were read.
    revision: i64,
    /// Up to when spans of it were read.
    covered: i64,
    /// Its spans, the oldest first: a pool that was not listed for long may need all of them.
    spans: Vec<CoverageRow>,
}

impl SeenSource {
    fn take_in(&mut self, revision: i64, coverage: &[CoverageRow]) {
        self.revision = revision;
        for span in coverage {
            self.covered = self.covered.max(span.last_seen);
            match self.spans.iter_mut().find(|known| known.started == span.started) {
                Some(known) => *known = *span,
                None => self.spans.push(*span),
            }
        }
    }
}

/// The guard of the store makes it safe to cut a query off.
async fn in_time<T>(query: impl Future<Output = Result<T, StoreError>>) -> Result<T, RefreshError> {
    match timeout(DEADLINE, query).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(RefreshError::Deadline),
    }
}

/// What the database has and the last refresh did not know.
struct Changes {
    /// The rows of the list, if it was time to read them.
    hardware: Option<HardwareRows>,
    /// All sources that there are.
    all: Vec<SourceRow>,
    sources: Vec<SourceChanges>,
    /// What was learned, if it was time to read it.
    corrections: Option<Corrections>,
    /// What labels were worth, likewise.
    quality: Option<Vec<QualityRow>>,
    /// What is new of the changes of levels, if anything is.
    feed: Option<FeedChanges>,
}

struct FeedChanges {
    state: FeedState,
    /// Whether nothing was known of them, or what was known is of other tables.
    is_new: bool,
    rows: Vec<ChangeRow>,
}

struct SourceChanges {
    source: SourceRow,
    /// Whether nothing was known of it, or what was known is of other tables.
    is_new: bool,
    coverage: Vec<CoverageRow>,
    pools: Vec<PoolRow>,
    attempts: Vec<AttemptRow>,
}

fn hardware((row, availability): (&HardwareRow, hardware_api::Availability)) -> Hardware {
    Hardware { provider: row.provider.clone(), name: row.name.clone(), availability }
}

/// A process that has a snapshot stays ready; one without says what keeps it from having one.
fn gate_reason(gate: &Gate, published: &Published, error: &RefreshError) {
    if published.latest().is_none() {
        gate.close(error.to_string());
    }
}

/// Pods that started together do not stay together.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(0.9 + 0.2 * fastrand::f64())
}

fn retry_pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(LONGEST_PAUSE)
        .without_max_times()
        .build()
}

//! Keeps the snapshot in step with the database.

use std::{collections::HashMap, sync::Arc, time::Duration};

use availability::Timestamp;
use backon::{BackoffBuilder, ExponentialBuilder};
use chrono::TimeDelta;
use hardware_api::Hardware;
use service_kit::{Clock, readiness::Gate};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use crate::{
    metrics::RefreshMetrics,
    observation::Run,
    pools::Pools,
    snapshot::Published,
    store::{Db, HardwareRow, HardwareRows, Place, PoolRow, SourceRow, StoreError},
};

/// How far back segments are read. What is older weighs less than a hundredth.
const WINDOW: TimeDelta = TimeDelta::days(7);

/// A refresh that takes longer has met a database that hangs.
const DEADLINE: Duration = Duration::from_secs(10);

/// After an ingest the snapshot follows at once, but not more often than this.
const LEAST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause between two attempts while the database is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Pools that are updated before other tasks get a turn: each takes microseconds.
const POOLS_PER_TURN: usize = 1000;

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
}

/// What a refresh needs and what it remembers from one to the next.
pub struct Refresher {
    db: Arc<Db>,
    published: Arc<Published>,
    interval: Duration,
    clock: Clock,
    rows: Vec<HardwareRow>,
    /// The rows that cannot be shown.
    unreadable: Vec<String>,
    /// The revision up to which each source's pools have been read, and its interval then.
    seen: HashMap<i32, (i64, i32)>,
    pools: Pools,
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
            rows: Vec::new(),
            unreadable: Vec::new(),
            seen: HashMap::new(),
            pools: Pools::default(),
            metrics: RefreshMetrics::register(),
        }
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
        }
        // The guard of the store makes it safe to cut a query off.
        let read = match timeout(DEADLINE, self.read()).await {
            Ok(read) => read.map_err(RefreshError::from),
            Err(_) => Err(RefreshError::Deadline),
        };
        let outcome = match read {
            Ok(changes) => {
                if has_moved {
                    self.pools = Pools::default();
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
            let levels = self.pools.levels(&self.rows, now);
            let rows: Vec<Hardware> = self.rows.iter().zip(levels).map(hardware).collect();
            self.published.publish(&rows)?;
        }
        outcome?;
        self.published.confirm();
        Ok(())
    }

    async fn read(&self) -> Result<Changes, StoreError> {
        let hardware = self.db.list_hardware().await?;
        let mut sources = Vec::new();
        for source in self.db.list_sources().await? {
            let seen = self.seen.get(&source.id).copied();
            if seen != Some((source.revision, source.expected_interval_s)) {
                // Another interval changes the level of every pool of the source, and a revision that
                // went back means that somebody replaced the tables.
                let since = seen.filter(|(revision, interval)| {
                    *interval == source.expected_interval_s && *revision <= source.revision
                });
                let since = since.map_or(-1, |(revision, _)| revision);
                let pools = self.db.list_pools_changed_since(source.id, since).await?;
                let histories = self.read_histories(&pools).await?;
                sources.push(SourceChanges { source, pools, histories });
            }
        }
        Ok(Changes { hardware, sources })
    }

    /// The finished runs within the window, for the pools that need them.
    async fn read_histories(
        &self,
        changed: &[PoolRow],
    ) -> Result<HashMap<i32, Vec<Run>>, StoreError> {
        let rows: Vec<&PoolRow> =
            changed.iter().filter(|row| self.pools.needs_history(row)).collect();
        let Some(earliest) = rows.iter().map(|row| row.last_seen_at).min() else {
            return Ok(HashMap::new());
        };
        let ids: Vec<i32> = rows.iter().map(|row| row.id).collect();
        let mut histories: HashMap<i32, Vec<Run>> =
            ids.iter().map(|id| (*id, Vec::new())).collect();
        for row in self.db.list_segments(&ids, earliest - WINDOW).await? {
            histories.entry(row.pool_id).or_default().push(Run::from(&row));
        }
        Ok(histories)
    }

    /// Takes in what changed. Not under the deadline: after a restart that may be every pool there is.
    async fn apply(&mut self, changes: Changes) {
        let HardwareRows { rows, unreadable } = changes.hardware;
        if !unreadable.is_empty() && unreadable != self.unreadable {
            let ids = unreadable.iter().take(MAX_NAMED).map(String::as_str).collect::<Vec<_>>();
            warn!(
                count = unreadable.len(),
                ids = ids.join(", "),
                "rows of the table hardware are not shown, as provider or name is NULL or not text"
            );
        }
        self.metrics.show_unreadable(unreadable.len());
        (self.rows, self.unreadable) = (rows, unreadable);
        for SourceChanges { source, pools, mut histories } in changes.sources {
            for (index, row) in pools.iter().enumerate() {
                let history = histories.remove(&row.id);
                self.pools.update(row, history, &source);
                if index % POOLS_PER_TURN == POOLS_PER_TURN - 1 {
                    tokio::task::yield_now().await;
                }
            }
            self.seen.insert(source.id, (source.revision, source.expected_interval_s));
        }
    }
}

/// What the database has and the last refresh did not know.
struct Changes {
    hardware: HardwareRows,
    sources: Vec<SourceChanges>,
}

struct SourceChanges {
    source: SourceRow,
    pools: Vec<PoolRow>,
    /// The finished runs of those pools that need them.
    histories: HashMap<i32, Vec<Run>>,
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

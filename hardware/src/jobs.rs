//! What one process of a portal does for all of them.

use std::{sync::Arc, time::Duration};

use availability::{Timestamp, Wanted};
use metrics::counter;
use service_kit::Clock;
use tokio::{task::spawn_blocking, time::sleep};
use tracing::{debug, info, warn};

use crate::{
    levels::{self, Buckets, LevelChange},
    pools::{SharedPools, View},
    snapshot::Published,
    store::{Arrival, Db, Lease, Step, StoreError},
};

/// How often a process looks whether there is something to do for it.
pub const PAUSE: Duration = Duration::from_mins(1);

/// How long the others wait for a process that no longer says anything.
const LEASE_S: u32 = 180;

/// Between two steps that delete, so that whoever writes meanwhile gets his turn.
const STEP_PAUSE: Duration = Duration::from_millis(50);

/// How long history may be left too old: it is deleted day by day.
const RETENTION_PAUSE: Duration = Duration::from_hours(1);

/// How long a watch is remembered that nobody looks after any more, and a message that nobody took.
const WATCH_RETENTION: Duration = Duration::from_hours(7 * 24);

/// How often a sample of what is said is kept, and of how many pools, to be compared with what comes.
const SAMPLE_PAUSE: Duration = Duration::from_mins(5);
const POOLS_IN_SAMPLE: usize = 200;

/// Changes that are described while the pools are held: some milliseconds.
const CHANGES_PER_TURN: usize = 500;

const DAY: Duration = Duration::from_hours(24);

/// Does the jobs of all processes while this one holds the lease.
pub struct Jobs {
    db: Arc<Db>,
    clock: Clock,
    pools: SharedPools,
    /// Says whether the pools are as the database has them.
    published: Arc<Published>,
    pause: Duration,
    history_retention: Duration,
    /// Tells this process from the others.
    holder: String,
    /// When history was last looked through to the end.
    retained: Option<Timestamp>,
    /// When a sample was last kept.
    sampled: Option<Timestamp>,
}

impl Jobs {
    /// Keeps the history of `db` for `history_retention`, and samples and records what is said of `pools`, which
    /// are read into `published`.
    #[must_use]
    pub fn new(
        db: Arc<Db>,
        pools: SharedPools,
        published: Arc<Published>,
        clock: Clock,
        history_retention: Duration,
    ) -> Self {
        Self {
            db,
            clock,
            pools,
            published,
            pause: PAUSE,
            history_retention,
            holder: format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)),
            retained: None,
            sampled: None,
        }
    }

    /// Looks whether there is something to do every `pause`.
    #[must_use]
    pub fn every(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// For ever. May be dropped at any time: what was begun is undone, and another process goes on.
    pub async fn run(mut self) {
        loop {
            // Not all processes at once.
            sleep(self.pause.mul_f64(0.5 + fastrand::f64())).await;
            if let Err(error) = self.run_due().await {
                warn!(%error, "failed to do the jobs of the database, trying again");
            }
        }
    }

    /// Claims the lease, and does what is due if it is given and as long as it is held; returns whether
    /// everything was done.
    pub async fn run_due(&mut self) -> Result<bool, StoreError> {
        let Some(lease) = self.claim().await? else {
            debug!("another process does the jobs of the database");
            return Ok(false);
        };
        let now = Timestamp::from_millis(self.clock.now().timestamp_millis());
        // Nothing else waits for it to succeed: history would grow without bound.
        let is_held = self.record_levels(&lease, now).await.unwrap_or_else(|error| {
            warn!(%error, "failed to record changes of levels, trying again");
            true
        });
        Ok(is_held
            && self.score_forecasts(lease, now).await?
            && self.sample_forecasts(now).await?
            && self.delete_old_history(now).await?)
    }

    /// The lease for a while, if this process has it or may have it.
    async fn claim(&self) -> Result<Option<Lease>, StoreError> {
        self.db.claim("jobs", &self.holder, LEASE_S).await
    }

    /// Records which supplies have another level than at the last look; false if the lease was lost. A level that
    /// came and went between two looks is not seen.
    async fn record_levels(&self, lease: &Lease, now: Timestamp) -> Result<bool, StoreError> {
        // What is shown while the database is away grows old, here and not where it can be reached.
        if self.published.is_stale(self.published.age()) {
            return Ok(true);
        }
        let Some(view) = self.pools.view(Wanted::ONE) else { return Ok(true) };
        let known = self.db.known_levels().await?;
        let (pools, retention) = (self.pools.clone(), self.history_retention);
        let found =
            spawn_blocking(move || find_changes(&pools, &view, &known.buckets, now, retention));
        let Ok((buckets, changes)) = found.await else {
            warn!("failed to compare levels: the comparison panicked");
            return Ok(true);
        };
        if buckets.is_empty() {
            return Ok(true);
        }
        match self.db.record_levels(lease, known.revision, buckets, &changes).await? {
            Step::Did(count) => count_rows("hardware_level_changes_total", count),
            // The next look begins with what is there then.
            Step::Done => debug!("levels were recorded by a look that had been cut off"),
            Step::LostLease => return Ok(false),
        }
        Ok(true)
    }

    /// Compares what was said with what came; false if the lease was lost.
    async fn score_forecasts(&self, mut lease: Lease, now: Timestamp) -> Result<bool, StoreError> {
        loop {
            match self.db.score_forecasts(&lease, now).await? {
                Step::Did(count) => count_rows("hardware_forecasts_scored_total", count),
                Step::Done => return Ok(true),
                Step::LostLease => return Ok(false),
            }
            sleep(STEP_PAUSE).await;
            let Some(renewed) = self.claim().await? else { return Ok(false) };
            lease = renewed;
        }
    }

    async fn sample_forecasts(&mut self, now: Timestamp) -> Result<bool, StoreError> {
        if self.sampled.is_some_and(|at| now.since(at) < SAMPLE_PAUSE) {
            return Ok(true);
        }
        let forecasts = self.pools.read().sample(POOLS_IN_SAMPLE, now);
        if forecasts.is_empty() {
            return Ok(true);
        }
        let Some(lease) = self.claim().await? else { return Ok(false) };
        if self.db.add_forecasts(&lease, now, &forecasts).await? == Step::LostLease {
            return Ok(false);
        }
        self.sampled = Some(now);
        Ok(true)
    }

    async fn delete_old_history(&mut self, now: Timestamp) -> Result<bool, StoreError> {
        if self.retained.is_some_and(|at| now.since(at) < RETENTION_PAUSE) {
            return Ok(true);
        }
        let Arrival { oldest_kept, .. } = Arrival::new(now, self.history_retention);
        let mut deleted = 0;
        loop {
            let Some(lease) = self.claim().await? else { return Ok(false) };
            match self.db.delete_old_history(&lease, oldest_kept).await? {
                Step::Did(rows) => {
                    deleted += rows;
                    count_rows("hardware_history_deleted_total", rows);
                }
                Step::Done => break,
                Step::LostLease => return Ok(false),
            }
            sleep(STEP_PAUSE).await;
        }
        let Some(lease) = self.claim().await? else { return Ok(false) };
        let week = i64::try_from(WATCH_RETENTION.as_millis()).unwrap_or(i64::MAX);
        let oldest_watch = Timestamp::from_millis(now.as_millis() - week);
        if self.db.forget_watches(&lease, oldest_watch).await? == Step::LostLease {
            return Ok(false);
        }
        if deleted > 0 {
            info!(deleted, "deleted history that is older than HISTORY_RETENTION");
        }
        self.retained = Some(now);
        Ok(true)
    }
}

/// What has changed in a view since `known`: what is to be stored, and the changes to be told.
fn find_changes(
    pools: &SharedPools,
    view: &View,
    known: &Buckets,
    now: Timestamp,
    retention: Duration,
) -> (Buckets, Vec<LevelChange>) {
    let displayed = pools.read().displayed(view);
    let (today, kept_days) = (days(now.since(Timestamp::from_millis(0))), days(retention));
    let mut found = levels::compare(known, displayed, today, kept_days);
    let count = found.changes.len();
    levels::keep_most_telling(&mut found.changes);
    if found.changes.len() < count {
        let kept = found.changes.len();
        warn!(count, kept, "more levels have changed at once than changes are kept");
    }
    let mut changes = Vec::with_capacity(found.changes.len());
    for some in found.changes.chunks(CHANGES_PER_TURN) {
        let pools = pools.read();
        changes.extend(some.iter().map(|change| pools.describe_change(view, change)));
    }
    (found.buckets, changes)
}

fn days(time: Duration) -> levels::Day {
    levels::Day::try_from(time.as_secs() / DAY.as_secs()).unwrap_or(levels::Day::MAX)
}

fn count_rows(name: &'static str, rows: usize) {
    counter!(name).increment(u64::try_from(rows).unwrap_or(0));
}

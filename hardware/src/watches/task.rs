//! The task that looks, fires and tells.

use std::{collections::HashMap, io, path::PathBuf, sync::Arc, time::Duration};

use availability::{Timestamp, Wanted};
use chrono::{DateTime, Utc};
use futures::{StreamExt, stream};
use metrics::{counter, gauge};
use service_kit::Clock;
use tokio::{sync::watch, task::spawn_blocking, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    WatchReports,
    file::{Target, Watch, WatchFile},
    message::Firing,
    sender::{SendError, Sender},
    standing::{Seen, Standing},
};
use crate::{
    pools::{LevelSearch, SharedPools},
    snapshot::Published,
    store::{Db, DeliveryRow, Lease, Step, StoreError, Tried, WatchRow},
};

/// How often levels are looked at.
pub const PAUSE: Duration = Duration::from_secs(5);

/// How long the others wait for a process that no longer says anything: longer than a round of messages takes.
const LEASE_S: u32 = 45;

/// Messages in one round, all of which are sent at once.
const AT_ONCE: usize = 64;

/// The pause after the first failure; it doubles with each one.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_mins(10);

/// For how long a message is tried again.
const GIVE_UP_AFTER: Duration = Duration::from_hours(24);

/// How often it is noted that somebody still evaluates a watch.
const SEEN_PAUSE: Duration = Duration::from_hours(1);

/// Watches of a portal.
pub struct Watches {
    db: Arc<Db>,
    pools: SharedPools,
    /// Says whether the pools are as the database has them.
    published: Arc<Published>,
    clock: Clock,
    pause: Duration,
    /// Tells this process from the others.
    holder: String,
    path: PathBuf,
    /// What the file had in it when it was last read, if it was there.
    content: Option<Vec<u8>>,
    /// What was last said of a file that could not be used.
    complaint: Option<String>,
    latest: watch::Sender<Arc<WatchFile>>,
    sender: Option<Sender>,
    /// What came of messages, until the database has it.
    tried: Vec<(DeliveryRow, Tried)>,
}

/// What a look at the levels has found.
#[derive(Default)]
struct Look {
    /// Watches that stand elsewhere than before.
    moved: Vec<WatchRow>,
    deliveries: Vec<DeliveryRow>,
    fired: Vec<String>,
}

impl Watches {
    /// Watches of the file at `path`, which may come later.
    #[must_use]
    pub fn new(
        db: Arc<Db>,
        pools: SharedPools,
        published: Arc<Published>,
        clock: Clock,
        path: PathBuf,
    ) -> Self {
        Self {
            db,
            pools,
            published,
            clock,
            pause: PAUSE,
            holder: format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)),
            path,
            content: None,
            complaint: None,
            latest: watch::channel(Arc::default()).0,
            sender: None,
            tried: Vec::new(),
        }
    }

    /// Looks every `pause`.
    #[must_use]
    pub fn every(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// What is said of them.
    #[must_use]
    pub fn reports(&self) -> WatchReports {
        WatchReports { db: Arc::clone(&self.db), latest: self.latest.subscribe() }
    }

    /// Until `closing`; what is being sent then is sent to its end, and noted.
    pub async fn run(mut self, closing: CancellationToken) {
        let mut lease = None;
        while !closing.is_cancelled() {
            let started = Instant::now();
            self.follow().await;
            lease = self.turn(&closing).await.unwrap_or_else(|error| {
                warn!(%error, "failed to look after watches, trying again");
                None
            });
            // However many watches there are, half of the time belongs to the rest of this service.
            let pause = self.pause.max(started.elapsed()).mul_f64(0.75 + fastrand::f64() / 2.0);
            closing.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
        if let Err(error) = self.note().await {
            warn!(%error, "failed to note what receivers have taken; they will be told again");
        }
        if let Some(lease) = lease
            && let Err(error) = self.db.release(&lease).await
        {
            warn!(%error, "failed to give the lease of watches back; another process waits for its end");
        }
    }

    /// Reads the file, if it has changed. One that cannot be understood changes nothing.
    async fn follow(&mut self) {
        let path = self.path.display();
        let content = match tokio::fs::read(&self.path).await {
            Ok(content) => Some(content),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return self.complain(format!("failed to read {path}: {error}")),
        };
        if content == self.content {
            return;
        }
        let file = WatchFile::parse(content.as_deref().unwrap_or(b"{}"));
        self.content = content;
        match file {
            Ok(file) => {
                for refused in &file.refused {
                    warn!(watch = refused, "a watch cannot be understood and is left out");
                }
                info!(watches = file.watches.len(), "read the watches");
                self.complaint = None;
                self.latest.send_replace(Arc::new(file));
            }
            Err(error) => self.complain(format!("failed to understand {path}: {error}")),
        }
    }

    /// Says it once.
    fn complain(&mut self, complaint: String) {
        if self.complaint.as_ref() != Some(&complaint) {
            warn!(error = complaint, "keeping the watches that were read before");
            self.complaint = Some(complaint);
        }
    }

    /// Looks at the levels and tells what is due, if this process has the lease or gets it; returns the lease.
    async fn turn(&mut self, closing: &CancellationToken) -> Result<Option<Lease>, StoreError> {
        let file = Arc::clone(&self.latest.borrow());
        gauge!("hardware_watches").set(u32::try_from(file.watches.len()).unwrap_or(u32::MAX));
        if file.watches.is_empty() {
            return Ok(None);
        }
        let Some(mut lease) = self.claim().await? else {
            debug!("another process looks after the watches");
            return Ok(None);
        };
        // What is shown while the database is away grows old, here and not where it can be reached.
        if !self.published.is_stale(self.published.age()) && !self.look(&file, &lease).await? {
            return Ok(None);
        }
        // For a while only: levels go on meanwhile.
        let until = Instant::now() + PAUSE;
        while !closing.is_cancelled() && Instant::now() < until {
            // Whatever took long before this, the lease lasts longer than a round does.
            let Some(renewed) = self.claim().await? else { return Ok(None) };
            lease = renewed;
            self.note().await?;
            let due = self.db.list_due_deliveries(self.now(), AT_ONCE).await?;
            if due.is_empty() {
                break;
            }
            self.deliver(&file, due).await;
            self.note().await?;
        }
        Ok(Some(lease))
    }

    async fn claim(&self) -> Result<Option<Lease>, StoreError> {
        self.db.claim("watches", &self.holder, LEASE_S).await
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.clock.now().timestamp_millis())
    }

    /// Moves every watch on; false if the lease was lost.
    async fn look(&self, file: &Arc<WatchFile>, lease: &Lease) -> Result<bool, StoreError> {
        let rows = self.db.list_watches().await?;
        let (pools, file, now) = (self.pools.clone(), Arc::clone(file), self.now());
        let Ok(look) = spawn_blocking(move || look(&pools, &file, &rows, now)).await else {
            warn!("failed to look at the levels: the comparison panicked");
            return Ok(true);
        };
        if look.moved.is_empty() {
            return Ok(true);
        }
        let step = self.db.record_watches(lease, &look.moved, &look.deliveries).await?;
        if step == Step::LostLease {
            return Ok(false);
        }
        for name in &look.fired {
            info!(watch = name, "a watch fired");
            counter!("hardware_watch_firings_total").increment(1);
        }
        Ok(true)
    }

    /// Sends messages, all at once.
    async fn deliver(&mut self, file: &WatchFile, due: Vec<DeliveryRow>) {
        if self.sender.as_ref().is_none_or(|sender| *sender.rules() != file.rules) {
            self.sender = Sender::new(file.rules.clone())
                .inspect_err(|error| warn!(%error, "failed to read the certificate authorities"))
                .ok();
        }
        let now = self.clock.now();
        let watches: HashMap<&str, &Watch> =
            file.watches.iter().map(|watch| (watch.uid.as_str(), watch)).collect();
        let sender = self.sender.as_ref();
        let tries = due.into_iter().map(|delivery| {
            let watch = watches.get(delivery.uid.as_str());
            let target = watch.and_then(|watch| watch.target(delivery.target));
            async move {
                let sent = send(sender, target, &delivery, now).await;
                (delivery, sent)
            }
        });
        let tries: Vec<_> = stream::iter(tries).buffer_unordered(AT_ONCE).collect().await;
        let now = self.now();
        let judged: Vec<_> = tries
            .into_iter()
            .map(|(delivery, sent)| {
                let outcome = judge(&delivery, sent, now);
                (delivery, outcome)
            })
            .collect();
        for (delivery, outcome) in &judged {
            let name = watches.get(delivery.uid.as_str()).map_or("", |watch| watch.name.as_str());
            let word = match outcome {
                Tried::Delivered => "delivered",
                Tried::Failed { error, due } => {
                    let is_given_up = due.is_none();
                    warn!(
                        watch = name,
                        target = delivery.target,
                        error,
                        is_given_up,
                        "failed to tell a receiver that a watch fired"
                    );
                    if is_given_up { "given_up" } else { "failed" }
                }
            };
            counter!("hardware_deliveries_total", "outcome" => word).increment(1);
        }
        self.tried.extend(judged);
    }

    /// Notes what came of messages. What could not be noted is kept until it can, and nothing is sent before
    /// that: what a receiver has taken would be sent again.
    async fn note(&mut self) -> Result<(), StoreError> {
        if !self.tried.is_empty() {
            self.db.record_tries(&self.tried, self.now()).await?;
            self.tried.clear();
        }
        Ok(())
    }
}

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
enum NotTold {
    #[error("the watch does not have this receiver any more")]
    NoTarget,
    #[error("what was stored of the firing is not understood")]
    Unreadable,
    #[error("no certificate authorities were found")]
    NoAuthorities,
    #[error(transparent)]
    NotSent(#[from] SendError),
}

async fn send(
    sender: Option<&Sender>,
    target: Option<&Target>,
    delivery: &DeliveryRow,
    now: DateTime<Utc>,
) -> Result<(), NotTold> {
    let sender = sender.ok_or(NotTold::NoAuthorities)?;
    let target = target.ok_or(NotTold::NoTarget)?;
    let firing: Firing = serde_json::from_str(&delivery.firing).map_err(|_| NotTold::Unreadable)?;
    Ok(sender.send(target, firing.message(target, &delivery.id, now)).await?)
}

/// What comes of a try: the pause doubles with each one, and after a day it is given up.
fn judge(delivery: &DeliveryRow, sent: Result<(), NotTold>, now: Timestamp) -> Tried {
    let Err(error) = sent else { return Tried::Delivered };
    let asked_for = match &error {
        NotTold::NotSent(error) => error.retry_after().unwrap_or_default(),
        _ => Duration::ZERO,
    };
    let doubled = FIRST_PAUSE.saturating_mul(1 << delivery.attempts.min(16)).min(LONGEST_PAUSE);
    let pause = doubled.mul_f64(0.8 + 0.4 * fastrand::f64()).max(asked_for);
    let is_in_time = now.since(delivery.made) < GIVE_UP_AFTER;
    let due = is_in_time.then(|| later(now, pause));
    Tried::Failed { error: error.to_string(), due }
}

fn later(at: Timestamp, pause: Duration) -> Timestamp {
    let millis = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(at.as_millis().saturating_add(millis))
}

/// Looks at what the levels say of each watch at `now`.
fn look(
    pools: &SharedPools,
    file: &WatchFile,
    rows: &HashMap<String, WatchRow>,
    now: Timestamp,
) -> Look {
    let mut found = Look::default();
    let Some(view) = pools.view(Wanted::ONE) else { return found };
    for watch in &file.watches {
        let row = rows.get(&watch.uid);
        let before = match row {
            // Another process has read a later one.
            Some(row) if row.generation > watch.generation => continue,
            Some(row) if row.generation < watch.generation => row.standing.of_changed_watch(),
            Some(row) => row.standing,
            None => Standing::NEW,
        };
        // Not longer than for one watch: who writes waits meanwhile.
        let searched = pools.read().look_for(&view, &watch.filter(), watch.units, watch.level);
        let seen = match &searched {
            LevelSearch::Found(_) => Seen::Holds,
            LevelSearch::NotFound => Seen::Gone,
            LevelSearch::Unknown => Seen::Unknown,
        };
        let is_quiet = watch.quiet_hours.as_ref().is_some_and(|hours| hours.contain(now));
        let (standing, fires) = before.step(seen, now, watch.rules, is_quiet);
        let is_same = row.is_some_and(|row| {
            row.standing == standing
                && row.generation == watch.generation
                && now.since(row.seen) < SEEN_PAUSE
        });
        if is_same {
            continue;
        }
        found.moved.push(WatchRow {
            uid: watch.uid.clone(),
            generation: watch.generation,
            standing,
            delivered: row.and_then(|row| row.delivered),
            seen: now,
        });
        if let (true, LevelSearch::Found(pool)) = (fires, searched) {
            let holds_since = standing.holds_since.unwrap_or(now);
            found.deliveries.extend(deliveries(
                watch,
                &Firing::of(watch, holds_since, now, *pool),
                now,
            ));
            found.fired.push(watch.name.clone());
        }
    }
    found
}

/// A message for each receiver.
fn deliveries(watch: &Watch, firing: &Firing, now: Timestamp) -> Vec<DeliveryRow> {
    let json = serde_json::to_string(firing).expect("plain data");
    watch
        .deliver
        .iter()
        .map(|target| DeliveryRow {
            id: format!("msg_{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)),
            uid: watch.uid.clone(),
            target: target.place,
            made: now,
            firing: json.clone(),
            attempts: 0,
        })
        .collect()
}

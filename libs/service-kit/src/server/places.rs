//! The connections of one listener: how many there may be, and which has to go.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use metrics::{Counter, Gauge, counter, gauge};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{
    Limits,
    connection::{Connection, Verdict},
};

/// How often limits of time are looked at, and how exact they are.
const SWEEP_PAUSE: Duration = Duration::from_millis(500);

/// How soon somebody who waits for a place looks again, should nobody have left.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// All places of a listener.
#[derive(Debug)]
pub(super) struct Places {
    limits: Limits,
    /// Milliseconds since the listener began, renewed by each sweep and each connection.
    now: Arc<AtomicU64>,
    started: Instant,
    taken: Mutex<Taken>,
    freed: Notify,
    is_closing: AtomicBool,
    metrics: ConnectionMetrics,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    connections: HashMap<u64, Arc<Connection>>,
}

/// One place, given back when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    pub(super) connection: Arc<Connection>,
    places: Arc<Places>,
}

impl Places {
    /// None is taken yet. `listener` is the label of its metrics.
    pub(super) fn new(listener: &'static str, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            now: Arc::default(),
            started: Instant::now(),
            taken: Mutex::default(),
            freed: Notify::new(),
            is_closing: AtomicBool::new(false),
            metrics: ConnectionMetrics::register(listener, limits.connections),
        })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn renew_now(&self) {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.now.store(elapsed, Relaxed);
    }

    /// A place for a new connection. When all are taken, the connection that was unused for the longest
    /// time has to go; while all of them are being answered, this waits.
    pub(super) async fn take(self: &Arc<Self>) -> Place {
        loop {
            self.renew_now();
            {
                let mut taken = self.taken();
                if taken.connections.len() < self.limits.connections {
                    let number = taken.next;
                    taken.next += 1;
                    let connection = Arc::new(Connection::new(Arc::clone(&self.now)));
                    taken.connections.insert(number, Arc::clone(&connection));
                    self.metrics.show_open(taken.connections.len());
                    return Place { number, connection, places: Arc::clone(self) };
                }
            }
            self.evict();
            // Another one may have taken what was freed, so whoever waits looks again.
            drop(timeout(RETRY_PAUSE, self.freed.notified()).await);
        }
    }

    /// Ends the connection that was unused for the longest time, if one is unused.
    pub(super) fn evict(&self) {
        let longest_unused = {
            let taken = self.taken();
            let unused = taken
                .connections
                .values()
                .filter_map(|connection| Some((connection.unused_since()?, connection)));
            unused.min_by_key(|(since, _)| *since).map(|(_, connection)| Arc::clone(connection))
        };
        if let Some(connection) = &longest_unused {
            connection.tell(Verdict::Evicted);
        }
    }

    /// Ends connections that exceed a limit of time. Never returns.
    pub(super) async fn sweep(&self) {
        let mut ticks = interval(SWEEP_PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.renew_now();
            let is_closing = self.is_closing.load(Relaxed);
            for connection in self.taken().connections.values() {
                let closing = is_closing && !connection.is_silent();
                let verdict = connection.judge(&self.limits, is_closing);
                if let Some(verdict) = verdict.or(closing.then_some(Verdict::Closing)) {
                    connection.tell(verdict);
                }
            }
        }
    }

    /// Lets every connection end with the request that it is at.
    pub(super) fn close(&self) {
        self.is_closing.store(true, Relaxed);
        for connection in self.taken().connections.values().filter(|it| !it.is_silent()) {
            connection.tell(Verdict::Closing);
        }
    }
}

impl Place {
    /// Counts that the connection was cut off.
    pub(super) fn count(&self, verdict: Verdict) {
        let index = Verdict::COUNTED.iter().position(|counted| *counted == verdict);
        if let Some(counter) = index.and_then(|index| self.places.metrics.closed.get(index)) {
            counter.increment(1);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.connections.remove(&self.number);
        self.places.metrics.show_open(taken.connections.len());
        drop(taken);
        self.places.freed.notify_one();
    }
}

/// `http_connections`, `http_connections_limit` and `http_connections_closed_total{reason}`, each by
/// listener.
#[derive(Debug)]
struct ConnectionMetrics {
    open: Gauge,
    closed: [Counter; Verdict::COUNTED.len()],
}

impl ConnectionMetrics {
    fn register(listener: &'static str, limit: usize) -> Self {
        gauge!("http_connections_limit", "listener" => listener).set(as_gauge(limit));
        Self {
            open: gauge!("http_connections", "listener" => listener),
            closed: Verdict::COUNTED.map(|verdict| {
                let reason = verdict.label();
                counter!("http_connections_closed_total",
                    "listener" => listener, "reason" => reason)
            }),
        }
    }

    fn show_open(&self, connections: usize) {
        self.open.set(as_gauge(connections));
    }
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2⁵²")]
fn as_gauge(count: usize) -> f64 {
    count as f64
}

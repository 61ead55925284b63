//! A load generator that counts what failed.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use reqwest::Client;
use tokio::task::JoinHandle;

/// Requests under way until [`Load::stop`].
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    report: Arc<Mutex<Report>>,
    workers: Vec<JoinHandle<()>>,
}

/// How the clients of a load connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// A new one for each request: that is what a rollout cuts, as a kept one would stay with its
    /// first pod.
    Fresh,
    /// One for all, for as many requests as possible.
    Kept,
}

/// What became of the requests.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Requests sent.
    pub requests: u64,
    /// Requests without a 200, by what happened instead.
    pub failures: BTreeMap<String, u64>,
    /// The longest time a request took.
    pub slowest: Duration,
}

impl Report {
    /// Requests without a 200.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }
}

impl Load {
    /// Starts `workers` clients that each request `url` and pause for `pause`, over and over.
    #[must_use]
    pub fn start(url: &str, workers: usize, pause: Duration, connections: Connections) -> Self {
        let (stop, report) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let workers = (0..workers)
            .map(|_| {
                let worker = request_in_turn(
                    url.to_owned(),
                    pause,
                    connections,
                    Arc::clone(&stop),
                    Arc::clone(&report),
                );
                tokio::spawn(worker)
            })
            .collect();
        Self { stop, report, workers }
    }

    /// What has happened so far.
    #[must_use]
    pub fn report(&self) -> Report {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the load and gives the whole count.
    pub async fn stop(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        join_all(self.workers).await;
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn request_in_turn(
    url: String,
    pause: Duration,
    connections: Connections,
    stop: Arc<AtomicBool>,
    report: Arc<Mutex<Report>>,
) {
    let client = Client::builder()
        .pool_max_idle_per_host(usize::from(connections == Connections::Kept))
        .timeout(Duration::from_secs(10))
        .build()
        .expect("a plain HTTP client");
    while !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        let failure = match client.get(&url).send().await {
            Ok(answer) if answer.status() == 200 => answer.bytes().await.err().map(describe),
            Ok(answer) => Some(answer.status().to_string()),
            Err(error) => Some(describe(error)),
        };
        {
            let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
            report.requests += 1;
            report.slowest = report.slowest.max(started.elapsed());
            if let Some(failure) = failure {
                *report.failures.entry(failure).or_default() += 1;
            }
        }
        // Even a sleep of no time takes a millisecond.
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
}

/// The whole chain of causes: reqwest's own message stops at "error sending request".
fn describe(error: reqwest::Error) -> String {
    format!("{:#}", anyhow::Error::from(error.without_url()))
}

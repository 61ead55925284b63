//! A load that goes through the store in the real pods. `GET /hardware/` is answered from memory, so
//! it would prove nothing about a database login: this one writes observations, while the pods read
//! the database to refresh their snapshots.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use futures::future::join_all;
use kube::ResourceExt;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::sleep};

use crate::{Namespace, database::Database, scrape, wait::eventually};

/// Clients that write at the same time.
const WRITERS: usize = 4;
/// Pause between two writes of one client: some hundred a second in all, on a machine of two cores.
const PAUSE: Duration = Duration::from_millis(10);

/// Pods of a portal that is ready answer at once, on a machine that is not busy.
const COUNTED: Duration = Duration::from_secs(20);

/// Writes under way until [`StoreLoad::stop`].
pub struct StoreLoad {
    namespace: Namespace,
    portal: String,
    denied_before: u64,
    pods_before: Vec<(String, i32)>,
    stop: Arc<AtomicBool>,
    counts: Arc<Mutex<Counts>>,
    operations: Arc<Mutex<Operations>>,
    workers: Vec<JoinHandle<()>>,
}

#[derive(Clone, Debug, Default)]
struct Counts {
    requests: u64,
    failures: BTreeMap<String, u64>,
    greatest_age_s: u64,
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Requests sent.
    pub requests: u64,
    /// Requests without a 200, by what happened instead.
    pub failures: BTreeMap<String, u64>,
    /// Operations on the store that succeeded, as the pods count them.
    pub store_succeeded: u64,
    /// Operations on the store that failed, as the pods count them.
    pub store_failed: u64,
    /// Logins that the server denied, as it counts them.
    pub denied: u64,
    /// Greatest age of a snapshot, in seconds.
    pub greatest_age_s: u64,
    /// Pods that were replaced or restarted.
    pub pods_replaced: usize,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed: u64 = self.failures.values().sum();
        write!(
            f,
            "{} requests, {failed} failed; {} store operations, {} failed; {} denied logins; greatest snapshot age {} s; {} pods replaced or restarted",
            self.requests,
            self.store_succeeded + self.store_failed,
            self.store_failed,
            self.denied,
            self.greatest_age_s,
            self.pods_replaced,
        )
    }
}

impl Figures {
    /// Fails unless nothing failed and no pod was restarted.
    pub fn expect_no_failure(&self) -> Result<()> {
        self.expect_nothing_failed()?;
        ensure!(self.pods_replaced == 0, "a pod was replaced: {self}");
        Ok(())
    }

    /// Fails unless nothing failed.
    pub fn expect_nothing_failed(&self) -> Result<()> {
        ensure!(self.requests > 100, "too few requests to prove anything: {self}");
        ensure!(self.store_succeeded > 100, "too few store operations to prove anything: {self}");
        ensure!(self.failures.is_empty(), "requests failed: {:?} ({self})", self.failures);
        ensure!(self.store_failed == 0, "store operations failed: {self}");
        Ok(())
    }
}

impl StoreLoad {
    /// Starts to write to a portal.
    pub async fn start(namespace: &Namespace, portal: &str, database: &Database) -> Result<Self> {
        let base = namespace.url(&format!("{portal}-hardware")).await?;
        let token = namespace.observations_token(portal).await?;
        let (stop, counts) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Counts>>::default());
        let first = eventually("what the pods have counted before", COUNTED, async || {
            read_operations(namespace, portal).await
        });
        let operations = Arc::new(Mutex::new(Operations::since(first.await?)));
        let writers = (0..WRITERS).map(|writer| {
            let (base, token) = (base.clone(), token.clone());
            tokio::spawn(write(base, token, writer, Arc::clone(&stop), Arc::clone(&counts)))
        });
        let mut workers: Vec<_> = writers.collect();
        workers.push(tokio::spawn(watch_age(base.clone(), Arc::clone(&stop), Arc::clone(&counts))));
        workers.push(tokio::spawn(watch_operations(
            namespace.clone(),
            portal.to_owned(),
            Arc::clone(&stop),
            Arc::clone(&operations),
        )));
        Ok(Self {
            namespace: namespace.clone(),
            portal: portal.to_owned(),
            denied_before: database.denied_logins().await?,
            pods_before: namespace.hardware_restarts(portal).await?,
            stop,
            counts,
            operations,
            workers,
        })
    }

    /// Ends the load and counts.
    pub async fn stop(self, database: &Database) -> Result<Figures> {
        self.stop.store(true, Ordering::Relaxed);
        join_all(self.workers).await;
        let pods = read_operations(&self.namespace, &self.portal).await?;
        let mut operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner).clone();
        operations.note(pods);
        let (store_succeeded, store_failed) = operations.sum();
        let pods_after = self.namespace.hardware_restarts(&self.portal).await?;
        let Counts { requests, failures, greatest_age_s } =
            self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Figures {
            requests,
            failures,
            store_succeeded,
            store_failed,
            denied: database.denied_logins().await? - self.denied_before,
            greatest_age_s,
            pods_replaced: self.pods_before.iter().filter(|pod| !pods_after.contains(pod)).count(),
        })
    }
}

async fn write(
    base: String,
    token: String,
    writer: usize,
    stop: Arc<AtomicBool>,
    counts: Arc<Mutex<Counts>>,
) {
    // A connection for each request, so that every pod gets its share.
    let client = Client::builder()
        .pool_max_idle_per_host(0)
        .timeout(Duration::from_secs(10))
        .build()
        .expect("a plain HTTP client");
    let url = format!("{base}/v1/observations");
    let mut in_use = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        in_use = (in_use + 1) % 9;
        let body = observation(writer, in_use);
        let answer = client.post(&url).bearer_auth(&token).json(&body).send().await;
        let failure = match answer {
            Ok(answer) if answer.status() == 200 => None,
            Ok(answer) => {
                let status = answer.status();
                Some(format!("{status} {}", answer.text().await.unwrap_or_default()))
            }
            Err(error) => Some(format!("{:#}", anyhow::Error::from(error.without_url()))),
        };
        {
            let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
            counts.requests += 1;
            if let Some(failure) = failure {
                *counts.failures.entry(failure).or_default() += 1;
            }
        }
        sleep(PAUSE).await;
    }
}

fn observation(writer: usize, in_use: u32) -> Value {
    json!({
        "source": format!("writer-{writer}"),
        "expected_interval_s": 60,
        "observations": [{
            "provider": "Amazon", "name": "c5.large", "region": format!("test-{writer}"),
            "total": 8, "in_use": in_use,
        }],
    })
}

async fn watch_age(base: String, stop: Arc<AtomicBool>, counts: Arc<Mutex<Counts>>) {
    let url = format!("{base}/hardware/");
    while !stop.load(Ordering::Relaxed) {
        let age = match reqwest::get(&url).await {
            Ok(answer) => {
                answer.headers().get("age").and_then(|age| age.to_str().ok()?.parse().ok())
            }
            Err(_) => None,
        };
        {
            let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
            match age {
                Some(age) => counts.greatest_age_s = counts.greatest_age_s.max(age),
                None => {
                    *counts.failures.entry("the list without an age".to_owned()).or_default() += 1;
                }
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Operations on the store that succeeded and that failed, by pod, as each last said. Pods that end
/// take their counters along, so they are read all the while.
#[derive(Clone, Debug, Default)]
struct Operations {
    latest: BTreeMap<String, (u64, u64)>,
    /// Of processes that were started anew in the same pod.
    before: (u64, u64),
    /// What had been counted when the load began.
    at_start: (u64, u64),
}

impl Operations {
    fn since(pods: Vec<(String, (u64, u64))>) -> Self {
        let mut operations = Self::default();
        operations.note(pods);
        Self { at_start: operations.sum(), ..operations }
    }

    fn note(&mut self, pods: Vec<(String, (u64, u64))>) {
        for (pod, (succeeded, failed)) in pods {
            let last = self.latest.insert(pod, (succeeded, failed)).unwrap_or_default();
            if succeeded < last.0 {
                self.before = (self.before.0 + last.0, self.before.1 + last.1);
            }
        }
    }

    fn sum(&self) -> (u64, u64) {
        let pods = self.latest.values();
        let sum = pods.fold(self.before, |sum, pod| (sum.0 + pod.0, sum.1 + pod.1));
        (sum.0 - self.at_start.0, sum.1 - self.at_start.1)
    }
}

async fn watch_operations(
    namespace: Namespace,
    portal: String,
    stop: Arc<AtomicBool>,
    operations: Arc<Mutex<Operations>>,
) {
    while !stop.load(Ordering::Relaxed) {
        // A pod that starts or ends does not answer; the last reading, which has to succeed, counts
        // those that are left.
        if let Ok(pods) = read_operations(&namespace, &portal).await {
            operations.lock().unwrap_or_else(PoisonError::into_inner).note(pods);
        }
        sleep(Duration::from_millis(200)).await;
    }
}

async fn read_operations(namespace: &Namespace, portal: &str) -> Result<Vec<(String, (u64, u64))>> {
    let mut found = Vec::new();
    for pod in namespace.running_pods(portal, "hardware").await? {
        let series = scrape::admin_port(&pod).await?;
        let outcome =
            |word| scrape::count(&series, "hardware_store_operations_total", &[("outcome", word)]);
        found.push((pod.name_any(), (outcome("ok"), outcome("failed"))));
    }
    Ok(found)
}

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

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::sleep};

use crate::{Namespace, database::Database};

/// Clients that write at the same time.
const WRITERS: usize = 4;
/// Pause between two writes of one client: some hundred a second in all, on a machine of two cores.
const PAUSE: Duration = Duration::from_millis(10);

/// Writes under way until [`StoreLoad::stop`].
pub struct StoreLoad {
    namespace: Namespace,
    portal: String,
    denied_before: u64,
    restarts_before: Vec<(String, i32)>,
    stop: Arc<AtomicBool>,
    counts: Arc<Mutex<Counts>>,
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
    /// Whether a pod was replaced or restarted.
    pub restarted: bool,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed: u64 = self.failures.values().sum();
        write!(
            f,
            "{} requests, {failed} failed; {} store operations, {} failed; {} denied logins; greatest snapshot age {} s; pods restarted: {}",
            self.requests,
            self.store_succeeded + self.store_failed,
            self.store_failed,
            self.denied,
            self.greatest_age_s,
            self.restarted,
        )
    }
}

impl Figures {
    /// Fails unless nothing failed and no pod was restarted.
    pub fn expect_no_failure(&self) -> Result<()> {
        ensure!(self.requests > 100, "too few requests to prove anything: {self}");
        ensure!(self.store_succeeded > 100, "too few store operations to prove anything: {self}");
        ensure!(self.failures.is_empty(), "requests failed: {:?} ({self})", self.failures);
        ensure!(self.store_failed == 0, "store operations failed: {self}");
        ensure!(!self.restarted, "a pod was replaced: {self}");
        Ok(())
    }
}

impl StoreLoad {
    /// Starts to write to a portal.
    pub async fn start(namespace: &Namespace, portal: &str, database: &Database) -> Result<Self> {
        let base = namespace.url(&format!("{portal}-hardware")).await?;
        let token = namespace.observations_token(portal).await?;
        let (stop, counts) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Counts>>::default());
        let writers = (0..WRITERS).map(|writer| {
            let (base, token) = (base.clone(), token.clone());
            tokio::spawn(write(base, token, writer, Arc::clone(&stop), Arc::clone(&counts)))
        });
        let mut workers: Vec<_> = writers.collect();
        workers.push(tokio::spawn(watch_age(base.clone(), Arc::clone(&stop), Arc::clone(&counts))));
        Ok(Self {
            namespace: namespace.clone(),
            portal: portal.to_owned(),
            denied_before: database.denied_logins().await?,
            restarts_before: namespace.hardware_restarts(portal).await?,
            stop,
            counts,
            workers,
        })
    }

    /// Ends the load and counts.
    pub async fn stop(self, database: &Database) -> Result<Figures> {
        self.stop.store(true, Ordering::Relaxed);
        join_all(self.workers).await;
        let (store_succeeded, store_failed) =
            store_operations(&self.namespace, &self.portal).await?;
        let Counts { requests, failures, greatest_age_s } =
            self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Figures {
            requests,
            failures,
            store_succeeded,
            store_failed,
            denied: database.denied_logins().await? - self.denied_before,
            greatest_age_s,
            restarted: self.namespace.hardware_restarts(&self.portal).await?
                != self.restarts_before,
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

/// Operations on the store that succeeded and that failed, summed over the pods.
async fn store_operations(namespace: &Namespace, portal: &str) -> Result<(u64, u64)> {
    let (mut succeeded, mut failed) = (0, 0);
    for pod in namespace.running_pods(portal, "hardware").await? {
        let address =
            pod.status.and_then(|status| status.pod_ip).context("a pod has an address")?;
        let text = reqwest::get(format!("http://{address}:8081/metrics")).await?.text().await?;
        succeeded += counter(&text, r#"hardware_store_operations_total{outcome="ok"}"#);
        failed += counter(&text, r#"hardware_store_operations_total{outcome="failed"}"#);
    }
    Ok((succeeded, failed))
}

fn counter(text: &str, series: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(series));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
}

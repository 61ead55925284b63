//! What tests build their world from.

pub(crate) mod browser;
pub(crate) mod hardware;
pub(crate) mod portal;

use std::time::{Duration, Instant};

/// How long a condition may take to become true.
const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `condition` gives something, and gives up loudly.
pub(crate) async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(started.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

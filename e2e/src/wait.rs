//! Waiting for a condition with a deadline.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use tokio::time::sleep;

/// How often a condition is looked at. Short, so that measured times are close.
const PERIOD: Duration = Duration::from_millis(200);

/// Looks until `condition` succeeds and gives its value. At the deadline it fails with what the
/// condition last said, so that the message tells what was found instead.
pub async fn eventually<T, F>(
    what: &str,
    deadline: Duration,
    condition: impl FnMut() -> F,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    eventually_every(PERIOD, what, deadline, condition).await
}

/// The same, looking more often or less.
pub async fn eventually_every<T, F>(
    period: Duration,
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> F,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let started = Instant::now();
    loop {
        match condition().await {
            Ok(value) => return Ok(value),
            Err(error) if started.elapsed() >= deadline => {
                bail!("{what} did not happen within {} s: {error:#}", deadline.as_secs())
            }
            Err(_) => sleep(period).await,
        }
    }
}

/// Looks for the whole `period` and fails as soon as `invariant` does.
pub async fn throughout<F>(
    what: &str,
    period: Duration,
    mut invariant: impl FnMut() -> F,
) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let started = Instant::now();
    while started.elapsed() < period {
        if let Err(error) = invariant().await {
            bail!("{what} stopped being true after {:?}: {error:#}", started.elapsed());
        }
        sleep(PERIOD).await;
    }
    Ok(())
}

//! Keeps the page in step with `hardware`, and with the clock.

use std::{
    future::Future,
    pin::pin,
    time::{Duration, Instant},
};

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};
use tracing::{info, warn};

use crate::{
    hardware_client::{Answer, FetchError, HardwareClient},
    page_publisher::PagePublisher,
    pools::PoolsAnswer,
};

/// How often the page is compared with the clock. It is rendered only if that made a difference.
const TICK: Duration = Duration::from_secs(1);

/// The first pause after a failure; each further one is twice as long, up to this or the interval.
const SHORTEST_RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// Asks `hardware` about every `period`, for ever. May be dropped at any time.
pub(crate) async fn run(mut client: HardwareClient, mut page: PagePublisher, period: Duration) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut retries = retry_pauses(period);
    loop {
        let started = Instant::now();
        let outcome = while_ticking(client.fetch_list(), &mut page, &mut ticks).await;
        let failure = outcome.as_ref().err().map(|error| error.failure);
        page.metrics().observe_request(failure, started.elapsed());
        learn_list(&mut page, outcome);
        // A hardware that gives no list has nothing to say of pools either.
        if failure.is_none() {
            // No longer than a period, or pools that hang would make the list look old.
            let outcome = while_ticking(client.fetch_pools(period), &mut page, &mut ticks).await;
            page.metrics().count_pools_request(&outcome);
            learn_pools(&mut page, outcome);
        }
        page.show().await;
        let pause = if failure.is_some() {
            retries.next().unwrap_or(period)
        } else {
            retries = retry_pauses(period);
            // Portals that started together must not ask in step for ever.
            period.mul_f64(0.9 + 0.2 * fastrand::f64())
        };
        while_ticking(sleep(pause), &mut page, &mut ticks).await;
    }
}

/// Shows the passing of time while `work` goes on.
async fn while_ticking<T>(
    work: impl Future<Output = T>,
    page: &mut PagePublisher,
    ticks: &mut Interval,
) -> T {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = ticks.tick() => page.show().await,
        }
    }
}

fn learn_list(page: &mut PagePublisher, outcome: Result<Answer, FetchError>) {
    let now = page.now();
    let upstream = &mut page.upstream;
    match outcome {
        Ok(answer) => {
            if upstream.failure.is_some() {
                info!("hardware answers again");
            }
            upstream.confirm(answer.rows, answer.freshness, now);
        }
        Err(error) => {
            // One line per kind of failure, not one per attempt.
            if upstream.failure != Some(error.failure) {
                warn!(%error, "hardware gives no list; the page keeps the last good one");
            }
            upstream.fail(error.failure);
        }
    }
}

/// Failures of this request alone are no outage: the page says in its place how old the pools are.
fn learn_pools(page: &mut PagePublisher, outcome: Result<PoolsAnswer, FetchError>) {
    let now = page.now();
    let pools = &mut page.pools;
    match outcome {
        Ok(answer) => {
            if pools.failure.is_some() {
                info!("hardware gives its pools again");
            }
            pools.confirm(answer, now);
        }
        Err(error) => {
            if pools.failure != Some(error.failure) {
                warn!(%error, "hardware gives no pools; the page keeps the last good ones");
            }
            pools.fail(error.failure);
        }
    }
}

/// The retry budget: a failing `hardware` gets a few quick retries, then fewer requests than usual.
fn retry_pauses(period: Duration) -> impl Iterator<Item = Duration> {
    ExponentialBuilder::new()
        .with_min_delay(SHORTEST_RETRY.min(period))
        .with_max_delay(LONGEST_RETRY.max(period))
        .with_jitter()
        .without_max_times()
        .build()
}

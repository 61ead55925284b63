//! How long after a failure a watch is started again.

use std::time::Duration;

use kube_runtime::utils::Backoff;
use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(800);
const LONGEST: Duration = Duration::from_secs(30);
/// A watch that ran for this long counts as healthy: its next failure is delayed like the first.
const HEALTHY: Duration = Duration::from_secs(30);

/// Exponential backoff that time alone resets. kube's own backoff is reset by each event of the watcher,
/// which emits `Init` before each list, so a list that the API server refuses would be repeated each
/// second. It refuses every kind in a namespace where the operator has no Role any more, such as one that
/// is being deleted.
#[derive(Debug, Default)]
pub struct WatchBackoff {
    /// When the last delay ended, and how long it was.
    last: Option<(Instant, Duration)>,
}

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let delay = match self.last {
            Some((ended, delay)) if now.saturating_duration_since(ended) < HEALTHY => {
                delay.saturating_mul(2).min(LONGEST)
            }
            _ => FIRST,
        };
        // Half of it is random, so that watches that failed together do not start together.
        let jittered = delay.mul_f64(rand::random_range(0.5..=1.0));
        self.last = Some((now + jittered, delay));
        Some(jittered)
    }
}

impl Backoff for WatchBackoff {
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, time::Duration};

    use futures::StreamExt;
    use http::{Request, Response, StatusCode};
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{Api, Client, client::Body, core::Status};
    use kube_runtime::{WatchStreamExt, utils::Backoff, watcher};
    use tokio::time::{Instant, advance, sleep};

    use super::{FIRST, HEALTHY, LONGEST, WatchBackoff};

    #[tokio::test(start_paused = true)]
    async fn delays_grow_to_a_bound_and_only_a_healthy_watch_resets_them() {
        let mut backoff = WatchBackoff::default();
        let mut delays = Vec::new();
        for _ in 0..10 {
            let delay = backoff.next().expect("a delay");
            // As the watcher does at `Init`, before a list that fails.
            backoff.reset();
            advance(delay).await;
            delays.push(delay);
        }
        assert!(delays[0] <= FIRST && delays[0] >= FIRST / 2, "{delays:?}");
        assert!(delays[9] <= LONGEST && delays[9] >= LONGEST / 2, "{delays:?}");
        advance(HEALTHY).await;
        assert!(backoff.next().expect("a delay") <= FIRST, "it was healthy");
    }

    /// Five minutes of a watch on a kind that the operator may not list.
    #[tokio::test(start_paused = true)]
    async fn a_list_that_is_always_refused_is_retried_at_growing_intervals() {
        let (service, mut server) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let config_maps: Api<ConfigMap> = Api::namespaced(Client::new(service, "n"), "n");
        let watch = watcher(config_maps, watcher::Config::default());
        let mut watch = pin!(watch.backoff(WatchBackoff::default()));
        let started = Instant::now();
        let mut asked = 0;
        let refuse = async {
            loop {
                let (_, answer) = server.next_request().await.expect("a request");
                asked += 1;
                let status = Status::failure("no right", "Forbidden").with_code(403);
                let body = serde_json::to_vec(&status).expect("plain data");
                let response = Response::builder().status(StatusCode::FORBIDDEN);
                answer.send_response(response.body(Body::from(body)).expect("a response"));
            }
        };
        let follow = async { while watch.next().await.is_some() {} };
        tokio::select! {
            () = refuse => {}
            () = follow => {}
            () = sleep(Duration::from_mins(5)) => {}
        }
        assert_eq!(started.elapsed(), Duration::from_mins(5));
        assert!(asked >= 10, "it is asked now and then: {asked} times");
        assert!(asked <= 30, "asked {asked} times within five minutes");
    }
}

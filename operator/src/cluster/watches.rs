//! How long a watch that was refused or cut rests before it starts again.

use std::time::Duration;

use kube_runtime::utils::Backoff;
use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(800);
const LONGEST: Duration = Duration::from_secs(30);
/// A watch that lived for so long was well: its next failure is the first of another row.
const WELL: Duration = Duration::from_secs(30);

/// Grows with failures in a row. What is a row is told by time alone: kube's own backoff starts anew
/// with whatever the watch says, and it says `Init` before each list, so a list that is refused for ever
/// would be asked for each second. That is so for every kind where the operator's rights are gone, as in
/// a namespace that is being deleted.
#[derive(Debug, Default)]
pub struct WatchBackoff {
    /// When the last rest ended, and how long it was.
    last: Option<(Instant, Duration)>,
}

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let rest = match self.last {
            Some((ended, rest)) if now.saturating_duration_since(ended) < WELL => {
                rest.saturating_mul(2).min(LONGEST)
            }
            _ => FIRST,
        };
        // Half of it by chance, so that watches that were cut together do not return together.
        let by_chance = rest.mul_f64(rand::random_range(0.5..=1.0));
        self.last = Some((now + by_chance, rest));
        Some(by_chance)
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

    use super::{FIRST, LONGEST, WELL, WatchBackoff};

    #[tokio::test(start_paused = true)]
    async fn rests_grow_to_a_bound_and_start_anew_only_after_a_watch_was_well() {
        let mut backoff = WatchBackoff::default();
        let mut rests = Vec::new();
        for _ in 0..10 {
            let rest = backoff.next().expect("a rest");
            // What a watch says before a list that fails.
            backoff.reset();
            advance(rest).await;
            rests.push(rest);
        }
        assert!(rests[0] <= FIRST && rests[0] >= FIRST / 2, "{rests:?}");
        assert!(rests[9] <= LONGEST && rests[9] >= LONGEST / 2, "{rests:?}");
        advance(WELL).await;
        assert!(backoff.next().expect("a rest") <= FIRST, "it was well");
    }

    /// Five minutes of a watch on what the operator may not list.
    #[tokio::test(start_paused = true)]
    async fn a_list_that_is_refused_for_ever_is_asked_for_ever_more_seldom() {
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

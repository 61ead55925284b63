//! When to try again after a failure. The delays are in memory: a counter in status would be a write
//! per failure, and so a loop.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// The reason by which the API server, and the operator as well, says that a name is taken.
pub const TAKEN: &str = "AlreadyExists";

/// What a failure asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Nothing helps but a change of the object, which wakes us up.
    AfterChange,
    /// Something that is not watched has to change: look now and then.
    Poll,
    /// It may work soon: try again, ever more slowly.
    Backoff,
    /// The API server said when.
    After(Duration),
}

impl Retry {
    /// What an answer of the API server, or the lack of one, asks for.
    #[must_use]
    pub fn of_api(error: &kube::Error) -> Self {
        let kube::Error::Api(status) = error else { return Self::Backoff };
        let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        match status.code {
            _ if seconds > 0 => Self::After(Duration::from_secs(u64::from(seconds))),
            // By quota, policy, webhook or a missing right: somebody has to change something else.
            400 | 403 | 413 | 422 => Self::Poll,
            _ => Self::Backoff,
        }
    }
}

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_secs(15);

/// Failures in a row, by the portal's uid.
#[derive(Debug, Default)]
pub struct Retries {
    failures: Mutex<HashMap<String, u32>>,
}

impl Retries {
    /// Ends a row of failures.
    pub fn succeeded(&self, uid: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// Forgets portals that are gone.
    pub fn retain(&self, is_alive: impl Fn(&str) -> bool) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|uid, _| is_alive(uid));
    }

    /// Time until the next try. Never later than `at_rest` or a poll, whichever is later.
    pub fn delay(&self, uid: &str, retry: &Retry, at_rest: Duration) -> Duration {
        let failures = {
            let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
            let failures = failures.entry(uid.to_owned()).or_default();
            *failures = failures.saturating_add(1);
            *failures
        };
        match retry {
            Retry::AfterChange => at_rest,
            Retry::Poll => POLL.min(at_rest),
            Retry::After(time) => *time,
            Retry::Backoff => {
                let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(10));
                // Half of it by chance, so that portals that failed together do not return together.
                doubled.min(LONGEST).mul_f64(rand::random_range(0.5..=1.0))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{LONGEST, POLL, Retries, Retry};

    const REST: Duration = Duration::from_secs(400);

    #[test]
    fn delays_grow_to_a_bound_and_start_anew_after_a_success() {
        let retries = Retries::default();
        let delays: Vec<_> = (0..12).map(|_| retries.delay("a", &Retry::Backoff, REST)).collect();
        assert!(delays[0] <= Duration::from_millis(500), "{delays:?}");
        assert!(delays[11] >= LONGEST / 2 && delays[11] <= LONGEST, "{delays:?}");
        assert!(retries.delay("b", &Retry::Backoff, REST) <= Duration::from_millis(500));
        retries.succeeded("a");
        assert!(retries.delay("a", &Retry::Backoff, REST) <= Duration::from_millis(500));
    }

    #[test]
    fn what_cannot_heal_by_itself_is_not_tried_in_a_hurry() {
        let retries = Retries::default();
        assert_eq!(retries.delay("a", &Retry::AfterChange, REST), REST);
        assert_eq!(retries.delay("a", &Retry::Poll, REST), POLL);
        assert_eq!(retries.delay("a", &Retry::Poll, POLL / 3), POLL / 3, "as the spec asks");
        let wait = Duration::from_secs(7);
        assert_eq!(retries.delay("a", &Retry::After(wait), REST), wait, "as the server asks");
    }
}

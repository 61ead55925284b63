//! When to retry after a failure. The failures are counted in memory: a counter in the status would be
//! written at each failure, and each write would start a pass.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Reason of a `Status` for a name that another object has. The operator uses the word of the API server.
pub const TAKEN: &str = "AlreadyExists";

/// When to retry after a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Once the object changes, which starts a pass.
    AfterChange,
    /// At a constant interval, as an object that is not watched has to change.
    Poll,
    /// With exponential backoff.
    Backoff,
    /// After the time that the API server asks for.
    After(Duration),
}

impl Retry {
    /// When to retry a request to the API server that failed.
    #[must_use]
    pub fn of_api(error: &kube::Error) -> Self {
        let kube::Error::Api(status) = error else { return Self::Backoff };
        let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        match status.code {
            _ if seconds > 0 => Self::After(Duration::from_secs(u64::from(seconds))),
            // Refused by quota, policy, webhook or RBAC, whose objects are not watched.
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
    /// Resets the number of failures in a row.
    pub fn succeeded(&self, uid: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// Forgets portals that no longer exist.
    pub fn retain(&self, is_alive: impl Fn(&str) -> bool) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|uid, _| is_alive(uid));
    }

    /// Time until the next retry. `at_rest` is the time between two passes without a failure; a poll is
    /// not later than that.
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
                // Half of it is random, so that portals that failed together do not retry together.
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
    fn a_failure_that_needs_a_change_is_polled_or_waits_for_it() {
        let retries = Retries::default();
        assert_eq!(retries.delay("a", &Retry::AfterChange, REST), REST);
        assert_eq!(retries.delay("a", &Retry::Poll, REST), POLL);
        assert_eq!(retries.delay("a", &Retry::Poll, POLL / 3), POLL / 3, "as the spec asks");
        let wait = Duration::from_secs(7);
        assert_eq!(retries.delay("a", &Retry::After(wait), REST), wait, "as the server asks");
    }
}

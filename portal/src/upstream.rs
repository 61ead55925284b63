//! What is known of the hardware, from the answers and failures so far. Pure: time is a parameter.

use std::{fmt, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use hardware_api::Hardware;

/// Why `hardware` could not be asked, in the words of the page. Names no address: pages are public.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection.
    Unreachable,
    /// A connection, but no whole answer in time.
    TimedOut,
    /// Another status than 200 and 304.
    Status(u16),
    /// An answer that is no list.
    NotUnderstood,
}

impl Failure {
    /// The value of the metric's label.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
            Self::Status(_) => "status",
            Self::NotUnderstood => "not_understood",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable => f.write_str("The hardware service cannot be reached"),
            Self::TimedOut => f.write_str("The hardware service does not answer in time"),
            Self::Status(503) => f.write_str("The hardware service is not ready"),
            Self::Status(status) => write!(f, "The hardware service answers with error {status}"),
            Self::NotUnderstood => f.write_str("The hardware service gives an unreadable answer"),
        }
    }
}

/// The list as it was last confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Confirmed {
    /// The list.
    pub(crate) rows: Arc<[Hardware]>,
    /// When the database last confirmed it.
    pub(crate) at: DateTime<Utc>,
    /// When `hardware` last answered with it.
    pub(crate) answered_at: DateTime<Utc>,
    /// Whether `hardware` itself calls it stale.
    pub(crate) is_stale: bool,
}

/// How an answer describes its age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Freshness {
    /// Time since the database confirmed the list.
    pub(crate) age: Duration,
    /// Whether that is longer than `hardware` expects.
    pub(crate) is_stale: bool,
}

/// Everything that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UpstreamState {
    /// The last good list; no failure takes it away.
    pub(crate) confirmed: Option<Confirmed>,
    /// How the latest attempt failed, unless it succeeded.
    pub(crate) failure: Option<Failure>,
}

impl UpstreamState {
    /// Takes an answer in. Without rows it confirms those that are known (304 Not Modified).
    pub(crate) fn confirm(
        &mut self,
        rows: Option<Arc<[Hardware]>>,
        freshness: Freshness,
        now: DateTime<Utc>,
    ) {
        let known = || self.confirmed.as_ref().map(|confirmed| Arc::clone(&confirmed.rows));
        let Some(rows) = rows.or_else(known) else {
            self.failure = Some(Failure::NotUnderstood);
            return;
        };
        let age = TimeDelta::from_std(freshness.age).unwrap_or(TimeDelta::MAX);
        let at = now.checked_sub_signed(age).unwrap_or(DateTime::UNIX_EPOCH);
        self.confirmed =
            Some(Confirmed { rows, at, answered_at: now, is_stale: freshness.is_stale });
        self.failure = None;
    }

    /// Notes that an attempt failed.
    pub(crate) fn fail(&mut self, failure: Failure) {
        self.failure = Some(failure);
    }

    /// Time since the database last confirmed the list.
    pub(crate) fn age(&self, now: DateTime<Utc>) -> Option<TimeDelta> {
        self.confirmed.as_ref().map(|confirmed| (now - confirmed.at).max(TimeDelta::zero()))
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use chrono::{DateTime, TimeDelta};

    use super::{Failure, Freshness, UpstreamState};

    const FRESH: Freshness = Freshness { age: Duration::from_secs(2), is_stale: false };

    #[test]
    fn a_failure_does_not_take_the_last_good_list_away() {
        let (mut upstream, now) = (UpstreamState::default(), DateTime::UNIX_EPOCH);
        upstream.confirm(Some(Arc::new([])), FRESH, now);
        upstream.fail(Failure::TimedOut);
        assert!(upstream.confirmed.is_some());
        assert_eq!(upstream.age(now), Some(TimeDelta::seconds(2)));
        upstream.confirm(None, FRESH, now + TimeDelta::seconds(60));
        assert_eq!(upstream.failure, None);
        assert_eq!(upstream.age(now + TimeDelta::seconds(60)), Some(TimeDelta::seconds(2)));
    }

    #[test]
    fn not_modified_means_nothing_without_a_list() {
        let mut upstream = UpstreamState::default();
        upstream.confirm(None, FRESH, DateTime::UNIX_EPOCH);
        assert_eq!((upstream.confirmed, upstream.failure), (None, Some(Failure::NotUnderstood)));
    }

    #[test]
    fn an_absurd_age_is_survived() {
        let mut upstream = UpstreamState::default();
        let freshness = Freshness { age: Duration::MAX, is_stale: true };
        upstream.confirm(Some(Arc::new([])), freshness, DateTime::UNIX_EPOCH);
        assert_eq!(upstream.age(DateTime::UNIX_EPOCH), Some(TimeDelta::zero()));
    }
}

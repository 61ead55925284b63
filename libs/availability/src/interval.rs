//! How often a source reports, and what follows from it.

use std::time::Duration;

use thiserror::Error;

/// Shortest and longest interval that is accepted.
const LEAST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_hours(24);

/// An observation speaks for max(2Δ, this).
const SPEAKS_FOR_AT_LEAST: Duration = Duration::from_mins(2);
/// A source is on time for max(3Δ, the first), and never longer than the second.
pub(crate) const FRESH_FOR_AT_LEAST: Duration = Duration::from_mins(5);
pub(crate) const FRESH_FOR_AT_MOST: Duration = Duration::from_hours(1);
/// Something is known for max(10Δ, the first), and never longer than the second.
pub(crate) const KNOWN_FOR_AT_LEAST: Duration = Duration::from_hours(1);
pub(crate) const KNOWN_FOR_AT_MOST: Duration = Duration::from_hours(3);

/// Δ: the time between two reports of a source when all is well; 1 s to 24 h, 60 s by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExpectedInterval {
    /// In milliseconds: every pool has one. Parts of a millisecond are dropped.
    millis: u32,
}

/// An interval out of its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("failed to accept an expected interval of {given:?}: give {LEAST:?} to {MOST:?}")]
pub struct IntervalError {
    /// What was given.
    pub given: Duration,
}

impl Default for ExpectedInterval {
    fn default() -> Self {
        Self { millis: 60_000 }
    }
}

impl ExpectedInterval {
    /// Checks the range.
    pub const fn new(given: Duration) -> Result<Self, IntervalError> {
        if given.as_millis() < LEAST.as_millis() || given.as_millis() > MOST.as_millis() {
            return Err(IntervalError { given });
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most a day")]
        Ok(Self { millis: given.as_millis() as u32 })
    }

    /// Δ itself.
    #[must_use]
    pub const fn get(self) -> Duration {
        Duration::from_millis(self.millis as u64)
    }

    /// G = max(2Δ, 2 min): for how long an observation speaks. What follows is missing, neither free
    /// nor full.
    #[must_use]
    pub fn speaks_for(self) -> Duration {
        (self.get() * 2).max(SPEAKS_FOR_AT_LEAST)
    }

    /// max(3Δ, 5 min), at most 60 min: up to this age an observation is fresh, and HIGH can be said.
    #[must_use]
    pub fn fresh_for(self) -> Duration {
        (self.get() * 3).clamp(FRESH_FOR_AT_LEAST, FRESH_FOR_AT_MOST)
    }

    /// max(10Δ, 60 min), at most 3 h: beyond this age the level is UNKNOWN.
    #[must_use]
    pub fn known_for(self) -> Duration {
        (self.get() * 10).clamp(KNOWN_FOR_AT_LEAST, KNOWN_FOR_AT_MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_follow_the_interval_within_their_bounds() {
        let minutes = |minutes: u64| Duration::from_mins(minutes);
        let table = [
            (minutes(1), minutes(2), minutes(5), minutes(60)),
            (minutes(10), minutes(20), minutes(30), minutes(100)),
            (minutes(30), minutes(60), minutes(60), minutes(180)),
            (minutes(24 * 60), minutes(48 * 60), minutes(60), minutes(180)),
        ];
        for (interval, speaks_for, fresh_for, known_for) in table {
            let interval = ExpectedInterval::new(interval).unwrap();
            assert_eq!(interval.speaks_for(), speaks_for, "{interval:?}");
            assert_eq!(interval.fresh_for(), fresh_for, "{interval:?}");
            assert_eq!(interval.known_for(), known_for, "{interval:?}");
        }
    }

    #[test]
    fn an_interval_out_of_its_range_is_refused() {
        for given in [Duration::ZERO, Duration::from_millis(999), Duration::from_hours(25)] {
            assert_eq!(ExpectedInterval::new(given), Err(IntervalError { given }));
        }
    }
}

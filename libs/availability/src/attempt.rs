//! Attempts to get hardware, and what follows from one that failed.

use std::time::Duration;

use crate::{Timestamp, Wanted};

/// For how long a failed attempt keeps a level from being HIGH.
pub const FAILURE_COUNTS_FOR: Duration = Duration::from_mins(15);

/// Somebody asked a provider for some units of a supply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When.
    pub at: Timestamp,
    /// How many at once.
    pub units: Wanted,
    /// Whether they were given.
    pub succeeded: bool,
}

/// The smallest number of units that an attempt has failed to get in the last [`FAILURE_COUNTS_FOR`]: so many or
/// more may not be had at `now`. A later attempt that got as many or more makes up for a failure.
#[must_use]
pub fn smallest_recent_failure(
    attempts: &(impl Iterator<Item = Attempt> + Clone),
    now: Timestamp,
) -> Option<Wanted> {
    let has_succeeded_since = |failure: &Attempt| {
        let mut others = attempts.clone();
        others.any(|it| it.succeeded && it.at > failure.at && it.units >= failure.units)
    };
    let recent = attempts.clone().filter(|it| now.since(it.at) <= FAILURE_COUNTS_FOR);
    let failures = recent.filter(|it| !it.succeeded && !has_succeeded_since(it));
    failures.map(|failure| failure.units).min()
}

#[cfg(test)]
mod tests {
    use super::{Attempt, smallest_recent_failure};
    use crate::{Timestamp, Wanted};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(second * 1000)
    }

    fn attempt((second, units, succeeded): (i64, u32, bool)) -> Attempt {
        Attempt { at: at(second), units: Wanted::new(units).expect("one at least"), succeeded }
    }

    #[test]
    fn a_failure_counts_for_a_while_unless_as_many_were_got_since() {
        let (failed, succeeded) = (false, true);
        let table = [
            ("nothing was tried", vec![], None),
            ("only successes", vec![(0, 1, succeeded)], None),
            ("a failure", vec![(0, 4, failed)], Some(4)),
            ("the smallest of two", vec![(0, 4, failed), (10, 2, failed)], Some(2)),
            ("too old", vec![(-1, 4, failed)], None),
            ("of a clock that runs ahead", vec![(2000, 4, failed)], Some(4)),
            ("as many since", vec![(10, 4, succeeded), (0, 4, failed)], None),
            ("more since", vec![(0, 4, failed), (10, 8, succeeded)], None),
            ("fewer since", vec![(0, 4, failed), (10, 3, succeeded)], Some(4)),
            ("at the same time", vec![(0, 4, failed), (0, 4, succeeded)], Some(4)),
            ("before", vec![(10, 4, failed), (0, 4, succeeded)], Some(4)),
            ("for one of two", vec![(0, 2, failed), (0, 8, failed), (1, 4, succeeded)], Some(8)),
        ];
        for (case, attempts, expected) in table {
            let found = smallest_recent_failure(&attempts.into_iter().map(attempt), at(900));
            assert_eq!(found.map(Wanted::get), expected, "{case}");
        }
    }
}

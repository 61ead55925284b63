//! Times as the page writes them: to the minute, so that the page does not change each second.

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

/// A time of day as the page writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// For programs: RFC 3339.
    pub(crate) machine: String,
    /// For people.
    pub(crate) text: String,
}

impl Moment {
    /// `at` as it is read at `now`: with its date once a day has passed.
    pub(crate) fn new(at: DateTime<Utc>, now: DateTime<Utc>) -> Self {
        let is_recent = now - at < TimeDelta::hours(24);
        let format = if is_recent { "%H:%M UTC" } else { "%Y-%m-%d %H:%M UTC" };
        let at = at.trunc_subsecs(0);
        Self {
            machine: at.format("%Y-%m-%dT%H:%MZ").to_string(),
            text: at.format(format).to_string(),
        }
    }
}

//! The words a person reads, and the rule that picks them.

use std::{fmt, time::Duration};

use crate::ExpectedInterval;

/// HIGH needs at least this P.
pub const HIGH_FROM: f64 = 0.80;
/// LOW is a P below this.
pub const LOW_BELOW: f64 = 0.40;
/// HIGH needs at least so much observed time, weighted.
pub const HIGH_NEEDS: Duration = Duration::from_hours(2);

/// Whether the wanted units can be had. Ordered: UNKNOWN < LOW < MEDIUM < HIGH.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Nothing is known, or nothing that is recent enough.
    Unknown,
    /// Probably not.
    Low,
    /// Perhaps, or probably but on thin or ageing evidence.
    Medium,
    /// Free now, and probably for the time ahead.
    High,
}

impl Level {
    /// Every level, the best first.
    pub const ALL: [Self; 4] = [Self::High, Self::Medium, Self::Low, Self::Unknown];

    /// The word in the HTTP API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Low => "LOW",
            Self::Medium => "MEDIUM",
            Self::High => "HIGH",
        }
    }

    /// The rule in a sentence, from the constants that it is decided by.
    #[must_use]
    pub fn rule(self) -> String {
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        match self {
            Self::High => format!(
                "free when last seen, and expected to be free for {} of the next hour or more; the \
                 source is on time and has been observed for at least {} minutes",
                percent(HIGH_FROM),
                HIGH_NEEDS.as_secs() / 60,
            ),
            Self::Medium => "neither HIGH nor LOW".to_owned(),
            Self::Low => format!(
                "expected to be free for less than {} of the next hour, or more units than there are",
                percent(LOW_BELOW),
            ),
            Self::Unknown => format!(
                "never observed, or not for ten of the source's intervals (at least {} minutes, at \
                 most {} hours), or its source has a problem",
                crate::interval::KNOWN_FOR_AT_LEAST.as_secs() / 60,
                crate::interval::KNOWN_FOR_AT_MOST.as_secs() / 3600,
            ),
        }
    }
}

/// Whether the source still reports as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Freshness {
    /// Never observed, or so long ago that the level is UNKNOWN.
    Unknown,
    /// Silent for longer than [`ExpectedInterval::fresh_for`].
    Stale,
    /// On time.
    Fresh,
}

impl Freshness {
    /// The word in the HTTP API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Stale => "stale",
            Self::Fresh => "fresh",
        }
    }

    /// Of an observation that was last made `age` ago.
    #[must_use]
    pub fn at_age(age: Duration, interval: ExpectedInterval) -> Self {
        if age > interval.known_for() {
            Self::Unknown
        } else if age > interval.fresh_for() {
            Self::Stale
        } else {
            Self::Fresh
        }
    }
}

/// What the rule looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence {
    pub(crate) freshness: Freshness,
    /// Whether the wanted number was free when last seen.
    pub(crate) is_free: bool,
    /// P, corrected; 0 for more units than there are.
    pub(crate) probability: f64,
    /// Weighted minutes observed.
    pub(crate) observed: f64,
}

pub(crate) fn decide_level(evidence: &Evidence) -> Level {
    let Evidence { freshness, is_free, probability, observed } = *evidence;
    if freshness == Freshness::Unknown {
        Level::Unknown
    } else if probability < LOW_BELOW {
        Level::Low
    } else if is_free
        && probability >= HIGH_FROM
        && freshness == Freshness::Fresh
        && !is_thin(observed)
    {
        Level::High
    } else {
        Level::Medium
    }
}

/// Whether too little was observed for HIGH.
pub(crate) fn is_thin(observed_minutes: f64) -> bool {
    observed_minutes < HIGH_NEEDS.as_secs_f64() / 60.0
}

macro_rules! display_as_str {
    ($($name:ty),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.as_str())
            }
        }
    )*};
}
display_as_str!(Level, Freshness);

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Evidence =
        Evidence { freshness: Freshness::Fresh, is_free: true, probability: 0.9, observed: 1000.0 };

    #[test]
    fn level_changes_exactly_at_its_cut_points() {
        let just_below = |cut: f64| cut - 1e-12;
        let table = [
            ("good evidence", GOOD, Level::High),
            ("P at .80", Evidence { probability: 0.80, ..GOOD }, Level::High),
            ("P below .80", Evidence { probability: just_below(0.80), ..GOOD }, Level::Medium),
            ("two hours observed", Evidence { observed: 120.0, ..GOOD }, Level::High),
            ("less observed", Evidence { observed: just_below(120.0), ..GOOD }, Level::Medium),
            ("stale", Evidence { freshness: Freshness::Stale, ..GOOD }, Level::Medium),
            ("too old", Evidence { freshness: Freshness::Unknown, ..GOOD }, Level::Unknown),
            ("full, soon free", Evidence { is_free: false, ..GOOD }, Level::Medium),
            ("P at .40", Evidence { probability: 0.40, ..GOOD }, Level::Medium),
            ("P below .40", Evidence { probability: just_below(0.40), ..GOOD }, Level::Low),
            (
                "P below .40, last seen long ago",
                Evidence { probability: 0.0, freshness: Freshness::Unknown, ..GOOD },
                Level::Unknown,
            ),
        ];
        for (case, evidence, expected) in table {
            assert_eq!(decide_level(&evidence), expected, "{case}: {evidence:?}");
        }
    }

    #[test]
    fn freshness_changes_exactly_at_its_ages() {
        let table = [
            (60, 300_000, Freshness::Fresh),
            (60, 300_001, Freshness::Stale),
            (60, 3_600_000, Freshness::Stale),
            (60, 3_600_001, Freshness::Unknown),
            (600, 1_800_000, Freshness::Fresh),
            (600, 1_800_001, Freshness::Stale),
            (600, 6_000_000, Freshness::Stale),
            (600, 6_000_001, Freshness::Unknown),
            (86_400, 3_600_000, Freshness::Fresh),
            (86_400, 10_800_000, Freshness::Stale),
            (86_400, 10_800_001, Freshness::Unknown),
        ];
        for (interval, age, expected) in table {
            let every = ExpectedInterval::new(Duration::from_secs(interval)).unwrap();
            let found = Freshness::at_age(Duration::from_millis(age), every);
            assert_eq!(found, expected, "a source of every {interval} s, {age} ms ago");
        }
    }

    #[test]
    fn rules_name_the_constants() {
        assert!(Level::High.rule().contains("80 %") && Level::High.rule().contains("120 minutes"));
        assert!(Level::Low.rule().contains("40 %"));
        assert!(Level::Unknown.rule().contains("60 minutes, at most 3 hours"));
    }
}

//! The words a person reads, and the rule that picks them.

use std::{fmt, time::Duration};

use crate::Parameters;

/// HIGH needs at least this, LOW is below the other: the cut points of Google Cloud's published
/// obtainability bands.
pub(crate) const HIGH_FROM: f64 = 0.70;
pub(crate) const LOW_BELOW: f64 = 0.40;
/// Less of the window than this is a thin history.
pub(crate) const THIN_BELOW: f64 = 0.25;
const HIGH_CONFIDENCE_WIDTH: f64 = 0.10;
const MEDIUM_CONFIDENCE_WIDTH: f64 = 0.25;

/// Whether the wanted units can be had. Ordered: UNKNOWN < LOW < MEDIUM < HIGH.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Nothing is known, or nothing that is recent enough.
    Unknown,
    /// Probably not.
    Low,
    /// Perhaps, or probably on thin or ageing evidence.
    Medium,
    /// Free now, and with good evidence for the time ahead.
    High,
}

impl Level {
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
}

/// Whether the source still reports as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Freshness {
    /// Never observed, or so long ago that the level is UNKNOWN.
    Unknown,
    /// Silent for longer than max(3Δ, 5 min).
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
    pub fn at_age(age: Duration, parameters: &Parameters) -> Self {
        if age > parameters.usable_for() {
            Self::Unknown
        } else if age > parameters.fresh_for() {
            Self::Stale
        } else {
            Self::Fresh
        }
    }
}

/// How narrow the interval is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Confidence {
    /// Wider than .25, a thin history, or no interval.
    Low,
    /// At most .25 wide.
    Medium,
    /// At most .10 wide.
    High,
}

impl Confidence {
    /// The word in the HTTP API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }

    /// Resampling ten minutes of data gives ten minutes of data again, and so a narrow interval: a
    /// thin history is therefore never more than low.
    pub(crate) fn of(low: f64, high: f64, coverage: f64) -> Self {
        let width = high - low;
        if coverage < THIN_BELOW || width > MEDIUM_CONFIDENCE_WIDTH {
            Self::Low
        } else if width > HIGH_CONFIDENCE_WIDTH {
            Self::Medium
        } else {
            Self::High
        }
    }
}

/// What the rule looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence {
    pub(crate) freshness: Freshness,
    pub(crate) exceeds_pool: bool,
    /// Whether the wanted number is known to be free, as last seen.
    pub(crate) surely_free: bool,
    pub(crate) probability: f64,
    pub(crate) low: f64,
    pub(crate) coverage: f64,
}

pub(crate) fn decide_level(evidence: &Evidence) -> Level {
    let Evidence { freshness, exceeds_pool, surely_free, probability, low, coverage } = *evidence;
    let well_seen = freshness == Freshness::Fresh && coverage >= THIN_BELOW;
    if freshness == Freshness::Unknown {
        Level::Unknown
    } else if exceeds_pool {
        Level::Low
    } else if surely_free && low >= HIGH_FROM && well_seen {
        Level::High
    } else if probability < LOW_BELOW {
        Level::Low
    } else {
        Level::Medium
    }
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
display_as_str!(Level, Freshness, Confidence);

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Evidence = Evidence {
        freshness: Freshness::Fresh,
        exceeds_pool: false,
        surely_free: true,
        probability: 0.9,
        low: 0.8,
        coverage: 1.0,
    };

    #[test]
    fn level_changes_exactly_at_its_cut_points() {
        let just_below = |cut: f64| cut - 1e-12;
        let table = [
            ("good evidence", GOOD, Level::High),
            ("low end at .70", Evidence { low: 0.70, ..GOOD }, Level::High),
            ("low end below .70", Evidence { low: just_below(0.70), ..GOOD }, Level::Medium),
            ("coverage at .25", Evidence { coverage: 0.25, ..GOOD }, Level::High),
            ("coverage below .25", Evidence { coverage: just_below(0.25), ..GOOD }, Level::Medium),
            ("stale", Evidence { freshness: Freshness::Stale, ..GOOD }, Level::Medium),
            ("too old", Evidence { freshness: Freshness::Unknown, ..GOOD }, Level::Unknown),
            ("not surely free", Evidence { surely_free: false, ..GOOD }, Level::Medium),
            ("P at .40", Evidence { probability: 0.40, low: 0.3, ..GOOD }, Level::Medium),
            (
                "P below .40",
                Evidence { probability: just_below(0.40), low: 0.3, ..GOOD },
                Level::Low,
            ),
            ("exceeds the pool", Evidence { exceeds_pool: true, ..GOOD }, Level::Low),
            (
                "exceeds a pool last seen long ago",
                Evidence { exceeds_pool: true, freshness: Freshness::Unknown, ..GOOD },
                Level::Unknown,
            ),
        ];
        for (case, evidence, expected) in table {
            assert_eq!(decide_level(&evidence), expected, "{case}: {evidence:?}");
        }
    }

    #[test]
    fn freshness_changes_exactly_at_its_ages() {
        let every = |seconds| {
            let expected_interval = Duration::from_secs(seconds);
            crate::ParametersBuilder { expected_interval, ..Default::default() }.build().unwrap()
        };
        let table = [
            (60, 300_000, Freshness::Fresh),
            (60, 300_001, Freshness::Stale),
            (60, 1_800_000, Freshness::Stale),
            (60, 1_800_001, Freshness::Unknown),
            (100, 300_000, Freshness::Fresh),
            (600, 1_800_000, Freshness::Fresh),
            (600, 1_800_001, Freshness::Stale),
            (600, 6_000_000, Freshness::Stale),
            (600, 6_000_001, Freshness::Unknown),
        ];
        for (interval, age, expected) in table {
            let found = Freshness::at_age(Duration::from_millis(age), &every(interval));
            assert_eq!(found, expected, "a source of every {interval} s, {age} ms ago");
        }
    }

    #[test]
    fn confidence_changes_exactly_at_its_widths() {
        let table = [
            (0.0, 0.10, 1.0, Confidence::High),
            (0.0, 0.100_001, 1.0, Confidence::Medium),
            (0.0, 0.25, 1.0, Confidence::Medium),
            (0.0, 0.250_001, 1.0, Confidence::Low),
            (0.9, 0.9, 0.25, Confidence::High),
            (0.9, 0.9, 0.249, Confidence::Low),
        ];
        for (low, high, coverage, expected) in table {
            let found = Confidence::of(low, high, coverage);
            assert_eq!(found, expected, "[{low}, {high}] at a coverage of {coverage}");
        }
    }
}

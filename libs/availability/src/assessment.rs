//! The cheap half: an answer at a given time.

use std::time::Duration;

use crate::{
    Confidence, Fit, Freshness, Level, Observation, Parameters, Reason, Reasons, Timestamp, Units,
    Wanted,
    fit::Seen,
    level::{Evidence, HIGH_FROM, LOW_BELOW, THIN_BELOW, decide_level},
};

/// P and its interval; `low ≤ probability ≤ high`, all within \[0, 1\].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// P: the expected share of the next H minutes in which the wanted units are free.
    pub probability: f64,
    /// 10 % of the bootstrap replicates are below.
    pub low: f64,
    /// 10 % of the bootstrap replicates are above.
    pub high: f64,
}

/// A level, and everything that belongs beside it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Assessment {
    /// The word.
    pub level: Level,
    /// `None` if the level is UNKNOWN, or comes from the provider and not from the model.
    pub estimate: Option<Estimate>,
    /// N.
    pub wanted: Wanted,
    /// Free units as last seen; `None` if the source does not count.
    pub free: Option<Units>,
    /// Usable units as last seen; `None` if the source does not count.
    pub total: Option<Units>,
    /// Whether the last observation, if it is still usable, had the wanted units free.
    pub can_fulfil_now: Option<bool>,
    /// The last observation.
    pub observed_at: Option<Timestamp>,
    /// Its age, zero if it comes from the future.
    pub age: Option<Duration>,
    /// C in \[0, 1\]: how much of the window was observed.
    pub coverage: f64,
    /// Whether the source reports on time.
    pub freshness: Freshness,
    /// How narrow the interval is.
    pub confidence: Confidence,
    /// Why.
    pub reasons: Reasons,
}

impl Fit {
    /// The answer at `now`. A `now` before t₀ (a clock that runs behind) counts as t₀.
    #[must_use]
    pub fn assess(&self, now: Timestamp) -> Assessment {
        match &self.seen {
            Some(seen) => assess_seen(self, seen, now),
            None => Assessment::unknown(self.wanted, Reason::NoData),
        }
    }
}

impl Assessment {
    /// Nothing is known, for a reason that the caller knows, such as [`Reason::PodsForbidden`].
    #[must_use]
    pub fn unknown(wanted: Wanted, reason: Reason) -> Self {
        Self {
            level: Level::Unknown,
            estimate: None,
            wanted,
            free: None,
            total: None,
            can_fulfil_now: None,
            observed_at: None,
            age: None,
            coverage: 0.0,
            freshness: Freshness::Unknown,
            confidence: Confidence::Low,
            reasons: Reasons::from_iter([reason]),
        }
    }

    /// A level that a provider published at `observed_at`. It ages like an observation: UNKNOWN when
    /// too old, and no longer HIGH when stale.
    #[must_use]
    pub fn published(
        level: Level,
        wanted: Wanted,
        observed_at: Timestamp,
        now: Timestamp,
        parameters: &Parameters,
    ) -> Self {
        let age = now.since(observed_at);
        let freshness = Freshness::at_age(age, parameters);
        let level = match freshness {
            Freshness::Unknown => Level::Unknown,
            Freshness::Stale => level.min(Level::Medium),
            Freshness::Fresh => level,
        };
        Self {
            level,
            observed_at: Some(observed_at),
            age: Some(age),
            freshness,
            reasons: Reasons::default()
                .with(Reason::UnitsUnknown, true)
                .with(Reason::StaleSource, freshness != Freshness::Fresh),
            ..Self::unknown(wanted, Reason::UnitsUnknown)
        }
    }

    /// The same, at most at `level` and with the reason for that. A source that cannot know enough
    /// for HIGH, such as an offering that nobody has tried, is limited to MEDIUM this way.
    #[must_use]
    pub fn limited_to(mut self, level: Level, reason: Reason) -> Self {
        if self.level > level {
            self.level = level;
            self.reasons.insert(reason);
        }
        self
    }
}

fn assess_seen(fit: &Fit, seen: &Seen, now: Timestamp) -> Assessment {
    let age = now.since(seen.anchor);
    let freshness = Freshness::at_age(age, &fit.parameters);
    let is_free = seen.observation.is_free(fit.wanted);
    let total = seen.observation.total();
    let exceeds_pool = total.is_some_and(|total| !fit.wanted.fits_in(total));
    // A yes without a number is a yes to one unit only.
    let units_unknown =
        matches!(seen.observation, Observation::Available(_)) && fit.wanted > Wanted::ONE;

    let estimate = if exceeds_pool {
        Estimate { probability: 0.0, low: 0.0, high: 0.0 }
    } else {
        let probability = seen.nowcast.probability(is_free, age, fit.parameters.horizon());
        Estimate {
            probability,
            low: (probability - seen.below).max(0.0),
            high: (probability + seen.above).min(1.0),
        }
    };
    let coverage = seen.sums.coverage;
    let level = decide_level(&Evidence {
        freshness,
        exceeds_pool,
        surely_free: is_free && !units_unknown,
        probability: estimate.probability,
        low: estimate.low,
        coverage,
    });
    let known = level != Level::Unknown;
    let usually_free = seen.nowcast.usually_free;
    Assessment {
        level,
        estimate: known.then_some(estimate),
        wanted: fit.wanted,
        free: seen.observation.free(),
        total,
        can_fulfil_now: (known && !(units_unknown && is_free)).then_some(is_free),
        observed_at: Some(seen.anchor),
        age: Some(age),
        coverage,
        freshness,
        confidence: if known {
            Confidence::of(estimate.low, estimate.high, coverage)
        } else {
            Confidence::Low
        },
        reasons: Reasons::default()
            .with(Reason::ExceedsPool, exceeds_pool)
            .with(Reason::FullNow, !is_free && !exceeds_pool)
            .with(Reason::UsuallyFree, usually_free >= HIGH_FROM && !exceeds_pool)
            .with(Reason::UsuallyFull, usually_free < LOW_BELOW && !exceeds_pool)
            .with(Reason::ThinHistory, coverage < THIN_BELOW)
            .with(Reason::StaleSource, freshness != Freshness::Fresh)
            .with(Reason::UnitsUnknown, units_unknown),
    }
}

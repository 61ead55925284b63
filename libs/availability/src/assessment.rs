//! An answer: the level of a pool for N units at a time, with everything that belongs beside it.

use std::time::Duration;

use crate::{
    Cell, CorrectionTable, DEFAULT_HORIZON, Freshness, Interval, Level, PoolState, Reason, Reasons,
    State, Timestamp, Units, Wanted,
    level::{Evidence, HIGH_FROM, LOW_BELOW, decide_level, is_thin},
    pool::{Lookup, Weights},
};

/// A state that is younger than this is not yet believed to last: [`Reason::JustChanged`]. It is the
/// first cell of the correction.
const JUST_CHANGED: Duration = Duration::from_mins(10);

/// P and what the history leaves open about it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// P: the expected share of the next hour in which the wanted units are free, corrected.
    pub probability: f64,
    /// P before the correction.
    pub uncorrected: f64,
    /// What the rates leave open, with the same correction.
    pub interval: Interval,
    /// Which record P was corrected by: that of the next lower threshold where N is none.
    pub cell: Cell,
    /// Whether N is not a threshold, so that P comes from the thresholds beside it.
    pub is_interpolated: bool,
}

/// A level, and everything that belongs beside it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Assessment {
    /// The word.
    pub level: Level,
    /// `None` if the level is UNKNOWN, the source does not count, or the level is the provider's own.
    pub estimate: Option<Estimate>,
    /// N.
    pub wanted: Wanted,
    /// Free units as last seen; `None` if the source does not count.
    pub free: Option<Units>,
    /// Usable units as last seen; `None` if the source does not count.
    pub total: Option<Units>,
    /// Whether the wanted units were free when last seen; `None` if that is not known any more.
    pub can_fulfil_now: Option<bool>,
    /// When they began to be free, or not to be.
    pub since: Option<Timestamp>,
    /// The last observation.
    pub observed_at: Option<Timestamp>,
    /// Its age, zero if it comes from the future.
    pub age: Option<Duration>,
    /// Whether the source reports on time.
    pub freshness: Freshness,
    /// Why.
    pub reasons: Reasons,
}

impl PoolState {
    /// The answer for N at `now`, for the next hour. A `now` before the last observation, which a clock
    /// that runs behind gives, counts as its time.
    #[must_use]
    pub fn assess(
        &self,
        wanted: Wanted,
        now: Timestamp,
        correction: &CorrectionTable,
    ) -> Assessment {
        let segment = self.open_segment();
        let age = now.since(segment.last_seen);
        let freshness = Freshness::at_age(age, self.interval());
        let is_known = freshness != Freshness::Unknown;
        let seen = Assessment {
            free: segment.observation.free(),
            total: segment.observation.total(),
            observed_at: Some(segment.last_seen),
            age: Some(age),
            freshness,
            reasons: Reasons::default().with(Reason::StaleSource, freshness != Freshness::Fresh),
            ..Assessment::unknown(wanted)
        };

        let weights = match self.look_up(wanted) {
            Lookup::States(weights) => weights,
            Lookup::ExceedsPool => {
                return Assessment {
                    level: if is_known { Level::Low } else { Level::Unknown },
                    can_fulfil_now: is_known.then_some(false),
                    reasons: seen.reasons.with(Reason::ExceedsPool, true),
                    ..seen
                };
            }
            Lookup::UnitsUnknown => {
                let is_free = self.state(0).is_free;
                return Assessment {
                    level: self.level_without_units(is_free, freshness, now, correction),
                    can_fulfil_now: (is_known && !is_free).then_some(false),
                    reasons: seen
                        .reasons
                        .with(Reason::UnitsUnknown, true)
                        .with(Reason::FullNow, !is_free),
                    ..seen
                };
            }
        };

        let state = self.state(weights.lower);
        let is_free = segment.observation.is_free(wanted).unwrap_or(state.is_free);
        let estimate = self.estimate(&weights, &state, now, correction);
        let level = decide_level(&Evidence {
            freshness,
            is_free,
            probability: estimate.probability,
            observed: state.observed(),
        });
        Assessment {
            level,
            estimate: is_known.then_some(estimate),
            can_fulfil_now: is_known.then_some(is_free),
            since: Some(state.since),
            reasons: seen
                .reasons
                .with(Reason::FullNow, !is_free)
                .with(Reason::UsuallyFree, state.usual_share() >= HIGH_FROM)
                .with(Reason::UsuallyFull, state.usual_share() < LOW_BELOW)
                .with(Reason::ThinHistory, is_thin(state.observed()))
                .with(Reason::JustChanged, now.since(state.since) < JUST_CHANGED),
            ..seen
        }
    }

    /// The level for N at `now` and its P, as [`PoolState::assess`] gives them, and nothing else.
    #[must_use]
    pub fn level(
        &self,
        wanted: Wanted,
        now: Timestamp,
        correction: &CorrectionTable,
    ) -> (Level, Option<f64>) {
        let Lookup::States(weights) = self.look_up(wanted) else {
            let assessment = self.assess(wanted, now, correction);
            return (assessment.level, None);
        };
        let segment = self.open_segment();
        let freshness = Freshness::at_age(now.since(segment.last_seen), self.interval());
        if freshness == Freshness::Unknown {
            return (Level::Unknown, None);
        }
        let state = self.state(weights.lower);
        let correct = |state: &State| {
            let p = state.probability(now, DEFAULT_HORIZON);
            correction.correct(Cell::of(state, now), p)
        };
        let probability = if weights.of_next > 0.0 {
            self.weigh(&weights, correct)
        } else {
            correct(&state) * weights.of_lower
        };
        let level = decide_level(&Evidence {
            freshness,
            is_free: segment.observation.is_free(wanted).unwrap_or(state.is_free),
            probability,
            observed: state.observed(),
        });
        (level, Some(probability))
    }

    /// P, its interval and its cell, for an N that the pool may have; `lower` is the state of the
    /// threshold at or below N.
    fn estimate(
        &self,
        weights: &Weights,
        lower: &State,
        now: Timestamp,
        correction: &CorrectionTable,
    ) -> Estimate {
        let values = |state: &State| {
            let (p, interval) = state.probability_and_interval(now, DEFAULT_HORIZON);
            let correct = |value| correction.correct(Cell::of(state, now), value);
            [correct(p), p, correct(interval.low), correct(interval.high)]
        };
        let mut weighed = values(lower).map(|value| value * weights.of_lower);
        if weights.of_next > 0.0 {
            let next = values(&self.state(weights.lower + 1));
            for (sum, value) in weighed.iter_mut().zip(next) {
                *sum += value * weights.of_next;
            }
        }
        let [probability, uncorrected, low, high] = weighed;
        Estimate {
            probability,
            uncorrected,
            interval: Interval { low, high },
            cell: Cell::of(lower, now),
            is_interpolated: !weights.is_exact(),
        }
    }

    /// A source that says yes or no answers for more than one unit only what it says of one: full.
    fn level_without_units(
        &self,
        is_free: bool,
        freshness: Freshness,
        now: Timestamp,
        correction: &CorrectionTable,
    ) -> Level {
        if freshness == Freshness::Unknown {
            Level::Unknown
        } else if is_free {
            Level::Medium
        } else {
            let one = self.assess(Wanted::ONE, now, correction);
            one.level.min(Level::Medium)
        }
    }
}

impl Assessment {
    /// Nothing was ever observed, or what was said does not count.
    #[must_use]
    pub fn unknown(wanted: Wanted) -> Self {
        Self {
            level: Level::Unknown,
            estimate: None,
            wanted,
            free: None,
            total: None,
            can_fulfil_now: None,
            since: None,
            observed_at: None,
            age: None,
            freshness: Freshness::Unknown,
            reasons: Reasons::default(),
        }
    }

    /// The same with another reason.
    #[must_use]
    pub fn because(mut self, reason: Reason) -> Self {
        self.reasons.insert(reason);
        self
    }

    /// What was seen, without what would follow from it: the source says itself that something keeps it from
    /// seeing the pool as it is. Why is the caller's to say.
    #[must_use]
    pub fn withheld(self) -> Self {
        Self {
            level: Level::Unknown,
            estimate: None,
            can_fulfil_now: None,
            reasons: Reasons::default(),
            ..self
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
        interval: crate::ExpectedInterval,
    ) -> Self {
        let age = now.since(observed_at);
        let freshness = Freshness::at_age(age, interval);
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
            ..Self::unknown(wanted)
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

impl PoolState {
    /// The largest N that is HIGH at `now`; `None` if not even one unit is.
    ///
    /// P is linear between two thresholds, so the search is a bisection within the highest pair whose
    /// lower end is HIGH, after a look at every threshold from the top.
    #[must_use]
    pub fn largest_high(&self, now: Timestamp, correction: &CorrectionTable) -> Option<Wanted> {
        let is_high = |wanted: Wanted| self.level(wanted, now, correction).0 == Level::High;
        let index =
            (0..self.threshold_count()).rev().find(|index| is_high(crate::threshold(*index)))?;
        let mut high = crate::threshold(index);
        let free = self.open_segment().observation.free().map_or(1, Units::get);
        let next = (index + 1 < self.threshold_count()).then(|| crate::threshold(index + 1).get());
        let mut beyond = next.unwrap_or(u32::MAX).min(free.saturating_add(1));
        while high.get() + 1 < beyond {
            let Some(middle) = Wanted::new(high.get() + (beyond - high.get()) / 2) else { break };
            if is_high(middle) {
                high = middle;
            } else {
                beyond = middle.get();
            }
        }
        Some(high)
    }
}

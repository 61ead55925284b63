//! From a state to the share of the time ahead in which the units are free.

use std::time::Duration;

use crate::{State, Timestamp, state::minutes};

/// What every pool is taken to have shown before it was observed: one change in three hours.
const PRIOR_EVENTS: f64 = 1.0;
const PRIOR_MINUTES: f64 = 180.0;
/// How much faster a pool comes back than its rates say (z in the crate's documentation).
const RETURN_SPEED: f64 = 3.0;
/// The 90 % quantile of the normal distribution.
const Z_90: f64 = 1.28155;
/// The prior of the usual share: so many minutes, half of them free.
const USUAL_PRIOR_MINUTES: f64 = 15.0;

/// H: how far ahead a question looks by default.
pub const DEFAULT_HORIZON: Duration = Duration::from_hours(1);

/// What the rates leave open; `low ≤ P ≤ high`, all within \[0, 1\].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// P if the pool gets full as fast, and free as slowly, as nine in ten such histories allow.
    pub low: f64,
    /// P the other way round.
    pub high: f64,
}

/// How often the pool changes, per minute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Leaving "free".
    pub free: f64,
    /// Leaving "full".
    pub full: f64,
}

impl State {
    /// Events + 1 over minutes + 180: the mean of what the rates may be after this history.
    #[must_use]
    pub fn rates(&self) -> Rates {
        Rates {
            free: (self.down + PRIOR_EVENTS) / (self.free + PRIOR_MINUTES),
            full: (self.up + PRIOR_EVENTS) / (self.full + PRIOR_MINUTES),
        }
    }

    /// P at `now` for the time up to `horizon` later, before any correction. A `now` before t₀, which a
    /// clock that runs behind gives, counts as t₀.
    #[must_use]
    pub fn probability(&self, now: Timestamp, horizon: Duration) -> f64 {
        self.probability_with(self.rates(), now, horizon)
    }

    /// What the history leaves open about the rates: 10 % and 90 % of each. It does not say how much the
    /// time ahead scatters.
    #[must_use]
    pub fn interval(&self, now: Timestamp, horizon: Duration) -> Interval {
        self.probability_and_interval(now, horizon).1
    }

    /// P and its interval, for less than one after the other costs.
    pub(crate) fn probability_and_interval(
        &self,
        now: Timestamp,
        horizon: Duration,
    ) -> (f64, Interval) {
        let (free, full) = (self.free + PRIOR_MINUTES, self.full + PRIOR_MINUTES);
        let (down, up) = (self.down + PRIOR_EVENTS, self.up + PRIOR_EVENTS);
        let pessimist = Rates {
            free: gamma_quantile(down, Z_90) / free,
            full: gamma_quantile(up, -Z_90) / full,
        };
        let optimist = Rates {
            free: gamma_quantile(down, -Z_90) / free,
            full: gamma_quantile(up, Z_90) / full,
        };
        let [p, low, high] = [self.rates(), pessimist, optimist]
            .map(|rates| self.probability_with(rates, now, horizon));
        (p, Interval { low: low.min(p), high: high.max(p) })
    }

    /// The share of the observed time in which the units were free, ½ before anything was observed.
    #[must_use]
    pub fn usual_share(&self) -> f64 {
        (self.free + USUAL_PRIOR_MINUTES / 2.0) / (self.observed() + USUAL_PRIOR_MINUTES)
    }

    fn probability_with(&self, rates: Rates, now: Timestamp, horizon: Duration) -> f64 {
        let (leave, come_back) =
            if self.is_free { (rates.free, rates.full) } else { (rates.full, rates.free) };
        let age = minutes(now.since(self.observed_at));
        let horizon = minutes(horizon);
        let hold = 1.0 / leave + minutes(self.observed_at.since(self.since));
        let stay = hold * hold / ((hold + age) * (hold + age + horizon));
        let z = RETURN_SPEED * (leave + come_back) * (horizon / 2.0 + age);
        let back = come_back / (leave + come_back) * (1.0 + (-z).exp_m1() / z);
        let same = stay + (1.0 - stay) * back;
        if self.is_free { same } else { 1.0 - same }
    }
}

/// The quantile of Gamma(shape, 1) at the normal quantile `z`, by E. B. Wilson and M. M. Hilferty, "The
/// Distribution of Chi-Square", *PNAS* 17(12), 1931.
fn gamma_quantile(shape: f64, z: f64) -> f64 {
    let ninth = 1.0 / (9.0 * shape);
    shape * (1.0 - ninth + z * ninth.sqrt()).powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gamma_quantiles_are_near_the_tabulated_ones() {
        // Shape 1 is the exponential distribution: −ln(1 − q), which is ln 10 at 90 %.
        for (shape, z, expected) in [
            (1.0, Z_90, std::f64::consts::LN_10),
            (1.0, -Z_90, 0.105_4),
            (4.0, Z_90, 6.681),
            (4.0, -Z_90, 1.745),
        ] {
            let found = gamma_quantile(shape, z);
            assert!((found - expected).abs() < 0.03, "{shape}, {z}: {found}, not {expected}");
        }
    }
}

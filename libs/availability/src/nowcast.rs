//! The two-state chain: how often a pool is free, and how long a state lasts.

use std::time::Duration;

use crate::{WeightedSums, parameters::minutes};

/// Half a change in six hours, in each direction: what is believed of a pool before it is seen.
const PRIOR_CHANGES: f64 = 0.5;
const PRIOR_EXPOSURE_MINUTES: f64 = 360.0;
/// Half a minute free of one observed.
const PRIOR_FREE_MINUTES: f64 = 0.5;
const PRIOR_OBSERVED_MINUTES: f64 = 1.0;

/// Stationary share and relaxation time of the chain free ⇄ full.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nowcast {
    /// π in (0, 1): the share of time in which the wanted units are usually free.
    pub usually_free: f64,
    /// τ in minutes, at most 720: after it, what is known of the state now has faded to 1/e.
    pub relaxation_minutes: f64,
}

impl Nowcast {
    /// π = (F + ½)/(O + 1), τ = 1/(r↓ + r↑) with r↓ = (D + ½)/(F + 360), r↑ = (U + ½)/(O − F + 360).
    #[must_use]
    pub fn from_sums(sums: &WeightedSums) -> Self {
        Self::from_parts(sums.observed, sums.free, sums.became_free, sums.became_full)
    }

    pub(crate) fn from_parts(observed: f64, free: f64, became_free: f64, became_full: f64) -> Self {
        let full = (observed - free).max(0.0);
        let to_full = (became_full + PRIOR_CHANGES) / (free + PRIOR_EXPOSURE_MINUTES);
        let to_free = (became_free + PRIOR_CHANGES) / (full + PRIOR_EXPOSURE_MINUTES);
        Self {
            usually_free: (free + PRIOR_FREE_MINUTES) / (observed + PRIOR_OBSERVED_MINUTES),
            relaxation_minutes: 1.0 / (to_full + to_free),
        }
    }

    /// κ in \[0, 1\]: how much the state seen `age` ago says about the coming `horizon`.
    #[must_use]
    pub fn memory(&self, age: Duration, horizon: Duration) -> f64 {
        (-minutes(age) / self.relaxation_minutes).exp() * self.memory_at_anchor(minutes(horizon))
    }

    /// P = π + (x − π)·κ in \[0, 1\].
    #[must_use]
    pub fn probability(&self, free_at_anchor: bool, age: Duration, horizon: Duration) -> f64 {
        self.blend(free_at_anchor, self.memory(age, horizon))
    }

    pub(crate) fn probability_at_anchor(&self, free_at_anchor: bool, horizon_minutes: f64) -> f64 {
        self.blend(free_at_anchor, self.memory_at_anchor(horizon_minutes))
    }

    fn memory_at_anchor(&self, horizon_minutes: f64) -> f64 {
        let horizons = horizon_minutes / self.relaxation_minutes;
        // exp_m1 keeps the digits that 1 − exp loses when τ is far longer than H.
        (-(-horizons).exp_m1() / horizons).min(1.0)
    }

    fn blend(&self, free_at_anchor: bool, memory: f64) -> f64 {
        let state = if free_at_anchor { 1.0 } else { 0.0 };
        (self.usually_free + (state - self.usually_free) * memory).clamp(0.0, 1.0)
    }
}

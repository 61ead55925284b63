//! The whole past of a pool, for one number of units, in six numbers.

use std::{f64::consts::LN_2, time::Duration};

use crate::{ExpectedInterval, Timestamp};

/// The age at which a minute or a change counts half.
#[cfg(test)]
const HALF_LIFE: Duration = Duration::from_hours(24);
/// λ per minute.
pub(crate) const DECAY: f64 = LN_2 / (24.0 * 60.0);

/// What has been observed up to t₀, with the past weighed by e^(−λ·age), λ = ln 2 / 24 h.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct State {
    /// t₀: the last observation.
    pub observed_at: Timestamp,
    /// x: whether the wanted units were free at t₀.
    pub is_free: bool,
    /// When x began, as far as it was observed.
    pub since: Timestamp,
    /// Weighted minutes observed in which the units were free.
    pub free: f64,
    /// Weighted minutes observed in which they were not.
    pub full: f64,
    /// Weighted number of observed changes from free to full.
    pub down: f64,
    /// Weighted number of observed changes from full to free.
    pub up: f64,
}

impl State {
    /// The first observation.
    #[must_use]
    pub const fn begin(at: Timestamp, is_free: bool) -> Self {
        Self { observed_at: at, is_free, since: at, free: 0.0, full: 0.0, down: 0.0, up: 0.0 }
    }

    /// Takes in the next observation. The one before speaks for at most
    /// [`ExpectedInterval::speaks_for`]: time beyond it is missing, and a change beyond it was not
    /// observed and is not counted. An observation that is not later than t₀ changes nothing.
    pub fn observe(&mut self, at: Timestamp, is_free: bool, interval: ExpectedInterval) {
        if at <= self.observed_at {
            return;
        }
        let elapsed = at.since(self.observed_at);
        let spoken_for = interval.speaks_for();
        self.advance(at, minutes(elapsed.min(spoken_for)));
        if is_free != self.is_free {
            if elapsed <= spoken_for {
                *(if self.is_free { &mut self.down } else { &mut self.up }) += 1.0;
            }
            self.is_free = is_free;
            self.since = at;
        }
    }

    /// Takes in observations up to `until` that all said the same, none of them after a gap. Any number
    /// of them changes the state by the same amount.
    pub fn confirm(&mut self, until: Timestamp) {
        if until > self.observed_at {
            // As `advance` with all of the time observed, where its integral has a shorter form.
            let decayed = (-DECAY * minutes(until.since(self.observed_at))).exp_m1();
            self.decay(1.0 + decayed, -decayed / DECAY);
            self.observed_at = until;
        }
    }

    /// Weighted minutes that were observed at all.
    #[must_use]
    pub fn observed(&self) -> f64 {
        self.free + self.full
    }

    /// Moves t₀ to `at`, with the first `observed` minutes of the time between spent in x.
    fn advance(&mut self, at: Timestamp, observed: f64) {
        let elapsed = minutes(at.since(self.observed_at));
        let kept = (-DECAY * elapsed).exp();
        // ∫ e^(−λ·age) over ages from elapsed − observed to elapsed, written without a difference of
        // two numbers that are nearly equal.
        self.decay(kept, kept * (DECAY * observed).exp_m1() / DECAY);
        self.observed_at = at;
    }

    /// Weighs the past with `kept`, and adds minutes in x.
    fn decay(&mut self, kept: f64, minutes: f64) {
        for sum in [&mut self.free, &mut self.full, &mut self.down, &mut self.up] {
            *sum *= kept;
        }
        *(if self.is_free { &mut self.free } else { &mut self.full }) += minutes;
    }
}

/// A span in minutes, the unit of every rate in this crate.
pub(crate) fn minutes(span: Duration) -> f64 {
    span.as_secs_f64() / 60.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decay_halves_in_a_half_life() {
        assert!(((-DECAY * minutes(HALF_LIFE)).exp() - 0.5).abs() < 1e-12);
    }
}

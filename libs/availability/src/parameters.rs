//! The four numbers that a fit depends on besides the data.

use std::time::Duration;

use thiserror::Error;

/// Longest window. Bucket sums are milliseconds in a `u32`, which holds 49 days.
const LONGEST_WINDOW: Duration = Duration::from_hours(31 * 24);
const LONGEST_SPAN: Duration = Duration::from_hours(365 * 24);

/// Validated parameters; [`Parameters::default`] is what the levels were tuned with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Parameters {
    window: Duration,
    half_life: Duration,
    horizon: Duration,
    expected_interval: Duration,
}

/// Parameters to be checked; start from [`ParametersBuilder::default`] and change what differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParametersBuilder {
    /// W: how far back observations count. Default 24 h, at most 31 days, at least an hour.
    pub window: Duration,
    /// h: the age at which an observation counts half. Default 6 h, at least 5 min.
    pub half_life: Duration,
    /// H: how far ahead the question looks. Default 60 min, at least 1 min.
    pub horizon: Duration,
    /// Δ: how often the source reports when all is well. Default 60 s, at least 1 s.
    pub expected_interval: Duration,
}

/// A parameter out of its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("failed to accept {name} of {given:?}: give {least:?} to {most:?}")]
pub struct ParametersError {
    /// Field of [`ParametersBuilder`].
    pub name: &'static str,
    /// What was given.
    pub given: Duration,
    /// Smallest accepted value.
    pub least: Duration,
    /// Largest accepted value.
    pub most: Duration,
}

impl Default for ParametersBuilder {
    fn default() -> Self {
        Self {
            window: Duration::from_hours(24),
            half_life: Duration::from_hours(6),
            horizon: Duration::from_hours(1),
            expected_interval: Duration::from_mins(1),
        }
    }
}

impl Default for Parameters {
    fn default() -> Self {
        let ParametersBuilder { window, half_life, horizon, expected_interval } =
            ParametersBuilder::default();
        Self { window, half_life, horizon, expected_interval }
    }
}

impl ParametersBuilder {
    /// Checks every range. Values are cut to whole milliseconds.
    pub fn build(self) -> Result<Parameters, ParametersError> {
        let hour = Duration::from_hours(1);
        Ok(Parameters {
            window: within("window", self.window, hour, LONGEST_WINDOW)?,
            half_life: within("half_life", self.half_life, Duration::from_mins(5), LONGEST_SPAN)?,
            horizon: within("horizon", self.horizon, Duration::from_mins(1), LONGEST_SPAN)?,
            expected_interval: within(
                "expected_interval",
                self.expected_interval,
                Duration::from_secs(1),
                Duration::from_hours(24),
            )?,
        })
    }
}

impl Parameters {
    /// W.
    #[must_use]
    pub const fn window(&self) -> Duration {
        self.window
    }

    /// h.
    #[must_use]
    pub const fn half_life(&self) -> Duration {
        self.half_life
    }

    /// H.
    #[must_use]
    pub const fn horizon(&self) -> Duration {
        self.horizon
    }

    /// Δ.
    #[must_use]
    pub const fn expected_interval(&self) -> Duration {
        self.expected_interval
    }

    /// G = max(2Δ, 2 min): for how long an observation speaks after it was last seen.
    #[must_use]
    pub fn speaks_for(&self) -> Duration {
        (self.expected_interval * 2).max(Duration::from_mins(2))
    }

    /// max(3Δ, 5 min): up to this age an observation is fresh, and HIGH can be said.
    #[must_use]
    pub fn fresh_for(&self) -> Duration {
        (self.expected_interval * 3).max(Duration::from_mins(5))
    }

    /// max(10Δ, 30 min): beyond this age nothing is said.
    #[must_use]
    pub fn usable_for(&self) -> Duration {
        (self.expected_interval * 10).max(Duration::from_mins(30))
    }

    /// λ = ln 2 / h, per minute.
    pub(crate) fn decay_per_minute(&self) -> f64 {
        std::f64::consts::LN_2 / minutes(self.half_life)
    }
}

/// A span in minutes, the unit of every rate in this crate.
pub(crate) fn minutes(span: Duration) -> f64 {
    span.as_secs_f64() / 60.0
}

fn within(
    name: &'static str,
    given: Duration,
    least: Duration,
    most: Duration,
) -> Result<Duration, ParametersError> {
    if given < least || given > most {
        return Err(ParametersError { name, given, least, most });
    }
    Ok(given.saturating_sub(Duration::from_nanos(u64::from(given.subsec_nanos() % 1_000_000))))
}

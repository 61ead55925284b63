//! The expensive half: from a history to something that answers at any later time.

use std::time::Duration;

use rand_xoshiro::{
    SplitMix64, Xoshiro256PlusPlus,
    rand_core::{RngCore, SeedableRng},
};

use crate::{
    History, Nowcast, Observation, Parameters, Timestamp, Wanted, WeightedSums,
    bootstrap::Bootstrap, window::weigh_history,
};

/// Names a pool to the random generator, so that pools are resampled independently of each other.
/// A database id is good enough; the same pool must have the same key in every process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolKey(u64);

impl PoolKey {
    /// The key.
    #[must_use]
    pub const fn new(key: u64) -> Self {
        Self(key)
    }
}

/// Parameters and the tables that follow from them. Build one per set of parameters and share it.
#[derive(Clone, Debug)]
pub struct Model {
    parameters: Parameters,
    bootstrap: Bootstrap,
}

/// What the observations up to t₀ say, independent of when it is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    pub(crate) wanted: Wanted,
    pub(crate) parameters: Parameters,
    pub(crate) seen: Option<Seen>,
}

/// A fit of a pool that was observed at least once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) anchor: Timestamp,
    pub(crate) observation: Observation,
    pub(crate) sums: WeightedSums,
    pub(crate) nowcast: Nowcast,
    /// Half-widths of the interval below and above P.
    pub(crate) below: f64,
    pub(crate) above: f64,
}

impl Model {
    /// Precomputes what every fit needs.
    #[must_use]
    pub fn new(parameters: Parameters) -> Self {
        Self { parameters, bootstrap: Bootstrap::new(&parameters) }
    }

    /// The parameters it was built with.
    #[must_use]
    pub const fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Fits the chain and its interval. Same input, same bits.
    ///
    /// The history must begin with the segment that was running when the window began; older ones
    /// are skipped in logarithmic time.
    #[must_use]
    pub fn fit(&self, history: History<'_>, wanted: Wanted, pool: PoolKey) -> Fit {
        self.fit_if(history, wanted, pool, |_, _| true).unwrap_or(Fit {
            wanted,
            parameters: self.parameters,
            seen: None,
        })
    }

    /// As [`Model::fit`], but gives up before the bootstrap, nine tenths of the work, unless `worth`
    /// says yes to the coverage and to P at t₀.
    pub(crate) fn fit_if(
        &self,
        history: History<'_>,
        wanted: Wanted,
        pool: PoolKey,
        worth: impl FnOnce(f64, f64) -> bool,
    ) -> Option<Fit> {
        let parameters = self.parameters;
        let last = history.last()?;
        let anchor = last.last_seen;
        let window = weigh_history(history, anchor, wanted, &parameters);
        let nowcast = Nowcast::from_sums(&window.sums);
        let free = last.observation.is_free(wanted);
        let center = nowcast.probability(free, Duration::ZERO, parameters.horizon());
        if !worth(window.sums.coverage, center) {
            return None;
        }

        let mut random = seeded(pool, anchor, wanted, &parameters);
        let (low, high) = self.bootstrap.draw_interval(&window.buckets, free, &mut random);
        let seen = Seen {
            anchor,
            observation: last.observation,
            sums: window.sums,
            nowcast,
            // P itself is always within: resampling can miss it when the history is one-sided.
            below: (center - low).max(0.0),
            above: (high - center).max(0.0),
        };
        Some(Fit { wanted, parameters, seen: Some(seen) })
    }
}

impl Fit {
    /// N.
    #[must_use]
    pub const fn wanted(&self) -> Wanted {
        self.wanted
    }

    /// t₀, the last observation; `None` if there was none.
    #[must_use]
    pub fn anchor(&self) -> Option<Timestamp> {
        self.seen.map(|seen| seen.anchor)
    }

    /// O, F, U, D and C at t₀, for an explanation; `None` if nothing was observed.
    #[must_use]
    pub fn sums(&self) -> Option<WeightedSums> {
        self.seen.map(|seen| seen.sums)
    }

    /// π and τ, for an explanation; `None` if nothing was observed.
    #[must_use]
    pub fn nowcast(&self) -> Option<Nowcast> {
        self.seen.map(|seen| seen.nowcast)
    }
}

/// Folds everything that a fit is a function of, except the observations, into one seed.
fn seeded(
    pool: PoolKey,
    anchor: Timestamp,
    wanted: Wanted,
    parameters: &Parameters,
) -> Xoshiro256PlusPlus {
    let spans = [
        parameters.window(),
        parameters.half_life(),
        parameters.horizon(),
        parameters.expected_interval(),
    ];
    let words = [pool.0, anchor.as_millis().cast_unsigned(), u64::from(wanted.get())]
        .into_iter()
        .chain(spans.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX)));
    let seed = words.fold(0, |state, word| SplitMix64::seed_from_u64(state ^ word).next_u64());
    Xoshiro256PlusPlus::seed_from_u64(seed)
}

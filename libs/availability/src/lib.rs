//! The probability that hardware is free, and the level a person reads.
//!
//! # What is estimated
//!
//! For one pool and N wanted units, **P is the expected share of the next H minutes in which at
//! least N units are free**. By PASTA (R. W. Wolff, "Poisson Arrivals See Time Averages",
//! *Operations Research* 30(2), 1982) a time share is also the success probability of requests
//! that arrive without regard to the pool's state. Batch launches that one event sets off on many
//! machines at once are not such requests: they meet a fuller pool than P says.
//!
//! # How
//!
//! 1. A [`History`] holds runs of unchanged observations. Each speaks for a limited time after it
//!    was last seen ([`Parameters::speaks_for`]); the rest is missing, neither free nor full.
//! 2. The window of W before the *anchor* t₀ (the last observation) is weighed with e^(−λ·age),
//!    λ = ln 2 / h, into [`WeightedSums`]: observed time O, free time F, changes up U and down D,
//!    coverage C.
//! 3. The sums give a two-state Markov chain ([`Nowcast`]): π, the share of time free, and τ, the
//!    relaxation time of a state. From the state x at t₀, after an age a,
//!    κ = e^(−a/τ)·(τ/H)·(1 − e^(−H/τ)) and **P = π + (x − π)·κ**, which is the chain's occupancy of
//!    "free", averaged over (a, a + H).
//! 4. The interval is 10 % to 90 % of 200 replicates of the stationary bootstrap (D. N. Politis and
//!    J. P. Romano, *JASA* 89(428), 1994) over buckets of five minutes.
//! 5. [`Level`]: HIGH needs an interval above .70, LOW is a P below .40. These are the cut points of
//!    Google Cloud's published obtainability bands, the only ones there are for such a probability.
//!
//! # Two phases
//!
//! [`Model::fit`] is the expensive half (tens of microseconds). It depends on the observations and
//! not on the time of the question, so a [`Fit`] stays valid until the next observation and can be
//! cached by (pool, t₀, N, parameters). [`Fit::assess`] answers at a given time with two `exp`.
//!
//! ```
//! use availability::{History, Level, Model, Parameters, PoolKey, Segment, Timestamp, Wanted};
//!
//! let minute = |m: i64| Timestamp::from_millis(m * 60_000);
//! let segments = [Segment::counts(minute(0), minute(600), 8, 6)];
//! let model = Model::new(Parameters::default());
//! let fit = model.fit(History::new(&segments)?, Wanted::ONE, PoolKey::new(1));
//! assert_eq!(fit.assess(minute(601)).level, Level::High);
//! # Ok::<(), availability::HistoryError>(())
//! ```
//!
//! # What holds as N grows
//!
//! π and x never rise with N. P does not rise from any N that is free now to any N that is not. Among
//! several N that are all free now (or all taken) it may: π falls, but a threshold that the pool
//! crosses less often has the longer memory τ. `tests/properties.rs` has such a history.
//!
//! # Units and errors
//!
//! Times are [`Timestamp`]s (milliseconds since the Unix epoch, UTC), spans are
//! [`std::time::Duration`]s, probabilities are `f64` in \[0, 1\], weighted times are minutes. Only
//! constructors fail ([`HistoryError`], [`ParametersError`]); what they let through cannot fail
//! later. There is no clock, no I/O and no global state: `now` and the seed are arguments, and equal
//! arguments give equal bits.

mod alias;
mod assessment;
mod bootstrap;
mod capacity;
mod combine;
mod family;
mod fit;
mod level;
mod nowcast;
mod parameters;
mod quantity;
mod reason;
mod segment;
mod window;

pub use assessment::{Assessment, Estimate};
pub use combine::{Combined, Reading, SourceKind, combine_sources};
pub use family::{FamilySummary, canonical_provider, family_contains, summarize_family};
pub use fit::{Fit, Model, PoolKey};
pub use level::{Confidence, Freshness, Level};
pub use nowcast::Nowcast;
pub use parameters::{Parameters, ParametersBuilder, ParametersError};
pub use quantity::{Timestamp, Units, Wanted};
pub use reason::{Reason, Reasons};
pub use segment::{History, HistoryError, Observation, Segment};
pub use window::WeightedSums;

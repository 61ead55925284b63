//! The probability that hardware is free, and the level a person reads.
//!
//! # What is estimated
//!
//! For one pool and N wanted units, **P is the expected share of the next H = 60 minutes in which at
//! least N units are free**. By PASTA (R. W. Wolff, "Poisson Arrivals See Time Averages",
//! *Operations Research* 30(2), 1982) a time share is also the success probability of requests
//! that arrive without regard to the pool's state. Batch launches that one event sets off on many
//! machines at once are not such requests: they meet a fuller pool than P says.
//!
//! # How
//!
//! 1. A [`State`] is the whole past of a pool for one N: whether N units are free and since when, the
//!    weighted minutes observed free and full, and the weighted numbers of observed changes, all weighed
//!    with e^(−λ·age), λ = ln 2 / 24 h. [`State::observe`] brings it up to date. An observation speaks
//!    for G = max(2Δ, 2 min) after it was made ([`ExpectedInterval::speaks_for`]); the rest is missing,
//!    neither free nor full.
//! 2. Per minute, "free" is left at (down + 1)/(free + 180) and "full" at (up + 1)/(full + 180)
//!    ([`State::rates`]).
//! 3. From the last observation at t₀, an age a and a time in the state so far s, with r the rate of
//!    leaving the state and o that of coming back: h = 1/r + s. The hazard of leaving is
//!    2/(1/r + time in the state): the longer a state has lasted, the longer it will. The share of
//!    (a, a + H) before it is left is stay = h²/((h + a)(h + a + H)). What was left comes back:
//!    z = 3(r + o)(H/2 + a), back = o/(r + o)·(1 − (1 − e^(−z))/z). The state holds for
//!    q = stay + (1 − stay)·back, and **P = q where the state is "free", else 1 − q**
//!    ([`State::probability`]).
//! 4. The [`Interval`] is what the history leaves open about the rates, 10 % and 90 % of
//!    Gamma(events + 1, minutes + 180). It is not how much the time ahead scatters.
//! 5. A [`CorrectionTable`] adds what resolved forecasts of alike cases ([`Cell`]) teach.
//! 6. [`Level`]: UNKNOWN, LOW, MEDIUM, HIGH; [`Level::rule`] says which is when.
//!
//! The constants (24 h, 180 minutes, 3, the cells, .80) were chosen on eleven recordings of real GPU
//! clusters and spot pools: `hardware backtest` measures what they are worth on another one.
//!
//! A [`PoolState`] keeps the states of one pool for a list of thresholds N; P of another N lies on the
//! line between its two neighbours.
//!
//! ```
//! use availability::{
//!     CorrectionTable, ExpectedInterval, Level, Observation, PoolState, Timestamp, Wanted,
//! };
//!
//! let minute = |m: i64| Timestamp::from_millis(m * 60_000);
//! let (total, in_use) = (8, 6);
//! let seen = Observation::counts(total, in_use);
//! let mut pool = PoolState::begin(minute(0), seen, ExpectedInterval::default());
//! for m in 1..=180 {
//!     pool.observe(minute(m), seen);
//! }
//! let answer = pool.assess(Wanted::ONE, minute(181), &CorrectionTable::default());
//! assert_eq!(answer.level, Level::High);
//! assert_eq!(pool.largest_high(minute(181), &CorrectionTable::default()), Wanted::new(2));
//! ```
//!
//! # Units and errors
//!
//! Times are [`Timestamp`]s (milliseconds since the Unix epoch, UTC), spans are
//! [`std::time::Duration`]s, probabilities are `f64` in \[0, 1\], weighted times are minutes. Only
//! constructors and [`PoolState::decode`] fail; what they let through cannot fail later. There is no
//! clock, no random source, no I/O and no global state: equal arguments give equal bits.

mod assessment;
mod attempt;
pub mod backtest;
mod combine;
mod correction;
mod family;
mod forecast;
mod interval;
mod level;
mod names;
mod observation;
mod outcome;
mod pool;
mod quantity;
mod reason;
mod state;
mod thresholds;

pub use assessment::{Assessment, Estimate};
pub use attempt::{Attempt, FAILURE_COUNTS_FOR, smallest_recent_failure};
pub use combine::{Combined, Reading, SourceKind, combine_sources};
pub use correction::{Cell, CorrectionTable, Record};
pub use family::{FamilySummary, summarize_family};
pub use forecast::{DEFAULT_HORIZON, Interval, Rates};
pub use interval::{ExpectedInterval, IntervalError};
pub use level::{Freshness, HIGH_FROM, HIGH_NEEDS, LOW_BELOW, Level};
pub use names::{
    canonical_family_contains, canonical_name, canonical_provider, canonical_text, canonical_tier,
    family_contains,
};
pub use observation::{Coverage, Observation, Segment, join_segments, join_touching};
pub use outcome::free_share;
pub use pool::{Change, DecodeError, PoolState};
pub use quantity::{Timestamp, Units, Wanted};
pub use reason::{Reason, Reasons};
pub use state::State;
pub use thresholds::{MAX_THRESHOLDS, threshold, threshold_count};

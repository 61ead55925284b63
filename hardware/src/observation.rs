//! What sources report, and what becomes of it.

mod fields;
mod json;
mod parse;
mod refusals;
mod summary;
mod timeline;

use std::{fmt, time::Duration};

use availability::ExpectedInterval;
use chrono::{NaiveDateTime, TimeDelta};
use sha2::{Digest, Sha256};

pub use self::{
    parse::{BatchError, MAX_OBSERVATIONS, Received, parse_batch},
    refusals::Refusals,
    summary::{Recorded, Warning, summarize},
    timeline::{Outcome, Run, Timeline},
};

/// SHA-256 of what an observation is about.
pub type KeyHash = [u8; 32];

/// Reports of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Who reports.
    pub source: String,
    /// Seconds between two reports.
    pub expected_interval_s: i32,
    /// What was seen, in any order of time.
    pub observations: Vec<Observation>,
}

impl Batch {
    /// How long an observation speaks for. The same counts after a longer silence begin a new run.
    #[must_use]
    pub fn max_gap(&self) -> TimeDelta {
        as_delta(self.interval().speaks_for())
    }

    /// How old the last observation may be for a level to follow from it.
    #[must_use]
    pub fn known_for(&self) -> TimeDelta {
        as_delta(self.interval().known_for())
    }

    fn interval(&self) -> ExpectedInterval {
        let seconds = self.expected_interval_s.unsigned_abs().into();
        ExpectedInterval::new(Duration::from_secs(seconds)).expect("the parser checks its range")
    }
}

fn as_delta(span: Duration) -> TimeDelta {
    TimeDelta::from_std(span).expect("at most two days")
}

/// What was seen of one pool at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Its place in the batch that was sent.
    pub index: u32,
    /// Where.
    pub pool: PoolName,
    /// When, in UTC, to the millisecond.
    pub observed_at: NaiveDateTime,
    /// What.
    pub supply: Supply,
}

/// The names that identify a pool within its source. All are trimmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolName {
    /// Who offers it.
    pub provider: String,
    /// What the provider calls it.
    pub name: String,
    /// Region, or empty.
    pub region: String,
    /// Zone, or empty.
    pub zone: String,
    /// How it is sold.
    pub tier: String,
    /// What is counted.
    pub unit: String,
}

impl PoolName {
    /// Equal for names that differ in case only.
    #[must_use]
    pub fn key_hash(&self) -> KeyHash {
        let mut hash = Sha256::new();
        hash.update(self.provider.to_lowercase());
        // The unit separator cannot be part of either name.
        hash.update([0x1F]);
        hash.update(self.name.to_lowercase());
        hash.finalize().into()
    }
}

impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} (", self.provider, self.name)?;
        for place in [&self.region, &self.zone].into_iter().filter(|place| !place.is_empty()) {
            write!(f, "{place}, ")?;
        }
        write!(f, "{}, {})", self.tier, self.unit)
    }
}

/// What a pool has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supply {
    /// Units, from a source that counts.
    Counts {
        /// Units that exist.
        total: i32,
        /// Units that are free, at most `total`.
        free: i32,
    },
    /// Whether a unit can be had, from a source that only says yes or no.
    Available(bool),
}

impl Supply {
    /// From the columns of the database: without a total, `free` says yes or no.
    #[must_use]
    pub fn from_columns(total: Option<i32>, free: i32) -> Self {
        match total {
            Some(total) => Self::Counts { total, free },
            None => Self::Available(free > 0),
        }
    }

    /// The columns `total` and `free` of the database.
    #[must_use]
    pub fn columns(self) -> (Option<i32>, i32) {
        match self {
            Self::Counts { total, free } => (Some(total), free),
            Self::Available(is_available) => (None, is_available.into()),
        }
    }
}

impl fmt::Display for Supply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Counts { total, free } => write!(f, "{free} of {total} free"),
            Self::Available(true) => f.write_str("available"),
            Self::Available(false) => f.write_str("not available"),
        }
    }
}

//! What sources report, and what becomes of it.

mod fields;
mod parse;
mod timeline;

use chrono::{NaiveDateTime, TimeDelta};
use sha2::{Digest, Sha256};

pub use self::{
    parse::{BatchError, MAX_OBSERVATIONS, parse_batch},
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
    /// What was seen, in any order.
    pub observations: Vec<Observation>,
}

impl Batch {
    /// How long an observation speaks for: twice the expected interval, at least two minutes. The
    /// same counts after a longer silence begin a new run.
    #[must_use]
    pub fn max_gap(&self) -> TimeDelta {
        TimeDelta::seconds((i64::from(self.expected_interval_s) * 2).max(120))
    }
}

/// What was seen of one pool at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Where.
    pub pool: PoolName,
    /// When, in UTC, to the millisecond.
    pub observed_at: NaiveDateTime,
    /// What.
    pub count: Count,
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

/// Units of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Units that exist; nothing if the source only says yes or no.
    pub total: Option<i32>,
    /// Units that are free; 1 or 0 if the source only says yes or no.
    pub free: i32,
}

//! What a source says at one time.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use hardware_api::{Attempt, AttemptOutcome, Observation};

/// What is counted apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pool {
    /// Who offers it.
    pub(crate) provider: String,
    /// What it is called there.
    pub(crate) name: String,
    /// Region, if it has one.
    pub(crate) region: Option<String>,
    /// Zone, if it has one.
    pub(crate) zone: Option<String>,
    /// How it is sold.
    pub(crate) tier: String,
    /// What is counted.
    pub(crate) unit: String,
}

/// What was seen of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Units that there are, and how many of them are taken.
    Counts {
        /// Units that there are.
        total: u32,
        /// Units taken, at most `total`.
        in_use: u32,
    },
    /// Whether a unit can be had, from a source that does not count.
    Available(bool),
}

/// Every pool that a source knows.
pub(crate) type Pools = BTreeMap<Pool, Seen>;

/// What a source says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Statement {
    /// All of its pools.
    Pools(Pools),
    /// That it cannot tell, and what to do about it.
    Problem(Problem),
}

/// Why a source cannot tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// A stable word, such as `pods_forbidden`.
    pub(crate) code: &'static str,
    /// One sentence: what happened and what to do.
    pub(crate) detail: String,
}

impl Pool {
    /// It, with what was seen of it.
    pub(crate) fn observation(&self, seen: Seen) -> Observation {
        let (total, in_use, available) = match seen {
            Seen::Counts { total, in_use } => (Some(total), Some(in_use), None),
            Seen::Available(available) => (None, None, Some(available)),
        };
        Observation {
            provider: self.provider.clone(),
            name: self.name.clone(),
            region: self.region.clone(),
            zone: self.zone.clone(),
            tier: Some(self.tier.clone()),
            unit: Some(self.unit.clone()),
            observed_at: None,
            total,
            in_use,
            available,
        }
    }

    /// A request for one unit of it, at a time, with what came of it and what the provider said.
    pub(crate) fn attempt(
        &self,
        outcome: AttemptOutcome,
        at: DateTime<Utc>,
        code: Option<&str>,
    ) -> Attempt {
        Attempt {
            provider: self.provider.clone(),
            name: self.name.clone(),
            region: self.region.clone(),
            zone: self.zone.clone(),
            tier: Some(self.tier.clone()),
            unit: Some(self.unit.clone()),
            units: None,
            outcome,
            at,
            code: code.map(str::to_owned),
        }
    }
}

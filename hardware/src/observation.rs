//! What sources report, and what becomes of it.

mod attempts;
mod fields;
mod json;
mod parse;
mod refusals;
mod summary;
mod timeline;

use std::{fmt, time::Duration};

use availability::{
    ExpectedInterval, Timestamp, canonical_name, canonical_provider, canonical_text, canonical_tier,
};
use sha2::{Digest, Sha256};

pub use self::{
    attempts::{
        AttemptBatch, AttemptItem, KEPT_ATTEMPTS, ReceivedAttempts, TakenAttempt, parse_attempts,
        summarize_attempts,
    },
    parse::{BatchError, MAX_NAME, MAX_OBSERVATIONS, MAX_PLACE, MAX_UNITS, Received, parse_batch},
    refusals::Refusals,
    summary::{Recorded, Warning, show_observation, show_time, summarize},
    timeline::{Changes, Outcome, Timeline, refold},
};

/// What identifies a pool in the database: a hash of its source and of its names as they are compared.
pub type Identity = [u8; 16];

/// Reports of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Who reports.
    pub source: String,
    /// How often this source reports on the pools that the batch lists.
    pub interval: ExpectedInterval,
    /// What the batch says of pools that it does not list.
    pub unlisted: Option<Unlisted>,
    /// What keeps the source from seeing its pools as they are; none ends the one that it had.
    pub problem: Option<ReportedProblem>,
    /// What was seen, in any order of time.
    pub items: Vec<Item>,
    /// Whether nothing that the batch listed was refused.
    pub is_whole: bool,
}

/// What keeps a source from seeing its pools as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedProblem {
    /// Its stable name.
    pub code: String,
    /// The problem in a sentence, with what to do.
    pub detail: String,
}

/// What a batch says of the pools of its source that it does not list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlisted {
    /// They are as they were, at this time.
    Unchanged(Timestamp),
    /// They are no longer there, from this time on.
    Gone(Timestamp),
}

/// An observation of one pool at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its place in the batch that was sent.
    pub index: u32,
    /// Where.
    pub pool: PoolName,
    /// When.
    pub at: Timestamp,
    /// What.
    pub observation: availability::Observation,
}

/// The names that identify a pool within its source. All are trimmed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    /// The names as they are compared: other spellings of a provider, case and `Standard_` make no
    /// difference.
    #[must_use]
    pub fn canonical(&self) -> Self {
        Self {
            provider: canonical_provider(&self.provider).into_owned(),
            name: canonical_name(&self.provider, &self.name),
            region: canonical_text(&self.region),
            zone: canonical_text(&self.zone),
            tier: canonical_tier(&self.tier),
            unit: canonical_text(&self.unit),
        }
    }

    /// The first half of SHA-256 over the name of the source and the canonical names.
    #[must_use]
    pub fn identity(&self, source: &str) -> Identity {
        let canonical = self.canonical();
        let mut identity = Identity::default();
        let digest = digest_of([source].into_iter().chain(canonical.parts()));
        identity.copy_from_slice(&digest[..16]);
        identity
    }

    /// The names, from the largest to the smallest.
    #[must_use]
    pub fn parts(&self) -> [&str; 6] {
        let Self { provider, name, region, zone, tier, unit } = self;
        [provider, name, region, zone, tier, unit]
    }
}

/// SHA-256 over names, none of which has a control character.
pub(crate) fn digest_of<'a>(names: impl IntoIterator<Item = &'a str>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for name in names {
        hash.update(name);
        // The unit separator cannot be part of any of them.
        hash.update([0x1F]);
    }
    hash.finalize().into()
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

/// The interval of so many seconds, which the caller has checked.
fn interval_of(seconds: u32) -> ExpectedInterval {
    ExpectedInterval::new(Duration::from_secs(seconds.into())).expect("1 to 86400 seconds")
}

#[cfg(test)]
mod tests {
    use super::PoolName;

    fn pool(provider: &str, name: &str, tier: &str) -> PoolName {
        PoolName {
            provider: provider.to_owned(),
            name: name.to_owned(),
            region: "EU".to_owned(),
            zone: String::new(),
            tier: tier.to_owned(),
            unit: "unit".to_owned(),
        }
    }

    #[test]
    fn other_spellings_have_the_same_identity() {
        let identity = pool("Azure", "H16mr", "on-demand").identity("lab");
        assert_eq!(
            pool("Microsoft Azure", "standard_h16MR", "On Demand").identity("lab"),
            identity
        );
        assert_ne!(pool("Azure", "H16mr", "spot").identity("lab"), identity);
        assert_ne!(pool("Azure", "H16mr", "on-demand").identity("Lab"), identity);
    }
}

//! What sources say of a pool, and segments: spans in which they said the same.

use crate::{Timestamp, Units, Wanted};

/// What one source said about a pool at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Observation {
    /// The source counts units.
    Counts {
        /// Units that can be used at all, free or not: not drained, cordoned or failed.
        total: Units,
        /// Units that nobody uses; at most `total`.
        free: Units,
    },
    /// The source only says whether something could be had.
    Available(bool),
}

impl Observation {
    /// Counts as sources report them. More units in use than there are leave none free.
    #[must_use]
    pub const fn counts(total: u32, in_use: u32) -> Self {
        Self::Counts { total: Units::new(total), free: Units::new(total.saturating_sub(in_use)) }
    }

    /// Whether `wanted` units are free: the state x. `None` where the source cannot tell, which is for
    /// more than one unit of a source that says yes or no.
    #[must_use]
    pub fn is_free(self, wanted: Wanted) -> Option<bool> {
        match self {
            Self::Counts { free, .. } => Some(wanted.fits_in(free)),
            Self::Available(available) => (wanted == Wanted::ONE).then_some(available),
        }
    }

    /// Free units, if the source counts them.
    #[must_use]
    pub const fn free(self) -> Option<Units> {
        match self {
            Self::Counts { free, .. } => Some(free),
            Self::Available(_) => None,
        }
    }

    /// All usable units, if the source counts them.
    #[must_use]
    pub const fn total(self) -> Option<Units> {
        match self {
            Self::Counts { total, .. } => Some(total),
            Self::Available(_) => None,
        }
    }
}

/// A span in which every observation said the same, none longer after the one before than it spoke for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Segment {
    /// The first observation.
    pub started: Timestamp,
    /// The last observation, which may be the first.
    pub last_seen: Timestamp,
    /// What all of them said.
    pub observation: Observation,
}

impl Segment {
    /// One observation.
    #[must_use]
    pub const fn once(at: Timestamp, observation: Observation) -> Self {
        Self { started: at, last_seen: at, observation }
    }
}

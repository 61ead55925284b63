//! What was observed of a pool: runs of unchanged values, in order.

use thiserror::Error;

use crate::{Timestamp, Units, Wanted};

/// What one source said about a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observation {
    /// Units that can be used at all (not drained, cordoned or failed), and those taken.
    Counts {
        /// Usable units, free or not.
        total: Units,
        /// Units taken; more than `total` counts as all of them.
        in_use: Units,
    },
    /// The source only says whether something could be had.
    Available(bool),
}

impl Observation {
    /// Whether `wanted` units are free: the state x. A source without counts answers for any number.
    #[must_use]
    pub fn is_free(self, wanted: Wanted) -> bool {
        match self {
            Self::Counts { .. } => self.free().is_some_and(|free| wanted.fits_in(free)),
            Self::Available(available) => available,
        }
    }

    /// Free units, if the source counts them.
    #[must_use]
    pub fn free(self) -> Option<Units> {
        match self {
            Self::Counts { total, in_use } => Some(total.saturating_sub(in_use)),
            Self::Available(_) => None,
        }
    }

    /// All usable units, if the source counts them.
    #[must_use]
    pub fn total(self) -> Option<Units> {
        match self {
            Self::Counts { total, .. } => Some(total),
            Self::Available(_) => None,
        }
    }
}

/// A run of equal observations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// When the value was first seen.
    pub start: Timestamp,
    /// When it was last seen; equal to `start` if that was once.
    pub last_seen: Timestamp,
    /// The value.
    pub observation: Observation,
}

impl Segment {
    /// A run of equal counts.
    #[must_use]
    pub const fn counts(start: Timestamp, last_seen: Timestamp, total: u32, in_use: u32) -> Self {
        let observation =
            Observation::Counts { total: Units::new(total), in_use: Units::new(in_use) };
        Self { start, last_seen, observation }
    }

    /// A run of equal answers of a source that does not count.
    #[must_use]
    pub const fn available(start: Timestamp, last_seen: Timestamp, available: bool) -> Self {
        Self { start, last_seen, observation: Observation::Available(available) }
    }
}

/// Segments of one pool from one source, in order and without overlap.
#[derive(Clone, Copy, Debug)]
pub struct History<'a>(&'a [Segment]);

/// Segments that cannot be a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HistoryError {
    /// A segment ends before it starts.
    #[error(
        "failed to read history: segment {index} was last seen before it started; swap the two"
    )]
    Backwards {
        /// Position of the segment.
        index: usize,
    },
    /// A segment does not start after its predecessor, or starts while that was still seen.
    #[error("failed to read history: segment {index} overlaps the one before; sort by start")]
    Overlap {
        /// Position of the later segment.
        index: usize,
    },
}

impl<'a> History<'a> {
    /// Checks the order. No segments at all are a history: of a pool that nobody has looked at.
    pub fn new(segments: &'a [Segment]) -> Result<Self, HistoryError> {
        for (index, segment) in segments.iter().enumerate() {
            if segment.last_seen < segment.start {
                return Err(HistoryError::Backwards { index });
            }
        }
        for (index, pair) in segments.windows(2).enumerate() {
            if pair[1].start < pair[0].last_seen || pair[1].start <= pair[0].start {
                return Err(HistoryError::Overlap { index: index + 1 });
            }
        }
        Ok(Self(segments))
    }

    /// The segments, oldest first.
    #[must_use]
    pub const fn segments(self) -> &'a [Segment] {
        self.0
    }

    /// The newest segment; its `last_seen` is the anchor t₀ of a fit.
    #[must_use]
    pub fn last(self) -> Option<&'a Segment> {
        self.0.last()
    }
}

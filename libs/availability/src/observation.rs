//! What sources say of a pool, and segments: spans in which they said the same.

use crate::{ExpectedInterval, Timestamp, Units, Wanted};

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

    /// Whether it lasted at that time.
    #[must_use]
    pub fn contains(&self, at: Timestamp) -> bool {
        self.started <= at && at <= self.last_seen
    }
}

/// A span in which a source said again and again that all its pools were as they had been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// The first time that it said so.
    pub started: Timestamp,
    /// The last time.
    pub last_seen: Timestamp,
    /// How often it said so.
    pub interval: ExpectedInterval,
}

impl Coverage {
    /// The part of the span from `from` to `until`; `None` if there is none.
    #[must_use]
    pub fn within(&self, from: Timestamp, until: Timestamp) -> Option<Self> {
        let (started, last_seen) = (self.started.max(from), self.last_seen.min(until));
        (started <= last_seen).then_some(Self { started, last_seen, ..*self })
    }
}

/// Puts a past together from pieces in any order: those that say the same, with no gap between them,
/// become one segment. What overlaps a piece that began earlier and says something else is left out.
#[must_use]
pub fn join_segments(mut pieces: Vec<Segment>, interval: ExpectedInterval) -> Vec<Segment> {
    pieces.sort_by_key(|piece| (piece.started, piece.last_seen));
    let mut joined: Vec<Segment> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match joined.last_mut() {
            Some(last)
                if last.observation == piece.observation
                    && piece.started.since(last.last_seen) <= interval.speaks_for() =>
            {
                last.last_seen = last.last_seen.max(piece.last_seen);
            }
            Some(last) if piece.started <= last.last_seen => {}
            _ => joined.push(piece),
        }
    }
    joined
}

/// Puts segments together that were cut, as at midnight: those that say the same and of which one begins
/// when the other was last seen. They are in order of time.
#[must_use]
pub fn join_touching(pieces: Vec<Segment>) -> Vec<Segment> {
    let mut joined: Vec<Segment> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match joined.last_mut() {
            Some(last)
                if last.observation == piece.observation && last.last_seen == piece.started =>
            {
                last.last_seen = piece.last_seen;
            }
            _ => joined.push(piece),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(started: i64, last_seen: i64, free: bool) -> Segment {
        Segment {
            started: Timestamp::from_millis(started * 1000),
            last_seen: Timestamp::from_millis(last_seen * 1000),
            observation: Observation::Available(free),
        }
    }

    #[test]
    fn what_was_cut_is_put_together_and_nothing_else() {
        let pieces = vec![piece(0, 60, true), piece(60, 90, true), piece(91, 95, true)];
        assert_eq!(join_touching(pieces), [piece(0, 90, true), piece(91, 95, true)]);
        let change = vec![piece(0, 60, true), piece(60, 90, false)];
        assert_eq!(join_touching(change.clone()), change);
    }

    #[test]
    fn a_part_of_a_span_is_within_its_ends() {
        let at = |second: i64| Timestamp::from_millis(second * 1000);
        let span =
            Coverage { started: at(10), last_seen: at(20), interval: ExpectedInterval::default() };
        let part = |from, until| {
            span.within(at(from), at(until)).map(|part| (part.started, part.last_seen))
        };
        assert_eq!(part(0, 100), Some((at(10), at(20))));
        assert_eq!(part(12, 15), Some((at(12), at(15))));
        assert_eq!(part(20, 100), Some((at(20), at(20))));
        assert_eq!(part(21, 100), None);
        assert_eq!(part(0, 9), None);
    }

    #[test]
    fn pieces_become_segments_where_there_is_no_gap() {
        let pieces = vec![
            piece(300, 400, true),
            piece(0, 60, true),
            piece(180, 200, true),
            piece(521, 521, true),
            piece(90, 90, false),
            piece(350, 600, false),
        ];
        let joined = join_segments(pieces, ExpectedInterval::default());
        let expected = [
            piece(0, 60, true),
            piece(90, 90, false),
            piece(180, 400, true),
            piece(521, 521, true),
        ];
        assert_eq!(joined, expected);
    }
}

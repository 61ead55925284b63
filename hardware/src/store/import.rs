//! Puts recorded history into that of a source.

use std::collections::BTreeMap;

use availability::{ExpectedInterval, Segment, Timestamp};
use diesel::{QueryResult, result::Error};

use super::{
    Db, StoreError,
    connection::Connection,
    coverage, history,
    ingest::Arrival,
    pools,
    rows::StateRow,
    sources::{self, Cause},
};
use crate::observation::{PoolName, refold};

/// The recorded history of one pool.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolHistory {
    /// Which pool, as its source spells it.
    pub pool: PoolName,
    /// How often its source reported. A pool that is known keeps the interval that it has.
    pub interval: ExpectedInterval,
    /// Segments, or observations as segments of a moment each, in any order.
    pub segments: Vec<Segment>,
}

/// What became of a recorded segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Imported {
    /// It is history now.
    Added,
    /// It was known already.
    Duplicate,
    /// It ended before the history that is kept.
    TooOld,
    /// Something else is known of that time: this segment.
    Contradicts(Segment),
}

impl Db {
    /// Imports the history of some pools of a source, in one transaction. Repeating it changes nothing.
    /// Returns what became of each segment.
    pub async fn import(
        &self,
        source: &str,
        histories: &[PoolHistory],
        arrival: Arrival,
    ) -> Result<Vec<Vec<Imported>>, StoreError> {
        self.transaction(async |connection| import(connection, source, histories, arrival).await)
            .await
    }
}

async fn import(
    connection: &mut Connection<'_>,
    source: &str,
    histories: &[PoolHistory],
    arrival: Arrival,
) -> QueryResult<Vec<Vec<Imported>>> {
    let Some(first) = histories.first() else { return Ok(Vec::new()) };
    let name = source;
    let source =
        sources::add_or_advance(connection, name, first.interval, arrival.at, Cause::Import)
            .await?;
    let names = histories.iter().map(|recorded| &recorded.pool);
    let stored = pools::find_named_pools(connection, source.id, name, names).await?;
    let spans = coverage::list_all(connection, source.id).await?;
    let ids: Vec<i32> = stored.values().map(|pool| pool.id).collect();
    let before = history::load_all(connection, &ids).await?;
    let (mut outcomes, mut states) = (Vec::with_capacity(histories.len()), Vec::new());
    for recorded in histories {
        let identity = recorded.pool.identity(name);
        let stored = stored.get(&identity).ok_or(Error::NotFound)?;
        let interval = stored.state.as_ref().map_or(recorded.interval, StateRow::interval);
        let mut segments = history::segments_of(&before, stored.id);
        segments.extend(stored.open_segments(&spans));
        let mut merged = Merged::new(&segments);
        let of_pool: Vec<Imported> = recorded
            .segments
            .iter()
            .map(|segment| merged.add(*segment, arrival.oldest_kept))
            .collect();
        if !merged.added.is_empty() {
            let folded = refold(segments, merged.added, interval);
            let (closed, state) = folded.ok_or(Error::NotFound)?;
            let rows = history::rows_of(&before, stored.id);
            let kept = arrival.oldest_kept;
            history::replace(connection, stored.id, rows, &closed, kept).await?;
            states.push((stored.id, state));
        }
        outcomes.push(of_pool);
    }
    pools::write_states(connection, source.id, source.revision, states).await?;
    Ok(outcomes)
}

/// What is known of a pool, and what is added to it.
struct Merged {
    /// By the start of each segment; they do not overlap.
    known: BTreeMap<Timestamp, Segment>,
    added: Vec<Segment>,
}

impl Merged {
    fn new(known: &[Segment]) -> Self {
        let known = known.iter().map(|segment| (segment.started, *segment)).collect();
        Self { known, added: Vec::new() }
    }

    fn add(&mut self, segment: Segment, oldest_kept: Timestamp) -> Imported {
        let overlapping: Vec<Segment> = self
            .known
            .range(..=segment.last_seen)
            .rev()
            .map(|(_, known)| *known)
            .take_while(|known| known.last_seen >= segment.started)
            .collect();
        if let Some(other) = overlapping.iter().find(|it| it.observation != segment.observation) {
            return Imported::Contradicts(*other);
        }
        if overlapping
            .iter()
            .any(|it| it.contains(segment.started) && it.contains(segment.last_seen))
        {
            return Imported::Duplicate;
        }
        if segment.last_seen < oldest_kept {
            return Imported::TooOld;
        }
        // What is older is not kept, whenever it began.
        let mut whole = Segment { started: segment.started.max(oldest_kept), ..segment };
        self.added.push(whole);
        for known in overlapping {
            self.known.remove(&known.started);
            whole.started = whole.started.min(known.started);
            whole.last_seen = whole.last_seen.max(known.last_seen);
        }
        self.known.insert(whole.started, whole);
        Imported::Added
    }
}

#[cfg(test)]
mod tests {
    use availability::{Observation, Segment, Timestamp};

    use super::{Imported, Merged};

    fn segment(started: i64, last_seen: i64, free: u32) -> Segment {
        let at = Timestamp::from_millis;
        Segment {
            started: at(started),
            last_seen: at(last_seen),
            observation: Observation::counts(8, 8 - free),
        }
    }

    #[test]
    fn history_is_merged_where_nothing_else_is_known() {
        let mut merged = Merged::new(&[]);
        let oldest = Timestamp::from_millis(-100);
        let cases = [
            (segment(0, 10, 1), Imported::Added),
            (segment(0, 10, 1), Imported::Duplicate),
            (segment(3, 4, 1), Imported::Duplicate),
            (segment(5, 20, 1), Imported::Added),
            (segment(20, 30, 2), Imported::Contradicts(segment(0, 20, 1))),
            (segment(21, 30, 2), Imported::Added),
            (segment(-5, 40, 1), Imported::Contradicts(segment(21, 30, 2))),
            (segment(-5, 8, 1), Imported::Added),
            (segment(-300, -200, 1), Imported::TooOld),
            (segment(-300, -50, 3), Imported::Added),
        ];
        for (piece, expected) in cases {
            assert_eq!(merged.add(piece, oldest), expected, "{piece:?}");
        }
        let known: Vec<Segment> = merged.known.into_values().collect();
        assert_eq!(known, [segment(-100, -50, 3), segment(-5, 20, 1), segment(21, 30, 2)]);
    }
}

//! What becomes of the observations of one pool: pure, and the same for both databases.

use std::collections::BTreeMap;

use availability::{
    Change, Coverage, ExpectedInterval, Observation, PoolState, Segment, Timestamp, join_touching,
};

/// What became of an observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It began a segment.
    Accepted,
    /// It confirmed the segment that is open.
    Unchanged,
    /// It was known.
    Duplicate,
    /// It is older than the last one of its pool, of a time of which nothing was known.
    Late,
    /// It is older than what is kept.
    TooOld,
    /// It is of a time in which something else was seen, all through this segment.
    Contradicts(Segment),
}

/// The past of one pool and what a batch adds to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Timeline {
    interval: ExpectedInterval,
    state: Option<PoolState>,
    /// What the source has said of all its pools.
    spans: Vec<Coverage>,
    /// Closed segments that late observations are compared with.
    known: Vec<Segment>,
    closed: Vec<Segment>,
    late: BTreeMap<Timestamp, Observation>,
    has_changed: bool,
    has_gap: bool,
}

/// What has to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Changes {
    /// The pool as it is now, but for the late observations.
    pub state: PoolState,
    /// Segments that closed.
    pub closed: Vec<Segment>,
    /// Observations to put into the past, as segments of a moment each.
    pub late: Vec<Segment>,
    /// Whether the open segment was confirmed, and nothing else.
    pub is_confirmation: bool,
}

impl Timeline {
    /// A pool as it is stored, or a new one, of a source that reports so often and has said of all its pools
    /// in `spans`, while it had this one, that they were as they had been.
    #[must_use]
    pub fn new(state: Option<PoolState>, interval: ExpectedInterval, spans: Vec<Coverage>) -> Self {
        Self {
            interval,
            state,
            spans,
            known: Vec::new(),
            closed: Vec::new(),
            late: BTreeMap::new(),
            has_changed: false,
            has_gap: false,
        }
    }

    /// Lets the states be written although nothing may change, as they were stored otherwise.
    pub fn write_in_any_case(&mut self) {
        self.has_changed = true;
    }

    /// Adds closed segments, which late observations are compared with.
    pub fn add_known(&mut self, segments: impl IntoIterator<Item = Segment>) {
        self.known.extend(segments);
    }

    /// Takes in one observation. What is older than `oldest_kept` is not taken.
    pub fn apply(
        &mut self,
        at: Timestamp,
        observation: Observation,
        oldest_kept: Timestamp,
    ) -> Outcome {
        if let Some(known) = self.known_at(at) {
            // At its ends an observation is known to have been made, and the first report of a time
            // stands.
            let is_known = at == known.started || at == known.last_seen;
            if is_known || observation == known.observation {
                return Outcome::Duplicate;
            }
            return Outcome::Contradicts(known);
        }
        if at < oldest_kept {
            return Outcome::TooOld;
        }
        let Some(state) = &mut self.state else {
            self.state = Some(PoolState::begin(at, observation, self.interval));
            self.has_changed = true;
            return Outcome::Accepted;
        };
        let stored = state.open_segment().last_seen;
        if at > stored {
            // What is listed counts from then on, whatever was said of all pools at that time.
            let before = Timestamp::from_millis(at.as_millis() - 1);
            let spans = self.spans.iter().filter_map(|span| span.within(stored, before));
            self.closed.extend(spans.flat_map(|span| state.cover(&span)).collect::<Vec<_>>());
            self.has_changed |= state.interval() != self.interval;
            state.set_interval(self.interval);
        }
        let last_seen = state.open_segment().last_seen;
        let outcome = match state.observe(at, observation) {
            Change::Confirmed => Outcome::Unchanged,
            Change::Closed(segment) => {
                self.closed.push(segment);
                Outcome::Accepted
            }
            Change::Late => {
                if self.late.contains_key(&at) {
                    return Outcome::Duplicate;
                }
                self.late.insert(at, observation);
                Outcome::Late
            }
        };
        self.has_changed |= outcome != Outcome::Unchanged || !self.closed.is_empty();
        self.has_gap |= at.since(last_seen) > self.interval.speaks_for();
        outcome
    }

    fn known_at(&self, at: Timestamp) -> Option<Segment> {
        let open = self.state.iter().map(PoolState::open_segment);
        let mut known = self.known.iter().chain(&self.closed).copied().chain(open);
        known.find(|segment| segment.contains(at))
    }

    /// Whether an observation came after a gap.
    #[must_use]
    pub fn has_gap(&self) -> bool {
        self.has_gap
    }

    /// What has to be written for a pool that was stored with `before`; nothing if nothing changed.
    #[must_use]
    pub fn into_changes(self, before: Option<Timestamp>) -> Option<Changes> {
        let state = self.state?;
        let was_confirmed = before != Some(state.open_segment().last_seen);
        if !self.has_changed && !was_confirmed {
            return None;
        }
        let late = self.late.into_iter().map(|(at, seen)| Segment::once(at, seen)).collect();
        Some(Changes { state, closed: self.closed, late, is_confirmation: !self.has_changed })
    }
}

/// The history of a pool, folded anew: its closed segments, and the pool. `stored` segments are in order, the
/// open one last, and may be cut; `late` ones come in any order between them. Two stored segments that say the
/// same stay apart, as there was a gap between them when they were stored, unless late ones fill it. `None`
/// without any.
#[must_use]
pub fn refold(
    stored: Vec<Segment>,
    late: Vec<Segment>,
    interval: ExpectedInterval,
) -> Option<(Vec<Segment>, PoolState)> {
    let mut closed = merge(join_touching(stored), late, interval);
    let state = PoolState::fold(closed.iter().copied(), interval)?;
    // What is left of the last one is the open segment.
    closed.pop();
    Some((closed, state))
}

/// Puts late segments between stored ones, and joins them with their neighbours where there is no gap. What
/// overlaps one that began earlier and says something else is left out.
fn merge(stored: Vec<Segment>, late: Vec<Segment>, interval: ExpectedInterval) -> Vec<Segment> {
    let stored = stored.into_iter().map(|segment| (segment, false));
    let mut all: Vec<(Segment, bool)> =
        stored.chain(late.into_iter().map(|segment| (segment, true))).collect();
    all.sort_by_key(|(segment, _)| segment.started);
    let mut merged: Vec<Segment> = Vec::with_capacity(all.len());
    let mut ends_late = false;
    for (segment, is_late) in all {
        match merged.last_mut() {
            Some(last)
                if last.observation == segment.observation
                    && (is_late || ends_late)
                    && segment.started.since(last.last_seen) <= interval.speaks_for() =>
            {
                if segment.last_seen > last.last_seen {
                    last.last_seen = segment.last_seen;
                    ends_late = is_late;
                }
            }
            Some(last) if segment.started <= last.last_seen => {}
            _ => {
                merged.push(segment);
                ends_late = is_late;
            }
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use availability::{Coverage, ExpectedInterval, Observation, PoolState, Segment, Timestamp};
    use proptest::prelude::*;

    use super::{Changes, Outcome, Timeline, refold};

    const OLDEST: Timestamp = Timestamp::from_millis(-1_000_000);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(second * 1000)
    }

    fn counts(free: u32) -> Observation {
        Observation::counts(8, 8 - free)
    }

    fn new() -> Timeline {
        Timeline::new(None, ExpectedInterval::default(), Vec::new())
    }

    fn apply(timeline: &mut Timeline, seen: &[(i64, u32)]) -> Vec<Outcome> {
        seen.iter()
            .map(|(second, free)| timeline.apply(at(*second), counts(*free), OLDEST))
            .collect()
    }

    fn changes(timeline: Timeline) -> Changes {
        timeline.into_changes(None).expect("something changed")
    }

    #[test]
    fn only_changes_and_gaps_begin_a_segment() {
        use Outcome::{Accepted, Unchanged};
        let mut timeline = new();
        assert_eq!(
            apply(&mut timeline, &[(0, 2), (60, 2), (120, 1), (240, 1), (361, 1)]),
            [Accepted, Unchanged, Accepted, Unchanged, Accepted]
        );
        let Changes { state, closed, .. } = changes(timeline);
        assert_eq!(state.open_segment(), Segment::once(at(361), counts(1)));
        let ends: Vec<_> = closed.iter().map(|past| (past.started, past.last_seen)).collect();
        assert_eq!(ends, [(at(0), at(60)), (at(120), at(240))]);
    }

    #[test]
    fn what_contradicts_the_past_is_told_with_what_is_known() {
        let mut timeline = new();
        apply(&mut timeline, &[(0, 2), (60, 2), (120, 1)]);
        let known = Segment { started: at(0), last_seen: at(60), observation: counts(2) };
        assert_eq!(
            apply(&mut timeline, &[(30, 2), (30, 1), (60, 7), (90, 2), (90, 3), (-1, 2)]),
            [
                Outcome::Duplicate,
                Outcome::Contradicts(known),
                Outcome::Duplicate,
                Outcome::Late,
                Outcome::Duplicate,
                Outcome::Late,
            ]
        );
        let late: Vec<Timestamp> = changes(timeline).late.iter().map(|seen| seen.started).collect();
        assert_eq!(late, [at(-1), at(90)]);
    }

    #[test]
    fn what_is_older_than_what_is_kept_is_not_taken() {
        let mut timeline = new();
        assert_eq!(timeline.apply(at(-2000), counts(1), OLDEST), Outcome::TooOld);
        assert_eq!(timeline.clone().into_changes(None), None);
        apply(&mut timeline, &[(0, 1)]);
        assert_eq!(timeline.apply(at(-2000), counts(1), OLDEST), Outcome::TooOld);
        assert_eq!(timeline.apply(at(-1000), counts(1), OLDEST), Outcome::Late);
    }

    #[test]
    fn a_gap_is_longer_than_an_observation_speaks_for() {
        let mut timeline = new();
        apply(&mut timeline, &[(0, 2), (120, 2), (240, 1), (100, 1)]);
        assert!(!timeline.has_gap());
        apply(&mut timeline, &[(361, 1)]);
        assert!(timeline.has_gap());
    }

    /// What a source says of all its pools never goes before what it lists, whichever comes first.
    #[test]
    fn a_listed_change_counts_although_all_was_said_to_be_unchanged() {
        let span = |last_seen: i64| Coverage {
            started: at(30),
            last_seen: at(last_seen),
            interval: ExpectedInterval::default(),
        };
        let stored = PoolState::begin(at(0), counts(2), ExpectedInterval::default());
        for covered in [60, 90, 5000] {
            let state = Some(stored.clone());
            let mut timeline =
                Timeline::new(state, ExpectedInterval::default(), vec![span(covered)]);
            assert_eq!(apply(&mut timeline, &[(60, 0), (60, 0)])[0], Outcome::Accepted);
            let Changes { state, closed, .. } = changes(timeline);
            assert_eq!(state.open_segment(), Segment::once(at(60), counts(0)));
            let until = Timestamp::from_millis(59_999);
            let before = Segment { started: at(0), last_seen: until, observation: counts(2) };
            assert_eq!(closed, [before]);
        }
    }

    #[test]
    fn stored_segments_stay_apart_unless_late_ones_fill_the_gap() {
        let day = ExpectedInterval::new(std::time::Duration::from_hours(24)).expect("in range");
        let piece = |from: i64, to: i64, free: u32| Segment {
            started: at(from),
            last_seen: at(to),
            observation: counts(free),
        };
        let stored = || vec![piece(0, 60, 2), piece(30_000, 30_060, 2), piece(30_100, 30_200, 0)];
        let (closed, _) = refold(stored(), Vec::new(), day).expect("some");
        assert_eq!(closed, stored()[..2]);
        let late = vec![Segment::once(at(100), counts(2))];
        let minute = ExpectedInterval::default();
        let (closed, _) = refold(stored(), late.clone(), minute).expect("some");
        assert_eq!(closed, [piece(0, 100, 2), stored()[1]]);
        let (closed, _) = refold(stored(), late, day).expect("some");
        assert_eq!(closed, [piece(0, 30_060, 2)]);
        let other = vec![Segment::once(at(100), counts(1))];
        let (closed, _) = refold(stored(), other, day).expect("some");
        assert_eq!(closed.len(), 3);
    }

    #[test]
    fn a_confirmation_is_told_from_a_change() {
        let mut timeline = new();
        apply(&mut timeline, &[(0, 2)]);
        let stored = changes(timeline).state;
        let last_seen = Some(stored.open_segment().last_seen);
        let mut again = Timeline::new(Some(stored.clone()), stored.interval(), Vec::new());
        apply(&mut again, &[(0, 2)]);
        assert_eq!(again.clone().into_changes(last_seen), None);
        apply(&mut again, &[(60, 2)]);
        assert!(again.into_changes(last_seen).expect("later").is_confirmation);
        let other = ExpectedInterval::new(std::time::Duration::from_secs(5)).expect("in range");
        let mut faster = Timeline::new(Some(stored), other, Vec::new());
        apply(&mut faster, &[(0, 2)]);
        assert_eq!(faster.clone().into_changes(last_seen), None, "nothing later says so");
        apply(&mut faster, &[(60, 2)]);
        assert!(!faster.into_changes(last_seen).expect("another interval").is_confirmation);
    }

    proptest! {
        #[test]
        fn sending_a_batch_again_changes_nothing(
            reports in proptest::collection::btree_map(0_i64..2000, 0_u32..3, 1..40)
        ) {
            let reports: Vec<_> = reports.into_iter().collect();
            let mut timeline = new();
            apply(&mut timeline, &reports);
            let before = timeline.clone();
            for outcome in apply(&mut timeline, &reports) {
                prop_assert_eq!(outcome, Outcome::Duplicate);
            }
            prop_assert_eq!(timeline, before);
        }

        /// Of reports that contradict nothing, which of them come late makes no difference.
        #[test]
        fn any_order_of_delivery_gives_the_same_state(
            reports in proptest::collection::btree_map(0_i64..50_000, 0_u32..3, 2..60),
            is_late in proptest::collection::vec(any::<bool>(), 60),
        ) {
            let mut in_order = new();
            let reports: Vec<_> = reports.into_iter().collect();
            apply(&mut in_order, &reports);
            let expected = changes(in_order);

            let (late, first): (Vec<_>, Vec<_>) =
                reports.iter().zip(is_late).partition(|(_, is_late)| *is_late);
            let mut timeline = new();
            for ((second, free), _) in first.into_iter().chain(late) {
                let outcome = timeline.apply(at(*second), counts(*free), OLDEST);
                // It lies within what became one segment without it.
                prop_assume!(!matches!(outcome, Outcome::Contradicts(_)));
            }
            let Changes { state, closed, late, .. } = changes(timeline);
            let stored = closed.into_iter().chain([state.open_segment()]).collect();
            let (closed, state) =
                refold(stored, late, ExpectedInterval::default()).expect("some");
            prop_assert_eq!(closed, expected.closed);
            prop_assert_eq!(state, expected.state);
        }

        #[test]
        fn segments_never_overlap(
            reports in proptest::collection::vec((0_i64..2000, 0_u32..3), 1..40)
        ) {
            let mut timeline = new();
            apply(&mut timeline, &reports);
            let Changes { state, closed, late, .. } = changes(timeline);
            let stored = closed.into_iter().chain([state.open_segment()]).collect();
            let (mut segments, state) = refold(stored, late, state.interval()).expect("some");
            segments.push(state.open_segment());
            prop_assert!(segments.iter().all(|one| one.started <= one.last_seen));
            prop_assert!(segments.is_sorted_by(|one, next| one.last_seen < next.started));
        }
    }

    #[test]
    fn nothing_is_folded_to_nothing() {
        let nothing = refold(Vec::new(), Vec::new(), ExpectedInterval::default());
        assert_eq!(nothing, None::<(Vec<Segment>, PoolState)>);
    }
}

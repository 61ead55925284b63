//! What holds for every history.
#![expect(clippy::unwrap_used, reason = "helpers of tests, outside #[test]")]

use std::time::Duration;

use availability::{
    Change, CorrectionTable, Coverage, DEFAULT_HORIZON, ExpectedInterval, Level, Observation,
    PoolState, Segment, State, Timestamp, Wanted, join_segments, threshold,
};
use proptest::prelude::*;

const START: i64 = 1_767_225_600_000;

fn second(seconds: i64) -> Timestamp {
    Timestamp::from_millis(START + seconds * 1000)
}

fn wanted(units: u32) -> Wanted {
    Wanted::new(units).unwrap()
}

/// Observations at growing times, some after gaps: (seconds since the one before, total, in use).
fn reports() -> impl Strategy<Value = Vec<(i64, u32, u32)>> {
    let step = prop_oneof![8 => 1_i64..=120, 1 => 121_i64..=100_000];
    prop::collection::vec((step, 0_u32..=20, 0_u32..=22), 1..120)
}

fn observe(reports: &[(i64, u32, u32)]) -> (PoolState, Vec<Segment>) {
    let mut now = 0;
    let mut pool: Option<PoolState> = None;
    let mut closed = Vec::new();
    for (step, total, in_use) in reports {
        now += step;
        let observation = Observation::counts(*total, *in_use);
        match &mut pool {
            None => {
                let interval = ExpectedInterval::default();
                pool = Some(PoolState::begin(second(now), observation, interval));
            }
            Some(pool) => {
                if let Change::Closed(segment) = pool.observe(second(now), observation) {
                    closed.push(segment);
                }
            }
        }
    }
    let pool = pool.unwrap();
    closed.push(pool.open_segment());
    (pool, closed)
}

/// A pool, its segments, and the same segments in pieces and in any order, some of them twice.
fn shuffled_pieces() -> impl Strategy<Value = (PoolState, Vec<Segment>, Vec<Segment>)> {
    reports().prop_flat_map(|reports| {
        let (pool, segments) = observe(&reports);
        let in_pieces = |segment: &Segment| {
            let Segment { started, last_seen, .. } = *segment;
            let ends = [
                Segment { last_seen: started, ..*segment },
                Segment { started: last_seen, ..*segment },
            ];
            [ends[0], ends[1], *segment]
        };
        let pieces: Vec<Segment> = segments.iter().flat_map(in_pieces).collect();
        (Just(pool), Just(segments), Just(pieces).prop_shuffle())
    })
}

fn states() -> impl Strategy<Value = State> {
    (any::<bool>(), 0.0..2000.0, 0.0..2000.0, 0.0..60.0, 0.0..60.0, 0_i64..2_000_000).prop_map(
        |(is_free, free, full, down, up, lasted)| State {
            free,
            full,
            down,
            up,
            since: second(-lasted),
            ..State::begin(second(0), is_free)
        },
    )
}

proptest! {
    #[test]
    fn every_answer_is_within_its_bounds(
        reports in reports(), units in 1_u32..30, age in -100_i64..100_000,
    ) {
        let (pool, _) = observe(&reports);
        let now = second(age + (pool.open_segment().last_seen.as_millis() - START) / 1000);
        let answer = pool.assess(wanted(units), now, &CorrectionTable::default());
        if let Some(estimate) = answer.estimate {
            let interval = estimate.interval;
            prop_assert!(0.0 <= interval.low && interval.high <= 1.0, "{estimate:?}");
            prop_assert!(interval.low <= estimate.probability, "{estimate:?}");
            prop_assert!(estimate.probability <= interval.high, "{estimate:?}");
        }
        let is_free = pool.open_segment().observation.is_free(wanted(units));
        prop_assert!(answer.level != Level::High || is_free == Some(true), "{answer:?}");
        let (level, probability) = pool.level(wanted(units), now, &CorrectionTable::default());
        prop_assert_eq!(level, answer.level);
        if let (Some(one), Some(other)) = (probability, answer.estimate) {
            prop_assert!((one - other.probability).abs() < 1e-12);
        }
    }

    #[test]
    fn stored_states_equal_a_fold_over_the_segments(reports in reports()) {
        let (pool, segments) = observe(&reports);
        let folded = PoolState::fold(segments, ExpectedInterval::default()).unwrap();
        prop_assert_eq!(folded.encode_states(), pool.encode_states());
        let decoded =
            PoolState::decode(pool.open_segment(), pool.interval(), &pool.encode_states());
        prop_assert_eq!(decoded.unwrap(), pool);
    }

    #[test]
    fn a_cut_at_any_time_changes_nothing(reports in reports(), cut in 1_i64..100_000) {
        let (pool, segments) = observe(&reports);
        let pieces = segments.iter().flat_map(|segment| {
            let at = segment.started.as_millis() + cut * 1000;
            let at = Timestamp::from_millis(at.min(segment.last_seen.as_millis()));
            [Segment { last_seen: at, ..*segment }, Segment { started: at, ..*segment }]
        });
        let folded = PoolState::fold(pieces, ExpectedInterval::default()).unwrap();
        prop_assert_eq!(folded, pool);
    }

    #[test]
    fn pieces_in_any_order_give_the_same_past((pool, segments, pieces) in shuffled_pieces()) {
        let joined = join_segments(pieces, ExpectedInterval::default());
        prop_assert_eq!(&joined, &segments);
        let folded = PoolState::fold(joined, ExpectedInterval::default()).unwrap();
        prop_assert_eq!(folded, pool);
    }

    #[test]
    fn a_span_of_the_source_is_as_good_as_reports(
        reports in reports(), pause in 1_i64..100_000, reported in 0_i64..50,
    ) {
        let (mut covered, _) = observe(&reports);
        let mut listed = covered.clone();
        let open = listed.open_segment();
        let at = |minute: i64| {
            Timestamp::from_millis(open.last_seen.as_millis() + pause * 1000 + minute * 60_000)
        };
        let mut closed = Vec::new();
        for minute in 0..=reported {
            if let Change::Closed(segment) = listed.observe(at(minute), open.observation) {
                closed.push(segment);
            }
        }
        let interval = ExpectedInterval::default();
        let span = Coverage { started: at(0), last_seen: at(reported), interval };
        prop_assert_eq!(covered.cover(&span), closed);
        prop_assert_eq!(covered, listed);
    }

    #[test]
    fn of_a_span_whose_reports_are_too_far_apart_only_its_ends_are_known(
        reports in reports(), hours in 1_i64..20,
    ) {
        let (mut pool, _) = observe(&reports);
        let open = pool.open_segment();
        let at = |hour: i64| Timestamp::from_millis(open.last_seen.as_millis() + hour * 3_600_000);
        let interval = ExpectedInterval::new(Duration::from_hours(1)).unwrap();
        let span = Coverage { started: at(1), last_seen: at(1 + hours), interval };
        prop_assert_eq!(pool.cover(&span).len(), 2);
        prop_assert_eq!(pool.open_segment(), Segment::once(at(1 + hours), open.observation));
        prop_assert_eq!(pool.interval(), ExpectedInterval::default());
    }

    #[test]
    fn an_observation_in_between_changes_nothing(
        state in states(), elapsed in 2_i64..=120, at in 1_i64..120, is_free: bool,
    ) {
        let interval = ExpectedInterval::default();
        let (mut once, mut twice) = (state, state);
        once.observe(second(elapsed), is_free, interval);
        twice.observe(second(at.min(elapsed - 1)), state.is_free, interval);
        twice.observe(second(elapsed), is_free, interval);
        prop_assert!((once.free - twice.free).abs() < 1e-9, "{once:?} {twice:?}");
        prop_assert!((once.full - twice.full).abs() < 1e-9, "{once:?} {twice:?}");
        prop_assert!((once.down - twice.down).abs() < 1e-9, "{once:?} {twice:?}");
        prop_assert_eq!((once.is_free, once.since), (twice.is_free, twice.since));
    }

    #[test]
    fn a_gap_is_neither_free_nor_full(state in states(), hours in 1_i64..200, is_free: bool) {
        let mut after = state;
        after.observe(second(hours * 3600), is_free, ExpectedInterval::default());
        let gap_minutes = 2.0;
        prop_assert!(after.observed() <= state.observed() + gap_minutes);
        prop_assert!(after.down <= state.down && after.up <= state.up, "no change was seen");
    }

    #[test]
    fn the_longer_a_state_has_lasted_the_longer_it_will(
        state in states(), longer in 1_i64..1_000_000, age in 0_i64..10_000,
    ) {
        let since = Timestamp::from_millis(state.since.as_millis() - longer * 1000);
        let older = State { since, ..state };
        let (young, old) = (
            state.probability(second(age), DEFAULT_HORIZON),
            older.probability(second(age), DEFAULT_HORIZON),
        );
        let lasts = if state.is_free { old >= young - 1e-12 } else { old <= young + 1e-12 };
        prop_assert!(lasts, "{young} became {old}");
    }

    #[test]
    fn a_probability_is_continuous_in_time(state in states(), age in 0_i64..1_000_000) {
        let at = |millis: i64| {
            let now = Timestamp::from_millis(second(age).as_millis() + millis);
            state.probability(now, DEFAULT_HORIZON)
        };
        prop_assert!((at(0) - at(100)).abs() < 1e-3);
        prop_assert!((at(0) - state.probability(second(age), Duration::from_secs(3601))).abs() < 1e-2);
    }

    #[test]
    fn between_two_thresholds_lies_what_lies_between_them(
        reports in reports(), units in 9_u32..12, total in 12_u32..20,
    ) {
        let (mut pool, _) = observe(&reports);
        let at = Timestamp::from_millis(pool.open_segment().last_seen.as_millis() + 1000);
        pool.observe(at, Observation::counts(total, 3));
        let p = |units| pool.probability(wanted(units), at, DEFAULT_HORIZON).unwrap();
        let (low, high) = (p(8).min(p(12)), p(8).max(p(12)));
        prop_assert!((low..=high).contains(&p(units)), "{low} {} {high}", p(units));
        prop_assert!(pool.assess(wanted(units), at, &CorrectionTable::default())
            .estimate.unwrap().is_interpolated);
    }

    #[test]
    fn the_largest_number_at_high_is_high_and_no_larger_threshold_is(reports in reports()) {
        let (pool, _) = observe(&reports);
        let table = CorrectionTable::default();
        let now = pool.open_segment().last_seen;
        let level = |units| pool.assess(units, now, &table).level;
        let largest = pool.largest_high(now, &table);
        prop_assert!(largest.is_none_or(|units| level(units) == Level::High));
        for index in 0..pool.threshold_count() {
            let units = threshold(index);
            prop_assert!(level(units) != Level::High || largest >= Some(units));
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let open = Segment::once(second(0), Observation::counts(8, 2));
        let read = PoolState::decode(open, ExpectedInterval::default(), &bytes);
        if let Ok(pool) = read {
            prop_assert!(pool.threshold_count() <= 24);
        }
    }
}

//! What holds for every history.
#![expect(clippy::unwrap_used, reason = "helpers of tests, outside #[test]")]

use availability::{
    Assessment, Fit, History, HistoryError, Level, Model, Observation, Parameters,
    ParametersBuilder, PoolKey, Segment, Timestamp, Wanted,
};
use proptest::prelude::*;

const MINUTE: i64 = 60_000;
const START: i64 = 1_700_000_000_000;
const TOTAL: u32 = 6;

/// Up to 60 runs of seconds to hours, some after a gap, ending at most a day and a half after START.
fn histories() -> impl Strategy<Value = Vec<Segment>> {
    let run = (1_i64..90 * MINUTE, prop_oneof![3 => Just(0), 1 => 0_i64..90 * MINUTE], 0..=TOTAL);
    prop::collection::vec(run, 1..60).prop_map(|runs| {
        let mut at = START;
        runs.into_iter()
            .map(|(length, gap, in_use)| {
                let start = at + gap;
                at = start + length;
                let (start, end) = (Timestamp::from_millis(start), Timestamp::from_millis(at));
                Segment::counts(start, end, TOTAL, in_use)
            })
            .collect()
    })
}

fn fit(segments: &[Segment], wanted: u32) -> Fit {
    thread_local!(static MODEL: Model = Model::new(Parameters::default()));
    let history = History::new(segments).unwrap();
    MODEL.with(|model| model.fit(history, Wanted::new(wanted).unwrap(), PoolKey::new(3)))
}

fn after(fit: &Fit, millis: i64) -> Assessment {
    fit.assess(Timestamp::from_millis(fit.anchor().unwrap().as_millis() + millis))
}

fn shifted(segments: &[Segment], by: i64) -> Vec<Segment> {
    let shift = |at: Timestamp| Timestamp::from_millis(at.as_millis() + by);
    let shift = |segment: &Segment| Segment {
        start: shift(segment.start),
        last_seen: shift(segment.last_seen),
        ..*segment
    };
    segments.iter().map(shift).collect()
}

fn split_in_two(segments: &[Segment]) -> Vec<Segment> {
    let halves = |segment: &Segment| {
        let (start, end) = (segment.start.as_millis(), segment.last_seen.as_millis());
        let middle = Timestamp::from_millis(i64::midpoint(start, end));
        if middle == segment.start {
            return vec![*segment];
        }
        let (first, second) =
            (Segment { last_seen: middle, ..*segment }, Segment { start: middle, ..*segment });
        vec![first, second]
    };
    segments.iter().flat_map(halves).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn probability_lies_within_its_interval_and_that_within_zero_and_one(
        segments in histories(), wanted in 1..=TOTAL + 1, age in 0..40 * MINUTE,
    ) {
        let found = after(&fit(&segments, wanted), age);
        prop_assert_eq!(found.estimate.is_none(), found.level == Level::Unknown);
        if let Some(estimate) = found.estimate {
            let ends = [0.0, estimate.low, estimate.probability, estimate.high, 1.0];
            prop_assert!(ends.is_sorted(), "{:?}", ends);
        }
        prop_assert!((0.0..=1.0).contains(&found.coverage));
    }

    #[test]
    fn sums_are_consistent(segments in histories(), wanted in 1..=TOTAL) {
        let sums = fit(&segments, wanted).sums().unwrap();
        prop_assert!(0.0 <= sums.free && sums.free <= sums.observed + 1e-9, "{:?}", sums);
    }

    #[test]
    fn level_keeps_the_promises_of_its_definition(
        segments in histories(), wanted in 1..=TOTAL + 1, age in 0..40 * MINUTE,
    ) {
        let found = after(&fit(&segments, wanted), age);
        if found.level == Level::High {
            let estimate = found.estimate.unwrap();
            prop_assert!(estimate.low >= 0.70 && found.coverage >= 0.25 && age <= 5 * MINUTE);
            prop_assert_eq!(found.can_fulfil_now, Some(true));
        }
        prop_assert_eq!(found.level == Level::Unknown, age > 30 * MINUTE);
        if wanted > TOTAL && age <= 30 * MINUTE {
            prop_assert_eq!(found.level, Level::Low);
        }
    }

    #[test]
    fn usual_share_and_state_never_rise_with_wanted_units(
        segments in histories(), wanted in 1..TOTAL,
    ) {
        let (fewer, more) = (fit(&segments, wanted), fit(&segments, wanted + 1));
        let share = |fit: &Fit| fit.nowcast().unwrap().usually_free;
        prop_assert!(share(&fewer) >= share(&more));
        let now = |fit: &Fit| after(fit, 0).can_fulfil_now.unwrap();
        prop_assert!(now(&fewer) >= now(&more));
    }

    #[test]
    fn probability_never_rises_from_units_that_are_free_to_units_that_are_not(
        segments in histories(), age in 0..30 * MINUTE,
    ) {
        let probabilities = |free: bool| {
            (1..=TOTAL)
                .map(|wanted| after(&fit(&segments, wanted), age))
                .filter(|found| found.can_fulfil_now == Some(free))
                .map(|found| found.estimate.unwrap().probability)
                .collect::<Vec<_>>()
        };
        let (free, taken) = (probabilities(true), probabilities(false));
        for (one, other) in free.iter().flat_map(|one| taken.iter().map(move |other| (one, other))) {
            prop_assert!(one >= other, "free {:?}, taken {:?}", free, taken);
        }
    }

    #[test]
    fn equal_input_gives_equal_bits(segments in histories(), wanted in 1..=TOTAL) {
        prop_assert_eq!(fit(&segments, wanted), fit(&segments, wanted));
    }

    #[test]
    fn splitting_segments_changes_nothing(segments in histories(), wanted in 1..=TOTAL) {
        prop_assert_eq!(fit(&segments, wanted), fit(&split_in_two(&segments), wanted));
    }

    #[test]
    fn what_is_older_than_the_window_changes_nothing(
        segments in histories(), wanted in 1..=TOTAL, older in histories(),
    ) {
        let long_before = shifted(&older, -30 * 24 * 60 * MINUTE);
        let with_older: Vec<_> = long_before.into_iter().chain(segments.clone()).collect();
        prop_assert_eq!(fit(&segments, wanted), fit(&with_older, wanted));
    }

    #[test]
    fn shifting_time_changes_nothing_but_the_draws_of_the_interval(
        segments in histories(), wanted in 1..=TOTAL, by in -1_000_000_000_i64..1_000_000_000,
    ) {
        let (one, other) = (fit(&segments, wanted), fit(&shifted(&segments, by), wanted));
        prop_assert_eq!(one.sums(), other.sums());
        prop_assert_eq!(one.nowcast(), other.nowcast());
        let probability = |fit| after(fit, MINUTE).estimate.unwrap().probability;
        prop_assert_eq!(probability(&one).to_bits(), probability(&other).to_bits());
    }

    #[test]
    fn a_gap_is_neither_free_nor_full(gap in 3..600_i64, in_use in 0..=TOTAL) {
        // Two hours of one value, with and without a hole of up to ten hours between them.
        let at = |minute| Timestamp::from_millis(START + minute * MINUTE);
        let holed = [
            Segment::counts(at(0), at(60), TOTAL, in_use),
            Segment::counts(at(60 + gap), at(120 + gap), TOTAL, in_use),
        ];
        let sums = fit(&holed, 1).sums().unwrap();
        let expected = if in_use < TOTAL { sums.observed } else { 0.0 };
        prop_assert_eq!(sums.free.to_bits(), f64::to_bits(expected));
        prop_assert!(sums.observed <= 122.0, "the hole counts as observed: {:?}", sums);
    }

    #[test]
    fn a_change_across_a_gap_is_not_counted(gap in 0..10 * MINUTE) {
        let at = |millis| Timestamp::from_millis(START + millis);
        let hour = 60 * MINUTE;
        let segments = [
            Segment::counts(at(0), at(hour), TOTAL, 0),
            Segment::counts(at(hour + gap), at(2 * hour + gap), TOTAL, TOTAL),
        ];
        let seen = fit(&segments, 1).sums().unwrap().became_full > 0.0;
        prop_assert_eq!(seen, gap <= 2 * MINUTE, "an observation speaks for two minutes");
    }

    #[test]
    fn counts_and_their_answer_as_a_boolean_fit_the_same(segments in histories()) {
        let booleans: Vec<Segment> = segments
            .iter()
            .map(|segment| {
                let observation = Observation::Available(segment.observation.is_free(Wanted::ONE));
                Segment { observation, ..*segment }
            })
            .collect();
        let (counts, booleans) = (after(&fit(&segments, 1), 0), after(&fit(&booleans, 1), 0));
        prop_assert_eq!(counts.estimate, booleans.estimate);
        prop_assert_eq!(counts.level, booleans.level);
    }

    #[test]
    fn largest_high_is_high_and_all_above_are_not(segments in histories()) {
        let model = Model::new(Parameters::default());
        let history = History::new(&segments).unwrap();
        let now = history.last().unwrap().last_seen;
        let largest = model.fit_largest_high(history, PoolKey::new(3), now);
        let by_trying = (1..=TOTAL).rev().find(|wanted| {
            after(&fit(&segments, *wanted), 0).level == Level::High
        });
        prop_assert_eq!(largest.map(|fit| fit.wanted().get()), by_trying);
    }

    #[test]
    fn silence_moves_probability_towards_the_usual_share(
        segments in histories(), wanted in 1..=TOTAL,
    ) {
        let fit = fit(&segments, wanted);
        let usual = fit.nowcast().unwrap().usually_free;
        let distance = |age| (after(&fit, age).estimate.unwrap().probability - usual).abs();
        prop_assert!(distance(0) >= distance(MINUTE) && distance(MINUTE) >= distance(30 * MINUTE));
    }
}

#[test]
fn more_units_can_be_likelier_when_fewer_flap() {
    // For twelve hours one unit comes and goes every six minutes; since then five of six are free.
    let at = |minute| Timestamp::from_millis(START + minute * MINUTE);
    let mut segments: Vec<Segment> = (0..120)
        .map(|run| {
            let in_use = if run % 2 == 0 { TOTAL } else { TOTAL - 1 };
            Segment::counts(at(run * 6), at(run * 6 + 6), TOTAL, in_use)
        })
        .collect();
    segments.push(Segment::counts(at(720), at(840), TOTAL, 1));
    let probability = |wanted| after(&fit(&segments, wanted), 0).estimate.unwrap().probability;
    assert!(probability(2) > probability(1), "{} and {}", probability(2), probability(1));
}

#[test]
fn boolean_source_says_nothing_of_two_units() {
    let at = |hour: i64| Timestamp::from_millis(START + hour * 60 * MINUTE);
    let segments = [Segment::available(at(0), at(24), true)];
    assert_eq!(after(&fit(&segments, 1), 0).level, Level::High);
    let two = after(&fit(&segments, 2), 0);
    assert_eq!(two.level, Level::Medium);
    assert_eq!(two.can_fulfil_now, None);
}

#[test]
fn disorder_is_refused() {
    let at = Timestamp::from_millis;
    let table = [
        (vec![(5, 4)], HistoryError::Backwards { index: 0 }),
        (vec![(0, 5), (4, 6)], HistoryError::Overlap { index: 1 }),
        (vec![(0, 0), (0, 6)], HistoryError::Overlap { index: 1 }),
        (vec![(3, 5), (5, 6), (0, 1)], HistoryError::Overlap { index: 2 }),
    ];
    for (spans, expected) in table {
        let segments: Vec<_> =
            spans.iter().map(|(start, end)| Segment::counts(at(*start), at(*end), 1, 0)).collect();
        assert_eq!(History::new(&segments).err(), Some(expected), "{spans:?}");
    }
}

#[test]
fn parameters_out_of_range_are_refused_by_name() {
    use std::time::Duration;
    let default = ParametersBuilder::default();
    let (zero, century) = (Duration::ZERO, Duration::from_hours(24 * 36_525));
    for bad in [zero, century] {
        let table = [
            ("window", ParametersBuilder { window: bad, ..default }),
            ("half_life", ParametersBuilder { half_life: bad, ..default }),
            ("horizon", ParametersBuilder { horizon: bad, ..default }),
            ("expected_interval", ParametersBuilder { expected_interval: bad, ..default }),
        ];
        for (name, builder) in table {
            assert_eq!(builder.build().unwrap_err().name, name);
        }
    }
    assert_eq!(default.build(), Ok(Parameters::default()));
}

//! The worked example of the design, number by number: a pool of eight units over a day.
//!
//! The figures follow the formulas exactly. A calculation that weighs each five-minute bucket at its
//! recent edge instead comes out higher, by half a percent in O and F (445.6, 345.2) and by one in U and
//! D (.756, .815), with τ = 218 min and the same P in every digit shown.
#![expect(clippy::unwrap_used, reason = "helpers of tests, outside #[test]")]
#![expect(clippy::cast_possible_truncation, reason = "minutes of a day as milliseconds")]

use std::time::Duration;

use availability::{
    Assessment, Confidence, Fit, Freshness, History, Level, Model, Parameters, ParametersBuilder,
    PoolKey, Reason, Segment, Timestamp, Wanted,
};

const NOW: i64 = 1_767_225_600_000;

fn hours_ago(hours: f64) -> Timestamp {
    Timestamp::from_millis(NOW - (hours * 3_600_000.0).round() as i64)
}

fn minutes_later(minutes: i64) -> Timestamp {
    Timestamp::from_millis(NOW + minutes * 60_000)
}

/// Hours ago → in use: 24–15: 5, 15–12: 8, 12–9.5: missing, 9.5–4: 6, 4–2.5: 8, 2.5–0: 6. The run
/// before the gap was last seen two minutes before its end, for which it still speaks.
fn day() -> Vec<Segment> {
    let two_minutes = 2.0 / 60.0;
    vec![
        Segment::counts(hours_ago(24.0), hours_ago(15.0), 8, 5),
        Segment::counts(hours_ago(15.0), hours_ago(12.0 + two_minutes), 8, 8),
        Segment::counts(hours_ago(9.5), hours_ago(4.0), 8, 6),
        Segment::counts(hours_ago(4.0), hours_ago(2.5), 8, 8),
        Segment::counts(hours_ago(2.5), hours_ago(0.0), 8, 6),
    ]
}

fn fit_with(parameters: Parameters, segments: &[Segment], wanted: u32) -> Fit {
    let history = History::new(segments).unwrap();
    Model::new(parameters).fit(history, Wanted::new(wanted).unwrap(), PoolKey::new(1))
}

fn fit(wanted: u32) -> Fit {
    fit_with(Parameters::default(), &day(), wanted)
}

fn probability(assessment: &Assessment) -> f64 {
    assessment.estimate.expect("a level other than UNKNOWN has an estimate").probability
}

#[track_caller]
fn assert_near(name: &str, found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{name} is {found}, not {expected}±{tolerance}");
}

#[test]
fn sums_of_the_window_are_those_of_the_formulas() {
    for wanted in [1, 2] {
        let sums = fit(wanted).sums().unwrap();
        assert_near("O", sums.observed, 443.433, 0.001);
        assert_near("C", sums.coverage, 0.911, 0.000_5);
        assert_near("F", sums.free, 343.498, 0.001);
        assert_near("U", sums.became_free, 0.749, 0.000_5);
        assert_near("D", sums.became_full, 0.807, 0.000_5);
    }
}

#[test]
fn sums_of_the_window_differ_from_bucketed_ones_by_the_width_of_a_bucket_only() {
    let sums = fit(1).sums().unwrap();
    let growth_over = |minutes: f64| 2.0_f64.powf(minutes / 360.0);
    assert_near("O", sums.observed * growth_over(2.5), 445.6, 0.1);
    assert_near("F", sums.free * growth_over(2.5), 345.2, 0.1);
    assert_near("U", sums.became_free * growth_over(5.0), 0.756, 0.000_6);
    assert_near("D", sums.became_full * growth_over(5.0), 0.815, 0.000_6);
}

#[test]
fn chain_of_the_example() {
    let nowcast = fit(1).nowcast().unwrap();
    assert_near("π", nowcast.usually_free, 0.774, 0.000_5);
    assert_near("τ", nowcast.relaxation_minutes, 218.0, 0.7);
    let hour = Duration::from_hours(1);
    assert_near("κ", nowcast.memory(Duration::ZERO, hour), 0.874, 0.001);
    assert_near("κ after 20 min", nowcast.memory(Duration::from_mins(20), hour), 0.797, 0.001_5);
    assert_near("κ over 4 h", nowcast.memory(Duration::ZERO, 4 * hour), 0.606, 0.001_5);
}

#[test]
fn one_or_two_units_are_high() {
    for wanted in [1, 2] {
        let found = fit(wanted).assess(minutes_later(0));
        assert_eq!(found.level, Level::High);
        assert_near("P", probability(&found), 0.972, 0.000_5);
        assert_eq!(found.can_fulfil_now, Some(true));
        assert_eq!(found.freshness, Freshness::Fresh);
        assert_eq!(found.confidence, Confidence::High);
        assert_eq!(found.free.unwrap().get(), 2);
        assert_eq!(found.total.unwrap().get(), 8);
        assert_eq!(found.reasons.iter().collect::<Vec<_>>(), [Reason::UsuallyFree]);
    }
}

#[test]
fn interval_is_that_of_the_design_up_to_the_noise_of_200_replicates() {
    let segments = day();
    let model = Model::new(Parameters::default());
    let (mut lows, mut highs) = (0.0, 0.0);
    for key in 0..100 {
        let fit = model.fit(History::new(&segments).unwrap(), Wanted::ONE, PoolKey::new(key));
        let estimate = fit.assess(minutes_later(0)).estimate.unwrap();
        lows += estimate.low / 100.0;
        highs += estimate.high / 100.0;
    }
    assert_near("mean lo", lows, 0.933, 0.01);
    assert_near("mean hi", highs, 0.989, 0.01);
}

#[test]
fn three_units_are_low() {
    let fit = fit(3);
    assert_near("π", fit.nowcast().unwrap().usually_free, 0.135, 0.000_5);
    let found = fit.assess(minutes_later(0));
    assert_near("P", probability(&found), 0.009, 0.000_5);
    assert_eq!(found.level, Level::Low);
    assert_eq!(found.can_fulfil_now, Some(false));
    assert!(found.reasons.contains(Reason::FullNow));
    assert!(found.reasons.contains(Reason::UsuallyFull));
}

#[test]
fn nine_units_exceed_the_pool() {
    let found = fit(9).assess(minutes_later(0));
    assert_eq!(found.level, Level::Low);
    assert_near("P", probability(&found), 0.0, 0.0);
    assert_eq!(found.reasons.iter().collect::<Vec<_>>(), [Reason::ExceedsPool]);
}

#[test]
fn twenty_silent_minutes_make_it_stale_and_medium() {
    let found = fit(1).assess(minutes_later(20));
    assert_near("P", probability(&found), 0.954, 0.000_5);
    assert_eq!(found.level, Level::Medium);
    assert_eq!(found.freshness, Freshness::Stale);
    assert!(found.reasons.contains(Reason::StaleSource));
}

#[test]
fn after_thirty_silent_minutes_nothing_is_said() {
    let fit = fit(1);
    assert_eq!(fit.assess(minutes_later(30)).level, Level::Medium);
    let found = fit.assess(minutes_later(31));
    assert_eq!(found.level, Level::Unknown);
    assert_eq!(found.freshness, Freshness::Unknown);
    assert_eq!(found.estimate, None);
    assert_eq!(found.can_fulfil_now, None);
    assert_eq!(found.free.unwrap().get(), 2, "what was last seen is still shown with its age");
}

#[test]
fn four_hours_ahead_are_less_certain_than_one() {
    let horizon = Duration::from_hours(4);
    let parameters = ParametersBuilder { horizon, ..Default::default() }.build().unwrap();
    let found = fit_with(parameters, &day(), 1).assess(minutes_later(0));
    assert_near("P", probability(&found), 0.911, 0.000_5);
}

#[test]
fn ten_free_minutes_are_too_thin_for_high() {
    let segments = [Segment::counts(hours_ago(1.0 / 6.0), hours_ago(0.0), 8, 0)];
    let found = fit_with(Parameters::default(), &segments, 1).assess(minutes_later(0));
    assert_near("P", probability(&found), 0.996, 0.000_5);
    assert_near("C", found.coverage, 0.020, 0.000_5);
    assert_eq!(found.level, Level::Medium);
    assert_eq!(found.confidence, Confidence::Low);
    assert!(found.reasons.contains(Reason::ThinHistory));
}

#[test]
fn a_pool_that_nobody_looked_at_is_unknown() {
    let found = fit_with(Parameters::default(), &[], 1).assess(minutes_later(0));
    assert_eq!(found.level, Level::Unknown);
    assert_eq!(found.reasons.iter().collect::<Vec<_>>(), [Reason::NoData]);
}

#[test]
fn two_units_are_the_most_that_is_high() {
    let segments = day();
    let history = History::new(&segments).unwrap();
    let model = Model::new(Parameters::default());
    let largest = |now| model.fit_largest_high(history, PoolKey::new(1), now);
    assert_eq!(largest(minutes_later(0)).unwrap().wanted().get(), 2);
    assert_eq!(largest(minutes_later(6)), None, "nothing is HIGH on stale data");
}

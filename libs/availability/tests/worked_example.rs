//! The worked example of the definition, number by number: a pool of eight units over a day, reported
//! each minute.
#![expect(clippy::unwrap_used, reason = "helpers of tests, outside #[test]")]
#![expect(clippy::cast_possible_truncation, reason = "minutes of a day as milliseconds")]

use std::time::Duration;

use availability::{
    Assessment, CorrectionTable, ExpectedInterval, Level, Observation, PoolState, Reason, State,
    Timestamp, Wanted,
};

const NOW: i64 = 1_767_225_600_000;
const HOUR: Duration = Duration::from_hours(1);

fn hours_ago(hours: f64) -> Timestamp {
    Timestamp::from_millis(NOW - (hours * 3_600_000.0).round() as i64)
}

fn minutes_later(minutes: i64) -> Timestamp {
    Timestamp::from_millis(NOW + minutes * 60_000)
}

fn wanted(units: u32) -> Wanted {
    Wanted::new(units).unwrap()
}

/// Hours ago → in use: 24–15: 5, 15–12: 8, 12–9.5: missing, 9.5–4: 6, 4–2.5: 8, 2.5–0: 6.
fn day() -> PoolState {
    let minute = 1.0 / 60.0;
    let spans = [(24.0, 15.0, 5), (15.0, 12.0, 8), (9.5, 4.0, 6), (4.0, 2.5, 8), (2.5, -minute, 6)];
    let mut observations = Vec::new();
    for (from, to, in_use) in spans {
        let mut at = hours_ago(from);
        while at < hours_ago(to) {
            observations.push((at, Observation::counts(8, in_use)));
            at = Timestamp::from_millis(at.as_millis() + 60_000);
        }
    }
    let (first, rest) = observations.split_first().unwrap();
    let mut pool = PoolState::begin(first.0, first.1, ExpectedInterval::default());
    for (at, observation) in rest {
        pool.observe(*at, *observation);
    }
    pool
}

fn assess(pool: &PoolState, units: u32, at: Timestamp) -> Assessment {
    pool.assess(wanted(units), at, &CorrectionTable::default())
}

#[track_caller]
fn assert_printed(name: &str, found: f64, printed: &str) {
    let digits = printed.split_once('.').unwrap().1.len();
    let found = format!("{found:.digits$}");
    assert_eq!(found.trim_start_matches('0'), printed.trim_start_matches('0'), "{name}");
}

#[track_caller]
fn assert_sums(state: &State, free: &str, full: &str, down: &str, up: &str) {
    assert_printed("free", state.free, free);
    assert_printed("full", state.full, full);
    assert_printed("down", state.down, down);
    assert_printed("up", state.up, up);
}

#[track_caller]
fn assert_estimate(pool: &PoolState, units: u32, at: Timestamp, printed: [&str; 3]) {
    let estimate = assess(pool, units, at).estimate.unwrap();
    assert_printed("P", estimate.probability, printed[0]);
    assert_printed("low", estimate.interval.low, printed[1]);
    assert_printed("high", estimate.interval.high, printed[2]);
}

#[test]
fn one_and_two_units_are_probably_free() {
    let pool = day();
    for units in [1, 2] {
        let state = pool.state(units as usize - 1);
        assert_sums(&state, "724.9", "204.6", "1.5393", "0.9303");
        assert_printed("leaving free", state.rates().free, ".002806");
        assert_printed("leaving full", state.rates().full, ".005019");
        assert_eq!(state.observed_at.since(state.since), Duration::from_mins(150));
        assert_estimate(&pool, units, hours_ago(0.0), [".9132", ".8587", ".9691"]);
        assert_estimate(&pool, units, minutes_later(20), [".8754", ".7835", ".9593"]);
        let at = |horizon| pool.probability(wanted(units), hours_ago(0.0), horizon).unwrap();
        assert_printed("P of 15 min", at(HOUR / 4), ".9728");
        assert_printed("P of 4 h", at(HOUR * 4), ".8159");
    }
    assert_eq!(assess(&pool, 1, hours_ago(0.0)).level, Level::High);
    assert_eq!(assess(&pool, 1, minutes_later(20)).level, Level::Medium, "not on time");
}

#[test]
fn three_units_are_probably_not() {
    let pool = day();
    let state = pool.state(2);
    assert_sums(&state, "308.3", "621.1", ".6484", "0.0000");
    assert_eq!(state.observed_at.since(state.since), Duration::from_hours(15));
    assert_estimate(&pool, 3, hours_ago(0.0), [".0295", ".0049", ".0444"]);
    let answer = assess(&pool, 3, hours_ago(0.0));
    assert_eq!((answer.level, answer.can_fulfil_now), (Level::Low, Some(false)));
}

#[test]
fn ten_minutes_of_history_are_thin() {
    let free = Observation::counts(8, 0);
    let mut pool = PoolState::begin(hours_ago(1.0 / 6.0), free, ExpectedInterval::default());
    for minute in -9..=0 {
        pool.observe(minutes_later(minute), free);
    }
    assert_estimate(&pool, 1, hours_ago(0.0), [".8120", ".6155", ".9819"]);
    let answer = assess(&pool, 1, hours_ago(0.0));
    assert_eq!(answer.level, Level::Medium);
    assert!(answer.reasons.contains(Reason::ThinHistory), "{:?}", answer.reasons);
}

#[test]
fn more_units_than_there_are_cannot_be_had() {
    let answer = assess(&day(), 9, hours_ago(0.0));
    assert_eq!((answer.level, answer.can_fulfil_now), (Level::Low, Some(false)));
    assert!(answer.reasons.contains(Reason::ExceedsPool), "{:?}", answer.reasons);
}

//! The definition of availability, written a second time and as plainly as it can be: sums over all
//! reports, no states.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use hardware_api::Availability;

/// Minutes: what a report of a source speaks for that reports every ten minutes, and the horizon.
const SPEAKS_FOR: f64 = 20.0;
const HORIZON: f64 = 60.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Counts { total: u32, free: u32 },
    Available(bool),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    pub(super) at: DateTime<Utc>,
    pub(super) seen: Seen,
}

#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) level: Availability,
    pub(super) probability: Option<f64>,
    pub(super) interval: Option<(f64, f64)>,
    pub(super) free: Option<u32>,
    pub(super) total: Option<u32>,
    pub(super) can_fulfil_now: Option<bool>,
    pub(super) since_ms: Option<i64>,
    pub(super) observed_ms: i64,
    pub(super) is_interpolated: bool,
    pub(super) reasons: BTreeSet<&'static str>,
    pub(super) source: &'static str,
}

fn minutes(later: DateTime<Utc>, earlier: DateTime<Utc>) -> f64 {
    (later - earlier).as_seconds_f64() / 60.0
}

fn decayed(age: f64) -> f64 {
    (-std::f64::consts::LN_2 / 1440.0 * age).exp()
}

/// ∫ of the weight over ages from `newer` to `older`.
fn decayed_minutes(newer: f64, older: f64) -> f64 {
    1440.0 / std::f64::consts::LN_2 * (decayed(newer) - decayed(older))
}

/// What the reports say of one threshold at the last of them.
struct Past {
    is_free: bool,
    since: DateTime<Utc>,
    at: DateTime<Utc>,
    free: f64,
    full: f64,
    down: f64,
    up: f64,
}

fn past(reports: &[Report], is_free: impl Fn(Seen) -> bool) -> Past {
    let last = reports.last().expect("a report");
    let mut past = Past {
        is_free: is_free(last.seen),
        since: reports[0].at,
        at: last.at,
        free: 0.0,
        full: 0.0,
        down: 0.0,
        up: 0.0,
    };
    for pair in reports.windows(2) {
        let [one, next] = pair else { unreachable!("two") };
        let (older, newer) = (minutes(last.at, one.at), minutes(last.at, next.at));
        let observed = (older - newer).min(SPEAKS_FOR);
        let sum = if is_free(one.seen) { &mut past.free } else { &mut past.full };
        *sum += decayed_minutes(older - observed, older);
        if is_free(one.seen) != is_free(next.seen) {
            past.since = next.at;
            if older - newer <= SPEAKS_FOR {
                let changes = if is_free(one.seen) { &mut past.down } else { &mut past.up };
                *changes += decayed(newer);
            }
        }
    }
    past
}

fn probability(past: &Past, now: DateTime<Utc>, rate_free: f64, rate_full: f64) -> f64 {
    let (leave, back) = if past.is_free { (rate_free, rate_full) } else { (rate_full, rate_free) };
    let age = minutes(now, past.at).max(0.0);
    let h = 1.0 / leave + minutes(past.at, past.since);
    let stay = h * h / ((h + age) * (h + age + HORIZON));
    let z = 3.0 * (leave + back) * (HORIZON / 2.0 + age);
    let returned = back / (leave + back) * (1.0 - (1.0 - (-z).exp()) / z);
    let q = stay + (1.0 - stay) * returned;
    if past.is_free { q } else { 1.0 - q }
}

/// Wilson and Hilferty's point of Gamma(shape, rate).
fn gamma_point(shape: f64, rate: f64, z: f64) -> f64 {
    shape / rate * (1.0 - 1.0 / (9.0 * shape) + z / (3.0 * shape.sqrt())).powi(3)
}

/// P and its interval.
fn estimate(past: &Past, now: DateTime<Utc>) -> [f64; 3] {
    let (down, free) = (past.down + 1.0, past.free + 180.0);
    let (up, full) = (past.up + 1.0, past.full + 180.0);
    let z = 1.28155;
    [
        probability(past, now, down / free, up / full),
        probability(past, now, gamma_point(down, free, z), gamma_point(up, full, -z)),
        probability(past, now, gamma_point(down, free, -z), gamma_point(up, full, z)),
    ]
}

const THRESHOLDS: [u32; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32];

fn thresholds(total: Option<u32>) -> Vec<u32> {
    THRESHOLDS.into_iter().filter(|it| *it <= total.unwrap_or(1)).collect()
}

/// The numbers of units that are followed of the source that speaks.
pub(super) fn numbers(reports: &BTreeMap<&'static str, Vec<Report>>) -> Vec<u32> {
    let counting = reports.get("counter").and_then(|reports| reports.last());
    thresholds(counting.and_then(|report| match report.seen {
        Seen::Counts { total, .. } => Some(total),
        Seen::Available(_) => None,
    }))
}

fn of_source(source: &'static str, reports: &[Report], units: u32, now: DateTime<Utc>) -> Expected {
    let last = reports.last().expect("a report");
    // A pool whose total changed would need more; these do not.
    let (free, total) = match last.seen {
        Seen::Counts { total, free } => (Some(free), Some(total)),
        Seen::Available(_) => (None, None),
    };
    let mut expected = Expected {
        level: Availability::Low,
        probability: None,
        interval: None,
        free,
        total,
        can_fulfil_now: Some(false),
        since_ms: None,
        observed_ms: last.at.timestamp_millis(),
        is_interpolated: false,
        reasons: BTreeSet::new(),
        source,
    };
    if total.is_some_and(|total| units > total) {
        expected.probability = Some(0.0);
        expected.interval = Some((0.0, 0.0));
        expected.reasons.insert("exceeds_pool");
        return expected;
    }
    let is_free_for = |units: u32| {
        move |seen: Seen| match seen {
            Seen::Counts { free, .. } => free >= units,
            Seen::Available(is_available) => is_available,
        }
    };
    if total.is_none() && units > 1 {
        let one = of_source(source, reports, 1, now);
        let is_free = one.can_fulfil_now == Some(true);
        expected.level =
            if is_free { Availability::Medium } else { one.level.min(Availability::Medium) };
        expected.can_fulfil_now = (!is_free).then_some(false);
        expected.reasons.insert("units_unknown");
        if !is_free {
            expected.reasons.insert("full_now");
        }
        return expected;
    }
    let known = thresholds(total);
    let lower = known.iter().rev().find(|it| **it <= units).copied().expect("1 at least");
    let of_lower = past(reports, is_free_for(lower));
    let low = estimate(&of_lower, now);
    let values = if lower == units {
        low
    } else {
        expected.is_interpolated = true;
        let next = known.iter().find(|it| **it > units);
        let (beyond, high) = match (next, total) {
            (Some(next), _) => (*next, estimate(&past(reports, is_free_for(*next)), now)),
            (None, Some(total)) => (total + 1, [0.0; 3]),
            (None, None) => unreachable!("only 1 is known, and more were answered"),
        };
        let share = f64::from(units - lower) / f64::from(beyond - lower);
        [0, 1, 2].map(|i| low[i] * (1.0 - share) + high[i] * share)
    };
    let is_free = is_free_for(units)(last.seen);
    let observed = of_lower.free + of_lower.full;
    let usual = (of_lower.free + 7.5) / (observed + 15.0);
    expected.probability = Some(values[0]);
    expected.interval = Some((values[1], values[2]));
    expected.can_fulfil_now = Some(is_free);
    expected.since_ms = Some(of_lower.since.timestamp_millis());
    let is_thin = observed < 120.0;
    expected.level = if values[0] < 0.4 {
        Availability::Low
    } else if is_free && values[0] >= 0.8 && !is_thin {
        Availability::High
    } else {
        Availability::Medium
    };
    for (code, applies) in [
        ("full_now", !is_free),
        ("usually_free", usual >= 0.8),
        ("usually_full", usual < 0.4),
        ("thin_history", is_thin),
        ("just_changed", minutes(now, of_lower.since) < 10.0),
    ] {
        if applies {
            expected.reasons.insert(code);
        }
    }
    expected
}

/// What is said of a pool. Every source is on time: its last report is one of now.
pub(super) fn expect(
    reports: &BTreeMap<&'static str, Vec<Report>>,
    units: u32,
    now: DateTime<Utc>,
) -> Expected {
    let said: Vec<Expected> =
        reports.iter().map(|(source, reports)| of_source(source, reports, units, now)).collect();
    let counting = said.iter().find(|it| it.total.is_some());
    let mut chosen = counting.or(said.first()).expect("a source").clone();
    for other in &said {
        let levels = [chosen.level, other.level];
        let are_opposite =
            levels.contains(&Availability::High) && levels.contains(&Availability::Low);
        let both = chosen.can_fulfil_now.zip(other.can_fulfil_now);
        if are_opposite || both.is_some_and(|(one, other)| one != other) {
            chosen.reasons.insert("sources_disagree");
        }
    }
    chosen
}

pub(super) type Row = (DateTime<Utc>, DateTime<Utc>, Option<u32>, Option<u32>, bool);

/// The spans in which the reports said the same, none later after the one before than it spoke for.
pub(super) fn segments(reports: &[Report]) -> Vec<Row> {
    let mut segments: Vec<(Report, DateTime<Utc>)> = Vec::new();
    for report in reports {
        match segments.last_mut() {
            Some((first, last))
                if first.seen == report.seen && minutes(report.at, *last) <= SPEAKS_FOR =>
            {
                *last = report.at;
            }
            _ => segments.push((*report, report.at)),
        }
    }
    let row = |(first, last): (Report, DateTime<Utc>)| match first.seen {
        Seen::Counts { total, free } => (first.at, last, Some(total), Some(free), free > 0),
        Seen::Available(is_available) => (first.at, last, None, None, is_available),
    };
    segments.into_iter().map(row).collect()
}

//! The answer to a batch: what became of its observations, and what its sender should know.

use std::collections::BTreeSet;

use availability::{Observation, Segment, Timestamp};
use chrono::{DateTime, SecondsFormat};
use hardware_api::{ObservationSummary, ObservationWarning};

use super::{Batch, Item, Outcome, Received};
use crate::listed::Listed;

/// How many names that no row shows a warning mentions.
const MAX_NAMES: usize = 3;

/// What the store did with a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// What became of each observation, in the order of the batch.
    pub outcomes: Vec<Outcome>,
    /// Pools of which an observation came after a gap.
    pub pools_with_gap: u32,
    /// Pools that the batch did not list, as they are no longer there.
    pub retired: u32,
    /// Whether the batch spoke of pools that it does not list, and was not believed, as some of its
    /// observations were refused.
    pub is_incomplete: bool,
}

/// A kind of warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warning {
    /// Observations that got the time of arrival.
    NoObservedAt,
    /// Pools that were silent for longer than the declared interval allows.
    SlowerThanDeclared,
    /// Observations so old that no level follows from them.
    TooOld,
    /// Observations of hardware that no row of the list shows.
    Unlisted,
    /// Observations were refused in a batch that speaks of pools that it does not list.
    Incomplete,
}

impl Warning {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::NoObservedAt,
        Self::SlowerThanDeclared,
        Self::TooOld,
        Self::Unlisted,
        Self::Incomplete,
    ];

    /// Its stable name.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoObservedAt => "no_observed_at",
            Self::SlowerThanDeclared => "slower_than_declared",
            Self::TooOld => "too_old",
            Self::Unlisted => "unlisted",
            Self::Incomplete => "incomplete",
        }
    }
}

/// Puts the answer together for a batch that arrived at `arrived`. Without `listed` nothing is known
/// of the list yet, and no warning is about it.
#[must_use]
pub fn summarize(
    received: Received,
    recorded: &Recorded,
    arrived: Timestamp,
    listed: Option<&Listed>,
) -> ObservationSummary {
    let Received { batch, mut refusals, undated } = received;
    let mut summary = ObservationSummary { retired: recorded.retired, ..Default::default() };
    let mut taken = Vec::new();
    for (item, outcome) in batch.items.iter().zip(&recorded.outcomes) {
        match outcome {
            Outcome::Accepted => summary.accepted += 1,
            Outcome::Unchanged => summary.unchanged += 1,
            Outcome::Duplicate => summary.duplicates += 1,
            Outcome::Late => summary.late += 1,
            Outcome::TooOld => {
                refusals.add(item.index, Warning::TooOld.code(), describe_too_old(item));
            }
            Outcome::Contradicts(known) => {
                refusals.add(item.index, "contradicts", describe_contradiction(item, known));
            }
        }
        if matches!(outcome, Outcome::Accepted | Outcome::Unchanged | Outcome::Late) {
            taken.push(item);
        }
    }
    let warnings = [
        warn_of_missing_time(undated),
        warn_of_slow_pools(&batch, recorded.pools_with_gap),
        warn_of_old_observations(&batch, &taken, arrived),
        listed.and_then(|listed| warn_of_unlisted(&taken, listed)),
        warn_of_incomplete_batch(recorded.is_incomplete, refusals.total()),
    ];
    summary.warnings = warnings.into_iter().flatten().collect();
    summary.refused_total = refusals.total();
    summary.refused = refusals.into_listed();
    summary
}

fn describe_contradiction(item: &Item, known: &Segment) -> String {
    let Item { index, pool, at, observation } = item;
    format!(
        "observations[{index}]: pool {pool} is known to have been {} from {} to {}, found {} at {}",
        show_observation(known.observation),
        show_time(known.started),
        show_time(known.last_seen),
        show_observation(*observation),
        show_time(*at)
    )
}

fn describe_too_old(Item { index, pool, at, .. }: &Item) -> String {
    format!(
        "observations[{index}]: pool {pool} was seen at {}, which is longer ago than HISTORY_RETENTION, \
         for which history is kept",
        show_time(*at)
    )
}

fn warn_of_missing_time(undated: u32) -> Option<ObservationWarning> {
    warn(Warning::NoObservedAt, undated, || {
        "observations without observed_at got the time of arrival, so the same batch sent again \
         counts as further observations; give observed_at, for each or for the batch"
            .to_owned()
    })
}

fn warn_of_slow_pools(batch: &Batch, pools: u32) -> Option<ObservationWarning> {
    warn(Warning::SlowerThanDeclared, pools, || {
        let gap = humantime::format_duration(batch.interval.speaks_for());
        let interval = batch.interval.get().as_secs();
        format!(
            "pools were not reported for more than {gap}, which is a gap with expected_interval_s \
             {interval}; report more often, or give the interval as it is"
        )
    })
}

fn warn_of_old_observations(
    batch: &Batch,
    taken: &[&Item],
    arrived: Timestamp,
) -> Option<ObservationWarning> {
    let known_for = batch.interval.known_for();
    let count = taken.iter().filter(|item| arrived.since(item.at) > known_for).count();
    warn(Warning::TooOld, to_u32(count), || {
        let age = humantime::format_duration(known_for);
        format!("observations older than {age} are kept, but no level follows from them alone")
    })
}

fn warn_of_incomplete_batch(is_incomplete: bool, refused: u32) -> Option<ObservationWarning> {
    warn(Warning::Incomplete, if is_incomplete { refused } else { 0 }, || {
        "observations were refused, so nothing was concluded about pools that the batch does not \
         list; correct them, and send the batch again"
            .to_owned()
    })
}

fn warn_of_unlisted(taken: &[&Item], listed: &Listed) -> Option<ObservationWarning> {
    let is_unlisted = |item: &&&Item| !listed.contains(&item.pool.provider, &item.pool.name);
    let unlisted: Vec<&&Item> = taken.iter().filter(is_unlisted).collect();
    warn(Warning::Unlisted, to_u32(unlisted.len()), || {
        let names: BTreeSet<(&str, &str)> =
            unlisted.iter().map(|seen| (&*seen.pool.provider, &*seen.pool.name)).collect();
        let names = names.iter().map(|(provider, name)| format!("{provider} {name}"));
        let names: Vec<String> = names.take(MAX_NAMES).collect();
        format!(
            "no row of the list shows, for example, {}; the observations are kept; add rows to the \
             table hardware to see them",
            names.join(", ")
        )
    })
}

fn warn(
    warning: Warning,
    count: u32,
    describe: impl FnOnce() -> String,
) -> Option<ObservationWarning> {
    let code = warning.code().to_owned();
    (count > 0).then(|| ObservationWarning { code, detail: describe(), count })
}

fn to_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// A time as RFC 3339 writes it, in UTC.
#[must_use]
pub fn show_time(at: Timestamp) -> String {
    DateTime::from_timestamp_millis(at.as_millis()).map_or_else(
        || at.as_millis().to_string(),
        |at| at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
    )
}

/// What was seen, in words.
#[must_use]
pub fn show_observation(observation: Observation) -> String {
    match observation {
        Observation::Counts { total, free } => format!("{free} of {total} free"),
        Observation::Available(true) => "available".to_owned(),
        Observation::Available(false) => "not available".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use availability::{Observation, Segment, Timestamp};
    use chrono::{DateTime, Utc};
    use hardware_api::{ObservationSummary, ObservationWarning};
    use serde_json::json;

    use super::{Recorded, summarize};
    use crate::{
        listed::Listed,
        observation::{Outcome, parse_batch},
    };

    fn now() -> DateTime<Utc> {
        DateTime::parse_from_rfc3339("2026-01-01T12:00:00Z").expect("a time").to_utc()
    }

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_millis(now().timestamp_millis() + minute * 60_000)
    }

    /// The answer to observations of these names, made so many minutes after now.
    fn summary_of(seen: &[(&str, i64)], outcomes: Vec<Outcome>, gaps: u32) -> ObservationSummary {
        let observations: Vec<_> = seen
            .iter()
            .map(|(name, minute)| {
                json!({"provider": "aws", "name": name, "region": "eu", "total": 8, "in_use": 1,
                    "observed_at": now() + chrono::TimeDelta::minutes(*minute)})
            })
            .collect();
        let body =
            json!({"source": "lab", "expected_interval_s": 600, "observations": observations});
        let received = parse_batch(body.to_string().as_bytes(), now()).expect("a good batch");
        let listed = Listed::new([("Amazon", "c5")]);
        let recorded = Recorded {
            outcomes,
            pools_with_gap: gaps,
            retired: 0,
            is_incomplete: received.batch.unlisted.is_some(),
        };
        summarize(received, &recorded, at(0), Some(&listed))
    }

    fn warnings(summary: &ObservationSummary) -> Vec<(&str, u32)> {
        summary.warnings.iter().map(|warning| (warning.code.as_str(), warning.count)).collect()
    }

    #[test]
    fn a_good_batch_is_answered_without_warnings() {
        let summary = summary_of(
            &[("c5.large", 0), ("c5.large", -100), ("c5", 0)],
            vec![Outcome::Accepted, Outcome::Unchanged, Outcome::Duplicate],
            0,
        );
        let expected =
            ObservationSummary { accepted: 1, unchanged: 1, duplicates: 1, ..Default::default() };
        assert_eq!(summary, expected);
    }

    #[test]
    fn a_contradiction_is_told_with_pool_time_and_what_is_known() {
        let known = Segment {
            started: at(-60),
            last_seen: at(-10),
            observation: Observation::counts(8, 6),
        };
        let outcomes = vec![Outcome::Contradicts(known), Outcome::TooOld];
        let summary = summary_of(&[("c5", -30), ("c5", -90)], outcomes, 0);
        assert_eq!(summary.refused_total, 2);
        let details: Vec<&str> = summary.refused.iter().map(|one| one.detail.as_str()).collect();
        assert_eq!(
            details,
            [
                "observations[0]: pool aws c5 (eu, on-demand, unit) is known to have been 2 of 8 free \
                 from 2026-01-01T11:00:00Z to 2026-01-01T11:50:00Z, found 7 of 8 free at \
                 2026-01-01T11:30:00Z",
                "observations[1]: pool aws c5 (eu, on-demand, unit) was seen at 2026-01-01T10:30:00Z, \
                 which is longer ago than HISTORY_RETENTION, for which history is kept",
            ]
        );
        let codes: Vec<&str> = summary.refused.iter().map(|one| one.code.as_str()).collect();
        assert_eq!(codes, ["contradicts", "too_old"]);
    }

    #[test]
    fn old_means_older_than_a_level_can_be() {
        let taken = |count| vec![Outcome::Accepted; count];
        let summary = summary_of(&[("c5", -100), ("c5", -101), ("c5", -200)], taken(3), 0);
        assert_eq!(warnings(&summary), [("too_old", 2)]);
        let late = summary_of(&[("c5", -200)], vec![Outcome::Late], 0);
        assert_eq!((late.late, warnings(&late)), (1, vec![("too_old", 1)]));
        let duplicate = summary_of(&[("c5", -200)], vec![Outcome::Duplicate], 0);
        assert_eq!(warnings(&duplicate), []);
    }

    #[test]
    fn pools_with_gaps_are_slower_than_declared() {
        let summary = summary_of(&[("c5", 0)], vec![Outcome::Accepted], 7);
        let detail = "pools were not reported for more than 20m, which is a gap with \
                      expected_interval_s 600; report more often, or give the interval as it is";
        let code = "slower_than_declared".to_owned();
        let expected = ObservationWarning { code, detail: detail.to_owned(), count: 7 };
        assert_eq!(summary.warnings, [expected]);
    }

    #[test]
    fn names_that_no_row_shows_are_told_three_at_most() {
        let seen = [("m5", 0), ("m5", 0), ("c5.large", 0), ("m6", 0), ("m7", 0), ("m8", 0)];
        let summary = summary_of(&seen, vec![Outcome::Accepted; 6], 0);
        assert_eq!(warnings(&summary), [("unlisted", 5)]);
        let detail = &summary.warnings[0].detail;
        assert!(detail.contains("for example, aws m5, aws m6, aws m7; the"), "{detail}");
    }
}

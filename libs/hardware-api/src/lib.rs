//! The HTTP API of `hardware` as types, shared by the server and its clients.

mod availability;
pub mod filter;

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::availability::{
    AvailabilityPage, CheckAnswer, CheckRequest, Checked, Decile, Explanation, Freshness, History,
    HistorySegment, LevelRecord, NonePicked, PickRequest, Picked, Pool, PoolAttempt, PoolDetail,
    ProbabilityInterval, Quality, QualityOfKind, Reason, Reliability, Source, SourceHistory,
    SourceList, SourceProblem, SourceReading, TrackRecord, UnitsPoint, Want,
};

/// How likely the wanted units can be had within the next hour.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum Availability {
    /// Nothing is known, or too long ago.
    Unknown,
    /// Most requests would fail.
    Low,
    /// Neither sure to succeed nor sure to fail.
    Medium,
    /// Nearly every request would succeed.
    High,
}

impl Availability {
    /// Every level, best first.
    pub const ALL: [Self; 4] = [Self::High, Self::Medium, Self::Low, Self::Unknown];

    /// The level with this word, whatever its case.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| word.eq_ignore_ascii_case(level.as_str()))
    }

    /// The word that the API uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Low => "LOW",
            Self::Medium => "MEDIUM",
            Self::High => "HIGH",
        }
    }
}

impl fmt::Display for Availability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One row of `GET /hardware/`. There are exactly these three members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Hardware {
    /// Who offers it.
    #[schema(example = "Amazon")]
    pub provider: String,
    /// What the provider calls it.
    #[schema(example = "c5")]
    pub name: String,
    /// How likely one unit can be had.
    pub availability: Availability,
}

/// Header of answers from memory: whether the answer was confirmed against the database lately.
pub const FRESHNESS_HEADER: &str = "snapshot-freshness";

/// Body of `POST /v1/observations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ObservationBatch {
    /// Who reports. Counts of different sources are never mixed. No character of it may be a control
    /// character.
    #[schema(
        example = "lab-agent",
        min_length = 1,
        max_length = 128,
        pattern = r"^[^\u0000-\u001F\u007F-\u009F]*[^\s\u0000-\u001F\u007F-\u009F][^\u0000-\u001F\u007F-\u009F]*$"
    )]
    pub source: String,
    /// Seconds between two reports of this source. Silence of twice this time is a gap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 60, minimum = 1, maximum = 86400, default = 60)]
    pub expected_interval_s: Option<u32>,
    /// When it was seen, for observations that do not say so themselves. At most a minute in the
    /// future.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_at: Option<DateTime<Utc>>,
    /// What the batch says of pools of this source that it does not list; nothing if it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlisted: Option<Unlisted>,
    /// What keeps the source from seeing its pools as they are. From this batch to the next one that has no
    /// problem, no level follows from this source. A batch with a problem has no `unlisted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<ReportedProblem>,
    /// What was seen, in any order.
    #[schema(max_items = 10000)]
    pub observations: Vec<Observation>,
}

/// What a batch says of the pools of its source that it does not list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Unlisted {
    /// They are as they were: a minute in which nothing changed takes one short batch.
    Unchanged,
    /// They are no longer there.
    Gone,
}

/// What keeps a source from seeing its pools as they are, such as a right that it lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportedProblem {
    /// Stable name of the problem. It is the code of the reason why the pools of the source are UNKNOWN.
    #[schema(
        example = "pods_forbidden",
        min_length = 1,
        max_length = 64,
        pattern = "^[a-z][a-z0-9_]*$"
    )]
    pub code: String,
    /// The problem in a sentence for a person, with what to do. No character of it may be a control
    /// character.
    #[schema(
        example = "The source may not list pods; bind the ClusterRole gill-hicks-collector to it.",
        min_length = 1,
        max_length = 500,
        pattern = r"^[^\u0000-\u001F\u007F-\u009F]*[^\s\u0000-\u001F\u007F-\u009F][^\u0000-\u001F\u007F-\u009F]*$"
    )]
    pub detail: String,
}

/// What one source saw of one pool at one time: either `total` and `in_use`, or `available`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Observation {
    /// Who offers it.
    #[schema(example = "Amazon", min_length = 1, max_length = 128)]
    pub provider: String,
    /// What the provider calls it.
    #[schema(example = "c5.large", min_length = 1, max_length = 128)]
    pub name: String,
    /// Region of the provider; empty if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "us-east-1", max_length = 64)]
    pub region: Option<String>,
    /// Zone of the region; empty if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "us-east-1a", max_length = 64)]
    pub zone: Option<String>,
    /// How it is sold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(default = "on-demand", max_length = 64)]
    pub tier: Option<String>,
    /// What is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(default = "unit", max_length = 64)]
    pub unit: Option<String>,
    /// When it was seen; the batch's time if it is missing, and the time of arrival if the batch has
    /// none. At most a minute in the future.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_at: Option<DateTime<Utc>>,
    /// Units that exist; drained and failed ones do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 2_147_483_647)]
    pub total: Option<u32>,
    /// Units taken; more than `total` count as all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 2_147_483_647)]
    pub in_use: Option<u32>,
    /// Whether a unit can be had, from a source that does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available: Option<bool>,
}

/// What became of a batch. `accepted`, `unchanged`, `duplicates`, `late` and `refused_total` add up to
/// the number of observations in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ObservationSummary {
    /// Began a segment: the first of its pool, a change, or the end of a gap.
    pub accepted: u32,
    /// Confirmed the counts that were known.
    pub unchanged: u32,
    /// Were known already; sending a batch twice is harmless.
    pub duplicates: u32,
    /// Older than the last observation of their pool, of a time of which nothing was known. Levels
    /// follow from them as if they had come in time.
    pub late: u32,
    /// Pools that the batch did not list and said to be gone. No observations are counted here.
    #[serde(default)]
    pub retired: u32,
    /// Were not taken. The others of the batch were.
    pub refused_total: u32,
    /// The first of those that were not taken, by their place in the batch.
    #[schema(max_items = 100)]
    pub refused: Vec<RefusedObservation>,
    /// What is worth a look although it was taken.
    pub warnings: Vec<ObservationWarning>,
}

/// An observation that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedObservation {
    /// Its place in `observations`, from 0.
    pub index: u32,
    /// Stable name of the reason: `invalid_field`, `observed_in_future`, `too_old` for one that is
    /// older than what is kept, or `contradicts` for one of a time in which something else was seen.
    #[schema(example = "invalid_field")]
    pub code: String,
    /// The reason in a sentence.
    pub detail: String,
}

/// Something about a batch that its sender should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ObservationWarning {
    /// Stable name of the kind of warning: `no_observed_at`, `slower_than_declared`, `too_old`,
    /// `unlisted`, `incomplete`.
    #[schema(example = "no_observed_at")]
    pub code: String,
    /// The warning in a sentence.
    pub detail: String,
    /// How many observations it is about; pools, for `slower_than_declared`.
    pub count: u32,
}

/// Body of `POST /v1/attempts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttemptBatch {
    /// Who reports. No character of it may be a control character.
    #[schema(
        example = "lab-agent",
        min_length = 1,
        max_length = 128,
        pattern = r"^[^\u0000-\u001F\u007F-\u009F]*[^\s\u0000-\u001F\u007F-\u009F][^\u0000-\u001F\u007F-\u009F]*$"
    )]
    pub source: String,
    /// What was tried, in any order.
    #[schema(max_items = 10000)]
    pub attempts: Vec<Attempt>,
}

/// An attempt to get units of one pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// Who offers it.
    #[schema(example = "Amazon", min_length = 1, max_length = 128)]
    pub provider: String,
    /// What the provider calls it.
    #[schema(example = "c5.large", min_length = 1, max_length = 128)]
    pub name: String,
    /// Region of the provider; empty if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "us-east-1", max_length = 64)]
    pub region: Option<String>,
    /// Zone of the region; empty if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "us-east-1a", max_length = 64)]
    pub zone: Option<String>,
    /// How it is sold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(default = "on-demand", max_length = 64)]
    pub tier: Option<String>,
    /// What is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(default = "unit", max_length = 64)]
    pub unit: Option<String>,
    /// How many units were asked for at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 2_147_483_647, default = 1)]
    pub units: Option<u32>,
    /// What came of it.
    pub outcome: AttemptOutcome,
    /// When. At most a minute in the future.
    pub at: DateTime<Utc>,
    /// What the provider said, to be shown with the attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "InsufficientInstanceCapacity", max_length = 64)]
    pub code: Option<String>,
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AttemptOutcome {
    /// All units were given.
    Succeeded,
    /// Fewer were.
    Failed,
}

/// What became of a batch of attempts. `accepted`, `duplicates` and `refused_total` add up to the number of
/// attempts in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttemptSummary {
    /// Were new.
    pub accepted: u32,
    /// Were known already; sending a batch twice is harmless.
    pub duplicates: u32,
    /// Were not taken. The others of the batch were.
    pub refused_total: u32,
    /// The first of those that were not taken, by their place in the batch.
    #[schema(max_items = 100)]
    pub refused: Vec<RefusedAttempt>,
}

/// An attempt that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedAttempt {
    /// Its place in `attempts`, from 0.
    pub index: u32,
    /// Stable name of the reason: `invalid_field`, `observed_in_future`, `too_old` for one that is older than
    /// what is kept, or `contradicts` for one that is known with the other outcome.
    #[schema(example = "invalid_field")]
    pub code: String,
    /// The reason in a sentence.
    pub detail: String,
}

/// An error as RFC 9457 describes it, plus what a program and a person need to correct it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: `code` tells the kinds apart.
    #[serde(rename = "type")]
    pub kind: String,
    /// The HTTP status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// Stable name of the kind of problem.
    #[schema(example = "invalid_field")]
    pub code: String,
    /// The problem in a sentence.
    pub detail: String,
    /// Which field or parameter is at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "observations[0].total")]
    pub field: Option<String>,
    /// What it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// What it should hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// The values that it may have, if they are few.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<Vec<String>>,
}

/// Media type of [`Problem`].
pub const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";

#[cfg(test)]
mod tests {
    use super::{Availability, Hardware, ObservationBatch};

    #[test]
    fn a_row_has_the_three_members_of_the_original() {
        let row = Hardware {
            provider: "Amazon".to_owned(),
            name: "c5".to_owned(),
            availability: Availability::High,
        };
        let json = serde_json::to_string(&row).expect("plain data");
        assert_eq!(json, r#"{"provider":"Amazon","name":"c5","availability":"HIGH"}"#);
    }

    #[test]
    fn better_levels_compare_greater_and_print_as_in_json() {
        assert!(Availability::ALL.is_sorted_by(|better, worse| better > worse));
        for level in Availability::ALL {
            let json = serde_json::to_string(&level).expect("plain data");
            assert_eq!(json, format!("\"{level}\""));
        }
    }

    #[test]
    fn an_observation_needs_only_what_it_is_about() {
        let json =
            r#"{"source":"a","observations":[{"provider":"p","name":"n","available":true}]}"#;
        let batch: ObservationBatch = serde_json::from_str(json).expect("complete");
        assert_eq!(serde_json::to_string(&batch).expect("plain data"), json);
    }
}

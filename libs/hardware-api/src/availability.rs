//! What the routes below `/v1` say of hardware for a number of units.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{AttemptOutcome, Availability, Problem};

/// Whether a source still reports as it should.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Freshness {
    /// Nothing was ever seen, or so long ago that the level is UNKNOWN.
    Unknown,
    /// Silent for longer than it should be.
    Stale,
    /// On time.
    Fresh,
}

impl Freshness {
    /// The word of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Stale => "stale",
            Self::Fresh => "fresh",
        }
    }
}

/// Why a level is what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reason {
    /// Stable name of the reason, or the code of the problem that a source has.
    #[schema(example = "usually_free")]
    pub code: String,
    /// The reason in a sentence.
    pub sentence: String,
}

/// What the history leaves open about the probability: from its 10 % to its 90 % point. It is not how
/// the time ahead scatters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProbabilityInterval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// What came of earlier statements like this one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrackRecord {
    /// How many were compared with what came; older ones count less.
    pub forecasts: u64,
    /// The share of their hours in which the units were free.
    pub came_true: f64,
}

/// Hardware of one name in one place, sold in one way, for a number of units.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Pool {
    /// Stays the same as long as the six names do, everywhere.
    #[schema(example = "5d41402abc4b2a76")]
    pub id: String,
    /// Who offers it, as it was spelled first.
    #[schema(example = "Amazon")]
    pub provider: String,
    /// What the provider calls it.
    #[schema(example = "c5.large")]
    pub name: String,
    /// Region of the provider, or empty.
    #[schema(example = "us-east-1")]
    pub region: String,
    /// Zone of the region, or empty.
    #[schema(example = "us-east-1a")]
    pub zone: String,
    /// How it is sold.
    #[schema(example = "on-demand")]
    pub tier: String,
    /// What is counted.
    #[schema(example = "unit")]
    pub unit: String,
    /// How many are asked for at once.
    pub units: u32,
    /// Whether they can be had.
    pub level: Availability,
    /// The expected share of the next hour in which so many are free, which is how likely a request
    /// succeeds; null where it is not known.
    pub probability: Option<f64>,
    /// What the history leaves open about it.
    pub interval: Option<ProbabilityInterval>,
    /// Whether the probability lies between those of the next smaller and larger number that is followed.
    pub interpolated: bool,
    /// Units that were free when it was last seen; null if its source does not count.
    pub free: Option<u32>,
    /// Units that exist.
    pub total: Option<u32>,
    /// Whether so many were free when it was last seen.
    pub can_fulfil_now: Option<bool>,
    /// The largest number that is HIGH.
    pub most_at_high: Option<u32>,
    /// Since when so many are free, or are not.
    pub since: Option<DateTime<Utc>>,
    /// When it was last seen.
    pub observed_at: Option<DateTime<Utc>>,
    /// How long ago that was, at the time of the answer (`as_of`).
    pub age_s: Option<u64>,
    /// Whether its source is on time.
    pub freshness: Freshness,
    /// The source that speaks for it: the best of those that report it.
    #[schema(example = "lab-agent")]
    pub source: String,
    /// Why.
    pub reasons: Vec<Reason>,
    /// What came of earlier statements like this one.
    pub record: Option<TrackRecord>,
}

/// Body of `GET /v1/availability`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AvailabilityPage {
    /// The time that levels are of.
    pub as_of: DateTime<Utc>,
    /// How many units are asked for.
    pub units: u32,
    /// The pools, in the order asked for.
    pub items: Vec<Pool>,
    /// The next page, relative to this one; null on the last.
    pub next: Option<String>,
}

/// What somebody wants. A name may be a family: `c5` stands for `c5.large` too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Want {
    /// Who offers it; other spellings are understood.
    #[schema(example = "aws", pattern = r"[^\s\u0085]")]
    pub provider: String,
    /// What the provider calls it, or its family.
    #[schema(example = "c5.large", pattern = r"[^\s\u0085]")]
    pub name: String,
    /// Only in this region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "us-east-1")]
    pub region: Option<String>,
    /// Only in this zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Only if sold in this way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Only if counted in this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// How many at once; those of the request, else 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 2_147_483_647)]
    pub units: Option<u32>,
}

/// Body of `POST /v1/check`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckRequest {
    /// What is asked about.
    #[schema(min_items = 1, max_items = 1000)]
    pub items: Vec<Want>,
    /// How many at once, for items that do not say so themselves; 1 if it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 2_147_483_647)]
    pub units: Option<u32>,
}

/// Answer of `POST /v1/check`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CheckAnswer {
    /// The time that levels are of.
    pub as_of: DateTime<Utc>,
    /// The worst level of the items; UNKNOWN is the worst, and that of an item with a problem.
    pub level: Availability,
    /// What is said of each item, in their order.
    pub items: Vec<Checked>,
}

/// What is said of one item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Checked {
    /// The level of the best pool that matches; UNKNOWN if none does.
    pub level: Availability,
    /// How many pools match.
    pub matching: u32,
    /// How many of them are HIGH.
    pub high: u32,
    /// The best of them.
    pub pool: Option<Pool>,
    /// Why the level is what it is: the reasons of the pool, or `no_data` if none matches.
    pub reasons: Vec<Reason>,
    /// What is wrong with the item, if it cannot be understood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// Body of `POST /v1/pick`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PickRequest {
    /// Alternatives, the most wanted first.
    #[schema(min_items = 1, max_items = 100)]
    pub preferences: Vec<Want>,
    /// How many at once, for preferences that do not say so themselves; 1 if it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 2_147_483_647)]
    pub units: Option<u32>,
    /// The least level that will do; HIGH if it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_level: Option<Availability>,
}

/// Answer of `POST /v1/pick` if a preference can be had.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Picked {
    /// The time that levels are of.
    pub as_of: DateTime<Utc>,
    /// The place of the preference in the request, from 0.
    pub preference: u32,
    /// The best pool that matches it.
    pub pool: Pool,
}

/// Answer of `POST /v1/pick` if none can be had: a problem, and why each preference was passed over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NonePicked {
    /// The problem: `none_available`.
    #[serde(flatten)]
    pub problem: Problem,
    /// What is said of each preference, in their order.
    pub preferences: Vec<Checked>,
}

/// Body of `GET /v1/pools/{id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PoolDetail {
    /// The time that levels are of.
    pub as_of: DateTime<Utc>,
    /// How far ahead the probability looks, in seconds: 3600.
    pub horizon_s: u64,
    /// What is said of it.
    #[serde(flatten)]
    pub pool: Pool,
    /// The same for every number of units that is followed.
    pub by_units: Vec<UnitsPoint>,
    /// What each source says, the one that speaks first.
    pub sources: Vec<SourceReading>,
    /// What came of the latest attempts to get it, by all sources; the latest first.
    #[serde(default)]
    #[schema(max_items = 20)]
    pub attempts: Vec<PoolAttempt>,
}

/// What came of an attempt to get units of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolAttempt {
    /// Who reported it.
    pub source: String,
    /// How many units were asked for at once.
    pub units: u32,
    /// What came of it.
    pub outcome: AttemptOutcome,
    /// When.
    pub at: DateTime<Utc>,
    /// What the provider said, if the source passed it on.
    pub code: Option<String>,
}

/// What is said of one number of units.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UnitsPoint {
    /// How many at once.
    pub units: u32,
    /// Whether they can be had.
    pub level: Availability,
    /// How likely; null where it is not known.
    pub probability: Option<f64>,
    /// What the history leaves open about it.
    pub interval: Option<ProbabilityInterval>,
}

/// What one source says of a pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SourceReading {
    /// Its name.
    pub source: String,
    /// What it can know: `counts`, `attempts`, `boolean` or `provider_level`.
    pub kind: String,
    /// Seconds between two reports, as its latest batch said.
    pub expected_interval_s: u64,
    /// Whether it speaks for the pool.
    pub speaks: bool,
    /// Whether it says the opposite of the one that speaks.
    pub disagrees: bool,
    /// What it alone says.
    pub level: Availability,
    /// How likely, by it alone.
    pub probability: Option<f64>,
    /// Units that were free when it last reported.
    pub free: Option<u32>,
    /// Units that exist.
    pub total: Option<u32>,
    /// When it last reported.
    pub observed_at: Option<DateTime<Utc>>,
    /// Whether it is on time.
    pub freshness: Freshness,
    /// What keeps it from seeing the pool as it is, if anything does: it does not speak then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<SourceProblem>,
    /// The numbers that the probability follows from; null where there is none.
    pub explanation: Option<Explanation>,
}

/// The numbers that a probability follows from: of the number of units asked for, or the next smaller
/// one that is followed. Minutes and changes are weighed by their age, which halves them in 24 h.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The number of units that they are of.
    pub units: u32,
    /// Whether so many were free.
    pub is_free: bool,
    /// For how many minutes that has been so.
    pub minutes_in_state: f64,
    /// Minutes in which so many were seen free.
    pub free_minutes: f64,
    /// Minutes in which fewer were.
    pub full_minutes: f64,
    /// Changes from free to full that were seen.
    pub changes_to_full: f64,
    /// Changes from full to free that were seen.
    pub changes_to_free: f64,
    /// Per minute, how often free is left.
    pub rate_to_full: f64,
    /// Per minute, how often full is left.
    pub rate_to_free: f64,
    /// P of the number asked for, before the correction.
    pub uncorrected: f64,
    /// What was added to it.
    pub correction: f64,
}

/// Body of `GET /v1/pools/{id}/history`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct History {
    /// The pool.
    pub id: String,
    /// Its beginning.
    pub from: DateTime<Utc>,
    /// Its end.
    pub to: DateTime<Utc>,
    /// What each source saw, by its name.
    pub sources: Vec<SourceHistory>,
}

/// What one source saw of a pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SourceHistory {
    /// Its name.
    pub source: String,
    /// The oldest first; between two of them the source did not report.
    pub segments: Vec<HistorySegment>,
}

/// A span in which a source saw the same again and again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HistorySegment {
    /// When it first saw this.
    pub started: DateTime<Utc>,
    /// When it last saw this.
    pub last_seen: DateTime<Utc>,
    /// Units that existed; null if the source does not count.
    pub total: Option<u32>,
    /// Units that were free; null if the source does not count.
    pub free: Option<u32>,
    /// Whether at least one was free.
    pub available: bool,
}

/// Body of `GET /v1/sources`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SourceList {
    /// The time that it is of.
    pub as_of: DateTime<Utc>,
    /// Who reports, by name.
    pub items: Vec<Source>,
}

/// Who reports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// What its pools are known by: `counts` or `boolean`, or both.
    pub kinds: Vec<String>,
    /// How many pools it has.
    pub pools: u64,
    /// Seconds between two reports, as its latest batch said.
    pub expected_interval_s: u64,
    /// When its latest batch came.
    pub last_seen: DateTime<Utc>,
    /// Seconds since then.
    pub silent_s: u64,
    /// Whether it is on time.
    pub freshness: Freshness,
    /// What its latest batch said keeps it from seeing its pools as they are, if anything does: no level follows
    /// from it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<SourceProblem>,
}

/// What keeps a source from seeing its pools as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SourceProblem {
    /// Stable name of the problem, given by the source.
    #[schema(example = "pods_forbidden")]
    pub code: String,
    /// The problem in a sentence, with what to do.
    pub detail: String,
    /// When a batch first had a problem with this code; every batch since then has had it too.
    pub since: DateTime<Utc>,
}

/// Body of `GET /v1/quality`: what was said, compared with what came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Quality {
    /// The time that it is of.
    pub as_of: DateTime<Utc>,
    /// Over how many days.
    pub days: u32,
    /// By what sources can know; only those of which something was compared.
    pub kinds: Vec<QualityOfKind>,
}

/// The record of one kind of source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QualityOfKind {
    /// `counts`, `attempts`, `boolean` or `provider_level`.
    pub kind: String,
    /// How many forecasts were compared with what came.
    pub forecasts: u64,
    /// Before the correction by what was learned.
    pub uncorrected: Reliability,
    /// As it was said.
    pub corrected: Reliability,
    /// By level, the best first.
    pub levels: Vec<LevelRecord>,
}

/// How near probabilities were to what came, over all forecasts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Reliability {
    /// Mean of y(1−P)² + (1−y)P², where y is the share of the hour in which the units were free: 0 is
    /// perfect.
    pub brier: f64,
    /// By tenth of the probability, those with forecasts.
    pub deciles: Vec<Decile>,
}

/// Forecasts whose probability was in one tenth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Decile {
    /// The tenth: 0 for P below 0.1, 9 for 0.9 and above.
    pub decile: u32,
    /// How many.
    pub forecasts: u64,
    /// Their mean probability.
    pub predicted: f64,
    /// The mean share of their hours in which the units were free.
    pub observed: f64,
}

/// Forecasts of one level.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LevelRecord {
    /// The level.
    pub level: Availability,
    /// How many.
    pub forecasts: u64,
    /// The mean share of their hours in which the units were free.
    pub came_true: f64,
}

//! Several sources for one supply: the best one speaks, and nothing is averaged.

use std::cmp::Reverse;

use crate::{Assessment, ExpectedInterval, Freshness, Level, Reason};

/// What a source can know. Ordered: a later kind goes before an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceKind {
    /// Publishes a word of its own.
    ProviderLevel,
    /// Says yes or no.
    Boolean,
    /// Reports attempts to get the hardware.
    Attempts,
    /// Counts units.
    Counts,
}

impl SourceKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::ProviderLevel, Self::Boolean, Self::Attempts, Self::Counts];

    /// Its stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ProviderLevel => "provider_level",
            Self::Boolean => "boolean",
            Self::Attempts => "attempts",
            Self::Counts => "counts",
        }
    }

    /// The kind with this name; `None` if there is none.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What one source says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading<'a> {
    /// What the source can know.
    pub kind: SourceKind,
    /// How often it reports.
    pub interval: ExpectedInterval,
    /// Its name.
    pub source: &'a str,
    /// What it says.
    pub assessment: Assessment,
}

/// The reading that speaks for the supply, and those that contradict it.
#[derive(Clone, Debug, PartialEq)]
pub struct Combined {
    /// Position of the reading that speaks.
    pub chosen: usize,
    /// Its assessment, with [`Reason::SourcesDisagree`] if `dissenting` is not empty.
    pub assessment: Assessment,
    /// Positions of the readings that say the opposite: HIGH against LOW, or "free now" against "full
    /// now". A mere MEDIUM contradicts no other, and neither does what is stale.
    pub dissenting: Vec<usize>,
}

/// Picks the reading that speaks: a fresh one before a stale one before one that knows nothing, then by
/// kind, then the one with the shorter interval, then by name. Which source reported last does not
/// matter, so two that both report on time do not take turns. `None` without readings.
#[must_use]
pub fn combine_sources(readings: &[Reading<'_>]) -> Option<Combined> {
    let rank = |reading: &Reading<'_>| {
        let freshness = match reading.assessment.level {
            Level::Unknown => Freshness::Unknown,
            _ => reading.assessment.freshness,
        };
        (freshness, reading.kind, Reverse(reading.interval))
    };
    let (chosen, best) = readings.iter().enumerate().max_by(|(i, one), (j, other)| {
        rank(one)
            .cmp(&rank(other))
            .then_with(|| other.source.cmp(one.source))
            .then_with(|| j.cmp(i))
    })?;
    let dissenting: Vec<usize> = readings
        .iter()
        .enumerate()
        .filter(|(_, reading)| reading.assessment.freshness == Freshness::Fresh)
        .filter(|(_, reading)| contradict(&best.assessment, &reading.assessment))
        .map(|(index, _)| index)
        .collect();
    let mut assessment = best.assessment;
    if !dissenting.is_empty() {
        assessment.reasons.insert(Reason::SourcesDisagree);
    }
    Some(Combined { chosen, assessment, dissenting })
}

fn contradict(one: &Assessment, other: &Assessment) -> bool {
    let levels = [one.level, other.level];
    let opposite_levels = levels.contains(&Level::High) && levels.contains(&Level::Low);
    let opposite_states = matches!(
        (one.can_fulfil_now, other.can_fulfil_now),
        (Some(now), Some(then)) if now != then
    );
    opposite_levels || opposite_states
}

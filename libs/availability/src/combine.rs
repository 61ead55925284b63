//! Several sources for one pool: the best kind speaks, and nobody is averaged.

use crate::{Assessment, Level, Reason};

/// What a source can know. Ordered: a later kind goes before an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceKind {
    /// Publishes a word of its own.
    ProviderLevel,
    /// Says yes or no.
    Boolean,
    /// Counts units.
    Counts,
}

/// What one source says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// What the source can know.
    pub kind: SourceKind,
    /// What it says.
    pub assessment: Assessment,
}

/// The reading that speaks for the pool, and those that contradict it.
#[derive(Clone, Debug, PartialEq)]
pub struct Combined {
    /// Position of the reading that speaks.
    pub chosen: usize,
    /// Its assessment, with [`Reason::SourcesDisagree`] if `dissenting` is not empty.
    pub assessment: Assessment,
    /// Positions of the readings that say the opposite: HIGH against LOW, or "free now" against "full
    /// now". A mere MEDIUM contradicts nobody.
    pub dissenting: Vec<usize>,
}

/// Picks the reading of the best kind that is not UNKNOWN; of equal kinds the one observed last, of
/// equal times the first. `None` without readings.
#[must_use]
pub fn combine_sources(readings: &[Reading]) -> Option<Combined> {
    let rank = |reading: &Reading| {
        let known = reading.assessment.level != Level::Unknown;
        (known, reading.kind, reading.assessment.observed_at)
    };
    let (chosen, best) = readings
        .iter()
        .enumerate()
        .max_by(|(i, a), (j, b)| rank(a).cmp(&rank(b)).then_with(|| j.cmp(i)))?;
    let dissenting: Vec<usize> = readings
        .iter()
        .enumerate()
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

//! Rows that name a family of types, such as `c5`.

use std::collections::BTreeMap;

use crate::{Assessment, Level};

/// A family in one line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FamilySummary {
    /// The best member: by level, then by probability, then the first.
    pub best: Assessment,
    /// Types of which at least one pool is HIGH, as in "3 of 9 types HIGH".
    pub high_types: usize,
    /// Types that were given.
    pub types: usize,
}

/// Summarises pools of a family, each with the name of its type; a type may have many pools (one per
/// zone, say) and counts once. `None` without pools.
#[must_use]
pub fn summarize_family<'a>(
    pools: impl IntoIterator<Item = (&'a str, Assessment)>,
) -> Option<FamilySummary> {
    let mut is_high: BTreeMap<&str, bool> = BTreeMap::new();
    let mut best: Option<Assessment> = None;
    for (type_name, assessment) in pools {
        *is_high.entry(type_name).or_default() |= assessment.level == Level::High;
        if best.is_none_or(|best| is_better(&assessment, &best)) {
            best = Some(assessment);
        }
    }
    best.map(|best| FamilySummary {
        best,
        high_types: is_high.values().filter(|high| **high).count(),
        types: is_high.len(),
    })
}

fn is_better(one: &Assessment, other: &Assessment) -> bool {
    let probability = |of: &Assessment| of.estimate.map_or(-1.0, |estimate| estimate.probability);
    one.level
        .cmp(&other.level)
        .then_with(|| probability(one).total_cmp(&probability(other)))
        .is_gt()
}

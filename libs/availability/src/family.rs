//! Rows that name a family of types, such as `c5`.

use std::{borrow::Cow, collections::BTreeMap};

use crate::{Assessment, Level};

const AMAZON: &str = "amazon";
const AZURE: &str = "azure";
const GOOGLE: &str = "google";

/// One name for each provider: trimmed, lower case, aliases resolved. An unknown provider keeps its
/// name.
#[must_use]
pub fn canonical_provider(provider: &str) -> Cow<'static, str> {
    let name = provider.trim().to_lowercase();
    match name.as_str() {
        "amazon" | "aws" | "ec2" => Cow::Borrowed(AMAZON),
        "azure" | "microsoft" => Cow::Borrowed(AZURE),
        "google" | "gcp" | "gce" => Cow::Borrowed(GOOGLE),
        _ => Cow::Owned(name),
    }
}

/// Whether the row `family` of `provider` stands for the type `member`, ignoring case.
///
/// Everywhere a name stands for itself, and `c5` for `c5.large`. Google separates with a hyphen
/// (`n2-standard-4`), and an Azure size is its part after `Standard_` (`H16mr`).
#[must_use]
pub fn family_contains(provider: &str, family: &str, member: &str) -> bool {
    let provider = canonical_provider(provider);
    let (family, member) = (family.trim().to_lowercase(), member.trim().to_lowercase());
    if family.is_empty() {
        return false;
    }
    let (family, member) = if provider == AZURE {
        (without_standard(&family), without_standard(&member))
    } else {
        (family.as_str(), member.as_str())
    };
    member.strip_prefix(family).is_some_and(|rest| {
        rest.is_empty() || rest.starts_with('.') || (provider == GOOGLE && rest.starts_with('-'))
    })
}

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

fn without_standard(size: &str) -> &str {
    size.strip_prefix("standard_").unwrap_or(size)
}

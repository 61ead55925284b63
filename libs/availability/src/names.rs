//! One spelling for each name, so that one supply is not taken for two.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;

const AMAZON: &str = "amazon";
const AZURE: &str = "azure";
const GOOGLE: &str = "google";

/// Normal form C, trimmed, lower case.
#[must_use]
pub fn canonical_text(text: &str) -> String {
    // Most names, and the same without tables.
    if text.is_ascii() {
        return text.trim().to_ascii_lowercase();
    }
    text.trim().nfc().collect::<String>().to_lowercase().nfc().collect()
}

/// The provider in canonical text, with aliases resolved. An unknown provider keeps its name.
#[must_use]
pub fn canonical_provider(provider: &str) -> Cow<'static, str> {
    let name = canonical_text(provider);
    match name.as_str() {
        "amazon" | "aws" | "ec2" | "amazon ec2" | "amazon web services" => Cow::Borrowed(AMAZON),
        "azure" | "microsoft" | "microsoft azure" => Cow::Borrowed(AZURE),
        "google"
        | "gcp"
        | "gce"
        | "google cloud"
        | "google cloud platform"
        | "google compute engine" => Cow::Borrowed(GOOGLE),
        _ => Cow::Owned(name),
    }
}

/// The name of a type in canonical text; an Azure size is its part after `Standard_` (`H16mr`).
#[must_use]
pub fn canonical_name(provider: &str, name: &str) -> String {
    let name = canonical_text(name);
    if canonical_provider(provider) == AZURE {
        name.strip_prefix("standard_").map(str::to_owned).unwrap_or(name)
    } else {
        name
    }
}

/// How hardware is sold in canonical text, with `_` between words: `on_demand`.
#[must_use]
pub fn canonical_tier(tier: &str) -> String {
    canonical_text(tier).replace(['-', ' '], "_")
}

/// Whether the row `family` of `provider` stands for the type `member`.
///
/// Everywhere a name stands for itself, and `c5` for `c5.large`. Google separates with a hyphen
/// (`n2-standard-4`).
#[must_use]
pub fn family_contains(provider: &str, family: &str, member: &str) -> bool {
    let provider = canonical_provider(provider);
    let family = canonical_name(&provider, family);
    canonical_family_contains(&provider, &family, &canonical_name(&provider, member))
}

/// [`family_contains`] for a provider of [`canonical_provider`] and names of [`canonical_name`].
#[must_use]
pub fn canonical_family_contains(provider: &str, family: &str, member: &str) -> bool {
    let rest = member.strip_prefix(family).filter(|_| !family.is_empty());
    rest.is_some_and(|rest| {
        rest.is_empty() || rest.starts_with('.') || (provider == GOOGLE && rest.starts_with('-'))
    })
}

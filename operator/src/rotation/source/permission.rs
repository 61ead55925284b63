//! What the administrator of a secret writes on it: which portals may read it.

use crds::ALLOW_PORTAL_LABEL;

/// Whether a Secret whose label [`ALLOW_PORTAL_LABEL`] has this value may be read for a portal: the
/// value is its name, or several names joined by `.`. The name of a portal has no dot, and the value
/// of a label neither a comma nor a space.
#[must_use]
pub fn allows(label: Option<&str>, portal: &str) -> bool {
    !portal.is_empty() && label.is_some_and(|value| value.split('.').any(|name| name == portal))
}

/// The label that a Secret lacks, for messages.
#[must_use]
pub fn missing_label(portal: &str) -> String {
    format!(
        "the label {ALLOW_PORTAL_LABEL}={portal} (for several portals: their names joined by \".\") by which its owner would allow that"
    )
}

/// Whether a secret of AWS Secrets Manager whose tag [`ALLOW_PORTAL_LABEL`] has this value may be read
/// for a portal: the value is `NAMESPACE/NAME`, or several of them separated by spaces.
pub(super) fn tag_allows(tag: Option<&str>, namespace: &str, portal: &str) -> bool {
    let mut pairs = tag.into_iter().flat_map(|value| value.split(' '));
    pairs.any(|pair| pair.split_once('/') == Some((namespace, portal)))
}

/// The tag that a secret lacks, for messages.
pub(super) fn missing_tag(namespace: &str, portal: &str) -> String {
    format!(
        "the tag {ALLOW_PORTAL_LABEL}={namespace}/{portal} (for several portals: separated by spaces) by which its owner would allow that"
    )
}

#[cfg(test)]
mod tests {
    use super::{allows, tag_allows};

    #[test]
    fn a_label_allows_the_portals_that_it_names_and_no_other() {
        for (label, portal, expected) in [
            (Some("p"), "p", true),
            (Some("p.q"), "p", true),
            (Some("o.p.q"), "p", true),
            (Some("q.p"), "p", true),
            (None, "p", false),
            (Some(""), "p", false),
            (Some(""), "", false),
            (Some("."), "", false),
            (Some("P"), "p", false),
            (Some("pp"), "p", false),
            (Some("p-1"), "p", false),
            (Some("q.r"), "q.r", false),
        ] {
            assert_eq!(allows(label, portal), expected, "{label:?} for {portal:?}");
        }
    }

    #[test]
    fn a_tag_allows_the_pairs_that_it_names_and_no_other() {
        for (tag, expected) in [
            (Some("team/p"), true),
            (Some("other/p team/p"), true),
            (Some("team/p  other/p"), true),
            (Some("team/q team/p other/p"), true),
            (None, false),
            (Some(""), false),
            (Some("p"), false),
            (Some("team/p.q"), false),
            (Some("team/p,other/p"), false),
            (Some("team/p/q"), false),
            (Some("steam/p team/pp"), false),
        ] {
            assert_eq!(tag_allows(tag, "team", "p"), expected, "{tag:?}");
        }
        assert!(!tag_allows(Some("/"), "team", "p"));
    }
}

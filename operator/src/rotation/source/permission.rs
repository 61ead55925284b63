//! What the administrator of a secret writes on it: which portals may read it, and to which host its
//! logins may be sent.

use crds::{ALLOW_PORTAL_LABEL, DATABASE_HOST_LABEL};
use kube::api::ObjectMeta;

/// The object that holds the logins of a reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The object, for messages.
    pub what: String,
    /// What its administrator can write on it.
    pub mark: Mark,
}

/// What can be written on an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A label or an annotation, on a Secret.
    LabelOrAnnotation,
    /// A tag, on a secret of AWS Secrets Manager.
    Tag,
}

impl Holder {
    /// A Secret, or several of which this is the first.
    pub(super) fn secret(what: String) -> Self {
        Self { what, mark: Mark::LabelOrAnnotation }
    }

    /// A secret of AWS Secrets Manager.
    pub(super) fn managed(what: String) -> Self {
        Self { what, mark: Mark::Tag }
    }

    /// What would let the logins be sent to this host.
    #[must_use]
    pub fn permission_to_send_to(&self, host: &str) -> String {
        let mark = match self.mark {
            Mark::Tag => "tag",
            Mark::LabelOrAnnotation if fits_label(host) => "label or annotation",
            Mark::LabelOrAnnotation => "annotation",
        };
        format!("the {mark} {DATABASE_HOST_LABEL}={host}")
    }
}

/// A label's value has at most 63 characters, and no colon.
fn fits_label(host: &str) -> bool {
    host.len() <= 63 && !host.contains(':')
}

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
        "the label {ALLOW_PORTAL_LABEL}={portal} (for several portals: their names joined by \".\") by which its administrator would allow that"
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
        "the tag {ALLOW_PORTAL_LABEL}={namespace}/{portal} (for several portals: separated by spaces) by which its administrator would allow that"
    )
}

/// The host that a Secret's label or annotation [`DATABASE_HOST_LABEL`] names.
pub(super) fn host_named_on(metadata: &ObjectMeta) -> Option<String> {
    let marks = [&metadata.labels, &metadata.annotations];
    let mut hosts = marks.into_iter().flatten().filter_map(|marks| marks.get(DATABASE_HOST_LABEL));
    hosts.find(|host| !host.is_empty()).cloned()
}

#[cfg(test)]
mod tests {
    use kube::api::ObjectMeta;
    use serde_json::json;

    use super::{Holder, allows, host_named_on, tag_allows};

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

    #[test]
    fn a_secret_names_a_host_with_a_label_or_an_annotation() {
        let host = |metadata| {
            let metadata: ObjectMeta = serde_json::from_value(metadata).expect("metadata");
            host_named_on(&metadata)
        };
        let mark = json!({"gill-hicks.dev/database-host": "db.example"});
        assert_eq!(host(json!({"labels": mark})).as_deref(), Some("db.example"));
        assert_eq!(host(json!({"annotations": mark})).as_deref(), Some("db.example"));
        assert_eq!(host(json!({"labels": {"gill-hicks.dev/database-host": ""}})), None);
        assert_eq!(host(json!({})), None);
    }

    #[test]
    fn what_to_write_can_be_written() {
        let secret = Holder::secret("it".to_owned());
        let short = secret.permission_to_send_to("db.example");
        assert_eq!(short, "the label or annotation gill-hicks.dev/database-host=db.example");
        let long = format!("{}.example", "a".repeat(60));
        for host in ["db.example:3307", long.as_str()] {
            assert!(secret.permission_to_send_to(host).starts_with("the annotation "), "{host}");
        }
        let managed = Holder::managed("it".to_owned()).permission_to_send_to("db.example:3307");
        assert_eq!(managed, "the tag gill-hicks.dev/database-host=db.example:3307");
    }
}

//! What hardware is called, by what nodes say of themselves.

use super::devices::Device;
use crate::sources::places::{bounded, first_label};

const INSTANCE_TYPE_LABELS: &[&str] =
    &["node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type"];

/// Of a node that names none, as those of the owner's own machines.
const NO_PROVIDER: &str = "cluster";

/// The provider that made a node, by the scheme of its `spec.providerID`, such as
/// `aws:///us-east-1a/i-0123`.
pub(super) fn provider(provider_id: Option<&str>) -> String {
    let scheme = provider_id.and_then(|id| id.split_once("://")).map(|(scheme, _)| scheme.trim());
    match scheme {
        None | Some("") => NO_PROVIDER.to_owned(),
        Some("aws") => "Amazon".to_owned(),
        Some("azure") => "Azure".to_owned(),
        Some("gce") => "Google".to_owned(),
        Some("ibm") => "IBM".to_owned(),
        Some("oci") => "Oracle".to_owned(),
        Some("openstack") => "OpenStack".to_owned(),
        Some("vsphere") => "VMware".to_owned(),
        Some(other) => bounded(other),
    }
}

/// The type of a node; of one that has none, operating system and architecture.
pub(super) fn instance_type<'a>(label: impl Fn(&str) -> Option<&'a str>) -> String {
    first_label(&label, INSTANCE_TYPE_LABELS).unwrap_or_else(|| {
        let part = |key, default| label(key).unwrap_or(default);
        let (os, arch) = (part("kubernetes.io/os", "linux"), part("kubernetes.io/arch", "node"));
        format!("{os}-{arch}")
    })
}

/// The model of a device; where no label names it, its resource.
pub(super) fn model<'a>(device: &Device, label: impl Fn(&str) -> Option<&'a str>) -> String {
    first_label(label, device.model_labels).unwrap_or_else(|| device.resource.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{instance_type, provider};

    #[test]
    fn the_provider_is_that_of_the_node_s_id() {
        for (id, expected) in [
            (None, "cluster"),
            (Some(""), "cluster"),
            (Some("i-0123"), "cluster"),
            (Some("://"), "cluster"),
            (Some("aws:///us-east-1a/i-0123"), "Amazon"),
            (Some("gce://project/zone/node"), "Google"),
            (Some("azure:///subscriptions/1"), "Azure"),
            (Some("kind://docker/kind/kind-control-plane"), "kind"),
        ] {
            assert_eq!(provider(id), expected, "{id:?}");
        }
    }

    #[test]
    fn a_node_without_a_type_is_named_after_its_architecture() {
        let labels = [("kubernetes.io/os", "linux"), ("kubernetes.io/arch", "arm64")];
        let label = |key: &str| labels.iter().find(|(known, _)| *known == key).map(|(_, it)| *it);
        assert_eq!(instance_type(label), "linux-arm64");
        let typed = |key: &str| match key {
            "node.kubernetes.io/instance-type" => Some("m5.large"),
            _ => label(key),
        };
        assert_eq!(instance_type(typed), "m5.large");
    }
}

//! Regions and zones, as nodes and clouds name them.

/// Labels with the region, the usual one first.
pub(super) const REGION_LABELS: &[&str] =
    &["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"];
/// Labels with the zone, the usual one first.
pub(super) const ZONE_LABELS: &[&str] =
    &["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"];

/// Longest name that the API takes.
const MAX_NAME: usize = 128;

/// The first of these labels that is there.
pub(super) fn first_label<'a>(
    label: impl Fn(&str) -> Option<&'a str>,
    keys: &[&str],
) -> Option<String> {
    let mut values = keys.iter().filter_map(|key| label(key)).filter(|value| !value.is_empty());
    values.next().map(bounded)
}

/// A name that the API takes.
pub(super) fn bounded(name: &str) -> String {
    name.chars().take(MAX_NAME).collect()
}

/// The region of a zone of AWS: `us-east-1` of `us-east-1a`, and of the local zone `us-east-1-bos-1a`.
pub(super) fn aws_region(zone: &str) -> Option<&str> {
    let number = zone.find(|c: char| c.is_ascii_digit())?;
    let length = zone[number..].find(|c: char| !c.is_ascii_digit()).unwrap_or(zone.len() - number);
    zone[..number].ends_with('-').then_some(&zone[..number + length])
}

#[cfg(test)]
mod tests {
    use super::aws_region;

    #[test]
    fn the_region_of_a_zone_ends_with_its_first_number() {
        for (zone, expected) in [
            ("us-east-1a", Some("us-east-1")),
            ("ap-southeast-12b", Some("ap-southeast-12")),
            ("us-gov-west-1c", Some("us-gov-west-1")),
            ("us-west-2-lax-1a", Some("us-west-2")),
            ("us-east-1-wl1-bos-wlz-1", Some("us-east-1")),
            ("us-east-1", Some("us-east-1")),
            ("test-zone-a", None),
            ("use1-az1", None),
            ("", None),
        ] {
            assert_eq!(aws_region(zone), expected, "{zone}");
        }
    }
}

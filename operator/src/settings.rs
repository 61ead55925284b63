//! What an administrator decides for all portals of one operator.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
};

/// The settings of the operator's command line.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Image of `hardware` where a portal names none.
    pub hardware_image: String,
    /// Image of `portal` where a portal names none.
    pub portal_image: String,
    /// Image of `collector` where a portal names none.
    pub collector_image: String,
    /// Pull policy of all of them where a portal names none.
    pub image_pull_policy: Option<String>,
    /// Hosts that credentials may be sent to. If empty: the host that a credential comes with, or else the
    /// one that the administrator of its secret names.
    pub allowed_database_hosts: Vec<HostPattern>,
    /// The operator's own namespace, whose pods may reach admin ports.
    pub namespace: String,
    /// The certificate authorities of databases where a portal names none, as PEM.
    pub rds_authorities: Arc<[u8]>,
    /// Address of AWS Secrets Manager, instead of the one that the region gives.
    pub aws_endpoint: Option<String>,
}

/// A host name, or `*.` and a domain for every name below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern(String);

impl FromStr for HostPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.strip_prefix("*.").unwrap_or(text);
        if name.is_empty() || name.contains('*') {
            return Err(format!("expected a host name or *.DOMAIN, found \"{text}\""));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl HostPattern {
    /// Whether the pattern covers a host.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        match self.0.strip_prefix('*') {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => host == self.0,
        }
    }
}

/// Names of the pod itself in a pod's or a distribution's `/etc/hosts`, and of the metadata services of
/// clouds.
const LOCAL_NAMES: [&str; 9] = [
    "localhost",
    "localhost.localdomain",
    "localhost4",
    "localhost6",
    "ip6-localhost",
    "ip6-loopback",
    "instance-data",
    "instance-data.ec2.internal",
    "metadata.google.internal",
];

/// Whether a host is the operator's own pod or node, or a metadata service of a cloud, so that no database
/// of a portal can be on it. It judges the text, in any notation that a resolver takes, and does not
/// resolve names.
#[must_use]
pub fn is_local(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if LOCAL_NAMES.contains(&host.as_str()) || host.ends_with(".localhost") {
        return true;
    }
    // What follows the address is the zone: an interface of the node.
    let address = host.split_once('%').map_or(host.as_str(), |(address, _)| address);
    match address.parse() {
        Ok(v6) => is_local_v6(v6),
        Err(_) => parse_v4(address).is_some_and(is_local_v4),
    }
}

fn is_local_v4(v4: Ipv4Addr) -> bool {
    // 0.0.0.0/8 is this host on this network (RFC 1122).
    v4.is_loopback() || v4.is_link_local() || v4.octets()[0] == 0
}

fn is_local_v6(v6: Ipv6Addr) -> bool {
    let v4 = match v6.segments() {
        // The services of an EC2 instance, such as fd00:ec2::254 with its metadata.
        [0xfd00, 0xec2, ..] => return true,
        // An IPv4 address behind a translator (RFC 6052).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        // A mapped or a compatible one; `::` and `::1` are of this form too.
        _ => v6.to_ipv4(),
    };
    v6.is_unicast_link_local() || v4.is_some_and(is_local_v4)
}

/// An IPv4 address as resolvers take it (`inet_aton`): one to four numbers, decimal, octal with a
/// leading 0 or hexadecimal with 0x, of which the last one fills what is left of the 32 bits.
fn parse_v4(text: &str) -> Option<Ipv4Addr> {
    let numbers: Vec<u32> = text.split('.').map(parse_number).collect::<Option<_>>()?;
    let (last, leading) = numbers.split_last()?;
    if leading.len() > 3 || leading.iter().any(|number| *number > 0xff) {
        return None;
    }
    let rest = 32 - 8 * leading.len();
    if u64::from(*last) >> rest != 0 {
        return None;
    }
    let leading = (0..).zip(leading).map(|(index, number)| number << (24 - 8 * index));
    Some(Ipv4Addr::from_bits(leading.sum::<u32>() | last))
}

fn parse_number(text: &str) -> Option<u32> {
    let (digits, radix) = match (text.strip_prefix("0x"), text.strip_prefix('0')) {
        (Some(digits), _) => (digits, 16),
        (None, Some(digits)) if !digits.is_empty() => (digits, 8),
        (None, _) => (text, 10),
    };
    // The standard library would also take a sign.
    let is_number = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_number.then(|| u32::from_str_radix(digits, radix).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::{HostPattern, is_local};

    #[test]
    fn a_pattern_covers_names_below_its_domain_and_not_the_domain() {
        let pattern: HostPattern = "*.rds.example".parse().expect("a pattern");
        assert!(pattern.covers("db.RDS.example"));
        for host in ["rds.example", "evilrds.example", "db.rds.example.evil"] {
            assert!(!pattern.covers(host), "{host}");
        }
        assert!("db.*.example".parse::<HostPattern>().is_err());
    }

    #[test]
    fn loopback_link_local_and_metadata_are_local_in_every_notation() {
        for host in [
            "localhost",
            "LOCALHOST",
            "localhost.",
            "a.localhost",
            "localhost.localdomain",
            "ip6-localhost",
            "ip6-loopback",
            "metadata.google.internal",
            "instance-data",
            "127.0.0.1",
            "127.0.0.1.",
            "127.9.9.9",
            "127.1",
            "127.0.1",
            "0x7f000001",
            "0X7F000001",
            "0x7f.0.0.1",
            "2130706433",
            "0177.0.0.1",
            "017700000001",
            "127.0x1",
            "127.256",
            "0",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.43518",
            "2852039166",
            "0xa9fea9fe",
            "::1",
            "0:0:0:0:0:0:0:1",
            "::",
            "::%1",
            "fe80::1",
            "fe80::1%eth0",
            "febf::1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "::ffff:127.0.0.1",
            "::ffff:7f00:1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "::169.254.169.254",
            "64:ff9b::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "db.example",
            "localhost.example",
            "mylocalhost",
            "10.0.0.1",
            "10.1",
            "192.168.1.1",
            "0xa000001",
            "3232235777",
            "128.0.0.1",
            "127.0.0.0.1",
            "127.256.0.1",
            "127.0.0.256x",
            "4294967296",
            "0x",
            "",
            ".",
            "+127.0.0.1",
            "2001:db8::1",
            "fd00:ec3::254",
            "::ffff:10.0.0.1",
            "::10.0.0.1",
            "64:ff9b::10.0.0.1",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }
}

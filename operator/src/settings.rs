//! What an administrator decides for all portals of one operator.

use std::{net::IpAddr, str::FromStr, sync::Arc};

/// Decisions of the operator's own command line.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Image of `hardware` where a portal names none.
    pub hardware_image: String,
    /// Image of `portal` where a portal names none.
    pub portal_image: String,
    /// Pull policy of both where a portal names none.
    pub image_pull_policy: Option<String>,
    /// Hosts that credentials may be sent to; any if empty.
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

/// Whether a host is one that no database of a portal can be on, but something of the operator's own
/// node or of the cloud's metadata service might.
#[must_use]
pub fn is_local(host: &str) -> bool {
    if host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost") {
        return true;
    }
    match host.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(v4)) => v4.is_loopback() || v4.is_link_local() || v4.is_unspecified(),
        Ok(IpAddr::V6(v6)) => v6.is_loopback() || v6.is_unspecified() || v6.is_unicast_link_local(),
        Err(_) => false,
    }
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
    fn loopback_and_link_local_are_local_in_every_notation() {
        for host in [
            "localhost",
            "LOCALHOST",
            "a.localhost",
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "0.0.0.0",
            "::",
            "169.254.169.254",
            "fe80::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in ["db.example", "10.0.0.1", "192.168.1.1", "2001:db8::1", "localhost.example"] {
            assert!(!is_local(host), "{host}");
        }
    }
}

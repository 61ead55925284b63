//! Which addresses a receiver may have. Whoever writes a watch makes this service send requests, and could
//! reach with them what only this service can: so no address that is not of the public internet gets one,
//! unless the owner of the portal allows it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6(first: u16, second: u16, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0), length)
}

/// What is not globally reachable by IANA's "IPv4 Special-Purpose Address Registry", multicast, and the address
/// at which Azure serves each of its machines. The metadata of Amazon, Google and Azure (169.254.169.254), of
/// Alibaba (100.100.100.200) and of Oracle (192.0.0.192) are in these.
const NOT_PUBLIC_V4: [Ipv4Net; 17] = [
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    v4(168, 63, 129, 16, 32),
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 31, 196, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(224, 0, 0, 0, 4),
    v4(240, 0, 0, 0, 4),
];

/// Global unicast addresses, and those of them that are special by IANA's "IPv6 Special-Purpose Address
/// Registry": protocols (Teredo among them), documentation, 6to4. Translated addresses (`64:ff9b::/96`), local
/// and link-local ones (the metadata at `fd00:ec2::254` among them) and loopback are not global unicast.
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 3);
const NOT_PUBLIC_V6: [Ipv6Net; 4] =
    [v6(0x2001, 0, 23), v6(0x2001, 0xdb8, 32), v6(0x2002, 0, 16), v6(0x3fff, 0, 20)];

/// Whether requests may go to `address`; `allowed` is what the owner of the portal adds.
#[must_use]
pub(super) fn may_be_reached(address: IpAddr, allowed: &[IpNet]) -> bool {
    // ::ffff:127.0.0.1 reaches 127.0.0.1.
    let address = address.to_canonical();
    allowed.iter().any(|net| net.contains(&address)) || is_public(address)
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !NOT_PUBLIC_V4.iter().any(|net| net.contains(&address)),
        IpAddr::V6(address) => {
            GLOBAL_V6.contains(&address) && !NOT_PUBLIC_V6.iter().any(|net| net.contains(&address))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::may_be_reached;

    #[test]
    fn only_public_addresses_are_reached_unless_others_are_allowed() {
        let public =
            ["1.1.1.1", "8.8.8.8", "168.63.129.15", "172.32.0.1", "2606:4700::1111", "2a00::1"];
        let refused = [
            "0.0.0.0",
            "10.1.2.3",
            "100.100.100.200",
            "127.0.0.1",
            "127.9.9.9",
            "168.63.129.16",
            "169.254.169.254",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::7f00:1",
            "64:ff9b::a00:1",
            "2001::1",
            "2001:db8::1",
            "2002:a00:1::",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
        ];
        let parse = |text: &str| -> IpAddr { text.parse().expect("an address") };
        for address in public {
            assert!(may_be_reached(parse(address), &[]), "{address}");
        }
        for address in refused {
            assert!(!may_be_reached(parse(address), &[]), "{address}");
        }
        let allowed = ["10.1.0.0/16", "fd00::/8"].map(|net| net.parse().expect("a network"));
        for (address, expected) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("10.2.0.1", false),
            ("fd00::1", true),
            ("fe80::1", false),
            ("1.1.1.1", true),
        ] {
            assert_eq!(may_be_reached(parse(address), &allowed), expected, "{address}");
        }
    }
}

//! What sort of address an IP address is, by the special-purpose registries of IANA.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is for. Everything but [`AddressClass::Public`] is denied unless listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressClass {
    /// Reached over the public internet.
    Public,
    /// This machine: `127.0.0.0/8`, `::1`.
    Loopback,
    /// `0.0.0.0` and `::`, which reach this machine, too.
    Unspecified,
    /// The rest of `0.0.0.0/8`.
    ThisNetwork,
    /// RFC 1918.
    Private,
    /// RFC 6598, between a provider and its customers.
    CarrierGradeNat,
    /// `169.254.0.0/16`, `fe80::/10`.
    LinkLocal,
    /// Protocol assignments of the IETF: `192.0.0.0/24`, `2001::/23` apart from Teredo.
    Protocol,
    /// Made for examples.
    Documentation,
    /// Made for measurements.
    Benchmarking,
    /// A group of hosts.
    Multicast,
    /// All hosts of the network.
    Broadcast,
    /// Not assigned to anything.
    Reserved,
    /// `fc00::/7`.
    UniqueLocal,
    /// `fec0::/10`, given up in 2004 and still routed here and there.
    SiteLocal,
    /// `100::/64` and `100:0:0:1::/64`, where packets vanish.
    Discard,
    /// `64:ff9b::/96`, an IPv4 address behind a translator.
    Nat64,
    /// `64:ff9b:1::/48`, an IPv4 address behind a local translator.
    LocalNat64,
    /// `2002::/16` and its relays `192.88.99.0/24`: an IPv4 address at the other end of a tunnel.
    SixToFour,
    /// `2001::/32`: an IPv4 address at the other end of a tunnel.
    Teredo,
    /// `::a.b.c.d`, given up in 2006.
    Ipv4Compatible,
    /// `5f00::/16`, segments of a route.
    SegmentRouting,
}

impl AddressClass {
    /// What `address` is for. One mapped into IPv6 (`::ffff:a.b.c.d`) is the IPv4 address that would be dialled.
    pub fn of(address: IpAddr) -> AddressClass {
        match address.to_canonical() {
            IpAddr::V4(address) => of_v4(address),
            IpAddr::V6(address) => of_v6(address),
        }
    }
}

impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AddressClass::Public => "a public address",
            AddressClass::Loopback => "a loopback address",
            AddressClass::Unspecified => "the unspecified address",
            AddressClass::ThisNetwork => "an address of \"this network\"",
            AddressClass::Private => "a private address",
            AddressClass::CarrierGradeNat => "a carrier-grade NAT address",
            AddressClass::LinkLocal => "a link-local address",
            AddressClass::Protocol => "an address set aside for protocols",
            AddressClass::Documentation => "an address set aside for documentation",
            AddressClass::Benchmarking => "an address set aside for benchmarking",
            AddressClass::Multicast => "a multicast address",
            AddressClass::Broadcast => "the broadcast address",
            AddressClass::Reserved => "a reserved address",
            AddressClass::UniqueLocal => "a unique local address",
            AddressClass::SiteLocal => "a site-local address",
            AddressClass::Discard => "a discard-only address",
            AddressClass::Nat64 | AddressClass::LocalNat64 => "an address behind NAT64",
            AddressClass::SixToFour => "an address behind 6to4",
            AddressClass::Teredo => "an address behind Teredo",
            AddressClass::Ipv4Compatible => "an IPv4-compatible address",
            AddressClass::SegmentRouting => "a segment-routing address",
        })
    }
}

fn of_v4(address: Ipv4Addr) -> AddressClass {
    match address.octets() {
        [0, 0, 0, 0] => AddressClass::Unspecified,
        [0, ..] => AddressClass::ThisNetwork,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => AddressClass::Private,
        [100, 64..=127, ..] => AddressClass::CarrierGradeNat,
        [127, ..] => AddressClass::Loopback,
        [169, 254, ..] => AddressClass::LinkLocal,
        [192, 0, 0, _] => AddressClass::Protocol,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => AddressClass::Documentation,
        [192, 88, 99, _] => AddressClass::SixToFour,
        [198, 18 | 19, ..] => AddressClass::Benchmarking,
        [224..=239, ..] => AddressClass::Multicast,
        [255, 255, 255, 255] => AddressClass::Broadcast,
        [240..=255, ..] => AddressClass::Reserved,
        _ => AddressClass::Public,
    }
}

fn of_v6(address: Ipv6Addr) -> AddressClass {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => AddressClass::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => AddressClass::Loopback,
        [0, 0, 0, 0, 0, 0, _, _] => AddressClass::Ipv4Compatible,
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => AddressClass::Nat64,
        [0x64, 0xff9b, 1, ..] => AddressClass::LocalNat64,
        [0x100, 0, 0, 0 | 1, ..] => AddressClass::Discard,
        [0x2001, 0, ..] => AddressClass::Teredo,
        [0x2001, 2, 0, ..] => AddressClass::Benchmarking,
        [0x2001, 0..=0x1ff, ..] => AddressClass::Protocol,
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => AddressClass::Documentation,
        [0x2002, ..] => AddressClass::SixToFour,
        [0x5f00, ..] => AddressClass::SegmentRouting,
        [0xfc00..=0xfdff, ..] => AddressClass::UniqueLocal,
        [0xfe80..=0xfebf, ..] => AddressClass::LinkLocal,
        [0xfec0..=0xfeff, ..] => AddressClass::SiteLocal,
        [0xff00..=0xffff, ..] => AddressClass::Multicast,
        // The only block of global unicast addresses there is.
        [0x2000..=0x3fff, ..] => AddressClass::Public,
        _ => AddressClass::Reserved,
    }
}

/// The IPv4 address at the other end of a translator or tunnel, where the form of the address says which.
pub(crate) fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = address.to_canonical() else { return None };
    let [.., seventh, eighth] = v6.segments();
    let last = v4(seventh, eighth);
    match (of_v6(v6), v6.segments()) {
        (AddressClass::Nat64 | AddressClass::Ipv4Compatible, _) => Some(last),
        (AddressClass::SixToFour, [_, high, low, ..]) => Some(v4(high, low)),
        // The client's address is stored with every bit turned over.
        (AddressClass::Teredo, _) => Some(v4(!seventh, !eighth)),
        _ => None,
    }
}

/// Every IPv4 address that could stand in a locally translated one: how many bits its prefix has is the
/// network's own affair (RFC 6052, section 2.2).
pub(crate) fn maybe_embedded(address: IpAddr) -> Vec<Ipv4Addr> {
    let IpAddr::V6(v6) = address.to_canonical() else { return Vec::new() };
    if of_v6(v6) != AddressClass::LocalNat64 {
        return embedded(address).into_iter().collect();
    }
    let o = v6.octets();
    vec![
        Ipv4Addr::new(o[6], o[7], o[9], o[10]),
        Ipv4Addr::new(o[7], o[9], o[10], o[11]),
        Ipv4Addr::new(o[9], o[10], o[11], o[12]),
        Ipv4Addr::new(o[12], o[13], o[14], o[15]),
    ]
}

fn v4(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
}

/// Where machines in clouds ask for credentials. Denied by every list that does not name the very address.
const METADATA: [IpAddr; 12] = [
    // AWS, Azure, Google, DigitalOcean, Oracle, OpenStack and most others.
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    // AWS: tasks of ECS, pods of EKS.
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    // Tencent, Scaleway.
    IpAddr::V4(Ipv4Addr::new(169, 254, 0, 23)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 42, 42)),
    // Alibaba, in the range of carrier-grade NAT; Oracle's older one.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    // Azure, in the middle of public addresses.
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe)),
];

/// Whether `address` is where a cloud keeps its credentials.
pub(crate) fn is_metadata(address: IpAddr) -> bool {
    METADATA.contains(&address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_special_purpose_registries_are_known() {
        use AddressClass::*;
        // First and last of each block of the IPv4 and IPv6 special-purpose registries of IANA that is not globally
        // reachable, and their neighbours.
        for (address, class) in [
            ("0.0.0.0", Unspecified),
            ("0.0.0.1", ThisNetwork),
            ("0.255.255.255", ThisNetwork),
            ("1.0.0.0", Public),
            ("9.255.255.255", Public),
            ("10.0.0.0", Private),
            ("10.255.255.255", Private),
            ("11.0.0.0", Public),
            ("100.63.255.255", Public),
            ("100.64.0.0", CarrierGradeNat),
            ("100.127.255.255", CarrierGradeNat),
            ("100.128.0.0", Public),
            ("127.0.0.0", Loopback),
            ("127.255.255.255", Loopback),
            ("128.0.0.0", Public),
            ("169.253.255.255", Public),
            ("169.254.0.0", LinkLocal),
            ("169.254.255.255", LinkLocal),
            ("169.255.0.0", Public),
            ("172.15.255.255", Public),
            ("172.16.0.0", Private),
            ("172.31.255.255", Private),
            ("172.32.0.0", Public),
            ("191.255.255.255", Public),
            ("192.0.0.0", Protocol),
            ("192.0.0.255", Protocol),
            ("192.0.1.0", Public),
            ("192.0.2.0", Documentation),
            ("192.0.2.255", Documentation),
            ("192.0.3.0", Public),
            ("192.31.196.1", Public),
            ("192.88.98.255", Public),
            ("192.88.99.0", SixToFour),
            ("192.88.99.255", SixToFour),
            ("192.88.100.0", Public),
            ("192.167.255.255", Public),
            ("192.168.0.0", Private),
            ("192.168.255.255", Private),
            ("192.169.0.0", Public),
            ("192.175.48.1", Public),
            ("198.17.255.255", Public),
            ("198.18.0.0", Benchmarking),
            ("198.19.255.255", Benchmarking),
            ("198.20.0.0", Public),
            ("198.51.100.0", Documentation),
            ("198.51.100.255", Documentation),
            ("198.51.101.0", Public),
            ("203.0.113.0", Documentation),
            ("203.0.113.255", Documentation),
            ("203.0.114.0", Public),
            ("223.255.255.255", Public),
            ("224.0.0.0", Multicast),
            ("239.255.255.255", Multicast),
            ("240.0.0.0", Reserved),
            ("255.255.255.254", Reserved),
            ("255.255.255.255", Broadcast),
            ("::", Unspecified),
            ("::1", Loopback),
            ("::2", Ipv4Compatible),
            ("::127.0.0.1", Ipv4Compatible),
            ("::ffff:127.0.0.1", Loopback),
            ("::ffff:8.8.8.8", Public),
            ("::ffff:0:127.0.0.1", Reserved),
            ("64:ff9b::", Nat64),
            ("64:ff9b::8.8.8.8", Nat64),
            ("64:ff9b::1:0:0", Reserved),
            ("64:ff9b:1::", LocalNat64),
            ("64:ff9b:1:ffff:ffff:ffff:ffff:ffff", LocalNat64),
            ("64:ff9b:2::", Reserved),
            ("100::", Discard),
            ("100::ffff:ffff:ffff:ffff", Discard),
            ("100:0:0:1::", Discard),
            ("100:0:0:2::", Reserved),
            ("1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Reserved),
            ("2000::", Public),
            ("2001::", Teredo),
            ("2001:0:ffff:ffff:ffff:ffff:ffff:ffff", Teredo),
            ("2001:1::1", Protocol),
            ("2001:2::", Benchmarking),
            ("2001:2:1::", Protocol),
            ("2001:10::", Protocol),
            ("2001:20::", Protocol),
            ("2001:30::", Protocol),
            ("2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", Protocol),
            ("2001:200::", Public),
            ("2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", Public),
            ("2001:db8::", Documentation),
            ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", Documentation),
            ("2001:db9::", Public),
            ("2002::", SixToFour),
            ("2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", SixToFour),
            ("2003::", Public),
            ("2606:4700::1111", Public),
            ("3ffe::", Public),
            ("3fff::", Documentation),
            ("3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", Documentation),
            ("3fff:1000::", Public),
            ("4000::", Reserved),
            ("5f00::", SegmentRouting),
            ("5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", SegmentRouting),
            ("5f01::", Reserved),
            ("fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Reserved),
            ("fc00::", UniqueLocal),
            ("fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", UniqueLocal),
            ("fe00::", Reserved),
            ("fe80::", LinkLocal),
            ("febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", LinkLocal),
            ("fec0::", SiteLocal),
            ("feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", SiteLocal),
            ("ff00::", Multicast),
            ("ff02::1", Multicast),
        ] {
            assert_eq!(AddressClass::of(address.parse().unwrap()), class, "{address}");
        }
    }

    #[test]
    fn the_address_behind_a_translator_or_tunnel_is_found() {
        let metadata = Ipv4Addr::new(169, 254, 169, 254);
        for address in
            ["64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "2001:0:1:2:3:4:5601:5601", "::169.254.169.254"]
        {
            assert_eq!(embedded(address.parse().unwrap()), Some(metadata), "{address}");
        }
        assert_eq!(embedded("2606:4700::1111".parse().unwrap()), None);
        assert_eq!(embedded("::ffff:10.0.0.1".parse().unwrap()), None, "this one is the address itself");
        for local in [
            "64:ff9b:1:a9fe:a9:fe00::",
            "64:ff9b:1:a9:fe:a9fe::",
            "64:ff9b:1:0:a9:fea9:fe00:0",
            "64:ff9b:1::a9fe:a9fe",
        ] {
            assert!(maybe_embedded(local.parse().unwrap()).contains(&metadata), "{local}");
        }
    }
}

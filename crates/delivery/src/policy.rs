//! Which addresses may be dialled. Everything dialled went through [`AddressPolicy::vet`]: there is no other way to
//! make a [`Vetted`].

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use thiserror::Error;

use crate::address::{AddressClass, embedded, is_metadata, maybe_embedded};
use crate::{TargetHost, TargetUrl};

/// Addresses with a common prefix, as `--allow-target` takes them: `10.0.0.0/8`, `fd00::/8`, or one bare address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    network: IpAddr,
    bits: u8,
}

/// A text that is no [`Cidr`]. The sentence says what to write.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidCidr {
    /// Not an address before the slash.
    #[error("`{0}` is no range of addresses: write it like 10.0.0.0/8, fd00::/8 or 192.168.1.7")]
    Address(String),
    /// Not a number of bits after it.
    #[error("`{0}` has no good prefix length: it is a number of bits, at most 32 for IPv4 and 128 for IPv6")]
    Bits(String),
    /// Bits are set behind the prefix.
    #[error("`{given}` has bits set behind its prefix: write {meant}, or the one address without a slash")]
    HostBits {
        /// What was written.
        given: String,
        /// The network it lies in.
        meant: String,
    },
}

impl Cidr {
    /// Whether `address` lies within. One mapped into IPv6 is looked up as what it is, an IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                masked(network.to_bits().into(), self.bits, 32)
                    == masked(address.to_bits().into(), self.bits, 32)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                masked(network.to_bits(), self.bits, 128) == masked(address.to_bits(), self.bits, 128)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// Whether it is just `address`.
    fn is_exactly(&self, address: IpAddr) -> bool {
        let whole = if self.network.is_ipv4() { 32 } else { 128 };
        self.bits == whole && self.network == address.to_canonical()
    }
}

/// `bits` of the `width`-bit number `value` from the left, the rest cleared.
fn masked(value: u128, bits: u8, width: u32) -> u128 {
    let behind = width.saturating_sub(u32::from(bits));
    value.checked_shr(behind).and_then(|kept| kept.checked_shl(behind)).unwrap_or(0)
}

impl FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Cidr, InvalidCidr> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let given: IpAddr = address.parse().map_err(|_| InvalidCidr::Address(text.to_owned()))?;
        let network = given.to_canonical();
        let whole = if network.is_ipv4() { 32 } else { 128 };
        // `::ffff:10.0.0.0/104` means 10.0.0.0/8.
        let unmapped = if given.is_ipv6() && network.is_ipv4() { 96 } else { 0 };
        let bits = match bits {
            None => whole,
            Some(bits) => {
                let digits = !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
                let number: Option<u8> = if digits { bits.parse().ok() } else { None };
                number
                    .and_then(|number| number.checked_sub(unmapped))
                    .filter(|bits| *bits <= whole)
                    .ok_or_else(|| InvalidCidr::Bits(text.to_owned()))?
            }
        };
        let start = match network {
            IpAddr::V4(v4) => IpAddr::V4((masked(v4.to_bits().into(), bits, 32) as u32).into()),
            IpAddr::V6(v6) => IpAddr::V6(masked(v6.to_bits(), bits, 128).into()),
        };
        let cidr = Cidr { network: start, bits };
        if start == network {
            Ok(cidr)
        } else {
            Err(InvalidCidr::HostBits { given: text.to_owned(), meant: cidr.to_string() })
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.bits)
    }
}

/// Which addresses deliveries may go to.
///
/// Public ones, those in a listed range, and loopback if the server itself listens on loopback only. An address that a
/// cloud keeps its credentials at must be listed by itself: no range allows it.
#[derive(Debug, Clone, Default)]
pub struct AddressPolicy {
    allowed: Vec<Cidr>,
    loopback: bool,
}

/// An address that may be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vetted(IpAddr);

impl Vetted {
    /// The address.
    pub fn address(self) -> IpAddr {
        self.0
    }

    /// With a port.
    pub(crate) fn at(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.0, port)
    }
}

/// An address that may not be dialled. The sentence names the flag that would allow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Denied {
    /// Not public, and in no listed range.
    #[error(
        "{address} is {class}, and deliveries go to public addresses only: allow it with `--allow-target {address}`"
    )]
    NotPublic {
        /// The address.
        address: IpAddr,
        /// What it is.
        class: AddressClass,
    },
    /// Reaches, through a translator or tunnel, one that is not public and in no listed range.
    #[error(
        "{address} leads to {inner}, {class}, and deliveries go to public addresses only: allow it with `--allow-target {inner}`"
    )]
    LeadsTo {
        /// The address.
        address: IpAddr,
        /// The one behind it.
        inner: IpAddr,
        /// What that is.
        class: AddressClass,
    },
    /// A cloud keeps its credentials there.
    #[error(
        "{address} is where a cloud hands out credentials: only `--allow-target {address}`, by itself and not within a range, allows it"
    )]
    Metadata {
        /// The address.
        address: IpAddr,
    },
}

impl AddressPolicy {
    /// Public addresses only.
    pub fn public() -> AddressPolicy {
        AddressPolicy::default()
    }

    /// The policy of a server that listens on `listen`: on loopback only, it may deliver to loopback.
    pub fn for_listeners(listen: &[SocketAddr]) -> AddressPolicy {
        let local = |listener: &SocketAddr| AddressClass::of(listener.ip()) == AddressClass::Loopback;
        AddressPolicy { allowed: Vec::new(), loopback: !listen.is_empty() && listen.iter().all(local) }
    }

    /// Also allows what is listed by `--allow-target`.
    #[must_use]
    pub fn allow(mut self, ranges: impl IntoIterator<Item = Cidr>) -> AddressPolicy {
        self.allowed.extend(ranges);
        self
    }

    /// Whether `address` may be dialled.
    ///
    /// # Errors
    /// [`Denied`], naming the flag that would allow it.
    pub fn vet(&self, address: IpAddr) -> Result<Vetted, Denied> {
        let address = address.to_canonical();
        let secret = std::iter::once(address)
            .chain(maybe_embedded(address).into_iter().map(IpAddr::V4))
            .find(|candidate| is_metadata(*candidate));
        if let Some(secret) = secret {
            let named =
                self.allowed.iter().any(|range| range.is_exactly(secret) || range.is_exactly(address));
            return if named { Ok(Vetted(address)) } else { Err(Denied::Metadata { address: secret }) };
        }
        let class = AddressClass::of(address);
        if !self.allows(address, class) {
            return Err(Denied::NotPublic { address, class });
        }
        // A listed translator still leads only where deliveries may go.
        if let Some(inner) = embedded(address).map(IpAddr::V4) {
            let class = AddressClass::of(inner);
            if !self.allows(inner, class) {
                return Err(Denied::LeadsTo { address, inner, class });
            }
        }
        Ok(Vetted(address))
    }

    fn allows(&self, address: IpAddr, class: AddressClass) -> bool {
        class == AddressClass::Public
            || (self.loopback && class == AddressClass::Loopback)
            || self.allowed.iter().any(|range| range.contains(address))
    }

    /// Parts the addresses of a name into those that may be dialled and those that may not.
    pub fn vet_all(&self, addresses: &[IpAddr]) -> (Vec<Vetted>, Vec<Denied>) {
        let (mut allowed, mut denied) = (Vec::new(), Vec::new());
        for address in addresses {
            match self.vet(*address) {
                Ok(vetted) if !allowed.contains(&vetted) => allowed.push(vetted),
                Ok(_) => {}
                Err(why) => denied.push(why),
            }
        }
        (allowed, denied)
    }

    /// What can be said of a URL before a name is looked up: an address in it may be dialled. To be asked when a job is
    /// added, so that a mistake is heard of at once; what counts is asked again when dialling.
    ///
    /// # Errors
    /// [`Denied`], naming the flag that would allow it.
    pub fn check_literal(&self, url: &TargetUrl) -> Result<(), Denied> {
        match url.host() {
            TargetHost::Address(address) => self.vet(*address).map(|_| ()),
            TargetHost::Name(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn allowing(ranges: &[&str]) -> AddressPolicy {
        AddressPolicy::public().allow(ranges.iter().map(|range| range.parse().unwrap()))
    }

    #[test]
    fn ranges_are_read_strictly() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("fd00::/8", "fd00::/8"),
            ("192.168.1.7", "192.168.1.7/32"),
            ("::1", "::1/128"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:10.0.0.1", "10.0.0.1/32"),
        ] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), shown, "{text}");
        }
        for text in [
            "",
            "/8",
            "10/8",
            "10.0.0/24",
            "010.0.0.0/8",
            "localhost",
            "[::1]",
            "10.0.0.0 /8",
            "fe80::1%eth0",
        ] {
            assert!(matches!(text.parse::<Cidr>(), Err(InvalidCidr::Address(_))), "{text}");
        }
        for text in [
            "10.0.0.0/",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "::ffff:0.0.0.0/95",
        ] {
            assert!(matches!(text.parse::<Cidr>(), Err(InvalidCidr::Bits(_))), "{text}");
        }
        let meant = "10.1.2.3/8".parse::<Cidr>().unwrap_err().to_string();
        assert!(meant.contains("write 10.0.0.0/8"), "{meant}");
    }

    #[test]
    fn s_01_to_s_03_everything_not_public_is_denied_and_the_flag_is_named() {
        let policy = AddressPolicy::public();
        for address in [
            "127.0.0.1",
            "::1",
            "0.0.0.0",
            "::",
            "::ffff:127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.0.1",
            "100.64.0.1",
            "169.254.1.1",
            "198.18.0.1",
            "192.0.2.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "64:ff9b::808:808",
            "64:ff9b:1::1",
            "2002:808:808::1",
            "2001:0:1:2::3",
            "::8.8.8.8",
            "ff02::1",
        ] {
            let denied = policy.vet(ip(address)).unwrap_err();
            let canonical = ip(address).to_canonical();
            assert!(
                denied.to_string().contains(&format!("--allow-target {canonical}")),
                "{address}: {denied}"
            );
            assert!(allowing(&["0.0.0.0/0", "::/0"]).vet(ip(address)).is_ok(), "{address}");
        }
        assert_eq!(policy.vet(ip("::ffff:93.184.216.34")).unwrap().address(), ip("93.184.216.34"));
        assert!(policy.vet(ip("2606:4700::1111")).is_ok());
    }

    #[test]
    fn s_02_metadata_is_denied_unless_listed_by_itself() {
        let wide = allowing(&["0.0.0.0/0", "::/0", "169.254.0.0/16", "169.254.169.254/31"]);
        for address in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "::169.254.169.254",
            "fd00:ec2::254",
            "fe80::a9fe:a9fe",
            "100.100.100.200",
            "168.63.129.16",
        ] {
            let denied = wide.vet(ip(address)).unwrap_err();
            assert!(matches!(denied, Denied::Metadata { .. }), "{address}: {denied}");
            assert!(allowing(&[address]).vet(ip(address)).is_ok(), "{address}");
        }
        assert!(wide.vet(ip("169.254.1.1")).is_ok(), "the rest of the range is as listed");
        assert!(allowing(&["169.254.169.254"]).vet(ip("169.254.1.1")).is_err(), "and only what is listed");
    }

    #[test]
    fn a_listed_translator_leads_only_to_public_and_listed_addresses() {
        let translated = allowing(&["64:ff9b::/96"]);
        assert!(translated.vet(ip("64:ff9b::808:808")).is_ok());
        let denied = translated.vet(ip("64:ff9b::10.0.0.1")).unwrap_err();
        assert!(
            matches!(denied, Denied::LeadsTo { .. })
                && denied.to_string().contains("--allow-target 10.0.0.1")
        );
        assert!(allowing(&["64:ff9b::/96", "10.0.0.0/8"]).vet(ip("64:ff9b::10.0.0.1")).is_ok());
    }

    #[test]
    fn a_server_on_loopback_may_deliver_to_loopback_and_nothing_else_private() {
        let listen = |listeners: &[&str]| {
            let listeners: Vec<SocketAddr> = listeners.iter().map(|text| text.parse().unwrap()).collect();
            AddressPolicy::for_listeners(&listeners)
        };
        let loopback = listen(&["127.0.0.1:7717", "[::1]:7717"]);
        for address in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            assert!(loopback.vet(ip(address)).is_ok(), "{address}");
        }
        for address in ["0.0.0.0", "::", "10.0.0.1", "169.254.169.254", "::127.0.0.1", "64:ff9b::127.0.0.1"] {
            assert!(loopback.vet(ip(address)).is_err(), "{address}");
        }
        for other in [listen(&["0.0.0.0:7717"]), listen(&["127.0.0.1:7717", "10.0.0.1:7717"]), listen(&[])] {
            assert!(other.vet(ip("127.0.0.1")).is_err());
        }
    }

    #[test]
    fn s_04_of_a_name_only_the_allowed_addresses_remain() {
        let addresses = ["10.0.0.1", "93.184.216.34", "::ffff:93.184.216.34", "fd00::1"].map(ip);
        let (allowed, denied) = AddressPolicy::public().vet_all(&addresses);
        assert_eq!(allowed.iter().map(|vetted| vetted.address()).collect::<Vec<_>>(), [ip("93.184.216.34")]);
        assert_eq!(denied.len(), 2);
    }
}

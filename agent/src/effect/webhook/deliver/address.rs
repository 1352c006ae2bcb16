//! Which addresses a delivery may be sent to. Whoever may name an endpoint must not thereby reach what only this
//! host can: its own services, its neighbours, the cloud's metadata. Resolves nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::endpoint::Network;

/// What an endpoint may connect to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permit {
    /// Networks that are allowed although they are refused otherwise.
    pub networks: Vec<Network>,
    /// Whether nothing but this host will do, because the connection is not encrypted.
    pub loopback_only: bool,
    /// Whether every address will do: a proxy was named, and connects for us.
    pub anything: bool,
}

/// Why an address is not connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    address: IpAddr,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// By its kind, but it may be allowed.
    Kind(Kind),
    /// By its kind, and nobody can mean it.
    Never(Kind),
    /// Not encrypted, and not this host.
    Clear,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, why } = self;
        match why {
            Why::Kind(kind) => {
                write!(f, "{address} is {kind}, which is refused unless allow_networks has its network")
            }
            Why::Never(kind) => write!(f, "{address} is {kind}: no endpoint can be there"),
            Why::Clear => write!(f, "{address} is another machine: use https, or set allow_http: true"),
        }
    }
}

/// What kind of address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Public,
    Loopback,
    LinkLocal,
    Metadata,
    Private,
    Reserved,
    Unspecified,
    Multicast,
    Broadcast,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "a public address",
            Self::Loopback => "a loopback address",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "a metadata service",
            Self::Private => "a private address",
            Self::Reserved => "a reserved address",
            Self::Unspecified => "the unspecified address",
            Self::Multicast => "a multicast address",
            Self::Broadcast => "a broadcast address",
        })
    }
}

impl Permit {
    /// Whether this address may be connected to.
    ///
    /// # Errors
    /// When it may not, and why.
    pub fn check(&self, address: IpAddr) -> Result<(), Refusal> {
        if self.anything {
            return Ok(());
        }
        let address = address.to_canonical();
        let refuse = |why| Err(Refusal { address, why });
        let kind = kind(address);
        match kind {
            Kind::Unspecified | Kind::Multicast | Kind::Broadcast => return refuse(Why::Never(kind)),
            Kind::Public => {}
            Kind::Loopback | Kind::LinkLocal | Kind::Metadata | Kind::Private | Kind::Reserved => {
                if !self.networks.iter().any(|network| contains(network, address)) {
                    return refuse(Why::Kind(kind));
                }
            }
        }
        if self.loopback_only && kind != Kind::Loopback { refuse(Why::Clear) } else { Ok(()) }
    }
}

/// Whether the network has this address, which is canonical: an IPv4 address in IPv6 clothes is an IPv4 address.
fn contains(network: &Network, address: IpAddr) -> bool {
    let shared = |a: u128, b: u128, width: u32| {
        let host = width.saturating_sub(u32::from(network.prefix));
        a.checked_shr(host) == b.checked_shr(host)
    };
    match (network.address.to_canonical(), address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => shared(a.to_bits().into(), b.to_bits().into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => shared(a.to_bits(), b.to_bits(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

fn kind(address: IpAddr) -> Kind {
    match address {
        IpAddr::V4(v4) => kind_v4(v4),
        IpAddr::V6(v6) => kind_v6(v6),
    }
}

/// By the IANA registry of special-purpose IPv4 addresses.
fn kind_v4(address: Ipv4Addr) -> Kind {
    match address.octets() {
        [0, ..] => Kind::Unspecified,
        [127, ..] => Kind::Loopback,
        [169, 254, ..] => Kind::LinkLocal,
        // Azure's wire server, and the metadata of Alibaba Cloud, which lies in the shared range.
        [168, 63, 129, 16] | [100, 100, 100, 200] => Kind::Metadata,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Kind::Private,
        [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 18 | 19, ..] => Kind::Reserved,
        [198, 51, 100, _] | [203, 0, 113, _] => Kind::Reserved,
        [224..=239, ..] => Kind::Multicast,
        [255, 255, 255, 255] => Kind::Broadcast,
        [240..=255, ..] => Kind::Reserved,
        [_, _, _, _] => Kind::Public,
    }
}

/// By the IANA registry of special-purpose IPv6 addresses. An address that carries an IPv4 address leads to it, so
/// it is of its kind.
fn kind_v6(address: Ipv6Addr) -> Kind {
    if address.is_unspecified() {
        return Kind::Unspecified;
    }
    if address.is_loopback() {
        return Kind::Loopback;
    }
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| kind_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match [a, b, c, d, e, f] {
        // Mapped (RFC 4291, 2.5.5.2), translated (RFC 2765), compatible (RFC 4291, 2.5.5.1), NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0xffff | 0] | [0, 0, 0, 0, 0xffff, 0] | [0x64, 0xff9b, 0, 0, 0, 0] => v4(g, h),
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => v4(high, low),
        // The metadata service of EC2.
        [0xfd00, 0x0ec2, 0, 0, 0, 0] => Kind::Metadata,
        [0xff00..=0xffff, ..] => Kind::Multicast,
        [0xfe80..=0xfebf, ..] => Kind::LinkLocal,
        // Unique local (RFC 4193) and the site-local ones before them.
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Kind::Private,
        // Teredo and other protocols, documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Kind::Reserved,
        [0x2000..=0x3fff, ..] => Kind::Public,
        // Everything else is not global unicast (RFC 4291, 2.4), local NAT64 (RFC 8215) among it.
        [_, _, _, _, _, _] => Kind::Reserved,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network(text: &str) -> Network {
        let (address, prefix) = text.split_once('/').unwrap();
        Network { address: address.parse().unwrap(), prefix: prefix.parse().unwrap() }
    }

    fn permit(networks: &[&str]) -> Permit {
        Permit { networks: networks.iter().map(|text| network(text)).collect(), ..Permit::default() }
    }

    fn allows(permit: &Permit, address: &str) -> bool {
        permit.check(address.parse().unwrap()).is_ok()
    }

    #[test]
    fn only_public_addresses_without_permission() {
        for good in ["1.1.1.1", "8.8.8.8", "172.32.0.1", "192.169.0.1", "100.128.0.1", "2606:4700::1111"] {
            assert!(allows(&Permit::default(), good), "{good}");
        }
        for bad in [
            "127.0.0.1",
            "127.255.1.2",
            "::1",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "169.254.169.254",
            "168.63.129.16",
            "100.100.100.200",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fdff::1",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "224.0.0.1",
            "239.1.1.1",
            "ff02::1",
            "255.255.255.255",
            "240.0.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "2001:db8::1",
            "2001::1",
            "100::1",
            "4000::1",
            // The same in other clothes.
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "2002:0a00:0001::",
        ] {
            assert!(!allows(&Permit::default(), bad), "{bad}");
        }
        for good in ["::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:0808:0808::1"] {
            assert!(allows(&Permit::default(), good), "{good}");
        }
    }

    #[test]
    fn what_is_allowed_is_allowed_and_no_more() {
        let permit = permit(&["127.0.0.0/8", "10.1.0.0/16", "fd12::/16", "169.254.169.254/32"]);
        for good in ["127.0.0.1", "::ffff:127.0.0.1", "10.1.2.3", "fd12::1", "169.254.169.254"] {
            assert!(allows(&permit, good), "{good}");
        }
        for bad in ["::1", "10.2.0.1", "fd13::1", "169.254.169.253", "64:ff9b::127.0.0.1"] {
            assert!(!allows(&permit, bad), "{bad}");
        }
        let everything = Permit { networks: vec![network("0.0.0.0/0"), network("::/0")], ..permit };
        assert!(allows(&everything, "192.168.0.1") && allows(&everything, "64:ff9b::127.0.0.1"));
        for never in ["0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "::ffff:0.0.0.0", "64:ff9b::0.0.0.0"] {
            assert!(!allows(&everything, never), "{never}");
        }
    }

    #[test]
    fn clear_text_stays_on_this_host_and_a_proxy_decides_for_itself() {
        let clear = Permit { loopback_only: true, ..permit(&["127.0.0.0/8", "10.0.0.0/8"]) };
        assert!(allows(&clear, "127.0.0.1"));
        let refusal = clear.check("10.0.0.1".parse().unwrap()).unwrap_err().to_string();
        assert!(refusal.contains("allow_http"), "{refusal}");
        assert!(!allows(&clear, "1.1.1.1"));
        assert!(allows(&Permit { anything: true, ..Permit::default() }, "127.0.0.1"));
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let refusal = Permit::default().check("10.0.0.5".parse().unwrap()).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "10.0.0.5 is a private address, which is refused unless allow_networks has its network"
        );
    }

    proptest! {
        #[test]
        fn no_clothes_hide_an_ipv4_address(bits: u32) {
            let v4 = Ipv4Addr::from_bits(bits);
            let [high, low] = [(bits >> 16) as u16, bits as u16];
            let bare = kind_v4(v4);
            for dressed in [
                v4.to_ipv6_mapped(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
            ] {
                prop_assert_eq!(kind_v6(dressed), bare, "{}", dressed);
            }
        }

        #[test]
        fn a_network_has_what_shares_its_prefix(address: u32, other: u32, prefix in 0u8..=32) {
            let network = Network { address: Ipv4Addr::from_bits(address).into(), prefix };
            let expected = (0..u32::from(prefix)).all(|bit| (address ^ other) >> (31 - bit) & 1 == 0);
            prop_assert_eq!(contains(&network, Ipv4Addr::from_bits(other).into()), expected);
        }
    }
}

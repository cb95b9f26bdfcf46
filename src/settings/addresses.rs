//! Who a request really comes from, and whether an address is in a list. Pure functions.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::values::TrustedProxy;

/// Headers of common proxies, looked for beside the configured ones.
const COMMON_PROXY_HEADERS: [&str; 3] = ["CF-Connecting-IP", "Fly-Client-IP", "X-Forwarded-For"];

/// An address, possibly with an IPv6 zone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    ip: IpAddr,
    zone: Option<String>,
}

impl Address {
    /// Parses an address; an IPv6 one may have a zone (`fe80::1%eth0`).
    pub fn parse(text: &str) -> Option<Self> {
        let (ip, zone) = match text.split_once('%') {
            None => (text.parse().ok()?, None),
            Some((_, "")) => return None,
            Some((ip, zone)) => (IpAddr::V6(ip.parse().ok()?), Some(zone.to_owned())),
        };
        Some(Self { ip, zone })
    }

    /// The address of a connection's other end; an IPv4 one on an IPv6 socket counts as IPv4.
    pub fn of_peer(ip: IpAddr) -> Self {
        Self { ip: ip.to_canonical(), zone: None }
    }

    /// Without its zone.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Full form: IPv6 in eight groups of four digits.
    pub fn expanded(&self) -> String {
        let IpAddr::V6(ip) = self.ip else { return self.ip.to_string() };
        let groups: Vec<String> = ip.segments().iter().map(|n| format!("{n:04x}")).collect();
        let zone = self.zone.as_ref().map(|zone| format!("%{zone}")).unwrap_or_default();
        format!("{}{zone}", groups.join(":"))
    }
}

/// An entry of a list of addresses: one address, or a subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// One address.
    Single(Address),
    /// All addresses of its family whose first bits are these.
    Subnet(IpAddr, u32),
}

impl Network {
    /// Parses `address` or `address/bits`. A subnet has no zone, its bits no sign and no
    /// leading zero.
    pub fn parse(text: &str) -> Option<Self> {
        let subnet = text.rsplit_once('/').and_then(|(ip, bits)| Self::subnet(ip, bits));
        // A zone may hold a slash, so that what is no subnet may still be an address.
        subnet.or_else(|| Address::parse(text).map(Self::Single))
    }

    fn subnet(ip: &str, bits: &str) -> Option<Self> {
        let ip: IpAddr = ip.parse().ok()?;
        let digits = bits.bytes().all(|b| b.is_ascii_digit());
        let canonical = digits && (bits == "0" || !bits.starts_with('0'));
        let bits: u32 = bits.parse().ok().filter(|_| canonical)?;
        let bits_max = if ip.is_ipv4() { Ipv4Addr::BITS } else { Ipv6Addr::BITS };
        (bits <= bits_max).then_some(Self::Subnet(ip, bits))
    }

    /// Whether the address is this one or inside this subnet. An IPv4 address is never in an
    /// IPv6 subnet, nor the other way round; one with a zone is in no subnet.
    pub fn contains(&self, address: &Address) -> bool {
        match self {
            Self::Single(own) => own == address,
            Self::Subnet(_, _) if address.zone.is_some() => false,
            Self::Subnet(IpAddr::V4(net), bits) => match address.ip {
                IpAddr::V4(ip) => {
                    let differing = net.to_bits() ^ ip.to_bits();
                    differing.checked_shr(Ipv4Addr::BITS - bits).unwrap_or(0) == 0
                }
                IpAddr::V6(_) => false,
            },
            Self::Subnet(IpAddr::V6(net), bits) => match address.ip {
                IpAddr::V6(ip) => {
                    let differing = net.to_bits() ^ ip.to_bits();
                    differing.checked_shr(Ipv6Addr::BITS - bits).unwrap_or(0) == 0
                }
                IpAddr::V4(_) => false,
            },
        }
    }
}

/// Whether an address is in a list; entries that are none are passed over.
pub fn listed(list: &[String], address: &Address) -> bool {
    list.iter().filter_map(|entry| Network::parse(entry)).any(|entry| entry.contains(address))
}

/// Whether a superuser may come from this address: the list is empty, or has it.
pub fn superuser_may_come_from(superuser_ips: &[String], address: &Address) -> bool {
    superuser_ips.is_empty() || listed(superuser_ips, address)
}

/// Who a request comes from. `values_of` gives all values of a header in the order they came,
/// whatever the case of its name. Of the configured headers the first that holds an address
/// counts: its last value, there the right-most address (or the left-most, if so set). With
/// none the other end of the connection.
pub fn real_ip<'r>(
    trusted: &TrustedProxy,
    peer: IpAddr,
    values_of: impl Fn(&str) -> Vec<&'r [u8]>,
) -> Address {
    let addresses_of = |header: &String| -> Vec<Address> {
        let last = values_of(header).last().map(|value| String::from_utf8_lossy(value));
        let last = last.unwrap_or_default();
        last.split(',').filter_map(|part| Address::parse(part.trim())).collect()
    };
    trusted
        .headers
        .iter()
        .find_map(|header| {
            let mut addresses = addresses_of(header).into_iter();
            if trusted.use_leftmost_ip { addresses.next() } else { addresses.next_back() }
        })
        .unwrap_or_else(|| Address::of_peer(peer))
}

/// The name of a header that makes a proxy in front likely, empty when there is none: the
/// first present one of the configured and the common ones. `values_of` as in [`real_ip`].
pub fn possible_proxy_header<'r>(
    trusted: &TrustedProxy,
    values_of: impl Fn(&str) -> Vec<&'r [u8]>,
) -> String {
    trusted
        .headers
        .iter()
        .map(String::as_str)
        .chain(COMMON_PROXY_HEADERS)
        .find(|header| values_of(header).first().is_some_and(|value| !value.is_empty()))
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Trusted headers, left-most or not, headers sent, expected address.
    type Case<'a> = (&'a [&'a str], bool, &'a [(&'a str, &'a str)], &'a str);

    fn trusted(headers: &[&str], use_leftmost_ip: bool) -> TrustedProxy {
        let headers = headers.iter().map(|header| (*header).to_owned()).collect();
        TrustedProxy { headers, use_leftmost_ip }
    }

    fn values_of<'r>(sent: &'r [(&'r str, &'r str)]) -> impl Fn(&str) -> Vec<&'r [u8]> + use<'r> {
        move |name| {
            sent.iter()
                .filter(|(sent, _)| sent.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.as_bytes())
                .collect()
        }
    }

    #[test]
    fn the_real_ip_comes_from_the_first_header_that_holds_an_address() {
        let peer: IpAddr = "127.0.0.1".parse().expect("an address");
        let v6 = "2001:0db8:0000:0000:0000:0000:0000:0001";
        let cases: [Case<'_>; 12] = [
            (&[], false, &[("X-IP", "10.0.0.1")], "127.0.0.1"),
            (&["X-IP"], false, &[("x-ip", "10.0.0.1")], "10.0.0.1"),
            (&["X-IP"], false, &[("X-IP", "10.0.0.1, 10.0.0.2")], "10.0.0.2"),
            (&["X-IP"], true, &[("X-IP", " 10.0.0.1 ,10.0.0.2")], "10.0.0.1"),
            (&["X-IP"], false, &[("X-IP", "10.0.0.1, bad,")], "10.0.0.1"),
            (&["X-IP"], true, &[("X-IP", "bad,10.0.0.2")], "10.0.0.2"),
            (&["X-IP"], false, &[("X-IP", "10.0.0.1"), ("X-IP", "10.0.0.2")], "10.0.0.2"),
            (&["X-IP"], false, &[("X-IP", "10.0.0.1"), ("X-IP", "bad")], "127.0.0.1"),
            (&["A", "B"], false, &[("B", "10.0.0.2"), ("A", "10.0.0.1")], "10.0.0.1"),
            (&["A", "B"], false, &[("B", "10.0.0.2"), ("A", "")], "10.0.0.2"),
            (&["A"], false, &[("A", "2001:DB8::1")], v6),
            (&["A"], false, &[("A", "10.0.0.1:80")], "127.0.0.1"),
        ];
        for (headers, leftmost, sent, expected) in cases {
            let address = real_ip(&trusted(headers, leftmost), peer, values_of(sent));
            assert_eq!(address.expanded(), expected, "{headers:?} {sent:?}");
        }
    }

    #[test]
    fn ipv6_is_shown_in_full() {
        for (text, expected) in [
            ("::1", "0000:0000:0000:0000:0000:0000:0000:0001"),
            ("::ffff:1.2.3.4", "0000:0000:0000:0000:0000:ffff:0102:0304"),
            ("fe80::1%eth0", "fe80:0000:0000:0000:0000:0000:0000:0001%eth0"),
            ("1.2.3.4", "1.2.3.4"),
        ] {
            assert_eq!(Address::parse(text).expect("an address").expanded(), expected);
        }
        let peer = "::ffff:1.2.3.4".parse().expect("an address");
        assert_eq!(Address::of_peer(peer).expanded(), "1.2.3.4");
    }

    #[test]
    fn lists_hold_addresses_and_subnets() {
        for (entry, address, expected) in [
            ("10.9.9.0/24", "10.9.9.9", true),
            ("10.9.9.1/24", "10.9.9.9", true),
            ("10.9.9.0/24", "10.9.8.9", false),
            ("0.0.0.0/0", "10.9.8.9", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "::1", true),
            ("::/0", "1.2.3.4", false),
            ("2001:db8::/33", "2001:db8:7fff::1", true),
            ("2001:db8::/33", "2001:db8:8000::1", false),
            ("1.2.3.4/32", "1.2.3.4", true),
            ("1.2.3.4/32", "1.2.3.5", false),
            ("::1", "0:0:0:0:0:0:0:1", true),
            ("1.2.3.4", "::ffff:1.2.3.4", false),
            ("fe80::1%eth0", "fe80::1%eth0", true),
            ("fe80::1%eth0", "fe80::1", false),
            ("fe80::/16", "fe80::1%eth0", false),
            ("bad", "1.2.3.4", false),
        ] {
            let address = Address::parse(address).expect("an address");
            assert_eq!(listed(&[entry.to_owned()], &address), expected, "{entry} {address:?}");
        }
        let anywhere = Address::parse("9.9.9.9").expect("an address");
        assert!(superuser_may_come_from(&[], &anywhere));
        assert!(!superuser_may_come_from(&["1.2.3.4".to_owned()], &anywhere));
    }

    #[test]
    fn a_likely_proxy_is_named_by_its_header() {
        let header = |own: &[&str], sent: &[(&str, &str)]| {
            possible_proxy_header(&trusted(own, false), values_of(sent))
        };
        assert_eq!(header(&[], &[("cf-connecting-ip", "x")]), "CF-Connecting-IP");
        assert_eq!(header(&[], &[("X-Forwarded-For", "x")]), "X-Forwarded-For");
        assert_eq!(header(&["X-Own"], &[("X-Forwarded-For", "x"), ("X-OWN", "y")]), "X-Own");
        assert_eq!(header(&["X-Own"], &[("X-Own", "")]), "");
        assert_eq!(header(&[], &[]), "");
    }
}

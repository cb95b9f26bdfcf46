//! Which addresses a request may go to that somebody asked for through the API: none inside
//! the house. It is judged after the name was looked up, and what was judged is connected to,
//! so a name that means something else a moment later gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::lookup_host;
use url::{Host, Url};

/// Looks names up, and forgets what lies inside the house.
#[derive(Debug)]
pub(super) struct OutsideOnly;

impl Resolve for OutsideOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = lookup_host((name.as_str(), 0)).await?;
            let outside: Vec<_> = found.filter(|found| is_outside(found.ip())).collect();
            if outside.is_empty() {
                return Err("the name leads to no address outside of this network".into());
            }
            Ok(Box::new(outside.into_iter()) as Addrs)
        })
    }
}

/// Whether the host of an address may be connected to; names are judged when they are looked up.
pub(super) fn may_be_asked(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => is_outside(ip.into()),
        Some(Host::Ipv6(ip)) => is_outside(ip.into()),
        Some(Host::Domain(_)) => true,
        None => false,
    }
}

/// Whether an address is one of the public network.
fn is_outside(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_outside_v4(ip),
        IpAddr::V6(ip) => is_outside_v6(ip),
    }
}

fn is_outside_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let benchmark = a == 198 && (b == 18 || b == 19);
    let special = (a, b, c) == (192, 0, 0) || (a, b, c) == (192, 88, 99) || a == 0 || a >= 224;
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || shared
        || benchmark
        || special)
}

/// Only what is handed out (2000::/3), and of that nothing that wraps an IPv4 address.
fn is_outside_v6(ip: Ipv6Addr) -> bool {
    let [first, second, ..] = ip.segments();
    let tunnels = first == 0x2002 || (first == 0x2001 && second < 0x200);
    let documentation = (first == 0x2001 && second == 0xdb8) || first == 0x3fff;
    (0x2000..0x4000).contains(&first) && !tunnels && !documentation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_inside_the_house_is_outside() {
        for ip in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
        ] {
            assert!(!is_outside(ip.parse().expect("an address")), "{ip}");
        }
        for ip in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2001:4860::1"] {
            assert!(is_outside(ip.parse().expect("an address")), "{ip}");
        }
    }

    #[test]
    fn every_spelling_of_an_address_is_judged() {
        for url in [
            "http://127.1/",
            "http://0x7f000001/",
            "http://2130706433/",
            "http://[::1]:80/",
            "http://[::ffff:7f00:1]/",
            "http://0177.0.0.1/",
        ] {
            assert!(!may_be_asked(&Url::parse(url).expect("an url")), "{url}");
        }
        assert!(may_be_asked(&Url::parse("http://1.1.1.1/").expect("an url")));
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_leads_nowhere() {
        let name = "localhost".parse().expect("a name");
        assert!(OutsideOnly.resolve(name).await.is_err());
    }
}

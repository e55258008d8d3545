//! Whose address a call comes from: the peer's, or behind a trusted proxy the one it names.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use axum::http::{Extensions, HeaderMap};
use shared::http::Peer;

/// Proxies whose `X-Forwarded-For` is believed (`TRUSTED_PROXIES`: addresses or networks such as `10.0.0.0/8`,
/// separated by commas).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<(IpAddr, u8)>);

impl FromStr for TrustedProxies {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        entries.map(network).collect::<Option<Vec<_>>>().map(Self).ok_or(())
    }
}

fn network(entry: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = match entry.split_once('/') {
        None => (entry, None),
        Some((address, bits)) => (address, Some(bits.parse().ok()?)),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    Some((address, bits.unwrap_or(most))).filter(|(_, bits)| *bits <= most)
}

impl TrustedProxies {
    /// The caller's address. From the right of `X-Forwarded-For`, the first address that is no trusted proxy: what
    /// stands further left may be invented by the caller.
    #[must_use]
    pub fn client(&self, headers: &HeaderMap, extensions: &Extensions) -> IpAddr {
        let peer =
            extensions.get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |Peer(peer)| peer.ip().to_canonical());
        if !self.trusts(peer) {
            return peer;
        }
        let forwarded: Vec<&str> =
            headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok()).collect();
        let mut client = peer;
        for entry in forwarded.iter().flat_map(|value| value.split(',')).rev() {
            let Ok(address) = entry.trim().parse::<IpAddr>() else { break };
            client = address.to_canonical();
            if !self.trusts(client) {
                break;
            }
        }
        client
    }

    /// As [`TrustedProxies::client`]; none when that is a proxy, which stands for many callers.
    #[must_use]
    pub fn caller(&self, headers: &HeaderMap, extensions: &Extensions) -> Option<IpAddr> {
        Some(self.client(headers, extensions)).filter(|address| !self.trusts(*address))
    }

    /// Whether this is a proxy that stands for many callers.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|(network, bits)| match (network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                same(network.to_bits().into(), address.to_bits().into(), 32, *bits)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => same(network.to_bits(), address.to_bits(), 128, *bits),
            _ => false,
        })
    }
}

fn same(network: u128, address: u128, width: u8, bits: u8) -> bool {
    (network ^ address).checked_shr(u32::from(width - bits)).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn client(proxies: &str, peer: &str, forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        let mut extensions = Extensions::new();
        extensions.insert(Peer(SocketAddr::new(peer.parse().unwrap(), 1)));
        proxies.parse::<TrustedProxies>().unwrap().client(&headers, &extensions).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_names_the_client() {
        for (proxies, peer, forwarded, expected) in [
            ("", "1.2.3.4", &["9.9.9.9"][..], "1.2.3.4"),
            ("10.0.0.0/8", "10.1.1.1", &["9.9.9.9"], "9.9.9.9"),
            ("10.0.0.0/8", "10.1.1.1", &["6.6.6.6, 9.9.9.9"], "9.9.9.9"),
            ("10.0.0.0/8", "10.1.1.1", &["6.6.6.6, 9.9.9.9, 10.2.2.2"], "9.9.9.9"),
            ("10.0.0.0/8", "10.1.1.1", &["9.9.9.9", "10.2.2.2"], "9.9.9.9"),
            ("10.0.0.0/8", "10.1.1.1", &["nonsense"], "10.1.1.1"),
            ("10.0.0.0/8", "10.1.1.1", &[], "10.1.1.1"),
            ("::1, 10.0.0.1", "::1", &["2001:db8::1"], "2001:db8::1"),
            ("10.0.0.1", "::ffff:10.0.0.1", &["9.9.9.9"], "9.9.9.9"),
            ("0.0.0.0/0", "1.1.1.1", &["9.9.9.9"], "9.9.9.9"),
        ] {
            assert_eq!(client(proxies, peer, forwarded), expected, "{proxies} {peer} {forwarded:?}");
        }
        assert!("10.0.0.0/33".parse::<TrustedProxies>().is_err());
        assert!("proxy".parse::<TrustedProxies>().is_err());
    }
}

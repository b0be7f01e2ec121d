//! Who is calling, behind proxies: believed only as far as we know who forwarded it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

/// The proxies whose word about a client is taken (`TRUSTED_PROXIES`).
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

/// What is known of the client of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The client's address: the right-most one that no trusted proxy has.
    pub address: IpAddr,
    /// `http` or `https`, as the client used it.
    pub scheme: &'static str,
    /// Whether the peer of the connection is a trusted proxy, so that other headers of its may be believed too.
    pub through_proxy: bool,
}

impl TrustedProxies {
    /// Trusts the proxies in these networks.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// The client behind the connection from `peer`. `X-Forwarded-For` is read from the right, where our own proxy wrote,
    /// and only across trusted proxies: what stands further left is the client's own claim.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Client {
        let peer = peer.to_canonical();
        if !self.trusts(peer) {
            return Client { address: peer, scheme: "http", through_proxy: false };
        }
        let forwarded: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
        let hops = forwarded.iter().rev().flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
        let mut address = peer;
        for hop in hops {
            let Some(hop) = address_of(hop.trim()) else { break };
            address = hop.to_canonical();
            if !self.trusts(address) {
                break;
            }
        }
        // Each proxy in a row may have added what it saw: the first is what the client used.
        let scheme = headers.get("x-forwarded-proto").and_then(|schemes| schemes.to_str().ok()?.split(',').next());
        let https = scheme.is_some_and(|scheme| scheme.trim().eq_ignore_ascii_case("https"));
        Client { address, scheme: if https { "https" } else { "http" }, through_proxy: true }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// An address as proxies write it: some add the port (`203.0.113.9:4711`, `[2001:db8::9]:4711`).
fn address_of(hop: &str) -> Option<IpAddr> {
    let in_brackets = || hop.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    hop.parse()
        .ok()
        .or_else(|| hop.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
        .or_else(|| in_brackets().map(IpAddr::from))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn address(peer: &str, forwarded: &[&'static str]) -> String {
        let proxies =
            TrustedProxies::new(vec!["10.0.0.0/8".parse().expect("a network"), "::1/128".parse().expect("a network")]);
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_static(line));
        }
        proxies.client(peer.parse().expect("an address"), &headers).address.to_string()
    }

    #[test]
    fn a_direct_client_cannot_claim_another_address() {
        assert_eq!(address("203.0.113.9", &["198.51.100.1"]), "203.0.113.9");
    }

    #[test]
    fn what_a_trusted_proxy_wrote_is_believed_and_what_stands_left_of_it_is_not() {
        assert_eq!(address("10.0.0.1", &["198.51.100.1, 203.0.113.9"]), "203.0.113.9");
        assert_eq!(address("10.0.0.1", &["198.51.100.1", "203.0.113.9, 10.0.0.7"]), "203.0.113.9");
        assert_eq!(address("::ffff:10.0.0.1", &["::ffff:203.0.113.9"]), "203.0.113.9");
    }

    #[test]
    fn garbage_ends_the_walk_at_the_last_address_that_was_understood() {
        assert_eq!(address("10.0.0.1", &["203.0.113.9, nonsense"]), "10.0.0.1");
        assert_eq!(address("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn a_port_behind_an_address_is_left_off() {
        assert_eq!(address("10.0.0.1", &["203.0.113.9:4711"]), "203.0.113.9");
        assert_eq!(address("10.0.0.1", &["198.51.100.1:1, 203.0.113.9:4711, 10.0.0.7:80"]), "203.0.113.9");
        assert_eq!(address("10.0.0.1", &["[2001:db8::9]:4711"]), "2001:db8::9");
        assert_eq!(address("10.0.0.1", &["[2001:db8::9]"]), "2001:db8::9");
        assert_eq!(address("10.0.0.1", &["2001:db8::9"]), "2001:db8::9");
        for garbage in ["203.0.113.9:", "203.0.113.9:65536", "[203.0.113.9]", "[2001:db8::9", "unknown"] {
            assert_eq!(address("10.0.0.1", &[garbage]), "10.0.0.1", "{garbage}");
        }
    }

    #[test]
    fn of_several_schemes_the_first_is_the_clients() {
        let proxies = TrustedProxies::new(vec!["10.0.0.0/8".parse().expect("a network")]);
        let scheme = |peer: &str, forwarded: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-proto", HeaderValue::from_str(forwarded).expect("a header"));
            proxies.client(peer.parse().expect("an address"), &headers).scheme
        };
        for https in ["https", "https,http", "https, http", "HTTPS , http,http"] {
            assert_eq!(scheme("10.0.0.1", https), "https", "{https}");
            assert_eq!(scheme("203.0.113.9", https), "http", "no trusted proxy says so: {https}");
        }
        for http in ["http", "http,https", "", ",https", "httpsx"] {
            assert_eq!(scheme("10.0.0.1", http), "http", "{http}");
        }
    }
}

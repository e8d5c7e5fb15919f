use std::net::IpAddr;

use http::HeaderMap;
use ipnet::IpNet;

use crate::message::Protocol;

/// Who the sender is: the peer, or, when the peer is a trusted proxy, the
/// nearest address in `X-Forwarded-For` that is not one (read from the right,
/// because only what trusted proxies appended can be believed), and the
/// protocol that proxy was asked over.
///
/// A peer without an address (a unix socket) is trusted as soon as any proxy is.
pub(crate) fn client(
    peer: Option<IpAddr>,
    protocol: Protocol,
    headers: &HeaderMap,
    trusted: &[IpNet],
) -> (Option<IpAddr>, Protocol) {
    let is_trusted = |address: IpAddr| {
        let address = address.to_canonical();
        trusted.iter().any(|network| network.contains(&address))
    };
    if trusted.is_empty() || peer.is_some_and(|peer| !is_trusted(peer)) {
        return (peer.map(|peer| peer.to_canonical()), protocol);
    }
    let protocol = match headers
        .get_all("x-forwarded-proto")
        .iter()
        .next_back()
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.rsplit(',').next())
        .map(str::trim)
    {
        Some(value) if value.eq_ignore_ascii_case("https") => Protocol::Https,
        Some(value) if value.eq_ignore_ascii_case("http") => Protocol::Http,
        _ => protocol,
    };
    let mut client = peer;
    let hops = headers
        .get_all("x-forwarded-for")
        .iter()
        .rev()
        .flat_map(|value| value.to_str().unwrap_or("").rsplit(','));
    for hop in hops {
        // What cannot be read ends the chain: nothing left of it can be believed.
        let Some(address) = hop_address(hop.trim()) else {
            break;
        };
        client = Some(address);
        if !is_trusted(address) {
            break;
        }
    }
    (client.map(|client| client.to_canonical()), protocol)
}

/// An address as proxies write it: bare, in brackets, or with a port.
fn hop_address(hop: &str) -> Option<IpAddr> {
    hop.parse()
        .ok()
        .or_else(|| {
            hop.parse::<std::net::SocketAddr>()
                .ok()
                .map(|with_port| with_port.ip())
        })
        .or_else(|| hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|t| t.parse().unwrap()).collect();
        let peer = Some(peer.parse().unwrap());
        let (client, _) = client(peer, Protocol::Http, &headers, &trusted);
        client.unwrap().to_string()
    }

    #[test]
    fn the_header_of_an_untrusted_peer_is_not_read() {
        assert_eq!(seen("9.9.9.9", &["1.1.1.1"], &[]), "9.9.9.9");
        assert_eq!(seen("9.9.9.9", &["1.1.1.1"], &["10.0.0.0/8"]), "9.9.9.9");
    }

    #[test]
    fn the_header_is_read_from_the_right_skipping_trusted_proxies() {
        let trusted = &["10.0.0.0/8"];
        for (forwarded, client) in [
            (&["6.6.6.6, 1.1.1.1"][..], "1.1.1.1"),
            (&["6.6.6.6, 1.1.1.1, 10.0.0.2"], "1.1.1.1"),
            (&["6.6.6.6", "1.1.1.1", "10.0.0.2"], "1.1.1.1"),
            (&["1.1.1.1:4711"], "1.1.1.1"),
            (&["[2001:db8::1]:443"], "2001:db8::1"),
            (&["6.6.6.6, junk, 10.0.0.2"], "10.0.0.2"),
            (&["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            (&[], "10.0.0.1"),
        ] {
            assert_eq!(
                seen("10.0.0.1", forwarded, trusted),
                client,
                "{forwarded:?}"
            );
        }
        assert_eq!(seen("::ffff:10.0.0.1", &["1.1.1.1"], trusted), "1.1.1.1");
    }

    #[test]
    fn the_protocol_of_a_trusted_proxy_is_taken() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-proto", "https".parse().unwrap());
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let from = |peer: &str| {
            client(
                Some(peer.parse().unwrap()),
                Protocol::Http,
                &headers,
                &trusted,
            )
            .1
        };
        assert_eq!(from("10.0.0.1"), Protocol::Https);
        assert_eq!(from("9.9.9.9"), Protocol::Http);
    }
}

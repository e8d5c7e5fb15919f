use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::Connection;
use crate::message::{HeaderText, Headers, Protocol};

/// Who sent a request, as far as can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Its address; none over a unix socket, and where a trusted proxy tells none.
    pub address: Option<IpAddr>,
    /// How it spoke to the first of our own proxies, or to us.
    pub protocol: Protocol,
}

const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_PROTO: &str = "x-forwarded-proto";

impl Sender {
    /// The sender of a request with these `headers`: the other end of the
    /// connection, or, where that is one of the `trusted` proxies, the last
    /// address in X-Forwarded-For that is not. What stands before that one was
    /// written by it, or by somebody before it, and proves nothing.
    pub fn of(connection: &Connection, headers: &Headers, trusted: &[IpNet]) -> Self {
        Self::behind(connection.peer(), connection.protocol(), headers, trusted)
    }

    fn behind(
        peer: Option<IpAddr>,
        protocol: Protocol,
        headers: &Headers,
        trusted: &[IpNet],
    ) -> Self {
        let is_trusted = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
        // Over a unix socket comes whom its file's mode lets in: a proxy on this
        // machine, trusted as soon as any is.
        let trusts_peer = peer.as_ref().map_or(!trusted.is_empty(), is_trusted);
        let mut address = peer;
        if !trusts_peer {
            return Self { address, protocol };
        }
        // Several lines are one list, in their order (RFC 9110 §5.3).
        let lines = headers.all(FORWARDED_FOR).rev();
        let entries = lines.flat_map(|line| line.to_str().unwrap_or("?").rsplit(','));
        // Empty ones are none (RFC 9110 §5.6.1).
        for entry in entries.map(str::trim).filter(|entry| !entry.is_empty()) {
            // Where it is no address, somebody sent it, and who is not known: least of
            // all is it the proxy.
            address = parse(entry);
            if !address.as_ref().is_some_and(is_trusted) {
                break;
            }
        }
        let protocol = match headers.get(FORWARDED_PROTO).map(HeaderText::as_bytes) {
            Some(b"https") => Protocol::Https,
            Some(b"http") => Protocol::Http,
            _ => protocol,
        };
        Self { address, protocol }
    }
}

/// An address, with or without a port, an IPv6 one with or without brackets.
fn parse(entry: &str) -> Option<IpAddr> {
    let address = entry
        .parse::<IpAddr>()
        .or_else(|_| entry.parse::<SocketAddr>().map(|socket| socket.ip()))
        .or_else(|_| {
            let inner = entry.strip_prefix('[').and_then(|e| e.strip_suffix(']'));
            inner.unwrap_or_default().parse()
        });
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(peer: &str, headers: &[(&'static str, &'static str)]) -> (String, Protocol) {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let headers = headers.iter().copied().collect();
        let peer = peer.parse().ok();
        let sender = Sender::behind(peer, Protocol::Http, &headers, &trusted);
        let address = sender.address.map(|address| address.to_string());
        (address.unwrap_or_default(), sender.protocol)
    }

    fn address(peer: &str, forwarded: &'static str) -> String {
        sender(peer, &[("x-forwarded-for", forwarded)]).0
    }

    #[test]
    fn who_is_not_trusted_is_not_believed() {
        let headers = [
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-proto", "https"),
        ];
        let told = sender("9.9.9.9", &headers);
        assert_eq!(told, ("9.9.9.9".into(), Protocol::Http));
    }

    #[test]
    fn a_proxy_on_a_unix_socket_is_believed_once_any_proxy_is_trusted() {
        let headers = [
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-proto", "https"),
        ];
        assert_eq!(sender("", &headers), ("1.2.3.4".into(), Protocol::Https));
        let headers = Headers::from_iter([(FORWARDED_FOR, "1.2.3.4")]);
        let nobody_trusted = Sender::behind(None, Protocol::Http, &headers, &[]);
        assert_eq!(nobody_trusted.address, None);
    }

    #[test]
    fn the_last_address_that_is_not_ours_is_the_sender() {
        assert_eq!(address("10.0.0.1", "6.6.6.6, 1.2.3.4, 10.1.1.1"), "1.2.3.4");
        assert_eq!(address("10.0.0.1", "1.2.3.4:5678"), "1.2.3.4");
        assert_eq!(address("10.0.0.1", "[2001:db8::1]:5678"), "2001:db8::1");
        assert_eq!(address("fd00::1", "[2001:db8::1]"), "2001:db8::1");
        assert_eq!(address("10.0.0.1", "::ffff:1.2.3.4"), "1.2.3.4");
        assert_eq!(address("10.0.0.1", "10.0.0.7, 10.0.0.8"), "10.0.0.7");
        let lines = [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-proto", "https"),
        ];
        let told = sender("10.0.0.1", &lines);
        assert_eq!(told, ("1.2.3.4".into(), Protocol::Https));
    }

    #[test]
    fn who_is_told_as_what_is_no_address_is_not_known() {
        for entry in ["unknown", "1.2.3.4:99999", "fe80::1%eth0", "_hidden"] {
            let told = Headers::from_iter([(FORWARDED_FOR, entry)]);
            let proxy = "10.0.0.1".parse().ok();
            let trusted = ["10.0.0.0/8".parse().unwrap()];
            let sender = Sender::behind(proxy, Protocol::Http, &told, &trusted);
            assert_eq!(sender.address, None, "{entry}");
        }
        assert_eq!(address("10.0.0.1", "1.2.3.4, unknown, 10.0.0.2"), "");
    }

    #[test]
    fn a_proxy_that_tells_nobody_is_the_sender_itself() {
        assert_eq!(sender("10.0.0.1", &[]).0, "10.0.0.1");
        assert_eq!(address("10.0.0.1", ""), "10.0.0.1");
        assert_eq!(address("10.0.0.1", "1.2.3.4, , 10.0.0.2"), "1.2.3.4");
    }
}

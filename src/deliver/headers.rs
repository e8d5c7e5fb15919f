use std::io::Write as _;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderName, HeaderValue};
use smallvec::SmallVec;

use crate::key::{SigningKey, sign_with};
use crate::message::{self, Event, Found};

/// What a destination's headers are made of besides the event (contract §6).
#[derive(Default)]
pub(super) struct Headers {
    /// The URL's host; none for a file.
    pub(super) host: Option<HeaderValue>,
    /// Names taken over from the sender besides the usual ones.
    pub(super) forward: Vec<HeaderName>,
    /// Set on every delivery, in place of what was taken over.
    pub(super) configured: Vec<(HeaderName, HeaderValue)>,
    /// What signs the family anew; nothing where it is handed on as it was sent.
    pub(super) sign: Vec<SigningKey>,
}

const SOURCE: &str = "hookward-source";
const ID: &str = "hookward-id";
const TYPE: &str = "hookward-type";
const KEY: &str = "hookward-key";
const REQUEST: &str = "hookward-request";
const RESEND: &str = "hookward-resend";
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// Taken over by every destination, and whether it is a list, which is taken over
/// whole: the others have a single value by their standard, and are taken over once,
/// the first.
const TAKEN_OVER: [(&str, bool); 5] = [
    ("content-type", false),
    ("user-agent", false),
    ("traceparent", false),
    ("content-encoding", true),
    ("tracestate", true),
];

/// Names what is between the sender and us.
const CONNECTION: &str = "connection";

/// In every event's headers.
const LOOKED_FOR: [&str; 6] = {
    let [a, b, c, d, e] = TAKEN_OVER;
    [CONNECTION, a.0, b.0, c.0, d.0, e.0]
};

impl Headers {
    /// The headers of one attempt, each handed to `put`, its name in lower case. `now`
    /// is asked only where the family is signed anew.
    ///
    /// They are handed on one by one, and not as a map: a destination writes them
    /// where they go out, and a map of them cost more than all of that.
    pub(super) fn each(
        &self,
        event: &Event,
        now: impl FnOnce() -> SystemTime,
        mut put: impl FnMut(&str, &[u8]),
    ) {
        if let Some(host) = &self.host {
            put("host", host.as_bytes());
        }
        self.taken_over(event.headers(), &mut put);
        self.family(event, now, &mut put);
        ours(event, &mut put);
        for (name, value) in &self.configured {
            put(name.as_str(), value.as_bytes());
        }
    }

    /// What the sender sent and may say, but for what is configured in its place.
    fn taken_over(&self, headers: &message::Headers, put: &mut impl FnMut(&str, &[u8])) {
        let [connection, found @ ..] = headers.find(LOOKED_FOR);
        let sent = Sent {
            headers,
            names_some: connection.is_some(),
            configured: &self.configured,
        };
        for ((name, is_list), found) in TAKEN_OVER.into_iter().zip(found) {
            if is_list && found.is_some_and(|found| found.more) {
                sent.all(name, put);
            } else {
                sent.one(name, found, put);
            }
        }
        for name in &self.forward {
            sent.all(name.as_str(), put);
        }
    }

    /// The three of the family: as sent, or signed anew. An open source's are
    /// handed on as sent and never signed, for nobody proved them.
    fn family(
        &self,
        event: &Event,
        now: impl FnOnce() -> SystemTime,
        put: &mut impl FnMut(&str, &[u8]),
    ) {
        let Some(proof) = event.proof() else {
            if let Some(unproven) = event.unproven_envelope() {
                let [id, timestamp, signature] = unproven.family.names();
                put(id, unproven.id.as_bytes());
                put(timestamp, unproven.timestamp.as_bytes());
                put(signature, &unproven.signature);
            }
            return;
        };
        let [id, timestamp, signature] = proof.family().names();
        put(id, proof.id().as_bytes());
        if self.sign.is_empty() {
            put(timestamp, proof.timestamp().as_bytes());
            put(signature, proof.signature());
            return;
        }
        let seconds = now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let anew = sign_with(&self.sign, proof.id().as_str(), seconds, event.body());
        put(timestamp, seconds.to_string().as_bytes());
        put(signature, anew.as_bytes());
    }
}

/// What hookward itself says of the event.
fn ours(event: &Event, put: &mut impl FnMut(&str, &[u8])) {
    put(SOURCE, event.source().as_bytes());
    if let Some(id) = event.id() {
        let (source, id) = (event.source(), id.as_bytes());
        let mut key: SmallVec<[u8; 128]> = SmallVec::with_capacity(source.len() + 1 + id.len());
        key.extend_from_slice(source.as_bytes());
        key.push(b':');
        key.extend_from_slice(id);
        put(IDEMPOTENCY_KEY, &key);
        put(
            KEY,
            event.proof().map_or("", |proof| proof.key()).as_bytes(),
        );
        put(ID, id);
    }
    if let Some(event_type) = event.event_type() {
        put(TYPE, event_type.as_bytes());
    }
    put(REQUEST, event.origin().request.as_bytes());
    if let Some(client) = event.origin().client {
        let mut text = [0; ADDRESS];
        put(FORWARDED_FOR, address(client, &mut text));
    }
    if let Some(protocol) = event.origin().protocol {
        put(FORWARDED_PROTO, protocol.as_str().as_bytes());
    }
    if event.is_resend() {
        put(RESEND, b"true");
    }
}

/// The longest address: IPv6 in its mixed form (bytes).
const ADDRESS: usize = 45;

fn address(client: IpAddr, text: &mut [u8; ADDRESS]) -> &[u8] {
    let mut left = &mut text[..];
    // An IPv4 sender on a dual-stack socket is still an IPv4 sender.
    let written = match client.to_canonical() {
        IpAddr::V4(client) => {
            let [a, b, c, d] = client.octets();
            let mut digits = itoa::Buffer::new();
            // As its own way to be written, in a fifth of the time.
            let first = left.write_all(digits.format(a).as_bytes());
            [b, c, d].into_iter().fold(first, |before, octet| {
                before?;
                left.write_all(b".")?;
                left.write_all(digits.format(octet).as_bytes())
            })
        }
        IpAddr::V6(client) => write!(left, "{client}"),
    };
    debug_assert!(written.is_ok(), "the longest has room");
    let length = ADDRESS - left.len();
    &text[..length]
}

/// What the sender sent, less what its Connection header names, and what is
/// configured.
struct Sent<'a> {
    headers: &'a message::Headers,
    names_some: bool,
    configured: &'a [(HeaderName, HeaderValue)],
}

impl Sent<'_> {
    fn one(&self, name: &str, found: Option<Found<'_>>, put: &mut impl FnMut(&str, &[u8])) {
        if let Some(found) = found
            && !self.is_left_out(name)
        {
            put(name, found.first.as_bytes());
        }
    }

    fn all(&self, name: &str, put: &mut impl FnMut(&str, &[u8])) {
        let mut values = self.headers.all(name).peekable();
        if values.peek().is_none() || self.is_left_out(name) {
            return;
        }
        for value in values {
            put(name, value.as_bytes());
        }
    }

    fn is_left_out(&self, name: &str) -> bool {
        self.configured
            .iter()
            .any(|(configured, _)| configured == name)
            || self.is_for_us_alone(name)
    }

    /// RFC 9110 §7.6.1: what Connection names is between the sender and us.
    fn is_for_us_alone(&self, name: &str) -> bool {
        self.names_some
            && self
                .headers
                .all(CONNECTION)
                .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
                .any(|token| token.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http::header::CONTENT_TYPE;
    use proptest::prelude::*;

    use super::*;
    use crate::deliver::fixture::{Made, TIMESTAMP, event};
    use crate::message::Family;

    fn sent_by(headers: &Headers, event: &Event) -> HeaderMap {
        let mut map = HeaderMap::new();
        let nothing_is_signed = || unreachable!();
        headers.each(event, nothing_is_signed, |name, value| {
            let value = HeaderValue::from_bytes(value).unwrap();
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
            assert_eq!(name.to_lowercase(), name);
        });
        map
    }

    fn of(event: &Event) -> HeaderMap {
        sent_by(&Headers::default(), event)
    }

    #[test]
    fn each_family_keeps_its_names() {
        for family in Family::ALL {
            let map = of(&Made { family, ..event() }.proven());
            let [id, timestamp, signature] = family.names();
            assert_eq!(map[id], "msg_1");
            assert_eq!(map[timestamp], TIMESTAMP.to_string());
            assert_eq!(map[signature], "v1,c2lnbmF0dXJl");
            assert_eq!(map.len(), 11, "and eight of ours: {map:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_left_out_and_a_resend_is_told() {
        let made = Made {
            client: None,
            event_type: None,
            resend: true,
            ..event()
        };
        let map = of(&made.proven());
        assert!(!map.contains_key("x-forwarded-for"));
        assert!(!map.contains_key("hookward-type"));
        assert_eq!(map["hookward-resend"], "true");
        assert!(!of(&event().proven()).contains_key("hookward-resend"));
    }

    #[test]
    fn an_address_is_written_as_it_is_meant() {
        for (client, text) in [
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8::1", "2001:db8::1"),
        ] {
            let client = Some(client.parse().unwrap());
            let map = of(&Made { client, ..event() }.proven());
            assert_eq!(map["x-forwarded-for"], text);
        }
    }

    #[test]
    fn nothing_unproven_is_signed_or_called_an_id() {
        let headers = Headers {
            sign: vec![SigningKey::from_bytes(&[7; 32]).unwrap()],
            ..Headers::default()
        };
        let map = sent_by(&headers, &event().unproven(true));
        assert_eq!(map["svix-signature"], "v1,c2lnbmF0dXJl");
        for name in ["hookward-id", "hookward-key", "idempotency-key"] {
            assert!(!map.contains_key(name), "{name}");
        }
        assert_eq!(map["hookward-source"], "clerk");
        let map = sent_by(&headers, &event().unproven(false));
        assert!(!map.contains_key("svix-id"));
    }

    #[test]
    fn lists_are_taken_over_whole_and_single_values_once() {
        let sent = event()
            .header("content-encoding", "gzip")
            .header("content-encoding", "br")
            .header("content-type", "text/plain")
            .header("content-type", "text/html")
            .proven();
        let map = of(&sent);
        let all = |name| map.get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(all("content-encoding"), ["gzip", "br"]);
        assert_eq!(all("content-type"), ["text/plain"]);
    }

    #[test]
    fn what_is_configured_takes_the_place_of_what_was_sent() {
        let headers = Headers {
            configured: vec![(CONTENT_TYPE, HeaderValue::from_static("text/plain"))],
            ..Headers::default()
        };
        let sent = event().header("content-type", "text/html").proven();
        let map = sent_by(&headers, &sent);
        let all: Vec<_> = map.get_all(CONTENT_TYPE).iter().collect();
        assert_eq!(all, ["text/plain"]);
    }

    /// Names a sender may try, some of which must never pass.
    const NAMES: [&str; 20] = [
        "connection",
        "content-type",
        "cookie",
        "authorization",
        "hookward-id",
        "hookward-key",
        "hookward-resend",
        "idempotency-key",
        "keep-alive",
        "proxy-authorization",
        "svix-id",
        "te",
        "tracestate",
        "traceparent",
        "transfer-encoding",
        "upgrade",
        "webhook-id",
        "x-forwarded-for",
        "x-tenant",
        "host",
    ];

    /// With what values, some of which name headers for Connection.
    const VALUES: [&str; 6] = [
        "forged",
        "svix-id, X-Tenant",
        "close",
        "tracestate,,",
        "",
        "te",
    ];

    proptest! {
        #[test]
        fn whatever_is_sent_only_what_the_contract_lists_passes(
            sent in proptest::collection::vec((0..NAMES.len(), 0..VALUES.len()), 0..24)
        ) {
            let headers = Headers {
                forward: vec![HeaderName::from_static("x-tenant")],
                ..Headers::default()
            };
            let made = sent
                .iter()
                .fold(event(), |made, (name, value)| made.header(NAMES[*name], VALUES[*value]));
            let map = sent_by(&headers, &made.proven());
            let plain = of(&event().proven());
            let named = sent
                .iter()
                .filter(|(name, _)| NAMES[*name] == "connection")
                .flat_map(|(_, value)| VALUES[*value].split(','))
                .map(|name| name.trim().to_lowercase())
                .collect::<Vec<_>>();
            for name in map.keys() {
                let name = name.as_str();
                if plain.contains_key(name) {
                    let ours: Vec<_> = map.get_all(name).iter().collect();
                    prop_assert_eq!(ours.len(), 1);
                    prop_assert!(ours[0] != "forged", "{} was taken from the sender", name);
                    continue;
                }
                let passes = ["content-type", "tracestate", "traceparent", "x-tenant"];
                prop_assert!(passes.contains(&name), "{} passed", name);
                prop_assert!(!named.contains(&name.to_owned()), "{} was named", name);
            }
            for name in plain.keys() {
                prop_assert!(map.contains_key(name), "{} is missing", name);
            }
        }
    }
}

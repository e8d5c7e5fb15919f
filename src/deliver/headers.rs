use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderName, USER_AGENT};
use http::{HeaderMap, HeaderValue};

use crate::key::SigningKey;
use crate::message::{Event, Family};

/// What a destination's headers are made of besides the event (contract §6).
#[derive(Default)]
pub(super) struct Headers {
    /// The URL's host; none for a file.
    pub(super) host: Option<HeaderValue>,
    /// Names taken over from the sender besides the usual ones.
    pub(super) forward: Vec<HeaderName>,
    /// Set on every delivery, in place of what was taken over.
    pub(super) configured: Vec<(HeaderName, HeaderValue)>,
    /// Signs the family anew.
    pub(super) sign: Option<SigningKey>,
}

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
static SOURCE: HeaderName = HeaderName::from_static("hookward-source");
static ID: HeaderName = HeaderName::from_static("hookward-id");
static TYPE: HeaderName = HeaderName::from_static("hookward-type");
static KEY: HeaderName = HeaderName::from_static("hookward-key");
static REQUEST: HeaderName = HeaderName::from_static("hookward-request");
static RESEND: HeaderName = HeaderName::from_static("hookward-resend");
static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

static SVIX: [HeaderName; 3] = [
    HeaderName::from_static("svix-id"),
    HeaderName::from_static("svix-timestamp"),
    HeaderName::from_static("svix-signature"),
];
static WEBHOOK: [HeaderName; 3] = [
    HeaderName::from_static("webhook-id"),
    HeaderName::from_static("webhook-timestamp"),
    HeaderName::from_static("webhook-signature"),
];

/// Taken over by every destination. Those with a single value by their standard
/// are taken over once, the first; a list is taken over whole.
const SINGLE: [HeaderName; 2] = [CONTENT_TYPE, USER_AGENT];

/// Room for everything but `forward_headers`, so that the map grows once at most.
const USUAL: usize = 24;

impl Headers {
    /// The headers of one attempt. `now` is asked only where the family is
    /// signed anew.
    pub(super) fn of(&self, event: &Event, now: impl FnOnce() -> SystemTime) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(USUAL + self.forward.len() + self.configured.len());
        if let Some(host) = &self.host {
            map.insert(HOST, host.clone());
        }
        let sent = Sent::new(event.headers());
        for name in &SINGLE {
            sent.first(name, &mut map);
        }
        sent.first(&TRACEPARENT, &mut map);
        sent.all(&CONTENT_ENCODING, &mut map);
        sent.all(&TRACESTATE, &mut map);
        for name in &self.forward {
            sent.all(name, &mut map);
        }
        self.family(event, now, &mut map);
        ours(event, &mut map);
        for (name, value) in &self.configured {
            map.insert(name, value.clone());
        }
        map
    }

    /// The three of the family: as sent, or signed anew. An open source's are
    /// handed on as sent and never signed, for nobody proved them.
    fn family(&self, event: &Event, now: impl FnOnce() -> SystemTime, map: &mut HeaderMap) {
        let Some(proof) = event.proof() else {
            if let Some(unproven) = event.unproven_envelope() {
                let [id, timestamp, signature] = names(unproven.family);
                map.insert(id, unproven.id.header());
                map.insert(timestamp, unproven.timestamp.header());
                map.insert(signature, unproven.signature.clone());
            }
            return;
        };
        let [id, timestamp, signature] = names(proof.family());
        map.insert(id, proof.id().header());
        let anew = self.sign.as_ref().and_then(|key| {
            let seconds = now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs();
            let token = key.sign(proof.id().as_str(), seconds, event.body())?;
            Some((
                seconds,
                HeaderValue::from_maybe_shared(Bytes::from(token)).ok()?,
            ))
        });
        match anew {
            Some((seconds, token)) => {
                map.insert(timestamp, HeaderValue::from(seconds));
                map.insert(signature, token);
            }
            None => {
                map.insert(timestamp, proof.timestamp().header());
                map.insert(signature, proof.signature().clone());
            }
        }
    }
}

fn names(family: Family) -> &'static [HeaderName; 3] {
    match family {
        Family::Svix => &SVIX,
        Family::Webhook => &WEBHOOK,
    }
}

/// What hookward itself says of the event. The texts that are not header values
/// yet are written into one buffer, which they share.
fn ours(event: &Event, map: &mut HeaderMap) {
    let source = event.source().len();
    let id = event.id().map_or(0, |id| 1 + id.as_str().len());
    let key = event.proof().map_or("", |proof| proof.key());
    let mut text = BytesMut::with_capacity(source + id + key.len() + ADDRESS);
    text.extend_from_slice(event.source().as_bytes());
    if let Some(id) = event.id() {
        text.extend_from_slice(b":");
        text.extend_from_slice(id.as_str().as_bytes());
    }
    text.extend_from_slice(key.as_bytes());
    if let Some(client) = event.origin().client {
        address(client, &mut text);
    }
    let text = text.freeze();
    let mut put = |name: &'static HeaderName, value: Bytes| {
        // Names, ids and addresses are header values by their form.
        if let Ok(value) = HeaderValue::from_maybe_shared(value) {
            map.insert(name, value);
        }
    };
    put(&SOURCE, text.slice(..source));
    let keyed = source + id;
    if event.id().is_some() {
        put(&IDEMPOTENCY_KEY, text.slice(..keyed));
        put(&KEY, text.slice(keyed..keyed + key.len()));
    }
    if event.origin().client.is_some() {
        put(&FORWARDED_FOR, text.slice(keyed + key.len()..));
    }
    if let Some(id) = event.id() {
        map.insert(&ID, id.header());
    }
    if let Some(event_type) = event.event_type() {
        map.insert(&TYPE, event_type.header());
    }
    map.insert(&REQUEST, event.origin().request.header());
    let protocol = event.origin().protocol.as_str();
    map.insert(&FORWARDED_PROTO, HeaderValue::from_static(protocol));
    if event.is_resend() {
        map.insert(&RESEND, HeaderValue::from_static("true"));
    }
}

/// The longest address: IPv6 in its mixed form (bytes).
const ADDRESS: usize = 45;

fn address(client: IpAddr, text: &mut BytesMut) {
    // An IPv4 sender on a dual-stack socket is still an IPv4 sender.
    let written = write!(text, "{}", client.to_canonical());
    debug_assert!(written.is_ok(), "a buffer grows");
}

/// What the sender sent, less what its Connection header names.
struct Sent<'a> {
    headers: &'a HeaderMap,
    names_some: bool,
}

impl<'a> Sent<'a> {
    fn new(headers: &'a HeaderMap) -> Self {
        Self {
            headers,
            names_some: headers.contains_key(CONNECTION),
        }
    }

    fn first(&self, name: &HeaderName, map: &mut HeaderMap) {
        if let Some(value) = self.headers.get(name)
            && !self.is_for_us_alone(name)
        {
            map.insert(name, value.clone());
        }
    }

    fn all(&self, name: &HeaderName, map: &mut HeaderMap) {
        let mut values = self.headers.get_all(name).iter().peekable();
        if values.peek().is_none() || self.is_for_us_alone(name) {
            return;
        }
        for value in values {
            map.append(name, value.clone());
        }
    }

    /// RFC 9110 §7.6.1: what Connection names is between the sender and us.
    fn is_for_us_alone(&self, name: &HeaderName) -> bool {
        self.names_some
            && self
                .headers
                .get_all(CONNECTION)
                .iter()
                .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
                .any(|token| {
                    token
                        .trim_ascii()
                        .eq_ignore_ascii_case(name.as_str().as_bytes())
                })
    }
}

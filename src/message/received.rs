use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::{Envelope, Family, Headers, MessageId, Timestamp};

/// The id hookward gives one request: 16 hexadecimal digits, random. It stands
/// in the answer, in the log and in what destinations receive.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestId([u8; 16]);

impl RequestId {
    /// A new one.
    pub fn new() -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut bits = fastrand::u64(..);
        let mut text = [0u8; 16];
        for digit in &mut text {
            *digit = DIGITS[(bits & 15) as usize];
            bits >>= 4;
        }
        Self(text)
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        // Hexadecimal digits by construction.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The same as bytes, which need not be looked at for that.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Protocol {
    /// As `x-forwarded-proto` writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Protocol::Http => "http",
            Protocol::Https => "https",
        }
    }
}

/// Where a request came from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// hookward's own id for it.
    pub request: RequestId,
    /// The sender's address as hookward knows it; none over a unix socket or out
    /// of a queue.
    pub client: Option<IpAddr>,
    /// How it came in; none out of a queue.
    pub protocol: Option<Protocol>,
}

/// A request read whole, not yet proven.
pub struct Received {
    /// The name of the source it came to.
    pub source: Arc<str>,
    /// Where it came from.
    pub origin: Origin,
    /// The signature headers; none where the source asks for none.
    pub envelope: Option<Envelope>,
    /// All headers, as sent.
    pub headers: Headers,
    /// The body, the very bytes.
    pub body: Bytes,
}

/// What the proof of a message established.
#[derive(Clone, Debug)]
pub struct Proof {
    envelope: Envelope,
    key: Arc<str>,
}

impl Proof {
    /// The family the message was signed under.
    pub fn family(&self) -> Family {
        self.envelope.family
    }

    /// The id that was signed.
    pub fn id(&self) -> &MessageId {
        &self.envelope.id
    }

    /// The time that was signed.
    pub fn timestamp(&self) -> &Timestamp {
        &self.envelope.timestamp
    }

    /// The signatures as sent.
    pub fn signature(&self) -> &[u8] {
        &self.envelope.signature
    }

    /// The name of the key that matched, or its number from 1.
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// A message: a request that was proven genuine and fresh, or that came to a
/// source which says `dangerously-unverified` and then has no [`Proof`].
///
/// Only `verify` makes one.
///
/// It is handed on from stage to stage, so it is one pointer to what it holds.
pub struct Verified(Box<Held>);

struct Held {
    received: Received,
    proof: Option<Proof>,
}

impl Verified {
    /// For `verify` alone: the signature in `received.envelope` was matched by `key`.
    pub(crate) fn proven(received: Received, envelope: Envelope, key: Arc<str>) -> Self {
        Self(Box::new(Held {
            received,
            proof: Some(Proof { envelope, key }),
        }))
    }

    /// For `verify` alone: the source is open and nothing was checked.
    pub(crate) fn dangerously_unproven(received: Received) -> Self {
        Self(Box::new(Held {
            received,
            proof: None,
        }))
    }

    /// The name of the source it came to.
    pub fn source(&self) -> &Arc<str> {
        &self.0.received.source
    }

    /// Where it came from.
    pub fn origin(&self) -> &Origin {
        &self.0.received.origin
    }

    /// What was proven; none for a source that is open.
    pub fn proof(&self) -> Option<&Proof> {
        self.0.proof.as_ref()
    }

    /// The id that was signed, if there was a proof.
    pub fn id(&self) -> Option<&MessageId> {
        self.0.proof.as_ref().map(Proof::id)
    }

    /// The signature headers of an open source, in good form and proven by
    /// nobody; none where there is a proof.
    pub fn unproven_envelope(&self) -> Option<&Envelope> {
        self.0.received.envelope.as_ref()
    }

    /// All headers, as sent.
    pub fn headers(&self) -> &Headers {
        &self.0.received.headers
    }

    /// The body, the very bytes that were signed.
    pub fn body(&self) -> &Bytes {
        &self.0.received.body
    }
}

//! Events for the tests of this room.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::message::{
    Envelope, Event, EventType, Family, MessageId, Origin, Protocol, Received, RequestId,
    Timestamp, Verified,
};

/// An event in the making.
pub(super) struct Made {
    pub(super) family: Family,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) client: Option<std::net::IpAddr>,
    pub(super) event_type: Option<&'static str>,
    pub(super) resend: bool,
}

pub(super) const ID: &str = "msg_1";
pub(super) const TIMESTAMP: u64 = 1_649_367_553;

pub(super) fn event() -> Made {
    Made {
        family: Family::Svix,
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"{\"type\":\"user.created\"}"),
        client: Some([192, 0, 2, 7].into()),
        event_type: Some("user.created"),
        resend: false,
    }
}

impl Made {
    /// Adds a header as the sender sent it.
    pub(super) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.append(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
        self
    }

    pub(super) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The event, proven.
    pub(super) fn proven(self) -> Event {
        let envelope = self.envelope();
        let (event_type, resend) = (self.event_type, self.resend);
        let message = Verified::proven(self.received(None), envelope, "main".into());
        Event::new(message, event_type.and_then(EventType::from_text), resend)
    }

    /// The event of an open source, with or without signature headers.
    pub(super) fn unproven(self, enveloped: bool) -> Event {
        let envelope = enveloped.then(|| self.envelope());
        let (event_type, resend) = (self.event_type, self.resend);
        let message = Verified::dangerously_unproven(self.received(envelope));
        Event::new(message, event_type.and_then(EventType::from_text), resend)
    }

    fn envelope(&self) -> Envelope {
        Envelope {
            family: self.family,
            id: MessageId::parse(&HeaderValue::from_static(ID)).unwrap(),
            timestamp: Timestamp::parse(&HeaderValue::from(TIMESTAMP)).unwrap(),
            signature: HeaderValue::from_static("v1,c2lnbmF0dXJl"),
        }
    }

    fn received(self, envelope: Option<Envelope>) -> Received {
        Received {
            source: Arc::from("clerk"),
            origin: Origin {
                request: RequestId::new(),
                client: self.client,
                protocol: Protocol::Https,
            },
            envelope,
            headers: self.headers,
            body: self.body,
        }
    }
}

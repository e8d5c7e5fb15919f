use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};

use crate::message::{Event, Family, HeaderText, Headers};
use crate::setting::Secret;

use super::config::RabbitConfig;
use super::template::Template;

/// What an event becomes on its way to the broker (contract §7).
pub(super) struct Publication {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    pub(super) message_id: ShortString,
    pub(super) properties: BasicProperties,
    /// The very bytes that were signed.
    pub(super) body: Bytes,
}

/// Makes publications of events.
pub(super) struct Press {
    exchange: Template,
    routing_key: Template,
    message_id: Template,
    headers: FieldTable,
}

/// Delivery mode 2: the broker keeps it over a restart.
const PERSISTENT: u8 = 2;

impl Press {
    /// # Errors
    /// In words, when a secret was not read with the configuration.
    pub(super) fn new(config: &RabbitConfig) -> Result<Self, String> {
        let (exchange, routing_key) = config.target.templates();
        let mut headers = FieldTable::default();
        for (name, secret) in &config.headers {
            headers.insert(name.clone(), value(exposed(secret)?.as_bytes()));
        }
        Ok(Self {
            exchange: exchange.clone(),
            routing_key: routing_key.clone(),
            message_id: config.message_id.clone(),
            headers,
        })
    }

    /// Whether every name can be filled.
    pub(super) fn takes(&self, event: &Event) -> bool {
        [&self.exchange, &self.routing_key, &self.message_id]
            .iter()
            .all(|template| template.takes(event))
    }

    /// # Errors
    /// `None` when a name cannot be filled.
    pub(super) fn press(&self, event: &Event) -> Option<Publication> {
        let message_id = self.message_id.fill(event)?;
        Some(Publication {
            exchange: self.exchange.fill(event)?,
            routing_key: self.routing_key.fill(event)?,
            properties: self.properties(event, message_id.clone()),
            message_id,
            body: event.body().clone(),
        })
    }

    fn properties(&self, event: &Event, message_id: ShortString) -> BasicProperties {
        let mut properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_message_id(message_id)
            .with_app_id(short("hookward").unwrap_or_default())
            .with_headers(self.headers(event));
        if let Some(event_type) = event.event_type().and_then(|t| short(t.as_str())) {
            properties = properties.with_type(event_type);
        }
        let signed = event.proof().map(|proof| proof.timestamp());
        let claimed = || {
            event
                .unproven_envelope()
                .map(|envelope| &envelope.timestamp)
        };
        if let Some(timestamp) = signed.or_else(claimed) {
            properties = properties.with_timestamp(timestamp.seconds());
        }
        if let Some(content_type) = event.headers().get("content-type").and_then(text) {
            properties = properties.with_content_type(content_type);
        }
        if let Some(encoding) = joined(event.headers(), "content-encoding") {
            properties = properties.with_content_encoding(encoding);
        }
        properties
    }

    fn headers(&self, event: &Event) -> FieldTable {
        let mut headers = self.headers.clone();
        let mut put = |name: &'static str, bytes: &[u8]| {
            if let Some(name) = short(name) {
                headers.insert(name, value(bytes));
            }
        };
        put("hookward-source", event.source().as_bytes());
        if event.is_resend() {
            put("hookward-resend", b"true");
        }
        if let Some(proof) = event.proof() {
            put("hookward-id", proof.id().as_bytes());
            put("hookward-key", proof.key().as_bytes());
            family(
                &mut put,
                proof.family(),
                [
                    proof.id().as_bytes(),
                    proof.timestamp().as_bytes(),
                    proof.signature(),
                ],
            );
        } else if let Some(claimed) = event.unproven_envelope() {
            family(
                &mut put,
                claimed.family,
                [
                    claimed.id.as_bytes(),
                    claimed.timestamp.as_bytes(),
                    &claimed.signature,
                ],
            );
        }
        headers
    }
}

fn family(put: &mut impl FnMut(&'static str, &[u8]), family: Family, values: [&[u8]; 3]) {
    for (name, value) in family.names().into_iter().zip(values) {
        put(name, value);
    }
}

fn value(bytes: &[u8]) -> AMQPValue {
    AMQPValue::LongString(LongString::from(bytes))
}

fn short(text: &str) -> Option<ShortString> {
    ShortString::try_new(text).ok()
}

/// A header as a property, which is a text of up to 255 bytes: one that is not
/// cannot be told.
fn text(value: HeaderText<'_>) -> Option<ShortString> {
    short(value.to_str()?)
}

/// The values of a list, as one.
fn joined(headers: &Headers, name: &str) -> Option<ShortString> {
    let mut values = headers.all(name);
    let first = values.next()?;
    let Some(second) = values.next() else {
        return text(first);
    };
    let mut all = first.to_str()?.to_owned();
    for value in std::iter::once(second).chain(values) {
        all.push_str(", ");
        all.push_str(value.to_str()?);
    }
    ShortString::try_new(all).ok()
}

pub(super) fn exposed(secret: &Secret) -> Result<&str, String> {
    secret
        .expose()
        .ok_or_else(|| "its secrets were not read".to_owned())
}

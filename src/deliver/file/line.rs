use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::deliver::headers::Headers;
use crate::message::{Event, EventType, MessageId};
use crate::observe::rfc3339;

/// One event as a line of JSON, with its end of line. `received` is when it came
/// to this destination.
///
/// A header that is there several times is one text, joined by `, ` (RFC 9110
/// §5.3). An event of an open source has neither id nor timestamp: nobody proved
/// them.
pub(super) fn line(event: &Event, headers: &Headers, received: SystemTime) -> Vec<u8> {
    let mut line = Vec::with_capacity(event.body().len() + event.body().len() / 8 + HEAD);
    member(&mut line, b"{\"source\":", Some(event.source()));
    member(&mut line, b",\"id\":", event.id().map(MessageId::as_str));
    let event_type = event.event_type().map(EventType::as_str);
    member(&mut line, b",\"type\":", event_type);
    line.extend_from_slice(b",\"timestamp\":");
    match event.proof() {
        Some(proof) => line.extend_from_slice(proof.timestamp().as_bytes()),
        None => line.extend_from_slice(b"null"),
    }
    member(&mut line, b",\"received\":", Some(&rfc3339(received)));
    line.extend_from_slice(b",\"headers\":{");
    for (index, (name, value)) in joined(event, headers, received).iter().enumerate() {
        let lead: &[u8] = if index == 0 { b"" } else { b"," };
        member(&mut line, lead, Some(name));
        member(&mut line, b":", Some(value));
    }
    line.push(b'}');
    match std::str::from_utf8(event.body()) {
        Ok(text) => member(&mut line, b",\"body\":", Some(text)),
        Err(_) => {
            let text = STANDARD.encode(event.body());
            member(&mut line, b",\"body_base64\":", Some(&text));
        }
    }
    line.extend_from_slice(b"}\n");
    line
}

/// What a line has besides its body, about (bytes).
const HEAD: usize = 1024;

/// The headers, each name once.
fn joined(event: &Event, headers: &Headers, received: SystemTime) -> Vec<(String, String)> {
    let mut joined: Vec<(String, String)> = Vec::new();
    let put = |name: &str, value: &[u8]| {
        let value = String::from_utf8_lossy(value);
        match joined.iter_mut().find(|(known, _)| known == name) {
            Some((_, values)) => {
                values.push_str(", ");
                values.push_str(&value);
            }
            None => joined.push((name.to_owned(), value.into_owned())),
        }
    };
    headers.each(event, || received, put);
    joined
}

/// `lead` and a JSON text, or null.
fn member(line: &mut Vec<u8>, lead: &[u8], value: Option<&str>) {
    line.extend_from_slice(lead);
    // Writing a text to memory cannot fail.
    let written = serde_json::to_writer(line, &value);
    debug_assert!(written.is_ok());
}

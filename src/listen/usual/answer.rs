use http::header::{CONNECTION, CONTENT_LENGTH, DATE};

use super::date::today;
use crate::listen::Response;

/// Room for a usual answer (bytes).
const USUAL: usize = 512;

/// An answer as it goes over the wire, which closes after the `last`.
pub(super) fn written(response: &Response, last: bool) -> Vec<u8> {
    let body = &response.body;
    let mut text = Vec::with_capacity(USUAL + body.len());
    let status = response.status;
    text.extend_from_slice(b"HTTP/1.1 ");
    text.extend_from_slice(status.as_str().as_bytes());
    text.extend_from_slice(b" ");
    text.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(response.lines());
    if last {
        line(CONNECTION.as_str(), b"close", &mut text);
    }
    line(
        CONTENT_LENGTH.as_str(),
        itoa::Buffer::new().format(body.len()).as_bytes(),
        &mut text,
    );
    today(|date| line(DATE.as_str(), date, &mut text));
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(body);
    text
}

#[inline]
fn line(name: &str, value: &[u8], text: &mut Vec<u8>) {
    // Once for all four pieces.
    text.reserve(name.len() + value.len() + 4);
    text.extend_from_slice(name.as_bytes());
    text.extend_from_slice(b": ");
    text.extend_from_slice(value);
    text.extend_from_slice(b"\r\n");
}

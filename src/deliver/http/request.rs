use std::time::SystemTime;

use http::header::CONTENT_LENGTH;

use crate::deliver::headers::Headers;
use crate::message::{Event, write_header};

/// Writes the heads of requests to one destination.
pub(super) struct Heads {
    /// The request line with its end.
    line: Vec<u8>,
    headers: Headers,
}

/// Room for a usual head, so that its buffer seldom grows twice (bytes).
const USUAL: usize = 1024;

impl Heads {
    /// Heads of POSTs to this path and query.
    pub(super) fn new(path: &http::Uri, headers: Headers) -> Self {
        Self {
            line: format!("POST {path} HTTP/1.1\r\n").into_bytes(),
            headers,
        }
    }

    /// Writes the head of one request, with room for `body` behind it. `now` is
    /// asked only where the family is signed anew.
    pub(super) fn write(
        &self,
        event: &Event,
        now: impl FnOnce() -> SystemTime,
        text: &mut Vec<u8>,
    ) {
        text.reserve(USUAL + event.body().len().min(USUAL * 16));
        text.extend_from_slice(&self.line);
        self.headers
            .each(event, now, |name, value| write_header(name, value, text));
        let length = event.body().len();
        write_header(
            CONTENT_LENGTH.as_str(),
            itoa::Buffer::new().format(length).as_bytes(),
            text,
        );
        text.extend_from_slice(b"\r\n");
    }
}

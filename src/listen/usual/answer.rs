use http::StatusCode;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE};

use super::date::today;
use crate::listen::Response;
use crate::message::write_header;

/// Room for a usual answer (bytes).
const USUAL: usize = 512;

/// An answer as it goes over the wire, which closes after the `last`.
pub(super) fn written(response: &Response, last: bool) -> Vec<u8> {
    let status = response.status;
    // Those have no content, and so no length either (RFC 9110 §8.6).
    let body: Option<&[u8]> = match status {
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => None,
        _ => Some(&response.body),
    };
    let mut text = Vec::with_capacity(USUAL + body.map_or(0, <[u8]>::len));
    text.extend_from_slice(b"HTTP/1.1 ");
    text.extend_from_slice(status.as_str().as_bytes());
    text.extend_from_slice(b" ");
    text.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(response.lines());
    if last {
        write_header(CONNECTION.as_str(), b"close", &mut text);
    }
    if let Some(body) = body {
        let mut length = itoa::Buffer::new();
        let length = length.format(body.len()).as_bytes();
        write_header(CONTENT_LENGTH.as_str(), length, &mut text);
    }
    today(|date| write_header(DATE.as_str(), date, &mut text));
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(body.unwrap_or_default());
    text
}

#[cfg(test)]
mod tests {
    use http::header::{HeaderValue, RETRY_AFTER};

    use super::*;

    fn text(response: &Response, last: bool) -> String {
        let text = String::from_utf8(written(response, last)).unwrap();
        let date = text
            .split_once("date: ")
            .unwrap()
            .1
            .split_once("\r\n")
            .unwrap()
            .0;
        assert!(httpdate::parse_http_date(date).is_ok());
        text.replace(date, "NOW")
    }

    #[test]
    fn an_answer_is_a_status_line_its_headers_its_length_the_date_and_its_body() {
        let response = Response::new(StatusCode::SERVICE_UNAVAILABLE, "{}")
            .with(RETRY_AFTER, HeaderValue::from_static("5"));
        let expected = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\n\
            content-length: 2\r\ndate: NOW\r\n\r\n{}";
        assert_eq!(text(&response, false), expected);
        let expected = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\n\
            connection: close\r\ncontent-length: 2\r\ndate: NOW\r\n\r\n{}";
        assert_eq!(text(&response, true), expected);
    }

    #[test]
    fn an_answer_without_content_tells_no_length() {
        for status in [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED] {
            let text = text(&Response::new(status, "x"), false);
            assert!(text.ends_with("\r\ndate: NOW\r\n\r\n"), "{text}");
            assert!(!text.contains("content-length"), "{text}");
        }
        let text = text(&Response::new(StatusCode::OK, ""), false);
        assert!(text.contains("content-length: 0\r\n"), "{text}");
    }
}

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{Response as HttpResponse, StatusCode};
use http_body_util::Full;

use crate::message::{is_header_value, write_header};

/// What a request is answered. Its length and the date are added on the way.
///
/// Its headers are kept as the text they become: to make a map of them and to let it
/// go cost as much as all of the writing.
#[derive(Clone, Debug)]
pub struct Response {
    /// How it came out.
    pub status: StatusCode,
    /// Lines as they go over the wire, each with its end.
    headers: Vec<u8>,
    /// The body.
    pub body: Bytes,
}

/// Room for the headers of a usual answer (bytes).
const USUAL: usize = 128;

impl Response {
    /// One without headers.
    pub fn new(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: Vec::with_capacity(USUAL),
            body: body.into(),
        }
    }

    /// With one more header, whose value is our own and never a sender's.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        debug_assert!(is_header_value(value), "{name} has no good value");
        write_header(name.as_str(), value, &mut self.headers);
        self
    }

    /// The value of the first header of this name.
    pub fn header(&self, name: &HeaderName) -> Option<&[u8]> {
        let mut headers = self.headers();
        headers.find_map(|(ours, value)| (ours == name.as_str().as_bytes()).then_some(value))
    }

    /// All headers as they go over the wire.
    pub(super) fn lines(&self) -> &[u8] {
        &self.headers
    }

    /// As hyper wants it.
    pub(super) fn into_http(self) -> HttpResponse<Full<Bytes>> {
        let mut response = HttpResponse::new(Full::default());
        *response.status_mut() = self.status;
        for (name, value) in self.headers() {
            if let Ok(name) = HeaderName::from_bytes(name)
                && let Ok(value) = HeaderValue::from_bytes(value)
            {
                response.headers_mut().append(name, value);
            }
        }
        *response.body_mut() = Full::new(self.body);
        response
    }

    /// Names and values, in the order in which they were added.
    fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let lines = self.headers.split(|&byte| byte == b'\n');
        lines.filter_map(|line| {
            let line = line.strip_suffix(b"\r")?;
            let colon = line.iter().position(|&byte| byte == b':')?;
            Some((&line[..colon], line.get(colon + 2..)?))
        })
    }
}

#[cfg(test)]
mod tests {
    use http::header::{ALLOW, CONTENT_TYPE};

    use super::*;

    #[test]
    fn what_is_written_here_is_what_hyper_writes() {
        let response = Response::new(StatusCode::OK, "body")
            .with(CONTENT_TYPE, "text/plain")
            .with(ALLOW, "a: b");
        assert_eq!(
            response.lines(),
            b"content-type: text/plain\r\nallow: a: b\r\n"
        );
        assert_eq!(response.header(&ALLOW), Some(b"a: b".as_slice()));
        let http = response.into_http();
        assert_eq!(http.headers()[CONTENT_TYPE], "text/plain");
        assert_eq!(http.headers()[ALLOW], "a: b");
        assert_eq!(http.headers().len(), 2);
    }
}

use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderName, HeaderValue};
use http_body_util::Full;
use smallvec::SmallVec;

/// What a request is answered. Its length and the date are added on the way.
///
/// A few headers need no map: to make one and to let it go cost as much as writing
/// the whole answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// How it came out.
    pub status: StatusCode,
    headers: SmallVec<[(HeaderName, HeaderValue); 4]>,
    /// The body.
    pub body: Bytes,
}

impl Response {
    /// One without headers.
    pub fn new(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: SmallVec::new(),
            body: body.into(),
        }
    }

    /// With one more header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The first header of this name.
    pub fn header(&self, name: &HeaderName) -> Option<&HeaderValue> {
        let mut headers = self.headers();
        headers.find_map(|(ours, value)| (ours == name).then_some(value))
    }

    /// All headers, in the order in which they were added.
    pub fn headers(&self) -> impl Iterator<Item = &(HeaderName, HeaderValue)> {
        self.headers.iter()
    }

    /// As hyper wants it.
    pub(super) fn into_http(self) -> http::Response<Full<Bytes>> {
        let mut response = http::Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        response.headers_mut().extend(self.headers);
        response
    }
}

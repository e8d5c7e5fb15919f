use bytes::Bytes;
use http::Method;

use super::Incoming;
use crate::message::Headers;

/// A request whose head is whole, and in good form.
pub struct Request {
    /// Its method.
    pub method: Method,
    /// What it is for.
    pub target: Target,
    /// Its headers.
    pub headers: Headers,
    /// Its body, on its way.
    pub body: Incoming,
}

/// The path of a request and, after a `?`, its query, both as sent.
pub struct Target(Bytes);

impl Target {
    /// A target of that text.
    pub fn new(text: Bytes) -> Self {
        Self(text)
    }

    /// The path.
    pub fn path(&self) -> &str {
        self.parts().0
    }

    /// The query; empty where there is none.
    pub fn query(&self) -> &str {
        self.parts().1
    }

    fn parts(&self) -> (&str, &str) {
        // It was read as visible ASCII.
        let text = str::from_utf8(&self.0).unwrap_or_default();
        text.split_once('?').unwrap_or((text, ""))
    }
}

impl From<http::Request<hyper::body::Incoming>> for Request {
    fn from(request: http::Request<hyper::body::Incoming>) -> Self {
        let (head, body) = request.into_parts();
        let target = head.uri.path_and_query();
        let target = target.map_or("", |target| target.as_str());
        Self {
            target: Target::new(Bytes::copy_from_slice(target.as_bytes())),
            headers: Headers::from(&head.headers),
            method: head.method,
            body: Incoming::hyper(body),
        }
    }
}

use std::fmt;
use std::path::{Path, PathBuf};

use http::{HeaderValue, Uri};

use crate::setting::SafeUrl;

/// Where an HTTP destination is. Printing it shows neither query nor password.
#[derive(Clone, PartialEq, Eq)]
pub enum Target {
    /// `http://` or `https://`
    Url(SafeUrl),
    /// `unix:/path/to/socket:/request/path`
    Unix {
        /// The socket.
        socket: PathBuf,
        /// The path of the request, with its query.
        path: String,
    },
}

/// What is wrong with a target, as the rest of a sentence, and the way out.
pub(super) type Wrong = (String, &'static str);

const FORM: &str = "as in `\"http://127.0.0.1:3000/hooks\"` or `\"unix:/run/app.sock:/hooks\"`";

/// The kernel keeps the path of a unix socket in 108 bytes, with a zero at its end.
const LONGEST_SOCKET: usize = 107;

impl Target {
    /// Reads a target; a relative socket starts from `base`.
    pub(super) fn parse(text: &str, base: &Path) -> Result<Self, Wrong> {
        let text = text.trim();
        let target = match text.strip_prefix("unix:") {
            Some(rest) => Self::unix(rest, base)?,
            None => Self::url(text)?,
        };
        target.path().map_err(|why| (why, FORM))?;
        target.host().map_err(|why| (why, FORM))?;
        Ok(target)
    }

    fn unix(rest: &str, base: &Path) -> Result<Self, Wrong> {
        let (socket, path) = match rest.split_once(":/") {
            Some((socket, path)) => (socket, format!("/{path}")),
            None => (rest, "/".to_owned()),
        };
        if socket.is_empty() || socket.contains(':') {
            return Err(("names no socket".into(), FORM));
        }
        if path.contains('#') {
            return Err(fragment());
        }
        let socket = base.join(socket);
        if socket.as_os_str().len() > LONGEST_SOCKET {
            return Err((
                "names a unix socket whose path is over 107 bytes".into(),
                FORM,
            ));
        }
        Ok(Target::Unix { socket, path })
    }

    fn url(text: &str) -> Result<Self, Wrong> {
        let safe = SafeUrl::parse(text).map_err(|why| (why, FORM))?;
        let url = safe.expose();
        if !matches!(url.scheme(), "http" | "https") {
            return Err(("is neither http, https nor unix".into(), FORM));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err((
                "holds a user or password".into(),
                "send them as a header: `headers = { authorization = \"env:NAME\" }`",
            ));
        }
        if url.fragment().is_some() {
            return Err(fragment());
        }
        if url.port() == Some(0) {
            return Err(("names port 0".into(), FORM));
        }
        Ok(Target::Url(safe))
    }

    /// Whether it is spoken to over TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self, Target::Url(url) if url.expose().scheme() == "https")
    }

    /// Path and query, as they stand in the request line.
    pub(super) fn path(&self) -> Result<Uri, String> {
        let text = match self {
            Target::Url(url) => {
                let url = url.expose();
                match url.query() {
                    Some(query) => format!("{}?{query}", url.path()),
                    None => url.path().to_owned(),
                }
            }
            Target::Unix { path, .. } => path.clone(),
        };
        text.parse()
            .map_err(|_| "has a path that no request can carry".to_owned())
    }

    /// The Host header. A socket has no host; `localhost` is what services expect.
    pub(super) fn host(&self) -> Result<HeaderValue, String> {
        let Target::Url(url) = self else {
            return Ok(HeaderValue::from_static("localhost"));
        };
        let url = url.expose();
        let host = url.host_str().unwrap_or_default();
        match url.port() {
            Some(port) => HeaderValue::try_from(format!("{host}:{port}")),
            None => HeaderValue::from_str(host),
        }
        .map_err(|_| "has a host that no request can carry".to_owned())
    }
}

fn fragment() -> Wrong {
    let hint = "no request carries one: leave it out";
    ("has a fragment (`#…`)".into(), hint)
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Url(url) => url.fmt(f),
            Target::Unix { socket, path } => {
                let path = path.split('?').next().unwrap_or_default();
                write!(f, "unix:{}:{path}", socket.display())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_addressed_as_the_url_says() {
        for (url, host, path) in [
            ("http://a.example", "a.example", "/"),
            ("http://a.example:80/x", "a.example", "/x"),
            (
                "https://A.example:8443/x?y=1&z",
                "a.example:8443",
                "/x?y=1&z",
            ),
            ("http://[::1]:3000/a b/{c}", "[::1]:3000", "/a%20b/%7Bc%7D"),
            (
                "http://b\u{fc}cher.example/\u{fc}",
                "xn--bcher-kva.example",
                "/%C3%BC",
            ),
            ("unix:/run/a.sock:/x?y", "localhost", "/x?y"),
            ("unix:/run/a.sock", "localhost", "/"),
        ] {
            let target = Target::parse(url, Path::new("/")).unwrap();
            assert_eq!(target.host().unwrap(), host, "{url}");
            assert_eq!(target.path().unwrap(), path, "{url}");
        }
    }
}

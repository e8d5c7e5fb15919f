use std::fmt;

use super::{Entry, Setting};

/// A URL that can be printed: user, password, query and fragment never show.
#[derive(Clone, PartialEq, Eq)]
pub struct SafeUrl(::url::Url);

impl SafeUrl {
    /// Takes a URL.
    ///
    /// # Errors
    /// What is wrong, as the rest of a sentence, without the text itself.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let url = ::url::Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
        // The standard for browsers (WHATWG) makes a host of whatever comes first:
        // of `https:///hooks`, left by a variable that is empty, the host `hooks`.
        let behind = text.get(url.scheme().len()..).unwrap_or_default();
        let authority = behind.strip_prefix("://").unwrap_or_default();
        if url.is_special() && (authority.is_empty() || authority.starts_with(['/', '\\'])) {
            return Err("is not a URL: no host stands behind `://`".to_owned());
        }
        Ok(Self(url))
    }

    /// The whole of it, secrets included. Do not log it.
    pub fn expose(&self) -> &::url::Url {
        &self.0
    }
}

impl fmt::Display for SafeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.0.scheme())?;
        if let Some(host) = self.0.host_str() {
            write!(f, "//{host}")?;
            if let Some(port) = self.0.port() {
                write!(f, ":{port}")?;
            }
        }
        f.write_str(self.0.path())
    }
}

impl fmt::Debug for SafeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Setting for SafeUrl {
    const FORM: &'static str = "a URL, as in `\"http://127.0.0.1:3000/hooks\"`";

    fn read(entry: &Entry<'_>) -> Result<Self, String> {
        SafeUrl::parse(&entry.text().ok_or("is not a text")?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_host_is_none() {
        for text in [
            "https:///hooks",
            "http:hooks",
            "http:/hooks",
            "http:\\\\hooks/x",
            "http://\\hooks",
            "http://",
        ] {
            assert!(SafeUrl::parse(text).is_err(), "{text}");
        }
        for text in [
            "HTTP://hooks",
            " https://a:1/b ",
            "unix:/run/a:/b",
            "redis://h/0",
        ] {
            assert!(SafeUrl::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_url_shows_neither_password_nor_query() {
        let url = SafeUrl::parse("https://me:hush@example.com:8443/a?token=hush#hush").unwrap();
        assert_eq!(url.to_string(), "https://example.com:8443/a");
        assert!(!format!("{url:?}").contains("hush"));
    }
}

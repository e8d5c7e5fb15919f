use std::fmt;

use lapin::uri::AMQPUri;

use crate::setting::{Entry, SafeUrl, Secret, SecretSource, Section};

use super::LONGEST;

const URL: &str = "as in `\"amqp://user:password@broker:5672/%2f\"`, best as `\"env:NAME\"`";

/// A node of the broker: its URL, which may be a secret.
#[derive(Clone, PartialEq)]
pub struct Node {
    secret: Secret,
    /// Nothing when secrets were not to be read.
    url: Option<(SafeUrl, AMQPUri)>,
}

impl Node {
    /// Whether it is the same virtual host of the same node, as far as that can be
    /// told without asking it.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self.uri(), other.uri()) {
            (Some(one), Some(other)) => {
                let place = |uri: &AMQPUri| {
                    let host = uri.authority.host.to_ascii_lowercase();
                    (host, uri.authority.port, uri.vhost.clone())
                };
                place(one) == place(other)
            }
            _ => self.secret.source() == other.secret.source(),
        }
    }

    /// Where it is, if that was read. It holds a password.
    pub(super) fn uri(&self) -> Option<&AMQPUri> {
        self.url.as_ref().map(|(_, uri)| uri)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.url, self.secret.source()) {
            (Some((url, _)), _) => url.fmt(f),
            (None, source) => source.fmt(f),
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({self})")
    }
}

pub(super) fn is_tls(uri: &AMQPUri) -> bool {
    uri.scheme == lapin::uri::AMQPScheme::AMQPS
}

pub(super) fn nodes(section: &mut Section<'_>) -> Option<Vec<Node>> {
    let Some(entry) = section.entry("url") else {
        section.missing("url", URL);
        return None;
    };
    let place = entry.key().to_owned();
    let reader = entry.reader();
    let items = entry.items();
    if items.is_empty() {
        reader.error(&place, "names no broker", URL);
        return None;
    }
    let nodes: Vec<_> = items.iter().map(node).collect();
    nodes.into_iter().collect()
}

fn node(entry: &Entry<'_>) -> Option<Node> {
    let secret = Secret::of(entry)
        .map_err(|why| entry.error(why, URL))
        .ok()?;
    let Some(text) = secret.expose() else {
        // A literal is there to be looked at all the same.
        if *secret.source() != SecretSource::Literal {
            return Some(Node { secret, url: None });
        }
        let text = entry.text()?;
        return parse(entry, secret, &text);
    };
    let text = text.to_owned();
    parse(entry, secret, &text)
}

fn parse(entry: &Entry<'_>, secret: Secret, text: &str) -> Option<Node> {
    let told = |why: String| {
        let why = match secret.source() {
            SecretSource::Literal => why,
            source => format!("names `{source}`, which {why}"),
        };
        entry.error(why, URL);
    };
    let safe = SafeUrl::parse(text).map_err(told).ok()?;
    let url = safe.expose();
    if !matches!(url.scheme(), "amqp" | "amqps") {
        told("is neither amqp nor amqps".into());
        return None;
    }
    if url.host_str().is_none_or(str::is_empty) || url.port() == Some(0) {
        told("names no host and port".into());
        return None;
    }
    if url.path() == "/" || url.path().trim_start_matches('/').contains('/') {
        told("names no virtual host: `/%2f` is the usual one, `/` is the empty one".into());
        return None;
    }
    if url.query().is_some() || url.fragment().is_some() {
        told("has a part after `?` or `#`, which hookward sets itself".into());
        return None;
    }
    let Ok(uri) = text.trim().parse::<AMQPUri>() else {
        told("is not a URL of a broker".into());
        return None;
    };
    if uri.vhost.len() > LONGEST {
        told("names a virtual host of more than 255 bytes".into());
        return None;
    }
    if url.password().is_some() && *secret.source() == SecretSource::Literal {
        entry.warn(
            "holds the password itself",
            "keep it out of the file: `\"env:NAME\"` or `\"file:/path\"`, with the whole URL",
        );
    }
    Some(Node {
        secret,
        url: Some((safe, uri)),
    })
}

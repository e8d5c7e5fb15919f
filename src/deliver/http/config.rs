use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};

use crate::deliver::config::positive;
use crate::key::{self, MOST_SIGNATURES, Scheme, SigningKey};
use crate::message::Family;
use crate::setting::{Ca, Entry, Secret, Section, ca};

use super::{RetryConfig, RetryOn, Target};

/// An HTTP destination as it was configured and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpConfig {
    /// Where it is.
    pub target: Target,
    /// From the first byte written to the head of the answer.
    pub timeout: Duration,
    /// For a connection, with name and TLS.
    pub connect_timeout: Duration,
    /// How long an event waits while connecting is refused.
    pub hold: Duration,
    /// When an attempt is followed by another.
    pub retry: RetryConfig,
    /// The authorities trusted in place of the system's.
    pub ca: Option<Ca>,
    /// Set on every delivery; lower case.
    pub headers: Vec<(HeaderName, Secret)>,
    /// Taken over from the sender besides the usual ones.
    pub forward_headers: Vec<HeaderName>,
    /// The keys the family is signed anew with, in one text.
    pub sign: Option<Secret>,
}

const TIMEOUT: Duration = Duration::from_secs(8);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const HOLD: Duration = Duration::from_secs(3);

impl HttpConfig {
    pub(in crate::deliver) fn read(section: &mut Section<'_>) -> Option<Self> {
        let target = target(section);
        let ca = ca(section);
        if let (Some(Some(_)), Some(target)) = (&ca, &target)
            && !target.is_tls()
        {
            section.warn("has a `ca`, and a `url` without TLS", "use `https://`");
        }
        let timeout = positive(section, "timeout", TIMEOUT);
        let connect_timeout = positive(section, "connect_timeout", CONNECT_TIMEOUT);
        let hold = section.get_or("hold", HOLD);
        let retry = retry(section);
        let headers = headers(section);
        let forward_headers = forward_headers(section);
        let sign = sign(section);
        Some(Self {
            target: target?,
            timeout,
            connect_timeout,
            hold,
            retry,
            ca: ca?,
            headers,
            forward_headers,
            sign: sign?,
        })
    }
}

fn target(section: &mut Section<'_>) -> Option<Target> {
    let Some(entry) = section.entry("url") else {
        section.missing("url", "as in `url = \"http://127.0.0.1:3000/hooks\"`");
        return None;
    };
    let text: String = entry.read()?;
    match Target::parse(&text, entry.base()) {
        Ok(target) => Some(target),
        Err((why, hint)) => {
            entry.error(why, hint);
            None
        }
    }
}

fn retry(section: &mut Section<'_>) -> RetryConfig {
    let default = RetryConfig::default();
    let max_attempts = match section.entry("max_attempts") {
        None => default.max_attempts,
        Some(entry) => match entry.read() {
            Some(0) => {
                entry.error(
                    "tries nothing at all",
                    "it counts the first try too: at least 1",
                );
                default.max_attempts
            }
            number => number.unwrap_or(default.max_attempts),
        },
    };
    let retry_on = match section.entry("retry_on") {
        None => default.retry_on,
        Some(entry) => entry
            .items()
            .iter()
            .filter_map(|item| {
                let text = item.text().or_else(|| Some(item.integer()?.to_string()));
                let found = text.as_deref().and_then(RetryOn::parse);
                if found.is_none() {
                    item.error("is nothing that can be tried again", RetryOn::FORM);
                }
                found
            })
            .collect(),
    };
    RetryConfig {
        max_attempts,
        retry_on,
        backoff: section.get_or("backoff", default.backoff),
    }
}

/// `None` when it is wrong, `Some(None)` when it is not there.
fn sign(section: &mut Section<'_>) -> Option<Option<Secret>> {
    let Some(entry) = section.entry("sign") else {
        return Some(None);
    };
    let secret: Secret = entry.read()?;
    let Some(text) = secret.expose() else {
        return Some(Some(secret));
    };
    match SigningKey::parse_all(text) {
        Ok(keys) if keys.iter().any(|key| key.scheme() == Scheme::V1a) => {
            let hint = "signing takes a symmetric key: `whsec_` and base64";
            entry.error("holds a public key, which cannot sign", hint);
            None
        }
        Ok(keys) if keys.len() > MOST_SIGNATURES => {
            let hint = format!("a message carries at most {MOST_SIGNATURES} signatures");
            entry.error("holds too many keys", hint);
            None
        }
        Ok(keys) => {
            if let Some((warning, hint)) = key::warning(&keys) {
                entry.warn(warning, hint);
            }
            Some(Some(secret))
        }
        Err(problem) => {
            entry.error(problem.to_string(), key::FORM);
            None
        }
    }
}

fn headers(section: &mut Section<'_>) -> Vec<(HeaderName, Secret)> {
    let mut headers: Vec<(HeaderName, Secret)> = Vec::new();
    for (key, entry) in section.section("headers").rest() {
        let Ok(name) = HeaderName::from_bytes(key.as_bytes()) else {
            entry.error("is not the name of a header", "");
            continue;
        };
        if let Some(why) = set_by_hookward(&name) {
            entry.error(why, "leave it out");
            continue;
        }
        if headers.iter().any(|(other, _)| *other == name) {
            entry.error("is there twice", "names of headers know no upper case");
            continue;
        }
        if let Some(secret) = header_value(&name, &entry) {
            headers.push((name, secret));
        }
    }
    headers
}

fn header_value(name: &HeaderName, entry: &Entry<'_>) -> Option<Secret> {
    // Most headers are no secret, so that a literal is only told of where the
    // name says that it is one.
    let secret = if carries_secret(name) {
        entry.read::<Secret>()?
    } else {
        Secret::of(entry)
            .map_err(|why| entry.error(why, "the text, or `\"env:NAME\"` or `\"file:/path\"`"))
            .ok()?
    };
    if let Some(text) = secret.expose()
        && HeaderValue::from_str(text).is_err()
    {
        entry.error("holds a character no header can carry", "");
        return None;
    }
    Some(secret)
}

fn carries_secret(name: &HeaderName) -> bool {
    let name = name.as_str();
    ["authorization", "cookie", "key", "token", "secret"]
        .iter()
        .any(|word| name.contains(word))
}

fn forward_headers(section: &mut Section<'_>) -> Vec<HeaderName> {
    let mut names: Vec<HeaderName> = Vec::new();
    for entry in section.items("forward_headers") {
        let Some(text) = entry.read::<String>() else {
            continue;
        };
        let Ok(name) = HeaderName::from_bytes(text.trim().as_bytes()) else {
            entry.error("is not the name of a header", "");
            continue;
        };
        if let Some(why) = not_forwarded(&name) {
            entry.error(why, "leave it out");
        } else if ALWAYS.contains(&name.as_str()) {
            entry.warn("is forwarded anyway", "leave it out");
        } else if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Taken over without being asked.
const ALWAYS: [&str; 5] = [
    "content-type",
    "content-encoding",
    "user-agent",
    "traceparent",
    "tracestate",
];

/// Why a header may not be configured, as the rest of a sentence.
fn set_by_hookward(name: &HeaderName) -> Option<&'static str> {
    if is_hop_by_hop(name) {
        return Some("belongs to one connection and is hookward's own");
    }
    if *name == header::HOST {
        return Some("is taken from `url`");
    }
    is_ours(name).then_some("is set by hookward itself")
}

/// Why a header of the sender may not be handed on, as the rest of a sentence.
fn not_forwarded(name: &HeaderName) -> Option<&'static str> {
    let text = name.as_str();
    if is_hop_by_hop(name) || *name == header::HOST {
        return Some("belongs to one connection and is never forwarded");
    }
    if [
        header::COOKIE,
        header::SET_COOKIE,
        header::AUTHORIZATION,
        header::PROXY_AUTHORIZATION,
    ]
    .contains(name)
    {
        return Some("is between the sender and hookward and is never forwarded");
    }
    if text.starts_with("x-forwarded-") || text == "forwarded" || text == "x-real-ip" {
        return Some("tells where a request came from, which anybody could claim");
    }
    is_ours(name).then_some("is set by hookward itself")
}

fn is_ours(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("hookward-")
        || ["idempotency-key", "x-forwarded-for", "x-forwarded-proto"].contains(&name)
        || Family::ALL
            .iter()
            .any(|family| family.names().contains(&name))
}

/// RFC 9110 §7.6.1 and what older software still sends, and the framing of the body.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    [
        "connection",
        "content-length",
        "expect",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
    .contains(&name.as_str())
}

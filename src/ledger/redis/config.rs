use std::fmt;
use std::time::Duration;

use crate::setting::{Ca, Entry, SafeUrl, Secret, SecretSource, Section, ca};

/// `ledger.redis`, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct RedisConfig {
    /// Where it is.
    pub url: RedisUrl,
    /// What every key begins with.
    pub prefix: String,
    /// The authorities trusted in place of the system's.
    pub ca: Option<Ca>,
    /// How long Redis may take to answer before it counts as away.
    pub timeout: Duration,
    /// How long a crashed replica keeps an id from the others.
    pub lease: Duration,
    /// What becomes of requests while Redis is away.
    pub when_away: WhenAway,
}

/// What becomes of requests while Redis is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenAway {
    /// They are answered 503.
    Refuse,
    /// They run by what this replica knows alone.
    Memory,
}

/// Where a Redis is, and who asks: a URL, which may be a secret.
#[derive(Clone, PartialEq)]
pub struct RedisUrl {
    secret: Secret,
    /// Nothing when secrets were not to be read.
    read: Option<(SafeUrl, Parts)>,
}

/// What a URL says. It holds a password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: i64,
}

const URL: &str =
    "as in `\"redis://user:password@redis:6379/0\"`, best as `\"env:NAME\"`; `rediss://` is TLS";
const PREFIX: &str = "hookward:";
const LONGEST_PREFIX: usize = 64;
const TIMEOUT: Duration = Duration::from_millis(500);
const LEASE: Duration = Duration::from_secs(15);
/// A lease is renewed three times before it ends, and each time Redis may take as
/// long as it is allowed to.
const TIMEOUTS_IN_A_LEASE: u32 = 4;

impl RedisConfig {
    /// Reads the value of `ledger.redis`: a URL, or a table. `None` when something
    /// in it is wrong, and then the problems are added.
    pub fn read(entry: Entry<'_>) -> Option<Self> {
        if !entry.is_table() {
            let url = RedisUrl::read(&entry)?;
            return Some(Self {
                url,
                prefix: PREFIX.into(),
                ca: None,
                timeout: TIMEOUT,
                lease: LEASE,
                when_away: WhenAway::Refuse,
            });
        }
        let mut section = entry.section()?;
        let url = match section.entry("url") {
            Some(entry) => RedisUrl::read(&entry),
            None => {
                section.missing("url", URL);
                None
            }
        };
        let prefix = prefix(&mut section);
        let ca = ca(&mut section);
        let timeout = positive(&mut section, "timeout", TIMEOUT);
        let lease = positive(&mut section, "lease", LEASE);
        let when_away = match section.entry("when_away") {
            None => Some(WhenAway::Refuse),
            Some(entry) => match entry.text().as_deref() {
                Some("refuse") => Some(WhenAway::Refuse),
                Some("memory") => Some(WhenAway::Memory),
                _ => {
                    entry.error(
                        "is neither \"refuse\" nor \"memory\"",
                        "`\"refuse\"` answers 503 while Redis is away; `\"memory\"` goes on alone, and \
                         an id may then be delivered by two replicas",
                    );
                    None
                }
            },
        };
        if let (Some(Some(_)), Some(url)) = (&ca, &url)
            && url.parts().is_some_and(|parts| !parts.tls)
        {
            section.warn("has a `ca`, and a `url` without TLS", "use `rediss://`");
        }
        let (timeout, lease) = (timeout?, lease?);
        if lease < timeout.saturating_mul(TIMEOUTS_IN_A_LEASE) {
            section.error(
                "has a `lease` of less than four times its `timeout`",
                "it is renewed while a delivery runs, and must not end before that is answered",
            );
            return None;
        }
        Some(Self {
            url: url?,
            prefix: prefix?,
            ca: ca?,
            timeout,
            lease,
            when_away: when_away?,
        })
    }
}

/// Where it is, without a secret.
impl fmt::Display for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

fn prefix(section: &mut Section<'_>) -> Option<String> {
    let Some(entry) = section.entry("prefix") else {
        return Some(PREFIX.into());
    };
    let prefix: String = entry.read()?;
    let good = prefix.len() <= LONGEST_PREFIX && prefix.bytes().all(|b| b.is_ascii_graphic());
    if !good {
        entry.error(
            "is not what a key may begin with",
            "up to 64 visible ASCII characters, as in `\"hookward:\"`",
        );
    }
    good.then_some(prefix)
}

fn positive(section: &mut Section<'_>, key: &'static str, default: Duration) -> Option<Duration> {
    let Some(entry) = section.entry(key) else {
        return Some(default);
    };
    let duration: Duration = entry.read()?;
    if duration < Duration::from_millis(1) {
        entry.error("is no time at all", "it must be longer than `\"0s\"`");
        return None;
    }
    Some(duration)
}

impl RedisUrl {
    fn read(entry: &Entry<'_>) -> Option<Self> {
        let secret = Secret::of(entry)
            .map_err(|why| entry.error(why, URL))
            .ok()?;
        let text = match secret.expose() {
            Some(text) => text.to_owned(),
            // A literal is there to be looked at all the same.
            None if *secret.source() == SecretSource::Literal => entry.text()?,
            None => return Some(Self { secret, read: None }),
        };
        match parse(&text) {
            Ok(read) => {
                if read.1.password.is_some() && *secret.source() == SecretSource::Literal {
                    entry.warn(
                        "holds the password itself",
                        "keep it out of the file: `\"env:NAME\"` or `\"file:/path\"`, with the whole URL",
                    );
                }
                Some(Self {
                    secret,
                    read: Some(read),
                })
            }
            Err(why) => {
                let why = match secret.source() {
                    SecretSource::Literal => why,
                    source => format!("names `{source}`, which {why}"),
                };
                entry.error(why, URL);
                None
            }
        }
    }

    /// What it says, if it was read. It holds a password.
    pub(super) fn parts(&self) -> Option<&Parts> {
        self.read.as_ref().map(|(_, parts)| parts)
    }
}

fn parse(text: &str) -> Result<(SafeUrl, Parts), String> {
    let safe = SafeUrl::parse(text)?;
    let url = safe.expose();
    let tls = match url.scheme() {
        "redis" => false,
        "rediss" => true,
        _ => return Err("is neither redis nor rediss".into()),
    };
    let host = url.host_str().filter(|host| !host.is_empty());
    let host = host.ok_or("names no host")?;
    let port = url.port().unwrap_or(6379);
    if port == 0 {
        return Err("names port 0".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has a part after `?` or `#`".into());
    }
    let database = match url.path().trim_start_matches('/') {
        "" => 0,
        number => number
            .parse::<u16>()
            .map_err(|_| "names a database that is not a number")?,
    };
    let decoded = |text: &str| {
        let text = percent_encoding::percent_decode_str(text).decode_utf8();
        text.map(|text| Some(text.into_owned()).filter(|text| !text.is_empty()))
            .map_err(|_| "has a user or password that is not UTF-8")
    };
    let user = decoded(url.username())?;
    let password = decoded(url.password().unwrap_or_default())?;
    if user.is_some() && password.is_none() {
        return Err(
            "names a user without a password; a password alone is `redis://:password@…`".into(),
        );
    }
    let parts = Parts {
        host: host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned(),
        port,
        tls,
        user,
        password,
        database: database.into(),
    };
    Ok((safe, parts))
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.read {
            Some((url, _)) => url.fmt(f),
            None => self.secret.source().fmt(f),
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_who_and_which_database() {
        let (safe, parts) = parse("rediss://me:h%3Aush@redis.example:6380/3").unwrap();
        assert_eq!(safe.to_string(), "rediss://redis.example:6380/3");
        assert_eq!((parts.host.as_str(), parts.port), ("redis.example", 6380));
        assert_eq!(parts.user.as_deref(), Some("me"));
        assert_eq!(parts.password.as_deref(), Some("h:ush"));
        assert!(parts.tls && parts.database == 3);
    }

    #[test]
    fn a_url_may_leave_out_all_but_the_host() {
        for text in ["redis://[::1]", "redis://[::1]/", "redis://[::1]:6379/0"] {
            let (_, parts) = parse(text).unwrap();
            assert_eq!((parts.host.as_str(), parts.port), ("::1", 6379), "{text}");
            assert!(parts.user.is_none() && parts.password.is_none() && !parts.tls);
            assert_eq!(parts.database, 0);
        }
        let (_, parts) = parse("redis://:hush@a").unwrap();
        assert_eq!(
            (parts.user, parts.password.as_deref()),
            (None, Some("hush"))
        );
    }

    #[test]
    fn what_is_wrong_with_a_url_is_told_without_it() {
        for (text, told) in [
            ("http://hush@a", "is neither redis nor rediss"),
            ("redis:///0", "names no host"),
            ("redis://a:0", "names port 0"),
            ("redis://a/hush", "names a database that is not a number"),
            ("redis://a?hush=1", "has a part after `?` or `#`"),
            ("redis://hush@a", "names a user without a password"),
            ("hush", "is not a URL"),
        ] {
            let why = parse(text).map(|_| ()).unwrap_err();
            assert!(why.contains(told), "{told} in {why}");
            assert!(!why.contains("hush"), "{why}");
        }
    }
}

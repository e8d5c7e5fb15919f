use std::time::Duration;

use crate::setting::{Name, Section};

use super::file::FileConfig;
use super::http::HttpConfig;
use super::rabbitmq::RabbitConfig;

/// A destination as it was configured and checked: `[destinations.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct DestinationConfig {
    /// Its name.
    pub name: Name,
    /// Whether the answer to the sender depends on it.
    pub required: bool,
    /// Deliveries that may be under way at once; at least 1.
    pub max_in_flight: usize,
    /// When its circuit opens; none for `"off"`.
    pub circuit_breaker: Option<BreakerConfig>,
    /// What it is.
    pub kind: KindConfig,
}

/// What a destination is.
#[derive(Clone, Debug, PartialEq)]
pub enum KindConfig {
    /// An HTTP service.
    Http(Box<HttpConfig>),
    /// A RabbitMQ exchange or queue.
    Rabbit(Box<RabbitConfig>),
    /// A file, or stdout.
    File(FileConfig),
}

/// When a circuit opens, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Attempts in a row that did not find the destination there; at least 1.
    pub failures: u32,
    /// How long it stays open before a probe.
    pub open_for: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failures: 20,
            open_for: Duration::from_secs(5),
        }
    }
}

const MAX_IN_FLIGHT: usize = 256;

/// A broker takes many at once, and is the faster for it.
const RABBIT_MAX_IN_FLIGHT: usize = 1024;

const KINDS: &str = "`\"http\"`, `\"rabbitmq\"` or `\"file\"`";

impl DestinationConfig {
    /// Reads one `[destinations.NAME]`. `None` when it is not complete; every
    /// problem is added to the reading.
    pub fn read(name: &Name, mut section: Section<'_>) -> Option<Self> {
        let required = section.get_or("required", true);
        let max_in_flight = match section.entry("max_in_flight") {
            None => None,
            Some(entry) => match entry.read() {
                Some(0) => {
                    entry.error("lets nothing through", "it is at least 1");
                    None
                }
                number => number,
            },
        };
        let circuit_breaker = BreakerConfig::read(&mut section);
        let kind = match section.entry("type") {
            None => {
                section.missing("type", KINDS);
                // What else stands there cannot be told from a mistake.
                section.rest();
                None
            }
            Some(entry) => match entry.text().as_deref() {
                Some("http") => {
                    HttpConfig::read(&mut section).map(|http| KindConfig::Http(Box::new(http)))
                }
                Some("file") => FileConfig::read(&mut section).map(KindConfig::File),
                Some("rabbitmq") => RabbitConfig::read(&mut section)
                    .map(|rabbit| KindConfig::Rabbit(Box::new(rabbit))),
                _ => {
                    entry.error("is not a type of destination", KINDS);
                    section.rest();
                    None
                }
            },
        };
        let kind = kind?;
        let default = match &kind {
            KindConfig::Http(_) | KindConfig::File(_) => MAX_IN_FLIGHT,
            KindConfig::Rabbit(_) => RABBIT_MAX_IN_FLIGHT,
        };
        Some(Self {
            name: name.clone(),
            required,
            max_in_flight: max_in_flight.unwrap_or(default),
            circuit_breaker,
            kind,
        })
    }

    /// Whether it cannot take an event without a type.
    pub fn needs_type(&self) -> bool {
        match &self.kind {
            KindConfig::Http(_) | KindConfig::File(_) => false,
            KindConfig::Rabbit(rabbit) => rabbit.needs_type(),
        }
    }

    /// What it is and where, without a secret, for `hookward check`.
    pub fn summary(&self) -> String {
        match &self.kind {
            KindConfig::Http(http) => format!("http {}", http.target),
            KindConfig::Rabbit(rabbit) => format!("rabbitmq {rabbit}"),
            KindConfig::File(file) => format!("file {file}"),
        }
    }
}

impl BreakerConfig {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let default = Self::default();
        let Some(entry) = section.entry("circuit_breaker") else {
            return Some(default);
        };
        if !entry.is_table() {
            if entry.text().as_deref() != Some("off") {
                entry.error(
                    "is neither a table nor \"off\"",
                    "as in `{ failures = 20, open_for = \"5s\" }`",
                );
            }
            return None;
        }
        let mut table = entry.section()?;
        let failures = match table.entry("failures") {
            None => default.failures,
            Some(entry) => match entry.read() {
                Some(0) => {
                    entry.error("would never let anything through", "it is at least 1");
                    default.failures
                }
                number => number.unwrap_or(default.failures),
            },
        };
        let open_for = positive(&mut table, "open_for", default.open_for);
        Some(Self { failures, open_for })
    }
}

/// Reads a duration that must be longer than nothing.
pub(super) fn positive(
    section: &mut Section<'_>,
    key: &'static str,
    default: Duration,
) -> Duration {
    let Some(entry) = section.entry(key) else {
        return default;
    };
    match entry.read() {
        Some(Duration::ZERO) => {
            entry.error("is no time at all", "it must be longer than `\"0s\"`");
            default
        }
        duration => duration.unwrap_or(default),
    }
}

#[cfg(test)]
mod tests {
    use crate::deliver::fixture::read;
    use crate::setting::SecretReader;

    use super::*;

    fn problems(text: &str) -> String {
        read(text, SecretReader::Process).1
    }

    fn good(text: &str) -> DestinationConfig {
        let (config, problems) = read(text, SecretReader::Process);
        assert_eq!(problems, "");
        config.unwrap()
    }

    const HTTP: &str = "type = 'http'\nurl = 'http://127.0.0.1:3000/hooks'\n";

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let config = good(HTTP);
        assert!(config.required);
        assert_eq!(config.max_in_flight, 256);
        let breaker = config.circuit_breaker.unwrap();
        assert_eq!(breaker.failures, 20);
        assert_eq!(breaker.open_for, Duration::from_secs(5));
        let KindConfig::Http(http) = config.kind else {
            unreachable!()
        };
        assert_eq!(http.timeout, Duration::from_secs(8));
        assert_eq!(http.connect_timeout, Duration::from_secs(2));
        assert_eq!(http.hold, Duration::from_secs(3));
        assert_eq!(http.retry.max_attempts, 2);
        assert_eq!(http.retry.backoff, Duration::from_millis(100));
    }

    #[test]
    fn everything_can_be_set() {
        let config = good(&format!(
            "{HTTP}required = false\nmax_in_flight = 7\ncircuit_breaker = 'off'\n\
             timeout = '1s'\nconnect_timeout = '2s'\nhold = '0s'\nmax_attempts = 3\n\
             retry_on = ['429', '500', '502', '503', '504', 'reset', 'timeout']\nbackoff = '1s'\n\
             headers = {{ x-tenant = 'a' }}\nforward_headers = ['X-Tenant', 'x-tenant', 'x-other']\n"
        ));
        assert!(!config.required);
        assert_eq!(config.max_in_flight, 7);
        assert_eq!(config.circuit_breaker, None);
        let KindConfig::Http(http) = config.kind else {
            unreachable!()
        };
        assert_eq!(http.retry.retry_on.len(), 7);
        assert_eq!(http.forward_headers, ["x-tenant", "x-other"]);
    }

    #[test]
    fn a_summary_shows_no_secret() {
        for (text, summary) in [
            (HTTP, "http http://127.0.0.1:3000/hooks"),
            (
                "type = 'http'\nurl = 'https://a.example/b?token=hush'",
                "http https://a.example/b",
            ),
            (
                "type = 'http'\nurl = 'unix:run/app.sock:/b?token=hush'",
                "http unix:/etc/hookward/run/app.sock:/b",
            ),
            ("type = 'file'\npath = '-'", "file -"),
            ("type = 'file'\npath = 'out'", "file /etc/hookward/out"),
        ] {
            assert_eq!(good(text).summary(), summary);
        }
    }

    #[test]
    fn every_mistake_is_told_with_its_key() {
        for (text, told) in [
            ("", "`type` is missing"),
            ("type = 'smtp'", "`type` is not a type of destination"),
            ("type = 'http'", "`url` is missing"),
            ("type = 'file'", "`path` is missing"),
            ("type = 'file'\npath = ''", "`path` is not a path"),
            (&format!("{HTTP}path = 'x'"), "`path` is not a key"),
            (
                &format!("{HTTP}max_in_flight = 0"),
                "`max_in_flight` lets nothing through",
            ),
            (
                &format!("{HTTP}max_attempts = 0"),
                "`max_attempts` tries nothing",
            ),
            (
                &format!("{HTTP}timeout = '0s'"),
                "`timeout` is no time at all",
            ),
            (
                &format!("{HTTP}retry_on = ['503', '404']"),
                "`retry_on[1]` is nothing",
            ),
            (
                &format!("{HTTP}circuit_breaker = 'on'"),
                "`circuit_breaker` is neither",
            ),
            (
                &format!("{HTTP}circuit_breaker = {{ failures = 0, after = 1 }}"),
                "`circuit_breaker.failures` would never",
            ),
            (
                &format!("{HTTP}circuit_breaker = {{ after = 1 }}"),
                "`circuit_breaker.after` is not a key",
            ),
            (
                &format!("type = 'http'\nurl = 'unix:/{}:/x'", "y".repeat(107)),
                "`url` names a unix socket whose path is over 107 bytes",
            ),
            (
                &format!("{HTTP}sign = 'short'"),
                "`sign` holds a signing key",
            ),
            (
                &format!(
                    "{HTTP}sign = 'MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo='"
                ),
                "`sign` holds a public key, which cannot sign",
            ),
            (
                &format!(
                    "{HTTP}sign = '{}'",
                    "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw ".repeat(17)
                ),
                "`sign` holds too many keys",
            ),
            (
                &format!("{HTTP}headers = {{ x-a = 'env:HOOKWARD_TEST_UNSET' }}"),
                "`headers.x-a` names the environment variable",
            ),
            (
                &format!("{HTTP}headers = {{ 'a b' = '1' }}"),
                "`headers.a b` is not the name",
            ),
            (
                &format!("{HTTP}headers = {{ x-a = \"a\\nb\" }}"),
                "`headers.x-a` holds a character",
            ),
        ] {
            let problems = problems(text);
            assert!(
                problems.starts_with("error: ") || text.contains("sign"),
                "{problems}"
            );
            assert!(
                problems.contains(&format!("error: {told}")),
                "{told} in:\n{problems}"
            );
        }
    }

    #[test]
    fn a_wrong_url_is_told_without_its_secrets() {
        for (url, told) in [
            ("http://me:hush@a.example/", "holds a user or password"),
            ("https://hush@a.example/", "authorization = \"env:NAME\""),
            ("http://a.example/#hush", "has a fragment"),
            ("unix:/run/a.sock:/b#hush", "has a fragment"),
            ("unix:", "names no socket"),
            ("ftp://hush.example/", "is neither http, https nor unix"),
            ("env:HUSH", "is neither http, https nor unix"),
            ("hush", "is not a URL"),
            ("http://", "is not a URL"),
            ("http://a.example:0/", "names port 0"),
        ] {
            let problems = problems(&format!("type = 'http'\nurl = '{url}'"));
            assert!(problems.contains(told), "{told} in:\n{problems}");
            assert!(!problems.to_lowercase().contains("hush"), "{problems}");
        }
    }

    #[test]
    fn headers_that_are_not_the_users_are_refused() {
        for name in [
            "svix-id",
            "Webhook-Signature",
            "hookward-anything",
            "idempotency-key",
            "x-forwarded-for",
            "host",
            "content-length",
            "transfer-encoding",
            "connection",
            "te",
        ] {
            let configured = problems(&format!("{HTTP}headers = {{ {name} = 'x' }}"));
            assert!(
                configured.contains("hint: leave it out"),
                "{name}: {configured}"
            );
            let forwarded = problems(&format!("{HTTP}forward_headers = '{name}'"));
            assert!(
                forwarded.contains("hint: leave it out"),
                "{name}: {forwarded}"
            );
        }
        for name in [
            "cookie",
            "authorization",
            "proxy-authorization",
            "x-real-ip",
        ] {
            let forwarded = problems(&format!("{HTTP}forward_headers = ['x-a', '{name}']"));
            assert!(
                forwarded.contains("error: `forward_headers[1]`"),
                "{forwarded}"
            );
        }
    }

    #[test]
    fn a_literal_is_warned_of_where_it_is_a_secret() {
        let told = problems(&format!(
            "{HTTP}headers = {{ authorization = 'Bearer hush', x-tenant = 'acme' }}"
        ));
        assert!(told.contains("warning: `headers.authorization` holds the secret itself"));
        assert!(
            !told.contains("x-tenant") && !told.contains("hush"),
            "{told}"
        );
    }

    #[test]
    fn without_secrets_neither_variable_nor_file_is_read() {
        let (config, problems) = read(
            "type = 'http'\nurl = 'https://a.example/'\nca = '/no/such'\nsign = 'env:UNSET'\n\
             headers = { authorization = 'file:/no/such' }",
            SecretReader::Skip,
        );
        assert_eq!(problems, "");
        assert!(config.is_some());
    }
}

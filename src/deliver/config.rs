use std::time::Duration;

use crate::setting::{Name, Section};

use super::file::FileConfig;
use super::http::HttpConfig;

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

const KINDS: &str = "`\"http\"` or `\"file\"`";

impl DestinationConfig {
    /// Reads one `[destinations.NAME]`. `None` when it is not complete; every
    /// problem is added to the reading.
    pub fn read(name: &Name, mut section: Section<'_>) -> Option<Self> {
        let required = section.get_or("required", true);
        let max_in_flight = match section.entry("max_in_flight") {
            None => MAX_IN_FLIGHT,
            Some(entry) => match entry.read() {
                Some(0) => {
                    entry.error("lets nothing through", "it is at least 1");
                    MAX_IN_FLIGHT
                }
                Some(number) => number,
                None => MAX_IN_FLIGHT,
            },
        };
        let circuit_breaker = BreakerConfig::read(&mut section);
        let kind = match section.entry("type") {
            None => {
                section.missing("type", KINDS);
                None
            }
            Some(entry) => match entry.text().as_deref() {
                Some("http") => {
                    HttpConfig::read(&mut section).map(|http| KindConfig::Http(Box::new(http)))
                }
                Some("file") => FileConfig::read(&mut section).map(KindConfig::File),
                Some("rabbitmq") => {
                    entry.error("is `\"rabbitmq\"`, which is not in this version", KINDS);
                    section.rest();
                    None
                }
                _ => {
                    entry.error("is not a type of destination", KINDS);
                    section.rest();
                    None
                }
            },
        };
        if kind.is_none() {
            // What else stands there cannot be told from a mistake.
            section.rest();
        }
        Some(Self {
            name: name.clone(),
            required,
            max_in_flight,
            circuit_breaker,
            kind: kind?,
        })
    }

    /// Whether it cannot take an event without a type.
    pub fn needs_type(&self) -> bool {
        match &self.kind {
            KindConfig::Http(_) | KindConfig::File(_) => false,
        }
    }

    /// What it is and where, without a secret, for `hookward check`.
    pub fn summary(&self) -> String {
        match &self.kind {
            KindConfig::Http(http) => format!("http {}", http.target),
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

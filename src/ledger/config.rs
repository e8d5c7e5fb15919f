use std::path::PathBuf;
use std::time::Duration;

use super::RedisConfig;
use crate::setting::Section;

/// The section `ledger`, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct LedgerConfig {
    /// How long an id is known, from its last receipt.
    pub retention: Duration,
    /// How many ids are kept in memory, over all sources.
    pub max_entries: u64,
    /// The folder in which ids and receipts survive a restart.
    pub journal: Option<PathBuf>,
    /// Where ids and receipts are shared with other replicas, if they are.
    pub redis: Option<RedisConfig>,
}

impl Default for LedgerConfig {
    fn default() -> Self {
        Self {
            // Svix retries for 27.6 h; with its jitter of ±20 % that is 33 h.
            retention: Duration::from_secs(34 * 3600),
            max_entries: 1_000_000,
            journal: None,
            redis: None,
        }
    }
}

impl LedgerConfig {
    /// Reads the section; `None` when something in it is wrong, and then the
    /// problems are added.
    pub fn read(section: &mut Section<'_>) -> Option<Self> {
        let default = Self::default();
        let retention = match section.entry("retention") {
            None => Some(default.retention),
            Some(entry) => entry.read().and_then(|retention: Duration| {
                if retention.is_zero() {
                    entry.error(
                        "is zero, which would deliver every repeat",
                        "how long a delivered id is known, as in `\"34h\"`",
                    );
                }
                (!retention.is_zero()).then_some(retention)
            }),
        };
        let max_entries = match section.entry("max_entries") {
            None => Some(default.max_entries),
            Some(entry) => entry.read().and_then(|max_entries: u64| {
                if max_entries == 0 {
                    entry.error(
                        "is zero, which would deliver every repeat",
                        "how many ids are kept in memory, as in `1_000_000`",
                    );
                }
                (max_entries > 0).then_some(max_entries)
            }),
        };
        let redis = match section.entry("redis") {
            None => Some(None),
            Some(entry) => RedisConfig::read(entry).map(Some),
        };
        let journal = match section.entry("journal") {
            None => Some(None),
            Some(entry) if redis != Some(None) => {
                entry.error(
                    "and `ledger.redis` are two places for the same thing",
                    "keep one: the journal survives a restart of this process, Redis is \
                     shared by replicas too",
                );
                None
            }
            Some(entry) => entry.read().map(Some),
        };
        let config = Self {
            retention: retention?,
            max_entries: max_entries?,
            journal: journal?,
            redis: redis?,
        };
        Some(config)
    }
}

#[cfg(test)]
mod tests {
    use figment::value::Value;

    use super::*;
    use crate::setting::{Place, Reader, SecretReader};

    fn read(text: &str) -> (Option<LedgerConfig>, String) {
        let table: toml::Table = text.parse().unwrap();
        let dict = Value::serialize(&table).unwrap().into_dict().unwrap();
        let reader = Reader::new(
            "/etc/hookward",
            SecretReader::Skip,
            Place::Nowhere,
            |_, _| Place::Nowhere,
        );
        let config = LedgerConfig::read(&mut reader.document(dict).section("ledger"));
        (config, reader.into_problems().to_string())
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let (config, problems) = read("");
        assert_eq!(
            (config, problems.as_str()),
            (Some(LedgerConfig::default()), "")
        );
    }

    #[test]
    fn what_is_written_counts() {
        let (config, problems) =
            read("[ledger]\nretention = '2h'\nmax_entries = 5\njournal = 'ids'\n");
        let expected = LedgerConfig {
            retention: Duration::from_secs(7200),
            max_entries: 5,
            journal: Some("/etc/hookward/ids".into()),
            redis: None,
        };
        assert_eq!((config, problems.as_str()), (Some(expected), ""));
    }

    #[test]
    fn a_ledger_that_remembers_nothing_is_refused() {
        for text in ["retention = '0s'", "max_entries = 0"] {
            let (config, problems) = read(&format!("[ledger]\n{text}\n"));
            assert_eq!(config, None);
            assert!(problems.contains("is zero"), "{problems}");
        }
    }

    #[test]
    fn a_journal_and_redis_are_not_taken_together_nor_is_a_value_shown() {
        let (config, problems) =
            read("[ledger]\njournal = 'x'\nredis = 'http://:hunter2@store'\nretension = '1h'\n");
        assert_eq!(config, None);
        for expected in [
            "`ledger.journal` and `ledger.redis` are two places for the same thing",
            "`ledger.redis` is neither redis nor rediss",
            "did you mean `retention`?",
        ] {
            assert!(problems.contains(expected), "{expected} in:\n{problems}");
        }
        assert!(!problems.contains("hunter2"));
    }
}

use std::fmt;
use std::time::Duration;

use lapin::types::ShortString;

use crate::amqp::BrokerConfig;
use crate::setting::{Section, Setting};

use super::schedule::Schedule;

/// The queue of a source as it was configured and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueConfig {
    /// The broker it is on.
    pub broker: BrokerConfig,
    /// Its name.
    pub queue: ShortString,
    /// How many messages are taken out of it at once.
    pub prefetch: u16,
    /// Before the second attempt; it grows from there.
    pub retry_delay: Duration,
    /// Attempts in all, before a message is rejected.
    pub max_attempts: u32,
}

const PREFETCH: u16 = 256;
const RETRY_DELAY: Duration = Duration::from_secs(5);
const MAX_ATTEMPTS: u32 = 20;

impl QueueConfig {
    /// Reads it from the section of a source. `None` when it cannot be used; the
    /// problems are in the section's reader.
    pub fn read(section: &mut Section<'_>) -> Option<Self> {
        let broker = BrokerConfig::read(section);
        let queue = queue(section);
        let zero = "takes no message at all";
        let prefetch = some(section, "prefetch", (PREFETCH, 0), zero);
        let zero = "is no time at all";
        let retry_delay = some(section, "retry_delay", (RETRY_DELAY, Duration::ZERO), zero);
        let zero = "tries nothing at all";
        let max_attempts = some(section, "max_attempts", (MAX_ATTEMPTS, 0), zero);
        Some(Self {
            broker: broker?,
            queue: queue?,
            prefetch,
            retry_delay,
            max_attempts,
        })
    }

    /// How long a message may be held at most while it is tried, when an attempt
    /// takes `attempt`.
    pub fn longest_hold(&self, attempt: Duration) -> Duration {
        let attempts = attempt.saturating_mul(self.max_attempts);
        Schedule::new(self.retry_delay)
            .longest(self.max_attempts)
            .saturating_add(attempts)
    }

    /// The same, taking so few messages at once that bodies of `max_body` bytes fit
    /// into `memory`.
    pub fn fitting(mut self, max_body: usize, memory: usize) -> Self {
        let fit = (memory / max_body.max(1)).max(1);
        self.prefetch = self.prefetch.min(u16::try_from(fit).unwrap_or(u16::MAX));
        self
    }
}

/// Without a secret.
impl fmt::Display for QueueConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rabbitmq {} queue {}", self.broker, self.queue)
    }
}

fn queue(section: &mut Section<'_>) -> Option<ShortString> {
    let Some(entry) = section.entry("queue") else {
        section.missing("queue", "the queue to read, as in `queue = \"events\"`");
        return None;
    };
    let name: String = entry.read()?;
    if name.is_empty() {
        entry.error("is empty", "the queue to read, as in `queue = \"events\"`");
        return None;
    }
    match ShortString::try_new(name) {
        Ok(name) => Some(name),
        Err(_) => {
            entry.error("is longer than the 255 bytes AMQP can carry", "");
            None
        }
    }
}

/// Reads a value that must be more than `zero`.
fn some<T: Setting + PartialEq>(
    section: &mut Section<'_>,
    key: &'static str,
    (default, zero): (T, T),
    why: &str,
) -> T {
    let Some(entry) = section.entry(key) else {
        return default;
    };
    match entry.read() {
        Some(value) if value == zero => {
            entry.error(why, "it must be more than nothing");
            default
        }
        value => value.unwrap_or(default),
    }
}

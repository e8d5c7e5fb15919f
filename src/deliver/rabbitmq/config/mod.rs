mod declare;

use std::fmt;
use std::time::Duration;

use ::http::HeaderValue;
use lapin::types::ShortString;

use crate::amqp::BrokerConfig;
use crate::deliver::config::positive;
use crate::message::Family;
use crate::setting::{Entry, Secret, Section};

use super::template::Template;

pub use declare::{Argument, Declare};

use declare::declare;

/// A RabbitMQ destination as it was configured and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct RabbitConfig {
    /// The broker, and how it is reached.
    pub broker: BrokerConfig,
    /// Where on the broker events go.
    pub target: RabbitTarget,
    /// The `message_id` of what is published.
    pub message_id: Template,
    /// Set on everything that is published.
    pub headers: Vec<(ShortString, Secret)>,
    /// For each event, from when it is handed to the channel to its confirm.
    pub confirm_timeout: Duration,
    /// What is declared before anything is published; nothing by default.
    pub declare: Option<Declare>,
}

/// Where on the broker events go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RabbitTarget {
    /// To an exchange, under a routing key.
    Exchange {
        /// Its name.
        exchange: Template,
        /// The routing key.
        routing_key: Template,
    },
    /// To a queue, through the default exchange.
    Queue {
        /// The empty name of the default exchange.
        default_exchange: Template,
        /// Its name.
        queue: Template,
    },
}

impl RabbitTarget {
    /// The queue it is, if it is one and has a name of its own.
    pub fn queue(&self) -> Option<&str> {
        match self {
            RabbitTarget::Exchange { .. } => None,
            RabbitTarget::Queue { queue, .. } => queue.constant(),
        }
    }

    /// Exchange and routing key.
    pub(in crate::deliver::rabbitmq) fn templates(&self) -> (&Template, &Template) {
        match self {
            RabbitTarget::Exchange {
                exchange,
                routing_key,
            } => (exchange, routing_key),
            RabbitTarget::Queue {
                default_exchange,
                queue,
            } => (default_exchange, queue),
        }
    }
}

impl fmt::Display for RabbitTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RabbitTarget::Exchange {
                exchange,
                routing_key,
            } => write!(f, "exchange {exchange} as {routing_key}"),
            RabbitTarget::Queue { queue, .. } => write!(f, "queue {queue}"),
        }
    }
}

const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

const PLACES: &str =
    "the places are `{source}`, `{type}` and `{id}`; a brace is written `{{` or `}}`";

impl RabbitConfig {
    pub(in crate::deliver) fn read(section: &mut Section<'_>) -> Option<Self> {
        let broker = BrokerConfig::read(section);
        let target = target(section);
        let entry = section.entry("message_id");
        let message_id = template(entry.as_ref(), "{id}");
        if let (Some(entry), Some(message_id)) = (&entry, &message_id)
            && message_id.may_repeat()
        {
            entry.warn(
                "is the same for several events, which are then published one after the other",
                "let it have `{id}` in it",
            );
        }
        let headers = headers(section);
        let confirm_timeout = positive(section, "confirm_timeout", CONFIRM_TIMEOUT);
        let declare = match &target {
            Some(target) => declare(section, target),
            None => {
                // What it has to fit is not known.
                section.entry("declare");
                None
            }
        };
        Some(Self {
            broker: broker?,
            target: target?,
            message_id: message_id?,
            headers,
            confirm_timeout,
            declare: declare?,
        })
    }

    /// Whether a name on the broker, or the message's own, is made of the type.
    pub(in crate::deliver) fn needs_type(&self) -> bool {
        let (exchange, routing_key) = self.target.templates();
        [exchange, routing_key, &self.message_id]
            .iter()
            .any(|template| template.needs_type())
    }
}

impl fmt::Display for RabbitConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.broker, self.target)
    }
}

fn template(entry: Option<&Entry<'_>>, default: &str) -> Option<Template> {
    let Some(entry) = entry else {
        return Template::parse(default).ok();
    };
    let text: String = entry.read()?;
    match Template::parse(&text) {
        Ok(template) => Some(template),
        Err(why) => {
            entry.error(why, PLACES);
            None
        }
    }
}

fn target(section: &mut Section<'_>) -> Option<RabbitTarget> {
    let exchange = section.entry("exchange");
    let queue = section.entry("queue");
    let key = section.entry("routing_key");
    let routing_key = template(key.as_ref(), "{type}");
    match (exchange, queue) {
        (Some(exchange), None) => {
            let exchange = template(Some(&exchange), "")?;
            if exchange.constant() == Some("") {
                section.error(
                    "has an `exchange` without a name",
                    "to reach a queue directly, write `queue = \"NAME\"` instead",
                );
                return None;
            }
            Some(RabbitTarget::Exchange {
                exchange,
                routing_key: routing_key?,
            })
        }
        (None, Some(queue)) => {
            if let Some(key) = key {
                key.error(
                    "stands beside a `queue`",
                    "a queue is reached by its name alone: leave it out",
                );
                return None;
            }
            let queue = template(Some(&queue), "")?;
            if queue.constant() == Some("") {
                section.error("has a `queue` without a name", "");
                return None;
            }
            Some(RabbitTarget::Queue {
                default_exchange: Template::parse("").ok()?,
                queue,
            })
        }
        (Some(_), Some(_)) => {
            section.error(
                "has both an `exchange` and a `queue`",
                "publish to an exchange with a `routing_key`, or to a queue",
            );
            None
        }
        (None, None) => {
            section.error(
                "has neither an `exchange` nor a `queue`",
                "`exchange = \"NAME\"`, with `routing_key` (`\"{type}\"`), or `queue = \"NAME\"`",
            );
            None
        }
    }
}

fn headers(section: &mut Section<'_>) -> Vec<(ShortString, Secret)> {
    let mut headers: Vec<(ShortString, Secret)> = Vec::new();
    for (key, entry) in section.section("headers").rest() {
        let Ok(name) = ShortString::try_new(&*key) else {
            entry.error("is longer than the 255 bytes AMQP can carry", "");
            continue;
        };
        let lower = key.to_ascii_lowercase();
        let ours = lower.starts_with("hookward-")
            || Family::ALL
                .iter()
                .any(|family| family.names().contains(&lower.as_str()));
        if ours {
            entry.error("is set by hookward itself", "leave it out");
            continue;
        }
        let secret = match Secret::of(&entry) {
            Ok(secret) => secret,
            Err(why) => {
                entry.error(why, "the text, or `\"env:NAME\"` or `\"file:/path\"`");
                continue;
            }
        };
        if let Some(text) = secret.expose()
            && HeaderValue::from_str(text).is_err()
        {
            entry.error("holds a line end or another control character", "");
            continue;
        }
        headers.push((name, secret));
    }
    headers
}

#[cfg(test)]
mod tests;

use lapin::types::ShortString;

use crate::setting::{Entry, Section};

use super::RabbitTarget;

/// What is to be on the broker. What is there already is left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declare {
    /// The exchange, durable, of this type; none where events go to a queue.
    pub exchange: Option<(ShortString, String)>,
    /// The queue, durable; none where only an exchange is declared.
    pub queue: Option<ShortString>,
    /// `quorum`, `classic` or `stream`.
    pub queue_type: String,
    /// The keys by which the queue is bound to the exchange.
    pub bind: Vec<ShortString>,
    /// Further arguments of the queue.
    pub arguments: Vec<(ShortString, Argument)>,
}

/// An argument of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// A text.
    Text(String),
    /// A whole number.
    Number(i64),
    /// True or false.
    Truth(bool),
}

/// Any other is a plugin's; the broker ends the connection over one it does not know.
const EXCHANGE_TYPES: [&str; 4] = ["topic", "direct", "fanout", "headers"];
const QUEUE_TYPES: [&str; 3] = ["quorum", "classic", "stream"];

/// `None` when it is wrong, `Some(None)` when it is not there.
pub(super) fn declare(section: &mut Section<'_>, target: &RabbitTarget) -> Option<Option<Declare>> {
    let Some(entry) = section.entry("declare") else {
        return Some(None);
    };
    if !entry.is_table() {
        entry.error(
            "is not a table",
            "as in `{ exchange_type = \"topic\", queue = \"events\", bind = [\"user.#\"] }`",
        );
        return None;
    }
    let mut table = entry.section()?;
    let exchange_type = match table.entry("exchange_type") {
        None => Some(None),
        Some(entry) => match entry.text() {
            Some(kind) if EXCHANGE_TYPES.contains(&&*kind) || kind.starts_with("x-") => {
                Some(Some(kind))
            }
            _ => {
                entry.error(
                    "is no type of exchange",
                    "`\"topic\"`, `\"direct\"`, `\"fanout\"`, `\"headers\"`, or one of a plugin, `\"x-…\"`",
                );
                None
            }
        },
    };
    let queue = match table.entry("queue") {
        None => Some(None),
        Some(entry) => name(&entry).map(Some),
    };
    let queue_type = match table.entry("queue_type") {
        None => Some("quorum".to_owned()),
        Some(entry) => match entry.text() {
            Some(kind) if QUEUE_TYPES.contains(&&*kind) => Some(kind),
            _ => {
                entry.error(
                    "is no type of queue",
                    "`\"quorum\"`, `\"classic\"` or `\"stream\"`",
                );
                None
            }
        },
    };
    let bind = table.entry("bind");
    let bind_is_there = bind.is_some();
    let bind = bind.map(Entry::items).unwrap_or_default();
    let bind: Option<Vec<_>> = bind.iter().map(name).collect();
    let arguments = arguments(&mut table);
    let (exchange, queue, bind) = match target {
        RabbitTarget::Exchange {
            exchange,
            routing_key,
        } => {
            let Some(exchange) = exchange.constant() else {
                table.error(
                    "cannot declare an exchange whose name is made of the event",
                    "declare it on the broker",
                );
                return None;
            };
            let queue = queue?;
            let mut bind = bind?;
            if queue.is_none() && bind_is_there {
                table.error("binds no queue", "name it: `queue = \"NAME\"`");
                return None;
            }
            if queue.is_some() && !bind_is_there {
                // All that is published here: its one key, or everything.
                let all = routing_key.constant().unwrap_or("#");
                bind.push(ShortString::try_new(all).ok()?);
            }
            let kind = exchange_type?.unwrap_or_else(|| "topic".to_owned());
            (
                Some((ShortString::try_new(exchange).ok()?, kind)),
                queue,
                bind,
            )
        }
        RabbitTarget::Queue { queue: own, .. } => {
            if exchange_type?.is_some() || bind_is_there || queue?.is_some() {
                table.error(
                    "speaks of an exchange, and events go to a `queue`",
                    "here it takes `queue_type` and `arguments`",
                );
                return None;
            }
            let Some(own) = own.constant() else {
                table.error(
                    "cannot declare a queue whose name is made of the event",
                    "declare it on the broker",
                );
                return None;
            };
            (None, Some(ShortString::try_new(own).ok()?), Vec::new())
        }
    };
    Some(Some(Declare {
        exchange,
        queue,
        queue_type: queue_type?,
        bind,
        arguments: arguments?,
    }))
}

fn name(entry: &Entry<'_>) -> Option<ShortString> {
    let text: String = entry.read()?;
    match ShortString::try_new(text) {
        Ok(name) => Some(name),
        Err(_) => {
            entry.error("is longer than the 255 bytes AMQP can carry", "");
            None
        }
    }
}

fn arguments(table: &mut Section<'_>) -> Option<Vec<(ShortString, Argument)>> {
    let read = |(key, entry): (String, Entry<'_>)| {
        if key == "x-queue-type" {
            entry.error("is set by `queue_type`", "leave it out");
            return None;
        }
        let Ok(name) = ShortString::try_new(key) else {
            entry.error("is longer than the 255 bytes AMQP can carry", "");
            return None;
        };
        let argument = if let Some(text) = entry.text() {
            Argument::Text(text)
        } else if let Some(truth) = entry.truth() {
            Argument::Truth(truth)
        } else if let Some(number) = entry.integer().and_then(|n| i64::try_from(n).ok()) {
            Argument::Number(number)
        } else {
            entry.error("is neither a text, a whole number, true nor false", "");
            return None;
        };
        Some((name, argument))
    };
    let all: Vec<_> = table
        .section("arguments")
        .rest()
        .into_iter()
        .map(read)
        .collect();
    all.into_iter().collect()
}

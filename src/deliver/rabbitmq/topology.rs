use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{Channel, Connection, ExchangeKind};
use tokio::time::timeout;

use super::config::{Argument, Declare, RabbitTarget};
use super::connect::told;

/// What was found on the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// What is published to is there, as far as its name is known beforehand.
    There,
    /// It is there, and not as it is to be declared; why.
    Otherwise(String),
    /// It is not there; why.
    Missing(String),
    /// The connection did not last.
    Lost(String),
}

/// For one answer of the broker.
const ANSWER: Duration = Duration::from_secs(2);

/// Declares what is to be declared, and looks for what is published to.
pub(super) async fn prepare(
    connection: &Connection,
    target: &RabbitTarget,
    declare: Option<&Declare>,
) -> Found {
    let mut complaint = None;
    if let Some(declare) = declare {
        match step(connection, async |channel| {
            self::declare(channel, declare).await
        })
        .await
        {
            Ok(()) => {}
            // What is there stays as it is, and may do all the same.
            Err(Step::Refused(why)) => complaint = Some(why),
            Err(Step::Lost(why)) => return Found::Lost(why),
        }
    }
    match look(connection, target).await {
        Found::There => complaint.map_or(Found::There, Found::Otherwise),
        Found::Missing(why) => Found::Missing(match complaint {
            Some(complaint) if complaint != why => {
                format!("{why}; and it could not be declared: {complaint}")
            }
            _ => why,
        }),
        other => other,
    }
}

/// Looks for what is published to, without making anything.
pub(super) async fn look(connection: &Connection, target: &RabbitTarget) -> Found {
    let looked = match target {
        RabbitTarget::Exchange { exchange, .. } => {
            let Some(name) = exchange
                .constant()
                .and_then(|n| ShortString::try_new(n).ok())
            else {
                return Found::There;
            };
            step(connection, async |channel| {
                let options = ExchangeDeclareOptions {
                    passive: true,
                    ..ExchangeDeclareOptions::default()
                };
                let name = name.clone();
                // The type is not looked at.
                channel
                    .exchange_declare(name, ExchangeKind::Topic, options, FieldTable::default())
                    .await
            })
            .await
        }
        RabbitTarget::Queue { queue, .. } => {
            let Some(name) = queue.constant().and_then(|n| ShortString::try_new(n).ok()) else {
                return Found::There;
            };
            step(connection, async |channel| {
                let options = QueueDeclareOptions {
                    passive: true,
                    ..QueueDeclareOptions::default()
                };
                let declared = channel.queue_declare(name.clone(), options, FieldTable::default());
                declared.await.map(|_| ())
            })
            .await
        }
    };
    match looked {
        Ok(()) => Found::There,
        Err(Step::Refused(why)) => Found::Missing(why),
        Err(Step::Lost(why)) => Found::Lost(why),
    }
}

enum Step {
    /// The broker said no, and closed the channel.
    Refused(String),
    /// It said nothing any more.
    Lost(String),
}

/// Does something on a channel of its own, which a refusal ends.
async fn step(
    connection: &Connection,
    act: impl AsyncFnOnce(&Channel) -> lapin::Result<()>,
) -> Result<(), Step> {
    let acted = timeout(ANSWER, async {
        let channel = connection.create_channel().await?;
        act(&channel).await
    });
    match acted.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if error.is_amqp_soft_error() => Err(Step::Refused(told(&error))),
        Ok(Err(error)) => Err(Step::Lost(told(&error))),
        Err(_) => Err(Step::Lost(format!("no answer within {ANSWER:?}"))),
    }
}

async fn declare(channel: &Channel, declare: &Declare) -> lapin::Result<()> {
    if let Some((name, kind)) = &declare.exchange {
        let options = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        let kind = ExchangeKind::Custom(kind.clone());
        channel
            .exchange_declare(name.clone(), kind, options, FieldTable::default())
            .await?;
    }
    let Some(queue) = &declare.queue else {
        return Ok(());
    };
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(queue.clone(), options, arguments(declare))
        .await?;
    let Some((exchange, _)) = &declare.exchange else {
        return Ok(());
    };
    for key in &declare.bind {
        channel
            .queue_bind(
                queue.clone(),
                exchange.clone(),
                key.clone(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await?;
    }
    Ok(())
}

fn arguments(declare: &Declare) -> FieldTable {
    let mut table = FieldTable::default();
    let text = |text: &str| AMQPValue::LongString(LongString::from(text));
    // A classic queue is one without a type, so that an older one fits too.
    if declare.queue_type != "classic"
        && let Ok(name) = ShortString::try_new("x-queue-type")
    {
        table.insert(name, text(&declare.queue_type));
    }
    for (name, argument) in &declare.arguments {
        let value = match argument {
            Argument::Text(value) => text(value),
            Argument::Number(value) => AMQPValue::LongLongInt(*value),
            Argument::Truth(value) => AMQPValue::Boolean(*value),
        };
        table.insert(name.clone(), value);
    }
    table
}

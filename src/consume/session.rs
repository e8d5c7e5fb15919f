use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection};
use tokio::time::{interval, timeout};

use crate::amqp::told;

use super::handling::{Handled, Handling};
use super::{Line, QueueConfig};

/// A channel on which messages come. A connection has one in its life: a message can
/// then never be settled on a channel that it did not come on.
pub(super) struct Session {
    channel: Channel,
    consumer: lapin::Consumer,
}

/// Why there is no session.
pub(super) enum NoSession {
    /// The broker said no, and closed the channel: the queue is not there, perhaps.
    Refused(String),
    /// The connection did not last.
    Lost(String),
}

/// How a session ended.
pub(super) enum Ended {
    /// In order: nothing is left to do.
    Stopped,
    /// The connection is of no more use; why.
    Lost(String),
    /// The broker ended it: the queue was deleted, or moves.
    Cancelled,
}

/// For one answer of the broker.
const ANSWER: Duration = Duration::from_secs(5);
/// How often it is looked whether the connection is open, whatever was told.
const TICK: Duration = Duration::from_millis(500);

impl Session {
    /// Begins to consume.
    pub(super) async fn open(
        connection: &Connection,
        config: &QueueConfig,
    ) -> Result<Self, NoSession> {
        let opened = timeout(ANSWER, async {
            let channel = connection.create_channel().await?;
            let qos = BasicQosOptions::default();
            channel.basic_qos(config.prefetch, qos).await?;
            let consumer = channel
                .basic_consume(
                    config.queue.clone(),
                    ShortString::default(),
                    BasicConsumeOptions::default(),
                    FieldTable::default(),
                )
                .await?;
            Ok(Self { channel, consumer })
        });
        match opened.await {
            Ok(Ok(session)) => Ok(session),
            Ok(Err(error)) => {
                let error: lapin::Error = error;
                let why = told(&error);
                Err(match error.is_amqp_soft_error() {
                    true => NoSession::Refused(why),
                    false => NoSession::Lost(why),
                })
            }
            Err(_) => Err(NoSession::Lost(format!("no answer within {ANSWER:?}"))),
        }
    }

    /// Handles what comes, until it is to stop or the connection is lost. Attempts
    /// that are under way then go on: they are the line's.
    pub(super) async fn run<L: Line>(
        mut self,
        connection: &Connection,
        handling: &Handling<'_, L>,
    ) -> Ended {
        let status = connection.status();
        let mut tick = interval(TICK);
        let mut messages = FuturesUnordered::new();
        let ended = loop {
            tokio::select! {
                biased;
                () = handling.stop.cancelled() => break None,
                Some(handled) = messages.next() => if handled == Handled::Lost {
                    break Some(lost());
                },
                delivery = self.consumer.next() => match delivery {
                    Some(Ok(delivery)) => messages.push(handling.handle(delivery)),
                    Some(Err(error)) => break Some(Ended::Lost(told(&error))),
                    None => break Some(Ended::Cancelled),
                },
                _ = tick.tick() => if !status.connected() {
                    break Some(lost());
                },
            }
        };
        if let Some(ended) = ended {
            handling.metrics.returned(messages.len());
            return ended;
        }
        let cancel = self
            .channel
            .basic_cancel(self.consumer.tag(), BasicCancelOptions::default());
        // Whether it was heard or not, nothing that comes is begun.
        let _ = timeout(ANSWER, cancel).await;
        while let Some(handled) = messages.next().await {
            if handled == Handled::Lost {
                handling.metrics.returned(messages.len());
                return lost();
            }
        }
        Ended::Stopped
    }
}

fn lost() -> Ended {
    Ended::Lost("the connection ended".to_owned())
}

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};

/// The least that promises what hookward does: batches on channels with one owner
/// each, `mandatory` and persistent, every confirm awaited, and what came back
/// matched by its id.
pub struct Bare {
    connection: Connection,
    channels: Vec<Channel>,
}

/// A message with the properties that hookward gives it.
pub struct Outgoing {
    id: ShortString,
    properties: BasicProperties,
    body: Vec<u8>,
}

impl Outgoing {
    pub fn new(source: &str, id: String, body: Vec<u8>) -> Self {
        let mut headers = FieldTable::default();
        // As long as a real one.
        let signature = "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=";
        for (name, text) in [
            ("hookward-source", source),
            ("hookward-id", &id),
            ("hookward-key", "1"),
            ("svix-id", &id),
            ("svix-timestamp", "1649367553"),
            ("svix-signature", signature),
        ] {
            headers.insert(name.into(), AMQPValue::LongString(LongString::from(text)));
        }
        let id = ShortString::from(id);
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_message_id(id.clone())
            .with_type("user.created".into())
            .with_timestamp(1_649_367_553)
            .with_content_type("application/json".into())
            .with_app_id("hookward".into())
            .with_headers(headers);
        Self {
            id,
            properties,
            body,
        }
    }
}

impl Bare {
    pub async fn connect(url: &str, channels: usize) -> Self {
        let options = ConnectionProperties::default();
        let connection = Connection::connect(url, options).await.unwrap();
        let mut opened = Vec::with_capacity(channels);
        for _ in 0..channels {
            let channel = connection.create_channel().await.unwrap();
            let options = ConfirmSelectOptions::default();
            channel.confirm_select(options).await.unwrap();
            opened.push(channel);
        }
        Self {
            connection,
            channels: opened,
        }
    }

    /// Waits until the queue is there.
    pub async fn there(&self, queue: &str) {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        loop {
            let channel = self.connection.create_channel().await.unwrap();
            let looking = channel.queue_declare(queue.into(), options, FieldTable::default());
            if looking.await.is_ok() {
                return;
            }
        }
    }

    /// Publishes these for that long, so many at a time over all channels. How
    /// many were accepted, how long it took, and how long each batch did.
    pub async fn publish(
        &self,
        queue: &str,
        publications: Vec<Outgoing>,
        in_flight: usize,
        longest: Duration,
    ) -> (usize, Duration, Vec<Duration>) {
        let publications = Arc::new(Mutex::new(publications.into_iter()));
        let began = Instant::now();
        let owners = self.channels.len().min(in_flight);
        let tasks: Vec<_> = self.channels[..owners]
            .iter()
            .map(|channel| {
                let (channel, publications) = (channel.clone(), Arc::clone(&publications));
                let queue = ShortString::from(queue);
                tokio::spawn(async move {
                    let (mut accepted, mut latencies) = (0, Vec::new());
                    while began.elapsed() < longest {
                        let size = in_flight / owners;
                        let batch: Vec<_> =
                            publications.lock().unwrap().by_ref().take(size).collect();
                        if batch.is_empty() {
                            break;
                        }
                        let sent = Instant::now();
                        accepted += publish_batch(&channel, &queue, batch).await;
                        latencies.push(sent.elapsed());
                    }
                    (accepted, latencies)
                })
            })
            .collect();
        let (mut accepted, mut latencies) = (0, Vec::new());
        for task in tasks {
            let (more, its) = task.await.unwrap();
            accepted += more;
            latencies.extend(its);
        }
        (accepted, began.elapsed(), latencies)
    }
}

/// How many of them the broker confirmed and did not give back.
async fn publish_batch(channel: &Channel, queue: &ShortString, batch: Vec<Outgoing>) -> usize {
    const OPTIONS: BasicPublishOptions = BasicPublishOptions {
        mandatory: true,
        immediate: false,
    };
    let mut ids: Vec<ShortString> = batch.iter().map(|message| message.id.clone()).collect();
    let confirms = join_all(batch.into_iter().map(|message| async move {
        let Outgoing {
            properties, body, ..
        } = message;
        let exchange = ShortString::default();
        let written = channel.basic_publish(exchange, queue.clone(), OPTIONS, &body, properties);
        written.await?.await
    }))
    .await;
    let mut accepted = 0;
    for confirm in confirms {
        let confirm = confirm.unwrap();
        accepted += usize::from(matches!(confirm, Confirmation::Ack(_)));
        if let Confirmation::Ack(Some(back)) | Confirmation::Nack(Some(back)) = confirm {
            let id = back.properties.message_id().as_ref();
            ids.retain(|own| Some(own) != id);
        }
    }
    accepted.min(ids.len())
}

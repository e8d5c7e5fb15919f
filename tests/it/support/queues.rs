use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Channel};

use super::{Broker, Message, Sealed, before_the_next_look, text, within};

/// Somebody who publishes into a queue.
pub struct Producer {
    channel: Channel,
    queue: String,
}

impl Producer {
    /// Publishes a signed message as hookward does: its headers as long strings.
    pub async fn publish(&self, message: &Message) {
        self.publish_sealed(&message.seal()).await;
    }

    /// The same, of what was changed behind the sender's back.
    pub async fn publish_sealed(&self, message: &Sealed) {
        let mut headers = FieldTable::default();
        for (name, value) in &message.headers {
            if name != "Content-Type" {
                let value = AMQPValue::LongString(LongString::from(value.as_str()));
                headers.insert(name.as_str().into(), value);
            }
        }
        self.publish_raw(headers, &message.body).await;
    }

    /// Publishes these headers and this body.
    pub async fn publish_raw(&self, headers: FieldTable, body: &[u8]) {
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/json".into())
            .with_headers(headers);
        let published = async {
            let confirm = self.channel.basic_publish(
                "".into(),
                self.queue.as_str().into(),
                BasicPublishOptions::default(),
                body,
                properties,
            );
            confirm.await.unwrap().await.unwrap()
        };
        let confirmation = within("a confirm", published).await;
        assert!(confirmation.is_ack());
    }
}

impl Broker {
    /// A quorum queue whose rejected messages go to another, called `NAME.dead`.
    pub async fn queue_with_the_dead(&self, name: &str) {
        let dead = format!("{name}.dead");
        self.queue(&dead, ("amq.topic", "nobody"), &[]).await;
        let arguments = [
            ("x-queue-type", text("quorum")),
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text(&dead)),
        ];
        self.queue(name, ("amq.topic", "nobody"), &arguments).await;
    }

    /// Somebody who publishes into this queue.
    pub async fn producer(&self, queue: &str) -> Producer {
        let channel = self.channel().await;
        let confirms = ConfirmSelectOptions::default();
        channel.confirm_select(confirms).await.unwrap();
        let queue = queue.to_owned();
        Producer { channel, queue }
    }

    /// Takes a queue away.
    pub async fn without_queue(&self, name: &str) {
        let options = QueueDeleteOptions::default();
        let channel = self.channel().await;
        channel.queue_delete(name.into(), options).await.unwrap();
    }

    /// How many messages wait in a queue, those not counted that somebody holds.
    pub async fn waiting(&self, queue: &str) -> u32 {
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let channel = self.channel().await;
        let declared = channel.queue_declare(queue.into(), passive, FieldTable::default());
        declared.await.unwrap().message_count()
    }

    /// Waits until so many messages wait in a queue.
    pub async fn until_waiting(&self, queue: &str, count: u32) {
        let what = format!("{count} messages in `{queue}`");
        within(&what, async {
            while self.waiting(queue).await != count {
                before_the_next_look().await;
            }
        })
        .await;
    }
}

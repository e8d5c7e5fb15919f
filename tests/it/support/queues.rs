use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Channel};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

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

/// A producer that writes frames as no library would.
pub struct Rude(TcpStream);

impl Rude {
    /// Logs in, and opens channel 1.
    pub async fn connect(broker: &Broker) -> Self {
        let stream = TcpStream::connect(broker.address()).await.unwrap();
        let mut rude = Self(stream);
        rude.0.write_all(b"AMQP\0\0\x09\x01").await.unwrap();
        rude.answered().await;
        let login = b"\0\0\0\0\x05PLAIN\0\0\0\x0c\0guest\0guest\x05en_US";
        rude.method(0, (10, 11), login).await;
        rude.answered().await;
        rude.method(0, (10, 31), b"\x07\xff\0\x02\0\0\0\0").await;
        rude.method(0, (10, 40), b"\x01/\0\0").await;
        rude.answered().await;
        rude.method(1, (20, 10), b"\0").await;
        rude.answered().await;
        rude
    }

    /// Publishes with this table of headers, byte for byte.
    pub async fn publish(&mut self, queue: &str, table: &[u8]) {
        let mut publish = vec![0, 0, 0, u8::try_from(queue.len()).unwrap()];
        publish.extend_from_slice(queue.as_bytes());
        publish.push(0);
        self.method(1, (60, 40), &publish).await;
        let mut header = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0x20, 0];
        header.extend(u32::try_from(table.len()).unwrap().to_be_bytes());
        header.extend_from_slice(table);
        self.frame(2, 1, &header).await;
        self.frame(3, 1, b"{}").await;
    }

    async fn answered(&mut self) {
        within("an answer", async {
            let mut head = [0; 7];
            self.0.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
            let mut rest = vec![0; length as usize + 1];
            self.0.read_exact(&mut rest).await.unwrap();
        })
        .await;
    }

    async fn method(&mut self, channel: u16, id: (u16, u16), arguments: &[u8]) {
        let mut payload = id.0.to_be_bytes().to_vec();
        payload.extend(id.1.to_be_bytes());
        payload.extend_from_slice(arguments);
        self.frame(1, channel, &payload).await;
    }

    async fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let mut frame = vec![kind];
        frame.extend(channel.to_be_bytes());
        frame.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
        frame.extend_from_slice(payload);
        frame.push(0xce);
        self.0.write_all(&frame).await.unwrap();
    }
}

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::within;

/// A broker that does only what a test says, frame by frame: what a real one does
/// by luck.
pub struct Script(TcpListener);

/// One connection to it, after the handshake.
pub struct Peer {
    stream: TcpStream,
    /// What was published on each channel so far.
    tags: HashMap<u16, u64>,
    /// A publication whose header or body is still to come.
    coming: Option<Published>,
    /// What was published while something else was waited for.
    early: VecDeque<Published>,
}

/// A message that was published.
#[derive(Clone, Debug)]
pub struct Published {
    pub channel: u16,
    /// The number by which it is confirmed on its channel.
    pub tag: u64,
    pub exchange: Vec<u8>,
    pub routing_key: Vec<u8>,
    pub header: Vec<u8>,
    pub body: Vec<u8>,
    pub size: u64,
}

impl Published {
    /// Whether this is the one of that event: its body carries its id.
    pub fn is(&self, id: &str) -> bool {
        String::from_utf8_lossy(&self.body).contains(&format!("\"{id}\""))
    }
}

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const END: u8 = 0xce;

impl Script {
    pub async fn listen() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    pub fn url(&self) -> String {
        format!("amqp://guest:guest@{}", self.address())
    }

    /// Takes a connection, and says nothing on it.
    pub async fn silent(&self) -> TcpStream {
        within("a connection", self.0.accept()).await.unwrap().0
    }

    /// Takes a connection, and answers up to the open connection.
    pub async fn accept(&self) -> Peer {
        let mut able = Vec::new();
        for name in ["publisher_confirms", "basic.nack", "connection.blocked"] {
            able.extend_from_slice(&short(name));
            able.extend_from_slice(b"t\x01");
        }
        let mut server = short("capabilities");
        server.push(b'F');
        server.extend(long(&able));
        let mut peer = self.greet(&server).await;
        peer.expect((10, 11)).await;
        peer.tune(131_072).await;
        peer
    }

    /// Takes a connection, and begins the handshake with these properties of the server.
    pub async fn greet(&self, server: &[u8]) -> Peer {
        let mut stream = self.silent().await;
        stream.set_nodelay(true).unwrap();
        let mut header = [0; 8];
        within("a protocol header", stream.read_exact(&mut header))
            .await
            .unwrap();
        assert_eq!(&header, b"AMQP\x00\x00\x09\x01");
        let mut peer = Peer {
            stream,
            tags: HashMap::new(),
            coming: None,
            early: VecDeque::new(),
        };
        let mut start = vec![0, 9];
        start.extend(long(server));
        start.extend(long(b"PLAIN"));
        start.extend(long(b"en_US"));
        peer.method(0, (10, 10), &start).await;
        peer
    }
}

impl Peer {
    /// Offers frames of so many bytes, and opens the connection; what was chosen.
    pub async fn tune(&mut self, frame_max: u32) -> u32 {
        let mut tune = 2047u16.to_be_bytes().to_vec();
        tune.extend(frame_max.to_be_bytes());
        tune.extend(10u16.to_be_bytes());
        self.method(0, (10, 30), &tune).await;
        let tuned = self.expect((10, 31)).await;
        self.expect((10, 40)).await;
        self.method(0, (10, 41), &[0]).await;
        u32::from_be_bytes(tuned[6..10].try_into().unwrap())
    }

    /// Reads on until something was published whole, answering whatever else is
    /// asked as a broker does that has everything.
    pub async fn published(&mut self) -> Published {
        if let Some(early) = self.early.pop_front() {
            return early;
        }
        loop {
            let next = within("something published", self.next()).await;
            if let Some(published) = next.unwrap() {
                return published;
            }
        }
    }

    /// Answers until a channel was opened for publishing.
    pub async fn until_ready(&mut self) {
        loop {
            let (kind, channel, payload) = within("a frame", self.frame()).await.unwrap();
            let asked = (kind == METHOD).then(|| method(&payload));
            self.take(kind, channel, payload).await;
            if asked == Some((85, 10)) {
                return;
            }
        }
    }

    /// Answers until a channel is to be closed, and leaves that unanswered.
    pub async fn until_channel_closes(&mut self) -> u16 {
        loop {
            let (kind, channel, payload) = within("a frame", self.frame()).await.unwrap();
            if kind == METHOD && method(&payload) == (20, 40) {
                return channel;
            }
            self.take(kind, channel, payload).await;
        }
    }

    /// Answers until the connection is closed in order; how many channels were
    /// before it.
    pub async fn until_goodbye(&mut self) -> usize {
        let mut channels = 0;
        loop {
            let (kind, channel, payload) = within("a goodbye", self.frame()).await.unwrap();
            let said = (kind == METHOD).then(|| method(&payload));
            self.take(kind, channel, payload).await;
            match said {
                Some((20, 40)) => channels += 1,
                Some((10, 50)) => return channels,
                _ => {}
            }
        }
    }

    /// Says that a channel is closed.
    pub async fn channel_closed(&mut self, channel: u16) {
        self.method(channel, (20, 41), &[]).await;
    }

    /// Says that this one is taken.
    pub async fn confirm(&mut self, message: &Published) {
        self.ack(message.channel, message.tag, false).await;
    }

    pub async fn ack(&mut self, channel: u16, tag: u64, multiple: bool) {
        let mut arguments = tag.to_be_bytes().to_vec();
        arguments.push(u8::from(multiple));
        self.method(channel, (60, 80), &arguments).await;
    }

    pub async fn nack(&mut self, channel: u16, tag: u64) {
        let mut arguments = tag.to_be_bytes().to_vec();
        arguments.push(0);
        self.method(channel, (60, 120), &arguments).await;
    }

    /// Gives a message back: nothing takes it.
    pub async fn give_back(&mut self, message: &Published) {
        let mut arguments = 312u16.to_be_bytes().to_vec();
        arguments.extend(short("NO_ROUTE"));
        arguments.extend(&message.exchange);
        arguments.extend(&message.routing_key);
        let channel = message.channel;
        self.method(channel, (60, 50), &arguments).await;
        self.write(HEADER, channel, &message.header).await;
        self.write(BODY, channel, &message.body).await;
    }

    /// Closes the channel over a message to an exchange that is not there, up to
    /// the answer. Nothing may be published on it behind that message.
    pub async fn refuse(&mut self, message: &Published) {
        let mut arguments = 404u16.to_be_bytes().to_vec();
        arguments.extend(short("NOT_FOUND - no exchange"));
        arguments.extend([0, 60, 0, 40]);
        self.method(message.channel, (20, 40), &arguments).await;
        loop {
            let (kind, channel, payload) = within("a frame", self.frame()).await.unwrap();
            let said = (kind == METHOD).then(|| method(&payload));
            let on_it = channel == message.channel;
            let behind = on_it && said == Some((60, 40));
            assert!(!behind, "something was published behind it");
            let published = self.take(kind, channel, payload).await;
            self.early.extend(published);
            if on_it && said == Some((20, 41)) {
                return;
            }
        }
    }

    /// Takes nothing any more, for a reason.
    pub async fn block(&mut self, why: &str) {
        self.method(0, (10, 60), &short(why)).await;
    }

    /// Takes again.
    pub async fn unblock(&mut self) {
        self.method(0, (10, 61), &[]).await;
    }

    /// Writes these bytes, and then nothing more: a reset.
    pub async fn reset_after(mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        SockRef::from(&self.stream)
            .set_linger(Some(std::time::Duration::ZERO))
            .unwrap();
    }

    /// Reads this method, whole.
    pub async fn expect(&mut self, asked: (u16, u16)) -> Vec<u8> {
        let (kind, _, payload) = within("a method", self.frame()).await.unwrap();
        assert_eq!((kind, method(&payload)), (METHOD, asked));
        payload
    }

    async fn next(&mut self) -> std::io::Result<Option<Published>> {
        let (kind, channel, payload) = self.frame().await?;
        Ok(self.take(kind, channel, payload).await)
    }

    async fn take(&mut self, kind: u8, channel: u16, payload: Vec<u8>) -> Option<Published> {
        match kind {
            METHOD => match method(&payload) {
                (20, 10) => self.method(channel, (20, 11), &[0; 4]).await,
                (20, 40) => self.method(channel, (20, 41), &[]).await,
                (40, 10) => self.method(channel, (40, 11), &[]).await,
                (50, 10) => self.method(channel, (50, 11), &[0; 9]).await,
                (85, 10) => {
                    self.tags.insert(channel, 0);
                    self.method(channel, (85, 11), &[]).await;
                }
                (10, 50) => self.method(0, (10, 51), &[]).await,
                (60, 40) => {
                    let (exchange, rest) = split(&payload[6..]);
                    let (routing_key, _) = split(rest);
                    let tag = self.tags.get_mut(&channel).unwrap();
                    *tag += 1;
                    self.coming = Some(Published {
                        channel,
                        tag: *tag,
                        exchange,
                        routing_key,
                        header: Vec::new(),
                        body: Vec::new(),
                        size: 0,
                    });
                }
                _ => {}
            },
            HEADER => {
                let coming = self.coming.as_mut().unwrap();
                coming.size = u64::from_be_bytes(payload[4..12].try_into().unwrap());
                coming.header = payload;
            }
            BODY => self.coming.as_mut().unwrap().body.extend(payload),
            _ => {}
        }
        let whole = |p: &mut Published| !p.header.is_empty() && p.body.len() as u64 == p.size;
        self.coming.take_if(whole)
    }

    async fn frame(&mut self) -> std::io::Result<(u8, u16, Vec<u8>)> {
        let kind = self.stream.read_u8().await?;
        let channel = self.stream.read_u16().await?;
        let size = self.stream.read_u32().await?;
        let mut payload = vec![0; size as usize + 1];
        self.stream.read_exact(&mut payload).await?;
        assert_eq!(payload.pop(), Some(END));
        Ok((kind, channel, payload))
    }

    /// Says this, whatever it is.
    pub async fn method(&mut self, channel: u16, id: (u16, u16), arguments: &[u8]) {
        let mut payload = id.0.to_be_bytes().to_vec();
        payload.extend(id.1.to_be_bytes());
        payload.extend(arguments);
        self.write(METHOD, channel, &payload).await;
    }

    async fn write(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let mut frame = vec![kind];
        frame.extend(channel.to_be_bytes());
        frame.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
        frame.extend(payload);
        frame.push(END);
        // The other side may have given up by now.
        let _ = self.stream.write_all(&frame).await;
    }
}

fn method(payload: &[u8]) -> (u16, u16) {
    let number = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
    (number(0), number(2))
}

fn short(text: &str) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(text.len()).unwrap()];
    bytes.extend(text.as_bytes());
    bytes
}

fn long(text: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(text);
    bytes
}

/// A short string as it stands, and what comes after it.
fn split(bytes: &[u8]) -> (Vec<u8>, &[u8]) {
    let end = 1 + usize::from(bytes[0]);
    (bytes[..end].to_vec(), &bytes[end..])
}

//! What the tests of this room are made of: events, destinations from a text of
//! configuration, and upstreams that do what a script says.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use figment::value::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::observe::{Clock, Metrics};
use crate::setting::{Name, Place, Reader, SecretReader};

use super::{Budget, CircuitState, Destination, DestinationConfig, HungUp, Means};

use crate::message::{
    Envelope, Event, EventType, Family, MessageId, Origin, Protocol, Received, RequestId,
    Timestamp, Verified,
};
use bytes::Bytes;

/// An event in the making.
pub(super) struct Made {
    pub(super) family: Family,
    pub(super) headers: Vec<(&'static str, &'static str)>,
    pub(super) body: Bytes,
    pub(super) client: Option<std::net::IpAddr>,
    pub(super) event_type: Option<&'static str>,
    pub(super) resend: bool,
}

pub(super) const ID: &str = "msg_1";
pub(super) const TIMESTAMP: u64 = 1_649_367_553;

pub(super) fn event() -> Made {
    Made {
        family: Family::Svix,
        headers: Vec::new(),
        body: Bytes::from_static(b"{\"type\":\"user.created\"}"),
        client: Some([192, 0, 2, 7].into()),
        event_type: Some("user.created"),
        resend: false,
    }
}

impl Made {
    /// Adds a header as the sender sent it.
    pub(super) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(super) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The event, proven.
    pub(super) fn proven(self) -> Event {
        let envelope = self.envelope();
        let (event_type, resend) = (self.event_type, self.resend);
        let message = Verified::proven(self.received(None), envelope, "main".into());
        Event::new(message, event_type.and_then(EventType::from_text), resend)
    }

    /// The event of an open source, with or without signature headers.
    pub(super) fn unproven(self, enveloped: bool) -> Event {
        let envelope = enveloped.then(|| self.envelope());
        let (event_type, resend) = (self.event_type, self.resend);
        let message = Verified::dangerously_unproven(self.received(envelope));
        Event::new(message, event_type.and_then(EventType::from_text), resend)
    }

    fn envelope(&self) -> Envelope {
        Envelope {
            family: self.family,
            id: MessageId::parse(ID.into()).unwrap(),
            timestamp: Timestamp::parse(TIMESTAMP.to_string().as_bytes()).unwrap(),
            signature: "v1,c2lnbmF0dXJl".into(),
        }
    }

    fn received(self, envelope: Option<Envelope>) -> Received {
        Received {
            source: Arc::from("clerk"),
            origin: Origin {
                request: RequestId::new(),
                client: self.client,
                protocol: Some(Protocol::Https),
            },
            envelope,
            headers: self.headers.into_iter().collect(),
            body: self.body,
        }
    }
}

/// Reads `[destinations.billing]`, with every problem as it is printed.
pub(super) fn read(text: &str, secrets: SecretReader) -> (Option<DestinationConfig>, String) {
    let place = || Place::File {
        path: "hookward.toml".into(),
        line: None,
        column: None,
    };
    let table: toml::Table = text.parse().unwrap();
    let dict = Value::serialize(&table).unwrap().into_dict().unwrap();
    let reader = Reader::new(Path::new("/etc/hookward"), secrets, place(), move |_, _| {
        place()
    });
    let name = Name::parse("billing").unwrap();
    let config = DestinationConfig::read(&name, reader.document(dict));
    (config, reader.into_problems().to_string())
}

/// A destination with its metrics, at a fixed time.
pub(super) struct Built {
    pub(super) destination: Arc<Destination>,
    metrics: Metrics,
}

pub(super) const NOW: u64 = 1_700_000_000;

pub(super) fn build(text: &str) -> Built {
    try_build(text).unwrap()
}

pub(super) fn try_build(text: &str) -> Result<Built, String> {
    let (config, problems) = read(text, SecretReader::Process);
    let config = config.ok_or(problems)?;
    let metrics = Metrics::new().unwrap();
    let means = Means {
        metrics: metrics.destination("billing"),
        clock: Clock::fixed(UNIX_EPOCH + Duration::from_secs(NOW)),
        tasks: TaskTracker::new(),
    };
    Ok(Built {
        destination: Arc::new(Destination::build(&config, means)?),
        metrics,
    })
}

impl Built {
    /// The value of a metric of the destination: `attempts_total late`.
    pub(super) fn metric(&self, name: &str, outcome: &str) -> String {
        let outcome = match outcome {
            "" => String::new(),
            word => format!(",outcome=\"{word}\""),
        };
        let state = self.destination.state();
        let open = state.circuit != CircuitState::Closed;
        self.metrics.show_destination("billing", state.up, open);
        let line = format!("hookward_{name}{{destination=\"billing\"{outcome}}} ");
        let text = self.metrics.text().unwrap();
        let value = text.lines().find_map(|l| l.strip_prefix(&line));
        value.unwrap_or_else(|| panic!("{line} in:\n{text}")).into()
    }
}

/// A budget that ends so many seconds from now.
pub(super) fn budget(seconds: u64) -> Budget<'static> {
    static SENDER: HungUp = HungUp::new();
    Budget {
        deadline: Instant::now() + Duration::from_secs(seconds),
        hung_up: &SENDER,
    }
}

/// What a test waits for happens at once; past this it never will.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A scripted HTTP service.
pub(super) struct Upstream(TcpListener);

impl Upstream {
    pub(super) async fn listen() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(super) fn address(&self) -> String {
        self.0.local_addr().unwrap().to_string()
    }

    /// Configuration of an HTTP destination that leads here, and `more`.
    pub(super) fn config(&self, more: &str) -> String {
        let address = self.address();
        format!("type = 'http'\nurl = 'http://{address}/hooks?a=1'\n{more}")
    }

    pub(super) async fn accept(&self) -> Peer<TcpStream> {
        let accepted = tokio::time::timeout(PATIENCE, self.0.accept()).await;
        Peer(accepted.expect("nobody connects").unwrap().0)
    }
}

/// The service's end of a connection.
pub(super) struct Peer<S>(pub(super) S);

pub(super) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    /// Reads one head, byte for byte, so that nothing of the body is taken.
    pub(super) async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    /// Reads one request: its head, and its body as long as the head says.
    pub(super) async fn request(&mut self) -> (String, Vec<u8>) {
        let head = self.head().await;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        (head, body)
    }

    pub(super) async fn write(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// Reads one request and answers it.
    pub(super) async fn answer(&mut self, text: &str) {
        self.request().await;
        self.write(text).await;
    }
}

use std::net::SocketAddr;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use super::{KEY, now, within};

/// A message as its sender means it, before it is signed.
#[derive(Clone)]
pub struct Message {
    family: &'static str,
    key: String,
    id: String,
    offset: i64,
    body: Vec<u8>,
}

impl Message {
    /// A message of type `user.created` that carries its own id, so that no two
    /// are alike.
    pub fn new(id: &str) -> Self {
        Self {
            family: "svix",
            key: KEY.into(),
            id: id.into(),
            offset: 0,
            body: format!(r#"{{"type":"user.created","data":{{"id":"{id}"}}}}"#).into_bytes(),
        }
    }

    /// With this body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Of this event type.
    pub fn of_type(self, event_type: &str) -> Self {
        let body = format!(r#"{{"type":"{event_type}","data":{{"id":"{}"}}}}"#, self.id);
        self.body(body)
    }

    /// Signed with another key.
    pub fn key(mut self, key: &str) -> Self {
        self.key = key.into();
        self
    }

    /// Under the `webhook-` names, signed by the Standard Webhooks SDK.
    pub fn webhook(mut self) -> Self {
        self.family = "webhook";
        self
    }

    /// Signed so many seconds from now.
    pub fn at(mut self, offset: i64) -> Self {
        self.offset = offset;
        self
    }

    /// Signs it.
    pub fn seal(&self) -> Sealed {
        let at = now() + self.offset;
        let signature = sign(self.family, &self.key, &self.id, at, &self.body);
        Sealed {
            headers: vec![
                ("Content-Type".into(), "application/json".into()),
                (format!("{}-id", self.family), self.id.clone()),
                (format!("{}-timestamp", self.family), at.to_string()),
                (format!("{}-signature", self.family), signature),
            ],
            body: self.body.clone(),
        }
    }
}

/// Signs as the official SDK of the family does; bodies that are not UTF-8, which
/// the SDKs do not take, by the same arithmetic.
pub fn sign(family: &str, key: &str, id: &str, at: i64, body: &[u8]) -> String {
    if std::str::from_utf8(body).is_err() {
        let raw = STANDARD.decode(key.trim_start_matches("whsec_")).unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&raw).unwrap();
        mac.update(format!("{id}.{at}.").as_bytes());
        mac.update(body);
        return format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    }
    if family == "svix" {
        let sdk = svix::webhooks::Webhook::new(key).unwrap();
        sdk.sign(id, at, body).unwrap()
    } else {
        let sdk = standardwebhooks::Webhook::new(key).unwrap();
        sdk.sign(id, at, body).unwrap()
    }
}

/// A signed message: its headers and its body. What is changed from here on is
/// changed behind the sender's back.
#[derive(Clone)]
pub struct Sealed {
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Sealed {
    /// With this header, in the place of the one of that name.
    pub fn with(self, name: &str, value: &str) -> Self {
        self.without(name).and(name, value)
    }

    /// With one more header.
    pub fn and(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Without this header.
    pub fn without(mut self, name: &str) -> Self {
        self.headers
            .retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self
    }

    /// With another body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> &str {
        let found = self
            .headers
            .iter()
            .find(|(other, _)| other.eq_ignore_ascii_case(name));
        &found.unwrap().1
    }

    /// The head of the request, with the length of the body.
    pub fn head(&self, path: &str) -> Vec<u8> {
        let mut head = format!("POST {path} HTTP/1.1\r\nHost: hooks.example\r\n");
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", self.body.len()));
        head.into_bytes()
    }

    /// The whole request.
    pub fn request(&self, path: &str) -> Vec<u8> {
        let mut request = self.head(path);
        request.extend_from_slice(&self.body);
        request
    }
}

/// What the sender was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The word of the answer; empty when there is none.
    pub fn word(&self) -> &str {
        self.header("hookward-result").unwrap_or_default()
    }

    /// Status and word: what most promises are about.
    pub fn told(&self) -> (u16, &str) {
        (self.status, self.word())
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON in {self:?}"))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// Everything that may not differ between two answers of one kind: all but
    /// the date and our own id of the request.
    pub fn without_what_is_its_own(&self) -> (u16, Vec<(String, String)>, Vec<u8>) {
        let own = ["date", "hookward-request"];
        let mut headers = self.headers.clone();
        headers.retain(|(name, _)| !own.contains(&name.as_str()));
        (self.status, headers, self.body.clone())
    }
}

/// What bytes are read from and written to.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// One connection of a sender, byte by byte.
pub struct Connection {
    stream: Box<dyn Stream>,
    unread: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Self {
        let stream = within("a connection", TcpStream::connect(address)).await;
        let stream = stream.unwrap_or_else(|e| panic!("connecting to {address}: {e}"));
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    /// Connects to a unix socket.
    pub async fn open_unix(path: &Path) -> Self {
        let stream = within("a connection", UnixStream::connect(path)).await;
        Self::over(stream.unwrap_or_else(|e| panic!("connecting to {path:?}: {e}")))
    }

    /// Speaks over this.
    pub fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            unread: Vec::new(),
        }
    }

    /// Writes all of this.
    pub async fn write(&mut self, bytes: &[u8]) {
        self.try_write(bytes).await.unwrap();
    }

    /// Writes this as far as the other side takes it.
    pub async fn try_write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        within("a write to be taken", self.stream.write_all(bytes)).await
    }

    /// Sends one request and reads its answer; the connection can be used again.
    pub async fn post(&mut self, path: &str, message: &Sealed) -> Answer {
        self.write(&message.request(path)).await;
        self.answer().await
    }

    /// Reads one answer.
    pub async fn answer(&mut self) -> Answer {
        self.try_answer().await.unwrap()
    }

    /// Reads one answer.
    ///
    /// # Errors
    /// When the connection ends before one is there.
    pub async fn try_answer(&mut self) -> std::io::Result<Answer> {
        within("an answer", self.read_answer()).await
    }

    /// Waits until there is something to read, without taking it.
    pub async fn ready(&mut self) -> std::io::Result<()> {
        if self.unread.is_empty() {
            self.fill().await?;
        }
        Ok(())
    }

    /// Reads to the end of the connection: how many bytes came before it.
    pub async fn closed(&mut self) -> usize {
        let mut rest = Vec::new();
        // A reset ends a connection as well as a close.
        let _ = within("the connection to end", self.stream.read_to_end(&mut rest)).await;
        self.unread.len() + rest.len()
    }

    async fn read_answer(&mut self) -> std::io::Result<Answer> {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            self.fill().await?;
        };
        let head = String::from_utf8(self.unread.drain(..end).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
        while self.unread.len() < length {
            self.fill().await?;
        }
        Ok(Answer {
            status: status.parse().unwrap(),
            headers,
            body: self.unread.drain(..length).collect(),
        })
    }

    async fn fill(&mut self) -> std::io::Result<()> {
        match self.stream.read_buf(&mut self.unread).await? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

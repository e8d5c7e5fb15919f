use std::convert::Infallible;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::StatusCode;
use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::listen::*;

/// Nothing here takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running listener with a service that does what the path says.
pub(super) struct Stand {
    pub(super) at: String,
    pub(super) stop: Stop,
    pub(super) door: Arc<ArcSwap<Door>>,
    pub(super) connections: IntGauge,
    pub(super) buffered: IntGauge,
    /// `/hold` answers once it gets a permit.
    pub(super) gate: Arc<Semaphore>,
    /// When each request's head began, and when the service saw it.
    pub(super) heads: Arc<Mutex<Vec<(Instant, Instant)>>>,
    /// Requests that the service has, and has not let go of.
    pub(super) handled: IntGauge,
    served: JoinHandle<std::io::Result<usize>>,
}

pub(super) fn door() -> Door {
    Door {
        limits: Limits {
            header_timeout: PATIENCE,
            idle_timeout: PATIENCE,
            crowded_timeout: PATIENCE,
            max_connections: 100,
        },
        tls: None,
    }
}

#[derive(Clone)]
struct Desk {
    connection: Arc<Connection>,
    budget: BufferBudget,
    gate: Arc<Semaphore>,
    heads: Arc<Mutex<Vec<(Instant, Instant)>>>,
    handled: IntGauge,
}

/// A request in the hands of the service, which may drop it at any time.
struct Handled(IntGauge);

impl Drop for Handled {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Desk {
    async fn answer(self, request: Request) -> Result<Response, Infallible> {
        self.handled.inc();
        let _handled = Handled(self.handled.clone());
        self.heads
            .lock()
            .unwrap()
            .push((self.connection.began(), Instant::now()));
        let path = request.target.path().to_owned();
        let (status, text) = match path.as_str() {
            // As hyper gives them or, in the own way, as they were sent.
            "/names" => {
                let names: Vec<_> = request.headers.iter().map(|(name, _)| name).collect();
                let names = names.join(" ");
                skip_body(request.body, &self.connection);
                (StatusCode::OK, names)
            }
            "/none" => {
                skip_body(request.body, &self.connection);
                (StatusCode::NO_CONTENT, String::new())
            }
            "/early" => (StatusCode::PAYLOAD_TOO_LARGE, "early".into()),
            "/skip" => {
                skip_body(request.body, &self.connection);
                (StatusCode::UNAUTHORIZED, "skipped".into())
            }
            "/large" => (StatusCode::OK, "x".repeat(32 << 20)),
            "/last" => {
                self.connection.close_after();
                (StatusCode::OK, "last".into())
            }
            path => {
                let rules = BodyRules {
                    max_body: 100_000,
                    timeout: if path == "/quick" {
                        Duration::from_millis(100)
                    } else {
                        PATIENCE
                    },
                    deadline: self.connection.began() + PATIENCE,
                };
                let body = read_body(request.body, &self.connection, rules, &self.budget).await;
                if path == "/hold" {
                    self.gate.acquire().await.unwrap().forget();
                }
                if body.is_ok() {
                    self.connection.proven();
                }
                match body {
                    Ok(body) => (StatusCode::OK, format!("{path} {}", body.bytes.len())),
                    Err(BodyError::TooLarge) => (StatusCode::PAYLOAD_TOO_LARGE, String::new()),
                    Err(BodyError::Slow) => (StatusCode::REQUEST_TIMEOUT, String::new()),
                    Err(BodyError::Busy) => (StatusCode::SERVICE_UNAVAILABLE, String::new()),
                    Err(BodyError::Broken) => (StatusCode::BAD_REQUEST, String::new()),
                }
            }
        };
        Ok(Response::new(status, text))
    }
}

impl Stand {
    pub(super) fn start(change: impl FnOnce(&mut Limits)) -> Self {
        let mut door = door();
        change(&mut door.limits);
        Self::open(&Address::Tcp(([127, 0, 0, 1], 0).into()), door)
    }

    pub(super) fn open(address: &Address, door: Door) -> Self {
        let listener = Listener::bind(address).unwrap();
        let at = listener.local();
        let connections = IntGauge::new("connections", "connections").unwrap();
        let buffered = IntGauge::new("buffered", "buffered").unwrap();
        let budget = BufferBudget::new(150_000, buffered.clone());
        let gate = Arc::new(Semaphore::new(0));
        let heads = Arc::default();
        let handled = IntGauge::new("handled", "handled").unwrap();
        let stop = Stop::new();
        let door = Arc::new(ArcSwap::from_pointee(door));
        let desk = {
            let (gate, heads) = (Arc::clone(&gate), Arc::clone(&heads));
            let handled = handled.clone();
            move |connection| Desk {
                connection,
                budget: budget.clone(),
                gate: Arc::clone(&gate),
                heads: Arc::clone(&heads),
                handled: handled.clone(),
            }
        };
        let make = move |connection: Arc<Connection>| {
            let desk = desk(connection);
            tower::service_fn(move |request| desk.clone().answer(request))
        };
        let options = ServeOptions {
            door: Arc::clone(&door),
            connections: connections.clone(),
            stop: stop.clone(),
            crew: Crew::here(),
        };
        let served = tokio::spawn(serve(listener, make, options));
        Self {
            at,
            stop,
            door,
            connections,
            buffered,
            gate,
            heads,
            handled,
            served,
        }
    }

    pub(super) async fn visit(&self) -> Visitor<TcpStream> {
        Visitor::new(TcpStream::connect(&self.at).await.unwrap())
    }

    /// Waits until the listening socket is closed.
    pub(super) async fn visit_is_refused(&self) {
        let gone = async { while TcpStream::connect(&self.at).await.is_ok() {} };
        timeout(PATIENCE, gone).await.expect("it stays open");
    }

    /// Waits until `met`, which other tasks bring about.
    pub(super) async fn until(&self, met: impl Fn(&Self) -> bool) {
        let wait = async {
            while !met(self) {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, wait).await.expect("it never came about");
    }

    /// Waits for the end; how many connections were cut. Whatever happened
    /// before, none is left and no byte is held.
    pub(super) async fn ended(self) -> usize {
        let served = timeout(PATIENCE, self.served).await;
        let cut = served.expect("serve goes on").unwrap().unwrap();
        assert_eq!(self.connections.get(), 0);
        assert_eq!(self.buffered.get(), 0);
        cut
    }

    pub(super) async fn finish(self) {
        self.stop.finish(PATIENCE);
        assert_eq!(self.ended().await, 0);
    }
}

/// One that speaks HTTP byte by byte.
pub(super) struct Visitor<T> {
    pub(super) stream: T,
    read: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn closes(&self) -> bool {
        self.head.contains("connection: close")
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Visitor<T> {
    pub(super) fn new(stream: T) -> Self {
        Self {
            stream,
            read: Vec::new(),
        }
    }

    pub(super) async fn say(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).await.unwrap();
    }

    pub(super) async fn post(&mut self, path: &str, body: &str) {
        let length = body.len();
        self.say(format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
        .await;
    }

    /// Reads one answer.
    pub(super) async fn answer(&mut self) -> Answer {
        loop {
            if let Some(answer) = self.take_answer() {
                return answer;
            }
            let more = timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await;
            let more = more.expect("no answer came").expect("the answer broke off");
            assert_ne!(more, 0, "closed instead of answered: {:?}", self.read);
        }
    }

    fn take_answer(&mut self) -> Option<Answer> {
        let text = String::from_utf8_lossy(&self.read).into_owned();
        let (head, rest) = text.split_once("\r\n\r\n")?;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        let body = rest.get(..length)?.to_owned();
        self.read.drain(..head.len() + 4 + length);
        Some(Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_owned(),
            body,
        })
    }

    pub(super) async fn asks(&mut self, path: &str, body: &str) -> Answer {
        self.post(path, body).await;
        self.answer().await
    }

    /// Waits until the other side closes in order: nothing more comes, and no reset.
    pub(super) async fn ended(&mut self) {
        let more = timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await;
        let more = more.expect("nobody closed").expect("reset");
        assert_eq!((more, self.read.len()), (0, 0));
    }

    /// Waits until the other side closes or resets; what came before that.
    pub(super) async fn closed(&mut self) -> String {
        let wait = async {
            while self
                .stream
                .read_buf(&mut self.read)
                .await
                .is_ok_and(|n| n > 0)
            {}
        };
        timeout(PATIENCE, wait).await.expect("nobody closed");
        String::from_utf8_lossy(&std::mem::take(&mut self.read)).into_owned()
    }
}

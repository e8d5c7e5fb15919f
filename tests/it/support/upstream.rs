use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use super::within;

/// One request as it reached the service behind.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub method: String,
    pub path: String,
    /// Names in lower case, in the order of arrival.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// When it was read whole.
    pub at: Instant,
    /// Which connection it came on, from 0.
    pub connection: usize,
}

impl Recorded {
    /// The value of a header that is there at most once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(other, _)| other == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} twice in {self:?}");
        value
    }

    /// Its headers as the SDKs want them.
    pub fn map(&self) -> http::HeaderMap {
        let pairs = self.headers.iter();
        pairs
            .map(|(name, value)| {
                let name: http::HeaderName = name.parse().unwrap();
                (name, http::HeaderValue::from_str(value).unwrap())
            })
            .collect()
    }

    /// The id it came under.
    pub fn id(&self) -> &str {
        self.header("hookward-id").unwrap_or_default()
    }
}

/// What the service does with a request it has read.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Answers with this status, an empty body and keep-alive.
    Status(u16),
    /// Answers with these bytes as they stand, then closes.
    Raw(String),
    /// Answers with this status once the test releases it.
    Held(u16),
    /// Resets the connection without a byte of answer.
    Reset,
    /// Resets the connection in the middle of the head.
    ResetInHead,
    /// Answers with this status, announces a body and resets instead.
    ResetAfterHead(u16),
    /// Answers nothing, and keeps the connection.
    Never,
}

type Script = Box<dyn Fn(usize, &Recorded) -> Reply + Send + Sync>;

struct State {
    script: Script,
    requests: Mutex<Vec<Recorded>>,
    arrived: watch::Sender<usize>,
    connections: AtomicUsize,
    releases: Semaphore,
}

/// A service behind the gateway that does as its script says and remembers
/// everything it was sent.
pub struct Upstream {
    state: Arc<State>,
    url: String,
    address: Option<SocketAddr>,
    tasks: tokio::task::JoinSet<()>,
}

impl Upstream {
    /// A service that accepts everything.
    pub async fn start() -> Self {
        Self::scripted(|_, _| Reply::Status(204)).await
    }

    /// A service that always does this.
    pub async fn always(reply: Reply) -> Self {
        Self::scripted(move |_, _| reply.clone()).await
    }

    /// A service that does these one after the other, the last for ever.
    pub async fn sequence(replies: Vec<Reply>) -> Self {
        Self::scripted(move |number, _| replies[number.min(replies.len() - 1)].clone()).await
    }

    /// A service whose replies are a function of the number of the request (from
    /// 0) and the request.
    pub async fn scripted(
        script: impl Fn(usize, &Recorded) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::over(listener, script)
    }

    /// A service on a listener the test already has.
    pub fn over(
        listener: TcpListener,
        script: impl Fn(usize, &Recorded) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let mut upstream = Self::new(format!("http://{address}/hook"), script);
        upstream.address = Some(address);
        let state = Arc::clone(&upstream.state);
        upstream.tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = state.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, number, Arc::clone(&state)));
            }
        });
        upstream
    }

    /// A service that speaks TLS as `localhost`.
    pub async fn over_tls(
        acceptor: TlsAcceptor,
        script: impl Fn(usize, &Recorded) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut upstream = Self::new(format!("https://localhost:{port}/hook"), script);
        let state = Arc::clone(&upstream.state);
        upstream.tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = state.connections.fetch_add(1, Ordering::SeqCst);
                let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, number, state).await;
                    }
                });
            }
        });
        upstream
    }

    /// A service on a unix socket.
    pub fn over_unix(
        path: &Path,
        script: impl Fn(usize, &Recorded) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let mut upstream = Self::new(format!("unix:{}:/hook", path.display()), script);
        let state = Arc::clone(&upstream.state);
        upstream.tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = state.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, number, Arc::clone(&state)));
            }
        });
        upstream
    }

    fn new(
        url: String,
        script: impl Fn(usize, &Recorded) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self {
            state: Arc::new(State {
                script: Box::new(script),
                requests: Mutex::default(),
                arrived: watch::Sender::new(0),
                connections: AtomicUsize::new(0),
                releases: Semaphore::new(0),
            }),
            url,
            address: None,
            tasks: tokio::task::JoinSet::new(),
        }
    }

    /// Where events are to be posted.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens; only over TCP.
    pub fn address(&self) -> SocketAddr {
        self.address.unwrap()
    }

    /// Lets so many held requests be answered, of those there or yet to come.
    pub fn release(&self, count: usize) {
        self.state.releases.add_permits(count);
    }

    /// Everything it was sent so far.
    pub fn requests(&self) -> Vec<Recorded> {
        self.state.requests.lock().unwrap().clone()
    }

    /// How many requests it was sent so far.
    pub fn count(&self) -> usize {
        self.state.requests.lock().unwrap().len()
    }

    /// How many connections were made to it so far.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Waits until it was sent so many requests.
    pub async fn reached(&self, count: usize) {
        let mut arrived = self.state.arrived.subscribe();
        let what = format!("request {count} at {}", self.url);
        within(&what, arrived.wait_for(|there| *there >= count))
            .await
            .unwrap();
    }

    /// The one request it was sent.
    pub fn only(&self) -> Recorded {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.into_iter().next().unwrap()
    }
}

/// A connection that can be reset, where its kind has that.
trait Resettable {
    fn reset(&self) {}
}

impl Resettable for TcpStream {
    fn reset(&self) {
        let _ = socket2::SockRef::from(self).set_linger(Some(std::time::Duration::ZERO));
    }
}

impl Resettable for tokio::net::UnixStream {}
impl Resettable for tokio_rustls::server::TlsStream<TcpStream> {}

async fn serve<S>(mut stream: S, connection: usize, state: Arc<State>)
where
    S: AsyncRead + AsyncWrite + Resettable + Unpin,
{
    let mut unread = Vec::new();
    while let Ok(Some(request)) = read(&mut stream, &mut unread, connection).await {
        let number = {
            let mut requests = state.requests.lock().unwrap();
            requests.push(request.clone());
            requests.len()
        };
        state.arrived.send_replace(number);
        let reply = (state.script)(number - 1, &request);
        if act(&mut stream, reply, &state).await.is_err() {
            return;
        }
    }
}

/// Does as the script said; an error ends the connection.
async fn act<S>(stream: &mut S, reply: Reply, state: &State) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Resettable + Unpin,
{
    let end = || Err(io::ErrorKind::ConnectionReset.into());
    match reply {
        Reply::Status(status) => stream.write_all(&head(status)).await,
        Reply::Held(status) => {
            state.releases.acquire().await.unwrap().forget();
            stream.write_all(&head(status)).await
        }
        Reply::Raw(bytes) => {
            stream.write_all(bytes.as_bytes()).await?;
            stream.shutdown().await?;
            end()
        }
        Reply::Reset => {
            stream.reset();
            end()
        }
        Reply::ResetInHead => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").await?;
            stream.flush().await?;
            stream.shutdown().await?;
            end()
        }
        Reply::ResetAfterHead(status) => {
            let head = format!("HTTP/1.1 {status} x\r\ncontent-length: 1000\r\n\r\n{{");
            stream.write_all(head.as_bytes()).await?;
            stream.shutdown().await?;
            end()
        }
        Reply::Never => {
            // Until the other side gives up.
            let _ = stream.read(&mut [0]).await;
            end()
        }
    }
}

fn head(status: u16) -> Vec<u8> {
    let length = if status == 204 {
        ""
    } else {
        "content-length: 0\r\n"
    };
    format!("HTTP/1.1 {status} x\r\n{length}\r\n").into_bytes()
}

/// Reads one request; none at the end of the connection.
async fn read<S: AsyncRead + Unpin>(
    stream: &mut S,
    unread: &mut Vec<u8>,
    connection: usize,
) -> io::Result<Option<Recorded>> {
    let end = loop {
        if let Some(at) = unread.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(unread).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&unread.drain(..end).collect::<Vec<_>>()).into_owned();
    let mut lines = head.trim_end().split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, path) = (first.next().unwrap(), first.next().unwrap());
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
    while unread.len() < length {
        if stream.read_buf(unread).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(Recorded {
        method: method.to_owned(),
        path: path.to_owned(),
        headers,
        body: unread.drain(..length).collect(),
        at: Instant::now(),
        connection,
    }))
}

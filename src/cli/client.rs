use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use url::{Host, Position};

use super::print::Complaint;
use crate::setting::{Ca, SafeUrl, handshake_failed, trusting};

/// More of an answer's body than this is not read (bytes).
const LARGEST_ANSWER: usize = 64 << 10;

/// Where requests go to. Prints without user, password and query.
#[derive(Clone)]
pub(super) struct Target {
    peer: Peer,
    host: HeaderValue,
    path: Uri,
    shown: String,
}

#[derive(Clone)]
enum Peer {
    Plain(Host<String>, u16),
    Tls(Host<String>, u16),
    Unix(PathBuf),
}

impl Target {
    /// Reads `http://…`, `https://…` or `unix:/path:/request/path`; or says what
    /// is wrong, as the rest of a sentence.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("unix:") {
            let (socket, path) = rest.split_once(':').unwrap_or((rest, "/"));
            return Self::unix(Path::new(socket), path);
        }
        let url = SafeUrl::parse(text)?;
        let shown = url.to_string();
        let url = url.expose();
        let host = url.host().ok_or("names no host")?.to_owned();
        let peer = match url.scheme() {
            "http" => Peer::Plain(host, url.port().unwrap_or(80)),
            "https" => Peer::Tls(host, url.port().unwrap_or(443)),
            _ => return Err("begins with neither `http://`, `https://` nor `unix:`".into()),
        };
        let authority = &url[Position::BeforeHost..Position::AfterPort];
        let path = &url[Position::BeforePath..Position::AfterQuery];
        Ok(Self {
            peer,
            host: HeaderValue::from_str(authority).map_err(|_| "names no host")?,
            path: path.parse().map_err(|_| "has a path that is not one")?,
            shown,
        })
    }

    /// The request path `path` at a unix socket.
    pub(super) fn unix(socket: &Path, path: &str) -> Result<Self, String> {
        if !path.starts_with('/') {
            return Err("has a request path that does not begin with `/`".into());
        }
        Ok(Self {
            peer: Peer::Unix(socket.to_owned()),
            host: HeaderValue::from_static("localhost"),
            path: path.parse().map_err(|_| "has a path that is not one")?,
            shown: format!("unix:{}:{path}", socket.display()),
        })
    }

    /// The same peer, another path. `path` begins with `/` and is percent-encoded.
    pub(super) fn with_path(&self, path: &str) -> Result<Self, String> {
        Ok(Self {
            path: path.parse().map_err(|_| "has a path that is not one")?,
            ..self.clone()
        })
    }

    /// Whether it names no path.
    pub(super) fn is_root(&self) -> bool {
        self.path == "/"
    }

    /// The target, safe to print.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }
}

/// What was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// The body; empty when it was over 64 KiB.
    pub(super) body: Bytes,
    /// From the connecting, or the first byte on an open connection, to the end of the answer.
    pub(super) elapsed: Duration,
}

impl Answer {
    /// A header, if it is there and printable.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Trouble {
    /// Nobody listens there.
    pub(super) refused: bool,
    told: String,
}

impl Trouble {
    /// The complaint, with `way_out` where nobody listens.
    pub(super) fn complaint(self, way_out: &str) -> Complaint {
        let complaint = Complaint::failed(self.told);
        if self.refused {
            complaint.hint(way_out)
        } else {
            complaint
        }
    }
}

/// Asks one target, one request after the other, over one connection as long as
/// it is kept open.
pub(super) struct Client {
    target: Target,
    timeout: Duration,
    tls: Option<TlsConnector>,
    open: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// A client whose requests each end within `timeout`. `ca` holds the
    /// certificates it trusts (PEM) instead of the system's.
    pub(super) fn new(
        target: Target,
        timeout: Duration,
        ca: Option<&Path>,
    ) -> Result<Self, Complaint> {
        let tls = match target.peer {
            Peer::Tls(..) => Some(trust(ca)?),
            _ => None,
        };
        Ok(Self {
            target,
            timeout,
            tls,
            open: None,
        })
    }

    /// Sends one request and reads its answer.
    pub(super) async fn ask(
        &mut self,
        method: Method,
        headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
        body: Bytes,
    ) -> Result<Answer, Trouble> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.target.path.clone();
        let own = request.headers_mut();
        own.insert(HOST, self.target.host.clone());
        own.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("hookward/", env!("CARGO_PKG_VERSION"))),
        );
        own.extend(headers);
        let began = Instant::now();
        match tokio::time::timeout(self.timeout, self.exchange(request)).await {
            Ok(Ok((answer, body))) => Ok(Answer {
                status: answer.status(),
                headers: answer.headers().clone(),
                body,
                elapsed: began.elapsed(),
            }),
            Ok(Err(failure)) => {
                self.open = None;
                Err(self.trouble(failure))
            }
            Err(_) => {
                self.open = None;
                Err(self.trouble(Failure::Timeout))
            }
        }
    }

    async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<()>, Bytes), Failure> {
        let mut kept = self.open.take();
        if let Some(open) = &mut kept
            && open.ready().await.is_err()
        {
            kept = None;
        }
        let mut connection = match kept {
            Some(open) => open,
            None => self.connect().await?,
        };
        let answer = connection.send_request(request).await?;
        let (head, body) = answer.into_parts();
        let body = read_some(body).await;
        if body.is_some() {
            self.open = Some(connection);
        }
        Ok((Response::from_parts(head, ()), body.unwrap_or_default()))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let tcp = async |host: &Host<String>, port: u16| -> io::Result<TcpStream> {
            let stream = match host {
                Host::Domain(name) => TcpStream::connect((name.as_str(), port)).await?,
                Host::Ipv4(ip) => TcpStream::connect((*ip, port)).await?,
                Host::Ipv6(ip) => TcpStream::connect((*ip, port)).await?,
            };
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        match &self.target.peer {
            Peer::Plain(host, port) => shake(tcp(host, *port).await?).await,
            Peer::Unix(path) => shake(UnixStream::connect(path).await?).await,
            Peer::Tls(host, port) => {
                let stream = tcp(host, *port).await?;
                let name = match host {
                    Host::Domain(name) => ServerName::try_from(name.clone()).map_err(|_| {
                        Failure::Tls(io::Error::other(
                            "the host is no name a certificate can have",
                        ))
                    })?,
                    Host::Ipv4(ip) => ServerName::from(IpAddr::from(*ip)),
                    Host::Ipv6(ip) => ServerName::from(IpAddr::from(*ip)),
                };
                // Always there for such a target.
                let tls = self.tls.as_ref().ok_or(Failure::Timeout)?;
                shake(tls.connect(name, stream).await.map_err(Failure::Tls)?).await
            }
        }
    }

    fn trouble(&self, failure: Failure) -> Trouble {
        let shown = self.target.shown();
        let (refused, told) = match failure {
            Failure::Connect(error) => (
                matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
                ),
                format!("cannot connect to {shown}: {}", plain(&error)),
            ),
            Failure::Tls(error) => (
                false,
                format!(
                    "cannot agree on TLS with {shown}: {}",
                    handshake_failed(&error)
                ),
            ),
            Failure::Http(error) => (false, format!("no answer from {shown}: {error}")),
            Failure::Timeout => (
                false,
                format!(
                    "no answer from {shown} within {}",
                    humantime::format_duration(self.timeout)
                ),
            ),
        };
        Trouble { refused, told }
    }
}

/// What an operating system error says, without its number.
fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::NotFound => "no such file".into(),
        _ => error.to_string(),
    }
}

enum Failure {
    Connect(io::Error),
    Tls(io::Error),
    Http(hyper::Error),
    Timeout,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Connect(error)
    }
}

impl From<hyper::Error> for Failure {
    fn from(error: hyper::Error) -> Self {
        Failure::Http(error)
    }
}

async fn shake(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends by itself when the sender is dropped; its errors come back from the requests.
    tokio::spawn(connection);
    Ok(sender)
}

/// The body, unless it is too large or breaks off.
async fn read_some(body: Incoming) -> Option<Bytes> {
    let whole = Limited::new(body, LARGEST_ANSWER).collect().await.ok()?;
    Some(whole.to_bytes())
}

fn trust(ca: Option<&Path>) -> Result<TlsConnector, Complaint> {
    let ca = ca.map(Ca::read).transpose();
    let ca = ca.map_err(|why| Complaint::usage(format!("`--ca` {why}")))?;
    let config = trusting(ca.as_ref()).map_err(|why| {
        Complaint::failed(why)
            .hint("install them (Debian: `ca-certificates`), or name a file with `--ca`")
    })?;
    let config = config.with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Runs a command's requests to their end on this thread.
pub(super) fn block_on<T>(
    work: impl Future<Output = Result<T, Complaint>>,
) -> Result<T, Complaint> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Complaint::failed(format!("cannot start: {error}")))?
        .block_on(work)
}

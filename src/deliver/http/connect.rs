use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper::rt::{Read, Write};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tower::Service as _;

use crate::deliver::Reason;
use crate::setting::trusting;

use super::{HttpConfig, Target};

/// One end of an open connection.
pub(super) type Sender = http1::SendRequest<Full<Bytes>>;

/// Opens connections to one destination.
pub(super) struct Connector {
    way: Way,
    flat: http1::Builder,
    vectored: http1::Builder,
}

enum Way {
    Tcp {
        uri: Uri,
        connector: HttpConnector,
        tls: Option<(TlsConnector, ServerName<'static>)>,
    },
    Unix(PathBuf),
}

/// How a connection writes. One write of head and body together is fastest for
/// small bodies; large ones are not copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writing {
    /// Head and body are copied into one buffer.
    Flat,
    /// Head and body are written from where they are.
    Vectored,
}

/// Bodies up to this are written flat: a copy of so little costs less than the
/// second buffer of a vectored write (bytes).
const FLAT: usize = 16 * 1024;

impl Writing {
    pub(super) fn of(body: &Bytes) -> Self {
        if body.len() <= FLAT {
            Writing::Flat
        } else {
            Writing::Vectored
        }
    }
}

/// The head of an answer, and what is buffered of its body at once (bytes).
const ANSWER_BUFFER: usize = 64 * 1024;
/// Headers of an answer; nothing but Retry-After is looked at.
const ANSWER_HEADERS: usize = 128;

/// Why there is no connection.
pub(super) enum NoConnection {
    /// Nobody listens. Worth waiting for.
    Refused,
    /// It took too long.
    Timeout,
    /// We have no descriptor left for one; what the system said.
    NoFiles(String),
    /// Anything else.
    Other(Reason),
}

impl Connector {
    pub(super) fn new(config: &HttpConfig) -> Result<Self, String> {
        let way = match &config.target {
            Target::Unix { socket, .. } => Way::Unix(socket.clone()),
            Target::Url(url) => {
                let mut connector = HttpConnector::new();
                connector.enforce_http(false);
                connector.set_nodelay(true);
                connector.set_connect_timeout(Some(config.connect_timeout));
                let url = url.expose();
                let host = url.host_str().unwrap_or_default();
                let port = url.port_or_known_default().unwrap_or_default();
                let tls = if config.target.is_tls() {
                    let name = host.trim_start_matches('[').trim_end_matches(']');
                    let name = ServerName::try_from(name.to_owned())
                        .map_err(|_| "the host of `url` is not one TLS can check".to_owned())?;
                    Some((TlsConnector::from(tls(config)?), name))
                } else {
                    None
                };
                let uri = format!("{}://{host}:{port}", url.scheme())
                    .parse()
                    .map_err(|_| "`url` has a host that cannot be connected to".to_owned())?;
                Way::Tcp {
                    uri,
                    connector,
                    tls,
                }
            }
        };
        let builder = |vectored| {
            let mut builder = http1::Builder::new();
            builder
                .writev(vectored)
                .max_buf_size(ANSWER_BUFFER)
                .max_headers(ANSWER_HEADERS);
            builder
        };
        Ok(Self {
            way,
            flat: builder(false),
            vectored: builder(true),
        })
    }

    /// Opens a connection. The caller bounds how long that may take.
    pub(super) async fn connect(&self, writing: Writing) -> Result<Sender, NoConnection> {
        match &self.way {
            Way::Unix(path) => {
                let connected = UnixStream::connect(path).await;
                let stream = connected.map_err(|error| match error {
                    error if refused(&error) => NoConnection::Refused,
                    error if no_files(&error) => NoConnection::NoFiles(error.to_string()),
                    error => NoConnection::Other(Reason::Connect(error.to_string())),
                })?;
                self.speak(TokioIo::new(stream), writing).await
            }
            Way::Tcp {
                uri,
                connector,
                tls,
            } => {
                let stream = connector
                    .clone()
                    .call(uri.clone())
                    .await
                    .map_err(|error| no_connection(&error))?;
                match tls {
                    None => self.speak(stream, writing).await,
                    Some((tls, name)) => {
                        let stream = tls
                            .connect(name.clone(), stream.into_inner())
                            .await
                            .map_err(|error| NoConnection::Other(Reason::Tls(error.to_string())))?;
                        self.speak(TokioIo::new(stream), writing).await
                    }
                }
            }
        }
    }

    async fn speak<I>(&self, io: I, writing: Writing) -> Result<Sender, NoConnection>
    where
        I: Read + Write + Unpin + Send + 'static,
    {
        let builder = match writing {
            Writing::Flat => &self.flat,
            Writing::Vectored => &self.vectored,
        };
        let (sender, connection) = builder
            .handshake(io)
            .await
            .map_err(|error| NoConnection::Other(Reason::Connect(error.to_string())))?;
        // It ends when the sender is dropped, or the other side closes; what
        // went wrong is told to the request it went wrong for.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(sender)
    }
}

fn tls(config: &HttpConfig) -> Result<Arc<ClientConfig>, String> {
    let mut config = trusting(config.ca.as_ref())?.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Whether nobody listens there: what a service looks like that restarts.
fn refused(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
    )
}

/// Whether the limit of open files is reached, ours or the machine's.
fn no_files(error: &io::Error) -> bool {
    let limits = [Errno::MFILE, Errno::NFILE];
    Errno::from_io_error(error).is_some_and(|errno| limits.contains(&errno))
}

fn no_connection(error: &(dyn std::error::Error + 'static)) -> NoConnection {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<io::Error>() {
            match error.kind() {
                io::ErrorKind::ConnectionRefused => return NoConnection::Refused,
                io::ErrorKind::TimedOut => return NoConnection::Timeout,
                _ if no_files(error) => return NoConnection::NoFiles(error.to_string()),
                _ => {}
            }
        }
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    NoConnection::Other(Reason::Connect(text))
}

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use rustix::io::Errno;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tower::Service as _;

use crate::deliver::Reason;
use crate::setting::{handshake_failed, trusting};

use super::stream::Stream;
use super::{HttpConfig, Target};

/// Opens connections to one destination.
pub(super) struct Connector {
    way: Way,
}

enum Way {
    Tcp {
        uri: Uri,
        connector: HttpConnector,
        tls: Option<(TlsConnector, ServerName<'static>)>,
    },
    Unix(PathBuf),
}

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
        Ok(Self { way })
    }

    /// Opens a connection. The caller bounds how long that may take.
    pub(super) async fn connect(&self) -> Result<Stream, NoConnection> {
        match &self.way {
            Way::Unix(path) => {
                let connected = UnixStream::connect(path).await;
                let stream = connected.map_err(|error| match error {
                    error if refused(&error) => NoConnection::Refused,
                    error if no_files(&error) => NoConnection::NoFiles(error.to_string()),
                    error => NoConnection::Other(Reason::Connect(error.to_string())),
                })?;
                Ok(Stream::Unix(stream))
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
                    None => Ok(Stream::Tcp(stream.into_inner())),
                    Some((tls, name)) => {
                        let stream = tls
                            .connect(name.clone(), stream.into_inner())
                            .await
                            .map_err(|error| {
                                NoConnection::Other(Reason::Tls(handshake_failed(&error)))
                            })?;
                        Ok(Stream::Tls(Box::new(stream)))
                    }
                }
            }
        }
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

use std::io;
use std::net::Shutdown;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::tcp::{AsyncTcpStream, RustlsConnector};
use lapin::types::ShortString;
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};
use rustls::ClientConfig;
use socket2::{SockRef, Socket};
use tokio::time::timeout;

use crate::setting::{Escaped, handshake_failed, trusting};

use super::BrokerConfig;
use super::guard::{Guarded, guarded_runtime};
use super::node::is_tls;

/// Opens connections to the nodes of one broker.
pub struct Connector {
    name: String,
    nodes: Vec<(AMQPUri, String)>,
    tls: Option<RustlsConnector>,
}

/// For one node: name, TCP, TLS and AMQP.
const CONNECT: Duration = Duration::from_millis(2500);
/// For saying goodbye.
const CLOSE: Duration = Duration::from_secs(1);
/// How often both sides show that they are there (seconds).
const HEARTBEAT: u16 = 10;
/// The longest frame (bytes): what RabbitMQ offers where nobody sets it. The lower of
/// both sides' counts. Without one of ours, a broker that offers "no limit" had lapin,
/// which keeps room for 64 frames a connection, ask for all the memory there is.
const FRAME: u32 = 128 * 1024;

impl Connector {
    /// Prepares connections, which the broker shows under `name`.
    ///
    /// # Errors
    /// In words, when certificates or secrets were not read or cannot be used.
    pub fn new(config: &BrokerConfig, name: &str) -> Result<Self, String> {
        let mut nodes = Vec::with_capacity(config.nodes.len());
        for node in &config.nodes {
            let mut uri = node.uri().ok_or("its secrets were not read")?.clone();
            uri.query.heartbeat = Some(HEARTBEAT);
            uri.query.frame_max = Some(FRAME);
            nodes.push((uri, node.to_string()));
        }
        let tls = if nodes.iter().any(|(uri, _)| is_tls(uri)) {
            Some(RustlsConnector::from(Arc::new(tls(config)?)))
        } else {
            None
        };
        Ok(Self {
            name: format!("hookward {name}"),
            nodes,
            tls,
        })
    }

    /// Tries every node once, from the `first` on.
    ///
    /// # Errors
    /// Why not, node by node, in words.
    pub async fn connect(&self, first: usize) -> Result<Link, String> {
        let mut all = String::new();
        for number in 0..self.nodes.len() {
            let (uri, node) = &self.nodes[first.wrapping_add(number) % self.nodes.len()];
            let why = match timeout(CONNECT, self.open(uri)).await {
                Ok(Ok(mut link)) => {
                    link.node = node.clone();
                    return Ok(link);
                }
                Ok(Err(why)) => why,
                Err(_) => format!("no answer within {CONNECT:?}"),
            };
            if !all.is_empty() {
                all.push_str("; ");
            }
            all.push_str(&format!("{node}: {why}"));
        }
        Err(all)
    }

    async fn open(&self, uri: &AMQPUri) -> Result<Link, String> {
        let authority = &uri.authority;
        let runtime = lapin::runtime::default_runtime().map_err(|e| e.to_string())?;
        let host = authority.host.trim_start_matches('[').trim_end_matches(']');
        let addresses = tokio::net::lookup_host((host, authority.port))
            .await
            .map_err(|error| format!("its name is not known: {error}"))?;
        let mut connected = Err("its name has no address".to_owned());
        for address in addresses {
            match AsyncTcpStream::connect(&runtime, address).await {
                Ok(stream) => {
                    connected = Ok(stream);
                    break;
                }
                Err(error) => connected = Err(error.to_string()),
            }
        }
        let stream = connected?;
        let AsyncTcpStream::Plain(plain) = &stream else {
            return Err("it was connected to otherwise".into());
        };
        // Ours alone to end: a connection that is given up in the middle of a
        // handshake would keep lapin's thread for as long as the peer is silent.
        let socket = SockRef::from(plain.get_ref())
            .try_clone()
            .map(Cut)
            .map_err(|error| error.to_string())?;
        let stream = match &self.tls {
            Some(tls) if is_tls(uri) => stream
                .into_rustls(tls, host)
                .await
                .map_err(|error| format!("TLS failed: {}", handshake_failed(&error)))?,
            _ => stream,
        };
        let options =
            ConnectionProperties::default().with_connection_name(self.name.as_str().into());
        let once = Mutex::new(Some(AsyncTcpStream::Plain(Guarded::over(stream))));
        let hand_over = async move |_, _| {
            let mut once = once.lock().unwrap_or_else(PoisonError::into_inner);
            let gone = || io::Error::from(io::ErrorKind::NotConnected);
            once.take().ok_or_else(|| gone().into())
        };
        let connection = Connection::connector(uri.clone(), guarded_runtime(), hand_over, options)
            .await
            .map_err(|error| told(&error))?;
        Ok(Link {
            connection,
            node: String::new(),
            _cut: socket,
        })
    }
}

/// An open connection. Dropping it closes the socket, whatever lapin does.
pub struct Link {
    /// lapin's.
    pub connection: Connection,
    /// Where it leads, without a secret.
    pub node: String,
    _cut: Cut,
}

impl Link {
    /// Says goodbye, and does not wait long for an answer.
    pub async fn close(self) {
        let goodbye = ShortString::try_new("hookward is done").unwrap_or_default();
        let _ = timeout(CLOSE, self.connection.close(200, goodbye)).await;
    }
}

struct Cut(Socket);

impl Drop for Cut {
    fn drop(&mut self) {
        // One that is closed already is what was wanted.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// An error of lapin's, without its prefixes.
pub fn told(error: &lapin::Error) -> String {
    let text = match error.kind() {
        lapin::ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        lapin::ErrorKind::IOError(error) => error.to_string(),
        lapin::ErrorKind::MissingHeartbeatError => "it went silent".into(),
        _ => error.to_string(),
    };
    Escaped(&text).to_string()
}

fn tls(config: &BrokerConfig) -> Result<ClientConfig, String> {
    let builder = trusting(config.ca.as_ref())?;
    match &config.client {
        None => Ok(builder.with_no_client_auth()),
        Some(client) => {
            let key = client.secret.as_ref().ok_or("`key` was not read")?;
            builder
                .with_client_auth_cert(client.chain.clone(), key.clone_key())
                .map_err(|error| format!("`cert` and `key` cannot be used: {error}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use lapin::protocol::{AMQPError, AMQPHardError};

    use super::*;

    #[test]
    fn what_a_broker_says_is_told_in_one_line() {
        let said = |text: &str| {
            let error = AMQPError::new(AMQPHardError::CONNECTIONFORCED.into(), text.into());
            told(&lapin::ErrorKind::ProtocolError(error).into())
        };
        assert_eq!(said("x\r\nERROR \x1b[31mred"), r"x\r\nERROR \u{1b}[31mred");
        let usual = r#"NOT_FOUND - no queue 'ä "\1"' in vhost '/'"#;
        assert_eq!(said(usual), usual);
    }
}

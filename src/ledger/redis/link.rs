use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, RedisConnectionInfo, RedisError,
    ServerErrorKind, cmd,
};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::config::{Parts, RedisConfig};
use super::script::{ALL, Script};
use crate::setting::{Escaped, handshake_failed, trusting};

/// An open connection to Redis, with the scripts loaded. Many commands share it;
/// it ends with its driver.
pub(super) struct Link {
    connection: MultiplexedConnection,
    /// The names that Redis gave the scripts.
    scripts: [String; ALL.len()],
    /// Which connection of this process it is.
    pub(super) number: u64,
}

/// Carries the bytes of a connection for as long as it is polled.
pub(super) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Commands that may be under way on the connection; more wait, within the
/// deadline that each has.
const IN_FLIGHT: usize = 1024;

/// A stream to Redis, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Why a command came to nothing.
#[derive(Debug)]
pub(super) enum Failed {
    /// The connection is of no use, or Redis takes nothing: it is away.
    Away(String),
    /// This one was refused.
    Refused(String),
}

impl Link {
    /// Connects, says who asks, and loads the scripts. The caller bounds how long
    /// that may take.
    ///
    /// # Errors
    /// In words, without a secret.
    pub(super) async fn open(config: &RedisConfig, number: u64) -> Result<(Self, Driver), String> {
        let parts = config.url.parts().ok_or("its URL was not read")?;
        let stream = stream(config, parts).await?;
        let mut info = RedisConnectionInfo::default()
            .set_db(parts.database)
            .set_lib_name("hookward", env!("CARGO_PKG_VERSION"));
        if let Some(user) = &parts.user {
            info = info.set_username(user);
        }
        if let Some(password) = &parts.password {
            info = info.set_password(password);
        }
        // Deadlines are the caller's.
        let options = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_connection_timeout(None)
            .set_pipeline_buffer_size(IN_FLIGHT)
            .set_concurrency_limit(IN_FLIGHT);
        let opened = MultiplexedConnection::new_with_config(&info, stream, options).await;
        let (connection, driver) = opened.map_err(|error| told(&error))?;
        let mut driver: Driver = Box::pin(driver);
        let loading = pin!(load(connection.clone()));
        let scripts = tokio::select! {
            () = &mut driver => Err("it closed the connection".into()),
            loaded = loading => loaded,
        }?;
        let link = Self {
            connection,
            scripts,
            number,
        };
        Ok((link, driver))
    }

    /// Runs a script.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        script: Script,
        keys: &[String],
        arguments: &[&[u8]],
    ) -> Result<T, Failed> {
        let place = script as usize;
        let call = |name: &str, what: &str| {
            let mut call = cmd(name);
            call.arg(what).arg(keys.len()).arg(keys);
            for argument in arguments {
                call.arg(*argument);
            }
            call
        };
        let called = self.query(&call("EVALSHA", &self.scripts[place])).await;
        match called {
            // Somebody flushed the scripts; with its text it is loaded anew.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.ask(&call("EVAL", ALL[place])).await
            }
            called => called.map_err(|error| failed(&error)),
        }
    }

    /// Asks something.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Failed> {
        self.query(command).await.map_err(|error| failed(&error))
    }

    async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        command.query_async(&mut self.connection.clone()).await
    }
}

async fn load(mut connection: MultiplexedConnection) -> Result<[String; ALL.len()], String> {
    let mut names: [String; ALL.len()] = Default::default();
    for (name, script) in names.iter_mut().zip(ALL) {
        let loaded = cmd("SCRIPT").arg("LOAD").arg(script).to_owned();
        let loaded = loaded.query_async(&mut connection).await;
        *name = loaded.map_err(|error| told(&error))?;
    }
    Ok(names)
}

async fn stream(config: &RedisConfig, parts: &Parts) -> Result<Box<dyn Stream>, String> {
    let addresses = tokio::net::lookup_host((parts.host.as_str(), parts.port))
        .await
        .map_err(|error| format!("its name is not known: {error}"))?;
    let mut connected = Err("its name has no address".to_owned());
    for address in addresses {
        connected = TcpStream::connect(address).await.map_err(|e| e.to_string());
        if connected.is_ok() {
            break;
        }
    }
    let stream = connected?;
    stream
        .set_nodelay(true)
        .map_err(|error| error.to_string())?;
    if !parts.tls {
        return Ok(Box::new(stream));
    }
    let tls = trusting(config.ca.as_ref())?.with_no_client_auth();
    let host = ServerName::try_from(parts.host.clone())
        .map_err(|_| "the host of its URL is not one TLS can check")?;
    let connector = TlsConnector::from(Arc::new(tls));
    let stream = connector
        .connect(host, stream)
        .await
        .map_err(|error| format!("TLS failed: {}", handshake_failed(&error)))?;
    Ok(Box::new(stream))
}

/// What Redis says when it takes nothing from anybody, or not from us.
const TAKES_NOTHING: [&str; 8] = [
    "LOADING",
    "MASTERDOWN",
    "READONLY",
    "OOM",
    "MISCONF",
    "NOAUTH",
    "NOREPLICAS",
    "BUSY",
];

fn failed(error: &RedisError) -> Failed {
    let takes_nothing = error
        .code()
        .is_some_and(|code| TAKES_NOTHING.contains(&code));
    if takes_nothing || error.is_io_error() || error.is_unrecoverable_error() {
        Failed::Away(told(error))
    } else {
        Failed::Refused(told(error))
    }
}

/// An error in words. Redis does not repeat passwords, and none is in an address.
fn told(error: &RedisError) -> String {
    let text = match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ if error.is_connection_dropped() => "it closed the connection".into(),
        _ => error.to_string(),
    };
    Escaped(&text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_says_is_told_in_one_line() {
        let said = |text: &str| {
            told(&redis::make_extension_error(
                "ERR".into(),
                Some(text.into()),
            ))
        };
        assert_eq!(said("x\rERROR \x1b[31mred"), r"ERR x\rERROR \u{1b}[31mred");
        let usual = r#"unknown command 'ä "\1"'"#;
        assert_eq!(said(usual), format!("ERR {usual}"));
    }
}

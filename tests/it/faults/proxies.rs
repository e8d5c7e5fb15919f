use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::support::{before_the_next_look, within};

/// A proxy of our own in front of hookward that sends all it gets over one
/// connection, if it can: what one sender wrote comes right before what another did.
pub struct Proxy {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Proxy {
    /// nginx.
    pub async fn nginx(gateway: SocketAddr) -> Self {
        let config = |address| {
            format!(
                r#"
daemon off;
pid nginx.pid;
error_log error.log;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    ignore_invalid_headers off;
    underscores_in_headers on;
    client_header_timeout 2s;
    client_body_timeout 2s;
    proxy_read_timeout 5s;
    upstream gateway {{
        server {gateway} max_fails=0;
        keepalive 1;
    }}
    server {{
        listen {address};
        location / {{
            proxy_pass http://gateway;
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_set_header Connection "";
            proxy_next_upstream off;
        }}
    }}
}}
"#
            )
        };
        let args = ["-e", "error.log", "-p", ".", "-c"];
        Self::start("/usr/sbin/nginx", &args, config).await
    }

    /// HAProxy, with this option.
    pub async fn haproxy(gateway: SocketAddr, option: &str) -> Self {
        let config = |address| {
            format!(
                r#"
defaults
    mode http
    timeout connect 2s
    timeout client 4s
    timeout http-request 2s
    timeout server 5s
    timeout queue 10s
    {option}
    http-reuse always
frontend door
    bind {address}
    default_backend gateway
backend gateway
    server gateway {gateway} maxconn 1
"#
            )
        };
        Self::start("/usr/sbin/haproxy", &["-db", "-f"], config).await
    }

    /// Where senders connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    async fn start(
        program: &str,
        arguments: &[&str],
        config: impl Fn(SocketAddr) -> String,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Its port is free until it is there; another test may be quicker.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        std::fs::write(folder.path().join("proxy.conf"), config(address)).unwrap();
        drop(free);
        let whole = absolute(arguments, folder.path());
        let child = Command::new(program)
            .args(whole)
            .arg(folder.path().join("proxy.conf"))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}; tests/run installs it"));
        within("the proxy to listen", async {
            while tokio::net::TcpStream::connect(address).await.is_err() {
                before_the_next_look().await;
            }
        })
        .await;
        Self {
            child,
            address,
            _folder: folder,
        }
    }
}

/// nginx takes its prefix as it stands.
fn absolute(arguments: &[&str], folder: &Path) -> Vec<String> {
    let folder = folder.display().to_string();
    let whole = arguments.iter();
    whole
        .map(|&argument| {
            if argument == "." {
                folder.clone()
            } else {
                argument.into()
            }
        })
        .collect()
}

impl Drop for Proxy {
    /// A worker ends with it; killed, it would leave that behind.
    fn drop(&mut self) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

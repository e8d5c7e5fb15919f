//! A rolling restart behind a proxy costs not one request (§5 SIGTERM,
//! `server.drain_delay`). The proxy is a real nginx that tries nothing twice, and
//! asks `/readyz` as a balancer does.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::support::{
    Connection, Gateway, Message, Upstream, before_the_next_look, clerk_to, within,
};

/// An nginx of our own: one process to look after, in a folder of its own.
struct Nginx {
    child: Child,
    folder: TempDir,
    address: SocketAddr,
}

impl Nginx {
    async fn before(gateways: &[SocketAddr]) -> Self {
        // Its port is free until it is there; another test may be quicker.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        configure(folder.path(), address, gateways);
        drop(free);
        let child = Command::new("/usr/sbin/nginx")
            .args(["-c", "nginx.conf", "-e", "error.log", "-p"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .spawn()
            .expect("no nginx: tests/run installs it");
        let nginx = Self {
            child,
            folder,
            address,
        };
        within("nginx to listen", async {
            while tokio::net::TcpStream::connect(address).await.is_err() {
                before_the_next_look().await;
            }
        })
        .await;
        nginx
    }

    /// Sends requests to these from now on. Those under way go on where they are.
    async fn turn_to(&self, gateways: &[SocketAddr]) {
        configure(self.folder.path(), self.address, gateways);
        let told = |log: &str| log.matches("reconfiguring").count();
        let before = told(&self.log());
        self.signal(Signal::HUP);
        within("nginx to read its configuration", async {
            while told(&self.log()) == before {
                before_the_next_look().await;
            }
        })
        .await;
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Nginx {
    /// Its worker ends with it; killed, it would leave that behind.
    fn drop(&mut self) {
        self.signal(Signal::TERM);
    }
}

fn configure(folder: &Path, address: SocketAddr, gateways: &[SocketAddr]) {
    let servers: String = gateways
        .iter()
        // Tried by every request, whatever became of the one before.
        .map(|gateway| format!("server {gateway} max_fails=0;\n"))
        .collect();
    let config = format!(
        r#"
daemon off;
pid nginx.pid;
error_log error.log notice;
worker_processes 1;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    upstream gateways {{
        {servers}
        keepalive 16;
    }}
    server {{
        listen {address};
        location / {{
            proxy_pass http://gateways;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_next_upstream off;
        }}
    }}
}}
"#
    );
    // Never half of it: nginx may be reading.
    std::fs::write(folder.join("next.conf"), config).unwrap();
    std::fs::rename(folder.join("next.conf"), folder.join("nginx.conf")).unwrap();
}

/// Whether it may be sent requests, asked as a balancer asks.
async fn is_ready(gateway: &Gateway) -> bool {
    gateway.ask("GET", "/readyz", None).await.status == 200
}

#[tokio::test]
async fn a_rolling_restart_behind_a_proxy_fails_no_request() {
    let upstream = Upstream::start().await;
    let config = |address: &str| {
        format!(
            r#"admin.listen = "127.0.0.1:0"
            [server]
            listen = "{address}"
            drain_delay = "2s"
            trusted_proxies = "127.0.0.1"
            {}"#,
            clerk_to(upstream.url())
        )
    };
    let start = async |address: &str| {
        let setup = Gateway::with(&config(address)).addresses_of_file();
        setup.start().await
    };
    let mut gateways = [start("127.0.0.1:0").await, start("127.0.0.1:0").await];
    let addresses = gateways.each_ref().map(Gateway::address);
    let nginx = Nginx::before(&addresses).await;
    let ended = Arc::new(AtomicBool::new(false));
    let mut senders = JoinSet::new();
    for worker in 0..6 {
        let (ended, proxy) = (Arc::clone(&ended), nginx.address);
        senders.spawn(async move {
            let mut number = 0;
            while !ended.load(Ordering::Relaxed) {
                let id = format!("msg_{worker}_{number}");
                // A connection each: nginx closes those that wait when it is
                // told something new, and a sender cannot know.
                let message = Message::new(&id).seal().with("Connection", "close");
                let mut connection = Connection::open(proxy).await;
                let answer = connection.post("/clerk", &message).await;
                assert_eq!(answer.told(), (200, "delivered"), "{id}");
                number += 1;
            }
            number
        });
    }

    for round in 0..2 {
        for leaving in [0, 1] {
            let staying = 1 - leaving;
            gateways[leaving].signal(Signal::TERM);
            within("it to be no longer ready", async {
                while is_ready(&gateways[leaving]).await {}
            })
            .await;
            nginx.turn_to(&[addresses[staying]]).await;
            let status = gateways[leaving].ended().await;
            assert_eq!(status.code(), Some(0), "round {round}");

            let before = upstream.count();
            gateways[leaving] = start(&addresses[leaving].to_string()).await;
            within("it to be ready", async {
                while !is_ready(&gateways[leaving]).await {}
            })
            .await;
            nginx.turn_to(&addresses).await;
            // Not the next one before both are at work again.
            upstream.reached(before + 50).await;
            gateways[leaving]
                .metrics_until("it to be sent requests", |metrics| {
                    metrics.answered("delivered") > 0.0
                })
                .await;
        }
    }
    ended.store(true, Ordering::Relaxed);

    let sent: usize = senders.join_all().await.into_iter().sum();
    assert!(sent > 200, "{sent}");
    assert_eq!(upstream.count(), sent);
}

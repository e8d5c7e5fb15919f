use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, cmd};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::broker::certificates;
use super::{before_the_next_look, within};

/// A real Redis that nobody else uses: it can be killed, frozen, filled. It
/// listens on the loopback interface alone, and keeps nothing on disk unless told.
pub struct Redis {
    folder: TempDir,
    port: u16,
    tls: u16,
    arguments: Vec<String>,
    process: Option<Child>,
}

impl Redis {
    /// Starts one; none where Redis is not installed, except in CI, where it is
    /// to be.
    pub async fn start() -> Option<Self> {
        Self::with(&[]).await
    }

    /// The same with settings, as they stand on its command line.
    pub async fn with(arguments: &[&str]) -> Option<Self> {
        // A port that was free a moment ago may be taken by now.
        loop {
            let mut redis = Self::prepared(arguments)?;
            redis.run();
            if redis.stays().await {
                return Some(redis);
            }
        }
    }

    /// The same, to be run later.
    pub fn prepared(arguments: &[&str]) -> Option<Self> {
        let installed = std::process::Command::new("redis-server")
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        if !installed.is_ok_and(|status| status.success()) {
            assert!(std::env::var_os("CI").is_none(), "install redis-server");
            eprintln!("not tested: redis-server is not installed");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        certificates(folder.path());
        let bound = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [port, tls] = bound.map(|listener| listener.local_addr().unwrap().port());
        Some(Self {
            folder,
            port,
            tls,
            arguments: arguments.iter().map(|&a| a.to_owned()).collect(),
            process: None,
        })
    }

    /// Starts it, again.
    pub fn run(&mut self) {
        let at = |name: &str| self.folder.path().join(name).display().to_string();
        let process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--tls-port", &self.tls.to_string()])
            .args(["--tls-ca-cert-file", &at("ca.pem")])
            .args(["--tls-cert-file", &at("broker.pem")])
            .args(["--tls-key-file", &at("broker-key.pem")])
            .args(["--tls-auth-clients", "no", "--save", ""])
            .args(["--dir", &self.folder.path().display().to_string()])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        self.process = Some(process);
    }

    /// Waits until it takes connections.
    pub async fn there(&self) {
        within("redis", async {
            while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                before_the_next_look().await;
            }
        })
        .await;
    }

    /// Waits until it takes connections, or ends.
    async fn stays(&mut self) -> bool {
        within("redis", async {
            loop {
                if self.process.as_mut().unwrap().try_wait().unwrap().is_some() {
                    return false;
                }
                if TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                    return true;
                }
                before_the_next_look().await;
            }
        })
        .await
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its URL over TLS.
    pub fn tls_url(&self) -> String {
        format!("rediss://localhost:{}", self.tls)
    }

    /// Its URL for somebody who has a password.
    pub fn url_of(&self, user: &str, password: &str) -> String {
        format!("redis://{user}:{password}@127.0.0.1:{}", self.port)
    }

    /// A file of certificates: `ca.pem`, and others that no authority of it signed.
    pub fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Ends it without a word.
    pub async fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        within("redis to be gone", process.kill()).await.unwrap();
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let id = self.process.as_ref().unwrap().id().unwrap();
        let id = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
        kill_process(id, signal).unwrap();
    }

    /// Asks it something.
    pub async fn ask<T: FromRedisValue>(&self, command: &[&str]) -> T {
        let mut asked = cmd(command[0]);
        for argument in &command[1..] {
            asked.arg(*argument);
        }
        self.answer(&asked).await
    }

    async fn answer<T: FromRedisValue>(&self, command: &Cmd) -> T {
        let mut connection = self.connect().await;
        within("an answer", command.query_async(&mut connection))
            .await
            .unwrap()
    }

    async fn connect(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.url()).unwrap();
        within("a connection", async {
            loop {
                let connecting = client.get_multiplexed_async_connection();
                let connected = timeout(Duration::from_secs(2), connecting).await;
                if let Ok(Ok(connection)) = connected {
                    return connection;
                }
                before_the_next_look().await;
            }
        })
        .await
    }

    /// The keys that hold what is known of ids, and leases.
    pub async fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.ask(&["KEYS", "*"]).await;
        keys.retain(|key| !key.ends_with(":alive"));
        keys.sort_unstable();
        keys
    }

    /// How often scripts were called so far.
    pub async fn calls(&self) -> u64 {
        let stats: String = self.ask(&["INFO", "commandstats"]).await;
        let calls = stats.lines().find_map(|line| {
            let rest = line.strip_prefix("cmdstat_evalsha:calls=")?;
            rest.split(',').next()?.parse().ok()
        });
        calls.unwrap_or(0)
    }
}

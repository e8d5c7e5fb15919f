use std::collections::HashMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use lapin::options::{
    BasicGetOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::{before_the_next_look, within};

/// Where Debian and most others put it.
const BIN: &str = "/usr/lib/rabbitmq/bin";

/// How long a node may take to start: minutes, where others take the machine.
const START: Duration = Duration::from_secs(120);

/// A real RabbitMQ node that nobody else uses: it can be killed, frozen, alarmed.
/// It listens on the loopback interface alone.
pub struct Broker {
    folder: TempDir,
    port: u16,
    tls: u16,
    distribution: u16,
    names: u16,
    node: Option<Child>,
    _names: Child,
}

/// A message as it lay in a queue.
pub struct Lying {
    pub routing_key: String,
    pub properties: BasicProperties,
    pub body: Vec<u8>,
}

impl Lying {
    /// Its `message_id`.
    pub fn id(&self) -> String {
        let id = self.properties.message_id().as_ref();
        id.map(ToString::to_string).unwrap_or_default()
    }

    /// A header of it, if it is a text.
    pub fn header(&self, name: &str) -> Option<String> {
        let headers = self.properties.headers().as_ref()?;
        match headers.inner().get(name)? {
            AMQPValue::LongString(text) => Some(text.to_string()),
            _ => None,
        }
    }
}

impl Broker {
    /// Starts a node; none where RabbitMQ is not installed, except in CI, where it
    /// is to be.
    pub async fn start() -> Option<Self> {
        if !Path::new(BIN).join("rabbitmq-server").exists() {
            assert!(std::env::var_os("CI").is_none(), "install rabbitmq-server");
            eprintln!("not tested: rabbitmq-server is not installed");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("enabled_plugins"), "[].\n").unwrap();
        let [port, tls, distribution, names] = free_ports();
        certificates(folder.path());
        let at = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "listeners.ssl.default = 127.0.0.1:{tls}\n\
             ssl_options.cacertfile = {}\n\
             ssl_options.certfile = {}\n\
             ssl_options.keyfile = {}\n\
             ssl_options.verify = verify_peer\n\
             ssl_options.fail_if_no_peer_cert = true\n",
            at("ca.pem"),
            at("broker.pem"),
            at("broker-key.pem"),
        );
        std::fs::write(folder.path().join("rabbitmq.conf"), config).unwrap();
        let name_server = Command::new("epmd")
            .args(["-address", "127.0.0.1", "-port", &names.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut broker = Self {
            folder,
            port,
            tls,
            distribution,
            names,
            node: None,
            _names: name_server,
        };
        broker.run();
        broker.there().await;
        Some(broker)
    }

    /// Its URL, with user and password.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}", self.port)
    }

    /// Where it listens.
    pub fn address(&self) -> (&'static str, u16) {
        ("127.0.0.1", self.port)
    }

    /// Its URL over TLS, where it wants to see a certificate too.
    pub fn tls_url(&self) -> String {
        format!("amqps://guest:guest@localhost:{}", self.tls)
    }

    /// A file of certificates or a key: `ca.pem`, `hookward.pem`, `hookward-key.pem`.
    pub fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Starts the node again.
    pub fn run(&mut self) {
        let child = self
            .command("rabbitmq-server")
            .process_group(0)
            .spawn()
            .unwrap();
        self.node = Some(child);
    }

    /// Waits until it takes connections.
    pub async fn there(&self) {
        let looking = async {
            while self.connect().await.is_none() {
                before_the_next_look().await;
            }
        };
        let looked = timeout(START, looking).await;
        assert!(looked.is_ok(), "waited {START:?} for the broker");
    }

    /// Ends it without a word.
    pub async fn kill(&mut self) {
        self.signal(Signal::KILL);
        let mut node = self.node.take().unwrap();
        within("the broker to be gone", node.wait()).await.unwrap();
        within("its port to be free", async {
            while TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                before_the_next_look().await;
            }
        })
        .await;
    }

    /// Sends the node a signal.
    pub fn signal(&self, signal: Signal) {
        let id = self.node.as_ref().unwrap().id().unwrap();
        let group = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
        kill_process_group(group, signal).unwrap();
    }

    /// Runs `rabbitmqctl`.
    pub async fn control(&self, arguments: &[&str]) {
        let mut command = self.command("rabbitmqctl");
        command.arg("-q").args(arguments);
        let output = within("rabbitmqctl", command.output()).await.unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
    }

    fn command(&self, program: &str) -> Command {
        let folder = self.folder.path();
        let mut command = Command::new(Path::new(BIN).join(program));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("RABBITMQ_") {
                command.env_remove(name);
            }
        }
        command
            .env("HOME", folder)
            .env(
                "RABBITMQ_NODENAME",
                format!("hookward{}@localhost", self.port),
            )
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.distribution.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", self.names.to_string())
            .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
            .env("RABBITMQ_LOG_BASE", folder.join("log"))
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env(
                "RABBITMQ_ENABLED_PLUGINS_FILE",
                folder.join("enabled_plugins"),
            )
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1}",
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if program == "rabbitmq-server" {
            command.stderr(Stdio::null());
        }
        command
    }

    async fn connect(&self) -> Option<Connection> {
        let url = self.url();
        let options = ConnectionProperties::default();
        let connecting = Connection::connect(&url, options);
        timeout(Duration::from_secs(2), connecting).await.ok()?.ok()
    }

    /// A channel on a connection of its own, which ends with it.
    pub async fn channel(&self) -> Channel {
        let connection = within("a connection", self.connect()).await.unwrap();
        connection.create_channel().await.unwrap()
    }

    /// Makes a durable topic exchange.
    pub async fn exchange(&self, name: &str) {
        let options = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        self.channel()
            .await
            .exchange_declare(
                name.into(),
                ExchangeKind::Topic,
                options,
                FieldTable::default(),
            )
            .await
            .unwrap();
    }

    /// Takes an exchange away.
    pub async fn without_exchange(&self, name: &str) {
        self.channel()
            .await
            .exchange_delete(name.into(), ExchangeDeleteOptions::default())
            .await
            .unwrap();
    }

    /// Makes a durable queue, and binds it to an exchange.
    pub async fn queue(&self, name: &str, bind: (&str, &str), arguments: &[(&str, AMQPValue)]) {
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert((*name).into(), value.clone());
        }
        let channel = self.channel().await;
        channel
            .queue_declare(name.into(), options, table)
            .await
            .unwrap();
        let (exchange, key) = bind;
        channel
            .queue_bind(
                name.into(),
                exchange.into(),
                key.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .unwrap();
    }

    /// Takes everything out of a queue.
    pub async fn drain(&self, queue: &str) -> Vec<Lying> {
        let channel = self.channel().await;
        let mut all = Vec::new();
        let options = BasicGetOptions { no_ack: true };
        while let Some(message) = within("a message", channel.basic_get(queue.into(), options))
            .await
            .unwrap()
        {
            all.push(Lying {
                routing_key: message.routing_key.to_string(),
                properties: message.properties.clone(),
                body: message.data.clone(),
            });
        }
        all
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.node.is_some() {
            self.signal(Signal::KILL);
        }
    }
}

/// An authority, and certificates by it for the broker and for hookward.
pub(super) fn certificates(folder: &Path) {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "authority");
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap();
    std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    for (name, host) in [("broker", "localhost"), ("hookward", "hookward")] {
        let mut params = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, host);
        let key = rcgen::KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &issuer).unwrap();
        std::fs::write(folder.join(format!("{name}.pem")), signed.pem()).unwrap();
        let secret = key.serialize_pem();
        std::fs::write(folder.join(format!("{name}-key.pem")), secret).unwrap();
    }
}

/// A text as an argument of a queue.
pub fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn free_ports() -> [u16; 4] {
    let bound = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    bound.map(|listener| listener.local_addr().unwrap().port())
}

/// What was sent, and what was answered: every 2xx is in the queue, with the very
/// bytes; nothing is there that was not sent; nothing is there twice that was
/// answered once, and at once.
pub struct Books {
    sent: HashMap<String, Vec<u8>>,
    answered: HashMap<String, Vec<u16>>,
}

impl Books {
    pub fn new() -> Self {
        Self {
            sent: HashMap::new(),
            answered: HashMap::new(),
        }
    }

    /// Enters one request and its answer.
    pub fn enter(&mut self, id: &str, body: &[u8], status: u16) {
        self.sent.insert(id.to_owned(), body.to_vec());
        self.answered.entry(id.to_owned()).or_default().push(status);
    }

    /// How many ids were answered 2xx.
    pub fn accepted(&self) -> usize {
        let accepted = |statuses: &&Vec<u16>| statuses.contains(&200);
        self.answered.values().filter(accepted).count()
    }

    /// How many requests were answered otherwise.
    pub fn refused(&self) -> usize {
        self.answered
            .values()
            .flatten()
            .filter(|s| **s != 200)
            .count()
    }

    /// Compares with what lay in the queue.
    pub fn check(&self, lying: &[Lying]) {
        let mut found: HashMap<String, usize> = HashMap::new();
        for message in lying {
            let id = message.id();
            let sent = self.sent.get(&id);
            let sent = sent.unwrap_or_else(|| panic!("{id} was never sent"));
            assert_eq!(sent, &message.body, "{id}");
            *found.entry(id).or_default() += 1;
        }
        for (id, statuses) in &self.answered {
            let times = found.get(id).copied().unwrap_or_default();
            if statuses.contains(&200) {
                assert!(times > 0, "{id} was answered 200 and is lost");
            }
            // Only an attempt without a clear outcome may have left one behind.
            let unclear = statuses.iter().filter(|s| **s != 200).count();
            let clear = usize::from(statuses.contains(&200));
            assert!(
                times <= unclear + clear,
                "{id} lies there {times} times: {statuses:?}"
            );
        }
    }
}

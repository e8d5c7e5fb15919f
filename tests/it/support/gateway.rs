use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::{Answer, Connection, KEY, Message, OTHER_KEY, Sealed, TOKEN, within};

/// The command under test, with none of the tester's own settings.
pub fn command() -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_hookward")))
}

fn clean(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HOOKWARD_") {
            command.env_remove(name);
        }
    }
    command
        .env("KEY", KEY)
        .env("OTHER_KEY", OTHER_KEY)
        .env("TOKEN", TOKEN)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs the command to its end in `folder`, giving it `input`.
pub async fn hookward(folder: &Path, args: &[&str], input: &[u8]) -> Output {
    let mut child = command()
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that reads no input may be gone by now.
    let _ = stdin.write_all(input).await;
    drop(stdin);
    within("the command to end", child.wait_with_output())
        .await
        .unwrap()
}

/// What a process wrote to one of its streams, line by line.
#[derive(Clone)]
struct Written {
    text: Arc<Mutex<String>>,
    lines: watch::Receiver<Lines>,
}

#[derive(Clone, Copy, Default)]
struct Lines {
    count: usize,
    ended: bool,
}

impl Written {
    fn by(stream: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let (told, lines) = watch::channel(Lines::default());
        let mut reader = BufReader::new(stream);
        let writer = Arc::clone(&text);
        tokio::spawn(async move {
            let mut line = Vec::new();
            while matches!(reader.read_until(b'\n', &mut line).await, Ok(1..)) {
                writer
                    .lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&line));
                line.clear();
                told.send_modify(|lines| lines.count += 1);
            }
            told.send_modify(|lines| lines.ended = true);
        });
        Self { text, lines }
    }

    fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    /// Waits until what was written satisfies `found`, or there is no more.
    async fn until<T>(&self, found: impl Fn(&str) -> Option<T>) -> Option<T> {
        let mut lines = self.lines.clone();
        loop {
            let ended = lines.borrow_and_update().ended;
            if let Some(there) = found(&self.text()) {
                return Some(there);
            }
            if ended || lines.changed().await.is_err() {
                return found(&self.text());
            }
        }
    }
}

/// How a gateway is to be started.
pub struct Setup {
    folder: TempDir,
    config: String,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    /// What a shell does before it becomes the gateway.
    shell: Vec<String>,
    admin: bool,
    addresses_of_file: bool,
}

impl Setup {
    /// With this environment variable, in the place of the one of that name.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(other, _)| other != name);
        self.environment.push((name.into(), value.into()));
        self
    }

    /// With this file beside the configuration.
    pub fn file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.folder.path().join(name), text).unwrap();
        self
    }

    /// With these arguments instead of `--config`.
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(|&a| a.to_owned()).collect();
        self
    }

    /// With so many file descriptors, soft and hard.
    pub fn open_files(mut self, count: u32) -> Self {
        self.shell.push(format!("ulimit -n {count}"));
        self
    }

    /// So that a write past the limit of a file's size fails, and does not kill.
    pub fn without_file_signal(mut self) -> Self {
        self.shell.push("trap '' XFSZ".into());
        self
    }

    /// Without the admin listener.
    pub fn no_admin(mut self) -> Self {
        self.admin = false;
        self
    }

    /// Listening where the configuration says, so that a reload can move it.
    pub fn addresses_of_file(mut self) -> Self {
        self.addresses_of_file = true;
        self
    }

    /// Starts it and waits until it is bound.
    pub async fn start(self) -> Gateway {
        let with_admin = self.admin;
        self.start_when(|stderr| bound(stderr, with_admin)).await
    }

    /// Starts it on a unix socket and waits until that is told.
    pub async fn start_on_socket(self) -> Gateway {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let told = |stderr: &str| {
            let whole = &stderr[..=stderr.rfind('\n')?];
            whole.contains("unix:").then_some((nowhere, None))
        };
        self.no_admin().start_when(told).await
    }

    /// Starts it and waits until it has said what is wrong.
    pub async fn start_to_fail(self) -> Gateway {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let told = |stderr: &str| stderr.contains("\nhint: ").then_some((nowhere, None));
        self.start_when(told).await
    }

    async fn start_when(
        self,
        bound: impl Fn(&str) -> Option<(SocketAddr, Option<SocketAddr>)>,
    ) -> Gateway {
        std::fs::write(self.folder.path().join("test.toml"), &self.config).unwrap();
        let mut command = if self.shell.is_empty() {
            command()
        } else {
            let mut shell = clean(Command::new("sh"));
            let first = self.shell.join(" && ");
            let whole = format!("{first} && exec \"$0\" \"$@\"");
            shell.args(["-c", &whole, env!("CARGO_BIN_EXE_hookward")]);
            shell
        };
        command.arg("serve");
        if self.arguments.is_empty() {
            command.args(["--config", "test.toml"]);
        } else {
            command.args(&self.arguments);
        }
        let admin = if self.admin { "127.0.0.1:0" } else { "off" };
        if !self.addresses_of_file {
            command
                .env("HOOKWARD_SERVER__LISTEN", "127.0.0.1:0")
                .env("HOOKWARD_ADMIN__LISTEN", admin);
        }
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        command.envs(environment).current_dir(self.folder.path());
        let mut child = command.spawn().unwrap();
        let stdout = Written::by(child.stdout.take().unwrap());
        let stderr = Written::by(child.stderr.take().unwrap());
        let bound = within("the gateway to be bound", stderr.until(bound)).await;
        let Some((address, admin)) = bound else {
            let status = child.wait().await.unwrap();
            panic!("the gateway did not start: {status}\n{}", stderr.text());
        };
        Gateway {
            pid: Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap(),
            child,
            setup: self,
            address,
            admin,
            stdout,
            stderr,
        }
    }
}

/// Finds where the gateway says it is bound: a line per source, one for the admin
/// listener. Log lines are JSON and are passed over.
fn bound(stderr: &str, with_admin: bool) -> Option<(SocketAddr, Option<SocketAddr>)> {
    let mut server = None;
    let mut admin = None;
    let whole = &stderr[..=stderr.rfind('\n')?];
    for line in whole.lines().filter(|line| !line.starts_with('{')) {
        let Some((name, rest)) = line
            .split_once("http://")
            .or_else(|| line.split_once("https://"))
        else {
            continue;
        };
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'));
        let Ok(address) = rest[..end.unwrap_or(rest.len())].parse::<SocketAddr>() else {
            continue;
        };
        match name.trim_start().starts_with("admin") {
            true => admin = admin.or(Some(address)),
            false => server = server.or(Some(address)),
        }
    }
    let server = server?;
    (admin.is_some() || !with_admin).then_some((server, admin))
}

/// The real binary, serving.
pub struct Gateway {
    child: Child,
    pid: Pid,
    setup: Setup,
    address: SocketAddr,
    admin: Option<SocketAddr>,
    stdout: Written,
    stderr: Written,
}

impl Gateway {
    /// A gateway with this configuration, to be started. Listeners are bound to
    /// port 0 of the loopback interface.
    pub fn with(config: &str) -> Setup {
        Setup {
            folder: tempfile::tempdir().unwrap(),
            config: config.to_owned(),
            environment: Vec::new(),
            arguments: Vec::new(),
            shell: Vec::new(),
            admin: true,
            addresses_of_file: false,
        }
    }

    /// A serving gateway with this configuration.
    pub async fn start(config: &str) -> Self {
        Self::with(config).start().await
    }

    /// Where senders connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the admin listener is.
    pub fn admin(&self) -> SocketAddr {
        self.admin.unwrap()
    }

    /// The folder it runs in.
    pub fn folder(&self) -> &Path {
        self.setup.folder.path()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// A new connection of a sender.
    pub async fn connect(&self) -> Connection {
        Connection::open(self.address).await
    }

    /// Signs a message now, sends it to `/clerk` on a connection of its own and
    /// reads the answer.
    pub async fn send(&self, message: &Message) -> Answer {
        self.post("/clerk", &message.seal()).await
    }

    /// Sends a request on a connection of its own and reads the answer.
    pub async fn post(&self, path: &str, message: &Sealed) -> Answer {
        self.connect().await.post(path, message).await
    }

    /// Asks the admin listener; `token` none is without authorization.
    pub async fn ask(&self, method: &str, path: &str, token: Option<&str>) -> Answer {
        let bearer = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n{}\r\n",
            bearer.unwrap_or_default()
        );
        let mut connection = Connection::open(self.admin()).await;
        connection.write(request.as_bytes()).await;
        connection.answer().await
    }

    /// Its metrics as they are.
    pub async fn metrics(&self) -> Metrics {
        let answer = self.ask("GET", "/metrics", None).await;
        assert_eq!(answer.status, 200);
        Metrics(answer.text())
    }

    /// Asks for the metrics again and again until they satisfy `wanted`.
    pub async fn metrics_until(&self, what: &str, wanted: impl Fn(&Metrics) -> bool) -> Metrics {
        within(what, async {
            loop {
                let metrics = self.metrics().await;
                if wanted(&metrics) {
                    return metrics;
                }
            }
        })
        .await
    }

    /// Waits until so many messages of `clerk` were verified by its first key:
    /// the last thing told of a request before it claims its id. What is asked
    /// once more gives the last of them the time to do so.
    pub async fn verified(&self, count: u32) {
        let key = [("source", "clerk"), ("key", "1")];
        let verified = |metrics: &Metrics| {
            metrics.value("hookward_key_verified_total", &key) >= f64::from(count)
        };
        self.metrics_until("messages to be verified", verified)
            .await;
        for _ in 0..10 {
            self.metrics().await;
        }
    }

    /// Delivers one message of type `user.created` and waits until the ledger
    /// counts exactly that. It is counted once a second, so an empty ledger can
    /// only be told from one that was not counted yet by something in it.
    pub async fn only_this_in_the_ledger(&self) -> Metrics {
        let answer = self.send(&Message::new("only_this")).await;
        assert_eq!(answer.told(), (200, "delivered"));
        self.ledger_counts(1.0).await
    }

    /// Waits until the ledger has anything, and checks how much it is.
    pub async fn ledger_counts(&self, count: f64) -> Metrics {
        let entries = "hookward_ledger_entries";
        let counted = self.metrics_until("the ledger to be counted", |metrics| {
            metrics.value(entries, &[]) > 0.0
        });
        let metrics = counted.await;
        assert_eq!(metrics.value(entries, &[]), count);
        metrics
    }

    /// Writes another configuration in the place of the present one.
    pub fn rewrite(&self, config: &str) {
        std::fs::write(self.folder().join("test.toml"), config).unwrap();
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    /// Waits for it to end by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        within("the gateway to end", self.child.wait())
            .await
            .unwrap()
    }

    /// Ends it without a word, if it has not ended by now: how it can be started
    /// again in the same folder, and everything it wrote.
    pub async fn killed(mut self) -> (Setup, String) {
        let _ = self.child.start_kill();
        self.ended().await;
        let mut written = String::new();
        for stream in [&self.stdout, &self.stderr] {
            within("the last of its words", stream.until(|_| None::<()>)).await;
            written.push_str(&stream.text());
        }
        (self.setup, written)
    }

    /// Everything it wrote to stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Everything it wrote to stdout so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Waits for a line on stderr that holds all of these.
    pub async fn line(&self, parts: &[&str]) -> String {
        let found = |text: &str| {
            let mut lines = text.lines();
            lines
                .find(|line| parts.iter().all(|part| line.contains(part)))
                .map(str::to_owned)
        };
        let line = within(&format!("a line with {parts:?}"), self.stderr.until(found)).await;
        line.unwrap_or_else(|| panic!("no line with {parts:?} in\n{}", self.stderr()))
    }

    /// Waits until so many whole lines stand on stdout, and gives them.
    pub async fn stdout_lines(&self, count: usize) -> Vec<String> {
        let found = |text: &str| {
            (text.matches('\n').count() >= count).then(|| text.lines().map(str::to_owned).collect())
        };
        within("lines on stdout", self.stdout.until(found))
            .await
            .unwrap()
    }

    /// User and system time it has used so far, in clock ticks (1/100 s).
    pub fn processor_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// The most memory it has held so far, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
        let kib = line.split_whitespace().nth(1).unwrap();
        kib.parse::<u64>().unwrap() * 1024
    }
}

/// Prometheus text.
pub struct Metrics(pub String);

impl Metrics {
    /// The value of the one series of this name with these labels.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let found = self.find(name, labels);
        found.unwrap_or_else(|| panic!("no {name} {labels:?} in\n{}", self.0))
    }

    /// The value of the one series of this name with these labels, if there is one.
    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let wanted: HashMap<&str, &str> = labels.iter().copied().collect();
        let mut found = self.0.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (series_name, rest) = series.split_once('{').unwrap_or((series, "}"));
            let there: HashMap<&str, &str> = rest
                .trim_end_matches('}')
                .split(',')
                .filter_map(|label| label.split_once('='))
                .map(|(label, value)| (label, value.trim_matches('"')))
                .collect();
            (series_name == name && there == wanted).then(|| value.parse().unwrap())
        });
        found.next()
    }

    /// How many requests of `clerk` were answered with this word.
    pub fn answered(&self, word: &str) -> f64 {
        let labels = [("source", "clerk"), ("result", word)];
        self.value("hookward_requests_total", &labels)
    }

    /// How many requests of `clerk` were answered within a second, by the clock of
    /// the gateway: what a busy machine takes from the sender is not in it.
    pub fn within_a_second(&self) -> f64 {
        let labels = [("source", "clerk"), ("le", "1")];
        self.value("hookward_request_duration_seconds_bucket", &labels)
    }

    /// How many requests of `clerk` were refused for this reason.
    pub fn refused(&self, reason: &str) -> f64 {
        let labels = [("source", "clerk"), ("reason", reason)];
        self.value("hookward_refusals_total", &labels)
    }
}

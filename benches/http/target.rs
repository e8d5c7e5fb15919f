use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::cores::{self, Place};
use crate::messages::SECRET;

/// Whoever does not listen by then never will.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a load is sent to: a process of our own, in a folder of its own, on the
/// core of those that are measured. It ends with the value.
pub struct Target {
    pub name: String,
    pub address: SocketAddr,
    child: Child,
    folder: TempDir,
}

/// What a hookward is to be like.
pub struct Hookward {
    pub name: String,
    pub program: PathBuf,
    /// The keys of `[server]` and `[ledger]` that are not as they would be.
    pub settings: String,
    /// The paths of its sources.
    pub paths: Vec<String>,
    /// The types of its routes; none is one route for every type.
    pub types: Vec<String>,
}

impl Hookward {
    /// One with a source and a route for all it sends.
    pub fn plain(name: &str, program: &Path) -> Self {
        Self {
            name: name.to_owned(),
            program: program.to_owned(),
            settings: String::new(),
            paths: vec!["/in".into()],
            types: Vec::new(),
        }
    }

    /// Starts it before that service, and waits until it listens.
    pub fn start(&self, upstream: SocketAddr) -> Target {
        let (target, _) = self.start_timed(upstream);
        target
    }

    /// As [`Hookward::start`]; also when the process was begun.
    pub fn start_timed(&self, upstream: SocketAddr) -> (Target, Instant) {
        let program = self.program.to_string_lossy();
        let arguments = ["serve", "--config"];
        start(&self.name, (&program, &arguments), |address| {
            self.config(address, upstream)
        })
    }

    fn config(&self, address: SocketAddr, upstream: SocketAddr) -> String {
        let mut config = format!(
            "server.listen = \"{address}\"\nadmin.listen = \"127.0.0.1:0\"\n{}\n\
             [destinations.app]\ntype = \"http\"\nurl = \"http://{upstream}/in\"\n",
            self.settings
        );
        for (number, path) in self.paths.iter().enumerate() {
            config.push_str(&format!(
                "[sources.s{number}]\npath = \"{path}\"\nsecrets = \"{SECRET}\"\n"
            ));
        }
        if self.types.is_empty() {
            config.push_str("[[routes]]\nto = \"app\"\n");
        }
        for event_type in &self.types {
            config.push_str(&format!(
                "[[routes]]\ntypes = \"{event_type}\"\nto = \"app\"\n"
            ));
        }
        config
    }
}

/// nginx where it is installed: one process, connections to the service kept, no
/// verification.
pub fn nginx(upstream: SocketAddr) -> Option<Target> {
    let program = installed("nginx")?;
    let arguments = ["-p", ".", "-e", "error.log", "-c"];
    let (target, _) = start("nginx", (&program, &arguments), |address| {
        format!(
            "daemon off;
master_process off;
pid nginx.pid;
error_log error.log crit;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; use epoll; multi_accept on; accept_mutex off; }}
http {{
    access_log off;
    server_tokens off;
    tcp_nodelay on;
    keepalive_timeout 3600s;
    keepalive_requests 1000000000;
    client_header_buffer_size 4k;
    client_body_buffer_size 1m;
    client_max_body_size 16m;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    upstream service {{
        server {upstream} max_fails=0;
        keepalive 1024;
        keepalive_requests 1000000000;
        keepalive_timeout 3600s;
    }}
    server {{
        listen {address} reuseport backlog=4096;
        location / {{
            proxy_pass http://service;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_set_header Host $host;
            proxy_next_upstream off;
            proxy_buffer_size 4k;
        }}
    }}
}}
"
        )
    });
    Some(target)
}

/// HAProxy where it is installed: one thread, connections to the service shared,
/// no verification.
pub fn haproxy(upstream: SocketAddr) -> Option<Target> {
    let program = installed("haproxy")?;
    let (target, _) = start("haproxy", (&program, &["-db", "-q", "-f"]), |address| {
        format!(
            "global
    nbthread 1
    maxconn 4000
    tune.bufsize 16384
defaults
    mode http
    timeout connect 5s
    timeout client 3600s
    timeout server 3600s
    timeout http-keep-alive 3600s
    option http-keep-alive
    option splice-auto
    http-reuse always
    retries 0
frontend door
    bind {address} backlog 4096
    default_backend service
backend service
    server service {upstream} pool-max-conn 1024 pool-purge-delay 3600s
"
        )
    });
    Some(target)
}

impl Target {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a program is: Debian keeps servers where not everybody looks.
fn installed(name: &str) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut folders = path.split(':').chain(["/usr/sbin", "/usr/local/sbin"]);
    let found = folders.find_map(|folder| {
        let program = Path::new(folder).join(name);
        program.is_file().then_some(program)
    });
    if found.is_none() {
        println!("{name} is not installed and left out");
    }
    Some(found?.to_string_lossy().into_owned())
}

/// Starts a program whose last argument is its configuration, and waits until it
/// listens; also when it was begun.
fn start(
    name: &str,
    (program, arguments): (&str, &[&str]),
    config: impl Fn(SocketAddr) -> String,
) -> (Target, Instant) {
    let folder = tempfile::tempdir().unwrap();
    // Its port is free until it is there.
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    std::fs::write(folder.path().join("config"), config(address)).unwrap();
    drop(free);
    // Whatever becomes of this process, it leaves none behind.
    let mut command = match installed_setpriv() {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", program]);
            command
        }
        None => Command::new(program),
    };
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HOOKWARD_") {
            command.env_remove(name);
        }
    }
    let output = File::create(folder.path().join("output")).unwrap();
    command
        .args(arguments)
        .arg(folder.path().join("config"))
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output);
    // A child begins where its parent is.
    let (begun, child) = cores::on(Place::Measured, || {
        (Instant::now(), command.spawn().unwrap())
    });
    let mut target = Target {
        name: name.to_owned(),
        address,
        child,
        folder,
    };
    while TcpStream::connect(address).is_err() {
        if target.child.try_wait().unwrap().is_some() || begun.elapsed() > PATIENCE {
            let said = std::fs::read_to_string(target.folder.path().join("output"));
            panic!("{name} did not start: {}", said.unwrap_or_default());
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    (target, begun)
}

fn installed_setpriv() -> Option<&'static Path> {
    let path = Path::new("/usr/bin/setpriv");
    path.is_file().then_some(path)
}

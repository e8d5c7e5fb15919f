use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::print::{Complaint, Exit, Print};
use crate::app::{App, Control, Ended, StartError, Written};
use crate::config::{Arguments, Config, Origin};
use crate::observe::Logs;
use crate::setting::{Name, SecretReader};
use crate::verify::VerifyKeys;

/// Run the gateway
///
/// Reads the configuration, binds, prints a line for each source, and serves
/// until SIGTERM (in order) or SIGINT (without `server.drain_delay`). SIGHUP
/// reads the configuration again; a bad one is refused and the old one goes on.
#[derive(Args)]
#[command(after_help = "Examples:
  hookward serve
  hookward serve --config deploy/hookward.toml
  hookward serve --source clerk=env:CLERK_SECRET --to http://127.0.0.1:3000/hooks")]
pub(super) struct Serve {
    /// The configuration [default: $HOOKWARD_CONFIG, ./hookward.toml, /etc/hookward/hookward.toml]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["sources", "to", "listen"])]
    config: Option<PathBuf>,
    /// Without a file: a source and where its signing key is kept; once for each
    // Taken apart later: clap would print a key that stands where `NAME=` is missing.
    #[arg(long = "source", value_name = "NAME=REF", requires = "to")]
    sources: Vec<String>,
    /// Without a file: the service that every event goes to
    #[arg(long, value_name = "URL", requires = "sources")]
    to: Option<String>,
    /// Without a file: where to listen [default: 0.0.0.0:8080]
    #[arg(long, value_name = "ADDR", requires = "sources")]
    listen: Option<String>,
}

/// How long threads may take to drop what was cut.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Serve {
    pub(super) fn run(self, print: &mut Print<'_>) -> Result<Exit, Complaint> {
        let written = self.written()?;
        let (config, warnings) = written.load()?;
        print.problems(&warnings);
        // Dropped last: what is logged while the rest is dropped is written too.
        let _logs = Logs::start(&config.log.options).map_err(Complaint::failed)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(cannot_start)?;
        let ended = runtime.block_on(serve(config, written, print));
        // Whatever still runs had its time. It is dropped here, and what was cut
        // is logged by that.
        runtime.shutdown_timeout(LAST_WORDS);
        ended
    }

    fn written(self) -> Result<Written, Complaint> {
        let origin = Origin::new(self.config, SecretReader::Process);
        let Some(to) = self.to else {
            return Ok(Written::File(origin));
        };
        let arguments = Arguments {
            sources: self
                .sources
                .iter()
                .map(|text| source(text))
                .collect::<Result<_, _>>()?,
            to,
            listen: self.listen,
        };
        Ok(Written::Arguments(arguments, origin))
    }
}

async fn serve(config: Config, written: Written, print: &mut Print<'_>) -> Result<Exit, Complaint> {
    // Before anything is bound: whoever sees the lines below may send signals.
    let controls = signals().map_err(cannot_start)?;
    let sources = Lines::of(&config);
    let app = App::bind(config, written).map_err(not_started)?;
    app.look_at_ledger().await.map_err(not_started)?;
    print.note(sources.told(&app.address(), app.admin_address().as_deref()));
    Ok(match app.run(controls).await.map_err(not_started)? {
        Ended::Clean => Exit::Yes,
        Ended::Cut => Exit::No,
    })
}

/// Why it did not start, with exit code 1.
pub(super) fn not_started(error: StartError) -> Complaint {
    match error {
        StartError::Problems(problems) => Complaint::from(problems).at_start(),
        StartError::Other(why) => Complaint::failed(why),
    }
}

fn cannot_start(error: io::Error) -> Complaint {
    Complaint::failed(format!("cannot start: {error}"))
}

/// What signals ask for, from now on.
pub(super) fn signals() -> io::Result<mpsc::Receiver<Control>> {
    let (told, controls) = mpsc::channel(8);
    for (kind, control) in [
        (SignalKind::terminate(), Control::Stop),
        (SignalKind::interrupt(), Control::StopNow),
        (SignalKind::hangup(), Control::Reload),
    ] {
        tokio::spawn(pass_on(signal(kind)?, control, told.clone()));
    }
    Ok(controls)
}

async fn pass_on(mut signal: Signal, control: Control, told: mpsc::Sender<Control>) {
    while signal.recv().await.is_some() {
        if told.send(control).await.is_err() {
            return;
        }
    }
}

/// The line of each source, before its address is known.
struct Lines(Vec<Line>);

/// Which way messages come in.
enum Way {
    /// To a path of ours.
    Path(String),
    /// Out of a queue.
    Queue(String),
}

struct Line {
    name: String,
    /// Its path, or where it reads.
    way: Way,
    to: String,
    open: bool,
}

impl Lines {
    fn of(config: &Config) -> Self {
        let line = |(number, source): (usize, &crate::config::Source)| {
            let mut to: Vec<usize> = config
                .routes_of(number)
                .flat_map(|route| route.to.iter().copied())
                .collect();
            to.sort_unstable();
            to.dedup();
            let to = to.iter().filter_map(|&at| config.destinations.get(at));
            let to: Vec<&str> = to.map(|destination| destination.name.as_str()).collect();
            Line {
                name: source.name.to_string(),
                way: match &source.source.path {
                    Some(path) => Way::Path(path.clone()),
                    None => Way::Queue(source.way_in()),
                },
                to: if to.is_empty() {
                    "nowhere".to_owned()
                } else {
                    to.join(", ")
                },
                open: source.verify.keys == VerifyKeys::DangerouslyUnverified,
            }
        };
        Self(config.sources.iter().enumerate().map(line).collect())
    }

    /// `clerk  http://0.0.0.0:8080/clerk  → billing, audit`, a line each, and
    /// one for the admin listener; the columns aligned.
    fn told(&self, address: &str, admin: Option<&str>) -> String {
        // As `hookward send` takes it: a unix socket's path ends in a colon.
        let colon = if address.starts_with("unix:") {
            ":"
        } else {
            ""
        };
        let width = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0);
        let names = width(&mut self.0.iter().map(|line| line.name.len())).max("admin".len());
        let ways = self.0.iter().map(|line| match &line.way {
            Way::Path(path) => format!("{address}{colon}{path}"),
            Way::Queue(queue) => queue.clone(),
        });
        let ways: Vec<String> = ways.collect();
        let widest = width(&mut ways.iter().map(String::len));
        let mut told = String::new();
        for (Line { name, to, open, .. }, way) in self.0.iter().zip(&ways) {
            let open = if *open { "  UNVERIFIED" } else { "" };
            // Writing to a text does not fail.
            let _ = writeln!(told, "{name:names$}  {way:widest$}  → {to}{open}");
        }
        let _ = write!(told, "{:names$}  {}", "admin", admin.unwrap_or("off"));
        told
    }
}

/// A name, and where its signing key is kept. What is not a name may be a key, and is
/// not shown.
fn source(text: &str) -> Result<(String, String), Complaint> {
    let (name, reference) = text.split_once('=').ok_or_else(|| {
        Complaint::usage("`--source` holds no `=`")
            .hint("a source is written NAME=REF, as in `--source clerk=env:CLERK_SECRET`")
    })?;
    if Name::parse(name).is_none() {
        return Err(
            Complaint::usage("`--source` does not begin with a name and `=`").hint(Name::FORM),
        );
    }
    Ok((name.to_owned(), reference.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, path: &str, to: &str, open: bool) -> Line {
        Line {
            name: name.into(),
            way: Way::Path(path.into()),
            to: to.into(),
            open,
        }
    }

    #[test]
    fn a_line_a_source_tells_its_address_and_where_its_events_go() {
        let lines = Lines(vec![
            line("clerk", "/clerk", "audit, billing", false),
            line("internal", "/in", "audit", true),
        ]);
        assert_eq!(
            lines.told("http://0.0.0.0:8080", Some("http://127.0.0.1:9464")),
            "clerk     http://0.0.0.0:8080/clerk  → audit, billing\n\
             internal  http://0.0.0.0:8080/in     → audit  UNVERIFIED\n\
             admin     http://127.0.0.1:9464"
        );
    }

    #[test]
    fn an_address_on_a_unix_socket_is_one_that_send_takes() {
        let lines = Lines(vec![line("clerk", "/clerk", "nowhere", false)]);
        assert_eq!(
            lines.told("unix:/run/hookward.sock", None),
            "clerk  unix:/run/hookward.sock:/clerk  → nowhere\nadmin  off"
        );
    }
}

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use clap::Args;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method};
use tokio::sync::mpsc;

use super::client::{Answer, Client, Target};
use super::print::{Complaint, Exit, Print};
use super::service::{self, Arrival};
use super::signing::{self, Signer};
use super::{send, serve};
use crate::app::{App, Control, Ended, Written};
use crate::config::{Arguments, Origin};
use crate::key;
use crate::message::{Family, MessageId};
use crate::observe;
use crate::setting::SecretReader;

/// On one machine an answer comes within milliseconds.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Past the tolerance of a source.
const STALE: Duration = Duration::from_secs(10 * 60);
/// What of a received request is worth a newcomer's look.
const SHOWN: [&str; 8] = [
    "svix-id",
    "svix-timestamp",
    "svix-signature",
    "hookward-source",
    "hookward-id",
    "hookward-type",
    "hookward-key",
    "idempotency-key",
];
/// A body longer than this is printed in part (bytes).
const PRINTED: usize = 2_000;

/// See it work: needs no configuration, key or service of yours
///
/// Runs the real gateway on a free port of this machine with a throw-away key
/// and a service behind it, sends it a genuine, a repeated, a tampered and a
/// stale request, and shows what each was answered and what arrived.
#[derive(Args)]
#[command(after_help = "Examples:
  hookward demo
  hookward demo --keep      goes on, so that you can send your own")]
pub(super) struct Demo {
    /// Go on serving, and print what the service receives
    #[arg(long)]
    keep: bool,
}

impl Demo {
    pub(super) fn run(self, print: &mut Print<'_>) -> Result<Exit, Complaint> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| Complaint::failed(format!("cannot start: {error}")))?;
        let ended = runtime.block_on(self.show(print));
        runtime.shutdown_background();
        ended
    }

    async fn show(&self, print: &mut Print<'_>) -> Result<Exit, Complaint> {
        let cannot = |what: &str, error: std::io::Error| {
            Complaint::failed(format!("cannot {what}: {error}"))
        };
        // Before anything is shown: whoever reads it may send a signal.
        let signals = match self.keep {
            true => Some(serve::signals().map_err(|e| cannot("wait for signals", e))?),
            false => None,
        };
        let secret = key::generate().map_err(|e| cannot("make a key", e))?;
        let (service, arrivals) = service::start()
            .await
            .map_err(|e| cannot("start a service", e))?;
        let app = gateway(&secret, service)?;
        let url = format!("{}/demo", app.address());
        let (stop, controls) = mpsc::channel(1);
        let running = tokio::spawn(app.run(controls));

        let mut stage = Stage::set(&secret, &url, arrivals)?;
        let as_promised = stage.play(print).await?;
        if let Some(signals) = signals {
            print.data(format_args!(
                "\nIt goes on until Ctrl-C. Send your own from another terminal:\n\n  {} send {url} --secret {} --type user.updated\n",
                program(),
                secret.as_str()
            ));
            keep(signals, &mut stage.arrivals, print).await;
        } else {
            print.data(format_args!(
                "\nSend your own:  {0} demo --keep\nFor real:       {0} serve --source clerk=env:CLERK_SECRET --to http://127.0.0.1:3000/hooks",
                program()
            ));
        }
        drop(stage);
        // The gateway may have ended by itself; it is gone either way.
        let _ = stop.send(Control::StopNow).await;
        let ended = running.await.unwrap_or(Ok(Ended::Cut));
        Ok(Exit::answer(
            as_promised && matches!(ended, Ok(Ended::Clean)),
        ))
    }
}

/// A real gateway, as `serve --source demo=… --to …` starts it, on a free port.
fn gateway(secret: &str, service: SocketAddr) -> Result<App, Complaint> {
    let arguments = Arguments {
        sources: vec![("demo".to_owned(), secret.to_owned())],
        to: format!("http://{service}/hooks"),
        listen: Some("127.0.0.1:0".to_owned()),
    };
    let origin = Origin {
        file: None,
        // The reader's own environment is for a hookward of theirs.
        environment: [("HOOKWARD_ADMIN__LISTEN", "off")].into_iter().collect(),
        secrets: SecretReader::Process,
    };
    let written = Written::Arguments(arguments, origin);
    let (config, _) = written.load()?;
    App::bind(config, written).map_err(serve::not_started)
}

/// A sender in front of the gateway, and what arrives behind it.
struct Stage {
    signer: Signer,
    client: Client,
    arrivals: mpsc::Receiver<Arrival>,
}

/// One request of the play.
struct Act {
    what: &'static str,
    id: MessageId,
    age: Duration,
    tampered: bool,
    promised: (u16, &'static str),
    arrives: bool,
}

impl Stage {
    fn set(secret: &str, url: &str, arrivals: mpsc::Receiver<Arrival>) -> Result<Self, Complaint> {
        let target = Target::parse(url)
            .map_err(|problem| Complaint::failed(format!("the gateway's address {problem}")))?;
        Ok(Self {
            signer: Signer::new(secret, Family::Svix)?,
            client: Client::new(target, TIMEOUT, None)?,
            arrivals,
        })
    }

    /// Sends the four requests; whether all went as promised.
    async fn play(&mut self, print: &mut Print<'_>) -> Result<bool, Complaint> {
        let now = SystemTime::now();
        let body = Bytes::from(format!(
            r#"{{"type":"user.created","timestamp":"{}","data":{{"id":"user_1","email":"ada@example.com"}}}}"#,
            observe::rfc3339(now),
        ));
        let id = signing::new_id();
        let act = |what, promised, arrives| Act {
            what,
            id: id.clone(),
            age: Duration::ZERO,
            tampered: false,
            promised,
            arrives,
        };
        let acts = [
            act("a genuine message", (200, "delivered"), true),
            act("the same once more", (200, "duplicate"), false),
            Act {
                id: signing::new_id(),
                tampered: true,
                ..act("with a byte changed", (401, "unverified"), false)
            },
            Act {
                id: signing::new_id(),
                age: STALE,
                ..act("signed 10 minutes ago", (401, "unverified"), false)
            },
        ];
        print.data("One source with a key made for this run, and a service behind it.\n");
        print.data("  what was sent          what was answered  what reached the service");
        print.data("  ─────────────────────  ─────────────────  ────────────────────────");
        let mut as_promised = true;
        let mut first = None;
        for act in acts {
            let (answer, arrived) = self.perform(&act, now, &body).await?;
            let word = answer.header("hookward-result").unwrap_or("-");
            let status = answer.status.as_u16();
            as_promised &= (status, word) == act.promised && arrived.is_some() == act.arrives;
            let seen = match &arrived {
                None => "nothing".to_owned(),
                Some(arrival) if arrival.body == body => {
                    format!("the same {} bytes", body.len())
                }
                Some(_) => {
                    as_promised = false;
                    "other bytes".to_owned()
                }
            };
            let answered = format!("{status} {word}");
            print.data(format_args!("  {:21}  {answered:17}  {seen}", act.what));
            first = first.or(arrived);
        }
        if let Some(arrival) = first {
            print.data("\nWhat the service received:\n");
            print.data(told(&arrival));
        }
        Ok(as_promised)
    }

    async fn perform(
        &mut self,
        act: &Act,
        now: SystemTime,
        body: &Bytes,
    ) -> Result<(Answer, Option<Arrival>), Complaint> {
        let timestamp = signing::timestamp_of(now - act.age)?;
        let signed = self.signer.headers(&act.id, &timestamp, body);
        let json = HeaderValue::from_static("application/json");
        let headers = signed.into_iter().chain([(CONTENT_TYPE, json)]);
        let sent = match act.tampered {
            true => send::tampered(body),
            false => body.clone(),
        };
        let asked = self.client.ask(Method::POST, headers, sent).await;
        let answer = asked.map_err(|trouble| trouble.complaint(""))?;
        // The service hands over what it got before it accepts, and the gateway
        // answers after that: what is not here now was not delivered.
        Ok((answer, self.arrivals.try_recv().ok()))
    }
}

/// Prints what arrives until a signal comes, or nobody reads it.
async fn keep(
    mut signals: mpsc::Receiver<Control>,
    arrivals: &mut mpsc::Receiver<Arrival>,
    print: &mut Print<'_>,
) {
    while !print.is_lost() {
        tokio::select! {
            Some(arrival) = arrivals.recv() => {
                print.data(told(&arrival));
                print.data("");
            }
            _ = signals.recv() => break,
        }
    }
}

/// A request as the service got it, the headers that matter here.
fn told(arrival: &Arrival) -> String {
    let mut text = format!("  {} {}\n", arrival.method, arrival.path);
    for name in SHOWN {
        let value = arrival.headers.get(HeaderName::from_static(name));
        if let Some(value) = value.and_then(|value| value.to_str().ok()) {
            // Writing to a text does not fail.
            let _ = writeln!(text, "  {name}: {value}");
        }
    }
    let end = arrival.body.len().min(PRINTED);
    let body = String::from_utf8_lossy(&arrival.body[..end]);
    text.push_str("\n  ");
    // Whatever a sender wrote must not move the reader's cursor.
    text.extend(body.chars().map(|c| if c.is_control() { ' ' } else { c }));
    if arrival.body.len() > end {
        let _ = write!(text, "… ({} bytes)", arrival.body.len());
    }
    text
}

/// How the reader called this program.
fn program() -> String {
    let name = std::env::args().next().filter(|name| name.contains('/'));
    name.unwrap_or_else(|| "hookward".to_owned())
}

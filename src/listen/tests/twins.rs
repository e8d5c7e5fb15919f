//! The same bytes to a connection as it is, and to one that hyper has from its first
//! byte on. What the service sees and what the sender gets must be the same, but for
//! what is told in [`Told::is_like`].

use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::{HeaderValue, SERVER};
use http::{Method, StatusCode};
use prometheus::IntGauge;
use proptest::prelude::*;
use proptest::sample::Index;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::stand::door;
use super::wild::{Wild, wild};
use crate::listen::*;

const HEADER: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(75);

/// What the service saw of a request.
#[derive(Debug, PartialEq)]
struct Seen {
    method: Method,
    target: String,
    /// Names in lower case; those that are the same beside each other, where the
    /// first of them stood. hyper's map gives them so, and nobody may count on more.
    headers: Vec<(String, Vec<u8>)>,
    /// None where it was not asked for.
    body: Option<Result<Vec<u8>, BodyError>>,
}

/// How a connection went.
#[derive(Debug, PartialEq)]
struct Told {
    seen: Vec<Seen>,
    /// What the sender read, without the dates.
    answers: String,
    /// How long it stayed open when there was nothing more to come.
    open: Duration,
}

impl Told {
    /// Whether it went as with hyper. Two differences are meant, both on connections
    /// on which nothing more is read:
    ///
    /// - A piece of a head that came together with a usual request has the time of a
    ///   head from when that was answered. hyper keeps such a piece to itself, so there
    ///   it has the time that a connection may wait, or not, as its reads happen to
    ///   fall; they fall elsewhere when it begins later.
    /// - A head that comes in pieces is refused as soon as it is seen to be none. hyper
    ///   looks at the second piece and those after it only for the end of the head:
    ///   where that never comes, it closes without a word when the time is up, and
    ///   where more than a head comes before it, its word is 431 instead of 400.
    fn is_like(&self, hyper: &Self) -> bool {
        let (own, theirs) = (self.refused(), hyper.refused());
        let closed = match (own.is_some(), theirs.is_some()) {
            (true, false) => self.open <= hyper.open,
            (false, true) => false,
            _ => {
                let waited = |told: &Self| [HEADER, IDLE].contains(&told.open);
                self.open == hyper.open || (waited(self) && waited(hyper))
            }
        };
        let answers = own.unwrap_or(&self.answers);
        self.seen == hyper.seen && answers == theirs.unwrap_or(&hyper.answers) && closed
    }

    /// The answers before the last, where that says that what came is no head.
    fn refused(&self) -> Option<&str> {
        let mut refused = REFUSED.iter();
        refused.find_map(|refused| self.answers.strip_suffix(refused))
    }
}

/// What hyper says of what is no head.
const REFUSED: [&str; 2] = [
    "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
];

#[derive(Clone)]
struct Desk {
    connection: Arc<Connection>,
    budget: BufferBudget,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Desk {
    async fn answer(self, request: Request) -> Result<Response, Infallible> {
        let mut seen = Seen {
            method: request.method,
            target: format!("{}?{}", request.target.path(), request.target.query()),
            headers: grouped(&request.headers),
            body: None,
        };
        let (status, text) = if request.target.path() == "/early" {
            (StatusCode::PAYLOAD_TOO_LARGE, "early".to_owned())
        } else {
            let rules = BodyRules {
                max_body: 40_000,
                timeout: Duration::from_secs(10),
                deadline: self.connection.began() + Duration::from_secs(12),
            };
            let body = read_body(request.body, &self.connection, rules, &self.budget).await;
            let body = seen.body.insert(body.map(|body| body.bytes.to_vec()));
            match body {
                Ok(body) => (StatusCode::OK, format!("{}", body.len())),
                Err(error) => (StatusCode::BAD_REQUEST, format!("{error:?}")),
            }
        };
        self.seen.lock().unwrap().push(seen);
        Ok(Response::new(status, text).with(SERVER, HeaderValue::from_static("twin")))
    }
}

fn grouped(headers: &crate::message::Headers) -> Vec<(String, Vec<u8>)> {
    let named = |(name, value): (&str, crate::message::HeaderText<'_>)| {
        (name.to_lowercase(), value.as_bytes().to_vec())
    };
    let mut grouped: Vec<(String, Vec<u8>)> = Vec::new();
    for (name, value) in headers.iter().map(named) {
        let after = grouped.iter().rposition(|(known, _)| *known == name);
        grouped.insert(after.map_or(grouped.len(), |at| at + 1), (name, value));
    }
    grouped
}

/// Says all of it to a listener of its own, in time that goes on only when nobody
/// has anything to do.
fn tell(wild: &Wild, hyper: bool) -> Told {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    runtime.block_on(talk(&dir.path().join("in"), wild, hyper))
}

async fn talk(path: &Path, wild: &Wild, hyper: bool) -> Told {
    let listener = Listener::bind(&Address::Unix(path.to_owned())).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let stop = Stop::new();
    let mut door = door();
    door.limits.header_timeout = HEADER;
    door.limits.idle_timeout = IDLE;
    let options = ServeOptions {
        door: Arc::new(ArcSwap::from_pointee(door)),
        connections: IntGauge::new("connections", "connections").unwrap(),
        stop: stop.clone(),
        crew: Crew::here(),
    };
    let budget = BufferBudget::new(1 << 20, IntGauge::new("held", "held").unwrap());
    let make = {
        let (seen, budget) = (Arc::clone(&seen), budget.clone());
        move |connection| {
            let desk = Desk {
                connection,
                budget: budget.clone(),
                seen: Arc::clone(&seen),
            };
            tower::service_fn(move |request| desk.clone().answer(request))
        }
    };
    let served = tokio::spawn(serve(listener, make, options));

    let mut stream = UnixStream::connect(path).await.unwrap();
    let mut answers = Vec::with_capacity(4096);
    if hyper {
        // Not a POST: hyper has the connection from here on.
        let first = b"GET /early HTTP/1.1\r\nhost: a\r\n\r\n";
        stream.write_all(first).await.unwrap();
        all_turns().await;
        stream.read_buf(&mut answers).await.unwrap();
        assert!(answers.ends_with(b"early"));
        answers.clear();
        seen.lock().unwrap().clear();
    }
    for piece in wild.pieces() {
        if stream.write_all(piece).await.is_err() {
            break;
        }
        all_turns().await;
        while stream.try_read_buf(&mut answers).is_ok_and(|read| read > 0) {}
    }
    if wild.hangs_up {
        let _ = stream.shutdown().await;
    }
    let said = Instant::now();
    while stream
        .read_buf(&mut answers)
        .await
        .is_ok_and(|read| read > 0)
    {}
    let open = Duration::from_secs_f64(said.elapsed().as_secs_f64().round());
    stop.finish(IDLE);
    assert_eq!(served.await.unwrap().unwrap(), 0);
    assert!(budget.take(1 << 20).is_some(), "something is still held");
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    Told {
        seen,
        answers: without_dates(answers),
        open,
    }
}

/// Lets everybody come as far as it goes, before time goes on.
async fn all_turns() {
    for _ in 0..12 {
        yield_now().await;
    }
}

fn without_dates(answers: Vec<u8>) -> String {
    let text = String::from_utf8(answers).unwrap();
    let lines = text.split_inclusive("\r\n");
    lines.filter(|line| !line.starts_with("date: ")).collect()
}

fn compare(wild: &Wild) -> Told {
    let (own, hyper) = (tell(wild, false), tell(wild, true));
    assert!(own.is_like(&hyper), "{wild:?}\n{own:#?}\nhyper: {hyper:#?}");
    own
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").map_or(128, |cases| cases.parse().unwrap())
    ))]

    #[test]
    fn whatever_comes_is_read_as_hyper_reads_it(wild in wild()) {
        compare(&wild);
    }

    /// Almost good requests are where two readers part.
    #[test]
    fn a_byte_that_is_wrong_or_missing_is_read_as_hyper_reads_it(
        at in any::<Index>(),
        with in prop::sample::select(b"\0\t\n\r ,:+-/0x\x7f\x80".to_vec()),
        how in 0..3,
        cut in any::<Index>(),
    ) {
        let one = b"POST /a?b=c HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\
            Connection: keep-alive\r\n\r\nhello";
        let mut text = one.repeat(2);
        let at = at.index(one.len());
        match how {
            0 => text[at] = with,
            1 => text.insert(at, with),
            _ => drop(text.remove(at)),
        }
        let cuts = vec![cut];
        compare(&Wild { text, cuts, hangs_up: false });
    }
}

/// What those who hide one request in another try.
#[test]
fn every_known_trick_is_read_as_hyper_reads_it() {
    let long = |length: usize| "x".repeat(length);
    let hidden = "GET /hidden HTTP/1.1\r\nhost: a\r\n\r\n";
    let lengths = [
        "5",
        "05",
        "00000000000000000005",
        "000000000000000005",
        "0000000000000000005",
        "+5",
        "-5",
        " 5",
        "5 ",
        "\t5\t",
        "5, 5",
        "5,5",
        "5 , 5",
        "0x5",
        "5.0",
        "5e0",
        "",
        " ",
        "５",
        "5;a",
        "18446744073709551615",
        "18446744073709551616",
        "999999999999999999",
        "5\r\n ",
        "5\r\n 5",
        "5\r\ncontent-length: 5",
        "5\r\ncontent-length: 6",
        "5\r\nContent_Length: 9",
        "5\r\ncontent-length : 9",
        "5\r\n content-length: 9",
        "5\r\ntransfer-encoding: chunked",
        "5\r\ntransfer-encoding : chunked",
        "5\r\ntransfer-encoding: identity",
        "5\r\nTransfer-Encoding: xchunked",
        "5\r\nconnection: close",
        "5\r\nconnection: keep-alive, close",
        "5\r\nconnection:",
        "5\r\nexpect: 100-continue",
        "5\r\nupgrade: h2c\r\nconnection: upgrade",
        "5\r\nx:\0",
        "5\r\nx: \x7f",
        "5\r\n: x",
        "5\r\nx",
        "5\rx: y",
        "5\nx: y",
    ];
    let targets = [
        "/",
        "//a",
        "/a#b",
        "/a?b#c",
        "/a?",
        "/?",
        "*",
        "a",
        "?a",
        "http://h/a",
        "http://h",
        "h:80",
        "/a\\b",
        "/a\"b",
        "/a{b}",
        "/a|b",
        "/a^b",
        "/a`b",
        "/a<b>",
        "/a[b]",
        "/%",
        "/%zz",
        "/%00",
        "/\u{e9}",
        "/a\tb",
        "/a b",
        "/../b",
        "/;a",
        "/a:b@c",
        "",
    ];
    let heads = [1, 8, 16].into_iter().flat_map(|kib: usize| {
        (0..4).map(move |more| {
            format!(
                "POST / HTTP/1.1\r\ncontent-length: 5\r\nx: {}\r\n\r\n",
                "x".repeat(kib * 1024 - 50 + more)
            )
        })
    });
    let counts = [31, 32, 33, 99, 100, 101].map(|count: usize| {
        format!(
            "POST / HTTP/1.1\r\ncontent-length: 5\r\n{}\r\n",
            "a: b\r\n".repeat(count - 1)
        )
    });
    let starts = ["\r\n", "\n", "\r\n\r\n\n", "\r", " ", "\0"]
        .map(|start| format!("{start}POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\n"));
    let versions = [
        "HTTP/1.0",
        "HTTP/1.1 ",
        "HTTP/1.2",
        "HTTP/2.0",
        "http/1.1",
        "HTTP/1.",
        "",
    ]
    .map(|version| format!("POST / {version}\r\ncontent-length: 5\r\n\r\n"));
    let mut all: Vec<String> = Vec::new();
    all.extend(lengths.map(|length| format!("POST / HTTP/1.1\r\ncontent-length:{length}\r\n\r\n")));
    all.extend(
        targets.map(|target| format!("POST {target} HTTP/1.1\r\ncontent-length: 5\r\n\r\n")),
    );
    all.extend(heads.chain(counts).chain(starts).chain(versions));
    all.push(format!(
        "POST /{} HTTP/1.1\r\ncontent-length: 5\r\n\r\n",
        long(70_000)
    ));
    all.push(format!(
        "POST /early HTTP/1.1\r\ncontent-length: 5\r\n\r\n{}",
        long(5)
    ));
    for head in all {
        compare(&Wild {
            text: format!("{head}hello{hidden}").into(),
            cuts: Vec::new(),
            hangs_up: false,
        });
    }
}

/// So that the comparison is known to compare: a usual request comes by the own way.
#[test]
fn the_twins_are_two() {
    let text = b"POST /a HTTP/1.1\r\ncontent-length: 3\r\n\r\nabcPOST /b HTT".to_vec();
    let wild = Wild {
        text,
        cuts: Vec::new(),
        hangs_up: false,
    };
    let told = compare(&wild);
    assert_eq!((told.seen.len(), told.open), (1, HEADER));
    assert_eq!(told.seen[0].body, Some(Ok(b"abc".to_vec())));
    assert_eq!(tell(&wild, true).open, IDLE);
}

//! Requests good and bad, one after another, in pieces.

use std::fmt;

use proptest::prelude::*;
use proptest::sample::{Index, select};

/// What a sender says on one connection.
pub(super) struct Wild {
    pub(super) text: Vec<u8>,
    /// Where it is cut into the pieces it is sent in.
    pub(super) cuts: Vec<Index>,
    /// Whether it shuts its side down when it has said all.
    pub(super) hangs_up: bool,
}

impl Wild {
    pub(super) fn pieces(&self) -> Vec<&[u8]> {
        let cuts = self.cuts.iter().map(|cut| cut.index(self.text.len() + 1));
        let mut cuts: Vec<_> = cuts.chain([0, self.text.len()]).collect();
        cuts.sort_unstable();
        cuts.windows(2)
            .map(|ends| &self.text[ends[0]..ends[1]])
            .filter(|piece| !piece.is_empty())
            .collect()
    }
}

impl fmt::Debug for Wild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in self.pieces() {
            writeln!(f, "\"{}\"", piece.escape_ascii())?;
        }
        write!(f, "hangs up: {}", self.hangs_up)
    }
}

pub(super) fn wild() -> impl Strategy<Value = Wild> {
    let requests = prop::collection::vec(request(), 1..5);
    let slips = prop_oneof![
        2 => Just(Vec::new()),
        1 => prop::collection::vec((any::<Index>(), slip()), 1..3),
    ];
    let cuts = prop::collection::vec(any::<Index>(), 0..12);
    (requests, slips, cuts, prop::bool::weighted(0.2)).prop_map(
        |(requests, slips, cuts, hangs_up)| {
            let mut text = requests.concat();
            for (at, slip) in slips {
                if !text.is_empty() {
                    slip.make(&mut text, at);
                }
            }
            Wild {
                text,
                cuts,
                hangs_up,
            }
        },
    )
}

/// A slip of the pen, or a trick.
#[derive(Clone, Debug)]
enum Slip {
    Other(u8),
    More(u8),
    Less(usize),
    Twice(usize),
}

impl Slip {
    fn make(&self, text: &mut Vec<u8>, at: Index) {
        let at = at.index(text.len());
        match *self {
            Slip::Other(byte) => text[at] = byte,
            Slip::More(byte) => text.insert(at, byte),
            Slip::Less(count) => drop(text.drain(at..text.len().min(at + count))),
            Slip::Twice(count) => {
                let again = text[at..text.len().min(at + count)].to_vec();
                text.splice(at..at, again);
            }
        }
    }
}

fn slip() -> impl Strategy<Value = Slip> {
    let byte = || select(b"\0\t\n\r \"#,:;+-/019aPx\x7f\x80\xff".to_vec());
    prop_oneof![
        byte().prop_map(Slip::Other),
        byte().prop_map(Slip::More),
        (1..200usize).prop_map(Slip::Less),
        (1..200usize).prop_map(Slip::Twice),
    ]
}

/// Mostly a usual request; the more unusual, the more of its parts are.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let method = prop_oneof![
        20 => Just("POST"),
        1 => select(vec!["GET", "PUT", "HEAD", "post", "OPTIONS", "POSTS", "CONNECT"]),
    ];
    let target = prop_oneof![
        10 => select(vec!["/", "/a/b", "/a?b=c&d=%20", "/-._~%+@:,;!$'()*=&"]),
        2 => Just("/early"),
        1 => select(vec!["//a", "/a#b", "http://h/a?b", "*", "/a\"b", "/a|b", "/\u{e9}", "/?", ""]),
    ];
    let version =
        prop_oneof![30 => Just("HTTP/1.1"), 1 => select(vec!["HTTP/1.0", "HTTP/1.2", ""])];
    let end = prop_oneof![20 => Just("\r\n"), 1 => Just("\n")];
    let headers = prop::collection::vec(header(), 0..8);
    let body = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..20),
        2 => (0..9000usize).prop_map(|length| vec![b'y'; length]),
        1 => (0..60_000usize).prop_map(|length| vec![b'z'; length]),
    ];
    let framing =
        prop_oneof![12 => Just(Framing::Length), 2 => Just(Framing::Chunked), 2 => framing()];
    (
        method,
        target,
        version,
        end,
        headers,
        body,
        framing,
        any::<Index>(),
    )
        .prop_map(
            |(method, target, version, end, mut headers, body, framing, place)| {
                let (lines, body) = framing.of(body);
                let place = place.index(headers.len() + 1);
                headers.splice(place..place, lines);
                let mut text = format!("{method} {target} {version}{end}").into_bytes();
                for line in headers {
                    text.extend_from_slice(&line);
                    text.extend_from_slice(end.as_bytes());
                }
                text.extend_from_slice(end.as_bytes());
                text.extend_from_slice(&body);
                text
            },
        )
}

fn header() -> impl Strategy<Value = Vec<u8>> {
    let known = select(vec![
        "Host: a",
        "host:a",
        "Connection: keep-alive",
        "connection: Keep-Alive",
        "Content-Type: a/b",
        "svix-id: msg_1",
        "svix-id: msg_2",
        "Svix-ID:\t3 ",
        "x:",
        "X: ",
        "te: trailers",
        "Keep-Alive: 5",
        "Content-Length2: 7",
        "Xontent-Length: 7",
        "proxy-connection: close",
    ]);
    let odd = select(vec![
        "connection: close",
        "connection: keep-alive, x",
        "connection:",
        "Connection: upgrade",
        "expect: 100-continue",
        "Expect: x",
        "Upgrade: h2c",
        "transfer-encoding: gzip",
        "transfer-encoding: chunked",
        "x : y",
        " x: y",
        "x: y\r\n z",
        "\tx: y",
        "x",
        ": y",
        "content-length: 1",
        "content-length: 0",
    ]);
    let wild = prop::collection::vec(any::<u8>(), 0..12);
    let wild = wild.prop_map(|value| [b"x-wild: ".as_slice(), &value].concat());
    let text = |text: &str| text.as_bytes().to_vec();
    prop_oneof![
        30 => known.prop_map(text),
        2 => odd.prop_map(text),
        1 => wild,
        1 => (0..6000usize).prop_map(|length| [b"x-long: ".as_slice(), &vec![b'v'; length]].concat()),
        1 => (20..101usize).prop_map(|count| [b"m: 1\r\n".repeat(count).as_slice(), b"m: 2"].concat()),
    ]
}

/// How a request tells where it ends.
#[derive(Clone, Copy, Debug)]
enum Framing {
    Length,
    Chunked,
    /// A length written otherwise than it should be, or untrue.
    Odd(&'static str, i64),
    Twice(&'static str),
    None,
}

fn framing() -> impl Strategy<Value = Framing> {
    prop_oneof![
        (
            select(vec!["", "+", "0", "000000000000000000000", " ", "0x", "-"]),
            -3..4i64
        )
            .prop_map(|(before, more)| Framing::Odd(before, more)),
        select(vec![
            ", ",
            "\r\ncontent-length: ",
            "\r\nContent-Length: 0",
            "\r\ntransfer-encoding: chunked\r\nx:"
        ])
        .prop_map(Framing::Twice),
        Just(Framing::None),
    ]
}

impl Framing {
    /// The lines that it stands in, and the body as it is sent.
    fn of(self, body: Vec<u8>) -> (Vec<Vec<u8>>, Vec<u8>) {
        let length = body.len();
        let line = match self {
            Framing::Length => format!("Content-Length: {length}"),
            Framing::Odd(before, more) => {
                let length = length as i64 + more;
                format!("content-length: {before}{length}")
            }
            Framing::Twice(between) => format!("content-length: {length}{between}{length}"),
            Framing::Chunked => {
                let mut text = Vec::new();
                for chunk in body.chunks(1000) {
                    text.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    text.extend_from_slice(chunk);
                    text.extend_from_slice(b"\r\n");
                }
                text.extend_from_slice(b"0\r\n\r\n");
                return (vec![b"transfer-encoding: chunked".to_vec()], text);
            }
            Framing::None => return (Vec::new(), body),
        };
        (vec![line.into_bytes()], body)
    }
}

use crate::support::{Message, Sealed};

/// What a sender wrote that can be read in more than one way.
pub struct Ambiguous {
    pub what: String,
    /// The event it is about.
    pub outer: Sealed,
    /// The id of the message hidden in it, which is genuine but was never sent as a
    /// request of its own.
    pub hidden: String,
    /// Whether everybody is to take what is hidden for a request of its own: there
    /// is nothing to say that it is a body.
    pub apart: bool,
    pub bytes: Vec<u8>,
}

/// A head of which everything can be wrong.
struct Head {
    line: String,
    host: String,
    /// The signature, a line each.
    signature: String,
}

/// Every ambiguity, under ids that begin with this.
pub fn corpus(prefix: &str) -> Vec<Ambiguous> {
    let mut all = Vec::new();
    let mut add = |what: &str, framing: Framing| {
        let number = all.len();
        let hidden = format!("{prefix}_hidden_{number}");
        let inner = Message::new(&hidden).seal().request("/clerk");
        let outer = Message::new(&format!("{prefix}_{number}"));
        let outer = (framing.body)(outer, &inner);
        let head = Head {
            line: "POST /clerk HTTP/1.1\r\n".into(),
            host: "Host: hooks.example\r\n".into(),
            signature: ["svix-id", "svix-timestamp", "svix-signature"]
                .map(|name| format!("{name}: {}\r\n", outer.header(name)))
                .concat(),
        };
        let bytes = (framing.bytes)(head, &outer, &inner);
        all.push(Ambiguous {
            what: what.into(),
            outer,
            hidden,
            apart: APART.contains(&what),
            bytes,
        });
    };
    for (what, line) in ENCODINGS {
        add(&format!("a length and {what}"), length_and(line));
        add(&format!("{what} and no length"), encoded(line));
    }
    for (what, form) in LENGTHS {
        add(&format!("a length that is {what}"), length(*form));
    }
    for (what, chunks) in CHUNKS {
        add(&format!("chunks with {what}"), chunked(*chunks));
    }
    for (what, change) in HEADS {
        add(&format!("a head with {what}"), head(*change));
    }
    all
}

/// These have no length at all.
const APART: [&str; 2] = [
    "a length that is missing",
    "a length that is under another name",
];

type Body = fn(Message, &[u8]) -> Sealed;
type Bytes = Box<dyn Fn(Head, &Sealed, &[u8]) -> Vec<u8>>;

/// How a request is framed: what is signed, and how it is written.
struct Framing {
    body: Body,
    bytes: Bytes,
}

/// The body is the hidden request, so that whoever takes it for none reads that.
const HIDING: Body = |message, inner| message.body(inner).seal();

const ENCODINGS: &[(&str, &str)] = &[
    ("chunked", "Transfer-Encoding: chunked\r\n"),
    ("an unknown encoding", "Transfer-Encoding: xchunked\r\n"),
    (
        "a space before the colon",
        "Transfer-Encoding : chunked\r\n",
    ),
    ("a tab before chunked", "Transfer-Encoding:\tchunked\r\n"),
    (
        "a vertical tab before it",
        "Transfer-Encoding: \x0bchunked\r\n",
    ),
    ("a tab behind it", "Transfer-Encoding: chunked\t\r\n"),
    (
        "identity behind it",
        "Transfer-Encoding: chunked, identity\r\n",
    ),
    (
        "identity before it",
        "Transfer-Encoding: identity, chunked\r\n",
    ),
    ("gzip before it", "Transfer-Encoding: gzip, chunked\r\n"),
    ("chunked twice", "Transfer-Encoding: chunked, chunked\r\n"),
    ("an empty member", "Transfer-Encoding: , chunked\r\n"),
    ("quotes", "Transfer-Encoding: \"chunked\"\r\n"),
    ("a parameter", "Transfer-Encoding: chunked;q=1\r\n"),
    ("capitals", "TRANSFER-ENCODING: CHUNKED\r\n"),
    ("a folded line", "Transfer-Encoding:\r\n chunked\r\n"),
    (
        "a folded line before it",
        "X: y\r\n Transfer-Encoding: chunked\r\n",
    ),
    (
        "two of them",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    ),
    (
        "a bare LF before it",
        "X: y\nTransfer-Encoding: chunked\r\n",
    ),
    ("a bare LF behind it", "Transfer-Encoding: chunked\n"),
    (
        "a bare CR before it",
        "X: y\rTransfer-Encoding: chunked\r\n",
    ),
    ("an underscore", "Transfer_Encoding: chunked\r\n"),
    ("a NUL behind it", "Transfer-Encoding: chunked\0\r\n"),
    ("a NUL within", "Transfer-Encoding: chun\0ked\r\n"),
    ("a NUL in its name", "Transfer-\0Encoding: chunked\r\n"),
    (
        "a byte that is no ASCII",
        "Transfer-Encoding: \u{e9}chunked\r\n",
    ),
    ("an empty one", "Transfer-Encoding:\r\n"),
];

/// The length covers the hidden request, which comes behind what chunks would end
/// with.
fn length_and(line: &'static str) -> Framing {
    Framing {
        body: |message, inner| message.body([b"0\r\n\r\n", inner].concat()).seal(),
        bytes: Box::new(move |head, outer, _| {
            let length = outer.body.len();
            let head = format!(
                "{}{}{}Content-Length: {length}\r\n{line}\r\n",
                head.line, head.host, head.signature
            );
            [head.as_bytes(), &outer.body].concat()
        }),
    }
}

/// Chunks around the hidden request.
fn encoded(line: &'static str) -> Framing {
    Framing {
        body: HIDING,
        bytes: Box::new(move |head, outer, _| {
            let size = outer.body.len();
            let head = format!(
                "{}{}{}{line}\r\n{size:x}\r\n",
                head.line, head.host, head.signature
            );
            [head.as_bytes(), &outer.body, b"\r\n0\r\n\r\n"].concat()
        }),
    }
}

type Length = fn(usize) -> String;

const LENGTHS: &[(&str, Length)] = &[
    ("positive", |l| format!("Content-Length: +{l}\r\n")),
    ("negative", |l| format!("Content-Length: -{l}\r\n")),
    ("in spaces", |l| format!("Content-Length:   {l}   \r\n")),
    ("a list", |l| format!("Content-Length: {l}, {l}\r\n")),
    ("a list of two", |l| format!("Content-Length: 0, {l}\r\n")),
    ("a list with a hole", |l| {
        format!("Content-Length: {l},\r\n")
    }),
    ("there twice", |l| {
        format!("Content-Length: 0\r\nContent-Length: {l}\r\n")
    }),
    ("there twice, last none", |l| {
        format!("Content-Length: {l}\r\nContent-Length: 0\r\n")
    }),
    ("hexadecimal", |l| format!("Content-Length: 0x{l:x}\r\n")),
    ("a fraction", |l| format!("Content-Length: {l}.0\r\n")),
    ("an exponent", |l| format!("Content-Length: {l}e0\r\n")),
    ("with a zero before it", |l| {
        format!("Content-Length: 00{l}\r\n")
    }),
    ("split", |l| {
        format!("Content-Length: {} {}\r\n", l / 10, l % 10)
    }),
    ("with a NUL", |l| format!("Content-Length: {l}\0\r\n")),
    ("with a NUL before it", |l| {
        format!("Content-Length: \0{l}\r\n")
    }),
    ("with a tab before it", |l| {
        format!("Content-Length:\t{l}\r\n")
    }),
    ("with a form feed", |l| {
        format!("Content-Length: \x0c{l}\r\n")
    }),
    ("with a comment", |l| {
        format!("Content-Length: {l} (all)\r\n")
    }),
    ("over 64 bits", |l| {
        format!("Content-Length: {}\r\n", (1u128 << 64) + l as u128)
    }),
    ("empty", |_| "Content-Length:\r\n".into()),
    ("missing", |_| String::new()),
    ("in a space before the colon", |l| {
        format!("Content-Length : {l}\r\n")
    }),
    ("folded", |l| format!("Content-Length:\r\n {l}\r\n")),
    ("behind a bare LF", |l| {
        format!("X: y\nContent-Length: {l}\r\n")
    }),
    ("behind a bare CR", |l| {
        format!("X: y\rContent-Length: {l}\r\n")
    }),
    ("named by Connection", |l| {
        format!("Connection: content-length\r\nContent-Length: {l}\r\n")
    }),
    ("under another name", |l| format!("Content_Length: {l}\r\n")),
];

/// The body is the hidden request, under a length in this form.
fn length(form: Length) -> Framing {
    Framing {
        body: HIDING,
        bytes: Box::new(move |head, outer, _| {
            let length = form(outer.body.len());
            let head = format!("{}{}{}{length}\r\n", head.line, head.host, head.signature);
            [head.as_bytes(), &outer.body].concat()
        }),
    }
}

type Chunks = fn(&str, &str) -> String;

const CHUNKS: &[(&str, Chunks)] = &[
    ("an extension", |n, b| {
        format!("{n};a=b\r\n{b}\r\n0\r\n\r\n")
    }),
    ("a long extension", |n, b| {
        format!("{n};a={}\r\n{b}\r\n0\r\n\r\n", "b".repeat(20_000))
    }),
    ("an extension that ends in LF", |n, b| {
        format!("{n};\n{b}\r\n0\r\n\r\n")
    }),
    ("an extension of a bare CR", |n, b| {
        format!("{n};a\rb\r\n{b}\r\n0\r\n\r\n")
    }),
    ("a size that ends in LF", |n, b| {
        format!("{n}\n{b}\r\n0\r\n\r\n")
    }),
    ("a size that ends in CR", |n, b| {
        format!("{n}\r{b}\r\n0\r\n\r\n")
    }),
    ("a size in hexadecimal form", |n, b| {
        format!("0x{n}\r\n{b}\r\n0\r\n\r\n")
    }),
    ("a positive size", |n, b| {
        format!("+{n}\r\n{b}\r\n0\r\n\r\n")
    }),
    ("a negative size", |n, b| {
        format!("-{n}\r\n{b}\r\n0\r\n\r\n")
    }),
    ("a space before the size", |n, b| {
        format!(" {n}\r\n{b}\r\n0\r\n\r\n")
    }),
    ("a space behind the size", |n, b| {
        format!("{n} \r\n{b}\r\n0\r\n\r\n")
    }),
    ("a size over 64 bits", |n, b| {
        format!("1{n:0>16}\r\n{b}\r\n0\r\n\r\n")
    }),
    ("a very long size", |n, b| {
        format!("{}{n}\r\n{b}\r\n0\r\n\r\n", "0".repeat(10_000))
    }),
    ("a longer end than its size", |n, b| {
        format!("{n}\r\n{b}x\r\n0\r\n\r\n")
    }),
    ("an end of LF", |n, b| format!("{n}\r\n{b}\n0\r\n\r\n")),
    ("no end", |n, b| format!("{n}\r\n{b}0\r\n\r\n")),
    ("a last one of many zeros", |n, b| {
        format!("{n}\r\n{b}\r\n{}\r\n\r\n", "0".repeat(5000))
    }),
    ("an empty size", |n, b| format!("{n}\r\n{b}\r\n\r\n\r\n")),
    ("a last end of LF", |n, b| format!("{n}\r\n{b}\r\n0\n\n")),
    ("a trailer that names a length", |n, b| {
        format!("{n}\r\n{b}\r\n0\r\nContent-Length: 5\r\n\r\n")
    }),
    ("a trailer that names an encoding", |n, b| {
        format!("{n}\r\n{b}\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n")
    }),
    ("a trailer that names another id", |n, b| {
        format!("{n}\r\n{b}\r\n0\r\nsvix-id: another\r\n\r\n")
    }),
    ("trailers without end", |n, b| {
        format!("{n}\r\n{b}\r\n0\r\n{}\r\n", "x: y\r\n".repeat(20_000))
    }),
    ("a trailer without a colon", |n, b| {
        format!("{n}\r\n{b}\r\n0\r\nPOST /clerk HTTP/1.1\r\n\r\n")
    }),
];

/// The body in one chunk, which is the hidden request, in this form.
fn chunked(form: Chunks) -> Framing {
    Framing {
        body: HIDING,
        bytes: Box::new(move |head, outer, _| {
            let body = std::str::from_utf8(&outer.body).unwrap();
            let chunks = form(&format!("{:x}", body.len()), body);
            let head = format!(
                "{}{}{}Transfer-Encoding: chunked\r\n\r\n{chunks}",
                head.line, head.host, head.signature
            );
            head.into_bytes()
        }),
    }
}

type Change = fn(Head, usize) -> String;

const HEADS: &[(&str, Change)] = &[
    ("only line feeds", |h, l| whole(h, l).replace("\r\n", "\n")),
    ("only carriage returns", |h, l| {
        whole(h, l).replace("\r\n", "\r")
    }),
    ("an end of LF CR LF", |h, l| {
        whole(h, l).replace("\r\n\r\n", "\n\r\n")
    }),
    ("a folded signature", |h, l| {
        whole(h, l).replace("svix-signature: ", "svix-signature:\r\n ")
    }),
    ("a NUL in an id", |h, l| {
        whole(h, l).replace("svix-id: ", "svix-id: \0")
    }),
    ("a line without a colon", |h, l| {
        whole(h, l).replace("Host:", "nonsense\r\nHost:")
    }),
    ("a name of nothing", |h, l| {
        whole(h, l).replace("Host:", ": x\r\nHost:")
    }),
    ("two hosts", |h, l| {
        whole(h, l).replace("Host:", "Host: other\r\nHost:")
    }),
    ("no host", |h, l| {
        whole(
            Head {
                host: String::new(),
                ..h
            },
            l,
        )
    }),
    ("an absolute form", |h, l| {
        whole(h, l).replace("/clerk", "http://hooks.example/clerk")
    }),
    ("an absolute form of another host", |h, l| {
        whole(h, l).replace("/clerk", "http://other.example/clerk")
    }),
    ("another path", |h, l| {
        whole(h, l).replace("/clerk", "/unknown")
    }),
    ("a path with dots", |h, l| {
        whole(h, l).replace("/clerk", "/x/../clerk")
    }),
    ("a path with two slashes", |h, l| {
        whole(h, l).replace("/clerk", "//clerk")
    }),
    ("a fragment", |h, l| {
        whole(h, l).replace("/clerk", "/clerk#x")
    }),
    ("a space in its path", |h, l| {
        whole(h, l).replace("/clerk", "/clerk x")
    }),
    ("two spaces", |h, l| whole(h, l).replace("POST ", "POST  ")),
    ("a tab in its line", |h, l| {
        whole(h, l).replace("POST ", "POST\t")
    }),
    ("an older version", |h, l| {
        whole(h, l).replace("HTTP/1.1", "HTTP/1.0")
    }),
    ("an unknown version", |h, l| {
        whole(h, l).replace("HTTP/1.1", "HTTP/1.9")
    }),
    ("no version", |h, l| whole(h, l).replace(" HTTP/1.1", "")),
    ("empty lines before it", |h, l| {
        format!("\r\n\r\n{}", whole(h, l))
    }),
    ("another method", |h, l| whole(h, l).replace("POST", "GET")),
    ("a method in small letters", |h, l| {
        whole(h, l).replace("POST", "post")
    }),
    ("CONNECT", |h, l| {
        whole(h, l).replace("POST /clerk", "CONNECT a:80")
    }),
    ("an upgrade", |h, l| {
        whole(h, l).replace("Host:", "Connection: upgrade\r\nUpgrade: h2c\r\nHost:")
    }),
    ("a hope to go on", |h, l| {
        whole(h, l).replace("Host:", "Expect: 100-continue\r\nHost:")
    }),
    ("another hope", |h, l| {
        whole(h, l).replace("Host:", "Expect: x\r\nHost:")
    }),
    ("a forged signature", |h, l| {
        whole(h, l).replace("v1,", "v1,AAAA")
    }),
    ("no signature", |h, l| {
        whole(
            Head {
                signature: String::new(),
                ..h
            },
            l,
        )
    }),
];

fn whole(head: Head, length: usize) -> String {
    let Head {
        line,
        host,
        signature,
    } = head;
    format!("{line}{host}{signature}Content-Length: {length}\r\n\r\n")
}

/// The body is the hidden request, behind a head that was changed.
fn head(change: Change) -> Framing {
    Framing {
        body: HIDING,
        bytes: Box::new(move |head, outer, _| {
            let head = change(head, outer.body.len());
            [head.as_bytes(), &outer.body].concat()
        }),
    }
}

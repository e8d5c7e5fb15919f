use std::mem::MaybeUninit;
use std::ops::Range;

use httparse::{Header, Status};
use smallvec::SmallVec;

/// What stands at the beginning of what was read.
pub(super) enum Head {
    /// A usual request.
    Usual(Usual),
    /// The beginning of a head.
    Partial,
    /// Something else.
    Other,
}

/// Where the parts of a usual request are in the text that it begins.
pub(super) struct Usual {
    /// How long the head is (bytes).
    pub(super) length: usize,
    /// How long the body behind it is (bytes).
    pub(super) body: u64,
    /// The target.
    pub(super) target: Place,
    /// The names and values of the headers.
    pub(super) headers: SmallVec<[(Place, Place); 16]>,
}

/// Where something is in a head, which is never long.
#[derive(Clone, Copy)]
pub(super) struct Place {
    start: u16,
    length: u16,
}

/// The most headers of a usual request.
const HEADERS: usize = 32;

/// The longest head of one (bytes).
const LONGEST: usize = 8 * 1024;

impl Head {
    /// Looks at what was read.
    pub(super) fn read(text: &[u8]) -> Self {
        let mut space = [MaybeUninit::uninit(); HEADERS];
        let mut head = httparse::Request::new(&mut []);
        let length = match head.parse_with_uninit_headers(text, &mut space) {
            Ok(Status::Complete(length)) if length <= LONGEST => length,
            Ok(Status::Complete(_)) => return Head::Other,
            // Each read would double what is kept of it.
            Ok(Status::Partial) if text.len() <= LONGEST => return Head::Partial,
            Ok(Status::Partial) | Err(_) => return Head::Other,
        };
        let (Some("POST"), Some(1), Some(target)) = (head.method, head.version, head.path) else {
            return Head::Other;
        };
        let Some(body) = body_length(head.headers).filter(|_| is_usual(target)) else {
            return Head::Other;
        };
        // All of it lies in the first `length` bytes of `text`.
        let place = |part: &[u8]| Place {
            start: (part.as_ptr() as usize - text.as_ptr() as usize) as u16,
            length: part.len() as u16,
        };
        let headers = head.headers.iter();
        Head::Usual(Usual {
            length,
            body,
            target: place(target.as_bytes()),
            headers: headers
                .map(|header| (place(header.name.as_bytes()), place(header.value)))
                .collect(),
        })
    }
}

impl From<Place> for Range<usize> {
    fn from(place: Place) -> Self {
        let start = usize::from(place.start);
        start..start + usize::from(place.length)
    }
}

/// Whether a target is a path, perhaps with a query, of characters that need no
/// second look (RFC 3986 §3.3, §3.4).
fn is_usual(target: &str) -> bool {
    target.starts_with('/')
        && target
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"/-._~?&=%+@:,;!$'()*".contains(&byte))
}

/// How long the body is of a request with these headers, if they are those of a
/// usual one: its length stands there once, and nothing is said of how it is sent or
/// of what is to become of the connection.
fn body_length(headers: &[Header<'_>]) -> Option<u64> {
    let mut length = None;
    for header in headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        match header.name.len() {
            14 if is("content-length") && length.is_some() => return None,
            14 if is("content-length") => length = Some(number(header.value)?),
            10 if is("connection") && !header.value.eq_ignore_ascii_case(b"keep-alive") => {
                return None;
            }
            17 if is("transfer-encoding") => return None,
            6 if is("expect") => return None,
            7 if is("upgrade") => return None,
            _ => {}
        }
    }
    length
}

/// Digits and nothing else, few enough to be a number.
fn number(text: &[u8]) -> Option<u64> {
    if !(1..=18).contains(&text.len()) {
        return None;
    }
    text.iter().try_fold(0, |number: u64, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        Some(number * 10 + digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A POST with this target and these lines, which is told to be.
    fn read(target: &str, lines: &str) -> Head {
        Head::read(format!("POST {target} HTTP/1.1\r\n{lines}\r\nbody").as_bytes())
    }

    fn is_usual(lines: &str) -> bool {
        matches!(read("/", lines), Head::Usual(_))
    }

    fn is_other(text: &str) -> bool {
        matches!(Head::read(text.as_bytes()), Head::Other)
    }

    #[test]
    fn a_usual_head_is_told_with_the_places_of_its_parts() {
        let text = "\r\nPOST /a?b HTTP/1.1\r\nHost: x\r\nContent-LENGTH: 4\r\nempty: \r\n\r\nbody";
        let Head::Usual(head) = Head::read(text.as_bytes()) else {
            panic!("it is usual");
        };
        assert_eq!((&text[head.length..], head.body), ("body", 4));
        assert_eq!(&text[Range::from(head.target)], "/a?b");
        let part = |place| &text[Range::from(place)];
        let headers = head
            .headers
            .iter()
            .map(|&(name, value)| (part(name), part(value)));
        let headers: Vec<_> = headers.collect();
        assert_eq!(
            headers,
            [("Host", "x"), ("Content-LENGTH", "4"), ("empty", "")]
        );
    }

    #[test]
    fn every_beginning_of_a_head_is_partial() {
        let text = "POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n";
        for end in 0..text.len() {
            assert!(
                matches!(Head::read(&text.as_bytes()[..end]), Head::Partial),
                "{end}"
            );
        }
    }

    #[test]
    fn other_methods_and_versions_are_left_to_hyper() {
        let rest = "content-length: 0\r\n\r\n";
        for line in [
            "GET / HTTP/1.1",
            "PUT / HTTP/1.1",
            "post / HTTP/1.1",
            "POST / HTTP/1.0",
            "POST / HTTP/2.0",
            "POST  / HTTP/1.1",
            "POST / x HTTP/1.1",
            "POST /",
        ] {
            assert!(is_other(&format!("{line}\r\n{rest}")), "{line}");
        }
    }

    #[test]
    fn a_target_of_odd_characters_is_left_to_hyper() {
        for target in [
            "/",
            "/a/b-c_d.e~",
            "/a?b=c&d=%20+@:,;!$'()*",
            "//a",
            "/../a",
        ] {
            assert!(
                matches!(read(target, "content-length: 0\r\n"), Head::Usual(_)),
                "{target}"
            );
        }
        for target in [
            "*",
            "a",
            "?a",
            "http://h/a",
            "h:80",
            "/a#b",
            "/a\\b",
            "/a\"b",
            "/a{b}",
            "/a|b",
            "/a^b",
            "/a`b",
            "/a<b",
            "/a[b]",
            "/\u{e9}",
        ] {
            assert!(
                matches!(read(target, "content-length: 0\r\n"), Head::Other),
                "{target}"
            );
        }
    }

    #[test]
    fn a_length_is_digits_that_stand_there_once() {
        for (value, length) in [
            ("0", 0),
            ("5", 5),
            (" 5 ", 5),
            ("\t5", 5),
            ("0005", 5),
            ("999999999999999999", 999_999_999_999_999_999),
        ] {
            let Head::Usual(head) = read("/", &format!("content-length:{value}\r\n")) else {
                panic!("{value:?} is usual");
            };
            assert_eq!(head.body, length);
        }
        for value in [
            "",
            "+5",
            "-5",
            "0x5",
            "5.0",
            "5,5",
            "5 5",
            "5\u{660}",
            "1000000000000000000",
        ] {
            assert!(
                !is_usual(&format!("content-length:{value}\r\n")),
                "{value:?}"
            );
        }
        assert!(!is_usual(""), "none");
        assert!(!is_usual("content-length: 5\r\nContent-Length: 5\r\n"));
    }

    #[test]
    fn whatever_asks_something_of_the_connection_is_left_to_hyper() {
        for line in [
            "Connection: Keep-Alive",
            "keep-alive: 5",
            "te: trailers",
            "x: chunked",
        ] {
            assert!(
                is_usual(&format!("content-length: 5\r\n{line}\r\n")),
                "{line}"
            );
        }
        for line in [
            "connection: close",
            "connection: keep-alive, x-a",
            "connection: upgrade",
            "connection:",
            "Transfer-Encoding: chunked",
            "transfer-encoding: identity",
            "transfer-encoding:",
            "EXPECT: 100-continue",
            "expect:",
            "Upgrade: h2c",
            "upgrade:",
        ] {
            assert!(
                !is_usual(&format!("content-length: 5\r\n{line}\r\n")),
                "{line}"
            );
            assert!(
                !is_usual(&format!("{line}\r\ncontent-length: 5\r\n")),
                "{line}"
            );
        }
    }

    #[test]
    fn lines_that_are_no_headers_are_left_to_hyper() {
        for line in [
            "x : y",
            " x: y",
            "x: y\r\n z",
            "x",
            ": y",
            "x: \0",
            "x: \x7f",
            "x\u{e9}: y",
            "x: y\rz",
        ] {
            assert!(
                !is_usual(&format!("content-length: 5\r\n{line}\r\n")),
                "{line:?}"
            );
        }
    }

    #[test]
    fn no_head_is_read_here_that_is_long_whole_or_not() {
        let lines = |length: usize| format!("content-length: 5\r\nx: {}\r\n", "x".repeat(length));
        let around = lines(0).len() + "POST / HTTP/1.1\r\n\r\n".len();
        assert!(is_usual(&lines(LONGEST - around)));
        assert!(!is_usual(&lines(LONGEST - around + 1)));
        let half = format!("POST / HTTP/1.1\r\nx: {}", "x".repeat(LONGEST));
        assert!(matches!(
            Head::read(&half.as_bytes()[..LONGEST]),
            Head::Partial
        ));
        assert!(
            is_other(&half),
            "it would be kept, and read anew with each piece"
        );
        assert!(is_usual(&format!(
            "content-length: 5\r\n{}",
            "a: b\r\n".repeat(HEADERS - 1)
        )));
        assert!(!is_usual(&format!(
            "content-length: 5\r\n{}",
            "a: b\r\n".repeat(HEADERS)
        )));
    }
}

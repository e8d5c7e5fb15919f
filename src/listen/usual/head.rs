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
            Ok(Status::Partial) => return Head::Partial,
            Err(_) => return Head::Other,
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

use std::mem::MaybeUninit;

use bytes::{Buf as _, BytesMut};
use http::{StatusCode, header};
use httparse::{Header, ParserConfig, Status};

/// The head of an answer: what a delivery wants to know of it, and how its rest
/// is told apart from the next answer (RFC 9112 §6.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    /// What `Retry-After` says, if it is text.
    pub(super) retry_after: Option<String>,
    /// What is still to come of its body.
    pub(super) rest: Rest,
    /// Whether the connection may be used again after it.
    pub(super) keeps: bool,
}

/// What is still to come of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// So much (bytes).
    Length(u64),
    /// Chunks.
    Chunks(Chunk),
    /// All until the connection is closed.
    Close,
}

/// Where in a chunked body one is (RFC 9112 §7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// Before the size of the next.
    Size,
    /// In its data, of which so much is left with the end of line (bytes).
    Data(u64),
    /// In the lines after the last.
    Trailers,
}

/// Headers of an answer; more are not HTTP any more.
const HEADERS: usize = 128;

/// The longest line between two chunks (bytes).
const LINE: usize = 4096;

impl Reply {
    /// Takes the head of an answer off `read`; `None` while it is not whole.
    /// Interim answers are passed over, but for a change of protocol, which is an
    /// answer that nobody asked for.
    ///
    /// # Errors
    /// What is wrong with it, when it is not HTTP/1.
    pub(super) fn take(read: &mut BytesMut) -> Result<Option<Self>, String> {
        loop {
            let Some((length, reply)) = Self::parse(read)? else {
                return Ok(None);
            };
            read.advance(length);
            let code = reply.status;
            if !code.is_informational() || code == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(Some(reply));
            }
        }
    }

    fn parse(read: &[u8]) -> Result<Option<(usize, Self)>, String> {
        let mut headers = [const { MaybeUninit::uninit() }; HEADERS];
        let mut response = httparse::Response::new(&mut []);
        let parsed = ParserConfig::default()
            .parse_response_with_uninit_headers(&mut response, read, &mut headers)
            .map_err(|error| format!("its answer is not HTTP/1: {error}"))?;
        let Status::Complete(length) = parsed else {
            return Ok(None);
        };
        let code = response.code.unwrap_or_default();
        let status = StatusCode::from_u16(code)
            .map_err(|_| format!("its answer has no status, but {code}"))?;
        let mut reply = Self {
            status,
            retry_after: None,
            rest: Rest::Close,
            keeps: response.version == Some(1),
        };
        let framing = reply.read(response.headers)?;
        let empty = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        reply.rest = match (framing.coded, framing.length) {
            // Whatever its headers say.
            _ if empty || status.is_informational() => Rest::Length(0),
            (Some(true), None) => Rest::Chunks(Chunk::Size),
            (None, Some(length)) => Rest::Length(length),
            // Where both are there, neither is to be believed.
            _ => Rest::Close,
        };
        reply.keeps &= reply.rest != Rest::Close && status != StatusCode::SWITCHING_PROTOCOLS;
        Ok(Some((length, reply)))
    }

    fn read(&mut self, headers: &[Header<'_>]) -> Result<Framing, String> {
        let mut framing = Framing::default();
        for Header { name, value } in headers {
            let is = |known: &header::HeaderName| name.eq_ignore_ascii_case(known.as_str());
            if is(&header::CONTENT_LENGTH) {
                let length = length(value).ok_or("its answer has a bad content-length")?;
                if framing.length.is_some_and(|before| before != length) {
                    return Err("its answer has two content-lengths".into());
                }
                framing.length = Some(length);
            } else if is(&header::TRANSFER_ENCODING) {
                let last = value
                    .rsplit(|&byte| byte == b',')
                    .next()
                    .unwrap_or_default();
                framing.coded = Some(last.trim_ascii().eq_ignore_ascii_case(b"chunked"));
            } else if is(&header::CONNECTION) {
                for token in value.split(|&byte| byte == b',') {
                    let token = token.trim_ascii();
                    if token.eq_ignore_ascii_case(b"close") {
                        self.keeps = false;
                        // Whatever else is said.
                        framing.closes = true;
                    } else if token.eq_ignore_ascii_case(b"keep-alive") {
                        self.keeps = !framing.closes;
                    }
                }
            } else if is(&header::RETRY_AFTER) {
                self.retry_after = str::from_utf8(value).ok().map(str::to_owned);
            }
        }
        Ok(framing)
    }
}

#[derive(Default)]
struct Framing {
    length: Option<u64>,
    /// Whether the last transfer coding is `chunked`, if there is any.
    coded: Option<bool>,
    closes: bool,
}

/// Digits and nothing else; a list of the same length repeated is one (RFC 9110 §8.6).
fn length(value: &[u8]) -> Option<u64> {
    let mut lengths = value.split(|&byte| byte == b',').map(|item| {
        let digits = str::from_utf8(item.trim_ascii()).ok()?;
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse().ok())?
    });
    let first = lengths.next()??;
    lengths.all(|other| other == Some(first)).then_some(first)
}

/// How far a body has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// Its end is there.
    Whole,
    /// There is more to come.
    More,
    /// It is not HTTP.
    Broken,
}

impl Rest {
    /// Takes what belongs to the body off `read`.
    pub(super) fn skip(&mut self, read: &mut BytesMut) -> Came {
        match self {
            Rest::Length(left) => {
                skip(left, read);
                if *left == 0 { Came::Whole } else { Came::More }
            }
            Rest::Chunks(chunk) => chunk.skip(read),
            Rest::Close => {
                read.clear();
                Came::More
            }
        }
    }
}

impl Chunk {
    fn skip(&mut self, read: &mut BytesMut) -> Came {
        loop {
            match self {
                Chunk::Size => match httparse::parse_chunk_size(read) {
                    Ok(Status::Complete((line, 0))) => {
                        read.advance(line);
                        *self = Chunk::Trailers;
                    }
                    Ok(Status::Complete((line, size))) => {
                        read.advance(line);
                        *self = Chunk::Data(size.saturating_add(2));
                    }
                    Ok(Status::Partial) if read.len() <= LINE => return Came::More,
                    Ok(Status::Partial) | Err(_) => return Came::Broken,
                },
                Chunk::Data(left) => {
                    skip(left, read);
                    if *left > 0 {
                        return Came::More;
                    }
                    *self = Chunk::Size;
                }
                Chunk::Trailers => {
                    let Some(end) = read.windows(2).position(|pair| pair == b"\r\n") else {
                        return if read.len() <= LINE {
                            Came::More
                        } else {
                            Came::Broken
                        };
                    };
                    read.advance(end + 2);
                    if end == 0 {
                        return Came::Whole;
                    }
                }
            }
        }
    }
}

fn skip(left: &mut u64, read: &mut BytesMut) {
    let here = usize::try_from(*left).map_or(read.len(), |left| left.min(read.len()));
    read.advance(here);
    *left -= here as u64;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The whole of an answer, and what is behind its head by what it says.
    fn head(text: &str) -> Result<Option<Reply>, String> {
        Reply::take(&mut BytesMut::from(text))
    }

    fn framed(headers: &str) -> (Rest, bool) {
        let reply = head(&format!("HTTP/1.1 200 OK\r\n{headers}\r\n")).unwrap();
        let reply = reply.unwrap();
        (reply.rest, reply.keeps)
    }

    #[test]
    fn an_answer_ends_where_its_head_says() {
        let chunks = || Rest::Chunks(Chunk::Size);
        for (headers, rest, keeps) in [
            ("", Rest::Close, false),
            ("content-length: 5\r\n", Rest::Length(5), true),
            (
                "Content-Length: 5, 5\r\ncontent-length:5\r\n",
                Rest::Length(5),
                true,
            ),
            ("transfer-encoding: chunked\r\n", chunks(), true),
            ("transfer-encoding: gzip, Chunked\r\n", chunks(), true),
            ("transfer-encoding: chunked, gzip\r\n", Rest::Close, false),
            (
                "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
                Rest::Close,
                false,
            ),
            (
                "content-length: 5\r\nconnection: x, Close\r\n",
                Rest::Length(5),
                false,
            ),
            (
                "content-length: 5\r\nconnection: close, keep-alive\r\n",
                Rest::Length(5),
                false,
            ),
        ] {
            assert_eq!(framed(headers), (rest, keeps), "{headers}");
        }
    }

    #[test]
    fn some_answers_have_no_body_whatever_they_say() {
        for line in ["204 No Content", "304 Not Modified"] {
            let reply = head(&format!("HTTP/1.1 {line}\r\ncontent-length: 5\r\n\r\n"));
            let reply = reply.unwrap().unwrap();
            assert_eq!((reply.rest, reply.keeps), (Rest::Length(0), true), "{line}");
        }
    }

    #[test]
    fn before_http_1_1_a_connection_is_kept_only_where_that_is_said() {
        for (headers, keeps) in [("", false), ("connection: Keep-Alive\r\n", true)] {
            let text = format!("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n{headers}\r\n");
            assert_eq!(head(&text).unwrap().unwrap().keeps, keeps, "{headers}");
        }
    }

    #[test]
    fn what_is_not_http_is_told() {
        for text in [
            "nonsense\r\n\r\n",
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.1 099 Low\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nbad name: 1\r\n\r\n",
        ] {
            assert!(head(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_retry_after_says_is_kept() {
        let reply = head("HTTP/1.1 503 Away\r\nRetry-After: 7\r\n\r\n");
        assert_eq!(reply.unwrap().unwrap().retry_after.as_deref(), Some("7"));
    }

    /// A body, and how it is written.
    fn bodies() -> impl Strategy<Value = (Rest, Vec<u8>)> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
        let counted = bytes().prop_map(|body| (Rest::Length(body.len() as u64), body));
        let trailer = proptest::option::of("[a-z]{1,9}: [a-z]{0,9}");
        let chunks = (proptest::collection::vec(bytes(), 0..5), trailer);
        let chunked = chunks.prop_map(|(chunks, trailer)| {
            let mut text = Vec::new();
            for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
                text.extend(format!("{:x};x=y\r\n", chunk.len()).bytes());
                text.extend(chunk);
                text.extend(b"\r\n");
            }
            text.extend(b"0\r\n");
            if let Some(trailer) = trailer {
                text.extend(format!("{trailer}\r\n").bytes());
            }
            text.extend(b"\r\n");
            (Rest::Chunks(Chunk::Size), text)
        });
        prop_oneof![counted, chunked]
    }

    proptest! {
        #[test]
        fn however_it_comes_in_pieces_what_follows_is_not_touched(
            (rest, body) in bodies(),
            cuts in proptest::collection::vec(1..7_usize, 1..60),
        ) {
            let framing = match rest {
                Rest::Length(length) => format!("content-length: {length}"),
                _ => "transfer-encoding: chunked".to_owned(),
            };
            let head = format!(
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\n{framing}\r\n\r\n"
            );
            let answer = [head.as_bytes(), &body].concat();
            let mut read = BytesMut::new();
            let (mut reply, mut whole, mut came) = (None, false, 0);
            for cut in cuts.iter().cycle() {
                let piece = &answer[came..(came + cut).min(answer.len())];
                came += piece.len();
                read.extend_from_slice(piece);
                if came == answer.len() {
                    read.extend_from_slice(b"HTTP/1.1 next");
                }
                if reply.is_none() {
                    reply = Reply::take(&mut read).unwrap();
                }
                if let Some(Reply { rest, status, keeps, .. }) = &mut reply {
                    prop_assert_eq!((status.as_u16(), *keeps), (202, true));
                    prop_assert!(!whole || came == answer.len());
                    match rest.skip(&mut read) {
                        Came::Whole => whole = true,
                        Came::More => {}
                        Came::Broken => prop_assert!(false, "it is whole"),
                    }
                }
                if came == answer.len() {
                    break;
                }
            }
            prop_assert!(whole);
            prop_assert_eq!(&read[..], b"HTTP/1.1 next");
        }

        #[test]
        fn whatever_comes_it_ends(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut read = BytesMut::from(&bytes[..]);
            let _ = Reply::take(&mut read);
            let mut read = BytesMut::from(&bytes[..]);
            let _ = Rest::Chunks(Chunk::Size).skip(&mut read);
        }
    }

    #[test]
    fn chunks_that_are_none_are_told_and_so_is_a_line_without_end() {
        let long = "1;".to_owned() + &"x".repeat(LINE);
        let trailer = "0\r\n".to_owned() + &"x".repeat(LINE + 1);
        for text in ["x\r\n", "fffffffffffffffff\r\n", &long, &trailer] {
            let mut read = BytesMut::from(text);
            let came = Rest::Chunks(Chunk::Size).skip(&mut read);
            assert_eq!(came, Came::Broken, "{text:.20}");
        }
    }
}

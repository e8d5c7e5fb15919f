use std::ops::Range;

use bytes::Bytes;
use http::HeaderMap;
use smallvec::SmallVec;

/// The headers of a request, as sent, in their order. Names are compared without
/// regard to case.
///
/// It is one block of text and the places of the names and values in it: no value
/// has an owner of its own, and nothing is hashed, because the few names that are
/// asked for are found sooner by looking at each. Cloning shares the text.
///
/// It has no `Debug`: a header may be a secret of the sender's.
#[derive(Clone, Default)]
pub struct Headers {
    text: Bytes,
    /// Apart, because headers are handed on from stage to stage.
    fields: Vec<Field>,
}

/// As many headers as senders, and a proxy before us, seldom go beyond.
const USUAL: usize = 16;

/// Room for the text of usual headers, so that it seldom grows (bytes).
const ROOM: usize = 1024;

#[derive(Clone, Copy)]
struct Field {
    name: Part,
    value: Part,
}

/// A piece of the text, inside it. No head, and no table of a message, comes near
/// four gigabytes.
#[derive(Clone, Copy)]
struct Part {
    start: u32,
    length: u32,
}

impl Headers {
    /// Headers that stand in `text`, each with the places of its name and its value,
    /// which whoever read it knows to be of their form ([`is_header_name`],
    /// [`is_header_value`]). A place outside of the text is none.
    pub fn of(text: Bytes, fields: impl IntoIterator<Item = (Range<usize>, Range<usize>)>) -> Self {
        let fields = fields.into_iter().filter_map(|(name, value)| {
            let field = (Part::of(name, &text)).zip(Part::of(value, &text));
            debug_assert!(
                field.is_some_and(|(name, value)| {
                    is_header_name(&text[name.range()]) && is_header_value(&text[value.range()])
                }),
                "a header that is none"
            );
            field.map(|(name, value)| Field { name, value })
        });
        let mut all = Vec::with_capacity(USUAL);
        all.extend(fields);
        Self { text, fields: all }
    }

    /// The first value of that name.
    pub fn get(&self, name: &str) -> Option<HeaderText<'_>> {
        self.all(name).next()
    }

    /// Whether there is one of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The values of that name, in their order.
    pub fn all<'h>(&'h self, name: &str) -> impl DoubleEndedIterator<Item = HeaderText<'h>> {
        let (text, name) = (&self.text, name.as_bytes());
        self.fields
            .iter()
            // Most names differ in their length already.
            .filter(move |field| field.name.length as usize == name.len())
            .filter(move |field| text[field.name.range()].eq_ignore_ascii_case(name))
            .map(move |field| field.value.of_text(text))
    }

    /// Looks for several names at once, in one pass. Inlined into who asks, whose
    /// names are constants: a field that is none of them then costs a comparison of
    /// lengths for each, and no loop.
    #[inline(always)]
    pub fn find<const COUNT: usize>(&self, names: [&str; COUNT]) -> [Option<Found<'_>>; COUNT] {
        let mut found: [Option<Found<'_>>; COUNT] = [None; COUNT];
        for field in &self.fields {
            for (name, found) in names.iter().zip(&mut found) {
                if field.name.length as usize != name.len()
                    || !self.text[field.name.range()].eq_ignore_ascii_case(name.as_bytes())
                {
                    continue;
                }
                match found {
                    Some(found) => found.more = true,
                    None => {
                        let first = field.value.of_text(&self.text);
                        *found = Some(Found { first, more: false });
                    }
                }
            }
        }
        found
    }

    /// All of them, each with its name as it was written.
    pub fn iter(&self) -> impl Iterator<Item = (&str, HeaderText<'_>)> {
        self.fields.iter().map(|field| {
            // A name is ASCII.
            let name = std::str::from_utf8(&self.text[field.name.range()]);
            (name.unwrap_or_default(), field.value.of_text(&self.text))
        })
    }
}

/// Writes names and values into one text of their own.
impl<Name: AsRef<str>, Value: AsRef<[u8]>> FromIterator<(Name, Value)> for Headers {
    fn from_iter<Pairs: IntoIterator<Item = (Name, Value)>>(pairs: Pairs) -> Self {
        let mut text = Vec::with_capacity(ROOM);
        let mut places: SmallVec<[_; USUAL]> = SmallVec::new();
        for (name, value) in pairs {
            let start = text.len();
            text.extend_from_slice(name.as_ref().as_bytes());
            let middle = text.len();
            text.extend_from_slice(value.as_ref());
            places.push((start..middle, middle..text.len()));
        }
        Self::of(text.into(), places)
    }
}

/// Names come out in lower case, and those that are the same beside each other.
impl From<&HeaderMap> for Headers {
    fn from(map: &HeaderMap) -> Self {
        map.iter().collect()
    }
}

impl Part {
    fn of(range: Range<usize>, text: &[u8]) -> Option<Self> {
        let length = text.get(range.clone())?.len();
        Some(Self {
            start: range.start.try_into().ok()?,
            length: length.try_into().ok()?,
        })
    }

    fn range(self) -> Range<usize> {
        let start = self.start as usize;
        start..start + self.length as usize
    }

    fn of_text(self, text: &Bytes) -> HeaderText<'_> {
        HeaderText { text, part: self }
    }
}

/// What there is of a name.
#[derive(Clone, Copy)]
pub struct Found<'a> {
    /// Its first value.
    pub first: HeaderText<'a>,
    /// Whether there are others.
    pub more: bool,
}

/// The value of a header: bytes without control characters but the tabulator, which
/// need not be UTF-8.
#[derive(Clone, Copy)]
pub struct HeaderText<'a> {
    text: &'a Bytes,
    part: Part,
}

impl<'a> HeaderText<'a> {
    /// Its bytes.
    pub fn as_bytes(self) -> &'a [u8] {
        &self.text[self.part.range()]
    }

    /// It as a text, where it is one of printable ASCII and tabulators.
    pub fn to_str(self) -> Option<&'a str> {
        let bytes = self.as_bytes();
        let printable = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t');
        let text = bytes.iter().all(printable).then_some(bytes)?;
        std::str::from_utf8(text).ok()
    }

    /// Its bytes, for who keeps them. That keeps all headers in memory, and whatever
    /// they were read together with: what outlives the event is to copy them.
    pub fn share(self) -> Bytes {
        self.text.slice(self.part.range())
    }
}

/// Writes a header as a line of a head (RFC 9112 §5). Name and value are of their form.
#[inline]
pub fn write_header(name: &str, value: &[u8], text: &mut Vec<u8>) {
    // Once for all four pieces.
    text.reserve(name.len() + value.len() + 4);
    text.extend_from_slice(name.as_bytes());
    text.extend_from_slice(b": ");
    text.extend_from_slice(value);
    text.extend_from_slice(b"\r\n");
}

/// Whether that is the name of a header: a token (RFC 9110 §5.6.2).
pub fn is_header_name(name: &[u8]) -> bool {
    const MARKS: &[u8] = b"!#$%&'*+-.^_`|~";
    !name.is_empty()
        && name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || MARKS.contains(byte))
}

/// Whether that can be the value of a header (RFC 9110 §5.5): no control character
/// but the tabulator. What is no ASCII may be.
pub fn is_header_value(value: &[u8]) -> bool {
    value
        .iter()
        .all(|&byte| byte == b'\t' || !byte.is_ascii_control())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    /// Names in several spellings, among them some of one length and some that begin
    /// with another.
    const NAMES: [&str; 12] = [
        "svix-id",
        "Svix-Id",
        "SVIX-ID",
        "svix-ie",
        "svix-id-2",
        "webhook-id",
        "Connection",
        "user-agent",
        "x-a",
        "x-b",
        "x-^",
        "x-~",
    ];

    fn any_value() -> impl Strategy<Value = Vec<u8>> {
        // What HTTP carries: obs-text too, and nothing at all.
        let byte = prop_oneof![Just(b'\t'), b' '..=b'~', 0x80..=0xff_u8];
        prop_oneof![Just(Vec::new()), prop::collection::vec(byte, 0..20)]
    }

    /// As a head is written, and where everything stands in it.
    fn read(pairs: &[(&str, Vec<u8>)]) -> Headers {
        let mut text = b"POST / HTTP/1.1\r\n".to_vec();
        let mut places = Vec::new();
        for (name, value) in pairs {
            let start = text.len();
            text.extend_from_slice(name.as_bytes());
            let end = text.len();
            text.extend_from_slice(b":  ");
            let begun = text.len();
            text.extend_from_slice(value);
            places.push((start..end, begun..text.len()));
            text.extend_from_slice(b"\r\n");
        }
        Headers::of(text.into(), places)
    }

    fn values<'a>(values: impl Iterator<Item = HeaderText<'a>>) -> Vec<&'a [u8]> {
        values.map(HeaderText::as_bytes).collect()
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_a_map_of_headers_finds(
            sent in prop::collection::vec((0..NAMES.len(), any_value()), 0..40),
        ) {
            let sent: Vec<_> = sent.into_iter().map(|(name, value)| (NAMES[name], value)).collect();
            let mut map = HeaderMap::new();
            for (name, value) in &sent {
                let name: HeaderName = name.parse().unwrap();
                map.append(name, HeaderValue::from_bytes(value).unwrap());
            }
            let (read, written) = (read(&sent), Headers::from(&map));
            let collected: Headers = sent.iter().map(|(name, value)| (*name, value)).collect();
            for headers in [&read, &written, &collected, &read.clone()] {
                for name in NAMES.iter().chain(&["", "svix", "host"]) {
                    let expected: Vec<_> = map.get_all(*name).iter().map(|v| v.as_bytes()).collect();
                    prop_assert_eq!(values(headers.all(name)), &expected[..]);
                    prop_assert_eq!(headers.get(name).map(HeaderText::as_bytes), expected.first().copied());
                    prop_assert_eq!(headers.contains(name), map.contains_key(*name));
                    let back: Vec<_> = expected.into_iter().rev().collect();
                    prop_assert_eq!(values(headers.all(name).rev()), back);
                }
                prop_assert_eq!(headers.iter().count(), sent.len());
            }
            let listed: Vec<_> = read.iter().map(|(name, value)| (name, value.as_bytes().to_vec())).collect();
            prop_assert_eq!(listed, sent, "in their order, as they were written");
            prop_assert!(written.iter().all(|(name, _)| name.to_lowercase() == name));
        }

        #[test]
        fn a_value_is_a_text_where_http_says_so(value in any_value()) {
            let headers = read(&[("x-a", value.clone())]);
            let told = headers.get("x-a").unwrap();
            let known = HeaderValue::from_bytes(&value).unwrap();
            prop_assert_eq!(told.to_str(), known.to_str().ok());
            prop_assert_eq!(told.share(), value);
        }

        #[test]
        fn what_may_be_a_name_or_a_value_is_what_http_takes(
            bytes in prop::collection::vec(any::<u8>(), 0..3),
        ) {
            prop_assert_eq!(is_header_name(&bytes), HeaderName::from_bytes(&bytes).is_ok());
            prop_assert_eq!(is_header_value(&bytes), HeaderValue::from_bytes(&bytes).is_ok());
        }
    }

    #[test]
    fn every_byte_is_judged_as_http_judges_it() {
        for byte in 0..=u8::MAX {
            let bytes = [b'a', byte];
            let (name, value) = (
                HeaderName::from_bytes(&bytes).is_ok(),
                HeaderValue::from_bytes(&bytes).is_ok(),
            );
            assert_eq!(is_header_name(&bytes), name, "{byte:#x} in a name");
            assert_eq!(is_header_value(&bytes), value, "{byte:#x} in a value");
        }
    }

    #[test]
    fn letters_alone_have_two_cases() {
        // `^` and `~` are as far apart as a letter and its capital.
        let headers = read(&[("x-^", b"1".to_vec())]);
        assert!(headers.contains("X-^"));
        assert!(!headers.contains("x-~"));
    }

    #[test]
    fn a_value_that_is_shared_is_not_copied() {
        let text = Bytes::from(b"svix-id: msg_1".to_vec());
        let headers = Headers::of(text.clone(), [(0..7, 9..14)]);
        let shared = headers.get("svix-id").unwrap().share();
        assert_eq!(shared, "msg_1");
        assert!(text.as_ptr_range().contains(&shared.as_ptr()));
    }
}

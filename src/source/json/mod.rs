//! Reads over one JSON text (RFC 8259) from its first byte to its last without
//! building anything.
//!
//! `serde_json` does this too, but stops at what only concerns those who want
//! the values: a number beyond `f64`, half of a surrogate pair. A body that
//! holds one of these somewhere still has a type. It also allocates for every
//! body that nests, where this does past 64 levels, and cannot look at a value
//! before it chooses how to read it. Tests hold the two against each other.
//!
//! What is near the top of a body is read byte by byte, and large values below it by
//! the block (`grammar`).

mod block;
mod grammar;
mod open;
mod scalar;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use block::words::Words;
use block::{Reader, Vectors};
use grammar::Grammar;
use open::Open;

use fearless_simd::dispatch;

/// How far a value is read byte by byte before it is read in blocks (bytes): less than
/// a block is not worth one. At most 64, so that no more can be open.
const NEAR: usize = 64;

/// The text is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotJson;

/// A string as it stands in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Text<'a> {
    /// With the quotes round it.
    quoted: &'a str,
    escaped: bool,
}

impl<'a> Text<'a> {
    /// What it says; `None` when it holds half of a surrogate pair. Copies only
    /// what holds escapes.
    pub(super) fn unescaped(self) -> Option<Cow<'a, str>> {
        match self.plain() {
            Some(text) => Some(Cow::Borrowed(text)),
            None => serde_json::from_str(self.quoted).ok().map(Cow::Owned),
        }
    }

    /// What it says, unless it holds escapes.
    pub(super) fn plain(self) -> Option<&'a str> {
        (!self.escaped).then(|| &self.quoted[1..self.quoted.len() - 1])
    }

    fn is(self, text: &str) -> bool {
        match self.plain() {
            Some(plain) => plain == text,
            None => self.unescaped().is_some_and(|mine| mine == text),
        }
    }

    /// The place of `self` among `texts`.
    pub(super) fn position<'t>(self, mut texts: impl Iterator<Item = &'t str>) -> Option<usize> {
        texts.position(|text| self.is(text))
    }
}

/// What a value begins as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    Text,
    Other,
}

/// A place in a JSON text.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Goes to the next value and tells what it begins as.
    #[inline]
    pub(super) fn kind(&mut self) -> Result<Kind, NotJson> {
        match self.look()? {
            b'{' => Ok(Kind::Object),
            b'[' => Ok(Kind::Array),
            b'"' => Ok(Kind::Text),
            _ => Ok(Kind::Other),
        }
    }

    /// Opens the object or array that begins here; whether anything is in it.
    #[inline]
    pub(super) fn open(&mut self) -> Result<bool, NotJson> {
        let close = if self.look()? == b'{' { b'}' } else { b']' };
        self.at += 1;
        let empty = self.look()? == close;
        self.at += usize::from(empty);
        Ok(!empty)
    }

    /// Goes past what stands after a value inside brackets that end with
    /// `close`; whether another value follows.
    #[inline]
    pub(super) fn more(&mut self, close: u8) -> Result<bool, NotJson> {
        let byte = self.look()?;
        self.at += 1;
        match byte {
            b',' => Ok(true),
            byte if byte == close => Ok(false),
            _ => Err(NotJson),
        }
    }

    /// Reads the name of a member, and the colon after it.
    pub(super) fn name(&mut self) -> Result<Text<'a>, NotJson> {
        if self.look()? != b'"' {
            return Err(NotJson);
        }
        let name = self.string()?;
        self.colon()?;
        Ok(name)
    }

    /// Reads the string that begins here.
    pub(super) fn string(&mut self) -> Result<Text<'a>, NotJson> {
        let start = self.at;
        let escaped = self.skip_string()?;
        Ok(Text {
            quoted: &self.text[start..self.at],
            escaped,
        })
    }

    /// Goes past one value, however deep, without recursion.
    pub(super) fn skip(&mut self) -> Result<(), NotJson> {
        self.skip_by(Reader::best())
    }

    fn skip_by(&mut self, reader: Reader) -> Result<(), NotJson> {
        let mut open = Open::default();
        let near = self.at + NEAR;
        loop {
            // At a value.
            let kind = self.kind()?;
            match kind {
                Kind::Object | Kind::Array => {
                    if self.open()? {
                        open.push(kind == Kind::Object);
                        if self.at >= near {
                            return self.finish(reader, open, true);
                        }
                        if kind == Kind::Object {
                            self.skip_name()?;
                        }
                        continue;
                    }
                }
                Kind::Text => {
                    self.skip_string()?;
                }
                Kind::Other => self.skip_scalar()?,
            }
            // Behind a value.
            loop {
                let Some(object) = open.top() else {
                    return Ok(());
                };
                if self.at >= near {
                    return self.finish(reader, open, false);
                }
                if self.more(if object { b'}' } else { b']' })? {
                    if object {
                        self.skip_name()?;
                    }
                    break;
                }
                open.pop();
            }
        }
    }

    /// Goes past the rest of what is open, from behind a value or behind the bracket
    /// that `opened` the innermost.
    #[inline(never)]
    fn finish(&mut self, reader: Reader, open: Open, opened: bool) -> Result<(), NotJson> {
        let grammar = Grammar::new(self.text.as_bytes(), open, opened);
        self.at = match reader {
            Reader::Vectors(level) => {
                dispatch!(level, simd => grammar.run(Vectors::new(simd), self.at))
            }
            Reader::Words => grammar.run(Words, self.at),
        }?;
        Ok(())
    }

    /// Makes sure that nothing but white space is left.
    pub(super) fn end(&mut self) -> Result<(), NotJson> {
        match self.look() {
            Err(NotJson) => Ok(()),
            Ok(_) => Err(NotJson),
        }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next byte that is not white space.
    #[inline]
    fn look(&mut self) -> Result<u8, NotJson> {
        while let Some(byte) = self.byte() {
            if byte > b' ' || !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Ok(byte);
            }
            self.at += 1;
        }
        Err(NotJson)
    }

    fn colon(&mut self) -> Result<(), NotJson> {
        if self.look()? != b':' {
            return Err(NotJson);
        }
        self.at += 1;
        Ok(())
    }

    #[inline]
    fn skip_name(&mut self) -> Result<(), NotJson> {
        if self.look()? != b'"' {
            return Err(NotJson);
        }
        self.skip_string()?;
        self.colon()
    }

    /// Goes past a string; whether it holds escapes.
    #[inline]
    fn skip_string(&mut self) -> Result<bool, NotJson> {
        let mut escaped = false;
        self.at += 1;
        loop {
            self.at += ordinary(&self.text.as_bytes()[self.at..]);
            match self.byte() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return Err(NotJson),
            }
        }
        self.at += 1;
        Ok(escaped)
    }

    fn escape(&mut self) -> Result<(), NotJson> {
        self.at += 1;
        let length = match self.byte() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 1,
            Some(b'u') => {
                let digits = self.text.as_bytes().get(self.at + 1..self.at + 5);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return Err(NotJson);
                }
                5
            }
            _ => return Err(NotJson),
        };
        self.at += length;
        Ok(())
    }

    /// Goes past a number or one of the three words.
    fn skip_scalar(&mut self) -> Result<(), NotJson> {
        let word: &[u8] = match self.byte() {
            Some(b't') => b"true",
            Some(b'f') => b"false",
            Some(b'n') => b"null",
            _ => return self.number(),
        };
        if !self.text.as_bytes()[self.at..].starts_with(word) {
            return Err(NotJson);
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), NotJson> {
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        if self.byte() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.byte(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.byte(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), NotJson> {
        let start = self.at;
        while self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start {
            return Err(NotJson);
        }
        Ok(())
    }
}

/// How many bytes from the start can stand in a string as they are. Eight at a
/// time: strings are most of a body.
#[inline]
fn ordinary(bytes: &[u8]) -> usize {
    const LOW: u64 = u64::from_le_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_le_bytes([0x80; 8]);
    let mut at = 0;
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        // Each sets the high bit of the first byte it looks for, and none before
        // it ("Bit Twiddling Hacks", haszero and hasless): zero after the xor,
        // or less than 0x20.
        let quote = word ^ (LOW * b'"' as u64);
        let slash = word ^ (LOW * b'\\' as u64);
        let found = (quote.wrapping_sub(LOW) & !quote)
            | (slash.wrapping_sub(LOW) & !slash)
            | (word.wrapping_sub(LOW * 0x20) & !word);
        if found & HIGH != 0 {
            return at + (found & HIGH).trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let special = |&byte: &u8| byte == b'"' || byte == b'\\' || byte < 0x20;
    let rest = &bytes[at..];
    at + rest.iter().position(special).unwrap_or(rest.len())
}

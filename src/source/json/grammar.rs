//! JSON by the block: sixty-four bytes are read at once, as words with a bit for
//! each byte, lowest first.
//!
//! Byte by byte each token waits for the one before it, which is 1.4 GB/s at most.
//! Here a block is a few hundred instructions, most of which wait for nothing, and
//! only brackets and words are gone through one by one: 1.4 to 1.6 times as fast on
//! bodies as senders send them, 3 times on numbers and short strings. Strings and
//! escapes are found as simdjson finds them ("Parsing Gigabytes of JSON per
//! Second", 2019, sections 3.1.1 and 3.1.2). simdjson then walks a list of tokens;
//! here there is none, and the grammar is held by what may stand next to what:
//!
//! - values begin where one is expected, which is behind `[` `{` `,` `:`, and there
//!   alone; only an empty pair of brackets closes there;
//! - behind `{` and the commas of objects, the next of all brackets, commas, colons
//!   and scalars is a colon, and no colon is elsewhere. So what is before a colon is
//!   a string, and strings have a colon behind them where they are names;
//! - brackets close what they opened.
//!
//! "The next" is found by an addition, whose carry runs through all that does not
//! count, into the next block if need be.

use super::NotJson;
use super::block::{Block, Machine};
use super::open::{Open, Outer};
use super::scalar::{Part, Scalars};

/// Reads the rest of what is open.
pub(super) struct Grammar<'a> {
    text: &'a [u8],
    open: Open,
    outer: Outer,
    scalars: Scalars,
    /// All bits or none: whether the next block begins inside a string.
    inside: u64,
    /// 1 when it begins behind a backslash that escapes.
    escaped: u64,
    /// All bits or none: whether it begins directly in an object.
    object: u64,
    /// Behind what a value is expected.
    expecting: Pending,
    /// Whether that was a bracket, the last time.
    opened: bool,
    /// Behind what a name is expected, and a colon.
    named: Pending,
}

/// What a block leaves to the next one, for its first byte.
#[derive(Clone, Copy, Default)]
pub(super) struct Pending(pub(super) bool);

impl Pending {
    /// The bytes right behind these.
    #[inline(always)]
    pub(super) fn behind(&mut self, these: u64) -> u64 {
        let behind = these << 1 | u64::from(self.0);
        self.0 = these >> 63 == 1;
        behind
    }

    /// The first bytes from these on that are not among `run`.
    #[inline(always)]
    pub(super) fn end(&mut self, these: u64, run: u64) -> u64 {
        let (sum, over) = these.carrying_add(run, self.0);
        self.0 = over;
        sum & !run
    }

    /// The first bytes behind these that are not among `skipped`.
    #[inline(always)]
    pub(super) fn past(&mut self, these: u64, skipped: u64) -> u64 {
        // Twice these is what is behind them; the carries run through what is
        // skipped.
        let (sum, over) = these.carrying_add(these | skipped, self.0);
        self.0 = over;
        sum & !skipped
    }
}

/// The brackets of a block.
struct Brackets {
    /// Which open something.
    open: u64,
    /// Which open an object.
    objects: u64,
    /// Which bytes stand directly in an object.
    object: u64,
    /// All bytes up to the bracket that closes the last that is open.
    read: u64,
}

impl<'a> Grammar<'a> {
    /// From behind a value, or behind the bracket that `opened` the innermost.
    pub(super) fn new(text: &'a [u8], open: Open, opened: bool) -> Self {
        let object = open.top() == Some(true);
        Self {
            text,
            object: mask(object),
            open,
            outer: Outer::default(),
            scalars: Scalars::default(),
            inside: 0,
            escaped: 0,
            expecting: Pending(opened),
            opened,
            named: Pending(opened & object),
        }
    }

    /// Goes on at this place until everything is closed; the place behind that.
    #[inline(always)]
    pub(super) fn run<M: Machine>(mut self, machine: M, mut at: usize) -> Result<usize, NotJson> {
        let (blocks, rest) = self.text.get(at..).unwrap_or_default().as_chunks();
        let mut last = [b' '; 64];
        last[..rest.len()].copy_from_slice(rest);
        self.outer.reserve(self.open);
        for number in 0..=blocks.len() {
            let bytes = blocks.get(number).unwrap_or(&last);
            if let Some(end) = self.block(machine, bytes, at)? {
                return Ok(at + end);
            }
            at += 64;
        }
        Err(NotJson)
    }

    /// Reads the block that is at this place; how much of it, when everything is
    /// closed.
    #[inline(always)]
    fn block<M: Machine>(
        &mut self,
        machine: M,
        bytes: &[u8; 64],
        at: usize,
    ) -> Result<Option<usize>, NotJson> {
        let block = machine.load(bytes);
        // A block of a long string.
        if self.inside & !self.escaped == !0 && block.special() == 0 {
            return Ok(None);
        }
        let backslashes = block.is(b'\\');
        let marks = block.is(b'"');
        let escaped = self.escaped(backslashes);
        let quotes = marks & !escaped;
        // From a quote that opens to before the one that closes.
        let inside = self.inside ^ odd(quotes);
        self.inside = mask(inside >> 63 == 1);
        let outside = !(inside | quotes);

        let commas = block.is(b',') & outside;
        let colons = block.is(b':') & outside;
        let brackets = block.is_either(b'{', b'}') & outside;
        let controls = block.up_to(0x1f);
        let mut spaces = block.is(b' ');
        if controls & outside != 0 {
            spaces |= block.is(b'\n') | block.is(b'\r') | block.is(b'\t');
        }
        spaces &= outside;
        let structure = commas | colons | brackets;
        let scalars = outside & !(structure | spaces);

        let Brackets {
            open,
            objects,
            object,
            read,
        } = self.brackets(block, brackets)?;
        let close = brackets & !open;
        let separators = commas | colons;

        let pending = self.expecting;
        let expecting = self.expecting.past(open | separators, spaces);
        let first = self.scalars.first(scalars);
        let starts = quotes & inside | open | first;
        // What closes right behind what opened it.
        let mut empty = 0;
        if close & expecting != 0 {
            let mut opened = Pending(pending.0 & self.opened);
            empty = opened.past(open, spaces) & close;
        }
        if open | separators != 0 {
            self.opened = open > separators;
        }
        let named = self
            .named
            .past(objects | commas & object, !(structure | scalars));
        let mut bad = starts & !expecting
            | (separators | close & !empty) & expecting
            | (named & !empty) ^ colons
            | controls & inside;
        let part = Part {
            block,
            scalars,
            read,
            text: self.text,
            at,
        };
        bad |= self.scalars.bad(part, first)?;
        let letters = escaped & !(marks | backslashes) & read;
        if letters != 0 {
            self.escapes(letters, at)?;
        }
        if bad & read != 0 {
            return Err(NotJson);
        }
        Ok((self.open.top().is_none()).then(|| 64 - read.leading_zeros() as usize))
    }

    /// Which bytes are escaped, by a backslash that is not escaped itself.
    #[inline(always)]
    fn escaped(&mut self, backslashes: u64) -> u64 {
        const ODD: u64 = 0xaaaa_aaaa_aaaa_aaaa;
        // Subtracting runs through the backslashes behind the first of each series:
        // what is behind an odd number of them stays set (simdjson,
        // `json_escape_scanner.h`).
        let first = backslashes & !self.escaped;
        let series = ((first << 1 | ODD).wrapping_sub(first)) ^ ODD;
        let escaped = series ^ (backslashes | self.escaped);
        self.escaped = (series & backslashes) >> 63;
        escaped
    }

    /// Goes through the brackets, and makes room for those of the next block: a call
    /// between them would cost the block its place in the registers.
    #[inline(always)]
    fn brackets<B: Block>(&mut self, block: B, brackets: u64) -> Result<Brackets, NotJson> {
        let mut found = Brackets {
            open: 0,
            objects: 0,
            object: self.object,
            read: !0,
        };
        if brackets == 0 {
            return Ok(found);
        }
        found.open = brackets & !block.has(0x04);
        let curly = block.has(0x20);
        found.objects = found.open & curly;
        let (mut open, mut object) = (self.open, self.object);
        let mut rest = brackets;
        while rest != 0 {
            let bit = rest & rest.wrapping_neg();
            rest ^= bit;
            let up_to = bit | (bit - 1);
            if found.open & bit != 0 {
                self.outer.push(&mut open, curly & bit != 0);
            } else {
                if open.top() != Some(curly & bit != 0) {
                    return Err(NotJson);
                }
                self.outer.pop(&mut open);
            }
            let Some(top) = open.top() else {
                found.read = up_to;
                self.open = open;
                return Ok(found);
            };
            object = mask(top);
            found.object = found.object & up_to | object & !up_to;
        }
        self.open = open;
        self.object = object;
        self.outer.reserve(open);
        Ok(found)
    }

    /// Whether what is escaped at these places of a block, neither quotes nor
    /// backslashes, may be.
    #[inline(always)]
    fn escapes(&self, mut these: u64, at: usize) -> Result<(), NotJson> {
        while these != 0 {
            let place = at + these.trailing_zeros() as usize;
            these &= these - 1;
            match self.text.get(place) {
                Some(b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {}
                Some(b'u') => {
                    let digits = self.text.get(place + 1..place + 5);
                    if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                        return Err(NotJson);
                    }
                }
                _ => return Err(NotJson),
            }
        }
        Ok(())
    }
}

#[inline(always)]
fn mask(set: bool) -> u64 {
    u64::from(set).wrapping_neg()
}

/// Which bits have an odd number of set ones up to and with them.
#[inline(always)]
fn odd(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}

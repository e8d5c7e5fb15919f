//! The numbers and words of a block. Numbers are held by what may stand behind
//! what, all at once: arrays of them are the densest bodies there are.

use super::NotJson;
use super::block::Block;
use super::grammar::Pending;

/// What numbers and words leave from one block to the next.
#[derive(Default)]
pub(super) struct Scalars {
    /// Of a scalar, of a number, and of its whole part.
    any: Pending,
    number: Pending,
    whole: Pending,
    /// Behind a zero that the whole part begins with.
    zero: Pending,
    /// Whether any of the following is set.
    busy: bool,
    /// The rest of a word.
    word: u64,
    minus: Pending,
    point: Pending,
    fraction: Pending,
    exponent: Pending,
    sign: Pending,
}

/// One block.
#[derive(Clone, Copy)]
pub(super) struct Part<'a, B> {
    pub(super) block: B,
    /// Which bytes are of numbers and words.
    pub(super) scalars: u64,
    /// Which bytes count at all.
    pub(super) read: u64,
    pub(super) text: &'a [u8],
    /// Where in the text the block begins.
    pub(super) at: usize,
}

impl Scalars {
    /// Where numbers and words begin.
    #[inline(always)]
    pub(super) fn first(&mut self, scalars: u64) -> u64 {
        scalars & !self.any.behind(scalars)
    }

    /// Which bytes are out of place. `first`: where numbers and words begin.
    #[inline(always)]
    pub(super) fn bad<B: Block>(&mut self, part: Part<'_, B>, first: u64) -> Result<u64, NotJson> {
        if part.scalars == 0 && !self.busy {
            self.number = Pending::default();
            self.whole = Pending::default();
            self.zero = Pending::default();
            return Ok(0);
        }
        let digits = part.block.between(b'0', b'9') & part.scalars;
        let zeros = part.block.is(b'0');
        // Digits alone.
        if digits == part.scalars && !self.busy {
            let start = digits & !self.number.behind(digits);
            self.whole.end(first, digits);
            return Ok(start & !first | self.zero.behind(first & zeros) & digits);
        }
        self.mixed(part, first, digits, zeros)
    }

    /// The same, whatever is in the block.
    #[inline(always)]
    fn mixed<B: Block>(
        &mut self,
        part: Part<'_, B>,
        first: u64,
        digits: u64,
        zeros: u64,
    ) -> Result<u64, NotJson> {
        let minus = part.block.is(b'-');
        let words = self.words(first & part.read & !(digits | minus), part.text, part.at)?;
        let numbers = part.scalars & !words;
        let digits = digits & !words;
        let start = numbers & !self.number.behind(numbers);
        let minus = minus & start;
        let after_minus = self.minus.behind(minus);
        let whole = start & digits | after_minus;
        let whole_end = self.whole.end(whole, digits);
        let mut bad =
            start & !first | after_minus & !digits | self.zero.behind(whole & zeros) & digits;
        let points = part.block.is(b'.') & numbers;
        let fraction = self.point.behind(points);
        let fraction_end = self.fraction.end(fraction, digits);
        bad |= fraction & !digits | points & !whole_end;
        let other = numbers & !(digits | points | minus);
        if other != 0 || self.exponent.0 || self.sign.0 {
            let exponents = part.block.is_either(b'e', b'e') & other;
            let after = self.exponent.behind(exponents);
            let signs = (part.block.is(b'-') | part.block.is(b'+')) & other & after;
            let power = after & !signs | self.sign.behind(signs);
            bad |= exponents & !(whole_end | fraction_end)
                | power & !digits
                | other & !(exponents | signs);
        }
        self.busy = self.word != 0
            || self.minus.0
            || self.point.0
            || self.fraction.0
            || self.exponent.0
            || self.sign.0;
        Ok(bad)
    }

    /// Which bytes belong to `true`, `false` or `null`. `these`: where words begin.
    #[inline(always)]
    fn words(&mut self, mut these: u64, text: &[u8], at: usize) -> Result<u64, NotJson> {
        let mut words = u128::from(self.word);
        while these != 0 {
            let place = these.trailing_zeros();
            these &= these - 1;
            // A bracket closes after it.
            let word = text
                .get(at + place as usize..)
                .and_then(<[u8]>::first_chunk::<5>)
                .ok_or(NotJson)?;
            let [start @ .., last] = *word;
            let long = (start == *b"fals") & (last == b'e');
            if !(long | (start == *b"true") | (start == *b"null")) {
                return Err(NotJson);
            }
            words |= (0b1111 | u128::from(long) << 4) << place;
        }
        self.word = (words >> 64) as u64;
        Ok(words as u64)
    }
}

//! Questions to sixty-four bytes at once, answered by the vectors of the processor
//! or, where it has none, eight bytes at a time.

use std::hint::black_box;

use fearless_simd::prelude::*;
use fearless_simd::{Level, u8x64};

/// By what blocks are read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reader {
    /// The vectors of this processor.
    Vectors(Level),
    Words,
}

impl Reader {
    /// The fastest there is. With AVX-512 a body of 256 KiB took 1.2 times as long as
    /// with AVX2.
    #[inline]
    pub(super) fn best() -> Self {
        let level = Level::new();
        #[cfg(target_arch = "x86_64")]
        let level = level.as_avx2().map_or(level, |avx2| avx2.level());
        match level.is_fallback() {
            true => Self::Words,
            false => Self::Vectors(level),
        }
    }

    /// All that this machine has.
    #[cfg(test)]
    pub(super) fn all() -> Vec<Self> {
        let mut all = vec![Self::Words, Self::best(), Self::Vectors(Level::baseline())];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(Level::new().as_sse4_2().map(|it| Self::Vectors(it.level())));
            all.extend(Level::new().as_avx2().map(|it| Self::Vectors(it.level())));
        }
        all
    }
}

/// Sixty-four bytes, asked about all at once: each answer has a bit for every
/// byte, the first one lowest.
pub(super) trait Block: Copy {
    /// Which are this byte.
    fn is(self, byte: u8) -> u64;

    /// Which are one of these two, whether bit 5 is set or not: letters in either
    /// case, brackets square or curly.
    fn is_either(self, one: u8, other: u8) -> u64;

    /// Which are at most `last`.
    fn up_to(self, last: u8) -> u64;

    /// Which are from `first` to `last`.
    fn between(self, first: u8, last: u8) -> u64;

    /// Which cannot stand in a string as they are: quotes, backslashes, controls.
    fn special(self) -> u64;

    /// Which have this bit set: a byte with one bit.
    fn has(self, bit: u8) -> u64;
}

/// What makes a block of bytes.
pub(super) trait Machine: Copy {
    /// What it makes.
    type Block: Block;

    /// Makes one.
    fn load(self, bytes: &[u8; 64]) -> Self::Block;
}

/// The vectors of a processor, as wide as they are.
#[derive(Clone, Copy)]
pub(super) struct Vectors<S> {
    simd: S,
    /// Zero, which the compiler does not know. Knowing that an answer comes from a
    /// vector, it would take what is done with answers back into vectors, bit by
    /// bit, and take twice as long.
    nothing: u64,
}

impl<S: Simd> Vectors<S> {
    #[inline(always)]
    pub(super) fn new(simd: S) -> Self {
        Self {
            simd,
            nothing: black_box(0),
        }
    }
}

/// A block in vectors.
#[derive(Clone, Copy)]
pub(super) struct Vector<S: Simd> {
    bytes: u8x64<S>,
    nothing: u64,
}

impl<S: Simd> Machine for Vectors<S> {
    type Block = Vector<S>;

    #[inline(always)]
    fn load(self, bytes: &[u8; 64]) -> Vector<S> {
        Vector {
            bytes: u8x64::simd_from(self.simd, *bytes),
            nothing: self.nothing,
        }
    }
}

impl<S: Simd> Block for Vector<S> {
    #[inline(always)]
    fn is(self, byte: u8) -> u64 {
        self.bytes.simd_eq(byte).to_bitmask() ^ self.nothing
    }

    #[inline(always)]
    fn is_either(self, one: u8, other: u8) -> u64 {
        let folded = self.bytes | 0x20;
        (folded.simd_eq(one | 0x20) | folded.simd_eq(other | 0x20)).to_bitmask() ^ self.nothing
    }

    #[inline(always)]
    fn up_to(self, last: u8) -> u64 {
        self.bytes.simd_le(last).to_bitmask() ^ self.nothing
    }

    #[inline(always)]
    fn between(self, first: u8, last: u8) -> u64 {
        (self.bytes - first).simd_le(last - first).to_bitmask() ^ self.nothing
    }

    #[inline(always)]
    fn special(self) -> u64 {
        let marks = self.bytes.simd_eq(b'"') | self.bytes.simd_eq(b'\\');
        (marks | self.bytes.simd_le(0x1f)).to_bitmask() ^ self.nothing
    }

    #[inline(always)]
    fn has(self, bit: u8) -> u64 {
        (self.bytes & bit).simd_eq(bit).to_bitmask() ^ self.nothing
    }
}

pub(super) mod words {
    use super::{Block, Machine};

    const LOW: u64 = u64::from_le_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_le_bytes([0x80; 8]);

    /// For processors without vectors: words of eight bytes. Half as fast as reading
    /// byte by byte where the body is not dense, but one way for all.
    #[derive(Clone, Copy)]
    pub(crate) struct Words;

    /// A block in words.
    #[derive(Clone, Copy)]
    pub(crate) struct Eight([u64; 8]);

    impl Eight {
        /// `of` sets the highest bit of the bytes that are meant, and nothing else
        /// that counts.
        #[inline(always)]
        fn which(self, of: impl Fn(u64) -> u64) -> u64 {
            let mut all = 0;
            for (at, word) in self.0.into_iter().enumerate() {
                // The multiplication brings the eight bits together at the top.
                let bits = (of(word) & HIGH) >> 7;
                all |= (bits.wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * at);
            }
            all
        }
    }

    /// The highest bit of the bytes up to `last`, below 0x80.
    #[inline(always)]
    fn up_to(word: u64, last: u8) -> u64 {
        // No byte borrows from the next: each is at least 0x80 where the sum begins.
        !((word & !HIGH) + LOW * (0x7f - u64::from(last))) & !word
    }

    #[inline(always)]
    fn is(word: u64, byte: u8) -> u64 {
        up_to(word ^ (LOW * u64::from(byte)), 0)
    }

    impl Machine for Words {
        type Block = Eight;

        #[inline(always)]
        fn load(self, bytes: &[u8; 64]) -> Eight {
            let (words, _) = bytes.as_chunks::<8>();
            let mut all = [0; 8];
            for (to, word) in all.iter_mut().zip(words) {
                *to = u64::from_le_bytes(*word);
            }
            Eight(all)
        }
    }

    impl Block for Eight {
        #[inline(always)]
        fn is(self, byte: u8) -> u64 {
            self.which(|word| is(word, byte))
        }

        #[inline(always)]
        fn is_either(self, one: u8, other: u8) -> u64 {
            self.which(|word| {
                let folded = word | (LOW * 0x20);
                is(folded, one | 0x20) | is(folded, other | 0x20)
            })
        }

        #[inline(always)]
        fn up_to(self, last: u8) -> u64 {
            self.which(|word| up_to(word, last))
        }

        #[inline(always)]
        fn between(self, first: u8, last: u8) -> u64 {
            self.which(|word| up_to(word, last) & !up_to(word, first - 1))
        }

        #[inline(always)]
        fn special(self) -> u64 {
            self.which(|word| is(word, b'"') | is(word, b'\\') | up_to(word, 0x1f))
        }

        #[inline(always)]
        fn has(self, bit: u8) -> u64 {
            self.which(|word| word << bit.leading_zeros())
        }
    }
}

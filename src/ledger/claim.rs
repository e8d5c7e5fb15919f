use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_128;

use crate::message::MessageId;

/// What a verified message asks of the ledger: to run under its id.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The source it came to; ids belong to a source.
    pub source: Arc<str>,
    /// The id that was signed.
    pub id: MessageId,
    /// What its body is told from another by.
    pub body: BodyDigest,
    /// The signed time (Unix seconds).
    pub signed: u64,
    /// How long after `signed` a replay of it would still be fresh.
    pub window: Duration,
    /// The source's `resend_after`.
    pub resend_after: Option<Duration>,
    /// The time now.
    pub now: SystemTime,
}

/// Tells a body from another: its XXH3-128 and nothing else.
///
/// That is no cryptographic hash and need not be. Both bodies were signed by the
/// sender before they come here, so only the holder of the key could make two
/// that collide, and all it would win is `duplicate` in place of `conflict`.
/// What is delivered never depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyDigest([u8; 16]);

impl BodyDigest {
    /// In the place of one, where there is none.
    pub(super) const NONE: Self = Self([0; 16]);

    /// The digest of `body`.
    pub fn of(body: &[u8]) -> Self {
        Self(xxh3_128(body).to_le_bytes())
    }

    /// As it is written elsewhere.
    pub(super) fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// As it was written.
    pub(super) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

/// An id of a source: the first 16 bytes of SHA-256 over the length of the
/// source's name, the name and the id. The length keeps `ab`+`c` from being
/// `a`+`bc`; 128 bits of a cryptographic hash keep a sender from choosing two
/// ids that are one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct IdDigest([u8; 16]);

impl IdDigest {
    pub(super) fn of(source: &str, id: impl AsRef<[u8]>) -> Self {
        let whole: [u8; 32] = Sha256::new()
            .chain_update((source.len() as u64).to_le_bytes())
            .chain_update(source)
            .chain_update(id)
            .finalize()
            .into();
        let mut half = [0; 16];
        half.copy_from_slice(&whole[..16]);
        Self(half)
    }

    /// As it is written elsewhere.
    pub(super) fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// As it was written.
    pub(super) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// A number for which every bit is as good as random. Its own bytes, because
    /// they are a hash already.
    pub(super) fn bits(self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// Picks one of `count` shards, by bytes that the maps inside do not use.
    pub(super) fn shard(self, count: usize) -> usize {
        usize::from(self.0[15]) % count
    }

    /// Picks one of `count` banks, by bytes that nothing inside goes by either.
    pub(super) fn bank(self, count: usize) -> usize {
        let [.., a, b, c, d, _, _] = self.0;
        usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(0) % count
    }
}

impl Hash for IdDigest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.bits());
    }
}

impl fmt::Debug for IdDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.bits())
    }
}

/// Takes a digest's own bytes as its hash.
pub(super) type ByDigest = BuildHasherDefault<DigestHasher>;

#[derive(Clone, Default)]
pub(super) struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn write_u64(&mut self, bits: u64) {
        self.0 ^= bits;
    }

    /// For whatever a map mixes in beside the digest.
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_belongs_to_its_source() {
        assert_eq!(IdDigest::of("clerk", "m"), IdDigest::of("clerk", "m"));
        assert_ne!(IdDigest::of("clerk", "m"), IdDigest::of("other", "m"));
        assert_ne!(IdDigest::of("ab", "c"), IdDigest::of("a", "bc"));
    }

    #[test]
    fn a_body_is_told_from_another() {
        assert_eq!(BodyDigest::of(b"{}"), BodyDigest::of(b"{}"));
        assert_ne!(BodyDigest::of(b"{}"), BodyDigest::of(b"{} "));
    }
}

//! The signature header: tokens split at single spaces, each a version, a comma
//! and base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memchr;
use smallvec::SmallVec;

use super::Rejection;
use crate::key::MOST_SIGNATURES;

/// The longest signature header (bytes): 16 tokens of the longest scheme are 1 487.
const LONGEST: usize = 4096;

/// The well-formed signatures of a header, by scheme. As many as senders seldom
/// go beyond are not on the heap, and no more: this is moved, whole.
#[derive(Default)]
pub(super) struct Tokens {
    /// `v1`: HMAC-SHA256.
    pub(super) v1: SmallVec<[[u8; 32]; 2]>,
    /// `v1a`: ed25519.
    pub(super) v1a: SmallVec<[[u8; 64]; 1]>,
}

impl Tokens {
    /// Reads what is well formed; any other token is skipped, so that a sender
    /// can begin a new scheme beside the old one.
    ///
    /// # Errors
    /// [`Rejection::BadSignature`] when the header is out of its form.
    pub(super) fn read(header: &[u8]) -> Result<Self, Rejection> {
        check_length(header)?;
        let mut tokens = Self::default();
        for (number, token) in split(header).enumerate() {
            if number == MOST_SIGNATURES {
                return Err(Rejection::BadSignature);
            }
            if let Some(mac) = token.strip_prefix(b"v1,") {
                tokens.v1.extend(decode::<44, 32>(mac));
            } else if let Some(signature) = token.strip_prefix(b"v1a,") {
                tokens.v1a.extend(decode::<88, 64>(signature));
            }
        }
        Ok(tokens)
    }
}

/// Checks length and number of tokens.
///
/// # Errors
/// [`Rejection::BadSignature`] when the header is out of its form.
pub(super) fn check_form(header: &[u8]) -> Result<(), Rejection> {
    check_length(header)?;
    let good = split(header).take(MOST_SIGNATURES + 1).count() <= MOST_SIGNATURES;
    good.then_some(()).ok_or(Rejection::BadSignature)
}

fn check_length(header: &[u8]) -> Result<(), Rejection> {
    let good = (1..=LONGEST).contains(&header.len());
    good.then_some(()).ok_or(Rejection::BadSignature)
}

/// The tokens, without the empty ones between two spaces.
fn split(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        while !bytes.is_empty() {
            let end = memchr(b' ', bytes).unwrap_or(bytes.len());
            let (token, rest) = bytes.split_at(end);
            bytes = rest.get(1..).unwrap_or_default();
            if !token.is_empty() {
                return Some(token);
            }
        }
        None
    })
}

/// Decodes `LENGTH` characters of canonical standard base64 into `BYTES` bytes.
fn decode<const LENGTH: usize, const BYTES: usize>(text: &[u8]) -> Option<[u8; BYTES]> {
    if text.len() != LENGTH {
        return None;
    }
    // The decoder wants room for whole groups of three: 33 bytes for 32, 66 for 64.
    let mut room = [0u8; 66];
    let length = STANDARD.decode_slice(text, &mut room).ok()?;
    room[..length].try_into().ok()
}

//! Signing keys: how they are written, and what they sign and check.
//!
//! Standard Webhooks 1.0, "Signature scheme": `v1` is HMAC-SHA256 over
//! `id "." timestamp "." body` with a symmetric key (`whsec_`), `v1a` is
//! ed25519 over the same text, checked with a public key (`whpk_`).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ed25519_dalek::ed25519::signature::MultipartVerifier as _;
use ed25519_dalek::{Signature, VerifyingKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// A key that signs (symmetric) or only checks (public). The symmetric one
/// keeps its prepared HMAC state, not the secret's text, and wipes it when it
/// goes. Printing one shows only its kind.
#[derive(Clone)]
pub struct SigningKey {
    kind: Kind,
    length: usize,
}

#[derive(Clone)]
enum Kind {
    Symmetric(Hmac<Sha256>),
    Public(VerifyingKey),
}

/// Which scheme a key serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `v1`: HMAC-SHA256.
    V1,
    /// `v1a`: ed25519.
    V1a,
}

/// Why a text is not a signing key. Printed as the rest of a sentence; it never
/// holds the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyProblem {
    /// There is nothing in it.
    Empty,
    /// What follows the prefix is not base64.
    NotBase64,
    /// Fewer than [`SHORTEST`] bytes.
    TooShort(usize),
    /// A private ed25519 key (`whsk_`), which belongs to the sender alone.
    Private,
    /// Not a point of the curve, or not 32 bytes, after `whpk_`.
    NotPublic,
}

impl fmt::Display for KeyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyProblem::Empty => f.write_str("holds no signing key"),
            KeyProblem::NotBase64 => {
                f.write_str("holds a signing key that is not base64 after its prefix")
            }
            KeyProblem::TooShort(bytes) => write!(
                f,
                "holds a signing key of {bytes} bytes, shorter than {SHORTEST}"
            ),
            KeyProblem::Private => {
                f.write_str("holds a private key (`whsk_`), which belongs to the sender alone")
            }
            KeyProblem::NotPublic => {
                f.write_str("holds something after `whpk_` that is not an ed25519 public key")
            }
        }
    }
}

/// How a signing key is written, for hints.
pub const FORM: &str = "a signing key is `whsec_` and base64 (as the vendor shows it), or `whpk_` and base64 for ed25519";
/// The most signatures of one message: a sender has that many keys at most, and nobody
/// reads more. Svix sends up to 11 while keys rotate.
pub const MOST_SIGNATURES: usize = 16;
/// A symmetric key shorter than this is refused (bytes).
pub const SHORTEST: usize = 16;
/// A symmetric key shorter than this is warned about: Standard Webhooks asks for 24 to 64 (bytes).
pub const SHORT: usize = 24;

/// Base64 as vendors print it: padding or none. Bits past the last whole byte
/// may be set, because the vendors' own libraries (JavaScript, Python, Go) drop
/// them and people make secrets out of random letters. That is for keys alone,
/// which come from the operator; signatures are read canonically.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

impl SigningKey {
    /// Reads one key.
    ///
    /// # Errors
    /// A [`KeyProblem`] when `text` is not a key.
    pub fn parse(text: &str) -> Result<Self, KeyProblem> {
        let text = text.trim();
        if text.starts_with("whsk_") {
            return Err(KeyProblem::Private);
        }
        if let Some(encoded) = text.strip_prefix("whpk_") {
            let bytes = LENIENT.decode(encoded).map_err(|_| KeyProblem::NotPublic)?;
            let bytes: [u8; 32] = bytes.try_into().map_err(|_| KeyProblem::NotPublic)?;
            let key = VerifyingKey::from_bytes(&bytes).map_err(|_| KeyProblem::NotPublic)?;
            // A key of small order agrees with signatures nobody made, and one in
            // another encoding than its own is nobody's (RFC 8032 §5.1.3).
            if key.is_weak() || key.to_edwards().compress().as_bytes() != &bytes {
                return Err(KeyProblem::NotPublic);
            }
            return Ok(Self {
                kind: Kind::Public(key),
                length: 32,
            });
        }
        let encoded = text.strip_prefix("whsec_").unwrap_or(text);
        if encoded.is_empty() {
            return Err(KeyProblem::Empty);
        }
        let bytes = LENIENT
            .decode(encoded)
            .map(Zeroizing::new)
            .map_err(|_| KeyProblem::NotBase64)?;
        Self::from_bytes(&bytes)
    }

    /// Makes a symmetric key of its bytes.
    ///
    /// # Errors
    /// [`KeyProblem::TooShort`] under [`SHORTEST`] bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyProblem> {
        if bytes.len() < SHORTEST {
            return Err(KeyProblem::TooShort(bytes.len()));
        }
        let mac = Hmac::new_from_slice(bytes).map_err(|_| KeyProblem::TooShort(bytes.len()))?;
        Ok(Self {
            kind: Kind::Symmetric(mac),
            length: bytes.len(),
        })
    }

    /// Reads every key of a text that may hold several, separated by white space.
    ///
    /// # Errors
    /// The first [`KeyProblem`]; [`KeyProblem::Empty`] when there is none.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, KeyProblem> {
        let keys: Vec<Self> = text
            .split_whitespace()
            .map(Self::parse)
            .collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Err(KeyProblem::Empty);
        }
        Ok(keys)
    }

    /// Which scheme it serves.
    pub fn scheme(&self) -> Scheme {
        match self.kind {
            Kind::Symmetric(_) => Scheme::V1,
            Kind::Public(_) => Scheme::V1a,
        }
    }

    /// Whether it is a symmetric key under [`SHORT`] bytes.
    pub fn is_short(&self) -> bool {
        self.scheme() == Scheme::V1 && self.length < SHORT
    }

    /// HMAC-SHA256 over `id "." timestamp "." body`; none for a public key.
    pub fn mac(
        &self,
        id: impl AsRef<[u8]>,
        timestamp: impl AsRef<[u8]>,
        body: &[u8],
    ) -> Option<[u8; 32]> {
        self.mac_of(&[id.as_ref(), b".", timestamp.as_ref(), b".", body])
    }

    /// HMAC-SHA256 over any text, given in pieces; none for a public key.
    pub fn mac_of(&self, signed: &[&[u8]]) -> Option<[u8; 32]> {
        let Kind::Symmetric(prepared) = &self.kind else {
            return None;
        };
        let mut mac = prepared.clone();
        for piece in signed {
            mac.update(piece);
        }
        Some(mac.finalize().into_bytes().into())
    }

    /// Whether `signature` is an ed25519 signature of `signed`, which is given in
    /// pieces so that nobody has to join them; false for a symmetric key.
    ///
    /// As strict as dalek's `verify_strict`, which takes the text in one piece
    /// only: S is reduced (RFC 8032 §5.1.7), R is the canonical encoding of the
    /// point that is computed, and neither R nor the key is of small order.
    pub fn checks(&self, signed: &[&[u8]], signature: &[u8; 64]) -> bool {
        let Kind::Public(key) = &self.kind else {
            return false;
        };
        let signature = Signature::from_bytes(signature);
        // R is a point like a public key is. The key itself was looked at when
        // it was read.
        let r_is_sound =
            VerifyingKey::from_bytes(signature.r_bytes()).is_ok_and(|point| !point.is_weak());
        r_is_sound && key.multipart_verify(signed, &signature).is_ok()
    }

    /// The `v1` signature as the header carries it, `v1,` and base64; none for a
    /// public key.
    pub fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> Option<String> {
        let mac = self.mac(id, timestamp.to_string(), body)?;
        let mut token = String::with_capacity(47);
        token.push_str("v1,");
        STANDARD.encode_string(mac, &mut token);
        Some(token)
    }
}

/// The warning of keys among which one is short, as the rest of a sentence, and the way
/// out; none where none is.
pub fn warning(keys: &[SigningKey]) -> Option<(String, &'static str)> {
    keys.iter().any(SigningKey::is_short).then(|| {
        (
            format!("holds a signing key shorter than {SHORT} bytes"),
            "Standard Webhooks asks for 24 to 64 random bytes: have a new one made",
        )
    })
}

/// What a signature header carries: a signature by every symmetric key, in their
/// order, so that who still has the older one can verify while it is replaced
/// (Standard Webhooks 1.0, "Secret rotation").
pub fn sign_with(keys: &[SigningKey], id: &str, timestamp: u64, body: &[u8]) -> String {
    let mut header = String::with_capacity(48 * keys.len());
    for token in keys.iter().filter_map(|key| key.sign(id, timestamp, body)) {
        if !header.is_empty() {
            header.push(' ');
        }
        header.push_str(&token);
    }
    header
}

impl PartialEq for SigningKey {
    /// Whether both sign and check the same; for telling what a reload changed.
    /// Of a symmetric key only the HMAC state is kept, so what the two make of
    /// one fixed text is compared, in constant time.
    fn eq(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Symmetric(_), Kind::Symmetric(_)) => {
                match (self.mac("", "", b""), other.mac("", "", b"")) {
                    (Some(one), Some(two)) => one.ct_eq(&two).into(),
                    _ => false,
                }
            }
            (Kind::Public(one), Kind::Public(two)) => one == two,
            _ => false,
        }
    }
}

impl Eq for SigningKey {}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({:?})", self.scheme())
    }
}

/// A new random symmetric key as vendors write it: `whsec_` and the base64 of
/// 32 bytes from the operating system.
///
/// # Errors
/// When the operating system gives no random bytes.
pub fn generate() -> std::io::Result<Zeroizing<String>> {
    use std::io::Read as _;
    let mut bytes = Zeroizing::new([0u8; 32]);
    std::fs::File::open("/dev/urandom")?.read_exact(bytes.as_mut_slice())?;
    Ok(Zeroizing::new(format!(
        "whsec_{}",
        STANDARD.encode(bytes.as_slice())
    )))
}

#[cfg(test)]
mod tests;

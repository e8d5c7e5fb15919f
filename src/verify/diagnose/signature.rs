//! What the signature header claims, read as it should be and as senders get it wrong.

use base64::Engine as _;

use super::Finding;
use super::header::Head;
use super::secret::{STANDARD_ANY, URL_ANY, hex};
use crate::verify::tokens::Tokens;

/// What the header claims.
#[derive(Default)]
pub(super) struct Claims {
    pub(super) v1: Vec<Claim<32>>,
    pub(super) v1a: Vec<Claim<64>>,
}

impl Claims {
    /// Whether any signature is written the right way.
    pub(super) fn any_right(&self) -> bool {
        self.v1.iter().any(|claim| claim.cause.is_none())
            || self.v1a.iter().any(|claim| claim.cause.is_none())
    }
}

/// One signature, and how it was written; nothing for the right way.
pub(super) struct Claim<const BYTES: usize> {
    pub(super) bytes: [u8; BYTES],
    pub(super) cause: Option<&'static str>,
}

/// Reads every signature of the header; a header without a well-formed one is a
/// finding.
pub(super) fn claims(head: &Head, findings: &mut Vec<Finding>) -> Claims {
    let mut claims = Claims::default();
    let Some(header) = head.signature.as_ref().filter(|header| !header.is_empty()) else {
        return claims;
    };
    let Ok(tokens) = Tokens::read(header) else {
        // Out of its form, which has been told.
        return claims;
    };
    let right = |bytes| Claim { bytes, cause: None };
    claims.v1.extend(tokens.v1.into_iter().map(right));
    let right = |bytes| Claim { bytes, cause: None };
    claims.v1a.extend(tokens.v1a.into_iter().map(right));
    let none = claims.v1.is_empty() && claims.v1a.is_empty();
    let text = String::from_utf8_lossy(header);
    for piece in text.split([' ', ',', ';', '\t']).take(64) {
        loose(piece, &mut claims);
    }
    if none {
        let cause = claims
            .v1
            .iter()
            .map(|claim| claim.cause)
            .chain(claims.v1a.iter().map(|claim| claim.cause))
            .find_map(|cause| cause);
        findings.push(Finding::new(
            "no signature is `v1,` and 44, or `v1a,` and 88, characters of standard base64",
            style(&text).or(cause).unwrap_or(
                "copy the header's whole value: was it cut, or its `+` turned into a space?",
            ),
        ));
    }
    claims
}

/// The style of another scheme, by its looks.
fn style(text: &str) -> Option<&'static str> {
    if text.starts_with("t=") {
        Some("this is how Stripe writes signatures, and hookward verifies Standard Webhooks")
    } else if text.starts_with("sha256=") || text.starts_with("sha1=") {
        Some("this is how GitHub writes signatures, and hookward verifies Standard Webhooks")
    } else if text.starts_with("v0=") {
        Some("this is how Slack writes signatures, and hookward verifies Standard Webhooks")
    } else {
        None
    }
}

/// Reads a piece in any alphabet, with any label.
fn loose(piece: &str, claims: &mut Claims) {
    let piece = piece.trim_matches(['"', '\'']);
    let text = ["v1=", "v1:", "v0=", "sha256=", "s="]
        .iter()
        .find_map(|label| piece.strip_prefix(label))
        .unwrap_or(piece);
    let read = match hex(text) {
        Some(bytes) if matches!(bytes.len(), 32 | 64) => Some((
            bytes,
            "the signature is hexadecimal: the sender has to write it in base64",
        )),
        _ => STANDARD_ANY
            .decode(text)
            .map(|bytes| (bytes, how(text)))
            .or_else(|_| {
                URL_ANY.decode(text).map(|bytes| {
                    (
                        bytes,
                        "the signature is base64url (`-` and `_`): the sender has to use the standard alphabet (`+` and `/`)",
                    )
                })
            })
            .ok(),
    };
    let Some((bytes, cause)) = read else {
        return;
    };
    let cause = Some(cause);
    if let Ok(bytes) = <[u8; 32]>::try_from(bytes.as_slice()) {
        if claims.v1.iter().all(|claim| claim.bytes != bytes) {
            claims.v1.push(Claim { bytes, cause });
        }
    } else if let Ok(bytes) = <[u8; 64]>::try_from(bytes.as_slice())
        && claims.v1a.iter().all(|claim| claim.bytes != bytes)
    {
        claims.v1a.push(Claim { bytes, cause });
    }
}

/// What is wrong with a token whose base64 is of the standard alphabet.
fn how(text: &str) -> &'static str {
    if !text.len().is_multiple_of(4) {
        "the signature lacks the `=` at its end: the sender has to pad its base64"
    } else if base64::engine::general_purpose::STANDARD
        .decode(text)
        .is_err()
    {
        "the last character of the signature has bits that stand for nothing: was it copied wrongly?"
    } else {
        "the signature has no label that hookward knows: it is `v1,` (HMAC) or `v1a,` (ed25519), \
         the base64, and a space before the next one"
    }
}

//! The keys a secret stands for, and those people take it for.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use super::Finding;
use crate::key::{self, KeyProblem, SigningKey};
use crate::setting::Secret;

/// A key to try, and what was done to get it; nothing for the right way.
pub(super) struct Candidate {
    pub(super) key: SigningKey,
    pub(super) cause: Option<&'static str>,
}

const ANY: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
pub(super) const STANDARD_ANY: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, ANY);
pub(super) const URL_ANY: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, ANY);

/// Reads every key; those read the right way come first. What is no key is a
/// finding.
pub(super) fn read(secrets: &[Secret], findings: &mut Vec<Finding>) -> Vec<Candidate> {
    let mut right = Vec::new();
    let mut wrong = Vec::new();
    let before = findings.len();
    for (index, secret) in secrets.iter().enumerate() {
        let name = format!("secret {} ({})", index + 1, secret.source());
        for word in secret.expose().unwrap_or_default().split_whitespace() {
            match SigningKey::parse(word) {
                Ok(key) => right.push(Candidate { key, cause: None }),
                Err(problem) => {
                    findings.push(Finding::new(format!("{name} {problem}"), hint(problem)))
                }
            }
            wrong.extend(mistaken(word));
        }
    }
    if right.is_empty() && findings.len() == before {
        findings.push(Finding::new("there is no secret", key::FORM));
    }
    right.append(&mut wrong);
    right
}

fn hint(problem: KeyProblem) -> String {
    match problem {
        KeyProblem::Private => {
            "verify with the public key (`whpk_…`) that belongs to it".to_owned()
        }
        KeyProblem::NotBase64 => format!(
            "copy it whole, without quotes; {}; a secret that is plain text or hex is given as `whsec_` and the base64 of its bytes",
            key::FORM
        ),
        _ => format!("copy it whole; {}", key::FORM),
    }
}

/// The keys people take a secret's text for.
fn mistaken(word: &str) -> Vec<Candidate> {
    if word.starts_with("whpk_") || word.starts_with("whsk_") {
        return Vec::new();
    }
    let text = word.strip_prefix("whsec_").unwrap_or(word);
    let mut candidates = Vec::new();
    let mut add = |bytes: &[u8], cause| {
        if let Ok(key) = SigningKey::from_bytes(bytes) {
            candidates.push(Candidate {
                key,
                cause: Some(cause),
            });
        }
    };
    add(
        text.as_bytes(),
        "the sender signs with the text of the secret, not with the bytes its base64 stands for: \
         let it decode the base64 after `whsec_`, or give hookward `whsec_` and the base64 of that text",
    );
    let whole = Zeroizing::new(format!("whsec_{text}"));
    add(
        whole.as_bytes(),
        "the sender signs with the text of the secret and its prefix `whsec_` left on: let it drop the \
         prefix and decode the base64, or give hookward `whsec_` and the base64 of the whole text",
    );
    if let Some(bytes) = hex(text).map(Zeroizing::new) {
        add(
            &bytes,
            "the secret is hexadecimal: give hookward `whsec_` and the base64 of its bytes",
        );
    }
    if text.contains(['-', '_'])
        && let Ok(bytes) = URL_ANY.decode(text).map(Zeroizing::new)
    {
        add(
            &bytes,
            "the secret is base64url: write `+` for `-` and `/` for `_`",
        );
    }
    if let Some(bytes) = twice(text) {
        add(
            &bytes,
            "the secret was put into base64 once too often (Kubernetes does that to `data:`): \
             decode it once and give hookward what comes out",
        );
    }
    candidates
}

/// The bytes of a secret that was put into base64 twice.
fn twice(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let outer = STANDARD_ANY.decode(text).map(Zeroizing::new).ok()?;
    let inner = std::str::from_utf8(&outer).ok()?.trim();
    let inner = inner.strip_prefix("whsec_").unwrap_or(inner);
    STANDARD_ANY.decode(inner).map(Zeroizing::new).ok()
}

/// Reads hexadecimal digits, two for a byte.
pub(super) fn hex(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() || !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok())
        .collect()
}

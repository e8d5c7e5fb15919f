//! Proves a request genuine and fresh (Standard Webhooks 1.0; contract §5).
//!
//! First the head: one header family, ids and times of good form, a time inside
//! the window. Then, with the body, the signatures: `v1` against every symmetric
//! key, `v1a` against every public one. What comes out is a [`Verified`], which
//! nothing but this file makes.

mod config;
mod diagnose;
mod head;
mod rejection;
mod tokens;
mod window;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::SystemTime;

use subtle::{Choice, ConstantTimeEq as _};

pub use config::{NamedKey, VerifyConfig, VerifyKeys};
pub use diagnose::{Diagnosis, Finding, diagnose};
pub use rejection::Rejection;

use crate::key::{Scheme, SigningKey};
use crate::message::{Envelope, Headers, Received, Verified};
use crate::observe::KeyMetrics;
use tokens::Tokens;
use window::Window;

/// What proves the requests of one source.
pub struct Verifier {
    keys: Keys,
    window: Window,
}

enum Keys {
    /// The source says `dangerously-unverified`.
    Open,
    Known(Box<[Key]>),
}

/// One key, ready to check and to be counted.
struct Key {
    name: Arc<str>,
    key: SigningKey,
    metrics: KeyMetrics,
}

impl Verifier {
    /// Prepares the keys of `config`; `metrics` gives the handles of a key by its name.
    pub fn new(config: &VerifyConfig, metrics: impl Fn(&str) -> KeyMetrics) -> Self {
        let keys = match &config.keys {
            VerifyKeys::DangerouslyUnverified => Keys::Open,
            VerifyKeys::Keys(named) => Keys::Known(
                named
                    .iter()
                    .flat_map(|named| named.keys.iter().map(move |key| (&named.name, key)))
                    .map(|(name, key)| Key {
                        name: Arc::clone(name),
                        key: key.clone(),
                        metrics: metrics(name),
                    })
                    .collect(),
            ),
        };
        Self {
            keys,
            window: Window {
                tolerance: config.tolerance,
                future_tolerance: config.future_tolerance,
            },
        }
    }

    /// Whether the source says `dangerously-unverified`.
    pub fn is_open(&self) -> bool {
        matches!(self.keys, Keys::Open)
    }

    /// Looks at the head alone, before the body is read: header family, forms,
    /// and the window at `now`. An open source asks for nothing, and takes the
    /// signature headers along where they are in good form.
    ///
    /// # Errors
    /// A [`Rejection`] of any kind but [`Rejection::NoKeyMatched`]; never for an
    /// open source.
    pub fn admit(&self, headers: &Headers, now: SystemTime) -> Result<Option<Envelope>, Rejection> {
        if self.is_open() {
            return Ok(head::read(headers).ok());
        }
        let envelope = head::read(headers)?;
        self.window.check(envelope.timestamp.seconds(), now)?;
        Ok(Some(envelope))
    }

    /// Proves a request with its body, and counts the key that matched. The
    /// window is checked again, so that a [`Verified`] always was fresh at `now`:
    /// give the time at which the head was admitted if a slow body is not to count.
    ///
    /// # Errors
    /// [`Rejection::NoKeyMatched`], and whatever [`Verifier::admit`] would have said.
    pub fn verify(&self, received: Received, now: SystemTime) -> Result<Verified, Rejection> {
        self.prove(received, now)
            .map_err(|unproven| unproven.rejection)
    }

    /// As [`Verifier::verify`], for who wants to look further at what was not proven.
    ///
    /// # Errors
    /// The request, with the same rejection.
    pub fn prove(
        &self,
        mut received: Received,
        now: SystemTime,
    ) -> Result<Verified, Box<Unproven>> {
        let Keys::Known(keys) = &self.keys else {
            return Ok(Verified::dangerously_unproven(received));
        };
        let found = match &received.envelope {
            None => Err(Rejection::Unsigned),
            Some(envelope) => {
                let fresh = self.window.check(envelope.timestamp.seconds(), now);
                fresh.and_then(|()| signer(keys, envelope, &received.body))
            }
        };
        let (key, envelope) = match (found, received.envelope.take()) {
            (Ok(key), Some(envelope)) => (key, envelope),
            (found, envelope) => {
                received.envelope = envelope;
                let rejection = found.err().unwrap_or(Rejection::Unsigned);
                return Err(Box::new(Unproven {
                    rejection,
                    received,
                }));
            }
        };
        key.metrics.verified(now);
        Ok(Verified::proven(received, envelope, Arc::clone(&key.name)))
    }

    /// The name of the key that `unproven` was signed with, if it is one of these.
    /// That proves nothing, because it was sent to another source, and is not
    /// counted; it tells whose settings were mixed up.
    pub fn signed(&self, unproven: &Unproven) -> Option<Arc<str>> {
        let (Keys::Known(keys), Some(envelope)) = (&self.keys, &unproven.received.envelope) else {
            return None;
        };
        let key = signer(keys, envelope, &unproven.received.body).ok()?;
        Some(Arc::clone(&key.name))
    }
}

/// A request that could not be proven, whole.
pub struct Unproven {
    /// Why not.
    pub rejection: Rejection,
    received: Received,
}

/// The key that made one of the signatures.
fn signer<'a>(keys: &'a [Key], envelope: &Envelope, body: &[u8]) -> Result<&'a Key, Rejection> {
    let tokens = Tokens::read(&envelope.signature)?;
    keys.iter()
        .find(|key| matches(&key.key, &tokens, envelope, body))
        .ok_or(Rejection::NoKeyMatched)
}

/// Whether `key` made one of the signatures. A key whose scheme no token uses
/// costs nothing; the MAC of a symmetric one is computed once for all tokens.
fn matches(key: &SigningKey, tokens: &Tokens, envelope: &Envelope, body: &[u8]) -> bool {
    let (id, timestamp) = (envelope.id.as_bytes(), envelope.timestamp.as_bytes());
    match key.scheme() {
        Scheme::V1 => {
            if tokens.v1.is_empty() {
                return false;
            }
            let Some(mac) = key.mac(id, timestamp, body) else {
                return false;
            };
            // Every token is compared whole, whichever matches.
            let any = tokens
                .v1
                .iter()
                .fold(Choice::from(0), |any, token| any | mac.ct_eq(token));
            any.into()
        }
        Scheme::V1a => {
            let dot = b".".as_slice();
            let signed = [id, dot, timestamp, dot, body];
            tokens
                .v1a
                .iter()
                .any(|signature| key.checks(&signed, signature))
        }
    }
}

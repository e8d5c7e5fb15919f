//! Tries what may have been signed instead, until something fits.

use super::Finding;
use super::body;
use super::header::Head;
use super::secret::Candidate;
use super::signature::Claims;
use crate::key::{Scheme, SigningKey};

/// How much is hashed at most before the search gives up (bytes).
const EFFORT: usize = 256 << 20;
/// What a MAC costs besides its text (as bytes hashed).
const MAC: usize = 256;
/// What a check on the curve costs besides its text (as bytes hashed).
const CURVE: usize = 64 << 10;
/// Other timestamps are tried this far from the one at hand (seconds): the
/// first retries of a sender are inside.
const OTHER_TIMES: u64 = 4 * 3600;

/// What a request offers to be tried.
pub(super) struct Search<'a> {
    pub(super) head: &'a Head,
    pub(super) keys: &'a [Candidate],
    pub(super) claims: &'a Claims,
    pub(super) body: &'a [u8],
}

/// What may stand before the body in the signed text.
struct Start {
    text: Vec<u8>,
    cause: Option<String>,
}

impl Search<'_> {
    /// Nothing when a key made one of the signatures, as it should be.
    pub(super) fn run(&self) -> Option<Finding> {
        if self.keys.is_empty() || (self.claims.v1.is_empty() && self.claims.v1a.is_empty()) {
            // Nothing to compare with, which is a finding already.
            return None;
        }
        let hint = match self.fit_anyhow() {
            Some(fit) if fit.is_right() => return None,
            // That none is well formed is a finding already, with this as its hint.
            Some(fit) if fit.is_only_written_wrong() && !self.claims.any_right() => return None,
            Some(fit) => fit.causes().collect::<Vec<_>>().join("; and "),
            // What was signed is not known without the two, which are findings already.
            None if self.head.id.is_none() || self.head.timestamp.is_none() => return None,
            None => self.general(),
        };
        Some(Finding::new("no signature matches any key", hint))
    }

    /// The first thing that fits, the likeliest tried first.
    fn fit_anyhow(&self) -> Option<Fit> {
        let starts = self.starts();
        let right_start = starts.get(..1).unwrap_or_default();
        let right_keys = self.right_keys();
        // The request as it should be is tried whatever that costs.
        self.fit(right_start, self.body, right_keys, &mut Effort(usize::MAX))
            .or_else(|| self.fit(&starts, self.body, self.keys, &mut Effort(EFFORT)))
            .or_else(|| self.other_body(right_start, right_keys))
            .or_else(|| self.other_time())
            .or_else(|| self.other_body(&starts, self.keys))
    }

    fn other_body(&self, starts: &[Start], keys: &[Candidate]) -> Option<Fit> {
        let mut effort = Effort(EFFORT);
        for (body, cause) in body::variants(self.body) {
            if let Some(mut fit) = self.fit(starts, &body, keys, &mut effort) {
                fit.body = Some(cause);
                return Some(fit);
            }
            if effort.0 == 0 {
                break;
            }
        }
        None
    }

    fn fit(
        &self,
        starts: &[Start],
        body: &[u8],
        keys: &[Candidate],
        effort: &mut Effort,
    ) -> Option<Fit> {
        for start in starts {
            for candidate in keys {
                let signed = [start.text.as_slice(), body];
                effort.spend(self.cost(&candidate.key, &signed))?;
                if let Some(written) = self.claim(&candidate.key, &signed) {
                    return Some(Fit {
                        written,
                        key: candidate.cause,
                        start: start.cause.clone(),
                        body: None,
                    });
                }
            }
        }
        None
    }

    /// Whether `key` made one of the claimed signatures of `signed`.
    fn claim(&self, key: &SigningKey, signed: &[&[u8]]) -> Option<Written> {
        match key.mac_of(signed) {
            Some(mac) => (self.claims.v1.iter())
                .find(|claim| claim.bytes == mac)
                .map(|claim| Written(claim.cause)),
            None => (self.claims.v1a.iter())
                .find(|claim| key.checks(signed, &claim.bytes))
                .map(|claim| Written(claim.cause)),
        }
    }

    /// What that costs (as bytes hashed).
    fn cost(&self, key: &SigningKey, signed: &[&[u8]]) -> usize {
        let length = signed.iter().map(|piece| piece.len()).sum::<usize>();
        match key.scheme() {
            Scheme::V1 => length + MAC,
            Scheme::V1a => (length + CURVE) * self.claims.v1a.len(),
        }
    }

    /// The keys that were read the right way; they stand first.
    fn right_keys(&self) -> &[Candidate] {
        let wrong = self.keys.iter().position(|c| c.cause.is_some());
        &self.keys[..wrong.unwrap_or(self.keys.len())]
    }

    /// What fits when the timestamp is another than the one at hand.
    fn other_time(&self) -> Option<Fit> {
        let id = self.head.id.as_deref()?;
        let at: u64 = text(self.head.timestamp.as_deref())?.parse().ok()?;
        let mut effort = Effort(EFFORT / 4);
        for distance in 1..=OTHER_TIMES {
            for time in [at.checked_sub(distance), at.checked_add(distance)] {
                let Some(time) = time else { continue };
                let digits = time.to_string();
                let signed = [id, b".", digits.as_bytes(), b".", self.body];
                for candidate in self.right_keys() {
                    effort.spend(self.cost(&candidate.key, &signed))?;
                    if let Some(written) = self.claim(&candidate.key, &signed) {
                        return Some(Fit {
                            written,
                            key: None,
                            start: Some(format!(
                                "the signature was made for the timestamp {time}, not for {at}: headers of \
                                 two deliveries are mixed (each retry is signed anew), or something rewrote \
                                 the timestamp"
                            )),
                            body: None,
                        });
                    }
                }
            }
        }
        None
    }

    /// What may stand before the body: the right start first.
    fn starts(&self) -> Vec<Start> {
        let id = text(self.head.id.as_deref()).unwrap_or_default();
        let time = text(self.head.timestamp.as_deref()).unwrap_or_default();
        let mut starts = Vec::new();
        let mut add = |text: String, cause: &str| {
            starts.push(Start {
                text: text.into_bytes(),
                cause: Some(cause.to_owned()).filter(|cause| !cause.is_empty()),
            });
        };
        if !id.is_empty() && !time.is_empty() {
            add(format!("{id}.{time}."), "");
            add(
                format!("{time}.{id}."),
                "id and timestamp were signed in the other order: are their values exchanged?",
            );
            let bare = |text: &str| text.trim_matches(['"', '\'']).to_owned();
            add(
                format!("{}.{}.", bare(id), bare(time)),
                "the id or the timestamp is in quotes that were not signed",
            );
            if let Some(seconds) = time.get(..10).filter(|_| time.len() == 13) {
                add(
                    format!("{id}.{seconds}."),
                    "seconds were signed and milliseconds sent: let the sender send what it signed",
                );
            }
            add(
                format!("{id}.{time}000."),
                "milliseconds were signed and seconds sent: let the sender sign seconds",
            );
            add(
                format!("{id}{time}"),
                "id, timestamp and body were signed without the dots between them",
            );
        }
        if !time.is_empty() {
            add(
                format!("{time}."),
                "only `timestamp.body` was signed, as Stripe does: the sender has to sign `id.timestamp.body`",
            );
            add(
                format!("v0:{time}:"),
                "`v0:timestamp:body` was signed, as Slack does: the sender has to sign `id.timestamp.body`",
            );
        }
        if !id.is_empty() {
            add(
                format!("{id}."),
                "only `id.body` was signed: the sender has to sign `id.timestamp.body`",
            );
        }
        add(
            String::new(),
            "only the body was signed, as GitHub does: the sender has to sign `id.timestamp.body`",
        );
        starts
    }

    /// What to look at when nothing fits.
    fn general(&self) -> String {
        let has = |scheme| {
            self.keys
                .iter()
                .any(|c| c.cause.is_none() && c.key.scheme() == scheme)
        };
        let (v1, v1a) = (!self.claims.v1.is_empty(), !self.claims.v1a.is_empty());
        if v1 && !v1a && !has(Scheme::V1) && has(Scheme::V1a) {
            return "the signatures are `v1` (HMAC) and the keys are public ones: give the secret, `whsec_…`".into();
        }
        if v1a && !v1 && has(Scheme::V1) && !has(Scheme::V1a) {
            return "the signatures are `v1a` (ed25519) and the keys are secrets: give the sender's public key, `whpk_…`".into();
        }
        if self.body.is_empty() {
            return "the body is empty: give the file with the raw body, or pipe it in".into();
        }
        if self.body.starts_with(&[0x1f, 0x8b]) {
            return "the body is gzip: sign and verify have to see the same bytes, so check it as it was before it was compressed, too".into();
        }
        format!(
            "look at the secret first (every endpoint of a sender has its own, test and live differ, and a \
             rotated one is good for a day), then at the body: {} bytes here, compare that with the sender's \
             log; usual changes to it, to the headers and to the secret were tried, and none fits",
            self.body.len()
        )
    }
}

/// What fits, with the causes that it is not the request as it should be.
struct Fit {
    key: Option<&'static str>,
    start: Option<String>,
    body: Option<String>,
    written: Written,
}

/// How the signature that fits was written; nothing for the right way.
struct Written(Option<&'static str>);

impl Fit {
    fn causes(&self) -> impl Iterator<Item = &str> {
        [
            self.key,
            self.start.as_deref(),
            self.body.as_deref(),
            self.written.0,
        ]
        .into_iter()
        .flatten()
    }

    fn is_right(&self) -> bool {
        self.causes().next().is_none()
    }

    fn is_only_written_wrong(&self) -> bool {
        self.written.0.is_some() && self.causes().count() == 1
    }
}

/// How much may still be hashed (bytes).
struct Effort(usize);

impl Effort {
    /// None when that is more than is left, and then nothing is left.
    fn spend(&mut self, bytes: usize) -> Option<()> {
        match self.0.checked_sub(bytes) {
            Some(left) => {
                self.0 = left;
                Some(())
            }
            None => {
                self.0 = 0;
                None
            }
        }
    }
}

fn text(value: Option<&[u8]>) -> Option<&str> {
    std::str::from_utf8(value?).ok()
}

use std::fmt;
use std::time::Duration;

use crate::observe::RefusalReason;

/// Why a request is not taken for genuine and fresh. Printed for the log; it
/// holds nothing the sender wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// None of the signature headers of either family is there.
    Unsigned,
    /// The family is used and this header of it is not there.
    MissingHeader(&'static str),
    /// This header is there twice.
    DuplicateHeader(&'static str),
    /// The `svix-*` family is not complete, and a `webhook-*` header stands beside it.
    MixedFamily,
    /// The id is not 1 to 255 visible ASCII characters without `.`.
    BadId,
    /// The timestamp is not `[1-9][0-9]{0,11}`.
    BadTimestamp,
    /// The signature header is not of 1 to 4096 bytes, or has over 16 tokens.
    BadSignature,
    /// Signed too long ago.
    TooOld {
        /// How far past the tolerance (whole seconds of age, less the tolerance).
        by: Duration,
    },
    /// Signed too far ahead.
    TooNew {
        /// How far past the tolerance (whole seconds ahead, less the tolerance).
        by: Duration,
    },
    /// No signature was made by any key of the source.
    NoKeyMatched,
}

impl Rejection {
    /// The word it is counted under.
    pub fn reason(&self) -> RefusalReason {
        match self {
            Rejection::Unsigned | Rejection::MissingHeader(_) => RefusalReason::MissingHeader,
            Rejection::DuplicateHeader(_) => RefusalReason::DuplicateHeader,
            Rejection::MixedFamily => RefusalReason::MixedFamily,
            Rejection::BadId => RefusalReason::BadId,
            Rejection::BadTimestamp => RefusalReason::BadTimestamp,
            Rejection::BadSignature => RefusalReason::BadSignature,
            Rejection::TooOld { .. } => RefusalReason::TooOld,
            Rejection::TooNew { .. } => RefusalReason::TooNew,
            Rejection::NoKeyMatched => RefusalReason::NoKeyMatched,
        }
    }

    /// Whether the headers are out of their form (400), and not merely unproven (401).
    pub fn is_malformed(&self) -> bool {
        !matches!(
            self,
            Rejection::TooOld { .. } | Rejection::TooNew { .. } | Rejection::NoKeyMatched
        )
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = |by: &Duration| humantime::format_duration(*by);
        match self {
            Rejection::Unsigned => f.write_str("there are no signature headers"),
            Rejection::MissingHeader(name) => write!(f, "`{name}` is missing"),
            Rejection::DuplicateHeader(name) => write!(f, "`{name}` is there more than once"),
            Rejection::MixedFamily => {
                f.write_str("`svix-*` headers are incomplete and `webhook-*` headers beside them")
            }
            Rejection::BadId => f.write_str("the id is out of its form"),
            Rejection::BadTimestamp => f.write_str("the timestamp is out of its form"),
            Rejection::BadSignature => f.write_str("the signature header is out of its form"),
            Rejection::TooOld { by } => {
                write!(f, "signed too long ago, {} past the tolerance", span(by))
            }
            Rejection::TooNew { by } => {
                write!(f, "signed too far ahead, {} past the tolerance", span(by))
            }
            Rejection::NoKeyMatched => f.write_str("no signature matches any key"),
        }
    }
}

impl std::error::Error for Rejection {}

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::StatusCode;
use tracing::Level;

use crate::consume::Verdict;
use crate::deliver::Failure;
use crate::observe::{AttemptOutcome, RefusalReason, RequestResult};
use crate::verify::Rejection;

/// Every way of saying no. What the sender is told, how it is logged and under
/// which reason it is counted stand in one `match` each, below.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// No source has this path; for the log, its beginning.
    UnknownPath(Box<str>),
    /// Not POST.
    Method,
    /// The sender's address, if one is known, is not among the source's `allow_from`.
    Forbidden(Option<IpAddr>),
    /// The signature headers, the signature or its time.
    Rejected(Rejection),
    /// The body is over `max_body`.
    TooLarge,
    /// The body came too slowly.
    Slow,
    /// The sender broke off, or the framing of the body was wrong.
    Broken,
    /// A limit is reached; which one.
    Busy(&'static str),
    /// hookward is stopping.
    Draining,
    /// The event has no type and only routes with `types` could take it.
    Untyped,
    /// This destination makes names of the event that it has not the parts for.
    Unnamed(Arc<str>),
    /// No rule wants it, and the source says `unmatched = "refuse"`.
    Unmatched,
    /// Delivered before, with another body.
    Conflict {
        /// When it was.
        first: SystemTime,
    },
    /// The ledger's store is away; nobody has accepted.
    LedgerAway,
    /// What accepted it could not be kept: the store went away meanwhile.
    Unkept,
    /// The same id is still running.
    InFlight,
    /// Required destinations did not accept.
    Undelivered(Arc<Undelivered>),
    /// The same id ran on another replica, and this is what it was answered there.
    Elsewhere(RequestResult),
}

/// The required destinations that did not accept, and why.
#[derive(Debug, Default)]
pub struct Undelivered {
    /// Those that ended.
    pub failures: Vec<(Arc<str>, Failure)>,
    /// Those that had not when the budget did.
    pub pending: Vec<Arc<str>>,
}

impl Undelivered {
    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.failures.is_empty() && self.pending.is_empty()
    }

    /// Their names, for the log.
    pub(crate) fn destinations(&self) -> String {
        let failed = self.failures.iter().map(|(name, _)| &**name);
        let pending = self.pending.iter().map(|name| &**name);
        failed.chain(pending).collect::<Vec<_>>().join(",")
    }

    /// How the delivery that decides the answer came out: the first that applies
    /// of 502 `failed`, 504 `late`, 503 `unavailable`, 503 `busy`.
    pub(crate) fn decisive(&self) -> AttemptOutcome {
        let failed = self.failures.iter().map(|(_, failure)| failure.outcome);
        let pending = self.pending.iter().map(|_| AttemptOutcome::Late);
        failed
            .chain(pending)
            .min_by_key(|outcome| rank(*outcome))
            .unwrap_or(AttemptOutcome::Failed)
    }

    fn result(&self) -> RequestResult {
        match self.decisive() {
            AttemptOutcome::Late => RequestResult::Late,
            AttemptOutcome::Unavailable => RequestResult::Unavailable,
            AttemptOutcome::Busy => RequestResult::Busy,
            _ => RequestResult::Failed,
        }
    }
}

/// The order in which outcomes decide.
fn rank(outcome: AttemptOutcome) -> u8 {
    match outcome {
        AttemptOutcome::Refused | AttemptOutcome::Failed | AttemptOutcome::Unconfirmed => 0,
        AttemptOutcome::Late => 1,
        AttemptOutcome::Unavailable => 2,
        AttemptOutcome::Busy => 3,
        AttemptOutcome::Accepted => 4,
    }
}

impl Refusal {
    /// The word the sender is told and the request is counted under; none where
    /// HTTP itself could not be read.
    pub(crate) fn result(&self) -> Option<RequestResult> {
        Some(match self {
            Refusal::UnknownPath(_) => RequestResult::UnknownPath,
            Refusal::Method => RequestResult::Method,
            Refusal::Forbidden(_) => RequestResult::Forbidden,
            Refusal::Rejected(rejection) if rejection.is_malformed() => RequestResult::Malformed,
            Refusal::Rejected(_) => RequestResult::Unverified,
            Refusal::TooLarge => RequestResult::TooLarge,
            Refusal::Slow => RequestResult::Slow,
            Refusal::Broken => return None,
            Refusal::Busy(_) => RequestResult::Busy,
            Refusal::Draining => RequestResult::Draining,
            Refusal::Untyped | Refusal::Unnamed(_) => RequestResult::Untyped,
            Refusal::Unmatched => RequestResult::Unmatched,
            Refusal::Conflict { .. } => RequestResult::Conflict,
            Refusal::LedgerAway | Refusal::Unkept => RequestResult::Unavailable,
            Refusal::InFlight => RequestResult::InFlight,
            Refusal::Undelivered(undelivered) => undelivered.result(),
            Refusal::Elsewhere(result) => *result,
        })
    }

    /// The reason it is counted under in `refusals_total`, where that tells more
    /// than the word does.
    pub(crate) fn reason(&self) -> Option<RefusalReason> {
        Some(match self {
            Refusal::Forbidden(_) => RefusalReason::Forbidden,
            Refusal::Rejected(rejection) => rejection.reason(),
            Refusal::TooLarge => RefusalReason::TooLarge,
            Refusal::Slow => RefusalReason::Slow,
            Refusal::Busy(_) => RefusalReason::Busy,
            Refusal::Draining => RefusalReason::Draining,
            Refusal::Untyped | Refusal::Unnamed(_) => RefusalReason::Untyped,
            Refusal::Conflict { .. } => RefusalReason::Conflict,
            Refusal::LedgerAway | Refusal::Unkept => RefusalReason::Unavailable,
            Refusal::InFlight => RefusalReason::InFlight,
            Refusal::Undelivered(_) | Refusal::Elsewhere(_) => match self.result()? {
                RequestResult::Unavailable => RefusalReason::Unavailable,
                RequestResult::Busy => RefusalReason::Busy,
                _ => return None,
            },
            Refusal::UnknownPath(_) | Refusal::Method | Refusal::Broken | Refusal::Unmatched => {
                return None;
            }
        })
    }

    /// What becomes of a message of a queue. A destination that failed uses an
    /// attempt up; what is hookward's own, to be busy or stopping or without its
    /// ledger, does not: nothing is to end as a dead letter because of that.
    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            Refusal::Busy(_)
            | Refusal::Draining
            | Refusal::LedgerAway
            | Refusal::Unkept
            | Refusal::InFlight
            | Refusal::Slow
            | Refusal::Broken => Verdict::Later,
            Refusal::Undelivered(_) | Refusal::Elsewhere(_) => match self.result() {
                Some(RequestResult::Busy) => Verdict::Later,
                _ => Verdict::Again,
            },
            Refusal::UnknownPath(_)
            | Refusal::Method
            | Refusal::Forbidden(_)
            | Refusal::Rejected(_)
            | Refusal::TooLarge
            | Refusal::Untyped
            | Refusal::Unnamed(_)
            | Refusal::Unmatched
            | Refusal::Conflict { .. } => Verdict::Rejected,
        }
    }

    /// How loud it is logged: a refusal is `info`, a failed delivery `warn`, and a
    /// promise at stake `error` (contract §10).
    pub(crate) fn level(&self) -> Level {
        match self {
            // Only this process knows of the receipts, as long as it lives.
            Refusal::Unkept => Level::ERROR,
            Refusal::Undelivered(_) | Refusal::Elsewhere(_) => Level::WARN,
            _ => Level::INFO,
        }
    }
}

/// The HTTP status of a word (contract §5). `unmatched` is 200 as an answer and
/// 422 as a refusal.
pub(crate) fn status(result: RequestResult, refused: bool) -> StatusCode {
    match result {
        RequestResult::Unmatched if refused => StatusCode::UNPROCESSABLE_ENTITY,
        RequestResult::Delivered | RequestResult::Duplicate | RequestResult::Unmatched => {
            StatusCode::OK
        }
        RequestResult::Malformed => StatusCode::BAD_REQUEST,
        RequestResult::Unverified => StatusCode::UNAUTHORIZED,
        RequestResult::Forbidden => StatusCode::FORBIDDEN,
        RequestResult::UnknownPath => StatusCode::NOT_FOUND,
        RequestResult::Method => StatusCode::METHOD_NOT_ALLOWED,
        RequestResult::Slow => StatusCode::REQUEST_TIMEOUT,
        RequestResult::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        RequestResult::Conflict => StatusCode::CONFLICT,
        RequestResult::Untyped => StatusCode::UNPROCESSABLE_ENTITY,
        RequestResult::Failed => StatusCode::BAD_GATEWAY,
        RequestResult::Busy
        | RequestResult::Draining
        | RequestResult::Unavailable
        | RequestResult::InFlight => StatusCode::SERVICE_UNAVAILABLE,
        RequestResult::Late => StatusCode::GATEWAY_TIMEOUT,
    }
}

/// For the log: what happened, and for a delivery to whom.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::UnknownPath(path) => write!(f, "no source has this path: `{path}`"),
            Refusal::Method => f.write_str("not POST"),
            Refusal::Forbidden(Some(address)) => write!(
                f,
                "the sender's address, {address}, is not in `allow_from`: behind a proxy, name \
                 that in `server.trusted_proxies`"
            ),
            Refusal::Forbidden(None) => f.write_str(
                "`allow_from` is set, and the sender's address is not known: of a proxy in \
                 `server.trusted_proxies`, it comes in x-forwarded-for",
            ),
            Refusal::Rejected(rejection) => rejection.fmt(f),
            Refusal::TooLarge => f.write_str("the body is over `server.max_body`"),
            Refusal::Slow => f.write_str("the body came too slowly"),
            Refusal::Broken => f.write_str("the sender broke off in the body"),
            Refusal::Busy(limit) => write!(f, "`{limit}` is reached"),
            Refusal::Draining => f.write_str("stopping"),
            Refusal::Untyped => {
                f.write_str("the event has no type, and every route that could take it has `types`")
            }
            Refusal::Unnamed(destination) => write!(
                f,
                "`{destination}` makes a name of the event that needs a type it has not, or is over 255 bytes"
            ),
            Refusal::Unmatched => f.write_str("no route takes it"),
            Refusal::Conflict { .. } => f.write_str("delivered before with another body"),
            Refusal::LedgerAway => f.write_str("the ledger's store is away"),
            Refusal::Unkept => f.write_str(
                "the ledger's store went away before it could keep who accepted: should hookward end now, they get it again",
            ),
            Refusal::Elsewhere(_) => f.write_str("not delivered, by another replica: see its log"),
            Refusal::InFlight => {
                f.write_str("the same id was still running at the end of the budget")
            }
            Refusal::Undelivered(undelivered) => {
                for (index, (destination, failure)) in undelivered.failures.iter().enumerate() {
                    let separator = if index > 0 { "; " } else { "" };
                    write!(f, "{separator}{destination}: {}", failure.reason)?;
                }
                for (index, destination) in undelivered.pending.iter().enumerate() {
                    let separator = if index > 0 || !undelivered.failures.is_empty() {
                        "; "
                    } else {
                        ""
                    };
                    write!(f, "{separator}{destination}: no answer within the budget")?;
                }
                Ok(())
            }
        }
    }
}

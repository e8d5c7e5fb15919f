use std::fmt;
use std::time::Duration;

use http::StatusCode;
use humantime::format_duration;

use crate::observe::AttemptOutcome;

/// A delivery that ended without a receipt.
#[derive(Clone, Debug)]
pub struct Failure {
    /// How it came out.
    pub outcome: AttemptOutcome,
    /// Why, for the log.
    pub reason: Reason,
    /// Whether the event may have arrived all the same: bytes were written, and
    /// no answer settled it.
    pub may_have_arrived: bool,
}

impl Failure {
    /// The event did not leave, or was answered.
    pub(super) fn before(outcome: AttemptOutcome, reason: Reason) -> Self {
        Self {
            outcome,
            reason,
            may_have_arrived: false,
        }
    }

    /// The event left, and nothing says whether it arrived.
    pub(super) fn in_doubt(outcome: AttemptOutcome, reason: Reason) -> Self {
        Self {
            outcome,
            reason,
            may_have_arrived: true,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl std::error::Error for Failure {}

/// Why a delivery failed. Printed for the log; it holds nothing of a body and no
/// secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its `max_in_flight` is reached.
    Busy,
    /// Its circuit is open.
    CircuitOpen {
        /// For how long yet; zero while a probe is under way.
        left: Duration,
    },
    /// The budget ended, or the sender hung up, before anything was sent.
    Budget,
    /// Connecting was refused for as long as the event was held.
    ConnectRefused {
        /// How long it was tried.
        held: Duration,
    },
    /// There was no connection within `connect_timeout`.
    ConnectTimeout(Duration),
    /// There was no connection.
    Connect(String),
    /// TLS could not be agreed on.
    Tls(String),
    /// There was no answer within `timeout`.
    Timeout(Duration),
    /// The connection broke before a whole answer head was there.
    Broken(String),
    /// It answered with a status that does not accept.
    Status(StatusCode),
    /// There is no connection to the broker.
    NoBroker(String),
    /// The broker takes nothing at the moment (a memory or disk alarm).
    Blocked(String),
    /// The broker confirmed it with a no.
    Nack,
    /// The broker gave it back: no queue takes it.
    Returned(String),
    /// The broker closed the channel, or what is published to is not there.
    Channel(String),
    /// The broker answers nothing any more, and for how long or to what.
    Silent(String),
    /// The connection was lost before the broker confirmed it.
    Unconfirmed(String),
    /// A template has no name for it within what AMQP can carry.
    Unnamed,
    /// The file could not be opened, written or cut back.
    File(String),
    /// The file was written, and syncing it failed.
    Sync(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Busy => f.write_str("`max_in_flight` is reached"),
            Reason::CircuitOpen { .. } => f.write_str("the circuit is open"),
            Reason::Budget => {
                f.write_str("the budget ended, or the sender hung up, before anything was sent")
            }
            Reason::ConnectRefused { held } if held.is_zero() => {
                f.write_str("connecting was refused")
            }
            Reason::ConnectRefused { held } => write!(
                f,
                "connecting was refused for {}",
                format_duration(Duration::from_millis(held.as_millis() as u64))
            ),
            Reason::ConnectTimeout(after) => {
                write!(f, "no connection within {}", format_duration(*after))
            }
            Reason::Connect(why) => write!(f, "no connection: {why}"),
            Reason::Tls(why) => write!(f, "TLS failed: {why}"),
            Reason::Timeout(after) => write!(f, "no answer within {}", format_duration(*after)),
            Reason::Broken(why) => write!(f, "the connection broke without an answer: {why}"),
            Reason::Status(status) => write!(f, "answered {}", status.as_u16()),
            Reason::NoBroker(why) => write!(f, "no broker: {why}"),
            Reason::Blocked(why) => write!(f, "the broker is blocked: {why}"),
            Reason::Nack => f.write_str("the broker refused it (nack)"),
            Reason::Returned(why) => write!(f, "no queue takes it: {why}"),
            Reason::Channel(why) => write!(f, "the broker refused it: {why}"),
            Reason::Silent(why) => write!(f, "the broker is silent: {why}"),
            Reason::Unconfirmed(why) => {
                write!(f, "the broker did not confirm it: {why}")
            }
            Reason::Unnamed => f.write_str("it has no type, or a name over 255 bytes"),
            Reason::File(why) => write!(f, "the file could not be written: {why}"),
            Reason::Sync(why) => write!(f, "the file was written and not synced: {why}"),
        }
    }
}

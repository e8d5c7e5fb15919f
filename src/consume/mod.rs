//! Messages out of a queue: the other way in.
//!
//! A [`Consumer`] keeps one connection to a broker, takes up to `prefetch` messages at
//! once out of one queue, and hands each to the [`Line`], which proves and delivers
//! it as it does a request. What the line says becomes of the message here: it is
//! acknowledged, held and tried again, or rejected, which the broker understands as
//! "to the dead-letter exchange". Until then it stays the broker's: whatever ends,
//! the connection, the broker or hookward, the message is in the queue again.
//!
//! | file | what it holds |
//! |---|---|
//! | `config` | the keys of a queue in `[sources.NAME]`, checked |
//! | `headers` | the headers of a message, as those of a request |
//! | `schedule` | how long a message waits for its next attempt |
//! | `handling` | one message, from its arrival to its end |
//! | `session` | the messages of one connection |
//! | `supervisor` | connecting, and what is missing or away |

mod config;
mod handling;
mod headers;
mod schedule;
mod session;
mod supervisor;

use std::any::Any;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

pub use config::QueueConfig;
pub use supervisor::{Consumer, Standing};

use crate::message::Headers;

/// Where messages are taken to: the line that proves and delivers them.
pub trait Line: Send + Sync + 'static {
    /// Counts so many bytes of a message that is here; for as long as the share
    /// lives.
    fn hold(&self, bytes: usize) -> Share;

    /// The time.
    fn now(&self) -> SystemTime;

    /// Takes a message down the line once, within the budget of a request. Until it
    /// is begun, `stop` ends it: [`Verdict::Later`].
    fn take(
        &self,
        message: &Message,
        stop: &CancellationToken,
    ) -> impl Future<Output = Verdict> + Send;
}

/// A share of the memory for bodies; given back when its last copy goes.
pub type Share = Arc<dyn Any + Send + Sync>;

/// What is to become of a message after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has arrived, or nobody wants it: acknowledge it.
    Accepted,
    /// It did not arrive: try again, `max_attempts` times in all.
    Again,
    /// hookward could not try it: it is busy, or its ledger is away. Try again, and
    /// do not count it.
    Later,
    /// It never will be taken: reject it.
    Rejected,
}

/// A message of a queue, as often as it is tried.
pub struct Message {
    /// Its headers, as those of a request.
    pub headers: Headers,
    /// Its body, the very bytes.
    pub body: Bytes,
    /// When it was taken out of the queue: it counts as fresh or stale as of then,
    /// however long it is tried.
    pub arrived: SystemTime,
    /// Its share of the memory for bodies.
    pub share: Share,
    /// Who has accepted it in earlier attempts; kept for messages of an open source,
    /// which the ledger does not know.
    accepted: Mutex<Vec<Arc<str>>>,
}

impl Message {
    /// A message that nobody has accepted yet.
    pub fn new(headers: Headers, body: Bytes, arrived: SystemTime, share: Share) -> Self {
        Self {
            headers,
            body,
            arrived,
            share,
            accepted: Mutex::new(Vec::new()),
        }
    }

    /// The destinations noted so far.
    pub fn accepted(&self) -> Vec<Arc<str>> {
        let accepted = self.accepted.lock();
        accepted.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes destinations that have accepted it.
    pub fn note(&self, destinations: impl Iterator<Item = Arc<str>>) {
        let accepted = self.accepted.lock();
        let mut accepted = accepted.unwrap_or_else(PoisonError::into_inner);
        accepted.extend(destinations);
    }
}

//! Files: one JSON object a line, synced before the receipt.
//!
//! A thread of its own for each file takes all lines that are waiting, writes
//! them at once and syncs once, so that many deliveries share the cost of one
//! sync. What could not be written whole is cut back; what could not be synced is
//! in doubt, and never accepted.
//!
//! Two destinations with one path are not told apart here; the configuration as a
//! whole does that.

mod config;
mod line;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use crate::message::Event;
use crate::observe::{AttemptOutcome, Clock};

use super::breaker::Health;
use super::claim::Claim;
use super::headers::Headers;
use super::{Attempts, Budget, Failure, Reason};

pub use config::FileConfig;

use writer::{Job, Trouble, Writer};

/// A file, and the thread that writes it.
pub(super) struct File {
    /// Dropping it ends the thread, once it has written what is queued.
    queue: SyncSender<Job>,
    reopen: Arc<AtomicBool>,
    clock: Clock,
}

/// How long a line that is being written may take: as long as an HTTP service
/// may by default. A disk that hangs holds up the request no longer.
const WRITE: Duration = Duration::from_secs(8);

impl File {
    /// Opens the file and starts its thread. Up to `room` lines may wait.
    pub(super) fn build(config: &FileConfig, room: usize, clock: Clock) -> Result<Self, String> {
        Self::start(Writer::open(config)?, room, clock)
    }

    fn start(writer: Writer, room: usize, clock: Clock) -> Result<Self, String> {
        let (queue, jobs) = sync_channel(room.min(LONGEST_QUEUE));
        let reopen = writer.reopen();
        std::thread::Builder::new()
            .name("file".into())
            .spawn(move || writer.run(&jobs))
            .map_err(|error| format!("its thread could not be started: {error}"))?;
        Ok(Self {
            queue,
            reopen,
            clock,
        })
    }

    /// Has the file opened again before the next line.
    pub(super) fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }

    /// Writes the event as a line and waits until it is synced.
    pub(super) async fn deliver(
        &self,
        event: &Event,
        budget: Budget<'_>,
        attempts: &mut Attempts<'_>,
    ) -> Result<(), Failure> {
        let (health, written) = self.write(event, budget).await;
        match &written {
            Ok(()) => attempts.ended(AttemptOutcome::Accepted, health),
            Err(failure) => attempts.ended(failure.outcome, health),
        }
        written
    }

    async fn write(&self, event: &Event, budget: Budget<'_>) -> (Health, Result<(), Failure>) {
        let late = || Failure::before(AttemptOutcome::Late, Reason::Budget);
        if budget.has_ended(Instant::now()) {
            return (Health::Unknown, Err(late()));
        }
        let line = line::line(event, &Headers::default(), self.clock.now());
        let (done, mut outcome) = oneshot::channel();
        // Also when this future is dropped, a line not yet begun is not written.
        let (claim, turn) = Claim::new();
        let job = Job { line, turn, done };
        if self.queue.try_send(job).is_err() {
            let full = Failure::before(AttemptOutcome::Busy, Reason::Busy);
            return (Health::Unknown, Err(full));
        }
        let outcome = match budget.bound(&mut outcome).await {
            Some(outcome) => Ok(outcome),
            // Before it was begun the budget ends it.
            None if claim.take_back() => return (Health::Unknown, Err(late())),
            None => timeout(WRITE, outcome).await,
        };
        match outcome {
            Ok(Ok(Ok(()))) => (Health::There, Ok(())),
            Ok(Ok(Err(Trouble::NotWritten(why)))) => (
                Health::Away,
                Err(Failure::before(AttemptOutcome::Failed, Reason::File(why))),
            ),
            Ok(Ok(Err(Trouble::InDoubt(why)))) => (
                Health::Away,
                Err(Failure::in_doubt(
                    AttemptOutcome::Unconfirmed,
                    Reason::Sync(why),
                )),
            ),
            Ok(Err(_)) => (
                Health::Away,
                Err(Failure::in_doubt(
                    AttemptOutcome::Unconfirmed,
                    Reason::File("its thread ended".into()),
                )),
            ),
            Err(_) => (
                Health::Away,
                Err(Failure::in_doubt(
                    AttemptOutcome::Late,
                    Reason::Timeout(WRITE),
                )),
            ),
        }
    }
}

/// The queue is set aside as a whole, so it is bounded even where
/// `max_in_flight` is not meant seriously (lines).
const LONGEST_QUEUE: usize = 65_536;

#[cfg(test)]
mod tests;

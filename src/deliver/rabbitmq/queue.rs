use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lapin::types::ShortString;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot};

use crate::deliver::Reason;
use crate::deliver::breaker::Health;
use crate::deliver::claim::Claim;
use crate::observe::AttemptOutcome;

use super::job::{Job, Missed, Outcome};
use super::properties::Publication;
use super::waiting::{Batch, Room, Shown, Waiting};

/// How it stands with the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The first attempt to connect is under way; what comes waits for its end.
    Opening,
    /// Publications pass.
    Ready,
    /// There is no connection, and why.
    Away(String),
    /// The broker takes nothing at the moment, and why.
    Blocked(String),
    /// What is published to is not there.
    Missing(String),
}

impl Standing {
    fn lets_through(&self) -> bool {
        matches!(self, Standing::Opening | Standing::Ready)
    }

    /// What a publication is told that was not begun.
    pub(super) fn refusal(&self) -> Missed {
        let (outcome, reason) = match self {
            Standing::Opening | Standing::Ready => (AttemptOutcome::Busy, Reason::Busy),
            Standing::Away(why) => (AttemptOutcome::Unavailable, Reason::NoBroker(why.clone())),
            Standing::Blocked(why) => (AttemptOutcome::Unavailable, Reason::Blocked(why.clone())),
            Standing::Missing(why) => {
                let reason = Reason::Channel(why.clone());
                return Missed::before(AttemptOutcome::Failed, reason, Health::Unknown);
            }
        };
        // Nothing was tried, so nothing was learned: the supervisor knows when
        // the broker is back, before a circuit would.
        Missed::before(outcome, reason, Health::Unknown)
    }
}

/// What an owner of a channel is given.
pub(super) enum Taken {
    /// This is to be published.
    Batch(Batch),
    /// Nothing may go that way at the moment.
    Nothing,
    /// Nothing will come any more.
    Over,
}

/// Publications that wait for a channel. All channels take from it, so that
/// whichever is idle takes whatever waits.
pub(super) struct Queue {
    state: Mutex<State>,
    arrived: Notify,
    /// Somebody asked for a broker that is away.
    wanted: Notify,
    /// The broker has shown that it is there since somebody asked.
    heard: AtomicBool,
    room: usize,
}

struct State {
    standing: Standing,
    waiting: Waiting,
    /// When so many wait, some channel has room for them.
    enough: usize,
    closed: bool,
}

impl Queue {
    /// An empty queue in which up to `room` may wait.
    pub(super) fn new(room: usize) -> Self {
        Self {
            state: Mutex::new(State {
                standing: Standing::Opening,
                waiting: Waiting::default(),
                enough: usize::MAX,
                closed: false,
            }),
            arrived: Notify::new(),
            wanted: Notify::new(),
            heard: AtomicBool::new(false),
            room,
        }
    }

    /// Lines a publication up.
    ///
    /// # Errors
    /// At once, when there is no room or no broker.
    pub(super) fn push(
        &self,
        publication: Publication,
    ) -> Result<(Claim, oneshot::Receiver<Outcome>), Missed> {
        let (job, claim, outcome) = Job::new(publication);
        {
            let mut state = self.lock();
            if !state.standing.lets_through() || state.closed {
                self.wanted.notify_one();
                return Err(state.standing.refusal());
            }
            if state.waiting.len() >= self.room {
                return Err(Standing::Ready.refusal());
            }
            state.waiting.line_up(job);
            if state.waiting.len() < state.enough {
                return Ok((claim, outcome));
            }
            // Whoever still waits for more will say so again.
            state.enough = usize::MAX;
        }
        self.arrived.notify_waiters();
        Ok((claim, outcome))
    }

    /// Ends when there may be something to take that was not there before this
    /// was called.
    pub(super) fn arrived(&self) -> Notified<'_> {
        self.arrived.notified()
    }

    /// What may go now, if anything may.
    ///
    /// To an exchange that is not proven on this connection goes one alone, and
    /// nothing further before its outcome is known. Over an exchange that it does
    /// not have the broker closes the channel; what lapin still has to write on
    /// that channel goes out behind its consent, and over that the broker ends the
    /// connection. Behind one that is alone, there is nothing to write.
    pub(super) fn take(&self, mut room: Room<'_>) -> Taken {
        let mut state = self.lock();
        let mut batch = None;
        if state.standing.lets_through() {
            batch = state.waiting.batch(&mut room);
        }
        let Some(batch) = batch else {
            if state.closed && state.waiting.is_empty() {
                return Taken::Over;
            }
            // What waits now did not do.
            let enough = room.enough.max(state.waiting.len() + 1);
            state.enough = state.enough.min(enough);
            return Taken::Nothing;
        };
        let more = state.waiting.has_more();
        drop(state);
        if more {
            // Another channel may have room for it.
            self.arrived.notify_waiters();
        }
        Taken::Batch(batch)
    }

    /// Notes what became of an exchange with a batch that was taken.
    pub(super) fn learn(&self, exchange: ShortString, trial: bool, shown: Shown) {
        if shown == Shown::There && !trial {
            return;
        }
        self.lock().waiting.learn(exchange, trial, shown);
        self.arrived.notify_waiters();
    }

    /// On a new connection, nothing is known.
    pub(super) fn forget(&self) {
        self.lock().waiting.forget();
    }

    /// Changes how it stands. What waits is told at once if nothing passes any
    /// more; true when it stood otherwise before.
    pub(super) fn stand(&self, standing: Standing) -> bool {
        let mut state = self.lock();
        let changed = state.standing != standing;
        state.standing = standing;
        let told = if state.standing.lets_through() {
            Vec::new()
        } else {
            state.waiting.take_all()
        };
        let standing = state.standing.clone();
        drop(state);
        for job in told {
            if job.begin() {
                job.ending.tell(Err(standing.refusal()));
            }
        }
        if standing.lets_through() {
            self.arrived.notify_waiters();
        }
        changed
    }

    pub(super) fn standing(&self) -> Standing {
        self.lock().standing.clone()
    }

    /// Notes that the broker has shown that it is there, other than by a delivery.
    pub(super) fn hear(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    /// Whether it has since this was last asked.
    pub(super) fn was_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed) && self.heard.swap(false, Ordering::Relaxed)
    }

    /// Lets what waits be finished, and nothing new in.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_waiters();
    }

    /// Waits until somebody is turned away for want of a broker.
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves it whole, so a poisoned state is, too.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::pin::pin;

    use bytes::Bytes;
    use futures_util::FutureExt as _;
    use lapin::BasicProperties;

    use super::*;

    fn publication(exchange: &str, id: &str) -> Publication {
        Publication {
            exchange: exchange.into(),
            routing_key: "key".into(),
            message_id: id.into(),
            properties: BasicProperties::default(),
            body: Bytes::new(),
        }
    }

    fn open(room: usize) -> Queue {
        let queue = Queue::new(room);
        queue.stand(Standing::Ready);
        queue
    }

    /// For a channel that has room for as many as are enough.
    fn take(queue: &Queue, enough: usize) -> Taken {
        queue.take(Room {
            exchange: None,
            ids: &mut HashSet::new(),
            limit: 8,
            enough,
        })
    }

    #[test]
    fn who_waits_for_more_is_told_when_there_is_enough() {
        let queue = open(9);
        queue.learn("x".into(), false, Shown::There);
        queue.learn("x".into(), true, Shown::There);
        let mut outcomes = Vec::new();
        let mut arrive = |id| outcomes.push(queue.push(publication("x", id)));
        arrive("1");
        let mut arrived = pin!(queue.arrived());
        assert!(matches!(take(&queue, 3), Taken::Nothing));
        arrive("2");
        assert!(arrived.as_mut().now_or_never().is_none());
        arrive("3");
        assert!(arrived.as_mut().now_or_never().is_some());
        assert!(matches!(take(&queue, 3), Taken::Batch(batch) if batch.jobs.len() == 3));
    }

    #[test]
    fn past_its_room_it_is_busy_at_once() {
        let queue = open(1);
        let _first = queue.push(publication("x", "1")).unwrap();
        let Err(missed) = queue.push(publication("x", "2")) else {
            unreachable!()
        };
        assert_eq!(missed.failure.outcome, AttemptOutcome::Busy);
    }

    #[tokio::test]
    async fn a_broker_that_goes_tells_all_that_wait_and_all_that_come() {
        let queue = open(9);
        let (_claim, waiting) = queue.push(publication("x", "1")).unwrap();
        queue.stand(Standing::Away("gone".into()));
        let told = waiting.await.unwrap().unwrap_err().failure;
        assert_eq!(told.outcome, AttemptOutcome::Unavailable);
        assert!(!told.may_have_arrived);
        assert_eq!(told.reason, Reason::NoBroker("gone".into()));
        let Err(missed) = queue.push(publication("x", "2")) else {
            unreachable!()
        };
        assert_eq!(missed.failure.outcome, AttemptOutcome::Unavailable);
        queue.wanted().await;
    }

    #[test]
    fn closed_it_is_finished_and_then_ends() {
        let queue = open(9);
        let _waiting = queue.push(publication("x", "1")).unwrap();
        queue.close();
        assert!(queue.push(publication("x", "2")).is_err());
        let Taken::Batch(batch) = take(&queue, 1) else {
            unreachable!()
        };
        assert_eq!(batch.jobs.len(), 1);
        for _ in 0..2 {
            assert!(matches!(take(&queue, 1), Taken::Over));
        }
    }
}

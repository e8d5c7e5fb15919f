use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lapin::types::ShortString;
use tokio::sync::{Notify, oneshot};

use crate::deliver::breaker::Health;
use crate::deliver::{Failure, Reason};
use crate::observe::AttemptOutcome;

use super::properties::Publication;

/// How a publication ended: confirmed and not returned, or not.
pub(super) type Outcome = Result<(), Missed>;

/// Why a publication has no receipt, and what that shows of the broker.
#[derive(Debug)]
pub(super) struct Missed {
    pub(super) failure: Failure,
    pub(super) health: Health,
}

impl Missed {
    pub(super) fn before(outcome: AttemptOutcome, reason: Reason, health: Health) -> Self {
        Self {
            failure: Failure::before(outcome, reason),
            health,
        }
    }

    pub(super) fn in_doubt(outcome: AttemptOutcome, reason: Reason, health: Health) -> Self {
        Self {
            failure: Failure::in_doubt(outcome, reason),
            health,
        }
    }
}

/// A publication that waits for its turn.
pub(super) struct Job {
    pub(super) publication: Publication,
    pub(super) ending: Ending,
    claim: Arc<AtomicU8>,
}

/// Where the outcome of a publication is waited for.
pub(super) struct Ending(oneshot::Sender<Outcome>);

impl Ending {
    pub(super) fn tell(self, outcome: Outcome) {
        // Who no longer waits was told something else, or gave up.
        let _ = self.0.send(outcome);
    }
}

/// Who has the say over a publication: whoever moves it on from `WAITING`.
/// Dropping it keeps one that was not begun from being published.
pub(super) struct Claim(Arc<AtomicU8>);

const WAITING: u8 = 0;
const BEGUN: u8 = 1;
const TAKEN_BACK: u8 = 2;

impl Claim {
    /// Keeps it from being published; false when it was begun.
    pub(super) fn take_back(&self) -> bool {
        claim(&self.0, TAKEN_BACK)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.take_back();
    }
}

fn claim(state: &AtomicU8, to: u8) -> bool {
    state
        .compare_exchange(WAITING, to, Ordering::AcqRel, Ordering::Acquire)
        .is_ok()
}

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

/// What a channel has under way, and how much more it takes.
pub(super) struct Room<'a> {
    /// Where that goes; none while there is nothing.
    pub(super) exchange: Option<&'a ShortString>,
    /// Its ids.
    pub(super) ids: &'a HashMap<ShortString, usize>,
    /// How many more may be published.
    pub(super) left: usize,
}

/// What there was to take.
pub(super) enum Taken {
    /// These are to be published.
    Jobs(Vec<Job>),
    /// Something waits, and not for this channel as it is.
    Later,
    /// Nothing waits.
    Nothing,
    /// Nothing waits, and nothing will.
    Over,
}

/// How many that cannot go yet are looked past for one that can.
const FURTHER: usize = 128;

/// Publications that wait for a channel. All channels take from it, so that
/// whichever is idle takes whatever waits.
pub(super) struct Queue {
    state: Mutex<State>,
    arrived: Notify,
    /// Somebody asked for a broker that is away.
    wanted: Notify,
    room: usize,
}

struct State {
    standing: Standing,
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Queue {
    /// An empty queue in which up to `room` may wait.
    pub(super) fn new(room: usize) -> Self {
        Self {
            state: Mutex::new(State {
                standing: Standing::Opening,
                jobs: VecDeque::new(),
                closed: false,
            }),
            arrived: Notify::new(),
            wanted: Notify::new(),
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
        let claim = Arc::new(AtomicU8::new(WAITING));
        let (done, outcome) = oneshot::channel();
        let job = Job {
            publication,
            ending: Ending(done),
            claim: Arc::clone(&claim),
        };
        {
            let mut state = self.lock();
            if !state.standing.lets_through() || state.closed {
                self.wanted.notify_one();
                return Err(state.standing.refusal());
            }
            if state.jobs.len() >= self.room {
                return Err(Standing::Ready.refusal());
            }
            state.jobs.push_back(job);
        }
        self.arrived.notify_one();
        Ok((Claim(claim), outcome))
    }

    /// Takes what may be published on a channel that has this room: to one
    /// exchange, and no two under one message id.
    ///
    /// One exchange, because the broker closes the channel over one it does not
    /// have, and that is to cost no neighbour. No id twice, because the id is
    /// what tells which one the broker gave back.
    pub(super) fn take(&self, room: &Room<'_>) -> Taken {
        let mut state = self.lock();
        let mut batch = Vec::new();
        if state.standing.lets_through() {
            batch = state.batch(room);
        }
        let rest = !state.jobs.is_empty();
        let over = state.closed && !rest;
        drop(state);
        if rest || over {
            // The others are to see it too.
            self.arrived.notify_one();
        }
        match (batch.is_empty(), rest) {
            (false, _) => Taken::Jobs(batch),
            (true, true) => Taken::Later,
            (true, false) if over => Taken::Over,
            (true, false) => Taken::Nothing,
        }
    }

    /// Waits until there may be something to take.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// What arrived is for another channel, as this one is not to be used.
    pub(super) fn pass_on(&self) {
        self.arrived.notify_one();
    }

    /// Changes how it stands. What waits is told at once if nothing passes any
    /// more; true when it stood otherwise before.
    pub(super) fn stand(&self, standing: Standing) -> bool {
        let mut state = self.lock();
        let changed = state.standing != standing;
        state.standing = standing;
        let told = if state.standing.lets_through() {
            VecDeque::new()
        } else {
            std::mem::take(&mut state.jobs)
        };
        let standing = state.standing.clone();
        drop(state);
        for job in told {
            if claim(&job.claim, BEGUN) {
                job.ending.tell(Err(standing.refusal()));
            }
        }
        if standing.lets_through() {
            self.arrived.notify_one();
        }
        changed
    }

    pub(super) fn standing(&self) -> Standing {
        self.lock().standing.clone()
    }

    /// Lets what waits be finished, and nothing new in.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
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

impl State {
    fn batch(&mut self, room: &Room<'_>) -> Vec<Job> {
        let exchange = |job: &Job| job.publication.exchange.clone();
        let Some(first) = self.jobs.front().map(exchange) else {
            return Vec::new();
        };
        // Who waits longest is not overtaken by all that go elsewhere: a channel
        // that is busy with another exchange first finishes that.
        if room.exchange.is_some_and(|exchange| *exchange != first) {
            return Vec::new();
        }
        let mut batch: Vec<Job> = Vec::with_capacity(room.left.min(self.jobs.len()));
        let mut ids: HashSet<ShortString> = HashSet::new();
        let mut later = Vec::new();
        while batch.len() < room.left
            && later.len() < FURTHER
            && let Some(job) = self.jobs.pop_front()
        {
            let id = &job.publication.message_id;
            if job.publication.exchange != first || room.ids.contains_key(id) || ids.contains(id) {
                later.push(job);
                continue;
            }
            // One that was taken back is dropped here.
            if claim(&job.claim, BEGUN) {
                ids.insert(id.clone());
                batch.push(job);
            }
        }
        for job in later.into_iter().rev() {
            self.jobs.push_front(job);
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
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

    fn ids(batch: &[Job]) -> Vec<&str> {
        let ids = batch.iter().map(|job| job.publication.message_id.as_str());
        ids.collect()
    }

    /// What an idle channel takes.
    fn take(queue: &Queue, left: usize) -> Vec<Job> {
        taken(queue, None, &HashMap::new(), left)
    }

    fn taken(
        queue: &Queue,
        exchange: Option<&str>,
        ids: &HashMap<ShortString, usize>,
        left: usize,
    ) -> Vec<Job> {
        let exchange = exchange.map(ShortString::from);
        let exchange = exchange.as_ref();
        match queue.take(&Room {
            exchange,
            ids,
            left,
        }) {
            Taken::Jobs(jobs) => jobs,
            Taken::Later | Taken::Nothing | Taken::Over => Vec::new(),
        }
    }

    #[test]
    fn what_goes_together_has_no_id_twice_and_one_exchange() {
        let queue = open(9);
        let mut waiting = Vec::new();
        for (exchange, id) in [("x", "1"), ("x", "1"), ("y", "2"), ("x", "3"), ("x", "1")] {
            waiting.push(queue.push(publication(exchange, id)).unwrap());
        }
        for expected in [&["1", "3"][..], &["1"], &["2"], &["1"]] {
            assert_eq!(ids(&take(&queue, 8)), expected);
        }
    }

    #[test]
    fn what_is_under_way_is_joined_by_no_id_twice_and_no_other_exchange() {
        let queue = open(9);
        let mut waiting = Vec::new();
        for (exchange, id) in [("x", "1"), ("x", "2"), ("y", "3"), ("x", "4")] {
            waiting.push(queue.push(publication(exchange, id)).unwrap());
        }
        let under_way = HashMap::from([("1".into(), 0)]);
        assert_eq!(ids(&taken(&queue, Some("x"), &under_way, 1)), ["2"]);
        assert_eq!(ids(&taken(&queue, Some("x"), &under_way, 8)), ["4"]);
        assert!(taken(&queue, Some("y"), &under_way, 8).is_empty());
        let free = HashMap::new();
        assert_eq!(ids(&taken(&queue, Some("x"), &free, 8)), ["1"]);
        // Who is first goes first, and a channel with another exchange waits.
        assert!(taken(&queue, Some("x"), &free, 8).is_empty());
        assert_eq!(ids(&take(&queue, 8)), ["3"]);
    }

    #[test]
    fn no_more_is_taken_than_there_is_room_for() {
        let queue = open(9);
        let mut waiting = Vec::new();
        for id in ["1", "2", "3"] {
            waiting.push(queue.push(publication("x", id)).unwrap());
        }
        assert_eq!(ids(&take(&queue, 2)), ["1", "2"]);
        assert_eq!(ids(&take(&queue, 2)), ["3"]);
    }

    #[test]
    fn what_was_taken_back_is_never_published_and_what_was_begun_is_not_taken_back() {
        let queue = open(9);
        let (first, _) = queue.push(publication("x", "1")).unwrap();
        let (second, _) = queue.push(publication("x", "2")).unwrap();
        let (third, _) = queue.push(publication("x", "3")).unwrap();
        assert!(first.take_back());
        drop(third);
        assert_eq!(ids(&take(&queue, 8)), ["2"]);
        assert!(!second.take_back());
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
        assert_eq!(ids(&take(&queue, 8)), ["1"]);
        let ids = HashMap::new();
        let room = Room {
            exchange: None,
            ids: &ids,
            left: 8,
        };
        assert!(matches!(queue.take(&room), Taken::Over));
        assert!(matches!(queue.take(&room), Taken::Over));
    }
}

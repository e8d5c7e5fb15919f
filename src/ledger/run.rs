use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use smallvec::SmallVec;
use tokio::sync::Notify;

use super::claim::IdDigest;
use super::record::{Millis, Record, Standing, millis};
use super::redis::{Elsewhere, Redis};
use super::{BodyDigest, Claim, Ledger, LedgerAway};

/// One run of an id: what it started from and how far it is. Shared by the
/// reservation, the map of running ids and all who wait.
pub(super) struct Run<A> {
    pub(super) body: BodyDigest,
    pub(super) signed: u64,
    /// What was known before and still counts. A resend starts from
    /// [`Standing::Resending`] and no receipts. Not set while the store is asked.
    earlier: OnceLock<Option<Box<Record>>>,
    progress: Mutex<Progress<A>>,
    done: Notify,
}

struct Progress<A> {
    accepted: Accepted,
    /// None while it runs; then what waiters are told.
    outcome: Option<Option<A>>,
}

/// The destinations that accepted in this run, and when.
pub(super) type Accepted = SmallVec<[(Arc<str>, Millis); 2]>;

impl<A> Run<A> {
    pub(super) fn new(claim: &Claim) -> Self {
        Self::of(claim.body, claim.signed)
    }

    /// One in whose place nothing runs: somebody changes what is known of the id.
    pub(super) fn upkeep() -> Self {
        Self::of(BodyDigest::of(b""), 0)
    }

    fn of(body: BodyDigest, signed: u64) -> Self {
        Self {
            body,
            signed,
            earlier: OnceLock::new(),
            progress: Mutex::new(Progress {
                accepted: SmallVec::new(),
                outcome: None,
            }),
            done: Notify::new(),
        }
    }

    /// Says what the run starts from; until then it is not known.
    pub(super) fn starts_from(&self, earlier: Option<Record>) {
        // Once, by whoever made it.
        let _ = self.earlier.set(earlier.map(Box::new));
    }

    /// Whether an event is at work under the id. Not while the store is asked, and
    /// not in an upkeep.
    pub(super) fn has_begun(&self) -> bool {
        self.earlier.get().is_some()
    }

    pub(super) fn earlier(&self) -> Option<&Record> {
        self.earlier.get()?.as_deref()
    }

    /// The destinations that have accepted in this run so far.
    pub(super) fn accepted(&self) -> Accepted {
        self.progress().accepted.clone()
    }

    /// Waits until it ends.
    pub(super) async fn ended(&self) {
        // Counts as waiting from here, so an end between the look and the wait
        // is not missed.
        let done = pin!(self.done.notified());
        if self.progress().outcome.is_none() {
            done.await;
        }
    }

    pub(super) fn finish(&self, outcome: Option<A>) {
        self.progress().outcome = Some(outcome);
        self.done.notify_waiters();
    }

    fn progress(&self) -> MutexGuard<'_, Progress<A>> {
        // What is inside is whole after every statement that changes it.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A: Clone> Run<A> {
    fn outcome(&self) -> Option<Option<A>> {
        self.progress().outcome.clone()
    }
}

/// The right to run an id, held by one at a time.
///
/// Dropped without [`settle`](Self::settle), as by a panic or an abort, it
/// releases the id: receipts are kept, and waiters are told that there is no
/// outcome.
#[must_use = "dropping it releases the id"]
pub struct Reservation<A> {
    ledger: Arc<Ledger<A>>,
    pub(super) run: Arc<Run<A>>,
    pub(super) id: IdDigest,
    pub(super) claim: Claim,
    /// What is being written, should the wait for that be broken off.
    writing: Option<Box<Record>>,
    settled: bool,
}

impl<A> Reservation<A> {
    pub(super) fn new(
        ledger: Arc<Ledger<A>>,
        run: Arc<Run<A>>,
        id: IdDigest,
        claim: Claim,
    ) -> Self {
        Self {
            ledger,
            run,
            id,
            claim,
            writing: None,
            settled: false,
        }
    }

    /// Whether `destination` has accepted this id, before or in this run, and so
    /// must not be sent it again.
    pub fn has_receipt(&self, destination: &str) -> bool {
        let before = self.run.earlier().is_some_and(|earlier| {
            let number = self.ledger.names.number(destination);
            number.is_some_and(|number| earlier.has_receipt(number))
        });
        before
            || self
                .run
                .progress()
                .accepted
                .iter()
                .any(|(name, _)| **name == *destination)
    }

    /// Whether it was delivered before and the sender deliberately sends it again.
    pub fn is_resend(&self) -> bool {
        let earlier = self.run.earlier();
        earlier.is_some_and(|earlier| earlier.standing == Standing::Resending)
    }

    /// Whether this id failed or was partly delivered with another body.
    pub fn body_changed(&self) -> bool {
        let earlier = self.run.earlier();
        earlier.is_some_and(|earlier| earlier.body != self.run.body)
    }

    /// Notes that `destination` accepted at `at`. The receipt counts whatever
    /// becomes of the run.
    pub fn accept(&self, destination: &Arc<str>, at: SystemTime) {
        let accepted = (Arc::clone(destination), millis(at));
        self.run.progress().accepted.push(accepted);
    }

    /// Ends the run. With `delivered` the id is a duplicate from now on, else it
    /// stays as it was but for the receipts of this run; of an id without any
    /// is known that it failed. Whoever waits is told `answer`, and without one
    /// asks again: the turn is theirs.
    ///
    /// # Errors
    /// When the store could not keep it. The id is free then, but counts as
    /// delivered only once its receipts are written; whoever waits asks again.
    pub async fn settle(
        mut self,
        delivered: bool,
        answer: Option<A>,
        now: SystemTime,
    ) -> Result<(), LedgerAway>
    where
        A: Told,
    {
        let now = self.ledger.forgetting.saw(now);
        let failed = self.knows_no_receipt();
        let mut record = self.outcome(delivered, failed, Some(now));
        if self.ledger.store.is_asked() {
            self.writing = record.map(Box::new);
            let receipts = self.writing.as_deref().filter(|r| !r.is_failed());
            let shared = self.ledger.store.shared();
            if let (Some(redis), Some(answer)) = (shared, &answer) {
                redis.tell(self.id, answer.write());
            }
            // Boxed, so that memory does not carry its size.
            let written = Box::pin(self.ledger.store.settle(self.id, receipts)).await;
            if written.is_err() && !shared.is_some_and(Redis::goes_on_alone) {
                return written;
            }
            record = self.writing.take().map(|record| *record);
            if shared.is_some() {
                self.ledger.end_shared(self.id, record, written.is_ok());
            } else {
                self.ledger.end(self.id, record);
            }
        } else {
            self.ledger.end(self.id, record);
        }
        self.settled = true;
        self.run.finish(answer);
        Ok(())
    }

    /// What is known of the id after this run, if that is anything else than
    /// before; `failed` if it is to be known that nobody accepted it.
    fn outcome(&self, delivered: bool, failed: bool, now: Option<Millis>) -> Option<Record> {
        let accepted = self.run.accepted();
        (delivered || failed || !accepted.is_empty())
            .then(|| self.record(delivered, &accepted, now))
    }

    /// Ends what did not run here, as it ended elsewhere.
    fn ends_with(mut self, answer: A) {
        self.settled = true;
        self.ledger.end(self.id, None);
        self.run.finish(Some(answer));
    }

    /// Whether nobody had accepted the id before this run.
    fn knows_no_receipt(&self) -> bool {
        self.run.earlier().is_none_or(Record::is_failed)
    }

    /// What is known of the id after this run.
    fn record(&self, delivered: bool, accepted: &Accepted, now: Option<Millis>) -> Record {
        let times = accepted.iter().map(|&(_, at)| at);
        let earlier = self.run.earlier();
        let mut record = match earlier {
            Some(earlier) if !earlier.is_failed() => earlier.clone(),
            _ => {
                // Without a receipt it failed, or nothing that had to accept was left.
                let first = times.min().or(now).unwrap_or_default();
                let source = self.ledger.names.intern(&self.claim.source);
                let mut record = Record::new(&self.claim, first, source);
                if let Some(failed) = earlier {
                    record.signed = record.signed.max(failed.signed);
                    record.window_end = failed.window_end;
                }
                record
            }
        };
        for (destination, at) in accepted {
            record.accept(self.ledger.names.intern(destination), *at);
        }
        record.settle(&self.claim, delivered);
        record
    }
}

impl<A> Drop for Reservation<A> {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let record = self.writing.take().map(|record| *record);
        let record = record.or_else(|| self.outcome(false, false, None));
        self.ledger.end_unwritten(self.id, record);
        self.run.finish(None);
    }
}

impl<A> fmt::Debug for Reservation<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("claim", &self.claim)
            .finish_non_exhaustive()
    }
}

/// What those who wait for a running id are told, as other replicas are told it.
pub trait Told: Clone {
    /// As a few words of text; an empty one is not told.
    fn write(&self) -> String;
    /// From that text; none when it is none of this version's.
    fn read(text: &str) -> Option<Self>;
}

/// A place among those who wait for a running id.
pub struct Waiter<A> {
    place: Place<A>,
    body_differs: bool,
}

enum Place<A> {
    Here(Arc<Run<A>>),
    /// It runs on another replica. One waits for that, and holds the id here so
    /// that all others wait for the one.
    Elsewhere(Box<(Reservation<A>, Elsewhere)>),
}

impl<A> Waiter<A> {
    pub(super) fn new(run: &Arc<Run<A>>, claim: &Claim) -> Self {
        Self {
            place: Place::Here(Arc::clone(run)),
            body_differs: run.body != claim.body,
        }
    }

    pub(super) fn elsewhere(reservation: Reservation<A>, elsewhere: Elsewhere) -> Self {
        Self {
            body_differs: elsewhere.body != reservation.claim.body,
            place: Place::Elsewhere(Box::new((reservation, elsewhere))),
        }
    }

    /// Whether the running one has another body.
    pub fn body_differs(&self) -> bool {
        self.body_differs
    }
}

impl<A: Told> Waiter<A> {
    /// Waits until the run ends: its answer, or `None` when it was broken off and
    /// the id is free again. There is no deadline here; the caller brings one.
    pub async fn outcome(self) -> Option<A> {
        let (reservation, elsewhere) = match self.place {
            Place::Elsewhere(place) => *place,
            Place::Here(run) => {
                run.ended().await;
                return run.outcome().flatten();
            }
        };
        let ledger = Arc::clone(&reservation.ledger);
        let outcome = ledger.store.shared()?.outcome(reservation.id, &elsewhere);
        // Where Redis is away the id is as good as free: asking again tells.
        let outcome = A::read(&outcome.await.ok().flatten()?)?;
        // Who waits here has the body of the first who came.
        if !self.body_differs {
            reservation.ends_with(outcome.clone());
        }
        Some(outcome)
    }
}

impl<A> fmt::Debug for Waiter<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter")
            .field("body_differs", &self.body_differs)
            .finish_non_exhaustive()
    }
}

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::oneshot;

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

impl Job {
    /// A job, who has the say over it, and where its outcome is waited for.
    pub(super) fn new(publication: Publication) -> (Self, Claim, oneshot::Receiver<Outcome>) {
        let claim = Arc::new(AtomicU8::new(WAITING));
        let (done, outcome) = oneshot::channel();
        let job = Self {
            publication,
            ending: Ending(done),
            claim: Arc::clone(&claim),
        };
        (job, Claim(claim), outcome)
    }

    /// Whether it is to be published from now on: false when it was taken back.
    pub(super) fn begin(&self) -> bool {
        claim(&self.claim, BEGUN)
    }
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

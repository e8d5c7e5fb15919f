use tokio::sync::oneshot;

use crate::deliver::breaker::Health;
use crate::deliver::claim::{Claim, Turn};
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
    turn: Turn,
}

impl Job {
    /// A job, who has the say over it, and where its outcome is waited for.
    pub(super) fn new(publication: Publication) -> (Self, Claim, oneshot::Receiver<Outcome>) {
        let (claim, turn) = Claim::new();
        let (done, outcome) = oneshot::channel();
        let job = Self {
            publication,
            ending: Ending(done),
            turn,
        };
        (job, claim, outcome)
    }

    /// Whether it is to be published from now on: false when it was taken back.
    pub(super) fn begin(&self) -> bool {
        self.turn.begin()
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

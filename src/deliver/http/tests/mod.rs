//! Against services that do what a script says.

mod answers;
mod bounds;
mod connections;
mod tls;

use super::pool::Pool;
use crate::deliver::fixture::{Built, PATIENCE, budget, event};
use crate::deliver::{Failure, Kind, Reason, Receipt};
use crate::message::Event;
use crate::observe::AttemptOutcome;

type Outcome = Result<Receipt, Failure>;

async fn deliver(built: &Built) -> Outcome {
    deliver_event(built, &event().proven()).await
}

async fn deliver_event(built: &Built, event: &Event) -> Outcome {
    built.destination.deliver(event, budget(30)).await
}

fn status(outcome: Outcome) -> u16 {
    match outcome.unwrap_err() {
        Failure {
            outcome: AttemptOutcome::Refused,
            reason: Reason::Status(status),
            may_have_arrived: false,
        } => status.as_u16(),
        other => panic!("{other:?}"),
    }
}

fn pool(built: &Built) -> &Pool {
    match &built.destination.kind {
        Kind::Http(http) => &http.pool,
        Kind::Rabbit(_) | Kind::File(_) => unreachable!(),
    }
}

/// Waits until the pool has or has not a connection that can be used.
async fn until_idle(built: &Built, usable: usize) {
    let began = std::time::Instant::now();
    while pool(built).usable() != usable {
        assert!(began.elapsed() < PATIENCE, "not {usable} at rest");
        tokio::task::yield_now().await;
    }
}

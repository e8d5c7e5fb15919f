//! RabbitMQ: accepted is what the broker confirmed and did not give back.
//!
//! A supervisor keeps one connection to the broker, and a few channels on it.
//! Each channel has one owner, which publishes what has gathered together, beside
//! what is under way. lapin hands a message that came back to whichever confirm is
//! next, so that a confirm proves nothing by itself; but one that came alone shows
//! that all that came back before it was handed over, and can be looked through.
//!
//! | file | what it holds |
//! |---|---|
//! | `config` | `[destinations.NAME]`, checked |
//! | `template` | names that are made of the event |
//! | `properties` | what is published |
//! | `job` | one publication that waits, and where its outcome is told |
//! | `waiting` | which of those that wait may go together, and which goes alone |
//! | `queue` | what waits for a channel, and how it stands with the broker |
//! | `window` | one channel, and what may be published on it beside what is under way |
//! | `under_way` | what is under way on one channel, and which of it is proven |
//! | `flight` | one publication under way, and why it has no receipt |
//! | `publisher` | the one owner of one channel |
//! | `supervisor` | the connection, and what is missing, blocked or away |
//! | `topology` | what is declared, and looked for |

mod config;
mod flight;
mod job;
mod properties;
mod publisher;
mod queue;
mod supervisor;
mod template;
mod topology;
mod under_way;
mod waiting;
mod window;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::amqp as connect;
use crate::message::Event;
use crate::observe::{AttemptOutcome, DestinationMetrics};
use crate::setting::Name;

use super::breaker::Health;
use super::{Attempts, Budget, Failure, Reason};

pub use config::{Argument, Declare, RabbitConfig, RabbitTarget};
pub use template::Template;

use connect::Connector;
use job::{Missed, Outcome};
use properties::Press;
use queue::{Queue, Standing};
use supervisor::{Notice, Supervisor};

/// A broker, and the task that publishes to it.
pub(super) struct Rabbit {
    press: Press,
    queue: Arc<Queue>,
    notice: Arc<Notice>,
    /// The task that publishes.
    publishing: TaskTracker,
    /// Ends the task, once it has finished what is queued.
    stop: DropGuard,
}

/// For finishing and saying goodbye to the broker, when nothing is queued any more.
const GOODBYE: Duration = Duration::from_secs(1);

impl Rabbit {
    /// Starts to connect, and waits for nothing. Up to `room` events may wait.
    /// To be called in a tokio runtime.
    pub(super) fn build(
        config: &RabbitConfig,
        name: &Name,
        room: usize,
        metrics: &DestinationMetrics,
    ) -> Result<Self, String> {
        let queue = Arc::new(Queue::new(room));
        let notice = Arc::new(Notice::default());
        let stop = CancellationToken::new();
        let press = Press::new(config)?;
        let supervisor = Supervisor {
            name: name.to_string(),
            connector: Connector::new(&config.broker, name.as_str())?,
            target: config.target.clone(),
            declare: config.declare.clone(),
            confirm_timeout: config.confirm_timeout,
            queue: Arc::clone(&queue),
            up: metrics.up.clone(),
            notice: Arc::clone(&notice),
            stop: stop.clone(),
            proven: AtomicBool::new(false),
        };
        metrics.up.set(0);
        // Not among the tasks a drain waits for: every event it has is waited
        // for by its delivery, and it goes on for as long as there may be more.
        let publishing = TaskTracker::new();
        publishing.spawn(supervisor.run());
        publishing.close();
        Ok(Self {
            press,
            queue,
            notice,
            publishing,
            stop: stop.drop_guard(),
        })
    }

    /// Takes leave of the broker, and waits for a moment until that is done.
    pub(super) async fn leave(&self) {
        self.stop.token().cancel();
        let _ = timeout(GOODBYE, self.publishing.wait()).await;
    }

    /// Whether every name it needs can be made of the event.
    pub(super) fn takes(&self, event: &Event) -> bool {
        self.press.takes(event)
    }

    /// Whether the broker has shown that it is there since this was last asked,
    /// other than by a delivery.
    pub(super) fn was_heard(&self) -> bool {
        self.queue.was_heard()
    }

    /// Why it is not to be counted on at the moment, if so.
    pub(super) fn degraded(&self) -> Option<String> {
        match self.queue.standing() {
            Standing::Ready => self.notice.get(),
            Standing::Opening => Some("connecting to the broker".into()),
            Standing::Away(why) => Some(format!("the broker is away: {why}")),
            Standing::Blocked(why) => Some(format!("the broker is blocked: {why}")),
            Standing::Missing(why) => Some(why),
        }
    }

    /// Publishes the event, and waits until the broker has confirmed it.
    pub(super) async fn deliver(
        &self,
        event: &Event,
        budget: Budget<'_>,
        attempts: &mut Attempts<'_>,
    ) -> Result<(), Failure> {
        match self.publish(event, budget).await {
            Ok(()) => {
                attempts.ended(AttemptOutcome::Accepted, Health::There);
                Ok(())
            }
            Err(missed) => {
                attempts.ended(missed.failure.outcome, missed.health);
                Err(missed.failure)
            }
        }
    }

    async fn publish(&self, event: &Event, budget: Budget<'_>) -> Outcome {
        let late = || Missed::before(AttemptOutcome::Late, Reason::Budget, Health::Unknown);
        if budget.has_ended(Instant::now()) {
            return Err(late());
        }
        let Some(publication) = self.press.press(event) else {
            // The line asks beforehand, so this is one that is not required.
            let outcome = AttemptOutcome::Failed;
            return Err(Missed::before(outcome, Reason::Unnamed, Health::Unknown));
        };
        let (claim, mut outcome) = self.queue.push(publication)?;
        let ended = match budget.bound(&mut outcome).await {
            Some(ended) => ended,
            // Before it was begun the budget ends it.
            None if claim.take_back() => return Err(late()),
            // Then its confirm, or the want of one, does.
            None => outcome.await,
        };
        ended.unwrap_or_else(|_| {
            let reason = Reason::Unconfirmed("its publisher ended".into());
            let outcome = AttemptOutcome::Unconfirmed;
            Err(Missed::in_doubt(outcome, reason, Health::Unknown))
        })
    }
}

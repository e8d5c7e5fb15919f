use bytes::Bytes;
use lapin::Acker;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicRejectOptions};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::message::{Family, MessageId};
use crate::observe::{QueueMetrics, QueueOutcome};

use super::schedule::Schedule;
use super::{Line, Message, Verdict, headers};

/// How the messages of a source are handled.
pub(super) struct Handling<'a, L> {
    pub(super) source: &'a str,
    pub(super) line: &'a L,
    pub(super) schedule: Schedule,
    pub(super) max_attempts: u32,
    pub(super) metrics: &'a QueueMetrics,
    /// From here on nothing is begun, and what waits goes back to the queue.
    pub(super) stop: &'a CancellationToken,
}

/// How the handling of a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handled {
    /// The broker was told.
    Settled,
    /// It goes back to the queue when the channel is closed.
    Returned,
    /// The broker could not be told any more: the connection is gone.
    Lost,
}

/// What the broker is told of a message.
enum Settlement {
    Ack,
    Reject(QueueOutcome),
    Return,
}

/// For a word to the broker to be on its way.
const TOLD: std::time::Duration = std::time::Duration::from_secs(5);

impl<L: Line> Handling<'_, L> {
    /// Sees a message through to its end.
    pub(super) async fn handle(&self, delivery: Delivery) -> Handled {
        let share = self.line.hold(delivery.data.len());
        let message = Message::new(
            headers::of(&delivery.properties),
            Bytes::from(delivery.data),
            self.line.now(),
            share,
        );
        let settlement = self.try_on(&message).await;
        // The acker belongs to the channel the message came on. Once that is closed
        // it says nothing any more, on whatever channel comes after.
        self.settle(&delivery.acker, settlement).await
    }

    async fn try_on(&self, message: &Message) -> Settlement {
        let began = Instant::now();
        let mut failed = 0;
        let mut put_off = 0;
        loop {
            if self.stop.is_cancelled() {
                return Settlement::Return;
            }
            let wait = match self.line.take(message, self.stop).await {
                Verdict::Accepted => return Settlement::Ack,
                Verdict::Rejected => return Settlement::Reject(QueueOutcome::Refused),
                Verdict::Again => {
                    failed += 1;
                    put_off = 0;
                    if failed >= self.max_attempts {
                        self.given_up(message, began);
                        return Settlement::Reject(QueueOutcome::Failed);
                    }
                    self.metrics.ended(QueueOutcome::Retried);
                    self.schedule.after(failed)
                }
                Verdict::Later => {
                    put_off += 1;
                    self.schedule.soon(put_off)
                }
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Settlement::Return,
                () = sleep(wait) => {}
            }
        }
    }

    fn given_up(&self, message: &Message, began: Instant) {
        let mut ids = Family::ALL.iter();
        let id = ids.find_map(|family| MessageId::parse(message.headers.get(family.id())?.share()));
        tracing::error!(
            source = self.source,
            id = id.as_ref().map(MessageId::as_str),
            attempts = self.max_attempts,
            elapsed = began.elapsed().as_secs_f64(),
            "given up: rejected to the dead-letter exchange of the queue"
        );
    }

    async fn settle(&self, acker: &Acker, settlement: Settlement) -> Handled {
        let (told, outcome) = match settlement {
            Settlement::Ack => {
                let told = timeout(TOLD, acker.ack(BasicAckOptions::default())).await;
                (told, QueueOutcome::Accepted)
            }
            Settlement::Reject(outcome) => {
                let options = BasicRejectOptions { requeue: false };
                (timeout(TOLD, acker.reject(options)).await, outcome)
            }
            Settlement::Return => {
                self.metrics.ended(QueueOutcome::Returned);
                return Handled::Returned;
            }
        };
        match told {
            Ok(Ok(true)) => {
                self.metrics.ended(outcome);
                Handled::Settled
            }
            Ok(Ok(false) | Err(_)) | Err(_) => {
                self.metrics.ended(QueueOutcome::Returned);
                Handled::Lost
            }
        }
    }
}

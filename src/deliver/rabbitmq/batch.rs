use std::collections::{HashMap, HashSet};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use lapin::types::ShortString;
use lapin::{Channel, Error};
use tokio::time::{Instant, sleep_until};

use super::flight::{Doubt, Flight, Interruption, State, refused};
use super::job::{Ending, Job, Outcome};
use super::waiting::Shown;

/// What a batch left behind.
pub(super) struct Left {
    /// What the channel is good for.
    pub(super) channel: After,
    /// What it showed of the exchange.
    pub(super) exchange: Shown,
    outcomes: Vec<(Ending, Outcome)>,
}

impl Left {
    /// Tells each publication how it came out.
    pub(super) fn tell(self) {
        for (ending, outcome) in self.outcomes {
            ending.tell(outcome);
        }
    }
}

/// What a batch left its channel as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// Everything was settled: the next batch may follow.
    Clean,
    /// It is closed, or something of this batch is still to come on it.
    Spent,
    /// The same, because confirms did not come in time: the broker may be silent.
    Silent,
}

/// Publishes these on a channel on which nothing is under way, waits for every
/// confirm. How each came out is still to be told.
///
/// The broker gives back what it cannot route before it confirms it, and lapin
/// hands a message that was given back to whichever confirm of the channel comes
/// next. So only when all confirms are there is it known which ones stand: those
/// whose id did not come back. No id stands twice among the `jobs`.
pub(super) async fn publish(
    channel: &Channel,
    jobs: Vec<Job>,
    confirm_timeout: Duration,
    interrupted: impl Future<Output = Interruption>,
) -> Left {
    let deadline = Instant::now() + confirm_timeout;
    let flights = jobs.into_iter().map(|job| Flight::new(channel, job));
    let mut batch = Batch(flights.collect());
    // The order of this first look is the order in which the broker counts them.
    // Nobody is woken for it: only the last one is waited for at first.
    batch.look();
    let mut interrupted = pin!(interrupted);
    let doubt = tokio::select! {
        biased;
        () = poll_fn(|context| batch.poll(context)) => None,
        why = &mut interrupted => Some(Doubt::Interrupted(why)),
        () = sleep_until(deadline) => Some(Doubt::Late(confirm_timeout)),
    };
    batch.judge(doubt)
}

/// The publications of a batch on their way.
struct Batch<'a>(Vec<Flight<'a>>);

impl Batch<'_> {
    /// Moves every one on as far as it goes.
    fn look(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        for flight in &mut self.0 {
            let _ = flight.look(&mut context);
        }
    }

    /// Ready when all have ended. The last one is waited for first: the others
    /// have mostly ended by then, and nobody was woken for them.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        for flight in self.0.iter_mut().rev() {
            if flight.look(context).is_pending() {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    /// How each of them came out. `doubt` is why the rest is not waited for, if so.
    fn judge(mut self, doubt: Option<Doubt>) -> Left {
        let settled = self.settle();
        let GivenBack { mut why, stray } = self.given_back();
        let closed = self.closed();
        let answered = self.0.iter().filter(|flight| flight.is_answered()).count();
        let unanswered = self.0.len() - answered;
        let after = match &doubt {
            None if unanswered == 0 && !stray => After::Clean,
            None => After::Spent,
            Some(Doubt::Late(_)) => After::Silent,
            Some(_) => After::Spent,
        };
        let shown = match &closed {
            Some(_) => Shown::Refused,
            None if answered > 0 => Shown::There,
            None => Shown::Nothing,
        };
        let unsure = doubt.unwrap_or(Doubt::Uncounted);
        let judge = |(flight, settled): (Flight<'_>, bool)| {
            let outcome = match (why.remove(&flight.id), flight.state) {
                (Some(why), _) => Err(refused(Some(why))),
                (None, State::Answered { yes: false, .. }) => Err(refused(None)),
                (None, State::Answered { .. }) if settled && !stray => Ok(()),
                (None, State::Lost(lost)) => Err(lost.missed(closed.as_ref(), unanswered == 1)),
                (None, _) => Err(unsure.clone().missed()),
            };
            (flight.ending, outcome)
        };
        Left {
            channel: after,
            exchange: shown,
            outcomes: self.0.into_iter().zip(settled).map(judge).collect(),
        }
    }

    /// Looks at all for the last time; which have ended, and are sure. What came
    /// back of one was handed to its own confirm or to an earlier one, so once
    /// its confirm was seen, all of them are to be looked at again.
    fn settle(&mut self) -> Vec<bool> {
        self.look();
        let ended = self.0.iter().map(|flight| !flight.is_flying()).collect();
        self.look();
        ended
    }

    fn given_back(&mut self) -> GivenBack {
        let messages: Vec<_> = self.0.iter_mut().filter_map(Flight::came_with).collect();
        let mut given_back = GivenBack::default();
        if messages.is_empty() {
            return given_back;
        }
        let own: HashSet<_> = self.0.iter().map(|flight| &flight.id).collect();
        for message in messages {
            match message.properties.message_id() {
                Some(id) if own.contains(id) => {
                    let why = message.reply_text.to_string();
                    given_back.why.insert(id.clone(), why);
                }
                _ => given_back.stray = true,
            }
        }
        given_back
    }

    /// The error over which the broker closed the channel, if it did. Those that
    /// were not written by then only know that it is closed.
    fn closed(&self) -> Option<Error> {
        let mut errors = self.0.iter().filter_map(Flight::error);
        errors.find(|error| error.is_amqp_soft_error()).cloned()
    }
}

/// What the broker gave back of a batch.
#[derive(Default)]
struct GivenBack {
    /// Why, for each publication that was.
    why: HashMap<ShortString, String>,
    /// Something came back that was not of this batch: then nothing is sure.
    stray: bool,
}

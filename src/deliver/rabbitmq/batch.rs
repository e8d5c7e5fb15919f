use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{Channel, Confirmation, Error, PublisherConfirm};
use tokio::time::{Instant, sleep_until};

use crate::deliver::Reason;
use crate::deliver::breaker::Health;
use crate::observe::AttemptOutcome;

use super::connect::told;
use super::queue::{Job, Missed, Outcome};

/// What a batch left its channel as.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum After {
    /// Everything was settled: the next batch may follow.
    Clean,
    /// It is closed, or something of this batch is still to come on it.
    Spent,
    /// The same, because confirms did not come in time: the broker may be silent.
    Silent,
}

/// Why a batch is waited for no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Interruption {
    /// The broker takes nothing at the moment, and why.
    Blocked(String),
    /// The connection is gone, and why.
    Lost(String),
}

/// Publishes a batch, waits for every confirm of it, and tells each job how it
/// came out.
///
/// The broker gives back what it cannot route before it confirms it, and lapin
/// hands a message that was given back to whichever confirm comes next. So only
/// when all confirms are there is it known which ones stand: those whose id did
/// not come back. `batch` holds no id twice.
pub(super) async fn publish(
    channel: &Channel,
    batch: Vec<Job>,
    confirm_timeout: Duration,
    interrupted: impl Future<Output = Interruption>,
) -> After {
    let deadline = Instant::now() + confirm_timeout;
    let mut ids = Vec::with_capacity(batch.len());
    let mut bodies = Vec::with_capacity(batch.len());
    let mut endings = Vec::with_capacity(batch.len());
    let mut rest = Vec::with_capacity(batch.len());
    for Job {
        publication,
        ending,
        ..
    } in batch
    {
        ids.push(publication.message_id);
        bodies.push(publication.body);
        endings.push(ending);
        rest.push((
            publication.exchange,
            publication.routing_key,
            publication.properties,
        ));
    }
    let flights = rest
        .into_iter()
        .zip(&bodies)
        .map(|((exchange, key, properties), body)| {
            Flight::Writing(
                channel
                    .basic_publish(exchange, key, OPTIONS, body, properties)
                    .boxed(),
            )
        });
    let mut flights = Flights {
        all: flights.collect(),
        next: 0,
    };
    // Once in their order, before anything is awaited: the order in which they
    // are first polled is the order in which the broker counts them.
    poll_fn(|context| {
        flights.look(context);
        Poll::Ready(())
    })
    .await;
    let mut interrupted = pin!(interrupted);
    let cause = tokio::select! {
        biased;
        () = poll_fn(|context| flights.poll(context)) => None,
        interruption = &mut interrupted => Some(Cause::Interrupted(interruption)),
        () = sleep_until(deadline) => Some(Cause::Late(confirm_timeout)),
    };
    let mut settled = flights.settled();
    if cause.is_some() {
        // A second look: what came back for a confirm that the first look found
        // was handed to this one or an earlier one, so by now it is here.
        settled = poll_fn(|context| {
            flights.look(context);
            let first = flights.settled();
            flights.look(context);
            Poll::Ready(first)
        })
        .await;
    }
    let given_back = flights.given_back(&ids);
    let closed = flights.closed();
    let mut after = match &cause {
        None => After::Clean,
        Some(Cause::Late(_)) => After::Silent,
        Some(Cause::Interrupted(_)) => After::Spent,
    };
    if given_back.stray || !channel.status().connected() {
        after = worse(after);
    }
    for ((number, flight), ending) in flights.all.into_iter().enumerate().zip(endings) {
        let outcome = match flight {
            Flight::Done(Ok(confirmation)) if settled[number] => {
                given_back.judge(number, &confirmation)
            }
            Flight::Done(Err(lost)) if settled[number] => Err(lost.missed(closed.as_ref())),
            _ => Err(unsettled(cause.as_ref())),
        };
        if matches!(&outcome, Err(missed) if missed.failure.may_have_arrived) {
            after = worse(after);
        }
        ending.tell(outcome);
    }
    after
}

/// What cannot be routed is to come back, or it would be confirmed and gone.
const OPTIONS: BasicPublishOptions = BasicPublishOptions {
    mandatory: true,
    immediate: false,
};

/// The publications of a batch on their way.
struct Flights<'a> {
    all: Vec<Flight<'a>>,
    /// All before it are done.
    next: usize,
}

#[expect(
    clippy::large_enum_variant,
    reason = "every one of them becomes the large one"
)]
enum Flight<'a> {
    /// It is not written whole.
    Writing(BoxFuture<'a, lapin::Result<PublisherConfirm>>),
    /// It is written, and not confirmed.
    Waiting(PublisherConfirm),
    /// It was confirmed one way or the other, or lost.
    Done(Result<Confirmation, Lost>),
}

/// A publication that an error ended.
struct Lost {
    error: Error,
    written: bool,
}

impl Flights<'_> {
    /// Ready when all are done. Waits for one after the other, so that a wake-up
    /// looks at one of them and not at all.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while let Some(flight) = self.all.get_mut(self.next) {
            if flight.poll(context).is_pending() {
                return Poll::Pending;
            }
            self.next += 1;
        }
        Poll::Ready(())
    }

    /// Moves every one on as far as it goes.
    fn look(&mut self, context: &mut Context<'_>) {
        for flight in &mut self.all {
            let _ = flight.poll(context);
        }
    }

    /// Which are done.
    fn settled(&self) -> Vec<bool> {
        let all = self.all.iter();
        all.map(|flight| matches!(flight, Flight::Done(_)))
            .collect()
    }

    /// The error over which the broker closed the channel, if it did. Those that
    /// were not written by then only know that it is closed.
    fn closed(&self) -> Option<Error> {
        let mut errors = self.all.iter().filter_map(|flight| match flight {
            Flight::Done(Err(lost)) => Some(&lost.error),
            _ => None,
        });
        errors.find(|error| error.is_amqp_soft_error()).cloned()
    }

    /// What the broker gave back of the publications with these ids.
    fn given_back(&mut self, ids: &[ShortString]) -> GivenBack {
        let mut given_back = GivenBack {
            why: vec![None; ids.len()],
            stray: false,
        };
        for flight in &mut self.all {
            let Flight::Done(Ok(Confirmation::Ack(message) | Confirmation::Nack(message))) = flight
            else {
                continue;
            };
            let Some(message) = message.take() else {
                continue;
            };
            let id = message.properties.message_id().as_ref();
            match ids.iter().position(|own| Some(own) == id) {
                Some(number) => given_back.why[number] = Some(message.reply_text.to_string()),
                None => given_back.stray = true,
            }
        }
        given_back
    }
}

impl Flight<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            *self = match self {
                Flight::Writing(writing) => match writing.poll_unpin(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(confirm)) => Flight::Waiting(confirm),
                    Poll::Ready(Err(error)) => Flight::Done(Err(Lost {
                        error,
                        written: false,
                    })),
                },
                Flight::Waiting(confirm) => match Pin::new(confirm).poll(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(confirmed) => Flight::Done(confirmed.map_err(|error| Lost {
                        error,
                        written: true,
                    })),
                },
                Flight::Done(_) => return Poll::Ready(()),
            }
        }
    }
}

/// What the broker gave back of a batch.
struct GivenBack {
    /// Why, for each publication that was.
    why: Vec<Option<String>>,
    /// Something came back that was not of this batch: then nothing is sure.
    stray: bool,
}

impl GivenBack {
    fn judge(&self, number: usize, confirmation: &Confirmation) -> Outcome {
        let refused = |reason| Missed::before(AttemptOutcome::Failed, reason, Health::There);
        if let Some(why) = &self.why[number] {
            return Err(refused(Reason::Returned(why.clone())));
        }
        match confirmation {
            Confirmation::Nack(_) => Err(refused(Reason::Nack)),
            Confirmation::Ack(_) if !self.stray => Ok(()),
            Confirmation::Ack(_) | Confirmation::NotRequested => Err(unsettled(None)),
        }
    }
}

impl Lost {
    /// `closed` is the error over which the broker closed the channel.
    fn missed(&self, closed: Option<&Error>) -> Missed {
        let why = told(closed.unwrap_or(&self.error));
        if let Some(closed) = closed {
            // The broker closed the channel over one of the batch, and which of
            // the others it had taken before it does not say.
            let missing = matches!(
                closed.kind(),
                lapin::ErrorKind::ProtocolError(error) if error.get_id() == NOT_FOUND
            );
            let new = if missing || !self.written {
                Missed::before
            } else {
                Missed::in_doubt
            };
            return new(AttemptOutcome::Failed, Reason::Channel(why), Health::There);
        }
        if self.written {
            let reason = Reason::Unconfirmed(why);
            return Missed::in_doubt(AttemptOutcome::Unconfirmed, reason, Health::Away);
        }
        let reason = Reason::NoBroker(why);
        Missed::before(AttemptOutcome::Unavailable, reason, Health::Away)
    }
}

/// `not-found`, of AMQP: there is no such exchange, and nothing went anywhere.
const NOT_FOUND: u16 = 404;

fn worse(after: After) -> After {
    match after {
        After::Silent => After::Silent,
        After::Clean | After::Spent => After::Spent,
    }
}

enum Cause {
    Late(Duration),
    Interrupted(Interruption),
}

/// What becomes of a publication whose confirm is not waited for any longer. It
/// may have been written, or be written yet.
fn unsettled(cause: Option<&Cause>) -> Missed {
    let (outcome, reason, health) = match cause {
        Some(Cause::Late(after)) => (AttemptOutcome::Late, Reason::Timeout(*after), Health::Away),
        Some(Cause::Interrupted(Interruption::Blocked(why))) => (
            AttemptOutcome::Unavailable,
            Reason::Blocked(why.clone()),
            Health::Unknown,
        ),
        Some(Cause::Interrupted(Interruption::Lost(why))) => (
            AttemptOutcome::Unconfirmed,
            Reason::Unconfirmed(why.clone()),
            Health::Away,
        ),
        None => (
            AttemptOutcome::Unconfirmed,
            Reason::Unconfirmed("it was not counted".into()),
            Health::Unknown,
        ),
    };
    Missed::in_doubt(outcome, reason, health)
}

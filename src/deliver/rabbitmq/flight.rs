use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use humantime::format_duration;
use lapin::message::BasicReturnMessage;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{Channel, Confirmation, Error};
use tokio::time::Instant;

use crate::deliver::Reason;
use crate::deliver::breaker::Health;
use crate::observe::AttemptOutcome;

use super::connect::told;
use super::job::{Ending, Job, Missed};
use super::properties::Publication;

/// Why what is under way is waited for no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Interruption {
    /// The broker takes nothing at the moment, and why.
    Blocked(String),
    /// The connection is gone, and why.
    Lost(String),
    /// The same: it was given up because the broker answers nothing, and to what.
    Silent(String),
}

impl Interruption {
    /// Whether nothing more comes over the connection.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Interruption::Blocked(_) => false,
            Interruption::Lost(_) | Interruption::Silent(_) => true,
        }
    }
}

/// A publication that was handed to its channel.
pub(super) struct Flight {
    pub(super) id: ShortString,
    /// `None` once it is told.
    pub(super) ending: Option<Ending>,
    pub(super) state: State,
    /// When its confirm is late.
    pub(super) deadline: Instant,
    /// Why the broker gave it back, if it is known to have.
    pub(super) given_back: Option<String>,
    /// It was seen to have ended, and is still to be judged.
    pub(super) unjudged: bool,
    /// It was judged by what had come by then, and stayed.
    pub(super) judged: bool,
}

/// What is to come of a publication.
pub(super) type Flying = BoxFuture<'static, Result<Confirmation, Lost>>;

pub(super) enum State {
    /// No answer has come.
    Flying(Flying),
    /// The broker said yes, or no, alone or with something that came back: of
    /// this publication or of another one.
    Answered {
        yes: bool,
        alone: bool,
        with: Option<Box<BasicReturnMessage>>,
    },
    /// An error ended it.
    Lost(Lost),
}

impl State {
    fn answered(yes: bool, with: Option<BasicReturnMessage>) -> Self {
        let with = with.map(Box::new);
        let alone = with.is_none();
        State::Answered { yes, alone, with }
    }
}

/// A publication that an error ended.
pub(super) struct Lost {
    error: Error,
    /// Whether it had been written whole.
    written: bool,
}

/// What cannot be routed is to come back, or it would be confirmed and gone.
const OPTIONS: BasicPublishOptions = BasicPublishOptions {
    mandatory: true,
    immediate: false,
};

impl Flight {
    /// Its first [`look`](Self::look) hands it to the channel, so that they are
    /// to be looked at in the order in which they are to be published.
    pub(super) fn new(channel: &Arc<Channel>, job: Job, deadline: Instant) -> Self {
        let channel = Arc::clone(channel);
        let Publication {
            exchange,
            routing_key,
            message_id,
            properties,
            body,
        } = job.publication;
        let flying = async move {
            let written = channel.basic_publish(exchange, routing_key, OPTIONS, &body, properties);
            let lost = |written| move |error| Lost { error, written };
            let confirm = written.await.map_err(lost(false))?;
            drop(body);
            confirm.await.map_err(lost(true))
        };
        Self::of(message_id, job.ending, flying.boxed(), deadline)
    }

    /// One that ends as `flying` does.
    pub(super) fn of(id: ShortString, ending: Ending, flying: Flying, deadline: Instant) -> Self {
        Self {
            id,
            ending: Some(ending),
            state: State::Flying(flying),
            deadline,
            given_back: None,
            unjudged: false,
            judged: false,
        }
    }

    pub(super) fn is_flying(&self) -> bool {
        matches!(self.state, State::Flying(_))
    }

    /// Whether the broker answered and nothing came with that.
    pub(super) fn came_alone(&self) -> bool {
        matches!(self.state, State::Answered { alone: true, .. })
    }

    pub(super) fn is_answered(&self) -> bool {
        matches!(self.state, State::Answered { .. })
    }

    /// Takes the message that came with its answer.
    pub(super) fn came_with(&mut self) -> Option<Box<BasicReturnMessage>> {
        match &mut self.state {
            State::Answered { with, .. } => with.take(),
            State::Flying(_) | State::Lost(_) => None,
        }
    }

    /// What ended it, if it was an error.
    pub(super) fn error(&self) -> Option<&Error> {
        match &self.state {
            State::Lost(lost) => Some(&lost.error),
            State::Flying(_) | State::Answered { .. } => None,
        }
    }

    /// Moves it on as far as it goes; ready when it has ended.
    pub(super) fn look(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let State::Flying(flying) = &mut self.state else {
            return Poll::Ready(());
        };
        let Poll::Ready(ended) = flying.poll_unpin(context) else {
            return Poll::Pending;
        };
        self.state = match ended {
            Ok(Confirmation::Ack(with)) => State::answered(true, with),
            Ok(Confirmation::Nack(with)) => State::answered(false, with),
            Ok(Confirmation::NotRequested) => {
                // Confirms were asked for, so this channel is not what it was.
                let error = lapin::ErrorKind::InvalidChannelState(
                    lapin::ChannelState::Error,
                    "confirms are off",
                );
                State::Lost(Lost {
                    error: error.into(),
                    written: true,
                })
            }
            Err(lost) => State::Lost(lost),
        };
        Poll::Ready(())
    }
}

impl Lost {
    /// What is told of it. `closed` is the error over which the broker closed the
    /// channel, and `alone` whether nothing else was under way on it.
    ///
    /// The broker takes what is published in its order, and does not say over
    /// which it closed the channel: those before that one it may have taken, if
    /// their confirms were still to come. So it is sure only of one that was
    /// alone, and of those that were never written.
    pub(super) fn missed(&self, closed: Option<&Error>, alone: bool) -> Missed {
        let why = told(closed.unwrap_or(&self.error));
        if closed.is_some() {
            let new = if alone || !self.written {
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

/// Why an outcome stays unknown.
#[derive(Clone)]
pub(super) enum Doubt {
    /// No confirm came in this time.
    Late(Duration),
    /// No confirm came in this time of anything that was published before.
    Silent(Duration),
    /// It is not waited for any longer.
    Interrupted(Interruption),
    /// Something came back that was not under way: then nothing is sure.
    Uncounted,
}

impl Doubt {
    /// It may have been written, or be written yet.
    pub(super) fn missed(self) -> Missed {
        let (outcome, reason, health) = match self {
            Doubt::Late(after) => (AttemptOutcome::Late, Reason::Timeout(after), Health::Away),
            Doubt::Silent(after) => {
                let why = format!("no answer within {}", format_duration(after));
                (AttemptOutcome::Late, Reason::Silent(why), Health::Away)
            }
            Doubt::Interrupted(Interruption::Silent(why)) => {
                (AttemptOutcome::Late, Reason::Silent(why), Health::Away)
            }
            Doubt::Interrupted(Interruption::Blocked(why)) => (
                AttemptOutcome::Unavailable,
                Reason::Blocked(why),
                Health::Unknown,
            ),
            Doubt::Interrupted(Interruption::Lost(why)) => (
                AttemptOutcome::Unconfirmed,
                Reason::Unconfirmed(why),
                Health::Away,
            ),
            Doubt::Uncounted => (
                AttemptOutcome::Unconfirmed,
                Reason::Unconfirmed("it was not counted".into()),
                Health::Unknown,
            ),
        };
        Missed::in_doubt(outcome, reason, health)
    }
}

/// A publication that the broker refused: with a nack, or by giving it back.
pub(super) fn refused(given_back: Option<String>) -> Missed {
    let reason = given_back.map_or(Reason::Nack, Reason::Returned);
    Missed::before(AttemptOutcome::Failed, reason, Health::There)
}

#[cfg(test)]
mod tests {
    use lapin::ErrorKind;
    use lapin::protocol::{AMQPError, AMQPSoftError};

    use super::*;

    #[test]
    fn over_a_closed_channel_it_is_sure_of_one_alone_and_of_what_was_never_written() {
        let closed = AMQPError::new(AMQPSoftError::NOTFOUND.into(), "no exchange".into());
        let closed: Error = ErrorKind::ProtocolError(closed).into();
        for (written, alone, in_doubt) in [
            (true, true, false),
            (false, false, false),
            (true, false, true),
        ] {
            let error = closed.clone();
            let missed = Lost { error, written }.missed(Some(&closed), alone);
            assert_eq!(missed.failure.outcome, AttemptOutcome::Failed);
            assert_eq!(missed.failure.may_have_arrived, in_doubt);
        }
    }
}

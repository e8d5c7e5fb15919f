use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use lapin::message::BasicReturnMessage;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{Channel, Confirmation, Error};

use crate::deliver::Reason;
use crate::deliver::breaker::Health;
use crate::observe::AttemptOutcome;

use super::connect::told;
use super::properties::Publication;
use super::queue::{Ending, Missed};

/// Why what is under way is waited for no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Interruption {
    /// The broker takes nothing at the moment, and why.
    Blocked(String),
    /// The connection is gone, and why.
    Lost(String),
}

/// A publication that was handed to its channel.
pub(super) struct Flight {
    pub(super) id: ShortString,
    /// None once its outcome was told.
    pub(super) ending: Option<Ending>,
    /// Why the broker gave it back, if it did.
    pub(super) given_back: Option<String>,
    pub(super) state: State,
}

pub(super) enum State {
    /// No answer has come.
    Flying(BoxFuture<'static, Result<Confirmation, Lost>>),
    /// The broker said yes, or no.
    Answered { yes: bool },
    /// An error ended it.
    Lost(Lost),
}

/// How an answer came.
pub(super) struct Answer {
    /// What came with it, of this publication or of another one.
    pub(super) with: Option<BasicReturnMessage>,
}

/// A publication that an error ended.
pub(super) struct Lost {
    pub(super) error: Error,
    /// Whether it had been written whole.
    pub(super) written: bool,
}

/// What cannot be routed is to come back, or it would be confirmed and gone.
const OPTIONS: BasicPublishOptions = BasicPublishOptions {
    mandatory: true,
    immediate: false,
};

impl Flight {
    /// Its first [`look`](Self::look) hands it to the channel, so that they are
    /// to be looked at in the order in which they are to be published.
    pub(super) fn new(channel: Arc<Channel>, publication: Publication, ending: Ending) -> Self {
        let Publication {
            exchange,
            routing_key,
            message_id,
            properties,
            body,
        } = publication;
        let flying = async move {
            let written = channel.basic_publish(exchange, routing_key, OPTIONS, &body, properties);
            let lost = |written| move |error| Lost { error, written };
            let confirm = written.await.map_err(lost(false))?;
            drop(body);
            confirm.await.map_err(lost(true))
        };
        Self {
            id: message_id,
            ending: Some(ending),
            given_back: None,
            state: State::Flying(flying.boxed()),
        }
    }

    pub(super) fn is_flying(&self) -> bool {
        matches!(self.state, State::Flying(_))
    }

    /// Moves it on as far as it goes. `Ready` once, when it has ended; with its
    /// answer, if it was answered.
    pub(super) fn look(&mut self, context: &mut Context<'_>) -> Poll<Option<Answer>> {
        let State::Flying(flying) = &mut self.state else {
            return Poll::Pending;
        };
        let (yes, with) = match flying.poll_unpin(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(Confirmation::Ack(with))) => (true, with),
            Poll::Ready(Ok(Confirmation::Nack(with))) => (false, with),
            Poll::Ready(Ok(Confirmation::NotRequested)) => {
                // Confirms were asked for, so this channel is not what it was.
                let error = lapin::ErrorKind::InvalidChannelState(
                    lapin::ChannelState::Error,
                    "confirms are off",
                );
                self.state = State::Lost(Lost {
                    error: error.into(),
                    written: true,
                });
                return Poll::Ready(None);
            }
            Poll::Ready(Err(lost)) => {
                self.state = State::Lost(lost);
                return Poll::Ready(None);
            }
        };
        self.state = State::Answered { yes };
        Poll::Ready(Some(Answer { with }))
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
#[derive(Clone, Copy)]
pub(super) enum Doubt<'a> {
    /// No confirm came in this time.
    Late(Duration),
    /// It is not waited for any longer.
    Interrupted(&'a Interruption),
    /// Something came back that was not under way: then nothing is sure.
    Uncounted,
}

impl Doubt<'_> {
    /// It may have been written, or be written yet.
    pub(super) fn missed(self) -> Missed {
        let (outcome, reason, health) = match self {
            Doubt::Late(after) => (AttemptOutcome::Late, Reason::Timeout(after), Health::Away),
            Doubt::Interrupted(Interruption::Blocked(why)) => (
                AttemptOutcome::Unavailable,
                Reason::Blocked(why.clone()),
                Health::Unknown,
            ),
            Doubt::Interrupted(Interruption::Lost(why)) => (
                AttemptOutcome::Unconfirmed,
                Reason::Unconfirmed(why.clone()),
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

use std::collections::HashSet;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use lapin::types::ShortString;
use lapin::{Channel, Error};
use tokio::time::Instant;

use super::flight::{Doubt, Flight, State, refused};
use super::job::{Ending, Outcome};
use super::waiting::{Batch, Room, Shown};

/// What is under way on one channel, and which of it is proven.
///
/// The broker gives back what it cannot route before it confirms it, and lapin
/// hands a message that was given back to whichever confirm of the channel comes
/// next. So a confirm with which a message came says nothing yet. But one that
/// came alone says that none was left to hand over: whatever had been given back
/// by then came with a confirm before it, what it confirms itself included. So it
/// stands, if its id is not among all that came with the others; and they are
/// looked at once more after it was seen, because a confirm before it may have
/// come behind the first look. One with which the message of another came stands
/// when a later confirm came alone, or when all are there. No id is under way
/// twice.
pub(super) struct Window {
    channel: Arc<Channel>,
    confirm_timeout: Duration,
    /// In the order in which the broker counts them.
    flights: Vec<Flight>,
    /// Which of them is waited for.
    awaited: Option<usize>,
    ids: HashSet<ShortString>,
    /// Where they all go: the broker closes a channel over an exchange that it
    /// does not have, and that is to cost no neighbour.
    exchange: ShortString,
    /// Whether that is not proven, and one is alone.
    trial: bool,
    /// Nothing more is to be published on it.
    spent: bool,
    /// Something came back that was not under way: then nothing is sure.
    stray: bool,
    /// When the broker last answered.
    heard: Instant,
}

/// What was learned of some that were under way.
pub(super) struct Learned {
    /// Of the exchange.
    pub(super) exchange: Shown,
    outcomes: Vec<(Ending, Outcome)>,
}

impl Learned {
    /// Tells each publication how it came out.
    pub(super) fn tell(self) {
        for (ending, outcome) in self.outcomes {
            ending.tell(outcome);
        }
    }
}

/// Up to so many may be under way on one channel.
const LIMIT: usize = 512;
/// So many are always worth going on for.
const ENOUGH: usize = 32;

/// Half of so many, or fewer: what goes together costs the broker and both sides
/// less, and the rest keeps the broker busy meanwhile.
fn half(of: usize) -> usize {
    (of / 2).clamp(1, ENOUGH)
}

impl Window {
    /// `channel` is open, has confirms, and nobody else publishes on it.
    pub(super) fn new(channel: Channel, confirm_timeout: Duration) -> Self {
        Self {
            channel: Arc::new(channel),
            confirm_timeout,
            flights: Vec::new(),
            awaited: None,
            ids: HashSet::new(),
            exchange: ShortString::default(),
            trial: false,
            spent: false,
            stray: false,
            heard: Instant::now(),
        }
    }

    /// Whether nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    /// Whether it is good for nothing any more, and all outcomes are told.
    pub(super) fn is_over(&self) -> bool {
        let open = self.channel.status().connected();
        let awaited = |flight: &Flight| flight.is_flying() && flight.ending.is_some();
        (self.spent || !open) && !self.flights.iter().any(awaited)
    }

    /// Where those under way go, and whether that was a trial, which is over when
    /// this is asked.
    pub(super) fn tried(&mut self) -> (ShortString, bool) {
        (self.exchange.clone(), std::mem::take(&mut self.trial))
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// What may be published beside what is under way. `overdue`: it waited long
    /// enough for more to come.
    pub(super) fn room(&mut self, overdue: bool) -> Room<'_> {
        let under_way = self.flights.len();
        let shut = self.spent || self.trial;
        Room {
            exchange: (under_way > 0).then_some(&self.exchange),
            limit: if shut {
                0
            } else {
                LIMIT.saturating_sub(under_way)
            },
            // The second goes to a channel on which nothing is under way, if there
            // is one.
            enough: match under_way {
                1.. if !overdue => half(under_way).max(2),
                _ => 1,
            },
            ids: &mut self.ids,
        }
    }

    /// Hands these to the channel, in their order.
    pub(super) fn publish(&mut self, batch: Batch) {
        self.exchange = batch.exchange;
        self.trial = batch.trial;
        let deadline = Instant::now() + self.confirm_timeout;
        // The first look hands it over. Who is to be woken is told by the next.
        let mut context = Context::from_waker(Waker::noop());
        for job in batch.jobs {
            let mut flight = Flight::new(&self.channel, job, deadline);
            let _ = flight.look(&mut context);
            self.flights.push(flight);
        }
        if self.awaited.is_none() {
            self.wait_for_half();
        }
    }

    /// Ready when it is time to [`settle`](Self::settle). One is waited for. Those
    /// before it have mostly ended by then, and nobody was woken for them.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let awaited = self.awaited.and_then(|at| self.flights.get_mut(at));
        awaited.map_or(Poll::Pending, |flight| flight.look(context))
    }

    /// Waits for the one by which half of them have ended, if they end in turn.
    fn wait_for_half(&mut self) {
        let unjudged = self.flights.iter().position(|flight| flight.unjudged);
        self.awaited = unjudged.or_else(|| {
            let flying = self.flights.iter().enumerate();
            let mut flying = flying.filter(|(_, flight)| flight.is_flying());
            Some(flying.nth(half(self.flights.len()) - 1)?.0)
        });
    }

    /// Looks at all that are under way, and judges those that have ended.
    pub(super) fn settle(&mut self) -> Learned {
        let mut context = Context::from_waker(Waker::noop());
        for flight in &mut self.flights {
            flight.unjudged = false;
            let _ = flight.look(&mut context);
        }
        // What is seen only now is judged by the next look: what came back of it
        // may be with one that was looked at before.
        for flight in &mut self.flights {
            if flight.is_flying() {
                flight.unjudged = flight.look(&mut context).is_ready();
            }
        }
        self.match_given_back();
        let alone = |flight: &Flight| !flight.judged && !flight.unjudged && flight.came_alone();
        let clear = self.flights.iter().any(alone);
        let all = self.flights.iter().all(Flight::is_answered);
        let mut learned = Learned {
            exchange: Shown::Nothing,
            outcomes: Vec::new(),
        };
        let mut left = Vec::with_capacity(self.flights.len());
        for mut flight in self.flights.drain(..) {
            if flight.is_flying() || flight.unjudged {
                left.push(flight);
                continue;
            }
            let older = std::mem::replace(&mut flight.judged, true);
            let sure = all || flight.came_alone() || (older && clear);
            let outcome = match &flight.state {
                State::Lost(_) => {
                    self.spent = true;
                    left.push(flight);
                    continue;
                }
                _ if flight.given_back.is_some() => Err(refused(flight.given_back.take())),
                State::Answered { yes: false, .. } => Err(refused(None)),
                _ if self.stray => Err(Doubt::Uncounted.missed()),
                _ if sure => Ok(()),
                _ => {
                    left.push(flight);
                    continue;
                }
            };
            learned.exchange = Shown::There;
            self.ids.remove(&flight.id);
            let ending = flight.ending.take();
            learned
                .outcomes
                .extend(ending.map(|ending| (ending, outcome)));
        }
        self.flights = left;
        self.wait_for_half();
        if learned.exchange == Shown::There {
            self.heard = Instant::now();
        }
        learned
    }

    fn match_given_back(&mut self) {
        let flights = self.flights.iter_mut();
        let messages: Vec<_> = flights.filter_map(Flight::came_with).collect();
        for message in messages {
            let id = message.properties.message_id().as_ref();
            match self.flights.iter_mut().find(|own| Some(&own.id) == id) {
                Some(own) => own.given_back = Some(message.reply_text.to_string()),
                None => {
                    self.stray = true;
                    self.spent = true;
                }
            }
        }
    }

    /// Tells those whose confirm is late by now. True when the broker has answered
    /// nothing since one of them was published.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let mut silent = false;
        for flight in &mut self.flights {
            if flight.deadline > now {
                break;
            }
            let lost = matches!(flight.state, State::Lost(_));
            if let Some(ending) = flight.ending.take_if(|_| !lost) {
                // It stays: its confirm may yet come with the message of another.
                self.spent = true;
                silent |= self.heard + self.confirm_timeout <= flight.deadline;
                ending.tell(Err(Doubt::Late(self.confirm_timeout).missed()));
            }
        }
        silent
    }

    /// How those came out that are left. `doubt` is why nothing is waited for any
    /// more, if something was.
    pub(super) fn end(mut self, doubt: Option<Doubt>) -> Learned {
        let mut learned = self.settle();
        // What is found behind a look is judged by the next.
        while self.flights.iter().any(|flight| flight.unjudged) {
            learned.outcomes.extend(self.settle().outcomes);
        }
        if !learned.outcomes.is_empty() {
            learned.exchange = Shown::There;
        }
        let closed = self.closed();
        if closed.is_some() {
            learned.exchange = Shown::Refused;
        }
        let unanswered = |flight: &&Flight| !flight.is_answered();
        let alone = self.flights.iter().filter(unanswered).count() == 1;
        let unsure = doubt.unwrap_or(Doubt::Uncounted);
        let rest = self.flights.into_iter().filter_map(|flight| {
            let outcome = match (flight.given_back, flight.state) {
                (Some(why), _) => refused(Some(why)),
                (None, State::Lost(lost)) => lost.missed(closed.as_ref(), alone),
                (None, _) => unsure.clone().missed(),
            };
            Some((flight.ending?, Err(outcome)))
        });
        learned.outcomes.extend(rest);
        learned
    }

    /// The error over which the broker closed the channel, if it did. Those that
    /// were not written by then only know that it is closed.
    fn closed(&self) -> Option<Error> {
        let mut errors = self.flights.iter().filter_map(Flight::error);
        errors.find(|error| error.is_amqp_soft_error()).cloned()
    }
}

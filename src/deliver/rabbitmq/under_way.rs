use std::collections::HashSet;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use lapin::Error;
use lapin::types::ShortString;
use tokio::time::Instant;

use super::flight::{Doubt, Flight, State, refused};
use super::job::{Ending, Outcome};
use super::waiting::Shown;
use crate::setting::Escaped;

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
pub(super) struct UnderWay {
    /// In the order in which the broker counts them.
    flights: Vec<Flight>,
    /// Which of them is waited for.
    awaited: Option<usize>,
    pub(super) ids: HashSet<ShortString>,
    /// Nothing more is to be published beside them.
    pub(super) spent: bool,
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

/// So many are always worth going on for.
const ENOUGH: usize = 32;

/// Half of so many, or fewer: what goes together costs the broker and both sides
/// less, and the rest keeps the broker busy meanwhile.
pub(super) fn half(of: usize) -> usize {
    (of / 2).clamp(1, ENOUGH)
}

impl UnderWay {
    /// Nothing.
    pub(super) fn new() -> Self {
        Self {
            flights: Vec::new(),
            awaited: None,
            ids: HashSet::new(),
            spent: false,
            stray: false,
            heard: Instant::now(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    /// Whether an answer may yet come for which somebody waits.
    pub(super) fn is_awaited(&self) -> bool {
        let awaited = |flight: &Flight| flight.is_flying() && flight.ending.is_some();
        self.flights.iter().any(awaited)
    }

    /// Sends these off, in their order. Their ids are among `ids`.
    pub(super) fn begin(&mut self, flights: impl Iterator<Item = Flight>) {
        // The first look hands it over. Who is to be woken is told by the next.
        let mut context = Context::from_waker(Waker::noop());
        for mut flight in flights {
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
        let mut clear = false;
        for flight in &mut self.flights {
            // One that was seen behind the last look may have come before those
            // that were judged by it, and clears none of them.
            let behind = std::mem::take(&mut flight.unjudged);
            let _ = flight.look(&mut context);
            clear |= !behind && !flight.judged && flight.came_alone();
        }
        // What is seen only now is judged by the next look: what came back of it
        // may be with one that was looked at before.
        for flight in &mut self.flights {
            if flight.is_flying() {
                flight.unjudged = flight.look(&mut context).is_ready();
            }
        }
        self.match_given_back();
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
                Some(own) => {
                    own.given_back = Some(Escaped(message.reply_text.as_str()).to_string())
                }
                None => {
                    self.stray = true;
                    self.spent = true;
                }
            }
        }
    }

    /// Tells those whose confirm is late by now. True when the broker has answered
    /// nothing since one of them was published.
    pub(super) fn expire(&mut self, now: Instant, confirm_timeout: Duration) -> bool {
        let mut silent = false;
        for flight in &mut self.flights {
            if flight.deadline > now {
                break;
            }
            let lost = matches!(flight.state, State::Lost(_));
            if let Some(ending) = flight.ending.take_if(|_| !lost) {
                // It stays: its confirm may yet come with the message of another.
                self.spent = true;
                silent |= self.heard + confirm_timeout <= flight.deadline;
                let late = || Doubt::Late(confirm_timeout).missed();
                let why = flight.given_back.clone();
                ending.tell(Err(why.map_or_else(late, |why| refused(Some(why)))));
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::FutureExt as _;
    use lapin::message::{BasicReturnMessage, Delivery};
    use lapin::{BasicProperties, Confirmation};
    use tokio::sync::oneshot;

    use super::super::job::Job;
    use super::super::properties::Publication;
    use super::*;
    use crate::observe::AttemptOutcome;

    /// How one that is under way is answered.
    enum Comes {
        Never,
        /// At the look of this number, with the message of another.
        At(usize, Option<&'static str>),
    }
    use Comes::{At, Never};

    const TIMEOUT: Duration = Duration::from_secs(5);

    fn message(id: &str) -> BasicReturnMessage {
        let name = || ShortString::from("x");
        let mut delivery = Delivery::mock(0, name(), name(), false, Vec::new());
        delivery.properties = BasicProperties::default().with_message_id(id.into());
        BasicReturnMessage {
            delivery,
            reply_code: 312,
            reply_text: "NO_ROUTE".into(),
        }
    }

    /// Those under way, looked at for the first time, and where each is told.
    fn begun<const N: usize>(
        flights: [(&str, Comes); N],
    ) -> (UnderWay, [oneshot::Receiver<Outcome>; N]) {
        let deadline = Instant::now() + TIMEOUT;
        let (flights, told): (Vec<_>, Vec<_>) = flights
            .map(|(id, comes)| {
                let (job, _claim, told) = Job::new(Publication {
                    exchange: "x".into(),
                    routing_key: "key".into(),
                    message_id: id.into(),
                    properties: BasicProperties::default(),
                    body: bytes::Bytes::new(),
                });
                let mut looks = 0;
                let answer = poll_fn(move |_| {
                    looks += 1;
                    match comes {
                        At(at, with) if looks >= at => {
                            Poll::Ready(Ok(Confirmation::Ack(with.map(message))))
                        }
                        _ => Poll::Pending,
                    }
                });
                let id = job.publication.message_id;
                (Flight::of(id, job.ending, answer.boxed(), deadline), told)
            })
            .into_iter()
            .unzip();
        let mut under_way = UnderWay::new();
        under_way.begin(flights.into_iter());
        (under_way, told.try_into().ok().unwrap())
    }

    #[test]
    fn what_came_with_anothers_message_is_not_cleared_by_what_was_seen_only_behind_it() {
        // The first is confirmed behind the first look at it, before `a` comes back,
        // `b` comes back, and `b` is confirmed with `a`: what came back of `b` is
        // still to be handed over, with the confirm of `a`.
        let (mut under_way, [first, _a, mut b]) = begun([
            ("first", At(3, None)),
            ("a", Never),
            ("b", At(2, Some("a"))),
        ]);
        under_way.settle().tell();
        under_way.settle().tell();
        assert!(b.try_recv().is_err(), "nothing shows that it was routed");
        assert!(first.now_or_never().unwrap().unwrap().is_ok());
    }

    #[test]
    fn what_came_with_anothers_message_stands_once_a_later_confirm_came_alone() {
        let (mut under_way, [_a, mut b, c]) =
            begun([("a", Never), ("b", At(2, Some("a"))), ("c", At(4, None))]);
        under_way.settle().tell();
        assert!(b.try_recv().is_err());
        under_way.settle().tell();
        assert!(b.now_or_never().unwrap().unwrap().is_ok());
        assert!(c.now_or_never().unwrap().unwrap().is_ok());
    }

    #[test]
    fn what_is_known_to_have_come_back_is_refused_although_its_confirm_is_late() {
        let (mut under_way, [a, b]) = begun([("a", Never), ("b", At(2, Some("a")))]);
        under_way.settle().tell();
        under_way.expire(Instant::now() + TIMEOUT, TIMEOUT);
        let outcome = |told: oneshot::Receiver<Outcome>| {
            let missed = told.now_or_never().unwrap().unwrap().unwrap_err();
            (missed.failure.outcome, missed.failure.may_have_arrived)
        };
        assert_eq!(outcome(a), (AttemptOutcome::Failed, false));
        assert_eq!(outcome(b), (AttemptOutcome::Late, true));
    }
}

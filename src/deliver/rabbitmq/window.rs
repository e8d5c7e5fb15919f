use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use lapin::types::ShortString;
use lapin::{Channel, Error};
use tokio::time::Instant;

use super::flight::{Doubt, Flight, Interruption, State, refused};
use super::queue::{Job, Outcome, Room};
use super::woken::Woken;

/// What is under way on one channel, and which of it is proven.
///
/// The broker gives back what it cannot route before it confirms it, and lapin
/// hands a message that was given back to whichever confirm of the channel comes
/// next. So a confirm alone says nothing. But one with which no message came says
/// that none was left to hand over: whatever had come back by then was handed to
/// a confirm before it, and the one it confirms is proven if it is not among
/// that. Those are all seen, because confirms wake their places in the order in
/// which they come ([`Woken`]), and nothing is judged before all places that were
/// woken were looked at. One that came with the message of another is proven by
/// the next that comes with none, or when nothing is under way any more.
pub(super) struct Window {
    channel: Arc<Channel>,
    confirm_timeout: Duration,
    woken: Arc<Woken>,
    /// One for each place, made once.
    wakers: Vec<Waker>,
    places: Vec<Option<Flight>>,
    free: Vec<usize>,
    /// The place of each id. None stands twice, so that an id tells which one
    /// was given back.
    ids: HashMap<ShortString, usize>,
    /// Where they all go: the broker closes a channel over an exchange it does
    /// not have, and that is to cost no neighbour.
    exchange: ShortString,
    /// When each of those under way is late, the first first. An entry whose
    /// flight has ended is left until its turn comes.
    deadlines: VecDeque<(usize, u64, Instant)>,
    /// Which flight a place has.
    serials: Vec<u64>,
    next: u64,
    /// Those for which no answer has come.
    flying: usize,
    /// Those whose outcome is not told.
    untold: usize,
    /// Those that were answered since the last were judged, and whether nothing
    /// came with the answer.
    answered: Vec<(usize, bool)>,
    /// Those that were answered with a yes and are not proven.
    unproven: Vec<usize>,
    /// Those that an error ended and whose outcome is not told.
    lost: Vec<usize>,
    spare: Vec<usize>,
    /// The broker has confirmed something on it.
    pub(super) confirmed: bool,
    /// Something came back that was not under way.
    stray: bool,
    /// Something was late: it may still come.
    late: bool,
}

impl Window {
    /// `channel` is open, has confirms, and nobody else publishes on it.
    pub(super) fn new(channel: Channel, confirm_timeout: Duration) -> Self {
        Self {
            channel: Arc::new(channel),
            confirm_timeout,
            woken: Arc::default(),
            wakers: Vec::new(),
            places: Vec::new(),
            free: Vec::new(),
            ids: HashMap::new(),
            exchange: ShortString::default(),
            deadlines: VecDeque::new(),
            serials: Vec::new(),
            next: 0,
            flying: 0,
            untold: 0,
            answered: Vec::new(),
            unproven: Vec::new(),
            lost: Vec::new(),
            spare: Vec::new(),
            confirmed: false,
            stray: false,
            late: false,
        }
    }

    /// Whether more may be published on it.
    pub(super) fn is_sound(&self) -> bool {
        !self.late && !self.stray && self.lost.is_empty() && self.channel.status().connected()
    }

    /// Whether something of it was late.
    pub(super) fn is_late(&self) -> bool {
        self.late
    }

    /// Whether no outcome is to be told any more.
    pub(super) fn is_empty(&self) -> bool {
        self.untold == 0
    }

    /// What may be published beside what is under way, up to `limit` in all.
    pub(super) fn room(&self, limit: usize) -> Room<'_> {
        Room {
            exchange: Some(&self.exchange).filter(|_| !self.ids.is_empty()),
            ids: &self.ids,
            left: limit.saturating_sub(self.ids.len()),
        }
    }

    /// The channel, once nothing is under way on it.
    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// When the first of them is late.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadlines.front().map(|(_, _, deadline)| *deadline)
    }

    /// Publishes these, in their order.
    pub(super) fn publish(&mut self, jobs: Vec<Job>) {
        let deadline = Instant::now() + self.confirm_timeout;
        self.forget_deadlines();
        for job in jobs {
            if self.ids.is_empty() {
                self.exchange = job.publication.exchange.clone();
            }
            let place = self.place();
            let id = job.publication.message_id.clone();
            let channel = Arc::clone(&self.channel);
            self.places[place] = Some(Flight::new(channel, job.publication, job.ending));
            self.serials[place] = self.next;
            self.deadlines.push_back((place, self.next, deadline));
            self.next += 1;
            self.ids.insert(id, place);
            self.flying += 1;
            self.untold += 1;
            // The broker counts them in this order. On a busy machine an answer
            // may be there at once.
            let looked = self.look(place);
            self.enter(place, looked);
        }
    }

    /// Forgets the deadlines of what has ended, when they are many.
    fn forget_deadlines(&mut self) {
        if self.deadlines.len() > 64 + 2 * self.places.len() {
            let (places, serials) = (&self.places, &self.serials);
            self.deadlines
                .retain(|&(place, serial, _)| places[place].is_some() && serials[place] == serial);
        }
    }

    /// Ready when an outcome was told, so that there may be room again.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.woken.looked_at_by(context.waker());
        let before = self.ids.len();
        self.settle();
        // One that was late and is answered after all leaves room, too.
        if self.ids.len() < before {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Tells those that are late by now. What may still come of them makes the
    /// channel unsound.
    pub(super) fn expire(&mut self, now: Instant) {
        self.settle();
        while let Some(&(place, serial, deadline)) = self.deadlines.front() {
            let under_way = self.places[place].is_some() && self.serials[place] == serial;
            if under_way && deadline > now {
                return;
            }
            self.deadlines.pop_front();
            let flight = self.places[place].as_mut().filter(|_| under_way);
            if let Some(ending) = flight.and_then(|flight| flight.ending.take()) {
                // It stays: its confirm may be handed what comes back of another.
                self.late = true;
                self.untold -= 1;
                ending.tell(Err(Doubt::Late(self.confirm_timeout).missed()));
            }
        }
    }

    /// Tells all that is not known by now that it is not waited for.
    pub(super) fn interrupt(&mut self, interruption: &Interruption) {
        self.settle();
        let doubt = Doubt::Interrupted(interruption);
        self.tell_rest(doubt);
    }

    /// Looks at all that has come, and tells what is sure.
    fn settle(&mut self) {
        let older = std::mem::take(&mut self.unproven);
        loop {
            let spare = std::mem::take(&mut self.spare);
            let mut woken = self.woken.take(spare);
            let done = woken.is_empty();
            for place in woken.drain(..) {
                let looked = self.look(place);
                self.enter(place, looked);
            }
            self.spare = woken;
            if done {
                break;
            }
        }
        // Nothing is left to hand over either when all was answered.
        let quiet = self.flying == 0 && self.lost.is_empty();
        let newer = std::mem::take(&mut self.answered);
        // Something was confirmed when nothing given back was left to hand over.
        let clear = newer.iter().any(|&(_, clear)| clear);
        for place in older {
            self.judge(place, clear || quiet);
        }
        for (place, clear) in newer {
            self.judge(place, clear || quiet);
        }
        self.count_lost();
    }

    fn enter(&mut self, place: usize, looked: Looked) {
        match looked {
            Looked::Nothing => {}
            Looked::Clear => self.answered.push((place, true)),
            Looked::Handed => self.answered.push((place, false)),
        }
    }

    /// Looks at a place, and enters what came back.
    fn look(&mut self, place: usize) -> Looked {
        let mut context = Context::from_waker(&self.wakers[place]);
        let Some(flight) = &mut self.places[place] else {
            return Looked::Nothing;
        };
        let Poll::Ready(answer) = flight.look(&mut context) else {
            return Looked::Nothing;
        };
        self.flying -= 1;
        let Some(answer) = answer else {
            self.lost.push(place);
            return Looked::Nothing;
        };
        self.confirmed = true;
        let Some(message) = answer.with else {
            return Looked::Clear;
        };
        let id = message.properties.message_id().as_ref();
        let own = id.and_then(|id| self.ids.get(id));
        match own.and_then(|&own| self.places[own].as_mut()) {
            Some(flight) => flight.given_back = Some(message.reply_text.to_string()),
            None => self.stray = true,
        }
        Looked::Handed
    }

    /// Tells the outcome of one that was answered, if it is sure.
    fn judge(&mut self, place: usize, proven: bool) {
        let Some(flight) = &mut self.places[place] else {
            return;
        };
        let State::Answered { yes } = flight.state else {
            return;
        };
        let given_back = flight.given_back.take();
        let outcome = if !yes || given_back.is_some() {
            Err(refused(given_back))
        } else if self.stray {
            Err(Doubt::Uncounted.missed())
        } else if proven {
            Ok(())
        } else {
            self.unproven.push(place);
            return;
        };
        self.tell(place, outcome);
    }

    /// Tells those that errors ended, once no answer is to be waited for.
    fn count_lost(&mut self) {
        if self.lost.is_empty() || self.flying > 0 {
            return;
        }
        let closed = self.closed();
        let alone = self.lost.len() == 1;
        for place in std::mem::take(&mut self.lost) {
            if let Some(flight) = &self.places[place]
                && let State::Lost(lost) = &flight.state
            {
                let missed = lost.missed(closed.as_ref(), alone);
                self.tell(place, Err(missed));
            }
        }
        // A message that was given back may have been lost with the channel.
        self.tell_rest(Doubt::Uncounted);
    }

    /// The error over which the broker closed the channel, if it did. Those that
    /// were not written by then only know that it is closed.
    fn closed(&self) -> Option<Error> {
        let lost = self.lost.iter().filter_map(|&place| {
            let flight = self.places[place].as_ref()?;
            match &flight.state {
                State::Lost(lost) => Some(&lost.error),
                _ => None,
            }
        });
        let mut errors = lost.filter(|error| error.is_amqp_soft_error());
        errors.next().cloned()
    }

    fn tell_rest(&mut self, doubt: Doubt<'_>) {
        for place in 0..self.places.len() {
            if self.places[place].is_some() {
                self.tell(place, Err(doubt.missed()));
            }
        }
        self.unproven.clear();
        self.lost.clear();
    }

    /// Tells an outcome and clears the place.
    fn tell(&mut self, place: usize, outcome: Outcome) {
        let Some(mut flight) = self.places[place].take() else {
            return;
        };
        if flight.is_flying() {
            self.flying -= 1;
        }
        self.ids.remove(&flight.id);
        self.free.push(place);
        if let Some(ending) = flight.ending.take() {
            self.untold -= 1;
            ending.tell(outcome);
        }
    }

    /// A free place.
    fn place(&mut self) -> usize {
        if let Some(place) = self.free.pop() {
            return place;
        }
        let place = self.places.len();
        self.places.push(None);
        self.serials.push(0);
        self.wakers.push(self.woken.waker(place));
        place
    }
}

/// What a look at a place found.
enum Looked {
    /// No answer.
    Nothing,
    /// An answer with which nothing came back.
    Clear,
    /// An answer that was handed what came back, of itself or of another.
    Handed,
}

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use svix::webhooks::Webhook;

use super::facts::{Arrival, Fact, Fate, SIGNATURE};
use crate::support::KEY;

/// What is promised of the facts.
#[derive(Clone)]
pub struct Promises {
    /// Destinations that must have accepted before the sender reads success.
    pub required: Vec<&'static str>,
    /// Whether ids survive the end of the process.
    pub remembers: bool,
    /// Whether destinations fail in ways that leave it open what they have: each
    /// request without success may have left an event there.
    pub failing: bool,
}

impl Promises {
    /// Fails with every promise that these facts break.
    pub fn hold(&self, facts: &[Fact]) {
        let broken = self.broken(facts);
        let facts = facts.len();
        assert!(
            broken.is_empty(),
            "{} of {facts} facts break a promise:\n{}",
            broken.len(),
            broken.join("\n")
        );
    }

    /// Every promise that these facts break, in words.
    pub fn broken(&self, facts: &[Fact]) -> Vec<String> {
        let mut audit = Audit::default();
        for fact in facts {
            if let Fact::Sent {
                id,
                body,
                genuine: true,
                ..
            } = fact
            {
                audit.genuine.entry(id).or_default().insert(body);
            }
        }
        // What was found at the end may have come at any time, so it comes first.
        let found = |fact: &&Fact| matches!(fact, Fact::Arrived(a) if a.fate == Fate::Found);
        let in_order = facts.iter().filter(|fact| !found(fact));
        for fact in facts.iter().filter(found).chain(in_order) {
            audit.take(fact, self);
        }
        audit.nothing_left_behind(self);
        audit.broken
    }
}

#[derive(Default)]
struct Audit<'a> {
    sent: HashMap<u64, Sent<'a>>,
    /// The bodies that were signed under an id.
    genuine: HashMap<&'a str, HashSet<&'a str>>,
    /// The first life that told the sender of success.
    acknowledged: HashMap<&'a str, u32>,
    arrivals: HashMap<(&'a str, &'a str), Vec<&'a Arrival>>,
    /// How many requests were no success.
    doubts: HashMap<&'a str, usize>,
    broken: Vec<String>,
}

struct Sent<'a> {
    life: u32,
    id: &'a str,
    genuine: bool,
}

impl<'a> Audit<'a> {
    fn take(&mut self, fact: &'a Fact, promises: &Promises) {
        match fact {
            Fact::Sent {
                request,
                life,
                id,
                genuine,
                ..
            } => {
                let (life, genuine) = (*life, *genuine);
                self.sent.insert(*request, Sent { life, id, genuine });
            }
            Fact::Answered {
                request,
                status,
                word,
                about,
            } => {
                let Some(Sent { life, id, genuine }) = self.sent.remove(request) else {
                    let told = format!("request {request} was answered, and never sent");
                    return self.broken.push(told);
                };
                if about.as_ref().is_some_and(|about| about != id) {
                    self.tell(id, &format!("was answered with that of {about:?}"));
                }
                if genuine && *status != 200 {
                    *self.doubts.entry(id).or_default() += 1;
                }
                match (genuine, *status) {
                    (true, 200) => self.succeeded(id, life, promises),
                    (true, 400..500) => self.tell(id, &format!("was refused: {status} {word}")),
                    (false, 401) | (true, _) => {}
                    (false, _) => self.tell(id, &format!("is forged, and answered {status}")),
                }
            }
            Fact::Cut { request } => {
                if let Some(Sent { id, .. }) = self.sent.remove(request) {
                    *self.doubts.entry(id).or_default() += 1;
                }
            }
            Fact::Arrived(arrival) => self.arrived(arrival, promises),
        }
    }

    /// acknowledged ⊆ delivered
    fn succeeded(&mut self, id: &'a str, life: u32, promises: &Promises) {
        for destination in &promises.required {
            let there = self.arrivals.get(&(*destination, id));
            let has = |a: &&Arrival| matches!(a.fate, Fate::Accepted | Fate::Found);
            if !there.is_some_and(|there| there.iter().any(has)) {
                self.tell(id, &format!("is acknowledged, and not in `{destination}`"));
            }
        }
        self.acknowledged.entry(id).or_insert(life);
        if promises.remembers {
            let arrivals: Vec<&Arrival> = self.of(id).copied().collect();
            for arrival in arrivals {
                self.known(arrival);
            }
        }
    }

    fn of(&self, id: &str) -> impl Iterator<Item = &&'a Arrival> {
        let all = self
            .arrivals
            .iter()
            .filter(move |((_, other), _)| *other == id);
        all.flat_map(|(_, arrivals)| arrivals)
    }

    fn arrived(&mut self, arrival: &'a Arrival, promises: &Promises) {
        self.genuine_is(arrival);
        if !promises.failing {
            self.once_in_its_life(arrival);
        }
        if promises.remembers {
            self.known(arrival);
        }
        let key = (arrival.destination.as_str(), arrival.id.as_str());
        self.arrivals.entry(key).or_default().push(arrival);
    }

    /// delivered ⊆ validly signed, and the bytes are the same
    fn genuine_is(&mut self, arrival: &Arrival) {
        let Arrival {
            id, destination, ..
        } = arrival;
        let bodies = self.genuine.get(id.as_str());
        if bodies.is_none_or(|all| !all.contains(&*arrival.body)) {
            self.tell(
                id,
                &format!("is in `{destination}` with bytes nobody signed"),
            );
        }
        let mut headers = HeaderMap::new();
        for (name, value) in SIGNATURE.iter().zip(&arrival.signature) {
            let value = HeaderValue::from_str(value).unwrap();
            headers.insert(HeaderName::from_static(name), value);
        }
        let body = STANDARD.decode(&arrival.body).unwrap();
        let sdk = Webhook::new(KEY).unwrap();
        if let Err(error) = sdk.verify_ignoring_timestamp(&body, &headers) {
            self.tell(id, &format!("does not verify at `{destination}`: {error}"));
        }
        if arrival.signature[0] != *id {
            self.tell(id, &format!("goes by another name at `{destination}`"));
        }
    }

    /// one delivery per destination and id, except after ambiguous attempts
    fn once_in_its_life(&mut self, arrival: &Arrival) {
        let Arrival {
            id,
            destination,
            life,
            ..
        } = arrival;
        let before = self.arrivals.get(&(destination.as_str(), id.as_str()));
        let twice = before.into_iter().flatten().any(|before| {
            before.life == *life && matches!(before.fate, Fate::Accepted | Fate::Found)
        });
        if twice {
            self.tell(id, &format!("came to `{destination}` twice in life {life}"));
        }
    }

    /// every delivery but one has an ambiguous attempt to account for it
    fn nothing_left_behind(&mut self, promises: &Promises) {
        if !promises.failing {
            return;
        }
        let mut broken = Vec::new();
        for ((destination, id), arrivals) in &self.arrivals {
            let has = |a: &&&Arrival| matches!(a.fate, Fate::Accepted | Fate::Found);
            let times = arrivals.iter().filter(has).count();
            let doubts = self.doubts.get(id).copied().unwrap_or_default();
            if times > doubts + 1 {
                let told = format!("{id} is in `{destination}` {times} times, {doubts} in doubt");
                broken.push(told);
            }
        }
        self.broken.extend(broken);
    }

    /// what was acknowledged is not delivered again by a later life
    fn known(&mut self, arrival: &Arrival) {
        let Arrival {
            id,
            destination,
            life,
            ..
        } = arrival;
        if let Some(told) = self.acknowledged.get(id.as_str()).filter(|at| *at < life) {
            let told = format!("acknowledged in life {told}, came to `{destination}` in {life}");
            self.tell(id, &told);
        }
    }

    fn tell(&mut self, id: &str, what: &str) {
        self.broken.push(format!("{id} {what}"));
    }
}

/// Fails if any of these secrets, or half of one, stands in a text.
pub fn holds_no_secret(text: &str, secrets: &[&str]) {
    let mut found = String::new();
    for secret in secrets {
        for half in [&secret[..secret.len() / 2], &secret[secret.len() / 2..]] {
            // `whsec_` alone is a word.
            let half = half.trim_start_matches("whsec_");
            for line in text.lines().filter(|line| line.contains(half)) {
                let _ = writeln!(found, "{line}");
            }
        }
    }
    assert!(found.is_empty(), "a secret stands in\n{found}");
}

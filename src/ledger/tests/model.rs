//! The ledger against the plainest possible model of it, on every store.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::stores::Stand;
use super::*;

const RETENTION: u64 = 100;
const WINDOW: u64 = 30;
const RESEND_AFTER: u64 = 20;
const NAMES: [&str; 3] = ["billing", "audit", "mail"];
const IDS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Step {
    /// Signed so many seconds ago.
    Reserve {
        id: usize,
        body: u8,
        ago: u64,
        resends: bool,
    },
    Accept {
        id: usize,
        name: usize,
    },
    Settle {
        id: usize,
        delivered: bool,
    },
    Drop {
        id: usize,
    },
    Forget {
        id: usize,
        name: Option<usize>,
    },
    ForgetSince {
        ago: u64,
    },
    Pass {
        seconds: u64,
    },
    Tick,
    /// Closed in order, and opened again.
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0..IDS.len();
    let name = 0..NAMES.len();
    prop_oneof![
        6 => (id.clone(), 0..2u8, 0..WINDOW, any::<bool>())
            .prop_map(|(id, body, ago, resends)| Step::Reserve { id, body: body / 2, ago, resends }),
        2 => (id.clone(), 0..2u8, 0..WINDOW, any::<bool>())
            .prop_map(|(id, body, ago, resends)| Step::Reserve { id, body, ago, resends }),
        5 => (id.clone(), name.clone()).prop_map(|(id, name)| Step::Accept { id, name }),
        5 => (id.clone(), any::<bool>()).prop_map(|(id, delivered)| Step::Settle { id, delivered }),
        1 => id.clone().prop_map(|id| Step::Drop { id }),
        1 => (id, proptest::option::of(name)).prop_map(|(id, name)| Step::Forget { id, name }),
        1 => (0..60u64).prop_map(|ago| Step::ForgetSince { ago }),
        4 => (0..60u64).prop_map(|seconds| Step::Pass { seconds }),
        1 => Just(Step::Tick),
        1 => Just(Step::Reopen),
    ]
}

/// What the model knows of a settled id. Times in seconds from the start.
#[derive(Clone)]
struct Known {
    body: u8,
    signed: u64,
    first: u64,
    last: u64,
    /// Of the first sending, and (once one began) of the resend.
    sent: BTreeMap<usize, u64>,
    resent: Option<BTreeMap<usize, u64>>,
    delivered: bool,
}

impl Known {
    fn is_failed(&self) -> bool {
        !self.delivered && self.resent.is_none() && self.sent.is_empty()
    }
}

struct Running {
    reservation: Reservation<u32>,
    waiters: Vec<Waiter<u32>>,
    before: Option<Known>,
    body: u8,
    signed: u64,
    resend: bool,
    accepted: BTreeMap<usize, u64>,
}

pub(super) struct Model {
    stand: Box<dyn Stand>,
    ledger: Arc<Ledger<u32>>,
    now: u64,
    settled: HashMap<usize, Known>,
    running: HashMap<usize, Running>,
}

impl Model {
    pub(super) fn new(stand: Box<dyn Stand>) -> Self {
        Self {
            ledger: stand.open(Duration::from_secs(RETENTION), 1000),
            stand,
            now: 50,
            settled: HashMap::new(),
            running: HashMap::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Reserve {
                id,
                body,
                ago,
                resends,
            } => self.reserve(id, body, ago, resends),
            Step::Accept { id, name } => {
                // Nobody sends to a destination that has a receipt.
                let lacks = |r: &&mut Running| !r.reservation.has_receipt(NAMES[name]);
                if let Some(running) = self.running.get_mut(&id).filter(lacks) {
                    running
                        .reservation
                        .accept(&NAMES[name].into(), at(self.now));
                    running.accepted.insert(name, self.now);
                }
            }
            Step::Settle { id, delivered } => self.end(id, Some(delivered)),
            Step::Drop { id } => self.end(id, None),
            Step::Forget { id, name } => self.forget(id, name),
            Step::ForgetSince { ago } => {
                let since = self.now - ago.min(self.now);
                let before = self.settled.len();
                let running = &self.running;
                self.settled
                    .retain(|id, known| running.contains_key(id) || known.last < since);
                let forgotten = done(self.ledger.forget_since("clerk", at(since))).unwrap();
                assert_eq!(forgotten, (before - self.settled.len()) as u64);
            }
            Step::Pass { seconds } => {
                self.now += seconds;
                // Tells the ledger the time, as any other claim would.
                let other = Claim {
                    now: at(self.now),
                    ..claim("other")
                };
                drop(done(self.ledger.reserve(other)).unwrap());
            }
            Step::Tick => {
                self.ledger.tick();
                done(self.ledger.upkeep());
            }
            Step::Reopen if self.stand.survives() => self.reopen(),
            Step::Reopen => {}
        }
        let now = self.now;
        self.settled.retain(|_, known| now < known.last + RETENTION);
        for id in 0..IDS.len() {
            self.compare(id);
        }
    }

    /// Nothing that was accepted is lost; what nobody accepted may be.
    fn reopen(&mut self) {
        for id in 0..IDS.len() {
            self.end(id, None);
        }
        done(self.ledger.upkeep());
        // A shared store is given back what does not run any more beside the work,
        // and at the latest when it is to forget by time.
        done(self.ledger.forget_since("nobody", at(self.now))).unwrap();
        self.settled.retain(|_, known| !known.is_failed());
        let nothing = super::ledger(HOUR, 1).0;
        drop(std::mem::replace(&mut self.ledger, nothing));
        self.ledger = self.stand.open(Duration::from_secs(RETENTION), 1000);
        self.step(&Step::Pass { seconds: 0 });
    }

    fn reserve(&mut self, id: usize, body: u8, ago: u64, resends: bool) {
        let signed = self.now - ago;
        let claim = Claim {
            body: BodyDigest::of(&[body]),
            signed: START + signed,
            resend_after: resends.then_some(Duration::from_secs(RESEND_AFTER)),
            now: at(self.now),
            ..claim(IDS[id])
        };
        let reserved = done(self.ledger.reserve(claim)).unwrap();
        if let Some(running) = self.running.get_mut(&id) {
            let Reserved::Running(waiter) = reserved else {
                panic!("{reserved:?}")
            };
            assert_eq!(waiter.body_differs(), body != running.body);
            running.waiters.push(waiter);
            return;
        }
        let known = self.settled.get(&id).cloned();
        let mut resend = false;
        if let Some(known) = &known
            && known.delivered
        {
            if known.body != body {
                assert!(
                    matches!(reserved, Reserved::Conflict { first } if first == at(known.first))
                );
                return;
            }
            let from = known.signed.max(known.last);
            let due =
                resends && signed >= from + RESEND_AFTER && self.now >= known.last + RESEND_AFTER;
            resend = signed > known.signed && (known.resent.is_some() || due);
            if !resend {
                let expected = if signed == known.signed {
                    RepeatKind::SameTimestamp
                } else {
                    RepeatKind::NewTimestamp
                };
                assert!(matches!(
                    reserved,
                    Reserved::Duplicate { first, kind } if (first, kind) == (at(known.first), expected)
                ));
                return;
            }
        }
        let Reserved::Run(reservation) = reserved else {
            panic!("{reserved:?}")
        };
        assert_eq!(reservation.is_resend(), resend);
        let changed = known.as_ref().is_some_and(|known| known.body != body);
        assert_eq!(reservation.body_changed(), changed);
        let running = Running {
            reservation,
            waiters: Vec::new(),
            before: known,
            body,
            signed,
            resend,
            accepted: BTreeMap::new(),
        };
        self.running.insert(id, running);
    }

    /// With `None` it is dropped.
    fn end(&mut self, id: usize, settled: Option<bool>) {
        let Some(running) = self.running.remove(&id) else {
            return;
        };
        let Running {
            reservation,
            waiters,
            accepted,
            ..
        } = running;
        let delivered = settled == Some(true);
        match settled {
            Some(delivered) => {
                done(reservation.settle(delivered, Some(u32::from(delivered)), at(self.now)))
                    .unwrap();
            }
            None => drop(reservation),
        }
        for waiter in waiters {
            assert_eq!(now(waiter.outcome()), settled.map(u32::from));
        }
        let failed = settled.is_some() && running.before.as_ref().is_none_or(Known::is_failed);
        if accepted.is_empty() && !delivered && !failed {
            return;
        }
        let times = accepted.values();
        let first = times.clone().min().copied().unwrap_or(self.now);
        let signed = running.before.as_ref().map_or(0, |known| known.signed);
        let before = running.before.filter(|known| !known.is_failed());
        let mut known = before.unwrap_or(Known {
            body: running.body,
            signed,
            first,
            last: first,
            sent: BTreeMap::new(),
            resent: None,
            delivered: false,
        });
        known.last = times.max().copied().unwrap_or(0).max(known.last);
        known.body = running.body;
        if running.resend {
            known.resent.get_or_insert_default().extend(accepted);
        } else {
            known.sent.extend(accepted);
            known.delivered = delivered;
        }
        if delivered || !running.resend {
            known.signed = known.signed.max(running.signed);
        }
        if delivered && running.resend {
            known.sent = known.resent.take().unwrap_or_default();
        }
        self.settled.insert(id, known);
    }

    fn forget(&mut self, id: usize, name: Option<usize>) {
        let name_of = name.map(|name| NAMES[name]);
        let forgotten = done(self.ledger.forget("clerk", IDS[id], name_of)).unwrap();
        if self.running.contains_key(&id) {
            assert_eq!(forgotten, Forgotten::Running);
            return;
        }
        let Some(known) = self.settled.get_mut(&id) else {
            assert_eq!(forgotten, Forgotten::Unknown);
            return;
        };
        let Some(name) = name else {
            assert_eq!(forgotten, Forgotten::Done);
            self.settled.remove(&id);
            return;
        };
        let receipts = known.resent.as_mut().unwrap_or(&mut known.sent);
        if receipts.remove(&name).is_none() {
            assert_eq!(forgotten, Forgotten::Unknown);
            return;
        }
        assert_eq!(forgotten, Forgotten::Done);
        if known.resent.is_none() {
            known.delivered = false;
            if known.sent.is_empty() {
                self.settled.remove(&id);
            }
        }
    }

    fn compare(&self, id: usize) {
        let look = done(self.ledger.lookup("clerk", IDS[id])).unwrap();
        if let Some(running) = self.running.get(&id) {
            assert_eq!(look.unwrap().state, LookState::Running);
            let before = running.before.as_ref();
            for (number, name) in NAMES.iter().enumerate() {
                let before = before.is_some_and(|known| match &known.resent {
                    Some(resent) => resent.contains_key(&number),
                    None => !running.resend && known.sent.contains_key(&number),
                });
                assert_eq!(
                    running.reservation.has_receipt(name),
                    before || running.accepted.contains_key(&number)
                );
            }
            return;
        }
        let Some(known) = self.settled.get(&id) else {
            assert_eq!(look, None);
            return;
        };
        let look = look.unwrap();
        let delivered = known.delivered && known.resent.is_none();
        assert_eq!(look.state == LookState::Delivered, delivered);
        assert_eq!(look.state == LookState::Failed, known.is_failed());
        assert_eq!(look.first, (!known.is_failed()).then(|| at(known.first)));
        assert_eq!(look.signed, START + known.signed);
        let told: BTreeMap<_, _> = look.destinations.into_iter().collect();
        let receipts = known.resent.as_ref().unwrap_or(&known.sent);
        let expected: BTreeMap<Arc<str>, _> = receipts
            .iter()
            .map(|(&name, &time)| (NAMES[name].into(), at(time)))
            .collect();
        assert_eq!(told, expected);
    }
}

/// Goes through random histories on a store.
pub(super) fn holds(stand: impl Fn() -> Box<dyn Stand>, cases: u32) {
    let steps = proptest::collection::vec(step(), 1..120);
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest::test_runner::TestRunner::new(config)
        .run(&steps, |steps| {
            let mut model = Model::new(stand());
            for step in &steps {
                model.step(step);
            }
            Ok(())
        })
        .unwrap();
}

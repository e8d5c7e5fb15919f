//! The ledger: a new id from its claim to its settlement, a duplicate, and what
//! an id that is remembered takes of memory.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use criterion::Criterion;
use futures_util::FutureExt as _;
use hookward::gateway::{Answer, Outcome};
use hookward::ledger::{BodyDigest, Claim, Ledger, LedgerConfig, Reserved};
use hookward::message::MessageId;
use hookward::observe::{Clock, Metrics};

use crate::resident::resident;

/// What the README states an id takes, in a ledger that is full (bytes).
const STATED: f64 = 66.0;

/// How many ids the ledger of the defaults knows.
const FULL: usize = 1_000_000;

/// A ledger, and ids it has not seen.
struct Ids {
    ledger: Arc<Ledger<Outcome>>,
    source: Arc<str>,
    destination: Arc<str>,
    now: SystemTime,
    next: usize,
}

pub fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ledger");
    for (name, known) in [
        ("empty", 0),
        ("100 000 ids", 100_000),
        ("full, a million", FULL),
    ] {
        // Filled once it is asked for; a name on the command line may leave it out.
        let mut ids = None;
        group.bench_function(format!("new id/{name}"), |bencher| {
            let ids = ids.get_or_insert_with(|| Ids::with(known));
            bencher.iter_custom(|count| ids.settle_new(count, known));
        });
        let mut ids = None;
        group.bench_function(format!("duplicate/{name}"), |bencher| {
            let ids = ids.get_or_insert_with(|| Ids::with(known.max(1)));
            bencher.iter_custom(|count| ids.find_known(count));
        });
    }
    group.finish();
}

/// Fills a ledger with a million ids, tells what each takes, and whether that is
/// no more than the README states.
pub fn memory() -> bool {
    // What is at work for the first ids is there once, however many follow.
    const FIRST: usize = 10_000;
    let mut ids = Ids::with(FIRST);
    let before = resident(None, "VmRSS");
    ids.fill(FULL - FIRST);
    let grown = resident(None, "VmRSS").saturating_sub(before);
    let each = grown as f64 / (FULL - FIRST) as f64;
    let kept = each <= STATED;
    let word = if kept { "" } else { "BROKEN " };
    println!("{word}memory: {each:.1} bytes an id of a full ledger; the README states {STATED}");
    kept
}

impl Ids {
    /// A ledger that knows so many.
    fn with(known: usize) -> Self {
        let metrics = Metrics::new().unwrap();
        let clock = Clock::system(metrics.clock_steps().clone());
        let config = LedgerConfig::default();
        let now = clock.now();
        let mut ids = Self {
            ledger: Ledger::in_memory(&config, metrics.ledger().clone(), clock),
            source: "clerk".into(),
            destination: "app".into(),
            now,
            next: 0,
        };
        ids.fill(known);
        ids
    }

    fn fill(&mut self, count: usize) {
        for _ in 0..count {
            let claim = self.claim(self.next);
            self.next += 1;
            self.settle(claim);
        }
        self.ledger.tick();
    }

    /// How long so many new ids take, in a ledger that knows not many more than
    /// that: it is made anew whenever a quarter has been added.
    fn settle_new(&mut self, count: u64, known: usize) -> Duration {
        let grown = if known == FULL {
            usize::MAX
        } else {
            known + known / 4 + 1000
        };
        let mut took = Duration::ZERO;
        let mut left = usize::try_from(count).unwrap();
        while left > 0 {
            if self.next >= grown {
                *self = Self::with(known);
            }
            // Claims are made beforehand, a batch at a time.
            let batch = left.min(1000);
            let claims: Vec<Claim> = (self.next..self.next + batch)
                .map(|number| self.claim(number))
                .collect();
            self.next += batch;
            left -= batch;
            let began = Instant::now();
            for claim in claims {
                self.settle(claim);
            }
            took += began.elapsed();
        }
        took
    }

    /// How long so many look-ups of delivered ids take, spread over the newest
    /// half, which is known whatever was forgotten.
    fn find_known(&mut self, count: u64) -> Duration {
        let mut took = Duration::ZERO;
        let mut left = usize::try_from(count).unwrap();
        while left > 0 {
            let batch = left.min(1000);
            let claims: Vec<Claim> = (0..batch)
                .map(|_| self.claim(fastrand::usize(self.next / 2..self.next)))
                .collect();
            left -= batch;
            let began = Instant::now();
            for claim in claims {
                let reserved = self.ledger.reserve(claim).now_or_never();
                assert!(matches!(reserved, Some(Ok(Reserved::Duplicate { .. }))));
            }
            took += began.elapsed();
        }
        took
    }

    fn claim(&self, number: usize) -> Claim {
        let id = format!("msg_{number:027}");
        Claim {
            source: Arc::clone(&self.source),
            id: MessageId::parse(id.into()).unwrap(),
            body: BodyDigest::of(&number.to_le_bytes()),
            signed: 1_649_367_553,
            window: Duration::from_secs(600),
            resend_after: None,
            now: self.now,
        }
    }

    /// The whole way of an id: nothing of it waits, as there is no store behind.
    fn settle(&self, claim: Claim) {
        let reserved = self.ledger.reserve(claim).now_or_never();
        let Some(Ok(Reserved::Run(reservation))) = reserved else {
            unreachable!("the id is new");
        };
        reservation.accept(&self.destination, self.now);
        let settled = reservation.settle(true, Some(Ok(Answer::Delivered)), self.now);
        assert_eq!(settled.now_or_never(), Some(Ok(())));
    }
}

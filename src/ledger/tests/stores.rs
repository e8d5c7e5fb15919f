//! What every store has to hold, and what a ledger makes of one that fails.

use super::scripted::Scripted;
use super::*;

/// Where a store of some kind stands while ledgers on it come and go.
pub(super) trait Stand {
    /// A ledger on the store.
    fn open(&self, retention: Duration, max_entries: u64) -> Arc<Ledger<u32>>;
    /// Whether another ledger on it knows what this one did.
    fn survives(&self) -> bool {
        true
    }
    /// Whether the metrics tell at once what it holds.
    fn counts(&self) -> bool {
        true
    }
}

struct InMemory;

impl Stand for InMemory {
    fn open(&self, retention: Duration, _: u64) -> Arc<Ledger<u32>> {
        ledger(retention, 1000).0
    }
    fn survives(&self) -> bool {
        false
    }
}

impl Stand for Scripted {
    fn open(&self, retention: Duration, max_entries: u64) -> Arc<Ledger<u32>> {
        on(Store::Scripted(self.clone()), retention, max_entries)
    }
}

/// A folder that is there as long as this.
struct InAFolder(tempfile::TempDir);

impl InAFolder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl Stand for InAFolder {
    fn open(&self, retention: Duration, max_entries: u64) -> Arc<Ledger<u32>> {
        let config = LedgerConfig {
            retention,
            max_entries,
            journal: Some(self.0.path().join("journal")),
            redis: None,
        };
        let metrics = Metrics::new().unwrap().ledger().clone();
        let ledger = Ledger::open(&config, metrics, Clock::fixed(UNIX_EPOCH)).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        done(ledger.usable(deadline)).unwrap();
        ledger
    }
}

/// The names by which the scripted store's records go, over all ledgers on it.
pub(super) fn names() -> Arc<Names> {
    let names = Names::default();
    for name in ["clerk", "billing", "audit", "mail", "shop"] {
        names.intern(&name.into());
    }
    Arc::new(names)
}

pub(super) fn on(store: Store, retention: Duration, max_entries: u64) -> Arc<Ledger<u32>> {
    let config = LedgerConfig {
        retention,
        max_entries,
        ..LedgerConfig::default()
    };
    let metrics = Metrics::new().unwrap().ledger().clone();
    let clock = Clock::fixed(UNIX_EPOCH);
    Ledger::with(store, names(), &config, (metrics, clock))
}

/// The tests that a store has to pass, by the way it is set up.
macro_rules! every_store_holds {
    ($store:ident, $stand:expr, $cases:expr) => {
        mod $store {
            use super::*;

            #[test]
            fn does_what_the_model_does() {
                model::holds(|| Box::new($stand), $cases);
            }

            #[test]
            fn what_was_accepted_is_known_to_the_next_ledger() {
                super::what_was_accepted_is_known_to_the_next_ledger(&$stand);
            }

            #[test]
            fn what_was_forgotten_stays_so() {
                super::what_was_forgotten_stays_so(&$stand);
            }

            #[test]
            fn more_ids_than_memory_holds_are_known() {
                super::more_ids_than_memory_holds_are_known(&$stand);
            }

            #[test]
            fn what_has_expired_is_dropped() {
                super::what_has_expired_is_dropped(&$stand);
            }
        }
    };
}

every_store_holds!(memory, InMemory, 256);
every_store_holds!(scripted, Scripted::new(), 256);
every_store_holds!(journal, InAFolder::new(), 4);

fn deliver_to(ledger: &Arc<Ledger<u32>>, claim: Claim, accepted: &[&str], delivered: bool) {
    let time = claim.now;
    let Reserved::Run(reservation) = done(ledger.reserve(claim)).unwrap() else {
        panic!("does not run")
    };
    for &destination in accepted {
        reservation.accept(&destination.into(), time);
    }
    done(reservation.settle(delivered, Some(200), time)).unwrap();
}

fn is_known(ledger: &Arc<Ledger<u32>>, id: &str) -> bool {
    done(ledger.lookup("clerk", id)).unwrap().is_some()
}

pub(super) fn what_was_accepted_is_known_to_the_next_ledger(stand: &impl Stand) {
    if !stand.survives() {
        return;
    }
    let ledger = stand.open(HOUR, 1000);
    deliver_to(&ledger, claim("all"), &["billing", "audit"], true);
    deliver_to(&ledger, claim("half"), &["audit"], false);
    done(ledger.accept_late("clerk", "all", &"mail".into(), at(3)));
    let looks = |ledger: &Arc<Ledger<u32>>| {
        ["all", "half"].map(|id| done(ledger.lookup("clerk", id)).unwrap().unwrap())
    };
    let before = looks(&ledger);
    drop(ledger);

    let ledger = stand.open(HOUR, 1000);
    assert_eq!(looks(&ledger), before);
    assert!(is_duplicate(&done(ledger.reserve(claim("all"))).unwrap()));
    let other_body = Claim {
        body: BodyDigest::of(b"{ }"),
        ..claim("all")
    };
    let conflict = done(ledger.reserve(other_body)).unwrap();
    assert!(matches!(conflict, Reserved::Conflict { first } if first == at(0)));
    let Reserved::Run(retry) = done(ledger.reserve(claim("half"))).unwrap() else {
        panic!("does not run")
    };
    assert!(retry.has_receipt("audit") && !retry.has_receipt("billing"));
}

pub(super) fn what_was_forgotten_stays_so(stand: &impl Stand) {
    let ledger = stand.open(HOUR, 1000);
    for id in ["a", "b", "c"] {
        deliver_to(&ledger, claim(id), &["billing", "audit"], true);
    }
    let forget = |id, name| done(ledger.forget("clerk", id, name)).unwrap();
    assert_eq!(forget("a", None), Forgotten::Done);
    assert_eq!(forget("a", None), Forgotten::Unknown);
    assert_eq!(forget("b", Some("audit")), Forgotten::Done);
    let ledger = if stand.survives() {
        drop(ledger);
        stand.open(HOUR, 1000)
    } else {
        ledger
    };
    assert!(!is_known(&ledger, "a"));
    let look = done(ledger.lookup("clerk", "b")).unwrap().unwrap();
    assert_eq!(look.state, LookState::Partly);
    assert_eq!(done(ledger.forget_since("clerk", at(0))), Ok(2));
    assert_eq!(done(ledger.forget_since("clerk", at(0))), Ok(0));
    assert!(!is_known(&ledger, "b") && !is_known(&ledger, "c"));
}

pub(super) fn more_ids_than_memory_holds_are_known(stand: &impl Stand) {
    if !stand.survives() {
        return;
    }
    let ledger = stand.open(HOUR, 10);
    for number in 0..200 {
        deliver_to(&ledger, claim(&format!("m{number}")), &["billing"], true);
    }
    ledger.tick();
    for number in 0..200 {
        let again = done(ledger.reserve(claim(&format!("m{number}")))).unwrap();
        assert!(is_duplicate(&again), "{number}");
    }
    ledger.count();
    let metrics = ledger.forgetting.metrics();
    assert_eq!(metrics.evictions.get(), 0, "they are not forgotten");
    if stand.counts() {
        assert_eq!((metrics.entries.get(), metrics.up.get()), (200, 1));
    }
}

pub(super) fn what_has_expired_is_dropped(stand: &impl Stand) {
    let ledger = stand.open(HOUR, 1000);
    deliver_to(&ledger, claim("old"), &["billing"], true);
    let late = Claim {
        now: at(7200),
        ..claim("new")
    };
    deliver_to(&ledger, late, &["billing"], true);
    ledger.tick();
    done(ledger.upkeep());
    assert!(!is_known(&ledger, "old") && is_known(&ledger, "new"));
}

fn scripted() -> (Arc<Ledger<u32>>, Scripted) {
    let store = Scripted::new();
    (store.open(HOUR, 1000), store)
}

#[test]
fn what_memory_knows_costs_no_look_into_the_store() {
    let (ledger, store) = scripted();
    deliver_to(&ledger, claim("m"), &["billing"], true);
    assert_eq!(store.looks(), 1);
    for _ in 0..5 {
        assert!(is_duplicate(&done(ledger.reserve(claim("m"))).unwrap()));
    }
    assert_eq!(store.looks(), 1);
}

#[test]
fn an_id_is_running_while_the_store_is_asked() {
    let (ledger, store) = scripted();
    store.hold();
    let mut asking = Box::pin(ledger.reserve(claim("m")));
    let mut context = Context::from_waker(Waker::noop());
    assert!(asking.as_mut().poll(&mut context).is_pending());
    let second = wait(&ledger, claim("m"));
    let mut outcome = Box::pin(second.outcome());
    assert!(outcome.as_mut().poll(&mut context).is_pending());
    drop(asking);
    assert_eq!(outcome.as_mut().poll(&mut context), Poll::Ready(None));
    store.go_on();
    deliver_to(&ledger, claim("m"), &["billing"], true);
}

#[test]
fn who_waits_while_the_store_is_asked_finds_what_it_knew() {
    let (ledger, store) = scripted();
    deliver_to(&ledger, claim("m"), &["billing"], true);
    let ledger = store.open(HOUR, 1000);
    store.hold();
    let mut asking = Box::pin(ledger.reserve(claim("m")));
    let mut context = Context::from_waker(Waker::noop());
    assert!(asking.as_mut().poll(&mut context).is_pending());
    let second = wait(&ledger, claim("m"));
    store.go_on();
    assert!(is_duplicate(&done(asking).unwrap()));
    assert_eq!(now(second.outcome()), None);
    assert!(is_duplicate(&reserve(&ledger, claim("m"))));
}

#[test]
fn nothing_runs_while_the_store_is_away_but_what_memory_knows_is_answered() {
    let (ledger, store) = scripted();
    deliver_to(&ledger, claim("m"), &["billing"], true);
    deliver_to(&ledger, claim("half"), &["billing"], false);
    store.set_away(true);
    ledger.count();
    assert_eq!(ledger.forgetting.metrics().up.get(), 0);
    assert!(is_duplicate(&done(ledger.reserve(claim("m"))).unwrap()));
    done(ledger.reserve(claim("new"))).unwrap_err();
    done(ledger.reserve(claim("half"))).unwrap_err();
    assert!(ledger.shards.iter().all(|s| lock(s).running.is_empty()));
    store.set_away(false);
    deliver_to(&ledger, claim("new"), &["billing"], true);
}

#[test]
fn a_receipt_that_could_not_be_kept_is_no_success_until_it_is() {
    let (ledger, store) = scripted();
    let reservation = run_on(&ledger, claim("m"));
    let waiter = wait(&ledger, claim("m"));
    reservation.accept(&"billing".into(), at(1));
    store.set_fails(true);
    done(reservation.settle(true, Some(200), at(1))).unwrap_err();
    assert_eq!(done(waiter.outcome()), None, "whoever waits asks again");
    done(ledger.reserve(claim("m"))).unwrap_err();
    let look = done(ledger.lookup("clerk", "m")).unwrap().unwrap();
    assert_eq!(look.state, LookState::Delivered, "it is not sent again");

    store.set_fails(false);
    assert!(is_duplicate(&done(ledger.reserve(claim("m"))).unwrap()));
    let next = store.open(HOUR, 1000);
    assert!(is_duplicate(&done(next.reserve(claim("m"))).unwrap()));
}

#[test]
fn what_is_owed_is_written_when_the_store_is_back() {
    let (ledger, store) = scripted();
    let reservation = run_on(&ledger, claim("m"));
    reservation.accept(&"billing".into(), at(1));
    store.set_fails(true);
    done(reservation.settle(false, Some(502), at(1))).unwrap_err();
    done(ledger.upkeep());
    assert_eq!(store.count(), 0);
    store.set_fails(false);
    done(ledger.upkeep());
    assert_eq!(store.count(), 1);
    assert!(run_on(&ledger, claim("m")).has_receipt("billing"));
}

#[test]
fn one_id_that_the_store_does_not_take_keeps_no_other_from_it() {
    let (ledger, store) = scripted();
    for number in 0..5 {
        let id = format!("m{number}");
        store.set_fails(false);
        let reservation = run_on(&ledger, claim(&id));
        reservation.accept(&"billing".into(), at(1));
        store.set_fails(true);
        done(reservation.settle(true, Some(200), at(1))).unwrap_err();
    }
    store.set_fails(false);
    let first = ledger.owed_ids(|_| true)[0];
    store.refuse(first);
    done(ledger.upkeep());
    assert_eq!(store.count(), 4);
    assert_eq!(ledger.owed_ids(|_| true), [first]);
}

#[test]
fn a_settle_that_is_broken_off_keeps_its_receipts_and_owes_them() {
    let (ledger, store) = scripted();
    let reservation = run_on(&ledger, claim("m"));
    reservation.accept(&"billing".into(), at(1));
    store.hold();
    let mut settling = Box::pin(reservation.settle(true, Some(200), at(1)));
    let mut context = Context::from_waker(Waker::noop());
    assert!(settling.as_mut().poll(&mut context).is_pending());
    drop(settling);
    store.go_on();
    assert!(is_duplicate(&done(ledger.reserve(claim("m"))).unwrap()));
    assert_eq!(store.count(), 1);
}

#[test]
fn what_nobody_accepted_needs_no_store() {
    let (ledger, store) = scripted();
    deliver_to(&ledger, claim("m"), &[], false);
    assert_eq!(store.count(), 0);
    let look = done(ledger.lookup("clerk", "m")).unwrap().unwrap();
    assert_eq!(look.state, LookState::Failed);
}

fn run_on(ledger: &Arc<Ledger<u32>>, claim: Claim) -> Reservation<u32> {
    match done(ledger.reserve(claim)).unwrap() {
        Reserved::Run(reservation) => reservation,
        other => panic!("does not run: {other:?}"),
    }
}

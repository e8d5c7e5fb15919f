mod bound;
mod look;
mod model;
mod redis;
mod scripted;
mod stores;

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, UNIX_EPOCH};

pub(super) use scripted::Scripted;

use super::*;
use crate::message::MessageId;
use crate::observe::Metrics;

/// When the tests begin (Unix seconds).
const START: u64 = 1_700_000_000;
const HOUR: Duration = Duration::from_secs(3600);

impl Told for u32 {
    fn write(&self) -> String {
        self.to_string()
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// A ledger whose callers bring the time, and what it counts.
fn ledger(retention: Duration, max_entries: u64) -> (Arc<Ledger<u32>>, LedgerMetrics) {
    let metrics = Metrics::new().unwrap().ledger().clone();
    let config = LedgerConfig {
        retention,
        max_entries,
        ..LedgerConfig::default()
    };
    let clock = Clock::fixed(UNIX_EPOCH);
    (Ledger::in_memory(&config, metrics.clone(), clock), metrics)
}

fn small() -> Arc<Ledger<u32>> {
    ledger(HOUR, 1000).0
}

/// A claim of source `clerk`, signed at the start.
fn claim(id: &str) -> Claim {
    Claim {
        source: "clerk".into(),
        id: MessageId::parse(id.to_owned().into()).unwrap(),
        body: BodyDigest::of(b"{}"),
        signed: START,
        window: Duration::from_secs(300),
        resend_after: None,
        now: at(0),
    }
}

/// `seconds` after the start.
fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(START + seconds)
}

/// What a future that does not wait comes to.
fn now<F: Future>(future: F) -> F::Output {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

/// What a future comes to that may wait for a store.
fn done<F: Future>(future: F) -> F::Output {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

/// What a ledger in memory tells of an id.
fn told(ledger: &Arc<Ledger<u32>>, source: &str, id: &str) -> Option<Look> {
    now(ledger.lookup(source, id)).unwrap()
}

fn reserve(ledger: &Arc<Ledger<u32>>, claim: Claim) -> Reserved<u32> {
    now(ledger.reserve(claim)).unwrap()
}

fn run(ledger: &Arc<Ledger<u32>>, claim: Claim) -> Reservation<u32> {
    match reserve(ledger, claim) {
        Reserved::Run(reservation) => reservation,
        other => panic!("does not run: {other:?}"),
    }
}

fn wait(ledger: &Arc<Ledger<u32>>, claim: Claim) -> Waiter<u32> {
    match reserve(ledger, claim) {
        Reserved::Running(waiter) => waiter,
        other => panic!("does not wait: {other:?}"),
    }
}

/// Runs an id to its end: `accepted` is who accepts it, at the claim's own time.
fn settle(ledger: &Arc<Ledger<u32>>, claim: Claim, accepted: &[&str], delivered: bool) {
    let time = claim.now;
    let reservation = run(ledger, claim);
    for &destination in accepted {
        reservation.accept(&destination.into(), time);
    }
    now(reservation.settle(delivered, Some(200), time)).unwrap();
}

fn deliver(ledger: &Arc<Ledger<u32>>, claim: Claim) {
    settle(ledger, claim, &["billing"], true);
}

fn is_duplicate(reserved: &Reserved<u32>) -> bool {
    matches!(reserved, Reserved::Duplicate { .. })
}

#[test]
fn a_delivered_id_is_a_duplicate_and_tells_when_it_was_first_accepted() {
    let ledger = small();
    deliver(
        &ledger,
        Claim {
            now: at(7),
            ..claim("m")
        },
    );
    let again = |signed| Claim {
        signed,
        now: at(60),
        ..claim("m")
    };
    for (signed, kind) in [
        (START, RepeatKind::SameTimestamp),
        (START + 30, RepeatKind::NewTimestamp),
    ] {
        match reserve(&ledger, again(signed)) {
            Reserved::Duplicate { first, kind: told } => {
                assert_eq!((first, told), (at(7), kind));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_id_belongs_to_its_source() {
    let ledger = small();
    deliver(&ledger, claim("m"));
    let other = Claim {
        source: "shop".into(),
        ..claim("m")
    };
    drop(run(&ledger, other));
}

#[test]
fn a_delivered_id_with_another_body_is_a_conflict() {
    let ledger = small();
    deliver(&ledger, claim("m"));
    let other = Claim {
        body: BodyDigest::of(b"{ }"),
        ..claim("m")
    };
    assert!(matches!(
        reserve(&ledger, other),
        Reserved::Conflict { first } if first == at(0)
    ));
}

#[test]
fn a_retry_of_a_partly_delivered_id_lacks_only_the_receipts_it_lacks() {
    let ledger = small();
    settle(&ledger, claim("m"), &["billing"], false);
    let retry = run(&ledger, claim("m"));
    assert!(retry.has_receipt("billing"));
    assert!(!retry.has_receipt("audit"));
    assert!(!retry.body_changed() && !retry.is_resend());
    retry.accept(&"audit".into(), at(5));
    assert!(retry.has_receipt("audit"));
    now(retry.settle(true, Some(200), at(5))).unwrap();
    assert!(is_duplicate(&reserve(&ledger, claim("m"))));
}

#[test]
fn a_partly_delivered_id_runs_with_another_body_and_says_so() {
    let ledger = small();
    settle(&ledger, claim("m"), &["billing"], false);
    let other = Claim {
        body: BodyDigest::of(b"{ }"),
        ..claim("m")
    };
    let retry = run(&ledger, other.clone());
    assert!(retry.body_changed());
    assert!(retry.has_receipt("billing"));
    retry.accept(&"audit".into(), at(1));
    now(retry.settle(true, Some(200), at(1))).unwrap();
    assert!(is_duplicate(&reserve(&ledger, other)));
    assert!(matches!(
        reserve(&ledger, claim("m")),
        Reserved::Conflict { .. }
    ));
}

#[test]
fn an_id_that_failed_is_known_as_that_and_runs_again() {
    let ledger = small();
    settle(&ledger, claim("m"), &[], false);
    let look = told(&ledger, "clerk", "m").unwrap();
    assert_eq!((look.state, look.first), (LookState::Failed, None));
    let same = run(&ledger, claim("m"));
    assert!(!same.has_receipt("billing") && !same.body_changed());
    drop(same);

    let other_body = Claim {
        body: BodyDigest::of(b"another"),
        ..claim("m")
    };
    let changed = run(&ledger, other_body.clone());
    assert!(changed.body_changed());
    changed.accept(&"billing".into(), at(1_005));
    now(changed.settle(true, Some(1), at(1_005))).unwrap();
    let look = told(&ledger, "clerk", "m").unwrap();
    assert_eq!(look.first, Some(at(1_005)), "not when it failed");
    assert!(is_duplicate(&reserve(&ledger, other_body)));
}

#[test]
fn a_dropped_reservation_frees_the_id_and_keeps_its_receipts() {
    let ledger = small();
    let reservation = run(&ledger, claim("m"));
    let waiter = wait(&ledger, claim("m"));
    reservation.accept(&"billing".into(), at(3));
    drop(reservation);
    assert_eq!(now(waiter.outcome()), None);
    let retry = run(&ledger, claim("m"));
    assert!(retry.has_receipt("billing") && !retry.has_receipt("audit"));
}

#[test]
fn a_reservation_lost_in_a_panic_frees_the_id() {
    let ledger = small();
    let theirs = Arc::clone(&ledger);
    let thread = std::thread::spawn(move || {
        let _reservation = run(&theirs, claim("m"));
        std::panic::resume_unwind(Box::new("on purpose"));
    });
    thread.join().unwrap_err();
    drop(run(&ledger, claim("m")));
}

#[test]
fn a_settle_that_is_never_awaited_frees_the_id() {
    let ledger = small();
    drop(run(&ledger, claim("m")).settle(true, Some(200), at(0)));
    drop(run(&ledger, claim("m")));
}

#[test]
fn a_waiter_knows_whether_its_body_is_the_running_one() {
    let ledger = small();
    let _running = run(&ledger, claim("m"));
    let other = Claim {
        body: BodyDigest::of(b"{ }"),
        ..claim("m")
    };
    assert!(!wait(&ledger, claim("m")).body_differs());
    assert!(wait(&ledger, other).body_differs());
}

#[test]
fn a_waiter_that_looks_after_the_end_is_told_too() {
    let ledger = small();
    let reservation = run(&ledger, claim("m"));
    let waiter = wait(&ledger, claim("m"));
    now(reservation.settle(false, Some(502), at(1))).unwrap();
    assert_eq!(now(waiter.outcome()), Some(502));
}

#[test]
fn a_waiter_that_waits_already_is_woken_by_the_end() {
    for answer in [Some(200), None] {
        let ledger = small();
        let reservation = run(&ledger, claim("m"));
        let mut outcome = Box::pin(wait(&ledger, claim("m")).outcome());
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(outcome.as_mut().poll(&mut context), Poll::Pending);
        match answer {
            Some(answer) => now(reservation.settle(true, Some(answer), at(1))).unwrap(),
            None => drop(reservation),
        }
        assert_eq!(outcome.as_mut().poll(&mut context), Poll::Ready(answer));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_hundred_claims_on_one_id_one_runs_and_all_are_told_the_same() {
    let ledger = small();
    let claims: Vec<_> = (0..100)
        .map(|_| {
            let ledger = Arc::clone(&ledger);
            tokio::spawn(async move { ledger.reserve(claim("m")).await.unwrap() })
        })
        .collect();
    let (mut running, mut waiting) = (Vec::new(), Vec::new());
    for claim in claims {
        match claim.await.unwrap() {
            Reserved::Run(reservation) => running.push(reservation),
            Reserved::Running(waiter) => waiting.push(tokio::spawn(waiter.outcome())),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((running.len(), waiting.len()), (1, 99));
    running
        .remove(0)
        .settle(true, Some(200), at(1))
        .await
        .unwrap();
    for waiter in waiting {
        assert_eq!(waiter.await.unwrap(), Some(200));
    }
}

#[test]
fn an_id_is_known_until_exactly_its_retention() {
    let ledger = small();
    let delivered = at(10);
    deliver(
        &ledger,
        Claim {
            now: delivered,
            ..claim("m")
        },
    );
    let later = |time| Claim {
        now: time,
        ..claim("m")
    };
    let end = delivered + HOUR;
    let before = end - Duration::from_millis(1);
    assert!(is_duplicate(&reserve(&ledger, later(before))));
    drop(run(&ledger, later(end)));
    assert_eq!(told(&ledger, "clerk", "m"), None);
}

#[test]
fn retention_counts_from_the_last_receipt_and_no_repeat_lengthens_it() {
    let ledger = small();
    settle(&ledger, claim("m"), &["billing"], false);
    let retry = Claim {
        now: at(1800),
        ..claim("m")
    };
    settle(&ledger, retry, &["audit"], true);
    let repeat = |seconds| Claim {
        now: at(seconds),
        ..claim("m")
    };
    assert!(is_duplicate(&reserve(&ledger, repeat(3600))));
    assert!(is_duplicate(&reserve(&ledger, repeat(5399))));
    drop(run(&ledger, repeat(5400)));
}

fn resend(signed: u64, time: u64) -> Claim {
    Claim {
        signed: START + signed,
        resend_after: Some(Duration::from_secs(60)),
        now: at(time),
        ..claim("m")
    }
}

#[test]
fn a_resend_is_signed_anew_and_longer_after_the_delivery() {
    let ledger = small();
    deliver(
        &ledger,
        Claim {
            now: at(10),
            ..claim("m")
        },
    );
    for (signed, time) in [(0, 500), (69, 69), (69, 500), (200, 69)] {
        let reserved = reserve(&ledger, resend(signed, time));
        assert!(is_duplicate(&reserved), "{signed} {time}");
    }
    let reservation = run(&ledger, resend(70, 70));
    assert!(reservation.is_resend());
    assert!(!reservation.has_receipt("billing"));
}

#[test]
fn a_source_without_resends_answers_duplicate() {
    let ledger = small();
    deliver(&ledger, claim("m"));
    let again = Claim {
        resend_after: None,
        ..resend(900, 900)
    };
    assert!(is_duplicate(&reserve(&ledger, again)));
}

#[test]
fn a_resend_with_another_body_is_a_conflict() {
    let ledger = small();
    deliver(&ledger, claim("m"));
    let other = Claim {
        body: BodyDigest::of(b"{ }"),
        ..resend(900, 900)
    };
    assert!(matches!(reserve(&ledger, other), Reserved::Conflict { .. }));
}

#[test]
fn a_resend_that_failed_halfway_goes_on_to_those_without_a_new_receipt() {
    let ledger = small();
    settle(&ledger, claim("m"), &["billing", "audit"], true);
    settle(&ledger, resend(100, 100), &["billing"], false);

    let replay = reserve(
        &ledger,
        Claim {
            now: at(101),
            ..claim("m")
        },
    );
    assert!(is_duplicate(&replay), "what was delivered stays so");

    let retry = run(&ledger, resend(101, 101));
    assert!(retry.is_resend());
    assert!(retry.has_receipt("billing") && !retry.has_receipt("audit"));
    drop(retry);

    settle(&ledger, resend(100, 105), &["audit"], true);
    assert!(is_duplicate(&reserve(&ledger, resend(100, 106))));
    assert!(is_duplicate(&reserve(&ledger, resend(101, 600))));
}

#[test]
fn a_resend_that_nobody_accepted_can_be_tried_again() {
    let ledger = small();
    deliver(&ledger, claim("m"));
    settle(&ledger, resend(100, 100), &[], false);
    assert!(is_duplicate(&reserve(
        &ledger,
        Claim {
            now: at(101),
            ..claim("m")
        }
    )));
    let retry = run(&ledger, resend(100, 101));
    assert!(retry.is_resend() && !retry.has_receipt("billing"));
}

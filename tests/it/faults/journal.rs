//! With `ledger.journal`, over kills and on a disk that fails: not one acknowledged
//! id is delivered again, not one is lost.

use std::sync::Arc;

use fastrand::Rng;

use super::audit::Promises;
use super::facts::Journal;
use super::killed::killing;
use super::lives::Lives;
use super::load::{Load, Sender};
use super::moments::{arrivals, at_each_moment};
use super::shim::{Act, Call, Fault, Shim};
use super::{long, noting, seeded, to_app};
use crate::support::{Gateway, Message, before_the_next_look, within};

/// The ids, beside the configuration.
const JOURNAL: &str = "ledger.journal = \"ids\"";

const PROMISES: fn() -> Promises = || Promises {
    required: vec!["app"],
    remembers: true,
    failing: false,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_it_delivers_nothing_again_that_it_answered_for() {
    let seed = seeded();
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(Journal::create(&folder.path().join("facts")));
    let service = noting(&journal).await;
    let config = format!("{JOURNAL}\n{}", to_app(&service, r#""app""#, ""));
    let mut lives = Lives::of(&config);
    let load = Load::start(&journal, &lives.place(), 8, seed);

    let times = if long() { 100 } else { 6 };
    killing(&mut lives, &journal, times, &mut Rng::with_seed(seed)).await;
    let sent = load.end().await;

    lives.tells_no_secret().await;
    lives.kill().await;
    PROMISES().hold(&journal.facts().await);
    assert!(sent > u64::from(times) * 4, "{sent}");
}

#[tokio::test]
async fn at_whatever_moment_it_dies_what_was_kept_before_is_known_after() {
    at_each_moment(JOURNAL, true).await;
}

#[tokio::test]
async fn a_receipt_that_the_disk_does_not_take_is_no_success_and_no_second_delivery() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(Journal::create(&folder.path().join("facts")));
    let service = noting(&journal).await;
    let shim = Shim::on("/ids/");
    let config = format!("{JOURNAL}\n{}", to_app(&service, r#""app""#, ""));
    let mut lives = Lives::with(shim.under(Gateway::with(&config)));
    lives.start().await;
    let mut sender = Sender::new(&journal, &lives.place(), 0);
    let half = Fault::next(Call::Write, Act::Half);
    let cases: [&[Fault]; 6] = [
        &[Fault::next(Call::Write, Act::Full)],
        &[Fault::next(Call::Write, Act::Broken)],
        &[half, Fault::second(Call::Write, Act::Full)],
        &[Fault::next(Call::Sync, Act::Broken)],
        &[Fault::next(Call::Sync, Act::Full)],
        &[
            Fault::next(Call::Sync, Act::Broken),
            Fault::every(Call::Open, Act::Broken),
        ],
    ];
    for (number, faults) in cases.into_iter().enumerate() {
        let id = format!("msg_{number}");
        let message = Message::new(&id).seal();
        shim.arm(faults);

        let answer = sender.send(&message, true).await.unwrap();

        assert_eq!(answer.told(), (503, "unavailable"), "{faults:?}");
        assert!(shim.hits(0) > 0, "{faults:?}");
        let again = sender.send(&message, true).await.unwrap();
        assert!(matches!(again.status, 200 | 503), "{faults:?}: {again:?}");
        shim.arm(&[]);
        within("service to be back", async {
            while sender.send(&message, true).await.unwrap().status != 200 {
                before_the_next_look().await;
            }
        })
        .await;
        assert_eq!(arrivals(&journal, &id).await, 1, "{faults:?}");
        lives.kill().await;
        lives.start().await;
        let after = sender.send(&message, true).await.unwrap();
        assert_eq!(after.told(), (200, "duplicate"), "{faults:?}");
    }
    lives.kill().await;
    PROMISES().hold(&journal.facts().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_disk_that_fails_at_random_between_kills_nothing_answered_for_is_forgotten() {
    let seed = seeded();
    let mut dice = Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(Journal::create(&folder.path().join("facts")));
    let service = noting(&journal).await;
    let shim = Shim::on("/ids/");
    let config = format!("{JOURNAL}\n{}", to_app(&service, r#""app""#, ""));
    let mut lives = Lives::with(shim.under(Gateway::with(&config)));
    let load = Load::start(&journal, &lives.place(), 8, seed);
    let mut failed = 0;
    for _ in 0..if long() { 60 } else { 5 } {
        shim.arm(&[]);
        lives.start().await;
        for _ in 0..3 {
            let calls = [Call::Write, Call::Sync, Call::Open];
            let faults = [(); 2].map(|()| Fault {
                call: calls[dice.usize(..3)],
                act: [Act::Full, Act::Broken][dice.usize(..2)],
                skip: dice.i32(..10),
                times: dice.i32(1..4),
            });
            shim.arm(&faults);
            journal.reached(journal.count() + dice.usize(20..100)).await;
            failed += (0..2).filter(|n| shim.hits(*n) > faults[*n].skip).count();
        }
        lives.kill().await;
    }
    shim.arm(&[]);
    lives.start().await;
    load.end().await;

    lives.kill().await;
    PROMISES().hold(&journal.facts().await);
    assert!(failed > 3, "{failed}");
}

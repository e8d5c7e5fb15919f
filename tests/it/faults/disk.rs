//! A disk that is full or broken, at exactly this write or that sync.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;
use serde_json::Value;

use super::audit::Promises;
use super::facts::{Arrival, Fact, Fate, Journal, SIGNATURE};
use super::lives::Lives;
use super::load::Load;
use super::shim::{Act, Call, Fault, Shim};
use super::{long, seeded};
use crate::support::{Gateway, Message};

/// A source that writes to a file.
const TO_FILE: &str = r#"
admin.token = "env:TOKEN"
[sources.clerk]
secrets = "env:KEY"
to = "log"
[destinations.log]
type = "file"
path = "events.jsonl"
circuit_breaker = "off"
"#;

/// The lines of the file; what is no line of ours fails the test.
fn lines(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("events.jsonl")).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "a torn line");
    let lines = text.lines();
    lines.map(|l| serde_json::from_str(l).unwrap()).collect()
}

/// How often an id stands in the file.
fn count(folder: &Path, id: &str) -> usize {
    lines(folder).iter().filter(|line| line["id"] == id).count()
}

#[tokio::test]
async fn what_the_disk_does_not_take_is_told_and_the_retry_is_written_whole() {
    let full = |act| Fault::next(Call::Write, act);
    let cases: [(&str, &[Fault], usize); 6] = [
        ("a full disk", &[full(Act::Full)], 1),
        ("a broken disk", &[full(Act::Broken)], 1),
        (
            "a disk that is full in the middle of a line",
            &[full(Act::Half), Fault::second(Call::Write, Act::Full)],
            1,
        ),
        (
            "a torn line that cannot be cut back at once",
            &[
                full(Act::Half),
                Fault::second(Call::Write, Act::Full),
                Fault::next(Call::Cut, Act::Broken),
            ],
            1,
        ),
        // Whether it is in the file nobody knows, so it is written again.
        ("a failed sync", &[Fault::next(Call::Sync, Act::Broken)], 2),
        (
            "a sync that fails for want of room",
            &[Fault::next(Call::Sync, Act::Full)],
            2,
        ),
    ];
    let shim = Shim::on("events.jsonl");
    let gateway = shim.under(Gateway::with(TO_FILE)).start().await;
    for (number, (what, faults, written)) in cases.into_iter().enumerate() {
        let id = format!("msg_{number}");
        let message = Message::new(&id);
        shim.arm(faults);

        let answer = gateway.send(&message).await;

        assert_eq!(answer.told(), (502, "failed"), "{what}");
        for (number, fault) in faults.iter().enumerate() {
            assert!(shim.hits(number) > 0, "{what}: {fault:?}");
        }
        shim.arm(&[]);
        let again = gateway.send(&message).await;
        assert_eq!(again.told(), (200, "delivered"), "{what}");
        assert_eq!(count(gateway.folder(), &id), written, "{what}");
        let third = gateway.send(&message).await;
        assert_eq!(third.told(), (200, "duplicate"), "{what}");
        assert_eq!(count(gateway.folder(), &id), written, "{what}");
    }
}

#[tokio::test]
async fn a_failed_sync_is_never_made_good_by_another_of_the_same_file() {
    let shim = Shim::on("events.jsonl");
    let gateway = shim.under(Gateway::with(TO_FILE)).start().await;
    shim.arm(&[
        Fault::next(Call::Sync, Act::Broken),
        Fault::every(Call::Open, Act::Broken),
    ]);

    // The kernel tells of a lost page once; a second sync would say that all is
    // well. So the file is opened anew, which does not succeed here.
    for _ in 0..3 {
        let answer = gateway.send(&Message::new("msg_1")).await;
        assert_eq!(answer.told(), (502, "failed"));
    }
    assert_eq!((shim.hits(0), shim.hits(1)), (1, 2));

    shim.arm(&[]);
    let answer = gateway.send(&Message::new("msg_1")).await;
    assert_eq!(answer.told(), (200, "delivered"));
}

#[tokio::test]
async fn killed_in_the_middle_of_a_line_or_before_its_sync_the_retry_is_written_whole() {
    let shim = Shim::on("events.jsonl");
    let mut lives = Lives::with(shim.under(Gateway::with(TO_FILE)));
    for (number, (call, act, written)) in [
        (Call::Write, Act::KillBefore, 1),
        (Call::Write, Act::KillHalfway, 1),
        (Call::Write, Act::KillAfter, 2),
        (Call::Sync, Act::KillBefore, 2),
        (Call::Sync, Act::KillAfter, 2),
    ]
    .into_iter()
    .enumerate()
    {
        let what = format!("{act:?} {call:?}");
        let message = Message::new(&format!("msg_{number}"));
        lives.start().await;
        lives.gateway().send(&Message::new("msg_before")).await;
        shim.arm(&[Fault::next(call, act)]);
        let mut connection = lives.gateway().connect().await;
        connection.write(&message.seal().request("/clerk")).await;
        assert!(connection.try_answer().await.is_err(), "{what}");
        lives.ended().await;
        assert_eq!(shim.hits(0), 1, "{what}");
        lives.kill().await;

        shim.arm(&[]);
        lives.start().await;
        let again = lives.gateway().send(&message).await;
        assert_eq!(again.told(), (200, "delivered"), "{what}");
        let id = format!("msg_{number}");
        assert_eq!(count(lives.gateway().folder(), &id), written, "{what}");
        lives.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_disk_that_fails_at_random_every_success_is_a_line() {
    let seed = seeded();
    let mut dice = Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(Journal::create(&folder.path().join("facts")));
    let shim = Shim::on("events.jsonl");
    let mut lives = Lives::with(shim.under(Gateway::with(TO_FILE)));
    lives.start().await;
    let load = Load::start(&journal, &lives.place(), 6, seed);
    let mut failed = 0;
    for _ in 0..if long() { 500 } else { 20 } {
        let calls = [Call::Write, Call::Sync, Call::Open, Call::Cut];
        let acts = [Act::Full, Act::Broken, Act::Half];
        let mut faults = [(); 4].map(|()| Fault {
            call: calls[dice.usize(..4)],
            act: acts[dice.usize(..3)],
            skip: dice.i32(..10),
            times: dice.i32(1..4),
        });
        // Half a sync is none; it would be passed over.
        for fault in &mut faults {
            if !matches!(fault.call, Call::Write) && matches!(fault.act, Act::Half) {
                fault.act = Act::Broken;
            }
        }
        shim.arm(&faults);
        journal.reached(journal.count() + dice.usize(20..80)).await;
        failed += (0..4).filter(|n| shim.hits(*n) > faults[*n].skip).count();
    }
    shim.arm(&[]);
    load.end().await;

    lives.tells_no_secret().await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for line in lines(lives.gateway().folder()) {
        journal.note(Fact::Arrived(Arrival {
            destination: "log".into(),
            life: 1,
            id: text(&line["id"]),
            body: STANDARD.encode(text(&line["body"])),
            signature: SIGNATURE.map(|name| text(&line["headers"][name])),
            fate: Fate::Found,
        }));
    }
    lives.kill().await;
    let promises = Promises {
        required: vec!["log"],
        remembers: false,
        failing: true,
    };
    promises.hold(&journal.facts().await);
    assert!(failed > 5, "{failed}");
}

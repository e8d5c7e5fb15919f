//! With `ledger.redis`: hookward is killed, and so is Redis, or it freezes, in any
//! order. What was acknowledged in one life is delivered in no later one.

use std::sync::Arc;

use fastrand::Rng;
use rustix::process::Signal;

use super::audit::Promises;
use super::facts::Journal;
use super::lives::Lives;
use super::load::Load;
use super::{long, noting, seeded, to_app};
use crate::support::Redis;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_with_a_redis_that_comes_and_goes_it_delivers_nothing_again() {
    // Only a Redis that syncs every write keeps what it has taken.
    let keeping = ["--appendonly", "yes", "--appendfsync", "always"];
    let Some(mut redis) = Redis::with(&keeping).await else {
        return;
    };
    let seed = seeded();
    let mut dice = Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(Journal::create(&folder.path().join("facts")));
    let service = noting(&journal).await;
    let ledger = format!(
        "ledger.redis = {{ url = \"{}\", lease = \"2s\" }}",
        redis.url()
    );
    let config = format!("{ledger}\n{}", to_app(&service, r#""app""#, ""));
    let mut lives = Lives::of(&config);
    let load = Load::start(&journal, &lives.place(), 8, seed);
    for _ in 0..if long() { 60 } else { 4 } {
        lives.start().await;
        journal.reached(journal.count() + dice.usize(20..200)).await;
        match dice.u8(..3) {
            0 => {
                redis.signal(Signal::STOP);
                journal.reached(journal.count() + dice.usize(1..60)).await;
                redis.signal(Signal::CONT);
            }
            1 => {
                redis.kill().await;
                journal.reached(journal.count() + dice.usize(1..60)).await;
                redis.run();
                redis.there().await;
            }
            _ => {}
        }
        journal.reached(journal.count() + dice.usize(1..100)).await;
        lives.kill().await;
    }
    lives.start().await;
    let sent = load.end().await;

    lives.kill().await;
    let promises = Promises {
        required: vec!["app"],
        remembers: true,
        failing: false,
    };
    promises.hold(&journal.facts().await);
    assert!(sent > 30, "{sent}");
}

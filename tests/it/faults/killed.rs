//! Killed at any moment under load, again and again.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;

use super::audit::Promises;
use super::facts::{Arrival, Fact, Fate, Journal, SIGNATURE};
use super::lives::Lives;
use super::load::Load;
use super::{long, noting, seeded, to_app};
use crate::support::Broker;

/// Notes what lies in the queue.
async fn found(broker: &Broker, queue: &str, journal: &Journal) {
    for lying in broker.drain(queue).await {
        let header = |name| lying.header(name).unwrap_or_default();
        journal.note(Fact::Arrived(Arrival {
            destination: "events".into(),
            life: header("x-life").parse().unwrap(),
            id: header("hookward-id"),
            body: STANDARD.encode(&lying.body),
            signature: SIGNATURE.map(header),
            fate: Fate::Found,
        }));
    }
}

/// Kills it at moments counted in facts, which lie on either side of every write
/// and every answer.
pub async fn killing(lives: &mut Lives, journal: &Journal, times: u32, dice: &mut Rng) {
    for _ in 0..times {
        lives.start().await;
        let more = dice.usize(20..400);
        journal.reached(journal.count() + more).await;
        lives.kill().await;
    }
    lives.start().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_killed_at_any_moment_has_lost_nothing_it_answered_for() {
    let seed = seeded();
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(Journal::create(&folder.path().join("facts")));
    let service = noting(&journal).await;
    let broker = Broker::start().await;
    let (to, more) = match &broker {
        Some(broker) => {
            broker.exchange("events").await;
            broker.queue("faults", ("events", "#"), &[]).await;
            let more = format!(
                r#"[destinations.events]
                type = "rabbitmq"
                url = "{}"
                exchange = "events"
                headers = {{ x-life = "env:LIFE" }}"#,
                broker.url()
            );
            (r#"["app", "events"]"#, more)
        }
        None => (r#""app""#, String::new()),
    };
    let mut lives = Lives::of(&to_app(&service, to, &more));
    let load = Load::start(&journal, &lives.place(), 8, seed);

    let times = if long() { 100 } else { 6 };
    killing(&mut lives, &journal, times, &mut Rng::with_seed(seed)).await;
    let sent = load.end().await;

    lives.tells_no_secret().await;
    lives.kill().await;
    let mut required = vec!["app"];
    if let Some(broker) = &broker {
        found(broker, "faults", &journal).await;
        required.push("events");
    }
    let promises = Promises {
        required,
        remembers: false,
        failing: false,
    };
    promises.hold(&journal.facts().await);
    assert!(sent > u64::from(times) * 4, "{sent}");
}

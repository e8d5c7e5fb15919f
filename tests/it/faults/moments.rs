//! Killed at exactly these moments: before, halfway through and after everything
//! that is written, and after what is read.

use std::sync::Arc;

use super::audit::Promises;
use super::facts::{Fact, Journal};
use super::lives::{Lives, MARKER};
use super::load::Sender;
use super::shim::{Act, Call, Fault, Shim};
use super::{noting, to_app};
use crate::support::{Gateway, Message, Script};

/// A moment, and what is known when it has gone by.
struct Moment {
    call: fn(service: u16, senders: u16) -> Call,
    act: Act,
    /// Whether the service has the event by then.
    arrived: bool,
    /// Whether its receipt is kept by then, where receipts are kept on a disk.
    kept: bool,
    /// Whether the sender is answered.
    answered: bool,
}

const MOMENTS: [Moment; 7] = {
    const fn moment(call: fn(u16, u16) -> Call, act: Act, known: u8) -> Moment {
        Moment {
            call,
            act,
            arrived: known > 0,
            kept: known > 1,
            answered: known > 2,
        }
    }
    let request: fn(u16, u16) -> Call = |service, _| Call::Request(service);
    let reply: fn(u16, u16) -> Call = |service, _| Call::Reply(service);
    let answer: fn(u16, u16) -> Call = |_, senders| Call::Answer(senders);
    [
        moment(request, Act::KillBefore, 0),
        moment(request, Act::KillHalfway, 0),
        moment(request, Act::KillAfter, 1),
        moment(reply, Act::KillAfter, 1),
        moment(answer, Act::KillBefore, 2),
        moment(answer, Act::KillHalfway, 2),
        moment(answer, Act::KillAfter, 3),
    ]
};

/// How often the service has this event.
pub async fn arrivals(journal: &Journal, id: &str) -> usize {
    let facts = journal.facts().await;
    let is = |fact: &&Fact| matches!(fact, Fact::Arrived(arrival) if arrival.id == id);
    facts.iter().filter(is).count()
}

/// Kills a gateway at each moment, with what its configuration says of the ledger.
pub async fn at_each_moment(ledger: &str, remembers: bool) {
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(Journal::create(&folder.path().join("facts")));
    let service = noting(&journal).await;
    let shim = Shim::on("nothing of this name");
    let config = format!("{ledger}\n{}", to_app(&service, r#""app""#, ""));
    let mut lives = Lives::with(shim.under(Gateway::with(&config)));
    let mut sender = Sender::new(&journal, &lives.place(), 0);
    for (number, moment) in MOMENTS.iter().enumerate() {
        lives.start().await;
        let before = Message::new(&format!("msg_{number}_before")).seal();
        assert_eq!(sender.send(&before, true).await.unwrap().status, 200);
        let id = format!("msg_{number}");
        let message = Message::new(&id);
        let what = format!("moment {number}: {:?}", moment.act);

        let senders = lives.gateway().address().port();
        let call = (moment.call)(service.address().port(), senders);
        shim.arm(&[Fault::next(call, moment.act)]);
        let answer = sender.send(&message.seal(), true).await;
        lives.ended().await;
        assert_eq!(shim.hits(0), 1, "{what}");
        assert_eq!(answer.is_some(), moment.answered, "{what}");
        let first = arrivals(&journal, &id).await;
        assert_eq!(first, usize::from(moment.arrived), "{what}");

        lives.kill().await;
        shim.arm(&[]);
        lives.start().await;
        let again = sender.send(&message.seal(), true).await.unwrap();
        assert_eq!(again.status, 200, "{what}");
        let known = remembers && moment.kept;
        let more = arrivals(&journal, &id).await - first;
        assert_eq!(more, usize::from(!known), "{what}");
        assert_eq!(sender.send(&before, true).await.unwrap().status, 200);
        lives.kill().await;
    }
    let promises = Promises {
        required: vec!["app"],
        remembers,
        failing: false,
    };
    promises.hold(&journal.facts().await);
}

#[tokio::test]
async fn at_whatever_moment_it_dies_the_retry_arrives_and_no_success_was_false() {
    at_each_moment("", false).await;
}

#[tokio::test]
async fn killed_between_a_publication_and_the_brokers_word_the_retry_is_published() {
    let script = Script::listen().await;
    let shim = Shim::on("nothing of this name");
    let config = format!(
        r#"
[sources.clerk]
secrets = "env:KEY"
to = "events"
[destinations.events]
type = "rabbitmq"
url = "{}"
exchange = "events"
"#,
        // A password stands nowhere either.
        script.url().replace(":guest@", &format!(":{MARKER}@"))
    );
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(Journal::create(&folder.path().join("facts")));
    let mut lives = Lives::with(shim.under(Gateway::with(&config)));
    let place = lives.place();
    for (id, confirmed) in [("msg_1", false), ("msg_2", true)] {
        let message = Message::new(id).seal();
        let send = || {
            let (mut sender, message) = (Sender::new(&journal, &place, 0), message.clone());
            tokio::spawn(async move { sender.send(&message, true).await })
        };
        lives.start().await;
        let mut peer = script.accept().await;
        peer.until_ready().await;
        peer.until_ready().await;
        let sending = send();
        let published = peer.published().await;
        assert!(published.is(id));
        if confirmed {
            // The word is read, and nothing comes of it.
            let broker = script.address().port();
            shim.arm(&[Fault::next(Call::Reply(broker), Act::KillAfter)]);
            peer.ack(published.channel, published.tag, false).await;
            lives.ended().await;
            assert_eq!(shim.hits(0), 1);
        }
        lives.kill().await;
        assert!(sending.await.unwrap().is_none(), "{id}: no success");

        shim.arm(&[]);
        lives.start().await;
        let mut peer = script.accept().await;
        peer.until_ready().await;
        peer.until_ready().await;
        let sending = send();
        let again = peer.published().await;
        assert!(again.is(id));
        assert_eq!(again.body, published.body);
        peer.ack(again.channel, again.tag, false).await;
        assert_eq!(sending.await.unwrap().unwrap().told(), (200, "delivered"));
        lives.kill().await;
    }
}

//! What a real broker does only by luck: answers out of step, silence, half a
//! frame (§7). The broker here is a script.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::task::JoinHandle;

use crate::support::{
    Answer, Connection, Gateway, Message, Peer, Published, Script, before_the_next_look, within,
};

/// A source that publishes to the script.
fn config(url: &str) -> String {
    format!(
        r#"
[sources.clerk]
secrets = "env:KEY"
to = "events"
[destinations.events]
type = "rabbitmq"
url = "{url}"
exchange = "events"
confirm_timeout = "2s"
"#
    )
}

/// A gateway whose two channels are open.
async fn connected() -> (Script, Gateway, Peer) {
    let script = Script::listen().await;
    let gateway = Gateway::start(&config(&script.url())).await;
    let mut peer = script.accept().await;
    peer.until_ready().await;
    peer.until_ready().await;
    (script, gateway, peer)
}

/// Sends in the background.
fn sending(gateway: &Gateway, id: &str) -> JoinHandle<Answer> {
    let address = gateway.address();
    let message = Message::new(id).seal();
    tokio::spawn(async move {
        let mut connection = Connection::open(address).await;
        connection.post("/clerk", &message).await
    })
}

async fn told(sending: JoinHandle<Answer>) -> (u16, String) {
    let answer = sending.await.unwrap();
    (answer.status, answer.word().to_owned())
}

/// An event that was published and waits for its confirm.
struct UnderWay {
    published: Published,
    sending: JoinHandle<Answer>,
}

impl UnderWay {
    async fn told(self) -> (u16, String) {
        told(self.sending).await
    }
}

/// Sends until two are under way on one channel, of which there are two; nothing
/// else is under way then.
async fn two_on_one_channel(gateway: &Gateway, peer: &mut Peer) -> [UnderWay; 2] {
    let mut under_way: Vec<UnderWay> = Vec::new();
    for id in ["a", "b", "c"] {
        let sending = sending(gateway, id);
        let published = peer.published().await;
        assert!(published.is(id), "it waited for another");
        under_way.push(UnderWay { published, sending });
    }
    let channel = |number: usize| under_way[number].published.channel;
    let other = match (channel(0) == channel(1), channel(0) == channel(2)) {
        (true, _) => 2,
        (_, true) => 1,
        _ => 0,
    };
    let other = under_way.remove(other);
    let Published { channel, tag, .. } = other.published;
    peer.ack(channel, tag, false).await;
    assert_eq!(other.told().await, (200, "delivered".into()));
    let [first, second] = under_way.try_into().ok().unwrap();
    assert_eq!(first.published.channel, second.published.channel);
    [first, second]
}

/// Sends until one is published as it is to be; it, and those before it.
async fn until_published(
    gateway: &Gateway,
    peer: &mut Peer,
    fits: impl Fn(&Published) -> bool,
) -> (UnderWay, Vec<UnderWay>) {
    let mut others = Vec::new();
    for number in 0..16 {
        let sending = sending(gateway, &format!("next_{number}"));
        let published = peer.published().await;
        let fits = fits(&published);
        let under_way = UnderWay { published, sending };
        if fits {
            return (under_way, others);
        }
        others.push(under_way);
    }
    panic!("the channels do not take turns");
}

#[tokio::test]
async fn a_message_that_comes_back_before_another_is_confirmed_is_not_mistaken_for_it() {
    let (_script, gateway, mut peer) = connected().await;
    let [first, second] = two_on_one_channel(&gateway, &mut peer).await;

    let channel = first.published.channel;
    peer.give_back(&second.published).await;
    peer.ack(channel, first.published.tag, false).await;
    peer.ack(channel, second.published.tag, false).await;

    assert_eq!(first.told().await, (200, "delivered".into()));
    assert_eq!(second.told().await, (502, "failed".into()));
}

#[tokio::test]
async fn two_that_come_back_crosswise_are_both_refused() {
    let (_script, gateway, mut peer) = connected().await;
    let [first, second] = two_on_one_channel(&gateway, &mut peer).await;

    let channel = first.published.channel;
    peer.give_back(&second.published).await;
    peer.give_back(&first.published).await;
    peer.ack(channel, first.published.tag, false).await;
    // When this is told, the confirm above was looked at.
    let elsewhere = |published: &Published| published.channel != channel;
    let (other, _) = until_published(&gateway, &mut peer, elsewhere).await;
    let Published {
        channel: elsewhere,
        tag,
        ..
    } = other.published;
    peer.ack(elsewhere, tag, false).await;
    assert_eq!(other.told().await, (200, "delivered".into()));
    peer.ack(channel, second.published.tag, false).await;

    assert_eq!(first.told().await, (502, "failed".into()));
    assert_eq!(second.told().await, (502, "failed".into()));
}

#[tokio::test]
async fn confirms_in_any_order_and_several_in_one_belong_to_their_events() {
    let (_script, gateway, mut peer) = connected().await;
    let [first, second] = two_on_one_channel(&gateway, &mut peer).await;

    peer.give_back(&first.published).await;
    assert!(first.published.tag < second.published.tag);
    peer.ack(second.published.channel, second.published.tag, true)
        .await;
    assert_eq!(first.told().await, (502, "failed".into()));
    assert_eq!(second.told().await, (200, "delivered".into()));

    let e = sending(&gateway, "e");
    let published = peer.published().await;
    peer.nack(published.channel, published.tag).await;
    assert_eq!(told(e).await, (502, "failed".into()));
}

#[tokio::test]
async fn the_confirm_of_one_that_was_late_hides_nothing_that_came_back() {
    let (_script, gateway, mut peer) = connected().await;
    let began = Instant::now();
    let late = sending(&gateway, "late");
    let first = peer.published().await;
    within("half of the timeout", async {
        while began.elapsed() < Duration::from_secs(1) {
            before_the_next_look().await;
        }
    })
    .await;
    // On the same channel, and published so much later.
    let same = |published: &Published| published.channel == first.channel;
    let (second, others) = until_published(&gateway, &mut peer, same).await;
    for other in others {
        let Published { channel, tag, .. } = other.published;
        peer.ack(channel, tag, false).await;
        assert_eq!(other.told().await, (200, "delivered".into()));
    }
    // What follows is answered as by a broker that is there: a channel is opened.
    peer.until_ready().await;
    assert_eq!(told(late).await, (504, "late".into()));

    peer.give_back(&second.published).await;
    peer.ack(first.channel, first.tag, false).await;
    peer.ack(first.channel, second.published.tag, false).await;

    assert_eq!(second.told().await, (502, "failed".into()));
}

#[tokio::test]
async fn a_message_that_comes_back_and_was_never_sent_makes_nothing_sure() {
    let (_script, gateway, mut peer) = connected().await;
    let a = sending(&gateway, "a");
    let published = peer.published().await;
    peer.ack(published.channel, published.tag, false).await;
    assert_eq!(told(a).await, (200, "delivered".into()));
    let b = sending(&gateway, "b");
    let second = peer.published().await;

    let stray = Published {
        channel: second.channel,
        ..published
    };
    peer.give_back(&stray).await;
    peer.ack(second.channel, second.tag, false).await;

    assert_eq!(told(b).await, (502, "failed".into()));
}

#[tokio::test]
async fn silence_is_late_and_the_confirm_that_comes_too_late_is_nobodys() {
    let (_script, gateway, mut peer) = connected().await;
    let began = Instant::now();
    let a = sending(&gateway, "a");
    let published = peer.published().await;
    // The channel is given up for a fresh one, and its confirm comes after all.
    let given_up = peer.until_channel_closes().await;
    assert_eq!(given_up, published.channel);
    assert_eq!(told(a).await, (504, "late".into()));
    assert!(began.elapsed() >= Duration::from_secs(2));
    peer.ack(published.channel, published.tag, false).await;
    peer.channel_closed(given_up).await;

    let b = sending(&gateway, "b");
    let published = peer.published().await;
    assert!(published.is("b"));
    peer.ack(published.channel, published.tag, false).await;
    assert_eq!(told(b).await, (200, "delivered".into()));
}

#[tokio::test]
async fn a_connection_that_ends_in_half_a_frame_leaves_no_success_and_is_made_anew() {
    let (script, gateway, mut peer) = connected().await;
    let a = sending(&gateway, "a");
    peer.published().await;

    // Half of a confirm.
    peer.reset_after(&[1, 0, 1, 0, 0, 0, 13, 0, 60, 0, 80, 0, 0])
        .await;

    assert_eq!(told(a).await, (502, "failed".into()));
    let mut peer = script.accept().await;
    peer.until_ready().await;
    let b = sending(&gateway, "b");
    let published = peer.published().await;
    peer.ack(published.channel, published.tag, false).await;
    assert_eq!(told(b).await, (200, "delivered".into()));
    let metrics = gateway.metrics().await;
    let unconfirmed = [("destination", "events"), ("outcome", "unconfirmed")];
    assert_eq!(metrics.value("hookward_attempts_total", &unconfirmed), 1.0);
}

#[tokio::test]
async fn a_blocked_broker_is_unavailable_within_a_second_also_to_who_waits() {
    let (script, gateway, mut peer) = connected().await;
    let a = sending(&gateway, "a");
    peer.published().await;

    let began = Instant::now();
    peer.block("low on memory").await;
    assert_eq!(told(a).await, (503, "unavailable".into()));
    assert_eq!(
        told(sending(&gateway, "b")).await,
        (503, "unavailable".into())
    );
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    let ready = gateway.ask("GET", "/readyz?strict", None).await;
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("low on memory"), "{}", ready.text());

    peer.unblock().await;
    let mut peer = script.accept().await;
    peer.until_ready().await;
    let c = sending(&gateway, "c");
    let published = peer.published().await;
    assert!(published.is("c"));
    peer.ack(published.channel, published.tag, false).await;
    assert_eq!(told(c).await, (200, "delivered".into()));
}

#[tokio::test]
async fn a_channel_the_broker_closes_is_opened_again_and_the_other_one_goes_on() {
    let (_script, gateway, mut peer) = connected().await;
    let a = sending(&gateway, "a");
    let lost = peer.published().await;
    let elsewhere = |published: &Published| published.channel != lost.channel;
    let (other, _) = until_published(&gateway, &mut peer, elsewhere).await;

    peer.close_channel(lost.channel, 404, "NOT_FOUND - no exchange")
        .await;
    assert_eq!(told(a).await, (502, "failed".into()));
    peer.until_ready().await;
    let Published { channel, tag, .. } = other.published;
    peer.ack(channel, tag, false).await;
    assert_eq!(other.told().await, (200, "delivered".into()));
}

#[tokio::test]
async fn a_broker_that_answers_nothing_holds_up_nobody() {
    let script = Script::listen().await;
    let gateway = Gateway::start(&config(&script.url())).await;
    let _silent = script.silent().await;

    let answer = gateway.send(&Message::new("a")).await;
    assert_eq!(answer.told(), (503, "unavailable"));
    let mut again = script.accept().await;
    again.until_ready().await;
    let b = sending(&gateway, "b");
    let published = again.published().await;
    again.ack(published.channel, published.tag, false).await;
    assert_eq!(told(b).await, (200, "delivered".into()));
}

#[tokio::test]
async fn who_leaves_says_goodbye() {
    let (_script, gateway, mut peer) = connected().await;
    gateway.signal(Signal::TERM);
    assert!(
        peer.until_goodbye().await >= 2,
        "and its channels before it"
    );
}

#[tokio::test]
async fn lost_connections_leave_nothing_behind() {
    let (script, gateway, peer) = connected().await;
    peer.reset_after(&[]).await;
    let mut before = (0, 0);
    for number in 0..losses() {
        let mut peer = script.accept().await;
        peer.until_ready().await;
        let sent = sending(&gateway, &format!("reset_{number}"));
        let published = peer.published().await;
        peer.ack(published.channel, published.tag, false).await;
        assert_eq!(told(sent).await, (200, "delivered".into()));
        if number == 1 {
            // The first loss sets a few things up that stay.
            before = held(&gateway);
        }
        peer.reset_after(&[]).await;
    }
    let mut peer = script.accept().await;
    peer.until_ready().await;
    peer.until_ready().await;
    within("everything to be given back", async {
        while held(&gateway).0 > before.0 || held(&gateway).1 > before.1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// How often the connection is lost: less often where every minute counts.
fn losses() -> usize {
    let asked = std::env::var("HOOKWARD_TEST_LOSSES").ok();
    asked.and_then(|count| count.parse().ok()).unwrap_or(100)
}

/// The client's threads and the descriptors of the gateway.
fn held(gateway: &Gateway) -> (usize, usize) {
    let folder = |what: &str| {
        let folder = format!("/proc/{}/{what}", gateway.pid());
        std::fs::read_dir(folder).unwrap().filter_map(Result::ok)
    };
    // Others come and go with the housekeeping.
    let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).ok();
    let threads = folder("task").filter_map(name);
    let threads = threads.filter(|name| name.starts_with("lapin"));
    (threads.count(), folder("fd").count())
}

//! Every 2xx is in the queue: against a real broker that is killed, frozen,
//! alarmed, and full (§7, P2).
//!
//! A broker takes seconds to start, so one is shared: the promises that need it
//! are kept one after the other, in one test.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lapin::types::AMQPValue;
use rustix::process::Signal;
use tokio::sync::Notify;

use crate::support::{
    Books, Broker, Connection, Gateway, Message, Metrics, before_the_next_look, text, within,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_success_is_in_the_queue() {
    let Some(mut broker) = Broker::start().await else {
        return;
    };
    let began = Instant::now();
    let kept = |promise: &str| eprintln!("kept after {:?}: {promise}", began.elapsed());
    // A quorum queue that is seconds old when its node is killed does not come back
    // by itself on RabbitMQ 3.10, so the one for that is made first.
    let quorum = [("x-queue-type", text("quorum"))];
    broker.exchange("killed").await;
    broker.queue("killed", ("killed", "#"), &quorum).await;
    what_is_published_is_what_the_contract_says(&broker).await;
    kept("what is published is what the contract says");
    what_cannot_be_named_is_told_before_any_delivery(&broker).await;
    kept("what cannot be named is told before any delivery");
    half_unroutable(&broker).await;
    kept("every unroutable event is told, and every other one is there");
    half_to_a_full_queue(&broker).await;
    kept("a full queue that refuses is told");
    a_missing_exchange_costs_no_neighbour(&broker).await;
    kept("a missing exchange costs no neighbour");
    an_exchange_that_goes_while_it_is_used_costs_what_went_to_it(&broker).await;
    kept("an exchange that goes while it is used costs what went to it");
    what_is_there_otherwise_is_told(&broker).await;
    kept("what is there otherwise than declared is told");
    over_tls_both_sides_show_who_they_are(&broker).await;
    kept("over TLS both sides show who they are");
    a_memory_alarm_is_unavailable_within_a_second(&broker).await;
    kept("a memory alarm is 503 within a second");
    a_reload_ends_what_is_no_longer_used(&broker).await;
    kept("a reload ends the connections of a destination that changed");
    a_frozen_broker_is_answered_in_time(&broker).await;
    kept("a frozen broker is answered in time");
    a_killed_broker_loses_nothing(&mut broker).await;
    kept("a killed broker loses nothing, and one that is away stops nobody");
}

fn to_exchange(broker: &Broker, exchange: &str, more: &str) -> String {
    format!(
        r#"
[sources.clerk]
secrets = "env:KEY"
to = "events"
[destinations.events]
type = "rabbitmq"
url = "{}"
exchange = "{exchange}"
{more}
"#,
        broker.url()
    )
}

/// A gateway that has its connection.
async fn connected(config: &str) -> Gateway {
    let gateway = Gateway::start(config).await;
    gateway.line(&["connected to the broker"]).await;
    gateway
}

/// Asks again and again until it is ready in the strict sense, or is not.
async fn until_ready(gateway: &Gateway, ready: bool) -> String {
    within("readiness to change", async {
        loop {
            let answer = gateway.ask("GET", "/readyz?strict", None).await;
            if (answer.status == 200) == ready {
                return answer.text();
            }
        }
    })
    .await
}

/// Sends these over so many connections, and enters what was answered.
async fn fire(
    gateway: &Gateway,
    messages: Vec<Message>,
    connections: usize,
) -> Vec<(Message, u16)> {
    let next = Arc::new(AtomicUsize::new(0));
    let messages = Arc::new(messages);
    let address = gateway.address();
    let workers: Vec<_> = (0..connections)
        .map(|_| {
            let (next, messages) = (Arc::clone(&next), Arc::clone(&messages));
            tokio::spawn(async move {
                let mut connection = Connection::open(address).await;
                let mut answered = Vec::new();
                while let Some(message) = messages.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let answer = connection.post("/clerk", &message.seal()).await;
                    answered.push((message.clone(), answer.status));
                }
                answered
            })
        })
        .collect();
    let mut answered = Vec::new();
    for worker in workers {
        answered.extend(worker.await.unwrap());
    }
    answered
}

fn books(answered: &[(Message, u16)]) -> Books {
    let mut books = Books::new();
    for (message, status) in answered {
        let sealed = message.seal();
        books.enter(sealed.header("svix-id"), &sealed.body, *status);
    }
    books
}

/// How many events a crowd is: few where every minute counts.
fn crowd() -> usize {
    let asked = std::env::var("HOOKWARD_TEST_CROWD").ok();
    asked.and_then(|count| count.parse().ok()).unwrap_or(2_000)
}

/// For how long a broker is frozen, at least: as long as it takes to be noticed
/// where every minute counts, and up to half a minute where it is asked for.
fn freeze() -> Duration {
    let asked = std::env::var("HOOKWARD_TEST_FREEZE").ok();
    Duration::from_secs(asked.and_then(|seconds| seconds.parse().ok()).unwrap_or(0))
}

async fn what_is_published_is_what_the_contract_says(broker: &Broker) {
    let gateway = connected(&to_exchange(
        broker,
        "plain",
        r#"declare = { queue = "plain", bind = ["user.#"], arguments = { x-max-length = 100 } }
headers = { x-tenant = "acme" }"#,
    ))
    .await;
    let body = "{\"type\":\"user.created\",\n \"é\": \"\\u00e9\"}";
    let message = Message::new("msg_1").body(body).webhook().seal();
    let message = message.and("Content-Encoding", "identity");

    let answer = gateway.post("/clerk", &message).await;

    assert_eq!(answer.told(), (200, "delivered"));
    let lying = broker.drain("plain").await;
    assert_eq!(lying.len(), 1);
    let lying = &lying[0];
    assert_eq!(lying.body, body.as_bytes());
    assert_eq!(lying.routing_key, "user.created");
    let properties = &lying.properties;
    let told = |value: &Option<lapin::types::ShortString>| value.as_ref().map(|v| v.to_string());
    assert_eq!(lying.id(), "msg_1");
    assert_eq!(*properties.delivery_mode(), Some(2));
    assert_eq!(told(properties.kind()).as_deref(), Some("user.created"));
    assert_eq!(told(properties.app_id()).as_deref(), Some("hookward"));
    assert_eq!(
        told(properties.content_type()).as_deref(),
        Some("application/json")
    );
    assert_eq!(
        told(properties.content_encoding()).as_deref(),
        Some("identity")
    );
    let signed = message.header("webhook-timestamp");
    assert_eq!(properties.timestamp().unwrap().to_string(), signed);
    let headers = properties.headers().as_ref().unwrap();
    let names = headers.inner().keys().map(|name| name.as_str());
    // The queue's own.
    let names: Vec<&str> = names.filter(|name| *name != "x-delivery-count").collect();
    let expected = [
        "hookward-id",
        "hookward-key",
        "hookward-source",
        "webhook-id",
        "webhook-signature",
        "webhook-timestamp",
        "x-tenant",
    ];
    assert_eq!(names, expected);
    for (name, value) in [
        ("hookward-id", "msg_1"),
        ("hookward-key", "1"),
        ("hookward-source", "clerk"),
        ("webhook-id", "msg_1"),
        ("webhook-signature", message.header("webhook-signature")),
        ("webhook-timestamp", signed),
        ("x-tenant", "acme"),
    ] {
        assert_eq!(lying.header(name).as_deref(), Some(value), "{name}");
    }
}

async fn what_cannot_be_named_is_told_before_any_delivery(broker: &Broker) {
    broker.exchange("named").await;
    broker.queue("named", ("named", "#"), &[]).await;
    let gateway = connected(&to_exchange(
        broker,
        "named",
        "routing_key = \"{type}.{id}\"",
    ))
    .await;
    let untyped = Message::new("untyped").body("{}");
    assert_eq!(gateway.send(&untyped).await.told(), (422, "untyped"));
    let long = Message::new("long").of_type(&"t".repeat(251));
    assert_eq!(gateway.send(&long).await.told(), (422, "untyped"));
    let fits = Message::new("fits").of_type(&"t".repeat(250));
    assert_eq!(gateway.send(&fits).await.told(), (200, "delivered"));
    let lying = broker.drain("named").await;
    assert_eq!(lying.len(), 1);
    assert_eq!(lying[0].routing_key.len(), 255);
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.refused("untyped"), 2.0);
}

async fn half_unroutable(broker: &Broker) {
    broker.exchange("half").await;
    let quorum = [("x-queue-type", text("quorum"))];
    broker.queue("half", ("half", "user.*"), &quorum).await;
    let gateway = connected(&to_exchange(broker, "half", "")).await;
    let messages = (0..crowd()).map(|number| {
        let kind = ["user.created", "nobody.asked"][number % 2];
        Message::new(&format!("half_{number}")).of_type(kind)
    });
    let answered = fire(&gateway, messages.collect(), 64).await;

    let books = books(&answered);
    assert_eq!(books.accepted(), crowd() / 2);
    assert_eq!(books.refused(), crowd() / 2);
    for (message, status) in &answered {
        let wanted = String::from_utf8(message.seal().body)
            .unwrap()
            .contains("user.created");
        assert_eq!(*status, if wanted { 200 } else { 502 });
    }
    let lying = broker.drain("half").await;
    assert_eq!(lying.len(), crowd() / 2);
    books.check(&lying);
    // A message that came back is logged without a word of it.
    assert!(!gateway.stderr().contains("v1,"));
    assert!(!gateway.stderr().contains("\\\"data\\\""));
}

async fn half_to_a_full_queue(broker: &Broker) {
    broker.exchange("full").await;
    let full = [
        ("x-max-length", AMQPValue::LongInt(5)),
        ("x-overflow", text("reject-publish")),
    ];
    broker.queue("full", ("full", "full"), &full).await;
    broker.queue("roomy", ("full", "roomy"), &[]).await;
    let gateway = connected(&to_exchange(broker, "full", "")).await;
    let messages = (0..crowd()).map(|number| {
        let kind = ["full", "roomy"][number % 2];
        Message::new(&format!("full_{number}")).of_type(kind)
    });
    let answered = fire(&gateway, messages.collect(), 64).await;

    let books = books(&answered);
    assert!(books.refused() > 0, "the queue was never full");
    let mut lying = broker.drain("full").await;
    lying.extend(broker.drain("roomy").await);
    assert_eq!(lying.len(), books.accepted());
    books.check(&lying);
}

async fn a_missing_exchange_costs_no_neighbour(broker: &Broker) {
    broker.exchange("here").await;
    broker.queue("here", ("here", "#"), &[]).await;
    let config = format!(
        r#"
[sources.clerk]
secrets = "env:KEY"
[destinations.here]
type = "rabbitmq"
url = "{url}"
exchange = "here"
[destinations.gone]
type = "rabbitmq"
url = "{url}"
exchange = "gone"
[destinations.made]
type = "rabbitmq"
url = "{url}"
exchange = "{{source}}-made"
[[routes]]
types = ["user.*"]
to = "here"
[[routes]]
types = ["order.*"]
to = "gone"
[[routes]]
types = ["invoice.*"]
to = "made"
"#,
        url = broker.url()
    );
    let gateway = Gateway::start(&config).await;
    let told = gateway.line(&["is not on the broker", "gone"]).await;
    assert!(told.contains("no exchange 'gone'"), "{told}");
    for neighbour in ["here", "made"] {
        let named = format!("\"destination\":\"{neighbour}\"");
        gateway.line(&["connected to the broker", &named]).await;
    }
    let ready = until_ready(&gateway, false).await;
    assert!(ready.contains("`gone`"), "{ready}");
    assert!(!ready.contains("`here`"), "{ready}");
    let messages = (0..300).map(|number| {
        let kind = ["user.created", "order.made", "invoice.sent"][number % 3];
        Message::new(&format!("missing_{number}")).of_type(kind)
    });
    let answered = fire(&gateway, messages.collect(), 16).await;
    for (message, status) in &answered {
        let wanted = String::from_utf8(message.seal().body)
            .unwrap()
            .contains("user.created");
        assert_eq!(*status, if wanted { 200 } else { 502 });
    }
    let lying = broker.drain("here").await;
    books(&answered).check(&lying);
    // It comes, and goes while it is used.
    broker.exchange("gone").await;
    broker.queue("gone", ("gone", "#"), &[]).await;
    until_ready(&gateway, true).await;
    let order = Message::new("order_1").of_type("order.made");
    assert_eq!(gateway.send(&order).await.told(), (200, "delivered"));
    broker.without_exchange("gone").await;
    let order = Message::new("order_2").of_type("order.made");
    assert_eq!(gateway.send(&order).await.told(), (502, "failed"));
    until_ready(&gateway, false).await;
    let user = Message::new("user_2").of_type("user.created");
    assert_eq!(gateway.send(&user).await.told(), (200, "delivered"));
}

async fn an_exchange_that_goes_while_it_is_used_costs_what_went_to_it(broker: &Broker) {
    for exchange in ["stays", "goes"] {
        broker.exchange(exchange).await;
        broker.queue(exchange, (exchange, "#"), &[]).await;
    }
    let gateway = connected(&to_exchange(broker, "{type}", "")).await;
    let event =
        |id: String, number: usize| Message::new(&id).of_type(["stays", "goes"][number % 2]);
    let messages = (0..crowd()).map(|number| event(format!("goes_{number}"), number));
    let messages: Vec<Message> = messages.collect();
    let firing = fire(&gateway, messages, 32);
    let going = async {
        let begun = |m: &Metrics| {
            let accepted = [("destination", "events"), ("outcome", "accepted")];
            m.value("hookward_attempts_total", &accepted) > 100.0
        };
        gateway.metrics_until("a load", begun).await;
        broker.without_exchange("goes").await;
    };
    let (answered, ()) = tokio::join!(firing, going);

    // What was under way when it went may be in doubt, and be told as that.
    let books = books(&answered);
    assert!(books.refused() > 0, "it went when all was done");
    let mut lying = broker.drain("stays").await;
    lying.extend(broker.drain("goes").await);
    books.check(&lying);
    // Once that is seen, it costs what goes to it, and nothing else.
    within("the loss to be seen", async {
        for number in 0.. {
            let late = event(format!("late_{number}"), 1);
            if gateway.send(&late).await.told() == (502, "failed") {
                return;
            }
            before_the_next_look().await;
        }
    })
    .await;
    let away = || gateway.stderr().matches("the broker is away").count();
    let before = away();
    let messages = (0..300).map(|number| event(format!("gone_{number}"), number));
    let answered = fire(&gateway, messages.collect(), 16).await;
    for (message, status) in &answered {
        let sealed = message.seal();
        let stays = String::from_utf8_lossy(&sealed.body).contains("stays");
        assert_eq!(*status, if stays { 200 } else { 502 });
    }
    self::books(&answered).check(&broker.drain("stays").await);
    assert_eq!(away(), before, "the connection was lost");
}

async fn what_is_there_otherwise_is_told(broker: &Broker) {
    broker.exchange("other").await;
    broker.queue("other", ("other", "#"), &[]).await;
    let declare = r#"declare = { exchange_type = "fanout", queue = "other" }"#;
    let gateway = connected(&to_exchange(broker, "other", declare)).await;
    gateway
        .line(&["stays as it is", "inequivalent arg 'type'"])
        .await;
    let ready = until_ready(&gateway, false).await;
    assert!(ready.contains("inequivalent arg 'type'"), "{ready}");
    let answer = gateway.send(&Message::new("other_1")).await;
    assert_eq!(answer.told(), (200, "delivered"));

    let wrong = broker.url().replace("guest@", "hunter2@");
    let config = to_exchange(broker, "other", "").replace(&broker.url(), &wrong);
    let gateway = Gateway::start(&config).await;
    let told = gateway.line(&["the broker is away"]).await;
    assert!(told.contains("ACCESS_REFUSED"), "{told}");
    assert_eq!(
        gateway.send(&Message::new("other_2")).await.told(),
        (503, "unavailable")
    );
    assert!(!gateway.stderr().replace("hunter2@", "").contains("hunter2"));
    assert!(!until_ready(&gateway, false).await.contains("hunter2"));
}

async fn over_tls_both_sides_show_who_they_are(broker: &Broker) {
    let certificates = |names: &[(&str, &str)]| {
        let mut more = "declare = { queue = \"tls\" }\n".to_owned();
        for (key, name) in names {
            more.push_str(&format!("{key} = \"{}\"\n", broker.file(name)));
        }
        to_exchange(broker, "tls", &more).replace(&broker.url(), &broker.tls_url())
    };
    let all = [
        ("ca", "ca.pem"),
        ("cert", "hookward.pem"),
        ("key", "hookward-key.pem"),
    ];
    let gateway = connected(&certificates(&all)).await;
    assert_eq!(
        gateway.send(&Message::new("tls_1")).await.told(),
        (200, "delivered")
    );
    assert_eq!(broker.drain("tls").await.len(), 1);
    for some in [&all[..1], &all[1..]] {
        let gateway = Gateway::start(&certificates(some)).await;
        gateway.line(&["the broker is away"]).await;
        let answer = gateway.send(&Message::new("tls_2")).await;
        assert_eq!(answer.told(), (503, "unavailable"));
    }
}

async fn a_memory_alarm_is_unavailable_within_a_second(broker: &Broker) {
    let declare = r#"declare = { queue = "alarm" }"#;
    let gateway = connected(&to_exchange(broker, "alarm", declare)).await;
    assert_eq!(gateway.send(&Message::new("before")).await.status, 200);
    broker.control(&["set_vm_memory_high_watermark", "0"]).await;
    let mut books = Books::new();
    let before = gateway.metrics().await.within_a_second();
    // The first one makes the broker say so.
    let messages = (0..8).map(|number| Message::new(&format!("alarm_{number}")));
    for (message, status) in fire(&gateway, messages.collect(), 8).await {
        assert_eq!(status, 503);
        books.enter(
            message.seal().header("svix-id"),
            &message.seal().body,
            status,
        );
    }
    assert_eq!(gateway.metrics().await.within_a_second(), before + 8.0);
    assert!(until_ready(&gateway, false).await.contains("memory"));
    broker
        .control(&["set_vm_memory_high_watermark", "0.4"])
        .await;
    until_ready(&gateway, true).await;
    let after = Message::new("after");
    assert_eq!(gateway.send(&after).await.told(), (200, "delivered"));
    for id in ["before", "after"] {
        books.enter(id, &Message::new(id).seal().body, 200);
    }
    books.check(&broker.drain("alarm").await);
}

async fn a_reload_ends_what_is_no_longer_used(broker: &Broker) {
    let declare = r#"declare = { queue = "reload" }"#;
    let before = to_exchange(broker, "reload", declare);
    let gateway = connected(&before).await;
    for number in 0..5 {
        let routing_key = format!("routing_key = \"user.{number}\"");
        gateway.rewrite(&to_exchange(broker, "reload", &routing_key));
        gateway.signal(Signal::HUP);
        let answer = async {
            loop {
                let message = Message::new(&format!("reload_{number}_{}", fastrand::u32(..)));
                assert_eq!(gateway.send(&message).await.status, 200);
                let lying = broker.drain("reload").await;
                if lying
                    .iter()
                    .any(|m| m.routing_key == format!("user.{number}"))
                {
                    return;
                }
            }
        };
        within("the new configuration", answer).await;
    }
    within("the old connections to end", async {
        while io_threads(&gateway) > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn io_threads(gateway: &Gateway) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", gateway.pid())).unwrap();
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("lapin")).count()
}

async fn a_frozen_broker_is_answered_in_time(broker: &Broker) {
    // The circuit opens, and is not what service waits for once the broker is back.
    let declare = concat!(
        "declare = { queue = \"frozen\" }\n",
        "circuit_breaker = { failures = 10, open_for = \"60s\" }"
    );
    let gateway = connected(&to_exchange(broker, "frozen", declare)).await;
    assert_eq!(gateway.send(&Message::new("warm")).await.status, 200);
    broker.signal(Signal::STOP);
    let mut books = Books::new();
    books.enter("warm", &Message::new("warm").seal().body, 200);
    let began = Instant::now();
    let messages: Vec<_> = (0..64)
        .map(|n| Message::new(&format!("frozen_{n}")))
        .collect();
    for (message, status) in fire(&gateway, messages, 32).await {
        assert_ne!(status, 200);
        let sealed = message.seal();
        books.enter(sealed.header("svix-id"), &sealed.body, status);
    }
    assert!(
        began.elapsed() < Duration::from_secs(12),
        "{:?}",
        began.elapsed()
    );
    let answer = gateway.send(&Message::new("still")).await;
    assert_eq!(answer.told(), (503, "unavailable"));
    within("the rest of the freeze", async {
        for number in 0.. {
            if began.elapsed() >= freeze() {
                return;
            }
            let sent = Instant::now();
            let message = Message::new(&format!("still_{number}"));
            let answer = gateway.send(&message).await;
            assert_ne!(answer.status, 200);
            assert!(sent.elapsed() < Duration::from_secs(12));
            before_the_next_look().await;
        }
    })
    .await;
    broker.signal(Signal::CONT);
    broker.there().await;
    let thawed = Instant::now();
    let id = served_again(&gateway, "thawed").await;
    assert!(
        thawed.elapsed() < Duration::from_secs(5),
        "{:?}",
        thawed.elapsed()
    );
    books.enter(&id, &Message::new(&id).seal().body, 200);
    books.check(&broker.drain("frozen").await);
}

/// Sends until one is accepted; its id.
async fn served_again(gateway: &Gateway, prefix: &str) -> String {
    within("service to be back", async {
        for number in 0.. {
            let id = format!("{prefix}_{number}");
            if gateway.send(&Message::new(&id)).await.status == 200 {
                return id;
            }
            // A sender that asks without a pause takes the machine from the broker.
            before_the_next_look().await;
        }
        unreachable!()
    })
    .await
}

async fn a_killed_broker_loses_nothing(broker: &mut Broker) {
    let declare = r#"declare = { queue = "killed" }"#;
    let config = to_exchange(broker, "killed", declare);
    let gateway = connected(&config).await;
    let enough = Arc::new(Notify::new());
    let stop = Arc::new(AtomicBool::new(false));
    let accepted = Arc::new(AtomicUsize::new(0));
    let senders: Vec<_> = (0..32)
        .map(|sender| {
            let address = gateway.address();
            let (enough, stop, accepted) = (
                Arc::clone(&enough),
                Arc::clone(&stop),
                Arc::clone(&accepted),
            );
            tokio::spawn(async move {
                let mut connection = Connection::open(address).await;
                let mut answered = Vec::new();
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let message = Message::new(&format!("killed_{sender}_{number}"));
                    let status = connection.post("/clerk", &message.seal()).await.status;
                    if status == 200 && accepted.fetch_add(1, Ordering::Relaxed) == 500 {
                        enough.notify_one();
                    }
                    answered.push((message, status));
                    if status != 200 {
                        before_the_next_look().await;
                    }
                }
                answered
            })
        })
        .collect();
    within("a load", enough.notified()).await;
    broker.kill().await;
    // One that finds the broker away serves all the same.
    let late = Gateway::start(&config).await;
    late.line(&["the broker is away"]).await;
    assert_eq!(
        late.send(&Message::new("late_0")).await.told(),
        (503, "unavailable")
    );
    assert_eq!(late.ask("GET", "/readyz", None).await.status, 200);
    let degraded = until_ready(&late, false).await;
    assert!(degraded.contains("the broker is away"), "{degraded}");
    assert!(!degraded.contains("guest"), "{degraded}");

    broker.run();
    broker.there().await;
    let back = Instant::now();
    let late_id = served_again(&late, "late_1").await;
    assert!(
        back.elapsed() < Duration::from_secs(5),
        "{:?}",
        back.elapsed()
    );
    let id = served_again(&gateway, "back").await;
    assert!(
        back.elapsed() < Duration::from_secs(5),
        "{:?}",
        back.elapsed()
    );
    stop.store(true, Ordering::Relaxed);
    let mut answered = Vec::new();
    for sender in senders {
        answered.extend(sender.await.unwrap());
    }
    let mut books = books(&answered);
    for id in [late_id, id] {
        books.enter(&id, &Message::new(&id).seal().body, 200);
    }
    assert!(books.refused() > 0, "nobody was sending when it was killed");
    // One of those that were not answered 200 may have arrived all the same.
    for number in 0..200 {
        let id = format!("back_{number}");
        books.enter(&id, &Message::new(&id).seal().body, 503);
        let id = format!("late_1_{number}");
        books.enter(&id, &Message::new(&id).seal().body, 503);
    }
    let lying = broker.drain("killed").await;
    books.check(&lying);
    let up = [("destination", "events")];
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.value("hookward_destination_up", &up), 1.0);
}

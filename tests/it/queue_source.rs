//! What is in a queue arrives, and is in the queue until it has (§4, `type =
//! "rabbitmq"` of a source; P2, P3, P7): against a real broker that is killed, and
//! with a hookward that is.
//!
//! A broker takes seconds to start, so one is shared: the promises are kept one
//! after the other, in one test.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lapin::types::{AMQPValue, FieldTable, LongString};
use rustix::process::Signal;

use crate::support::{
    Broker, Gateway, Message, OTHER_KEY, Reply, Rude, Upstream, before_the_next_look, sign, within,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_a_queue_arrives() {
    let Some(mut broker) = Broker::start().await else {
        return;
    };
    let began = Instant::now();
    let kept = |promise: &str| eprintln!("kept after {:?}: {promise}", began.elapsed());
    // A quorum queue that is seconds old when its node is killed does not come back
    // by itself on RabbitMQ 3.10, so the one for that is made first.
    broker.queue_with_the_dead("killed").await;
    it_is_delivered_and_acknowledged(&broker).await;
    kept("it is delivered like a request, and acknowledged");
    what_never_will_be_taken_is_a_dead_letter_at_once(&broker).await;
    kept("what never will be taken is a dead letter at once");
    any_producer_may_sign(&broker).await;
    kept("any producer may sign, under either family");
    no_producer_can_stop_a_queue(&broker).await;
    kept("no producer can stop a queue, or hookward, with what it writes");
    a_service_that_is_down_is_tried_again(&broker).await;
    kept("a service that is down is tried again, and gets everything once");
    after_its_last_attempt_it_is_a_dead_letter(&broker).await;
    kept("after its last attempt it is a dead letter");
    an_open_source_needs_no_signature(&broker).await;
    kept("an open source needs no signature, and tries only who has not accepted");
    what_hookward_has_no_place_for_waits(&broker).await;
    kept("what hookward has no place for waits, and uses up no attempt");
    a_frozen_service_with_all_its_messages_held_recovers(&broker).await;
    kept("a frozen service that holds the whole prefetch recovers");
    a_missing_queue_is_told_and_found_again(&broker).await;
    kept("a queue that is missing is told, and found again");
    over_tls_both_sides_show_who_they_are(&broker).await;
    kept("over TLS a broker is believed by its authority, and hookward by its certificate");
    a_reload_keeps_what_did_not_change(&broker).await;
    kept("a reload keeps, replaces and ends consumers");
    a_stop_gives_back_what_is_not_finished(&broker).await;
    kept("a stop finishes what is begun and gives back the rest");
    a_killed_hookward_loses_nothing(&broker).await;
    kept("a killed hookward loses nothing");
    a_frozen_broker_loses_nothing(&broker).await;
    kept("a frozen broker is told, loses nothing, and nobody gets an event twice");
    a_killed_broker_loses_nothing(&mut broker).await;
    kept("a killed broker loses nothing, and nobody gets an event twice");
}

/// A configuration with a source `events` that reads `queue`, and the service.
fn reading(broker: &Broker, queue: &str, service: &str, more: &str) -> String {
    format!(
        r#"
[sources.clerk]
secrets = "env:KEY"
[sources.events]
type = "rabbitmq"
url = "{}"
queue = "{queue}"
secrets = "env:KEY"
to = "app"
{more}
[destinations.app]
type = "http"
url = "{service}"
hold = "0s"
circuit_breaker = "off"
"#,
        broker.url()
    )
}

const HASTE: &str = "retry_delay = \"20ms\"\n";

/// A gateway that consumes.
async fn consuming(config: &str) -> Gateway {
    let gateway = Gateway::start(config).await;
    gateway.line(&["consuming from the queue"]).await;
    gateway
}

/// Ends it in order: what it held is in the queue again.
async fn stopped(mut gateway: Gateway) {
    gateway.signal(Signal::TERM);
    let status = gateway.ended().await;
    assert!(status.success(), "{status}\n{}", gateway.stderr());
}

/// Waits until so many messages came to an end like this.
async fn ended(gateway: &Gateway, outcome: &str, count: usize) {
    let labels = [("source", "events"), ("outcome", outcome)];
    let what = format!("{count} messages {outcome}");
    let metrics = gateway.metrics_until(&what, |metrics| {
        metrics.value("hookward_queue_messages_total", &labels) >= count as f64
    });
    let metrics = metrics.await;
    let found = metrics.value("hookward_queue_messages_total", &labels);
    assert_eq!(found, count as f64, "{outcome}");
}

/// How often the service accepted each id.
fn accepted(service: &Upstream, accepts: impl Fn(usize) -> bool) -> HashMap<String, usize> {
    let mut times = HashMap::new();
    for (number, request) in service.requests().iter().enumerate() {
        if accepts(number) {
            *times.entry(request.id().to_owned()).or_default() += 1;
        }
    }
    times
}

async fn it_is_delivered_and_acknowledged(broker: &Broker) {
    broker.queue_with_the_dead("plain").await;
    let service = Upstream::start().await;
    let gateway = consuming(&reading(broker, "plain", service.url(), "")).await;
    assert_eq!(gateway.ask("GET", "/readyz?strict", None).await.status, 200);
    let producer = broker.producer("plain").await;
    // It may have waited for long.
    let message = Message::new("msg_1").at(-86_400).seal();
    let message = message
        .and("Hookward-Source", "forged")
        .and("hookward-key", "forged")
        .and("X-Forwarded-For", "1.2.3.4")
        .and("Connection", "content-type")
        .and("traceparent", "00-1-2-03");
    for times in 1..=2 {
        producer.publish_sealed(&message).await;
        ended(&gateway, "accepted", times).await;
    }

    let arrived = service.only();
    assert_eq!(arrived.body, message.body);
    for (name, value) in [
        ("content-type", "application/json"),
        ("svix-id", "msg_1"),
        ("svix-timestamp", message.header("svix-timestamp")),
        ("svix-signature", message.header("svix-signature")),
        ("hookward-source", "events"),
        ("hookward-type", "user.created"),
        ("hookward-key", "1"),
        ("idempotency-key", "events:msg_1"),
        ("traceparent", "00-1-2-03"),
    ] {
        assert_eq!(arrived.header(name), Some(value), "{name}");
    }
    assert_eq!(arrived.header("hookward-request").unwrap().len(), 16);
    assert_eq!(arrived.header("x-forwarded-for"), None);
    assert_eq!(arrived.header("x-forwarded-proto"), None);

    let metrics = gateway.metrics().await;
    for result in ["delivered", "duplicate"] {
        let labels = [("source", "events"), ("result", result)];
        assert_eq!(metrics.value("hookward_requests_total", &labels), 1.0);
    }
    for outcome in ["refused", "failed", "retried", "returned"] {
        let labels = [("source", "events"), ("outcome", outcome)];
        assert_eq!(metrics.value("hookward_queue_messages_total", &labels), 0.0);
    }
    assert!(gateway.stderr().contains("queue plain"));
    assert!(!gateway.stderr().contains("guest"));
    stopped(gateway).await;
    assert_eq!(broker.drain("plain").await.len(), 0);
}

async fn what_never_will_be_taken_is_a_dead_letter_at_once(broker: &Broker) {
    broker.queue_with_the_dead("never").await;
    let service = Upstream::start().await;
    let config = reading(broker, "never", service.url(), "unmatched = \"refuse\"");
    let config = format!(
        "[server]\nmax_body = \"1 KiB\"\n{}\n[[routes]]\nfrom = \"events\"\ntypes = \"user.*\"\nto = \"app\"\n",
        config.replace("to = \"app\"\n", "")
    );
    let gateway = consuming(&config).await;
    let producer = broker.producer("never").await;
    producer.publish(&Message::new("good")).await;
    service.reached(1).await;
    producer
        .publish(&Message::new("forged").key(OTHER_KEY))
        .await;
    let tampered = Message::new("tampered").seal().body("{}");
    producer.publish_sealed(&tampered).await;
    let malformed = Message::new("malformed").seal().without("svix-timestamp");
    producer.publish_sealed(&malformed).await;
    producer.publish(&Message::new("ahead").at(3600)).await;
    producer
        .publish(&Message::new("large").body("x".repeat(1025)))
        .await;
    producer
        .publish(&Message::new("good").body("{\"type\":\"user.x\"}"))
        .await;
    producer.publish(&Message::new("untyped").body("{}")).await;
    producer
        .publish(&Message::new("unwanted").of_type("order"))
        .await;
    ended(&gateway, "refused", 8).await;
    ended(&gateway, "accepted", 1).await;
    let dead = broker.drain("never.dead").await;
    assert_eq!(dead.len(), 8);
    let large = dead.iter().find(|m| m.body.len() == 1025).unwrap();
    assert_eq!(large.header("svix-id").as_deref(), Some("large"));
    service.only();
    let metrics = gateway.metrics().await;
    for (reason, count) in [
        ("no_key_matched", 2.0),
        ("missing_header", 1.0),
        ("too_new", 1.0),
        ("too_large", 1.0),
        ("conflict", 1.0),
        ("untyped", 1.0),
    ] {
        let labels = [("source", "events"), ("reason", reason)];
        let found = metrics.value("hookward_refusals_total", &labels);
        assert_eq!(found, count, "{reason}");
    }
    gateway
        .line(&["no signature matches any key", "\"id\":\"forged\""])
        .await;
    stopped(gateway).await;
    assert_eq!(broker.drain("never").await.len(), 0);
}

async fn any_producer_may_sign(broker: &Broker) {
    broker.queue_with_the_dead("foreign").await;
    let service = Upstream::start().await;
    let config = reading(broker, "foreign", service.url(), "tolerance = \"1h\"");
    let gateway = consuming(&config).await;
    let producer = broker.producer("foreign").await;
    let body = br#"{"type":"user.created"}"#;
    let at = crate::support::now();
    let long = |text: &str| AMQPValue::LongString(LongString::from(text));
    let table = |family: &str, id: &str, time: AMQPValue| {
        let mut table = FieldTable::default();
        let key = crate::support::KEY;
        let signature = sign(&family.to_lowercase(), key, id, at, body);
        table.insert(
            format!("{family}-id").into(),
            AMQPValue::ByteArray(id.as_bytes().into()),
        );
        table.insert(format!("{family}-timestamp").into(), time);
        table.insert(format!("{family}-signature").into(), long(&signature));
        table
    };
    // As another library writes them: names in any case, a time as a number.
    let number = table("Webhook", "number", AMQPValue::LongLongInt(at));
    producer.publish_raw(number, body).await;
    let time = table("webhook", "time", AMQPValue::Timestamp(at.unsigned_abs()));
    producer.publish_raw(time, body).await;
    let mut beside = table("webhook", "beside", long(&at.to_string()));
    beside.insert(
        "x-death".into(),
        AMQPValue::FieldTable(FieldTable::default()),
    );
    producer.publish_raw(beside, body).await;
    ended(&gateway, "accepted", 3).await;
    // A header of the other family that is no text is one all the same, and one that
    // stands there in two spellings is there twice.
    let mut mixed = table("webhook", "mixed", long(&at.to_string()));
    mixed.insert(
        "svix-id".into(),
        AMQPValue::FieldTable(FieldTable::default()),
    );
    producer.publish_raw(mixed, body).await;
    let mut twice = table("webhook", "twice", long(&at.to_string()));
    twice.insert("Webhook-Id".into(), long("twice"));
    producer.publish_raw(twice, body).await;
    producer.publish(&Message::new("old").at(-3602)).await;
    producer.publish_raw(FieldTable::default(), b"").await;
    ended(&gateway, "refused", 4).await;
    let ids: Vec<_> = service
        .requests()
        .iter()
        .map(|r| r.id().to_owned())
        .collect();
    assert_eq!(service.count(), 3, "{ids:?}");
    let first = &service.requests()[0];
    assert_eq!(first.header("webhook-timestamp"), Some(&*at.to_string()));
    let metrics = gateway.metrics().await;
    for reason in [
        "mixed_family",
        "duplicate_header",
        "too_old",
        "missing_header",
    ] {
        let labels = [("source", "events"), ("reason", reason)];
        let found = metrics.value("hookward_refusals_total", &labels);
        assert_eq!(found, 1.0, "{reason}");
    }
    stopped(gateway).await;
}

async fn no_producer_can_stop_a_queue(broker: &Broker) {
    broker.queue_with_the_dead("rude").await;
    let service = Upstream::start().await;
    let gateway = consuming(&reading(broker, "rude", service.url(), "")).await;
    let mut rude = Rude::connect(broker).await;
    // A name that is no UTF-8, and tables in tables, as many as fit into a frame.
    rude.publish("rude", b"\x02\xff\xfeS\0\0\0\x01x").await;
    let mut nested = Vec::new();
    for inside in (0..19_000u32).rev() {
        nested.extend(b"\0F");
        nested.extend((inside * 6).to_be_bytes());
    }
    rude.publish("rude", &nested).await;
    ended(&gateway, "refused", 2).await;
    broker
        .producer("rude")
        .await
        .publish(&Message::new("behind"))
        .await;
    ended(&gateway, "accepted", 1).await;
    assert_eq!(service.only().id(), "behind");
    assert_eq!(
        gateway.stderr().matches("consuming from the queue").count(),
        1
    );
    stopped(gateway).await;
    assert_eq!(broker.waiting("rude").await, 0);
    broker.until_waiting("rude.dead", 2).await;
}

async fn a_service_that_is_down_is_tried_again(broker: &Broker) {
    broker.queue_with_the_dead("down").await;
    let up = Arc::new(AtomicBool::new(false));
    let is_up = Arc::clone(&up);
    let taken = Arc::new(Mutex::new(Vec::new()));
    let takes = Arc::clone(&taken);
    let service = Upstream::scripted(move |_, request| {
        if is_up.load(Ordering::SeqCst) {
            takes.lock().unwrap().push(request.id().to_owned());
            Reply::Status(204)
        } else {
            Reply::Status(503)
        }
    })
    .await;
    let gateway = consuming(&reading(broker, "down", service.url(), HASTE)).await;
    let producer = broker.producer("down").await;
    for number in 0..50 {
        producer
            .publish(&Message::new(&format!("down_{number}")))
            .await;
    }
    service.reached(150).await;
    up.store(true, Ordering::SeqCst);
    ended(&gateway, "accepted", 50).await;
    let mut taken = std::mem::take(&mut *taken.lock().unwrap());
    taken.sort_unstable();
    let mut sent: Vec<_> = (0..50).map(|number| format!("down_{number}")).collect();
    sent.sort_unstable();
    assert_eq!(taken, sent, "each once");
    let gave = gateway.metrics().await;
    let labels = [
        ("source", "events"),
        ("destination", "app"),
        ("outcome", "accepted"),
    ];
    assert_eq!(gave.value("hookward_deliveries_total", &labels), 50.0);
    stopped(gateway).await;
    assert_eq!(broker.drain("down").await.len(), 0);
    assert_eq!(broker.drain("down.dead").await.len(), 0);
}

async fn after_its_last_attempt_it_is_a_dead_letter(broker: &Broker) {
    broker.queue_with_the_dead("last").await;
    let service = Upstream::scripted(|_, request| match request.id() {
        "poison" => Reply::Status(500),
        _ => Reply::Status(204),
    })
    .await;
    let more = "retry_delay = \"50ms\"\nmax_attempts = 4\n";
    let gateway = consuming(&reading(broker, "last", service.url(), more)).await;
    let producer = broker.producer("last").await;
    producer.publish(&Message::new("poison")).await;
    producer.publish(&Message::new("behind")).await;
    ended(&gateway, "failed", 1).await;
    ended(&gateway, "retried", 3).await;
    ended(&gateway, "accepted", 1).await;
    let told = gateway.line(&["given up", "\"id\":\"poison\""]).await;
    assert!(told.contains("\"level\":\"ERROR\""), "{told}");
    assert!(told.contains("\"attempts\":4"), "{told}");
    let requests = service.requests();
    let tried = requests.iter().filter(|r| r.id() == "poison");
    let times: Vec<Instant> = tried.map(|request| request.at).collect();
    assert_eq!(times.len(), 4);
    let waits: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (wait, least) in waits.iter().zip([40, 80, 160]) {
        assert!(*wait >= Duration::from_millis(least), "{waits:?}");
    }
    let dead = broker.drain("last.dead").await;
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].header("svix-id").as_deref(), Some("poison"));
    stopped(gateway).await;
    assert_eq!(broker.drain("last").await.len(), 0);
}

async fn an_open_source_needs_no_signature(broker: &Broker) {
    broker.queue_with_the_dead("open").await;
    let service = Upstream::start().await;
    let other = Upstream::sequence(vec![
        Reply::Status(500),
        Reply::Status(500),
        Reply::Status(204),
    ])
    .await;
    let config = reading(broker, "open", service.url(), HASTE).replacen(
        "secrets = \"env:KEY\"\nto = \"app\"",
        "secrets = \"dangerously-unverified\"\nto = [\"app\", \"other\"]",
        1,
    );
    let config = format!(
        "{config}\n[destinations.other]\ntype = \"http\"\nurl = \"{}\"\n",
        other.url()
    );
    let gateway = consuming(&config).await;
    gateway.line(&["THIS SOURCE IS OPEN"]).await;
    let producer = broker.producer("open").await;
    producer
        .publish_raw(FieldTable::default(), b"anything")
        .await;
    ended(&gateway, "accepted", 1).await;
    assert_eq!((service.count(), other.count()), (1, 3));
    assert_eq!(service.only().body, b"anything");
    stopped(gateway).await;
}

async fn what_hookward_has_no_place_for_waits(broker: &Broker) {
    broker.queue_with_the_dead("places").await;
    let service = Upstream::always(Reply::Held(204)).await;
    let more = "max_attempts = 1\nprefetch = 40\n";
    let config = reading(broker, "places", service.url(), more);
    let config = format!("[server]\nmax_in_flight = 3\n{config}");
    let gateway = consuming(&config).await;
    let producer = broker.producer("places").await;
    for number in 0..20 {
        producer
            .publish(&Message::new(&format!("places_{number}")))
            .await;
    }
    service.reached(3).await;
    gateway
        .metrics_until("bodies to be held", |metrics| {
            metrics.value("hookward_buffered_bytes", &[]) > 20.0 * 40.0
        })
        .await;
    // The house is full for those who post, too.
    let answer = gateway.send(&Message::new("posted")).await;
    assert_eq!(answer.told(), (503, "busy"));
    assert_eq!(service.count(), 3);
    service.release(20);
    ended(&gateway, "accepted", 20).await;
    assert_eq!(service.count(), 20);
    gateway
        .metrics_until("bodies to be gone", |metrics| {
            metrics.value("hookward_buffered_bytes", &[]) == 0.0
        })
        .await;
    stopped(gateway).await;
    // A destination with fewer places than messages is not asked for more.
    let service = Upstream::always(Reply::Held(204)).await;
    let config = reading(broker, "places", service.url(), more) + "max_in_flight = 2\n";
    let gateway = consuming(&config).await;
    for number in 0..10 {
        producer
            .publish(&Message::new(&format!("few_{number}")))
            .await;
    }
    service.reached(2).await;
    service.release(10);
    ended(&gateway, "accepted", 10).await;
    let metrics = gateway.metrics().await;
    let busy = [("destination", "app"), ("outcome", "busy")];
    assert_eq!(metrics.value("hookward_attempts_total", &busy), 0.0);
    stopped(gateway).await;
}

async fn a_frozen_service_with_all_its_messages_held_recovers(broker: &Broker) {
    broker.queue_with_the_dead("frozen").await;
    let frozen = Arc::new(AtomicBool::new(true));
    let is_frozen = Arc::clone(&frozen);
    let service = Upstream::scripted(move |_, _| match is_frozen.load(Ordering::SeqCst) {
        true => Reply::Never,
        false => Reply::Status(204),
    })
    .await;
    let more = "retry_delay = \"50ms\"\nprefetch = 5\n";
    let config = reading(broker, "frozen", service.url(), more) + "timeout = \"300ms\"\n";
    let gateway = consuming(&config).await;
    let producer = broker.producer("frozen").await;
    for number in 0..20 {
        producer
            .publish(&Message::new(&format!("frozen_{number}")))
            .await;
    }
    // Each of those five was tried, and more than once.
    service.reached(12).await;
    let ids = accepted(&service, |_| true);
    assert_eq!(ids.len(), 5, "no more than the prefetch: {ids:?}");
    broker.until_waiting("frozen", 15).await;
    frozen.store(false, Ordering::SeqCst);
    ended(&gateway, "accepted", 20).await;
    stopped(gateway).await;
    assert_eq!(broker.drain("frozen").await.len(), 0);
    assert_eq!(broker.drain("frozen.dead").await.len(), 0);
}

/// Waits until what is degraded is told with these words, or nothing is.
async fn degraded(gateway: &Gateway, wanted: Option<&str>) {
    within(&format!("readiness with {wanted:?}"), async {
        loop {
            let answer = gateway.ask("GET", "/readyz?strict", None).await;
            let there = match wanted {
                Some(words) => answer.status == 503 && answer.text().contains(words),
                None => answer.status == 200,
            };
            if there {
                assert_eq!(gateway.ask("GET", "/readyz", None).await.status, 200);
                return;
            }
            before_the_next_look().await;
        }
    })
    .await;
}

async fn a_missing_queue_is_told_and_found_again(broker: &Broker) {
    let service = Upstream::start().await;
    let gateway = Gateway::start(&reading(broker, "comes", service.url(), "")).await;
    let told = gateway.line(&["the queue cannot be consumed from"]).await;
    assert!(told.contains("no queue 'comes'"), "{told}");
    degraded(
        &gateway,
        Some("source `events`: NOT_FOUND - no queue 'comes'"),
    )
    .await;
    broker.queue_with_the_dead("comes").await;
    degraded(&gateway, None).await;
    let producer = broker.producer("comes").await;
    producer.publish(&Message::new("comes_1")).await;
    service.reached(1).await;
    broker.without_queue("comes").await;
    degraded(&gateway, Some("no queue 'comes'")).await;
    broker.queue_with_the_dead("comes").await;
    degraded(&gateway, None).await;
    producer.publish(&Message::new("comes_2")).await;
    service.reached(2).await;
    ended(&gateway, "accepted", 2).await;
    stopped(gateway).await;
}

async fn a_reload_keeps_what_did_not_change(broker: &Broker) {
    broker.queue_with_the_dead("kept").await;
    broker.queue_with_the_dead("moved").await;
    let service = Upstream::always(Reply::Held(204)).await;
    let gateway = consuming(&reading(broker, "kept", service.url(), "")).await;
    let consuming = || gateway.stderr().matches("consuming from the queue").count();
    let kept = broker.producer("kept").await;
    let moved = broker.producer("moved").await;
    kept.publish(&Message::new("before")).await;
    service.reached(1).await;
    // Another service and another key: the consumer goes on, with what it holds.
    let other = Upstream::start().await;
    let config = reading(broker, "kept", other.url(), "");
    let secrets = "secrets = \"env:OTHER_KEY\"\nto";
    gateway.rewrite(&config.replace("secrets = \"env:KEY\"\nto", secrets));
    gateway.signal(Signal::HUP);
    gateway.line(&["taken over"]).await;
    kept.publish(&Message::new("after").key(OTHER_KEY)).await;
    other.reached(1).await;
    assert_eq!(consuming(), 1);
    // Another queue: what was begun is finished, and acknowledged there.
    gateway.rewrite(&reading(broker, "moved", other.url(), ""));
    gateway.signal(Signal::HUP);
    moved.publish(&Message::new("moved")).await;
    other.reached(2).await;
    // Its line may come after the message.
    within("the other queue to be told", async {
        while consuming() < 2 {
            before_the_next_look().await;
        }
    })
    .await;
    service.release(1);
    ended(&gateway, "accepted", 3).await;
    service.only();
    kept.publish(&Message::new("stays")).await;
    broker.until_waiting("kept", 1).await;
    // None any more.
    gateway.rewrite(&crate::support::clerk_to(other.url()));
    gateway.signal(Signal::HUP);
    within("the source to be gone", async {
        while gateway.stderr().matches("taken over").count() < 3 {
            before_the_next_look().await;
        }
    })
    .await;
    moved.publish(&Message::new("unread")).await;
    broker.until_waiting("moved", 1).await;
    stopped(gateway).await;
    assert_eq!(broker.drain("kept").await.len(), 1);
    assert_eq!(broker.drain("moved").await.len(), 1);
}

async fn a_stop_gives_back_what_is_not_finished(broker: &Broker) {
    broker.queue_with_the_dead("stop").await;
    // Ten are held by the service, ten wait for their next attempt, the rest is in
    // nobody's hands.
    let service = Upstream::scripted(|_, request| {
        let number: u32 = request.id()[5..].parse().unwrap();
        match number {
            0..10 => Reply::Held(204),
            _ => Reply::Status(500),
        }
    })
    .await;
    let more = "prefetch = 20\nretry_delay = \"1h\"\n";
    let mut gateway = consuming(&reading(broker, "stop", service.url(), more)).await;
    let producer = broker.producer("stop").await;
    for number in 0..50 {
        producer
            .publish(&Message::new(&format!("stop_{number}")))
            .await;
    }
    ended(&gateway, "retried", 10).await;
    service.reached(20).await;
    gateway.signal(Signal::TERM);
    gateway.line(&["stopping"]).await;
    producer.publish(&Message::new("stop_50")).await;
    service.release(10);
    let status = gateway.ended().await;
    assert!(status.success(), "{status}");
    assert_eq!(service.count(), 20, "nothing was begun any more");
    let left = broker.drain("stop").await;
    let mut left: Vec<u32> = left
        .iter()
        .map(|message| message.header("svix-id").unwrap()[5..].parse().unwrap())
        .collect();
    left.sort_unstable();
    assert_eq!(left, (10..=50).collect::<Vec<_>>());
    assert_eq!(broker.drain("stop.dead").await.len(), 0);
}

async fn a_killed_hookward_loses_nothing(broker: &Broker) {
    broker.queue_with_the_dead("gone").await;
    let service = Upstream::scripted(|number, _| match number {
        0..30 => Reply::Status(204),
        30..40 => Reply::Never,
        _ => Reply::Status(204),
    })
    .await;
    let config = reading(broker, "gone", service.url(), "");
    let mut gateway = consuming(&config).await;
    let producer = broker.producer("gone").await;
    for number in 0..60 {
        producer
            .publish(&Message::new(&format!("gone_{number}")))
            .await;
    }
    service.reached(45).await;
    gateway.signal(Signal::KILL);
    gateway.ended().await;
    let gateway = consuming(&config).await;
    within("everything to arrive", async {
        while accepted(&service, |number| !(30..40).contains(&number)).len() < 60 {
            before_the_next_look().await;
        }
    })
    .await;
    stopped(gateway).await;
    assert_eq!(broker.drain("gone").await.len(), 0);
    assert_eq!(broker.drain("gone.dead").await.len(), 0);
}

async fn over_tls_both_sides_show_who_they_are(broker: &Broker) {
    broker.queue_with_the_dead("tls").await;
    let producer = broker.producer("tls").await;
    let service = Upstream::start().await;
    let certificates = |names: &[(&str, &str)]| {
        let file = |(key, name): &(&str, &str)| format!("{key} = \"{}\"\n", broker.file(name));
        let more: String = names.iter().map(file).collect();
        reading(broker, "tls", service.url(), &more).replace(&broker.url(), &broker.tls_url())
    };
    let all = [
        ("ca", "ca.pem"),
        ("cert", "hookward.pem"),
        ("key", "hookward-key.pem"),
    ];
    producer.publish(&Message::new("tls_1")).await;
    // Its authority is not one of the system's, and it wants to know who comes.
    for some in [&all[1..], &all[..1]] {
        let gateway = Gateway::start(&certificates(some)).await;
        let away = ["the broker is away", "\"source\":\"events\""];
        gateway.line(&away).await;
        degraded(&gateway, Some("source `events`: the broker is away")).await;
        stopped(gateway).await;
    }
    assert_eq!(service.count(), 0);
    let gateway = consuming(&certificates(&all)).await;
    ended(&gateway, "accepted", 1).await;
    assert_eq!(service.only().id(), "tls_1");
    degraded(&gateway, None).await;
    stopped(gateway).await;
    assert_eq!(broker.drain("tls").await.len(), 0);
}

/// How often a broker shows that it is there, when a test cannot wait for long
/// (seconds), and how often when it can.
const HEARTBEATS: [u32; 2] = [2, 60];

async fn with_heartbeat(broker: &Broker, seconds: u32) {
    let set = format!("application:set_env(rabbit, heartbeat, {seconds}).");
    broker.control(&["eval", &set]).await;
}

async fn a_frozen_broker_loses_nothing(broker: &Broker) {
    let [short, usual] = HEARTBEATS;
    with_heartbeat(broker, short).await;
    broker.queue_with_the_dead("still").await;
    let service = Upstream::scripted(|number, _| match number {
        10..20 => Reply::Held(204),
        _ => Reply::Status(204),
    })
    .await;
    let config = reading(broker, "still", service.url(), "");
    let gateway = consuming(&config).await;
    let producer = broker.producer("still").await;
    for number in 0..30 {
        producer
            .publish(&Message::new(&format!("still_{number}")))
            .await;
    }
    service.reached(30).await;
    ended(&gateway, "accepted", 20).await;
    broker.signal(Signal::STOP);
    // Some are accepted while nobody knows yet that the broker hears nothing, and
    // some when it is known.
    service.release(5);
    delivered(&gateway, 25).await;
    gateway
        .line(&["the broker is away", "\"source\":\"events\""])
        .await;
    degraded(&gateway, Some("source `events`: the broker is away")).await;
    service.release(5);
    delivered(&gateway, 30).await;
    broker.signal(Signal::CONT);
    degraded(&gateway, None).await;
    let producer = broker.producer("still").await;
    for number in 30..40 {
        producer
            .publish(&Message::new(&format!("still_{number}")))
            .await;
    }
    delivered(&gateway, 40).await;
    let duplicate = [("source", "events"), ("result", "duplicate")];
    gateway
        .metrics_until("those not acknowledged to be known", |metrics| {
            metrics.value("hookward_requests_total", &duplicate) >= 5.0
        })
        .await;
    stopped(gateway).await;
    assert_eq!(broker.drain("still").await.len(), 0);
    assert_eq!(broker.drain("still.dead").await.len(), 0);
    let times = accepted(&service, |_| true);
    assert_eq!(times.len(), 40);
    assert!(times.values().all(|times| *times == 1), "{times:?}");
    with_heartbeat(broker, usual).await;
}

/// Waits until the service has accepted so many, as far as hookward knows.
async fn delivered(gateway: &Gateway, count: usize) {
    let labels = [("source", "events"), ("result", "delivered")];
    let what = format!("{count} to be delivered");
    let metrics = gateway.metrics_until(&what, |metrics| {
        metrics.value("hookward_requests_total", &labels) >= count as f64
    });
    let metrics = metrics.await;
    let found = metrics.value("hookward_requests_total", &labels);
    assert_eq!(found, count as f64);
}

async fn a_killed_broker_loses_nothing(broker: &mut Broker) {
    let service = Upstream::scripted(|number, _| match number {
        0..20 => Reply::Status(204),
        20..30 => Reply::Held(204),
        _ => Reply::Status(204),
    })
    .await;
    let config = reading(broker, "killed", service.url(), "");
    let gateway = consuming(&config).await;
    let producer = broker.producer("killed").await;
    for number in 0..100 {
        producer
            .publish(&Message::new(&format!("killed_{number}")))
            .await;
    }
    service.reached(60).await;
    broker.kill().await;
    gateway
        .line(&["the broker is away", "\"source\":\"events\""])
        .await;
    degraded(&gateway, Some("source `events`: the broker is away")).await;
    // They are accepted while nobody can be told.
    service.release(10);
    broker.run();
    broker.there().await;
    degraded(&gateway, None).await;
    within("everything to arrive", async {
        while accepted(&service, |_| true).len() < 100 {
            before_the_next_look().await;
        }
    })
    .await;
    broker.until_waiting("killed", 0).await;
    stopped(gateway).await;
    assert_eq!(broker.drain("killed").await.len(), 0);
    let twice: Vec<_> = accepted(&service, |_| true)
        .into_iter()
        .filter(|(_, times)| *times > 1)
        .collect();
    assert!(twice.is_empty(), "{twice:?}");
}

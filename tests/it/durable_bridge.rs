//! The durable bridge, as config/examples has it: what the sender was told is
//! delivered arrives at the service, however long that is away (§4, README).

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{
    Broker, Connection, Gateway, KEY, Message, Reply, Upstream, before_the_next_look,
};

/// For how long the service is down. A minute by hand; some seconds where every
/// minute counts.
fn outage() -> Duration {
    let asked = std::env::var("HOOKWARD_TEST_OUTAGE").ok();
    let seconds = asked.and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(4))
}

/// Sends one event after the other until it is told to stop; those told delivered.
async fn sender(
    number: usize,
    gateway: std::net::SocketAddr,
    stop: Arc<AtomicBool>,
) -> Vec<(String, Vec<u8>)> {
    let mut connection = Connection::open(gateway).await;
    let mut delivered = Vec::new();
    for event in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let id = format!("bridge_{number}_{event}");
        let sealed = Message::new(&id).seal();
        let answer = connection.post("/clerk", &sealed).await;
        assert_eq!(answer.told(), (200, "delivered"), "{id}");
        delivered.push((id, sealed.body));
        before_the_next_look().await;
    }
    delivered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_arrives_once_though_the_service_was_down() {
    let Some(broker) = Broker::start().await else {
        return;
    };
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/durable-bridge.toml");
    let config = std::fs::read_to_string(example).unwrap();
    let down = Arc::new(AtomicBool::new(false));
    let refused = Arc::new(AtomicUsize::new(0));
    let (is_down, counted) = (Arc::clone(&down), Arc::clone(&refused));
    let service = Upstream::scripted(move |_, _| match is_down.load(Ordering::SeqCst) {
        // Nobody there: the connection breaks.
        true => {
            counted.fetch_add(1, Ordering::SeqCst);
            Reply::Reset
        }
        false => Reply::Status(204),
    })
    .await;
    let mut gateway = Gateway::with(&config)
        .env("RABBITMQ_URL", &broker.url())
        .env("CLERK_SIGNING_SECRET", KEY)
        .env("HOOKWARD_DESTINATIONS__APP__URL", service.url())
        // A minute's pause between two attempts is for a service that is away for long.
        .env("HOOKWARD_SOURCES__STORED__RETRY_DELAY", "500ms")
        .env("HOOKWARD_SOURCES__STORED__MAX_ATTEMPTS", "100")
        .start()
        .await;
    gateway.line(&["consuming from the queue"]).await;
    gateway
        .line(&["connected to the broker", "\"store\""])
        .await;

    let stop = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..8)
        .map(|number| tokio::spawn(sender(number, gateway.address(), Arc::clone(&stop))))
        .collect();
    service.reached(50).await;
    let began = Instant::now();
    down.store(true, Ordering::SeqCst);
    while began.elapsed() < outage() {
        before_the_next_look().await;
    }
    let piled_up = broker.waiting("events").await;
    let thawed = Instant::now();
    down.store(false, Ordering::SeqCst);
    let there = service.count();
    service.reached(there + 50).await;
    stop.store(true, Ordering::SeqCst);
    let mut sent: HashMap<String, Vec<u8>> = HashMap::new();
    for sender in senders {
        sent.extend(sender.await.unwrap());
    }
    let labels = [("source", "stored"), ("outcome", "accepted")];
    let all = sent.len() as f64;
    let metrics = gateway.metrics_until("every event to be acknowledged", |metrics| {
        metrics.value("hookward_queue_messages_total", &labels) >= all
    });
    let metrics = metrics.await;
    let drained = thawed.elapsed();
    assert_eq!(metrics.value("hookward_queue_messages_total", &labels), all);
    gateway.signal(Signal::TERM);
    assert!(gateway.ended().await.success());

    assert_eq!(broker.drain("events").await.len(), 0);
    assert_eq!(broker.drain("events.dead").await.len(), 0);
    // The service accepted whatever it did not reset: a request that came while it was
    // down was reset, and came again.
    let mut times: HashMap<String, usize> = HashMap::new();
    for request in service.requests() {
        assert_eq!(
            sent.get(request.id()),
            Some(&request.body),
            "{}",
            request.id()
        );
        assert_eq!(request.header("hookward-source"), Some("stored"));
        *times.entry(request.id().to_owned()).or_default() += 1;
    }
    assert_eq!(times.len(), sent.len(), "every event arrives");
    let came = times.values().sum::<usize>();
    let refused = refused.load(Ordering::SeqCst);
    assert_eq!(came, sent.len() + refused, "none is accepted twice");
    assert!(refused > 0, "nobody was sending while it was down");
    eprintln!(
        "{} events, the service down for {:?}: {refused} attempts failed, {piled_up} lay in the queue at its end, all were delivered {drained:?} after it",
        sent.len(),
        outage(),
    );
}

//! How fast verified events get into RabbitMQ, beside a bare publisher that
//! promises the same. See `benches/README.md`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement that cannot go on is to end, and its figures are what it is for"
)]
#![allow(
    unreachable_pub,
    reason = "one binary; nothing is reachable from outside"
)]

mod bare;
#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use lapin::options::QueuePurgeOptions;
use tokio::runtime::{Builder, Runtime};

use bare::{Bare, Outgoing};
use support::{Broker, Figures, Gateway, Generator, Message, Sample, cpu_time};

/// Pairs of slices in each setting; the order within a pair alternates.
const ROUNDS: usize = 5;
/// Of one slice.
const SLICE: Duration = Duration::from_millis(1200);
/// Of a slice with one event at a time.
const ALONE: Duration = Duration::from_millis(500);
/// More than any slice can send.
const EVENTS: usize = 40_000;
/// Bytes of a body.
const BODY: usize = 1024;
const CONNECTIONS: [usize; 2] = [64, 512];
const QUEUES: [&str; 2] = ["classic", "quorum"];
/// Channels of the bare publisher: no other number was faster.
const CHANNELS: usize = 2;

fn main() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let Some(broker) = runtime.block_on(Broker::start()) else {
        return;
    };
    let gateway = runtime.block_on(Gateway::start(&config(&broker)));
    let bare = runtime.block_on(Bare::connect(&broker.url(), CHANNELS));
    let stand = Stand {
        runtime,
        broker,
        gateway,
        bare,
    };
    println!("median (quartiles) of {ROUNDS} pairs of slices; {BODY} bytes, persistent, confirmed");
    let began = Instant::now();
    for queue in QUEUES {
        stand.runtime.block_on(stand.bare.there(queue));
        stand.one_at_a_time(queue);
        for connections in CONNECTIONS {
            stand.side_by_side(queue, connections);
        }
    }
    println!("measured in {:.0?}", began.elapsed());
}

fn config(broker: &Broker) -> String {
    let mut config = String::new();
    for queue in QUEUES {
        config.push_str(&format!(
            r#"
[sources.{queue}]
secrets = "env:KEY"
to = "{queue}"
[destinations.{queue}]
type = "rabbitmq"
url = "{}"
queue = "{queue}"
declare = {{ queue_type = "{queue}" }}
"#,
            broker.url()
        ));
    }
    config
}

/// Who is measured, and with what.
struct Stand {
    runtime: Runtime,
    broker: Broker,
    gateway: Gateway,
    bare: Bare,
}

impl Stand {
    /// Full tilt: hookward with so many connections, and the bare publisher with
    /// as many publications in flight.
    fn side_by_side(&self, queue: &str, connections: usize) {
        let mut pairs = Vec::new();
        for round in 0..ROUNDS {
            let ours = || self.hookward(queue, connections, SLICE).0;
            let bare = || self.bare(queue, connections, SLICE).0;
            pairs.push(if round % 2 == 0 {
                let ours = ours();
                (ours, bare())
            } else {
                let bare = bare();
                (ours(), bare)
            });
        }
        let ours = |of: fn(&Sample) -> f64| Figures::of(pairs.iter().map(|(ours, _)| of(ours)));
        let bare = |of: fn(&Sample) -> f64| Figures::of(pairs.iter().map(|(_, bare)| of(bare)));
        let ratio = pairs.iter().map(|(ours, bare)| ours.rate() / bare.rate());
        println!("{queue} queue, {connections} connections");
        println!("  hookward     {} events/s", ours(Sample::rate));
        println!("  bare lapin   {} events/s", bare(Sample::rate));
        println!("  ratio        {}", Figures::of(ratio));
        println!("  hookward     {} µs of CPU an event", ours(Sample::cost));
        println!("  bare lapin   {} µs of CPU an event", bare(Sample::cost));
    }

    /// One event alone, and then the next.
    fn one_at_a_time(&self, queue: &str) {
        let (mut ours, mut bare, mut rates) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (_, latencies) = self.hookward(queue, 1, ALONE);
            ours.push(median(latencies));
            let (sample, latencies) = self.bare(queue, 1, ALONE);
            bare.push(median(latencies));
            rates.push(sample.rate());
        }
        let ratio = ours.iter().zip(&bare).map(|(ours, bare)| ours / bare);
        println!("{queue} queue, one event at a time");
        println!("  bare lapin   {} events/s", Figures::of(rates));
        println!("  ratio of the median latencies {}", Figures::of(ratio));
        println!("  hookward     {} µs", Figures::of(ours));
        println!("  bare lapin   {} µs", Figures::of(bare));
    }

    fn hookward(
        &self,
        queue: &str,
        connections: usize,
        longest: Duration,
    ) -> (Sample, Vec<Duration>) {
        let path = format!("/{queue}");
        let requests: Vec<Vec<u8>> = outgoing(events(longest))
            .map(|(id, body)| Message::new(&id).body(body).seal().request(&path))
            .collect();
        let generator = Generator {
            address: self.gateway.address(),
            connections,
            longest,
        };
        let pid = self.gateway.pid();
        let mut before = Duration::ZERO;
        let load = generator.run(&requests, || before = cpu_time(pid));
        let cpu = cpu_time(pid) - before;
        assert_eq!(load.refused, 0, "every event is to be accepted");
        self.clear(queue, load.accepted);
        let sample = Sample {
            events: load.accepted,
            took: load.took,
            cpu,
        };
        (sample, load.latencies)
    }

    fn bare(&self, queue: &str, in_flight: usize, longest: Duration) -> (Sample, Vec<Duration>) {
        let publications: Vec<Outgoing> = outgoing(events(longest))
            .map(|(id, body)| Outgoing::new(queue, id, body))
            .collect();
        let pid = std::process::id();
        let before = cpu_time(pid);
        let publishing = self.bare.publish(queue, publications, in_flight, longest);
        let (accepted, took, latencies) = self.runtime.block_on(publishing);
        let cpu = cpu_time(pid) - before;
        self.clear(queue, accepted);
        let sample = Sample {
            events: accepted,
            took,
            cpu,
        };
        (sample, latencies)
    }

    /// Empties the queue, in which so many are to be.
    fn clear(&self, queue: &str, expected: usize) {
        let purged = self.runtime.block_on(async {
            let channel = self.broker.channel().await;
            let purging = channel.queue_purge(queue.into(), QueuePurgeOptions::default());
            purging.await.unwrap()
        });
        assert_eq!(
            purged as usize, expected,
            "what was accepted is in the queue"
        );
    }
}

/// How many events are enough for a slice.
fn events(longest: Duration) -> usize {
    (EVENTS as f64 * longest.as_secs_f64()) as usize
}

/// Events that nobody has sent before: their ids and bodies.
fn outgoing(count: usize) -> impl Iterator<Item = (String, Vec<u8>)> {
    let slice = fastrand::u64(..);
    (0..count).map(move |number| {
        let id = format!("msg_{slice:016x}_{number}");
        let mut body = format!(r#"{{"type":"user.created","data":{{"id":"{id}","p":""#);
        let rest = BODY - body.len() - 3;
        body.extend((0..rest).map(|at| char::from(b'a' + (at % 26) as u8)));
        body.push_str("\"}}");
        (id, body.into_bytes())
    })
}

/// In microseconds.
fn median(latencies: Vec<Duration>) -> f64 {
    let micros = latencies.iter().map(|latency| latency.as_secs_f64() * 1e6);
    Figures::of(micros).at(0.5)
}

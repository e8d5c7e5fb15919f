//! Every metric, with its labels. Handles are resolved when a configuration is
//! loaded, so that counting a request is a few atomic additions.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::words::{AttemptOutcome, QueueOutcome, RefusalReason, RepeatKind, RequestResult};

/// Every metric of the process; one instance, which outlives reloads.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    refusals: IntCounterVec,
    request_duration: HistogramVec,
    deliveries: IntCounterVec,
    attempts: IntCounterVec,
    delivery_duration: HistogramVec,
    key_verified: IntCounterVec,
    key_last_verified: GaugeVec,
    repeats: IntCounterVec,
    body_changed: IntCounterVec,
    queue_messages: IntCounterVec,
    ledger: LedgerMetrics,
    server: ServerMetrics,
    destination_up: IntGaugeVec,
    destination_in_flight: IntGaugeVec,
    circuit_open: IntGaugeVec,
    clock_skew: GaugeVec,
    clock_steps: IntCounter,
    last_verified: GaugeVec,
    expected_interval: GaugeVec,
    limit: IntGaugeVec,
    reloads: IntCounterVec,
    reload_successful: IntGauge,
    unknown_path: IntCounter,
}

/// What is counted for one source.
#[derive(Clone)]
pub struct SourceMetrics {
    /// By [`RequestResult`].
    requests: Vec<IntCounter>,
    /// By [`RefusalReason`].
    refusals: Vec<IntCounter>,
    /// From the first byte of the head to the answer (seconds).
    pub request_duration: Histogram,
    repeats: Vec<IntCounter>,
    /// An id not yet delivered came with another body.
    pub body_changed: IntCounter,
    /// Signed time minus ours, of the last verified message (seconds).
    pub clock_skew: Gauge,
    /// When a message was last verified (Unix seconds).
    pub last_verified: Gauge,
}

/// What is counted for a source that reads a queue.
#[derive(Clone)]
pub struct QueueMetrics {
    /// By [`QueueOutcome`].
    messages: Vec<IntCounter>,
}

/// What is counted for one key of a source.
#[derive(Clone)]
pub struct KeyMetrics {
    /// Messages it verified.
    pub verified: IntCounter,
    /// When it last did (Unix seconds).
    pub last_verified: Gauge,
}

/// What is counted for one source and destination.
#[derive(Clone)]
pub struct RouteMetrics {
    deliveries: Vec<IntCounter>,
}

/// What is counted for one destination.
#[derive(Clone)]
pub struct DestinationMetrics {
    attempts: Vec<IntCounter>,
    /// From the first attempt to the end of the last (seconds).
    pub delivery_duration: Histogram,
    /// 1 while its last attempt found it there. The destination's own: it is
    /// shown by [`Metrics::show_destination`], so that one that a reload replaced
    /// or refused says nothing about the one in force.
    pub up: IntGauge,
    /// Deliveries under way.
    pub in_flight: IntGauge,
}

/// What is counted for the ledger.
#[derive(Clone)]
pub struct LedgerMetrics {
    /// Ids known.
    pub entries: IntGauge,
    /// Ids forgotten for want of room.
    pub evictions: IntCounter,
    /// Ids forgotten while a replay of them would still have been fresh.
    pub window_breaches: IntCounter,
    /// 1 while the store answers.
    pub up: IntGauge,
    /// Ids that ran by what this replica alone knew, as the store was away.
    pub alone: IntCounter,
}

/// What is counted for the listener.
#[derive(Clone)]
pub struct ServerMetrics {
    /// Requests under way.
    pub in_flight: IntGauge,
    /// Bytes of bodies held.
    pub buffered_bytes: IntGauge,
    /// Open connections.
    pub connections: IntGauge,
}

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// When a metric is declared twice: a mistake in this file.
    pub fn new() -> prometheus::Result<Self> {
        let r = &Registry::new_custom(Some("hookward".into()), None)?;
        let metrics = Self {
            requests: counters(
                r,
                "requests_total",
                "Requests by what they were answered; source is empty for unknown paths.",
                &["source", "result"],
            )?,
            refusals: counters(
                r,
                "refusals_total",
                "Requests refused, by reason.",
                &["source", "reason"],
            )?,
            request_duration: histograms(
                r,
                "request_duration_seconds",
                "From the first byte of the head to the answer.",
                &["source"],
            )?,
            deliveries: counters(
                r,
                "deliveries_total",
                "Deliveries by how they came out.",
                &["source", "destination", "outcome"],
            )?,
            attempts: counters(
                r,
                "attempts_total",
                "Attempts at a delivery by how they came out.",
                &["destination", "outcome"],
            )?,
            delivery_duration: histograms(
                r,
                "delivery_duration_seconds",
                "From the first attempt at a delivery to the end of the last.",
                &["destination"],
            )?,
            key_verified: counters(
                r,
                "key_verified_total",
                "Messages verified, by the key that matched.",
                &["source", "key"],
            )?,
            key_last_verified: gauges(
                r,
                "key_last_verified_timestamp_seconds",
                "When a key last verified a message; 0 for never.",
                &["source", "key"],
            )?,
            repeats: counters(
                r,
                "repeats_total",
                "Requests answered `duplicate`.",
                &["source", "kind"],
            )?,
            body_changed: counters(
                r,
                "body_changed_total",
                "Ids not yet delivered that came again with another body.",
                &["source"],
            )?,
            queue_messages: counters(
                r,
                "queue_messages_total",
                "Messages taken out of a queue, by what became of them.",
                &["source", "outcome"],
            )?,
            ledger: LedgerMetrics {
                entries: int_gauge(r, "ledger_entries", "Ids the ledger knows.")?,
                evictions: counter(
                    r,
                    "ledger_evictions_total",
                    "Ids forgotten for want of room.",
                )?,
                window_breaches: counter(
                    r,
                    "ledger_window_breaches_total",
                    "Ids forgotten while a replay of them would still have been fresh.",
                )?,
                up: int_gauge(r, "ledger_up", "Whether the ledger's store answers.")?,
                alone: counter(
                    r,
                    "ledger_alone_total",
                    "Requests judged by what this replica alone knew, as the ledger's store was away.",
                )?,
            },
            server: ServerMetrics {
                in_flight: int_gauge(r, "in_flight", "Requests under way.")?,
                buffered_bytes: int_gauge(r, "buffered_bytes", "Bytes of bodies held.")?,
                connections: int_gauge(r, "connections", "Open connections.")?,
            },
            destination_up: int_gauges(
                r,
                "destination_up",
                "Whether the destination's last attempt found it there.",
                &["destination"],
            )?,
            destination_in_flight: int_gauges(
                r,
                "destination_in_flight",
                "Deliveries under way.",
                &["destination"],
            )?,
            circuit_open: int_gauges(
                r,
                "circuit_open",
                "Whether the destination's circuit is open.",
                &["destination"],
            )?,
            clock_skew: gauges(
                r,
                "clock_skew_seconds",
                "Signed time minus ours, of the last verified message.",
                &["source"],
            )?,
            clock_steps: counter(
                r,
                "clock_steps_total",
                "Times the wall clock was stepped back.",
            )?,
            last_verified: gauges(
                r,
                "last_verified_timestamp_seconds",
                "When a message was last verified; 0 for never.",
                &["source"],
            )?,
            expected_interval: gauges(
                r,
                "source_expected_interval_seconds",
                "The source's `expect_every`.",
                &["source"],
            )?,
            limit: int_gauges(r, "limit", "How much there may be.", &["of"])?,
            reloads: counters(
                r,
                "config_reloads_total",
                "Reloads by how they came out.",
                &["outcome"],
            )?,
            reload_successful: int_gauge(
                r,
                "config_last_reload_successful",
                "Whether the last reload was taken.",
            )?,
            unknown_path: IntCounter::new("unused", "unused")?,
            registry: r.clone(),
        };
        let build = int_gauges(r, "build_info", "1, with what was built.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        for outcome in ["ok", "refused"] {
            metrics.reloads.with_label_values(&[outcome]);
        }
        metrics.reload_successful.set(1);
        metrics.ledger.up.set(1);
        Ok(Self {
            unknown_path: metrics
                .requests
                .with_label_values(&["", RequestResult::UnknownPath.word()]),
            ..metrics
        })
    }

    /// All metrics as Prometheus text (version 0.0.4), with those of the process.
    ///
    /// # Errors
    /// When a metric cannot be written as text.
    pub fn text(&self) -> prometheus::Result<String> {
        let mut families = self.registry.gather();
        families.extend(prometheus::process_collector::ProcessCollector::for_self().collect());
        TextEncoder::new().encode_to_string(&families)
    }

    /// The handles of a source; its counters start at 0.
    pub fn source(&self, source: &str) -> SourceMetrics {
        SourceMetrics {
            requests: by_word(RequestResult::ALL, |r| {
                self.requests.with_label_values(&[source, r.word()])
            }),
            refusals: by_word(RefusalReason::ALL, |r| {
                self.refusals.with_label_values(&[source, r.word()])
            }),
            request_duration: self.request_duration.with_label_values(&[source]),
            repeats: by_word(RepeatKind::ALL, |k| {
                self.repeats.with_label_values(&[source, k.word()])
            }),
            body_changed: self.body_changed.with_label_values(&[source]),
            clock_skew: self.clock_skew.with_label_values(&[source]),
            last_verified: self.last_verified.with_label_values(&[source]),
        }
    }

    /// The handles of a source that reads a queue.
    pub fn queue(&self, source: &str) -> QueueMetrics {
        QueueMetrics {
            messages: by_word(QueueOutcome::ALL, |o| {
                self.queue_messages.with_label_values(&[source, o.word()])
            }),
        }
    }

    /// Tells how often a source is expected to send.
    pub fn expect_every(&self, source: &str, interval: Duration) {
        self.expected_interval
            .with_label_values(&[source])
            .set(interval.as_secs_f64());
    }

    /// The handles of a key of a source.
    pub fn key(&self, source: &str, key: &str) -> KeyMetrics {
        KeyMetrics {
            verified: self.key_verified.with_label_values(&[source, key]),
            last_verified: self.key_last_verified.with_label_values(&[source, key]),
        }
    }

    /// The handles of what goes from a source to a destination.
    pub fn route(&self, source: &str, destination: &str) -> RouteMetrics {
        RouteMetrics {
            deliveries: by_word(AttemptOutcome::ALL, |o| {
                self.deliveries
                    .with_label_values(&[source, destination, o.word()])
            }),
        }
    }

    /// The handles of a destination.
    pub fn destination(&self, destination: &str) -> DestinationMetrics {
        // Only a bad name could fail here.
        let up = IntGauge::new("up", "Shown by the destination in force.")
            .unwrap_or_else(|_| self.destination_up.with_label_values(&[destination]));
        let metrics = DestinationMetrics {
            attempts: by_word(AttemptOutcome::ALL, |o| {
                self.attempts.with_label_values(&[destination, o.word()])
            }),
            delivery_duration: self.delivery_duration.with_label_values(&[destination]),
            up,
            in_flight: self.destination_in_flight.with_label_values(&[destination]),
        };
        metrics.up.set(1);
        metrics
    }

    /// The ledger's.
    pub fn ledger(&self) -> &LedgerMetrics {
        &self.ledger
    }

    /// The listener's.
    pub fn server(&self) -> &ServerMetrics {
        &self.server
    }

    /// Counts the steps back of the wall clock.
    pub fn clock_steps(&self) -> &IntCounter {
        &self.clock_steps
    }

    /// Counts a reload.
    pub fn reloaded(&self, taken: bool) {
        let outcome = if taken { "ok" } else { "refused" };
        self.reloads.with_label_values(&[outcome]).inc();
        self.reload_successful.set(i64::from(taken));
    }

    /// Counts a request that no source has the path of.
    pub fn unknown_path(&self) {
        self.unknown_path.inc();
    }
}

impl SourceMetrics {
    /// Counts an answer.
    pub fn answered(&self, result: RequestResult) {
        self.requests[result as usize].inc();
    }

    /// Counts a refusal.
    pub fn refused(&self, reason: RefusalReason) {
        self.refusals[reason as usize].inc();
    }

    /// Counts a repeat that was answered `duplicate`.
    pub fn repeated(&self, kind: RepeatKind) {
        self.repeats[kind as usize].inc();
    }
}

impl QueueMetrics {
    /// Counts what became of a message.
    pub fn ended(&self, outcome: QueueOutcome) {
        self.messages[outcome as usize].inc();
    }

    /// Counts so many that go back to the queue.
    pub fn returned(&self, count: usize) {
        self.messages[QueueOutcome::Returned as usize].inc_by(count as u64);
    }
}

impl RouteMetrics {
    /// Counts a delivery.
    pub fn delivered(&self, outcome: AttemptOutcome) {
        self.deliveries[outcome as usize].inc();
    }
}

impl DestinationMetrics {
    /// Counts an attempt.
    pub fn attempted(&self, outcome: AttemptOutcome) {
        self.attempts[outcome as usize].inc();
    }
}

/// From half a millisecond to the longest budget (seconds).
const BUCKETS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0,
];

fn by_word<W: Copy>(words: &[W], handle: impl Fn(W) -> IntCounter) -> Vec<IntCounter> {
    words.iter().map(|word| handle(*word)).collect()
}

fn register<C: Collector + Clone + 'static>(r: &Registry, metric: C) -> prometheus::Result<C> {
    r.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn counter(r: &Registry, name: &str, help: &str) -> prometheus::Result<IntCounter> {
    register(r, IntCounter::new(name, help)?)
}

fn counters(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntCounterVec> {
    register(r, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn int_gauge(r: &Registry, name: &str, help: &str) -> prometheus::Result<IntGauge> {
    register(r, IntGauge::new(name, help)?)
}

fn int_gauges(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntGaugeVec> {
    register(r, IntGaugeVec::new(Opts::new(name, help), labels)?)
}

fn gauges(r: &Registry, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
    register(r, GaugeVec::new(Opts::new(name, help), labels)?)
}

fn histograms(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<HistogramVec> {
    let opts = HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
    register(r, HistogramVec::new(opts, labels)?)
}

mod shown;

#[cfg(test)]
mod tests;

//! Every metric, with its labels. Handles are resolved when a configuration is
//! loaded, so that counting a request is a few atomic additions.

mod handles;
mod register;
mod shown;
#[cfg(test)]
mod tests;

use prometheus::core::Collector;
use prometheus::{
    GaugeVec, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};

pub use handles::{
    DestinationMetrics, KeyMetrics, LedgerMetrics, QueueMetrics, RouteMetrics, ServerMetrics,
    SourceMetrics,
};

use super::words::RequestResult;
use register::{counter, counters, gauges, histograms, int_gauge, int_gauges};

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

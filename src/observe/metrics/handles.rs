use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{Gauge, Histogram, IntCounter, IntGauge};

use super::Metrics;
use crate::observe::words::{
    AttemptOutcome, QueueOutcome, RefusalReason, RepeatKind, RequestResult,
};

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

    /// Notes when a message was verified.
    pub fn verified(&self, at: SystemTime) {
        move_on(&self.last_verified, at);
    }

    /// Counts a repeat that was answered `duplicate`.
    pub fn repeated(&self, kind: RepeatKind) {
        self.repeats[kind as usize].inc();
    }
}

impl KeyMetrics {
    /// Counts a message that it verified at this time.
    pub fn verified(&self, at: SystemTime) {
        self.verified.inc();
        move_on(&self.last_verified, at);
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

/// Shows the time of the last one: of two, the later may be told first.
fn move_on(gauge: &Gauge, at: SystemTime) {
    let at = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    if at.as_secs_f64() > gauge.get() {
        gauge.set(at.as_secs_f64());
    }
}

fn by_word<W: Copy>(words: &[W], handle: impl Fn(W) -> IntCounter) -> Vec<IntCounter> {
    words.iter().map(|word| handle(*word)).collect()
}

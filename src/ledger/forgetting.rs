use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::record::{Millis, Record, millis};
use crate::observe::{Clock, LedgerMetrics};

/// The most often that breaches are logged (milliseconds).
const TELL_EVERY: u64 = 10_000;

/// When ids are forgotten, and what is told about those that had to go too early.
pub(super) struct Forgetting {
    /// How long an id is known, from its last receipt (milliseconds).
    retention: AtomicU64,
    clock: Clock,
    /// The latest time a claim came with.
    latest: AtomicU64,
    metrics: LedgerMetrics,
    /// Whether what has to go is kept elsewhere, and not forgotten.
    kept: bool,
    /// Breaches not logged yet, and when some last were.
    untold: AtomicU64,
    told: AtomicU64,
}

impl Forgetting {
    pub(super) fn new(retention: u64, metrics: LedgerMetrics, clock: Clock) -> Self {
        Self {
            retention: AtomicU64::new(retention),
            clock,
            latest: AtomicU64::new(0),
            metrics,
            kept: false,
            untold: AtomicU64::new(0),
            told: AtomicU64::new(0),
        }
    }

    /// From now on ids that have to go leave only memory: a store keeps them.
    pub(super) fn of_a_hot_tier(self) -> Self {
        Self { kept: true, ..self }
    }

    pub(super) fn metrics(&self) -> &LedgerMetrics {
        &self.metrics
    }

    pub(super) fn retention(&self) -> u64 {
        self.retention.load(Ordering::Relaxed)
    }

    pub(super) fn set_retention(&self, retention: u64) {
        self.retention.store(retention, Ordering::Relaxed);
    }

    /// Takes note of the time a caller goes by.
    pub(super) fn saw(&self, now: SystemTime) -> Millis {
        let now = millis(now);
        // Written only when the second turns: the line is shared by all threads.
        if now / 1000 > self.latest.load(Ordering::Relaxed) / 1000 {
            self.latest.fetch_max(now, Ordering::Relaxed);
        }
        now
    }

    /// The time now, where no caller brings one.
    pub(super) fn now(&self) -> Millis {
        millis(self.clock.now()).max(self.latest.load(Ordering::Relaxed))
    }

    pub(super) fn expired(&self, record: &Record, now: Millis) -> bool {
        record.expired(now, self.retention())
    }

    /// Counts an id that had to go for want of room.
    pub(super) fn forgot(&self, record: &Record) {
        let now = self.now();
        if self.kept || self.expired(record, now) {
            return;
        }
        self.metrics.evictions.inc();
        // A replay of what nobody accepted does no harm.
        if record.in_window(now) && !record.is_failed() {
            self.metrics.window_breaches.inc();
            self.untold.fetch_add(1, Ordering::Relaxed);
            self.tell(now);
        }
    }

    /// Logs the breaches not told yet, unless some were a moment ago.
    pub(super) fn tell(&self, now: Millis) {
        let told = self.told.load(Ordering::Relaxed);
        if self.untold.load(Ordering::Relaxed) == 0 || now < told.saturating_add(TELL_EVERY) {
            return;
        }
        let mine = self
            .told
            .compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed);
        if mine.is_ok() {
            tracing::error!(
                ids = self.untold.swap(0, Ordering::Relaxed),
                "ids were forgotten while a replay of them is still fresh: `ledger.max_entries` is too small for this traffic"
            );
        }
    }
}

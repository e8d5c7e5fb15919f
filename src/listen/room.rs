use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use prometheus::IntGauge;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// How many connections of a listener are open, and who waits for one to go.
#[derive(Default)]
pub(super) struct Room {
    open: AtomicUsize,
    freed: Notify,
    full: AtomicBool,
}

impl Room {
    /// How many are open.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Waits for one to go.
    pub(super) fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }

    /// Whether the next one would have to wait. Connections that have proven
    /// nothing are not kept then.
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    pub(super) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }
}

/// One open connection, counted for as long as this lives.
pub(super) struct Place {
    room: Arc<Room>,
    gauge: IntGauge,
}

impl Place {
    pub(super) fn take(room: &Arc<Room>, gauge: &IntGauge) -> Self {
        room.open.fetch_add(1, Ordering::Relaxed);
        gauge.inc();
        Self {
            room: Arc::clone(room),
            gauge: gauge.clone(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.open.fetch_sub(1, Ordering::Relaxed);
        self.gauge.dec();
        self.room.freed.notify_one();
    }
}

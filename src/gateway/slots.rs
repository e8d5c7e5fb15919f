use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::IntGauge;

use super::refusal::Refusal;

/// A limit on how many of something there may be at once. Taking a place never
/// waits. The limit can be changed while places are taken.
pub struct Slots {
    taken: AtomicUsize,
    limit: AtomicUsize,
}

/// A taken place; free again when dropped.
pub(crate) struct Slot(Arc<Slots>);

impl Slots {
    /// As many as `limit` at once.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            taken: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
        })
    }

    /// Changes the limit, for places taken from now on.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Whether all are taken.
    pub(crate) fn is_full(&self) -> bool {
        self.taken() >= self.limit.load(Ordering::Relaxed)
    }

    /// Takes a place, unless all are taken.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Slot> {
        let slot = Slot(Arc::clone(self));
        let before = self.taken.fetch_add(1, Ordering::AcqRel);
        // Too many: dropping the slot gives the place back.
        (before < self.limit.load(Ordering::Relaxed)).then_some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The places of a proven message under way: the server's, and of its source's
/// share. Strangers take none.
pub(crate) struct Places {
    _source: Option<Slot>,
    _server: Slot,
}

impl Places {
    /// Takes both.
    ///
    /// # Errors
    /// [`Refusal::Busy`] when all of either are taken.
    pub(crate) fn take(server: &Arc<Slots>, share: Option<&Arc<Slots>>) -> Result<Self, Refusal> {
        let source = match share {
            Some(share) => {
                let full = Refusal::Busy("sources.*.max_in_flight");
                Some(share.take().ok_or(full)?)
            }
            None => None,
        };
        let full = Refusal::Busy("server.max_in_flight");
        Ok(Self {
            _source: source,
            _server: server.take().ok_or(full)?,
        })
    }
}

/// A message under way, waiting ones too, as `in_flight` shows it.
pub(crate) struct UnderWay<'a>(&'a IntGauge);

impl<'a> UnderWay<'a> {
    pub(crate) fn shown(gauge: &'a IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_up_to_the_limit_and_again_when_free() {
        let slots = Slots::new(2);
        let first = slots.take().unwrap();
        let _second = slots.take().unwrap();
        assert!(slots.take().is_none());
        drop(first);
        assert!(slots.take().is_some());
        assert_eq!(slots.taken(), 1);
    }
}

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::IntGauge;

/// The memory all bodies share (`server.max_buffered`). A body takes its bytes
/// before it is read, and nobody waits for any: a body that does not fit is
/// refused, so that overload is answered quickly. Only a few KiB for each connection,
/// which it has in memory anyhow, are taken past the limit.
///
/// Cloning shares it.
#[derive(Clone)]
pub struct BufferBudget(Arc<Inner>);

struct Inner {
    limit: AtomicUsize,
    held: AtomicUsize,
    gauge: IntGauge,
}

impl BufferBudget {
    /// A budget of `limit` bytes, shown in `gauge`.
    pub fn new(limit: usize, gauge: IntGauge) -> Self {
        Self(Arc::new(Inner {
            limit: AtomicUsize::new(limit),
            held: AtomicUsize::new(0),
            gauge,
        }))
    }

    /// Changes the limit (bytes). What is held stays held.
    pub fn set_limit(&self, limit: usize) {
        self.0.limit.store(limit, Ordering::Relaxed);
    }

    /// Takes `bytes`, or nothing when they are not left.
    pub fn take(&self, bytes: usize) -> Option<Held> {
        let mut held = Held {
            budget: self.clone(),
            bytes: 0,
        };
        held.grow(bytes).then_some(held)
    }

    /// Takes `bytes` whether they are left or not: for what is in memory already, or
    /// as good as that, so that others are refused sooner.
    pub fn hold(&self, bytes: usize) -> Held {
        let inner = &*self.0;
        inner.held.fetch_add(bytes, Ordering::Relaxed);
        inner.gauge.add(signed(bytes));
        Held {
            budget: self.clone(),
            bytes,
        }
    }
}

/// A share of the budget; dropping it gives it back.
pub struct Held {
    budget: BufferBudget,
    bytes: usize,
}

impl Held {
    /// How much it is (bytes).
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes `more` bytes, or nothing when they are not left. Whether it did.
    pub(super) fn grow(&mut self, more: usize) -> bool {
        let inner = &*self.budget.0;
        let limit = inner.limit.load(Ordering::Relaxed);
        // One number and no other memory hangs on it, so no order is needed.
        let taken = inner
            .held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                held.checked_add(more).filter(|sum| *sum <= limit)
            });
        if taken.is_ok() {
            self.bytes += more;
            inner.gauge.add(signed(more));
        }
        taken.is_ok()
    }

    /// Gives back all above `bytes`.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes);
        if less > 0 {
            let inner = &*self.budget.0;
            inner.held.fetch_sub(less, Ordering::Relaxed);
            inner.gauge.sub(signed(less));
            self.bytes -= less;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(limit: usize) -> (BufferBudget, IntGauge) {
        let gauge = IntGauge::new("held", "held").unwrap();
        (BufferBudget::new(limit, gauge.clone()), gauge)
    }

    #[test]
    fn what_is_not_left_is_not_taken_and_what_is_dropped_is_left_again() {
        let (budget, gauge) = budget(100);
        let mut first = budget.take(60).unwrap();
        assert!(budget.take(41).is_none());
        let second = budget.take(40).unwrap();
        assert!(!first.grow(1));
        assert_eq!(gauge.get(), 100);
        drop(second);
        assert!(first.grow(40));
        first.shrink(10);
        assert_eq!((first.bytes(), gauge.get()), (10, 10));
        drop(first);
        assert_eq!(gauge.get(), 0);
        assert!(budget.take(100).is_some());
        assert!(budget.take(usize::MAX).is_none());
    }

    #[test]
    fn what_is_here_already_counts_even_past_the_limit() {
        let (budget, gauge) = budget(100);
        let first = budget.hold(120);
        assert!(budget.take(1).is_none());
        assert_eq!(gauge.get(), 120);
        drop(first);
        assert_eq!(gauge.get(), 0);
        assert!(budget.take(100).is_some());
    }

    #[test]
    fn threads_that_race_never_hold_more_than_the_limit() {
        let (budget, gauge) = budget(10);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        if let Some(held) = budget.take(4) {
                            assert!(budget.0.held.load(Ordering::Relaxed) <= 10);
                            drop(held);
                        }
                    }
                });
            }
        });
        assert_eq!(budget.0.held.load(Ordering::Relaxed), 0);
        assert_eq!(gauge.get(), 0);
    }
}

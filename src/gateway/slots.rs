use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::IntGauge;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::refusal::Refusal;
use crate::observe::{PATIENCE, is_behind};

/// A limit on how many of something there may be at once. Taking a place never
/// waits; who has the time can wait for room first. The limit can be changed while
/// places are taken.
pub struct Slots {
    taken: AtomicUsize,
    limit: AtomicUsize,
    /// How many wait for room.
    waiting: AtomicUsize,
    freed: Notify,
}

/// A taken place; free again when dropped.
pub(crate) struct Slot(Arc<Slots>);

impl Slots {
    /// As many as `limit` at once.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            taken: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            waiting: AtomicUsize::new(0),
            freed: Notify::new(),
        })
    }

    /// Changes the limit, for places taken from now on.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::SeqCst);
        self.freed.notify_waiters();
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }

    /// Whether all are taken.
    pub(crate) fn is_full(&self) -> bool {
        self.taken() >= self.limit.load(Ordering::Relaxed)
    }

    /// Takes a place, unless all are taken.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Slot> {
        let slot = Slot(Arc::clone(self));
        let before = self.taken.fetch_add(1, Ordering::SeqCst);
        // Too many: dropping the slot gives the place back.
        (before < self.limit.load(Ordering::Relaxed)).then_some(slot)
    }

    /// Whether all are taken, and stay so although the runtime has caught up, or
    /// for [`PATIENCE`].
    pub(crate) async fn stays_full(&self) -> bool {
        if !self.is_full() {
            return false;
        }
        // Boxed, because it is seldom.
        Box::pin(async {
            if is_behind().await {
                let _ = timeout(PATIENCE, self.room()).await;
                self.pass_on();
            }
            self.is_full()
        })
        .await
    }

    /// Waits until not all are taken. There may be none again when it is tried.
    async fn room(&self) {
        let _waiting = Waiting::among(&self.waiting);
        loop {
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            if !self.is_full() {
                return;
            }
            freed.await;
        }
    }

    /// Tells the next who waits of a place that whoever was told of it did not take.
    fn pass_on(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 && !self.is_full() {
            self.freed.notify_one();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let slots = &*self.0;
        slots.taken.fetch_sub(1, Ordering::SeqCst);
        // In one order with the look of who waits: either that sees the place
        // free, or this sees that somebody waits.
        if slots.waiting.load(Ordering::SeqCst) > 0 {
            slots.freed.notify_one();
        }
    }
}

/// One of those who wait for room.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn among(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
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

    /// Takes both; waits for them up to [`PATIENCE`] while the runtime is behind.
    ///
    /// # Errors
    /// [`Refusal::Busy`] when all of either are taken, and stay so.
    pub(crate) async fn take_soon(
        server: &Arc<Slots>,
        share: Option<&Arc<Slots>>,
    ) -> Result<Self, Refusal> {
        let busy = match Self::take(server, share) {
            Ok(places) => return Ok(places),
            Err(busy) => busy,
        };
        // Boxed, because it is seldom.
        Box::pin(async {
            if is_behind().await {
                let places = timeout(PATIENCE, Self::wait(server, share)).await;
                places.map_err(|_| busy)
            } else {
                Self::take(server, share)
            }
        })
        .await
    }

    /// Takes both as soon as both can be had.
    pub(crate) async fn wait(server: &Arc<Slots>, share: Option<&Arc<Slots>>) -> Self {
        loop {
            if let Some(share) = share {
                share.room().await;
            }
            server.room().await;
            // Somebody may have been faster.
            if let Ok(places) = Self::take(server, share) {
                return places;
            }
            server.pass_on();
            if let Some(share) = share {
                share.pass_on();
            }
            tokio::task::yield_now().await;
        }
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
    use std::time::Duration;

    use tokio::time::Instant;

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

    #[tokio::test]
    async fn who_waits_gets_the_place_that_is_given_back() {
        let (server, share) = (Slots::new(1), Slots::new(5));
        let taken = Places::take(&server, None).ok();
        let mut waiting = pin!(Places::wait(&server, Some(&share)));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        drop(taken);
        let places = waiting.await;
        assert_eq!((server.taken(), share.taken()), (1, 1));
        drop(places);
        assert_eq!((server.taken(), share.taken()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_house_says_no_at_once_unless_its_runtime_is_behind() {
        let server = Slots::new(1);
        let taken = Places::take(&server, None).ok();
        let asked = Instant::now();
        assert!(server.stays_full().await);
        assert!(Places::take_soon(&server, None).await.is_err());
        assert_eq!(asked.elapsed(), Duration::ZERO);

        // It has other things to do first, and then gives the place back.
        tokio::spawn(async move {
            tokio::time::advance(Duration::from_millis(5)).await;
            for _ in 0..5 {
                tokio::task::yield_now().await;
            }
            drop(taken);
        });
        let (full, places) = tokio::join!(server.stays_full(), Places::take_soon(&server, None));
        let _places = places.unwrap();
        assert!(!full || server.is_full());

        tokio::spawn(tokio::time::advance(Duration::from_millis(5)));
        assert!(Places::take_soon(&server, None).await.is_err());
        assert!(asked.elapsed() >= PATIENCE);
    }

    #[tokio::test]
    async fn a_raised_limit_lets_those_in_who_wait() {
        let slots = Slots::new(0);
        let mut waiting = pin!(Places::wait(&slots, None));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        slots.set_limit(1);
        waiting.await;
    }

    #[tokio::test]
    async fn a_place_that_one_of_a_full_share_was_told_of_is_not_lost_to_others() {
        let (server, share) = (Slots::new(2), Slots::new(1));
        let taken = [Places::take(&server, None), Places::take(&server, None)];
        let mut first = pin!(Places::wait(&server, Some(&share)));
        let mut second = pin!(Places::wait(&server, Some(&share)));
        let mut other = pin!(Places::wait(&server, None));
        assert!(futures_util::poll!(first.as_mut()).is_pending());
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        assert!(futures_util::poll!(other.as_mut()).is_pending());
        drop(taken);
        let _first = first.await;
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        assert!(futures_util::poll!(other.as_mut()).is_ready());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nobody_is_forgotten_who_waits() {
        let slots = Slots::new(3);
        let crowd = (0..200).map(|_| {
            let slots = Arc::clone(&slots);
            tokio::spawn(async move {
                for _ in 0..50 {
                    let _places = Places::wait(&slots, None).await;
                    assert!(slots.taken() < 203);
                    tokio::task::yield_now().await;
                }
            })
        });
        for one in crowd.collect::<Vec<_>>() {
            one.await.unwrap();
        }
        assert_eq!(slots.taken(), 0);
    }
}

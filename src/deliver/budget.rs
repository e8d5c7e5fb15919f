use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// How long a delivery may take. Once it has ended no attempt starts; one whose bytes
/// were written runs to its own timeout (contract §5, "The sender hangs up").
#[derive(Clone, Copy)]
pub struct Budget<'a> {
    /// When it ends in any case.
    pub deadline: Instant,
    /// It ends at once when nobody waits for the answer any more.
    pub hung_up: &'a HungUp,
}

/// Whether the sender has hung up before it was answered. It will send again, and
/// must not meet attempts that were begun meanwhile.
#[derive(Default)]
pub struct HungUp {
    hung_up: AtomicBool,
    told: Notify,
}

impl Budget<'_> {
    /// Whether nothing may be begun any more.
    pub(super) fn has_ended(&self, now: Instant) -> bool {
        now >= self.deadline || self.hung_up.is_told()
    }

    /// Whether the sender's hanging up ended it before its time.
    pub fn is_cut_short(&self, now: Instant) -> bool {
        now < self.deadline && self.hung_up.is_told()
    }

    /// Waits for `work` until the budget ends; then `None`.
    pub(super) async fn bound<F: Future>(&self, work: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.hung_up.wait() => None,
            () = sleep_until(self.deadline) => None,
        }
    }
}

impl HungUp {
    /// Of a sender that waits.
    pub const fn new() -> Self {
        Self {
            hung_up: AtomicBool::new(false),
            told: Notify::const_new(),
        }
    }

    /// Tells it.
    pub fn tell(&self) {
        self.hung_up.store(true, Ordering::Release);
        self.told.notify_waiters();
    }

    fn is_told(&self) -> bool {
        self.hung_up.load(Ordering::Acquire)
    }

    async fn wait(&self) {
        let mut told = pin!(self.told.notified());
        // Counts as waiting from here, so that what is told between the look and the
        // wait is heard.
        told.as_mut().enable();
        if !self.is_told() {
            told.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;

    fn minutes(hung_up: &HungUp) -> Budget<'_> {
        Budget {
            deadline: Instant::now() + Duration::from_secs(60),
            hung_up,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_with_its_time() {
        let hung_up = HungUp::new();
        let budget = minutes(&hung_up);
        assert!(!budget.has_ended(Instant::now()));
        assert_eq!(budget.bound(pending::<()>()).await, None);
        assert!(budget.has_ended(Instant::now()));
    }

    #[tokio::test]
    async fn it_ends_for_those_who_wait_when_the_sender_hangs_up() {
        let hung_up = HungUp::new();
        let budget = minutes(&hung_up);
        let mut waiting = pin!(budget.bound(pending::<()>()));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(!budget.is_cut_short(Instant::now()));
        hung_up.tell();
        assert_eq!(waiting.now_or_never(), Some(None));
        assert!(budget.has_ended(Instant::now()));
        assert!(budget.is_cut_short(Instant::now()));
        assert!(!budget.is_cut_short(budget.deadline));
    }

    #[tokio::test]
    async fn it_ends_for_those_who_come_later_and_not_for_what_is_done() {
        let hung_up = HungUp::new();
        hung_up.tell();
        let budget = minutes(&hung_up);
        assert_eq!(budget.bound(pending::<()>()).now_or_never(), Some(None));
        assert_eq!(budget.bound(async { 7 }).now_or_never(), Some(Some(7)));
    }
}

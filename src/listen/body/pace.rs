use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::{BodyError, BodyRules};

/// A body must come at this pace on the whole (bytes a second), once [`GRACE`] is over.
const PACE: u64 = 16 * 1024;

/// How long a body may take before it is held to [`PACE`].
const GRACE: Duration = Duration::from_secs(2);

/// Holds a body to its time.
pub(super) struct Pace {
    began: Instant,
    until: Instant,
    /// What has come so far (bytes).
    pub(super) received: u64,
    /// Set when something is waited for first, and moved only when it ends.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    pub(super) fn new(rules: BodyRules) -> Self {
        let began = Instant::now();
        Self {
            began,
            until: rules.deadline.min(began + rules.timeout),
            received: 0,
            timer: None,
        }
    }

    /// Waits for what `poll` brings, as long as the body has.
    pub(super) async fn keep<T>(
        &mut self,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Result<T, BodyError> {
        poll_fn(|cx| {
            let limit = self.limit();
            if let Poll::Ready(brought) = poll(cx) {
                // A turn takes long where there is much to do: one that always
                // brings a little is held to its time, too.
                let late = self.received > 0 && Instant::now() > limit;
                return Poll::Ready(if late {
                    Err(BodyError::Slow)
                } else {
                    Ok(brought)
                });
            }
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(sleep_until(limit)));
            loop {
                if limit < timer.deadline() || timer.is_elapsed() {
                    timer.as_mut().reset(limit);
                }
                ready!(timer.as_mut().poll(cx));
                if timer.deadline() >= limit {
                    return Poll::Ready(Err(BodyError::Slow));
                }
            }
        })
        .await
    }

    /// When what has come so far is too little: the sender has sent less than
    /// [`PACE`] × (elapsed − [`GRACE`]) from then on.
    fn limit(&self) -> Instant {
        let earned = Duration::from_micros(self.received.saturating_mul(1_000_000) / PACE);
        self.until.min(self.began + GRACE + earned)
    }
}

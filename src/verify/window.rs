use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Rejection;
use crate::setting::OffOr;

/// How far a signed time may be from ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// How long ago; off for any time ago.
    pub(super) tolerance: OffOr<Duration>,
    /// How far ahead.
    pub(super) future_tolerance: Duration,
}

impl Window {
    /// Checks a signed time (Unix seconds): good at exactly the tolerance, bad
    /// one second past it. Both times are whole seconds, because a sender drops
    /// the fraction of its own.
    ///
    /// # Errors
    /// [`Rejection::TooOld`] and [`Rejection::TooNew`].
    pub(super) fn check(&self, signed: u64, now: SystemTime) -> Result<(), Rejection> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let past = |distance: u64, tolerance| {
            Duration::from_secs(distance)
                .checked_sub(tolerance)
                .filter(|by| !by.is_zero())
        };
        if let OffOr::On(tolerance) = self.tolerance
            && let Some(by) = past(now.saturating_sub(signed), tolerance)
        {
            return Err(Rejection::TooOld { by });
        }
        if let Some(by) = past(signed.saturating_sub(now), self.future_tolerance) {
            return Err(Rejection::TooNew { by });
        }
        Ok(())
    }
}

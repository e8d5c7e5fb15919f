//! What no key of its source signed: was it meant for another source? The commonest
//! mistake with several senders is to give one the path, or the key, of another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::trace::Trace;
use super::{Gateway, Shared, Source};
use crate::listen::Held;
use crate::message::MessageId;
use crate::verify::{Rejection, Unproven};

impl Gateway {
    /// Tells the log, and nobody else, when a key of another source signed it.
    ///
    /// Keys are tried beside the request, which is answered meanwhile, so that the
    /// time of the answer tells nothing either; one request at a time and seldom,
    /// so that forgeries buy next to no processor time with it.
    pub(super) fn look_elsewhere(
        self: &Arc<Self>,
        unproven: Box<Unproven>,
        held: Held,
        trace: &Trace,
    ) {
        let (Rejection::NoKeyMatched, Some(source)) = (unproven.rejection, &trace.source) else {
            return;
        };
        if self.sources.len() < 2 || !self.shared.looks.begin() {
            return;
        }
        let look = Look {
            _begun: Begun {
                shared: Arc::clone(&self.shared),
                at: Instant::now(),
            },
            gateway: Arc::clone(self),
            source: Arc::clone(source),
            unproven,
            request: trace.request.as_str().to_owned(),
            id: trace.id.clone(),
            _held: held,
        };
        let token = self.shared.tasks.token();
        tokio::task::spawn_blocking(move || {
            look.run();
            drop(token);
        });
    }
}

/// A look at one request.
struct Look {
    _begun: Begun,
    gateway: Arc<Gateway>,
    source: Arc<Source>,
    unproven: Box<Unproven>,
    request: String,
    id: Option<MessageId>,
    /// The body is counted for as long as it is looked at.
    _held: Held,
}

impl Look {
    fn run(&self) {
        let others = self.gateway.sources.values();
        let signed = others
            .filter(|other| other.name != self.source.name)
            .find_map(|other| Some((&other.name, other.verifier.signed(&self.unproven)?)));
        if let Some((other, key)) = signed {
            tracing::warn!(
                request = self.request.as_str(),
                source = &*self.source.name,
                id = self.id.as_ref().map(MessageId::as_str),
                "no key of `{}` signed this, but key `{key}` of source `{other}` did: the sender posts to the wrong path, or the keys of the two are mixed up",
                self.source.name,
            );
        }
    }
}

/// When the next look may be taken.
pub(super) struct Looks {
    since: Instant,
    /// Nanoseconds after `since`; [`UNDER_WAY`] while one is taken.
    next: AtomicU64,
}

const UNDER_WAY: u64 = u64::MAX;
/// From the end of one look to the beginning of the next, at least.
const PAUSE: Duration = Duration::from_millis(200);
/// And so many times as long as the look took: never over a hundredth of a core.
const SELDOM: u32 = 100;

impl Default for Looks {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            next: AtomicU64::new(0),
        }
    }
}

impl Looks {
    /// Whether a look may be taken now; then [`Looks::ended`] has to follow.
    fn begin(&self) -> bool {
        let next = self.next.load(Ordering::Relaxed);
        let (taken, found) = (UNDER_WAY, Ordering::Relaxed);
        next <= nanoseconds(self.since.elapsed())
            && self
                .next
                .compare_exchange(next, taken, found, found)
                .is_ok()
    }

    fn ended(&self, took: Duration) {
        let pause = took.saturating_mul(SELDOM).max(PAUSE);
        let next = nanoseconds(self.since.elapsed().saturating_add(pause));
        self.next.store(next, Ordering::Relaxed);
    }
}

/// Enough for five centuries.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(UNDER_WAY - 1)
}

/// A look that was begun; dropping it ends it, also when it never ran.
struct Begun {
    shared: Arc<Shared>,
    at: Instant,
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.shared.looks.ended(self.at.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_look_at_a_time_and_none_for_a_hundred_times_as_long_as_it_took() {
        let looks = Looks::default();
        assert!(looks.begin());
        assert!(!looks.begin(), "one is under way");
        looks.ended(Duration::from_secs(36));
        assert!(!looks.begin());
        let next = Duration::from_nanos(looks.next.load(Ordering::Relaxed));
        assert!(next >= Duration::from_secs(3600), "{next:?}");
        looks.next.store(0, Ordering::Relaxed);
        assert!(looks.begin());
        looks.ended(Duration::ZERO);
        assert!(!looks.begin(), "a pause at least");
    }
}

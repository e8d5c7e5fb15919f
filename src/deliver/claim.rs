use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// The say over something that was handed over and waits to be begun: whoever of
/// the two takes it first has it. This is for who waits for the outcome; dropping
/// it keeps what was not begun from being begun.
pub(super) struct Claim(Arc<AtomicU8>);

/// The same, for who is to begin it.
pub(super) struct Turn(Arc<AtomicU8>);

const WAITING: u8 = 0;
const BEGUN: u8 = 1;
const TAKEN_BACK: u8 = 2;

impl Claim {
    /// Both sides of one say.
    pub(super) fn new() -> (Self, Turn) {
        let state = Arc::new(AtomicU8::new(WAITING));
        (Self(Arc::clone(&state)), Turn(state))
    }

    /// Keeps it from being begun; false when it was begun.
    pub(super) fn take_back(&self) -> bool {
        take(&self.0, TAKEN_BACK)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.take_back();
    }
}

impl Turn {
    /// Whether it is to be begun now: false when it was taken back.
    pub(super) fn begin(&self) -> bool {
        take(&self.0, BEGUN)
    }
}

fn take(state: &AtomicU8, to: u8) -> bool {
    state
        .compare_exchange(WAITING, to, Ordering::AcqRel, Ordering::Acquire)
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_first_has_the_say() {
        let (claim, turn) = Claim::new();
        assert!(turn.begin());
        assert!(!claim.take_back());

        let (claim, turn) = Claim::new();
        assert!(claim.take_back());
        assert!(!turn.begin());

        let (claim, turn) = Claim::new();
        drop(claim);
        assert!(!turn.begin());
    }
}

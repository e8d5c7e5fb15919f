use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::Instant;

/// A turn of a runtime with time to spare takes some tens of microseconds.
const BEHIND: Duration = Duration::from_millis(1);

/// How long who finds no room waits for some while the runtime is behind.
pub const PATIENCE: Duration = Duration::from_millis(200);

/// Whether the present runtime has more to do than it can at once: it did not come
/// back to this task for a millisecond.
///
/// Who finds a limit reached asks this before it says no. A runtime that is behind
/// reads many requests before it hears the answers that already wait for it, so a
/// limit is reached although the destination is not slow: then a short wait serves
/// everybody, and saying no would cost about as much as the delivery. One that is
/// not behind has heard all, and waiting would only make others late.
pub async fn is_behind() -> bool {
    let asked = Instant::now();
    yield_now().await;
    asked.elapsed() >= BEHIND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_runtime_is_behind_while_another_task_keeps_it() {
        assert!(!is_behind().await);
        tokio::spawn(tokio::time::advance(2 * BEHIND));
        assert!(is_behind().await);
    }
}

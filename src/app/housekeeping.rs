use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::State;
use super::watch;
use crate::observe::rfc3339;

/// What has to be done from time to time: the ledger's tidying, a look at
/// sources that have gone silent, and at the files when `server.watch` says so.
pub(super) async fn run(state: Arc<State>) {
    let mut every_second = interval(Duration::from_secs(1));
    every_second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silent = Silences::new(state.shared.clock.now());
    let mut next_look = Instant::now() + watch::EVERY;
    loop {
        every_second.tick().await;
        let ledger = Arc::clone(&state.shared.ledger);
        // Tidying a large ledger may take a while.
        let _ = tokio::task::spawn_blocking(move || ledger.tick()).await;
        state.shared.ledger.upkeep().await;
        silent.look(&state);
        if Instant::now() >= next_look {
            next_look = Instant::now() + watch::EVERY;
            look_at_files(&state).await;
        }
    }
}

async fn look_at_files(state: &Arc<State>) {
    let current = state.current.load_full();
    let Some(mut watch) = state.watching().take() else {
        return;
    };
    let looked = tokio::task::spawn_blocking(move || {
        let changed = watch.changed(&watch::files(&current.config));
        (watch, changed)
    });
    let Ok((watch, changed)) = looked.await else {
        return;
    };
    // A reload that came meanwhile has looked for itself.
    state.watching().get_or_insert(watch);
    if changed {
        // What came of it is logged.
        let _ = state.reload().await;
    }
}

/// Which sources are silent for longer than their `expect_every`.
struct Silences {
    started: SystemTime,
    /// Those that were told, by name.
    told: HashSet<Arc<str>>,
}

impl Silences {
    fn new(started: SystemTime) -> Self {
        Self {
            started,
            told: HashSet::new(),
        }
    }

    /// Tells each silence once, and its end.
    fn look(&mut self, state: &State) {
        let _showing = state.showing();
        let current = state.current.load();
        let now = state.shared.clock.now();
        for source in &current.config.sources {
            let name = source.name.shared();
            let Some(expected) = source.source.expect_every else {
                self.told.remove(&name);
                continue;
            };
            let last = state.shared.metrics.source(&name).last_verified.get();
            let last = UNIX_EPOCH + Duration::from_secs_f64(last.max(0.0));
            let since = last.max(self.started);
            let silent = now.duration_since(since).unwrap_or_default() > expected;
            if silent && self.told.insert(Arc::clone(&name)) {
                tracing::warn!(
                    source = &*name,
                    since = rfc3339(since),
                    expected_seconds = expected.as_secs(),
                    "no verified message for longer than `expect_every`"
                );
            } else if !silent && self.told.remove(&name) {
                tracing::info!(source = &*name, "messages come again");
            }
        }
    }
}

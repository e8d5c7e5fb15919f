use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::runtime::Handle;

use super::State;
use crate::admin::{
    DestinationStatus, KeyStatus, Readiness, SourceStatus, Status, Subject, same_token,
};
use crate::deliver::CircuitState;
use crate::ledger::{Forgotten, LedgerAway, Look};
use crate::observe::{RecentRefusal, rfc3339};
use crate::setting::{Problems, Secret};
use crate::verify::VerifyKeys;

/// The running hookward, as its admin listener sees it.
pub(super) struct Admin(pub(super) Arc<State>);

impl Subject for Admin {
    fn readiness(&self) -> Readiness {
        let current = self.0.current.load();
        let ledger = self.0.shared.ledger.up().err();
        let ledger = ledger.map(|away| format!("ledger {}", away.reason));
        let destinations = current.destinations.iter();
        let mut degraded: Vec<String> = ledger.into_iter().collect();
        degraded.extend(self.0.queues.degraded());
        degraded.extend(destinations.filter_map(|destination| destination.degraded()));
        Readiness {
            not_ready: self.0.phase().not_ready(),
            degraded,
        }
    }

    fn metrics(&self) -> Option<String> {
        self.0.shared.ledger.count();
        let _showing = self.0.showing();
        for destination in &self.0.current.load().destinations {
            let state = destination.state();
            self.0.shared.metrics.show_destination(
                destination.name().as_str(),
                state.up,
                state.circuit != CircuitState::Closed,
            );
        }
        match self.0.shared.metrics.text() {
            Ok(text) => Some(text),
            Err(error) => {
                tracing::error!(%error, "the metrics cannot be written");
                None
            }
        }
    }

    fn status(&self) -> Status {
        let _showing = self.0.showing();
        let current = self.0.current.load();
        let config = &current.config;
        Status {
            version: env!("CARGO_PKG_VERSION"),
            sources: config.sources.iter().map(|s| self.0.source(s)).collect(),
            destinations: config
                .destinations
                .iter()
                .zip(&current.destinations)
                .map(|(config, destination)| {
                    let state = destination.state();
                    DestinationStatus {
                        name: config.name.to_string(),
                        target: config.summary(),
                        required: config.required,
                        state: if state.up { "up" } else { "away" },
                        degraded: destination.degraded(),
                        circuit: state.circuit.as_str(),
                        in_flight: state.in_flight,
                    }
                })
                .collect(),
        }
    }

    fn refusals(&self) -> Vec<RecentRefusal> {
        self.0.shared.recent.newest_first()
    }

    async fn look_up(&self, source: &str, id: &str) -> Result<Option<Look>, LedgerAway> {
        self.0.shared.ledger.lookup(source, id).await
    }

    async fn forget(
        &self,
        source: &str,
        id: &str,
        destination: Option<&str>,
    ) -> Result<Forgotten, LedgerAway> {
        let ledger = &self.0.shared.ledger;
        ledger.forget(source, id, destination).await
    }

    async fn forget_since(
        &self,
        source: &str,
        since: SystemTime,
    ) -> Result<Option<u64>, LedgerAway> {
        let current = self.0.current.load_full();
        let mut sources = current.config.sources.iter();
        let Some(known) = sources.find(|known| known.name.as_str() == source) else {
            return Ok(None);
        };
        let (ledger, source) = (Arc::clone(&self.0.shared.ledger), known.name.clone());
        let runtime = Handle::current();
        // It looks at every id, which may take a while.
        let forgetting = tokio::task::spawn_blocking(move || {
            runtime.block_on(ledger.forget_since(source.as_str(), since))
        });
        match forgetting.await {
            Ok(forgotten) => forgotten.map(Some),
            Err(error) => Err(LedgerAway {
                reason: error.to_string(),
            }),
        }
    }

    async fn reload(&self) -> Result<Problems, Problems> {
        self.0.reload().await
    }

    fn allows(&self, given: &[u8]) -> Option<bool> {
        let current = self.0.current.load();
        let token = current.config.admin.token.as_ref()?;
        Secret::expose(token).map(|token| same_token(given, token))
    }

    fn now(&self) -> SystemTime {
        self.0.shared.clock.now()
    }
}

impl State {
    fn source(&self, source: &crate::config::Source) -> SourceStatus {
        let name = source.name.as_str();
        let metrics = &self.shared.metrics;
        let keys = match &source.verify.keys {
            VerifyKeys::DangerouslyUnverified => &[][..],
            VerifyKeys::Keys(keys) => keys,
        };
        SourceStatus {
            name: name.to_owned(),
            path: source.source.path.clone(),
            queue: source.queue.as_ref().map(ToString::to_string),
            unverified: matches!(source.verify.keys, VerifyKeys::DangerouslyUnverified),
            last_verified: when(metrics.source(name).last_verified.get()),
            keys: keys
                .iter()
                .map(|key| KeyStatus {
                    name: key.name.to_string(),
                    kept: key.source.to_string(),
                    last_verified: when(metrics.key(name, &key.name).last_verified.get()),
                })
                .collect(),
        }
    }
}

/// A gauge of Unix seconds as a time; 0 is never.
fn when(seconds: f64) -> Option<String> {
    (seconds > 0.0).then(|| rfc3339(UNIX_EPOCH + Duration::from_secs_f64(seconds)))
}

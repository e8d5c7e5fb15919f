use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio_util::sync::CancellationToken;

use super::State;
use crate::config::Config;
use crate::consume::{Consumer, Line, Message, QueueConfig, Share, Standing, Verdict};
use crate::gateway::Shared;
use crate::setting::{Name, Place, Problem, Problems, Severity};

/// The consumers of the sources that read a queue.
#[derive(Default)]
pub(super) struct Queues(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    running: Vec<Running>,
    /// Nothing is begun any more.
    stopped: bool,
}

struct Running {
    source: Name,
    config: QueueConfig,
    standing: Arc<Standing>,
    stop: CancellationToken,
}

/// The consumers of a configuration, those that are new not yet begun.
pub(super) struct Prepared(Vec<(Running, Option<Consumer>)>);

impl Queues {
    /// Prepares the consumers of a configuration. One whose queue did not change
    /// goes on as it is.
    ///
    /// # Errors
    /// Each that cannot be prepared.
    pub(super) fn prepare(&self, config: &Config, shared: &Shared) -> Result<Prepared, Problems> {
        let inner = self.inner();
        let mut problems = Problems::default();
        let mut prepared = Vec::new();
        for (source, wanted) in config.queues() {
            let known = inner.running.iter().find(|running| {
                running.source == *source && running.config == wanted && !inner.stopped
            });
            if let Some(known) = known {
                prepared.push((known.again(), None));
                continue;
            }
            let stop = CancellationToken::new();
            let metrics = shared.metrics.queue(source.as_str());
            match Consumer::new(source.shared(), wanted.clone(), metrics, stop.clone()) {
                Ok(consumer) => prepared.push((
                    Running {
                        source: source.clone(),
                        config: wanted,
                        standing: consumer.standing(),
                        stop,
                    },
                    Some(consumer),
                )),
                Err(why) => problems.push(Problem {
                    severity: Severity::Error,
                    key: format!("sources.{source}"),
                    message: format!("cannot be opened: {why}"),
                    place: Place::Nowhere,
                    hint: None,
                }),
            }
        }
        match problems.is_empty() {
            true => Ok(Prepared(prepared)),
            false => Err(problems),
        }
    }

    /// Begins the new ones, and stops those that are no more: they finish what they
    /// have begun. To be called in a tokio runtime.
    pub(super) fn change(&self, state: &Arc<State>, prepared: Prepared) {
        let mut inner = self.inner();
        if inner.stopped {
            return;
        }
        let mut running = Vec::new();
        let mut begun = Vec::new();
        for (wanted, consumer) in prepared.0 {
            begun.extend(consumer.map(|consumer| (consumer, wanted.source.shared())));
            running.push(wanted);
        }
        for old in inner.running.drain(..) {
            let stays = |new: &Running| Arc::ptr_eq(&new.standing, &old.standing);
            if !running.iter().any(stays) {
                old.stop.cancel();
            }
        }
        inner.running = running;
        for (consumer, source) in begun {
            let line = TakenDown {
                state: Arc::clone(state),
                source,
            };
            // A drain waits for it, as it does for requests.
            state.shared.tasks.spawn(consumer.run(line));
        }
    }

    /// From now on nothing is begun; what is under way is finished.
    pub(super) fn stop(&self) {
        let mut inner = self.inner();
        inner.stopped = true;
        inner
            .running
            .iter()
            .for_each(|running| running.stop.cancel());
    }

    /// Which of them do not get messages at the moment, and why.
    pub(super) fn degraded(&self) -> Vec<String> {
        let inner = self.inner();
        let told = inner.running.iter().filter_map(|running| {
            let why = running.standing.degraded()?;
            Some(format!("source `{}`: {why}", running.source))
        });
        told.collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    fn again(&self) -> Self {
        Self {
            source: self.source.clone(),
            config: self.config.clone(),
            standing: Arc::clone(&self.standing),
            stop: self.stop.clone(),
        }
    }
}

/// The line of whatever configuration is in force when a message is tried.
struct TakenDown {
    state: Arc<State>,
    source: Arc<str>,
}

impl Line for TakenDown {
    fn hold(&self, bytes: usize) -> Share {
        Arc::new(self.state.shared.buffers.hold(bytes))
    }

    fn now(&self) -> SystemTime {
        self.state.shared.clock.now()
    }

    async fn take(&self, message: &Message, stop: &CancellationToken) -> Verdict {
        let gateway = Arc::clone(&self.state.current.load().gateway);
        gateway.take(&self.source, message, stop).await
    }
}

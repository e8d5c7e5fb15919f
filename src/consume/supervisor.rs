use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::amqp::{Backoff, Connector, Link};
use crate::observe::QueueMetrics;

use super::handling::Handling;
use super::schedule::Schedule;
use super::session::{Ended, NoSession, Session};
use super::{Line, QueueConfig};

/// Keeps a connection to the broker and consumes from its queue. It connects anew
/// itself: with lapin's own recovery, nobody would learn that messages are back in
/// the queue.
pub struct Consumer {
    source: Arc<str>,
    config: QueueConfig,
    connector: Connector,
    metrics: QueueMetrics,
    standing: Arc<Standing>,
    stop: CancellationToken,
}

/// How it stands with a queue; shared with who asks.
#[derive(Default)]
pub struct Standing(Mutex<State>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum State {
    /// The first attempt to connect is under way.
    #[default]
    Opening,
    /// Messages come.
    Consuming,
    /// There is no connection, and why.
    Away(String),
    /// The broker does not let it be consumed, and why: it is not there, perhaps.
    Missing(String),
}

impl Standing {
    /// Why messages do not come at the moment, if so.
    pub fn degraded(&self) -> Option<String> {
        match &*self.lock() {
            State::Consuming => None,
            State::Opening => Some("connecting to the broker".into()),
            State::Away(why) => Some(format!("the broker is away: {why}")),
            State::Missing(why) => Some(why.clone()),
        }
    }

    /// Sets it; whether it is another than before, reasons aside.
    fn set(&self, state: State) -> bool {
        let mut before = self.lock();
        let other = std::mem::discriminant(&*before) != std::mem::discriminant(&state);
        *before = state;
        other
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often a queue that is missing is looked for.
const LOOK: Duration = Duration::from_secs(1);

impl Consumer {
    /// Prepares to consume for a source, until `stop`.
    ///
    /// # Errors
    /// In words, when certificates or secrets were not read or cannot be used.
    pub fn new(
        source: Arc<str>,
        config: QueueConfig,
        metrics: QueueMetrics,
        stop: CancellationToken,
    ) -> Result<Self, String> {
        Ok(Self {
            connector: Connector::new(&config.broker, &source)?,
            source,
            config,
            metrics,
            standing: Arc::default(),
            stop,
        })
    }

    /// How it stands with the queue, for who asks.
    pub fn standing(&self) -> Arc<Standing> {
        Arc::clone(&self.standing)
    }

    /// Consumes until it is stopped. Then it begins nothing, finishes the attempts
    /// under way, and leaves the rest to the queue.
    pub async fn run<L: Line>(self, line: L) {
        let handling = Handling {
            source: &self.source,
            line: &line,
            schedule: Schedule::new(self.config.retry_delay),
            max_attempts: self.config.max_attempts,
            metrics: &self.metrics,
            stop: &self.stop,
        };
        let mut backoff = Backoff::default();
        let mut first = 0;
        loop {
            let tried = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                tried = self.connector.connect(first) => tried,
            };
            match tried {
                Ok(link) => {
                    let began = Instant::now();
                    let ended = self.serve(&link, &handling).await;
                    backoff.ended(began, Instant::now(), false);
                    match ended {
                        Ended::Stopped => return link.close().await,
                        Ended::Lost(why) => self.away(why),
                        Ended::Cancelled => self.missing("the broker ended it".into()),
                    }
                }
                Err(why) => self.away(why),
            }
            first = first.wrapping_add(1);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = sleep(backoff.wait(Instant::now())) => {}
            }
        }
    }

    /// Consumes over a connection for as long as it lasts; waits for the queue where
    /// it is missing.
    async fn serve<L: Line>(&self, link: &Link, handling: &Handling<'_, L>) -> Ended {
        loop {
            let opened = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ended::Stopped,
                opened = Session::open(&link.connection, &self.config) => opened,
            };
            match opened {
                Ok(session) => {
                    self.standing.set(State::Consuming);
                    tracing::info!(
                        source = &*self.source,
                        broker = %link.node,
                        queue = %self.config.queue,
                        "consuming from the queue"
                    );
                    return session.run(&link.connection, handling).await;
                }
                Err(NoSession::Refused(why)) => self.missing(why),
                Err(NoSession::Lost(why)) => return Ended::Lost(why),
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ended::Stopped,
                () = sleep(LOOK) => {}
            }
        }
    }

    fn away(&self, why: String) {
        if self.standing.set(State::Away(why.clone())) {
            tracing::warn!(source = &*self.source, reason = %why, "the broker is away");
        } else {
            tracing::debug!(source = &*self.source, reason = %why, "the broker is still away");
        }
    }

    fn missing(&self, why: String) {
        if self.standing.set(State::Missing(why.clone())) {
            tracing::warn!(
                source = &*self.source,
                queue = %self.config.queue,
                reason = %why,
                "the queue cannot be consumed from"
            );
        }
    }
}

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt as _};
use lapin::Event;
use prometheus::IntGauge;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::config::{Declare, RabbitTarget};
use super::connect::{Backoff, Connector, Link, told};
use super::flight::Interruption;
use super::publisher::{Ended, OPEN, Publisher};
use super::queue::{Queue, Standing};
use super::topology::{self, Found};
use crate::setting::Escaped;

/// Keeps a connection to the broker, and channels on it that publish what waits
/// in the queue. It connects anew itself: with lapin's own recovery, confirms
/// hang for as long as the broker is away.
pub(super) struct Supervisor {
    pub(super) name: String,
    pub(super) connector: Connector,
    pub(super) target: RabbitTarget,
    pub(super) declare: Option<Declare>,
    pub(super) confirm_timeout: Duration,
    pub(super) queue: Arc<Queue>,
    pub(super) up: IntGauge,
    pub(super) notice: Arc<Notice>,
    /// The destination is no more.
    pub(super) stop: CancellationToken,
    /// Whether the present connection has confirmed anything.
    pub(super) proven: AtomicBool,
}

/// Something that does not keep events from passing and should be known.
#[derive(Default)]
pub(super) struct Notice(std::sync::Mutex<Option<String>>);

impl Notice {
    pub(super) fn get(&self) -> Option<String> {
        self.lock().clone()
    }

    fn set(&self, text: Option<String>) {
        *self.lock() = text;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Channels of one connection: while one tries an exchange that is not proven, or is
/// lost over one, the other goes on.
const CHANNELS: usize = 2;
/// How often what is missing on the broker is looked for.
const LOOK: Duration = Duration::from_secs(1);
/// How often what is there is looked for.
const LOOK_AROUND: Duration = Duration::from_secs(15);
/// How often it is looked whether the connection is open, whatever was told.
const TICK: Duration = Duration::from_millis(500);

impl Supervisor {
    pub(super) async fn run(self) {
        // What is connected ends in order, but not for ever.
        let cut = async {
            self.stop.cancelled().await;
            sleep(self.confirm_timeout + OPEN).await;
        };
        tokio::select! {
            biased;
            () = self.supervise() => {}
            () = cut => {}
        }
        self.up.set(0);
    }

    async fn supervise(&self) {
        let mut backoff = Backoff::default();
        let mut first = 0;
        loop {
            let tried = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                tried = self.connector.connect(first) => tried,
            };
            let why = match tried {
                Ok(link) => {
                    let began = Instant::now();
                    let ended = self.serve(link).await;
                    let proven = self.proven.swap(false, Ordering::Relaxed);
                    backoff.ended(began, Instant::now(), proven);
                    match ended {
                        Ended::Stopped => return,
                        Ended::Worn => continue,
                        Ended::Lost(why) | Ended::Silent(why) => why,
                    }
                }
                Err(why) => why,
            };
            first = first.wrapping_add(1);
            self.away(why);
            self.pause(backoff.wait(Instant::now())).await;
        }
    }

    /// Waits before the next attempt; less long once somebody asks for the broker.
    async fn pause(&self, wait: Duration) {
        let asked = async {
            sleep(wait.min(Backoff::LONG)).await;
            self.queue.wanted().await;
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            () = sleep(wait) => {}
            () = asked => {}
        }
    }

    fn away(&self, why: String) {
        self.up.set(0);
        let was_there = matches!(self.queue.standing(), Standing::Opening | Standing::Ready);
        if was_there {
            tracing::warn!(destination = %self.name, reason = %why, "the broker is away");
        } else {
            tracing::debug!(destination = %self.name, reason = %why, "the broker is still away");
        }
        self.queue.stand(Standing::Away(why));
    }

    /// Publishes over a connection for as long as it lasts.
    async fn serve(&self, link: Link) -> Ended {
        let events = link.connection.events_listener();
        let found = tokio::select! {
            biased;
            () = self.stop.cancelled() => {
                link.close().await;
                return Ended::Stopped;
            }
            found = topology::prepare(&link.connection, &self.target, self.declare.as_ref()) => found,
        };
        if let Found::Lost(why) = found {
            return Ended::Lost(why);
        }
        self.found(found);
        tracing::info!(destination = %self.name, broker = %link.node, "connected to the broker");
        let ended = self.publish(&link, events).await;
        match &ended {
            Ended::Stopped => link.close().await,
            // The channels are done: what they had begun is told.
            Ended::Lost(_) | Ended::Silent(_) | Ended::Worn => drop(link),
        }
        ended
    }

    async fn publish(&self, link: &Link, events: impl Stream<Item = Event>) -> Ended {
        let (tell, told) = watch::channel(None);
        let suspicion = Notify::new();
        self.queue.forget();
        let channels = (0..CHANNELS).map(|_| {
            let channel = Publisher {
                supervisor: self,
                link,
                told: told.clone(),
                suspicion: &suspicion,
            };
            channel.run()
        });
        let mut channels: FuturesUnordered<_> = channels.collect();
        let ended = {
            let mut watching = pin!(self.watch(link, events, &tell));
            let mut looking = pin!(self.look(link, &suspicion));
            loop {
                tokio::select! {
                    biased;
                    why = &mut watching => break Ended::Lost(why),
                    never = &mut looking => match never {},
                    ended = channels.next() => match ended {
                        None => break Ended::Stopped,
                        Some(Ended::Stopped) => {}
                        Some(ended) => break ended,
                    },
                }
            }
        };
        // First nothing new goes to the channels, then they give up what they have.
        let last = match &ended {
            Ended::Stopped => return ended,
            Ended::Lost(why) => {
                self.away(why.clone());
                Interruption::Lost(why.clone())
            }
            Ended::Silent(why) => {
                self.away(format!("it is silent: {why}"));
                Interruption::Silent(why.clone())
            }
            Ended::Worn => {
                self.queue.stand(Standing::Opening);
                Interruption::Lost("it is connected to anew".to_owned())
            }
        };
        tell.send_replace(Some(last));
        while channels.next().await.is_some() {}
        ended
    }

    /// Follows the connection until it is lost; why.
    async fn watch(
        &self,
        link: &Link,
        events: impl Stream<Item = Event>,
        tell: &watch::Sender<Option<Interruption>>,
    ) -> String {
        let mut events = pin!(events);
        let status = link.connection.status();
        let mut tick = interval(TICK);
        let mut stopping = false;
        let mut before = None;
        if status.blocked() {
            before = self.blocked("since before it was asked".into(), tell);
        }
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled(), if !stopping => {
                    stopping = true;
                    self.queue.close();
                }
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(why)) => {
                        before = self.blocked(Escaped(&why).to_string(), tell).or(before);
                    }
                    Some(Event::ConnectionUnblocked) => {
                        tell.send_replace(None);
                        self.queue.stand(before.take().unwrap_or(Standing::Ready));
                        self.up.set(i64::from(self.queue.standing() == Standing::Ready));
                        tracing::info!(destination = %self.name, "the broker takes events again");
                    }
                    // Also told of every channel that ends.
                    Some(Event::Error(error)) if !status.connected() => return told(&error),
                    Some(_) => {}
                    None => return "the connection ended".into(),
                },
                _ = tick.tick() => if !status.connected() {
                    return "the connection ended".into();
                },
            }
        }
    }

    /// The broker takes nothing any more. Answers with how it stood before.
    fn blocked(&self, why: String, tell: &watch::Sender<Option<Interruption>>) -> Option<Standing> {
        let before = self.queue.standing();
        tracing::warn!(destination = %self.name, reason = %why, "the broker is blocked");
        self.up.set(0);
        self.queue.stand(Standing::Blocked(why.clone()));
        tell.send_replace(Some(Interruption::Blocked(why)));
        Some(before).filter(|before| !matches!(before, Standing::Blocked(_)))
    }

    /// Looks every now and then whether what is published to is there.
    async fn look(&self, link: &Link, suspicion: &Notify) -> Infallible {
        loop {
            let missing = matches!(self.queue.standing(), Standing::Missing(_));
            let pause = if missing { LOOK } else { LOOK_AROUND };
            tokio::select! {
                () = sleep(pause) => {}
                () = suspicion.notified(), if !missing => {}
            }
            if matches!(self.queue.standing(), Standing::Blocked(_)) {
                continue;
            }
            let found = topology::look(&link.connection, &self.target).await;
            // Whether the connection is lost is seen elsewhere, and while it is
            // blocked nothing is learned.
            let standing = self.queue.standing();
            let settled = matches!(standing, Standing::Ready | Standing::Missing(_));
            match &found {
                Found::Missing(_) if settled => self.found(found),
                Found::There if matches!(standing, Standing::Missing(_)) => self.found(found),
                _ => {}
            }
        }
    }

    /// Stands as the topology was found.
    fn found(&self, found: Found) {
        match found {
            Found::There => {
                self.notice.set(None);
                self.queue.stand(Standing::Ready);
                self.up.set(1);
            }
            Found::Otherwise(why) => {
                tracing::warn!(
                    destination = %self.name,
                    reason = %why,
                    "what is on the broker is not as `declare` wants it, and stays as it is"
                );
                self.notice.set(Some(why));
                self.queue.stand(Standing::Ready);
                self.up.set(1);
            }
            Found::Missing(why) => {
                self.up.set(0);
                if self.queue.stand(Standing::Missing(why.clone())) {
                    tracing::warn!(
                        destination = %self.name,
                        reason = %why,
                        "what events are published to is not on the broker"
                    );
                }
            }
            Found::Lost(_) => {}
        }
    }
}

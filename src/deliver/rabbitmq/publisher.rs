use std::sync::atomic::Ordering;
use std::time::Duration;

use lapin::Channel;
use lapin::options::ConfirmSelectOptions;
use lapin::types::ShortString;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::batch::{self, After};
use super::connect::{Link, told};
use super::flight::Interruption;
use super::queue::Standing;
use super::supervisor::Supervisor;
use super::waiting::{Batch, Shown};

/// Publications of one batch.
const BATCH: usize = 256;
/// For the goodbye of a channel.
const GOODBYE: Duration = Duration::from_millis(500);
/// For opening a channel.
pub(super) const OPEN: Duration = Duration::from_secs(1);
/// So often in a row a channel may fail to open before the connection is given up.
const OPENINGS: u32 = 3;
/// How long confirms may still come once the broker takes nothing any more.
const BLOCKED: Duration = Duration::from_millis(500);
/// Between two tries to open a channel.
const PAUSE: Duration = Duration::from_millis(100);

/// How a connection ended.
pub(super) enum Ended {
    /// The destination is no more, and all that was queued is finished.
    Stopped,
    /// It was lost, and why.
    Lost(String),
    /// It is given up for a fresh one: something of what was given up while the
    /// broker was blocked is still to come on it.
    Worn,
}

/// The one owner of one channel at a time.
pub(super) struct Publisher<'a> {
    pub(super) supervisor: &'a Supervisor,
    pub(super) link: &'a Link,
    pub(super) told: watch::Receiver<Option<Interruption>>,
    pub(super) suspicion: &'a Notify,
    pub(super) channel: Option<Channel>,
}

impl Publisher<'_> {
    /// Publishes one batch after the other: whatever has gathered while the last
    /// one was being confirmed. One event alone goes at once.
    pub(super) async fn run(mut self) -> Ended {
        loop {
            if let Err(ended) = self.open(OPENINGS).await {
                return ended;
            }
            let queue = &self.supervisor.queue;
            let batch = tokio::select! {
                biased;
                why = lost(&mut self.told) => return Ended::Lost(why),
                batch = queue.take(BATCH) => batch,
            };
            let Some(batch) = batch else {
                self.leave().await;
                return Ended::Stopped;
            };
            match self.publish(batch).await {
                Ok(After::Clean) => {}
                Ok(After::Spent) => {
                    self.channel = None;
                    self.suspicion.notify_one();
                    if self.unblocked().await {
                        return Ended::Worn;
                    }
                }
                Ok(After::Silent) => {
                    self.channel = None;
                    // Slow, or not there at all: then nobody is to wait for it.
                    if let Err(ended) = self.open(1).await {
                        return ended;
                    }
                }
                Err(ended) => return ended,
            }
        }
    }

    async fn publish(&mut self, batch: Batch) -> Result<After, Ended> {
        let queue = &self.supervisor.queue;
        let Batch {
            exchange,
            jobs,
            trial,
        } = batch;
        // The channel may have been closed while nobody looked at it.
        let channel = match self.open(1).await {
            Ok(channel) => channel,
            Err(ended) => {
                let why = match &ended {
                    Ended::Lost(why) => why.clone(),
                    Ended::Stopped | Ended::Worn => "the channel is closed".into(),
                };
                for job in jobs {
                    job.ending.tell(Err(Standing::Away(why.clone()).refusal()));
                }
                queue.learn(exchange, trial, Shown::Nothing);
                return Err(ended);
            }
        };
        let limit = self.supervisor.confirm_timeout;
        let interrupted = interruption(self.told.clone());
        let left = batch::publish(&channel, jobs, limit, interrupted).await;
        if left.exchange == Shown::There {
            self.supervisor.proven.store(true, Ordering::Relaxed);
        }
        // Before it is told: who then sends again must not find it unlearned.
        queue.learn(exchange, trial, left.exchange);
        let after = left.channel;
        left.tell();
        Ok(after)
    }

    /// An open channel with confirms: the one there is, or a fresh one.
    async fn open(&mut self, tries: u32) -> Result<Channel, Ended> {
        if let Some(channel) = &self.channel
            && channel.status().connected()
        {
            return Ok(channel.clone());
        }
        self.channel = None;
        let mut why = String::new();
        for number in 0..tries {
            if number > 0 {
                sleep(PAUSE).await;
            }
            if self.unblocked().await {
                return Err(Ended::Worn);
            }
            let opened = tokio::select! {
                biased;
                why = lost(&mut self.told) => return Err(Ended::Lost(why)),
                opened = open(self.link) => opened,
            };
            match opened {
                Ok(channel) => {
                    self.supervisor.queue.hear();
                    self.channel = Some(channel.clone());
                    return Ok(channel);
                }
                Err(told) => why = told,
            }
        }
        Err(Ended::Lost(why))
    }

    /// Says goodbye to the channel.
    async fn leave(&mut self) {
        if let Some(channel) = self.channel.take() {
            let goodbye = channel.close(200, ShortString::default());
            let _ = timeout(GOODBYE, goodbye).await;
        }
    }

    /// Waits for as long as the broker is blocked; true if it was.
    async fn unblocked(&mut self) -> bool {
        let blocked = |told: &Option<Interruption>| matches!(told, Some(Interruption::Blocked(_)));
        let was = blocked(&self.told.borrow());
        if was {
            // That nobody tells any more is the end of the connection.
            let _ = self.told.wait_for(|told| !blocked(told)).await;
        }
        was
    }
}

/// Opens a channel with confirms.
async fn open(link: &Link) -> Result<Channel, String> {
    let opened = timeout(OPEN, async {
        let channel = link.connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok::<_, lapin::Error>(channel)
    });
    match opened.await {
        Ok(opened) => opened.map_err(|error| told(&error)),
        Err(_) => Err(format!("no channel within {OPEN:?}")),
    }
}

/// Waits until the connection is lost; why.
async fn lost(told: &mut watch::Receiver<Option<Interruption>>) -> String {
    let lost = told.wait_for(|told| matches!(told, Some(Interruption::Lost(_))));
    match lost.await.as_deref() {
        Ok(Some(Interruption::Lost(why))) => why.clone(),
        _ => "the connection ended".into(),
    }
}

/// Waits until the connection is lost, or has been blocked for so long that no
/// confirm is to be expected.
async fn interruption(mut told: watch::Receiver<Option<Interruption>>) -> Interruption {
    loop {
        let some = match told.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(some)) => some.clone(),
            _ => return Interruption::Lost("the connection ended".into()),
        };
        if matches!(some, Interruption::Lost(_)) {
            return some;
        }
        let changed = told.wait_for(|told| *told != Some(some.clone()));
        if timeout(BLOCKED, changed).await.is_err() {
            return some;
        }
    }
}

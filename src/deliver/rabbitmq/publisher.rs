use std::sync::atomic::Ordering;
use std::time::Duration;

use lapin::Channel;
use lapin::options::ConfirmSelectOptions;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::batch::{self, After, Interruption};
use super::connect::{Link, told};
use super::queue::Standing;
use super::supervisor::Supervisor;

/// Publications of one batch.
const BATCH: usize = 128;
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
                return Ended::Stopped;
            };
            // It may have been closed while nobody looked at it.
            if let Err(ended) = self.open(1).await {
                let why = match &ended {
                    Ended::Lost(why) => why.clone(),
                    Ended::Stopped | Ended::Worn => "the channel is closed".into(),
                };
                for job in batch {
                    job.ending.tell(Err(Standing::Away(why.clone()).refusal()));
                }
                return ended;
            }
            let Some(channel) = &self.channel else {
                continue;
            };
            let interrupted = interruption(&mut self.told);
            let limit = self.supervisor.confirm_timeout;
            match batch::publish(channel, batch, limit, interrupted).await {
                After::Clean => self.supervisor.proven.store(true, Ordering::Relaxed),
                After::Spent => {
                    self.channel = None;
                    self.suspicion.notify_one();
                    if self.unblocked().await {
                        return Ended::Worn;
                    }
                }
                After::Silent => {
                    self.channel = None;
                    // Slow, or not there at all: then nobody is to wait for it.
                    if let Err(ended) = self.open(1).await {
                        return ended;
                    }
                }
            }
        }
    }

    /// Has an open channel with confirms, if there is not one already.
    async fn open(&mut self, tries: u32) -> Result<(), Ended> {
        let is_open = |channel: &Channel| channel.status().connected();
        if self.channel.as_ref().is_some_and(is_open) {
            return Ok(());
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
            let opened = timeout(OPEN, async {
                let channel = self.link.connection.create_channel().await?;
                channel
                    .confirm_select(ConfirmSelectOptions::default())
                    .await?;
                Ok::<_, lapin::Error>(channel)
            });
            let opened = tokio::select! {
                biased;
                why = lost(&mut self.told) => return Err(Ended::Lost(why)),
                opened = opened => opened,
            };
            why = match opened {
                Ok(Ok(channel)) => {
                    self.channel = Some(channel);
                    return Ok(());
                }
                Ok(Err(error)) => told(&error),
                Err(_) => format!("no channel within {OPEN:?}"),
            };
        }
        Err(Ended::Lost(why))
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
async fn interruption(told: &mut watch::Receiver<Option<Interruption>>) -> Interruption {
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

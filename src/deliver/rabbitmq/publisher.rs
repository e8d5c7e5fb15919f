use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lapin::Channel;
use lapin::options::ConfirmSelectOptions;
use lapin::types::ShortString;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use super::connect::{Link, told};
use super::flight::{Doubt, Interruption};
use super::queue::Taken;
use super::supervisor::Supervisor;
use super::under_way::Learned;
use super::waiting::Shown;
use super::window::Window;

/// How long an event is held back at most so that more go together with it.
const GATHER: Duration = Duration::from_millis(5);
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
    /// It is given up, because the broker answers nothing: to what.
    Silent(String),
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
}

/// What a channel ended as.
enum After {
    /// It is closed, or something that was under way is still to come on it.
    Spent,
    /// The same, because confirms did not come in time: the broker may be silent.
    Silent,
}

impl Publisher<'_> {
    /// Publishes on one channel after the other.
    pub(super) async fn run(mut self) -> Ended {
        let mut tries = OPENINGS;
        loop {
            let used_up = match self.open(tries).await {
                Ok(channel) => self.use_up(channel).await,
                Err(ended) => return ended,
            };
            tries = match used_up {
                Ok(After::Spent) => {
                    self.suspicion.notify_one();
                    if self.unblocked().await {
                        return Ended::Worn;
                    }
                    OPENINGS
                }
                // Slow, or not there at all: then nobody is to wait for it.
                Ok(After::Silent) => 1,
                Err(ended) => return ended,
            };
        }
    }

    /// Publishes on a channel for as long as it is good for that. One event alone
    /// goes at once; beside what is under way, several go together.
    async fn use_up(&mut self, channel: Channel) -> Result<After, Ended> {
        let supervisor = self.supervisor;
        let queue = &supervisor.queue;
        let mut window = Window::new(channel, supervisor.confirm_timeout);
        let mut interrupted = pin!(interruption(self.told.clone()));
        let mut pause = pin!(sleep(GATHER));
        let mut overdue = false;
        let (doubt, after) = loop {
            if window.is_over() {
                break (None, After::Spent);
            }
            let arrived = queue.arrived();
            match queue.take(window.room(overdue)) {
                Taken::Batch(batch) => {
                    if window.is_empty() {
                        pause.as_mut().reset(Instant::now() + GATHER);
                    }
                    window.publish(batch);
                }
                Taken::Over if window.is_empty() => {
                    leave(window.channel()).await;
                    return Err(Ended::Stopped);
                }
                Taken::Over | Taken::Nothing => {}
            }
            overdue = false;
            let idle = window.is_empty();
            tokio::select! {
                biased;
                why = lost(&mut self.told), if idle => return Err(Ended::Lost(why)),
                why = &mut interrupted, if !idle => {
                    break (Some(Doubt::Interrupted(why)), After::Spent);
                }
                () = poll_fn(|context| window.poll(context)) => {}
                () = &mut pause, if !idle => overdue = true,
                () = arrived => continue,
            }
            let learned = window.settle();
            // Otherwise there is nothing to tell yet.
            if learned.exchange == Shown::There {
                self.learn(window.tried(), learned);
            }
            if overdue {
                let now = Instant::now();
                if window.expire(now) {
                    let silent = Doubt::Silent(supervisor.confirm_timeout);
                    break (Some(silent), After::Silent);
                }
                pause.as_mut().reset(now + GATHER);
            }
        };
        let tried = window.tried();
        self.learn(tried, window.end(doubt));
        Ok(after)
    }

    fn learn(&self, (exchange, trial): (ShortString, bool), learned: Learned) {
        if learned.exchange == Shown::There {
            self.supervisor.proven.store(true, Ordering::Relaxed);
        }
        // Before it is told: who then sends again must not find it unlearned.
        self.supervisor
            .queue
            .learn(exchange, trial, learned.exchange);
        learned.tell();
    }

    /// A fresh channel with confirms.
    async fn open(&mut self, tries: u32) -> Result<Channel, Ended> {
        let mut ended = Ended::Lost(String::new());
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
                    return Ok(channel);
                }
                Err(told) => ended = told,
            }
        }
        Err(ended)
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

/// Says goodbye to a channel.
async fn leave(channel: &Channel) {
    let goodbye = channel.close(200, ShortString::default());
    let _ = timeout(GOODBYE, goodbye).await;
}

/// Opens a channel with confirms; or how the connection ended, if it is not tried again.
async fn open(link: &Link) -> Result<Channel, Ended> {
    let opened = timeout(OPEN, async {
        let channel = link.connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok::<_, lapin::Error>(channel)
    });
    match opened.await {
        Ok(opened) => opened.map_err(|error| Ended::Lost(told(&error))),
        Err(_) => Err(Ended::Silent(format!("no channel within {OPEN:?}"))),
    }
}

/// Waits until the connection is lost; why.
async fn lost(told: &mut watch::Receiver<Option<Interruption>>) -> String {
    let lost = told.wait_for(|told| told.as_ref().is_some_and(Interruption::is_final));
    match lost.await.as_deref() {
        Ok(Some(Interruption::Lost(why) | Interruption::Silent(why))) => why.clone(),
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
        if some.is_final() {
            return some;
        }
        let changed = told.wait_for(|told| *told != Some(some.clone()));
        if timeout(BLOCKED, changed).await.is_err() {
            return some;
        }
    }
}

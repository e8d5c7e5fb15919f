use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::Fuse;
use lapin::Channel;
use lapin::options::ConfirmSelectOptions;
use lapin::types::ShortString;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use super::connect::{Link, told};
use super::flight::Interruption;
use super::queue::Taken;
use super::supervisor::Supervisor;
use super::window::Window;

/// Publications under way on one channel.
const WINDOW: usize = 512;
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
    /// One that was opened to see whether the broker answers.
    pub(super) fresh: Option<Channel>,
}

/// What became of a channel.
enum After {
    /// Everything is finished, and nothing more will come.
    Stopped,
    /// It is closed, or something is still to come on it that nobody waits for.
    Spent,
    /// The same, because confirms did not come in time: the broker may be silent.
    Silent,
    /// The connection was lost, and why.
    Lost(String),
}

impl Publisher<'_> {
    pub(super) async fn run(mut self) -> Ended {
        let mut tries = OPENINGS;
        loop {
            let channel = match self.open(tries).await {
                Ok(channel) => channel,
                Err(ended) => return ended,
            };
            let limit = self.supervisor.confirm_timeout;
            let mut window = Window::new(channel, limit);
            let after = self.fill(&mut window).await;
            // Whoever takes the place of this channel is to look.
            self.supervisor.queue.pass_on();
            tries = OPENINGS;
            match after {
                After::Stopped => {
                    let goodbye = window.channel().close(200, ShortString::default());
                    let _ = timeout(GOODBYE, goodbye).await;
                    return Ended::Stopped;
                }
                After::Lost(why) => return Ended::Lost(why),
                After::Spent => {
                    drop(window);
                    self.suspicion.notify_one();
                    if self.unblocked().await {
                        return Ended::Worn;
                    }
                }
                // Slow, or not there at all: then nobody is to wait for it.
                After::Silent => tries = 1,
            }
        }
    }

    /// Publishes on a channel for as long as it is sound: what arrives goes out
    /// at once, beside what is under way, up to a limit.
    async fn fill(&mut self, window: &mut Window) -> After {
        let queue = &self.supervisor.queue;
        let mut interrupted = pin!(interruption(self.told.clone()));
        let mut fresh = pin!(Fuse::terminated());
        let mut timer = pin!(sleep(Duration::ZERO));
        let mut armed = false;
        loop {
            let mut listens = false;
            if window.is_sound() {
                match queue.take(&window.room(WINDOW)) {
                    Taken::Jobs(jobs) => {
                        window.publish(jobs);
                        continue;
                    }
                    Taken::Nothing => listens = true,
                    Taken::Over if window.is_empty() => return After::Stopped,
                    Taken::Later | Taken::Over => {}
                }
            } else if window.is_empty() {
                return if window.is_late() {
                    After::Silent
                } else {
                    After::Spent
                };
            }
            if !armed && let Some(deadline) = window.deadline() {
                timer.as_mut().reset(deadline);
                armed = true;
            }
            tokio::select! {
                biased;
                cause = &mut interrupted => {
                    let idle = window.is_empty();
                    window.interrupt(&cause);
                    match cause {
                        Interruption::Lost(why) => return After::Lost(why),
                        Interruption::Blocked(_) if !idle => return After::Spent,
                        Interruption::Blocked(_) => {
                            self.unblocked().await;
                            interrupted.set(interruption(self.told.clone()));
                        }
                    }
                }
                () = poll_fn(|context| window.poll(context)) => self.count(window),
                opened = &mut fresh => match opened {
                    Ok(channel) => self.fresh = Some(channel),
                    Err::<_, String>(why) => {
                        window.interrupt(&Interruption::Lost(why.clone()));
                        return After::Lost(why);
                    }
                },
                () = &mut timer, if armed => {
                    armed = false;
                    let was_late = window.is_late();
                    window.expire(Instant::now());
                    // Slow, or not there at all: then the others are not to wait
                    // until they are late, too.
                    if window.is_late() && !was_late && !window.is_empty() {
                        fresh.set(open(self.link).fuse());
                    }
                }
                () = queue.arrived(), if listens => {}
            }
        }
    }

    fn count(&self, window: &Window) {
        if window.confirmed {
            self.supervisor.proven.store(true, Ordering::Relaxed);
        }
    }

    /// An open channel with confirms.
    async fn open(&mut self, tries: u32) -> Result<Channel, Ended> {
        if let Some(channel) = self.fresh.take()
            && channel.status().connected()
        {
            return Ok(channel);
        }
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
                Ok(channel) => return Ok(channel),
                Err(told) => why = told,
            }
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

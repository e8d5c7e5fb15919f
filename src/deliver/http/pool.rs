use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::runtime;
use tokio::time::{Instant, sleep_until, timeout};

use super::connect::{Sender, Writing};

/// The idle connections to one destination, the last used first.
///
/// Where each core has a runtime of its own, a connection stays with the one
/// that opened it: woken from another, every request would cost a system call
/// more. At most `room` connections are kept, and at most twice as many are
/// open, those included whose answers are still being read off.
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    room: usize,
    /// Connections that are open, idle or not.
    open: Arc<AtomicUsize>,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// The longest idle at the front.
    links: VecDeque<Resting>,
    /// Whether somebody will close them when their time comes.
    swept: bool,
}

struct Resting {
    link: Link,
    home: runtime::Id,
    since: Instant,
}

/// An open connection. Dropping it closes it.
pub(super) struct Link {
    pub(super) sender: Sender,
    writing: Writing,
    /// Weak, because a pool owns its idle connections and not they it: a pool
    /// that is dropped closes them.
    shared: Weak<Shared>,
    open: Arc<AtomicUsize>,
}

/// How long a connection may be idle: less than the shortest time after which
/// services close one themselves (Node: 5 s), so that no request meets the close.
const IDLE: Duration = Duration::from_secs(4);

/// Of an answer's body this much is read off so that its connection can be used
/// again (bytes); past it a new connection is cheaper.
const DRAINED: u64 = 64 * 1024;
/// How long that may take.
const DRAIN: Duration = Duration::from_secs(1);

impl Pool {
    /// An empty pool that keeps up to `room` connections.
    pub(super) fn new(room: usize) -> Self {
        Self(Arc::new(Shared {
            room,
            open: Arc::default(),
            idle: Mutex::default(),
        }))
    }

    /// Takes an idle connection that is still open.
    pub(super) fn take(&self, writing: Writing) -> Option<Link> {
        let home = runtime::Handle::current().id();
        // Closed after the lock is let go.
        let mut stale = Vec::new();
        let mut idle = self.0.lock();
        idle.expire(&mut stale);
        let mut index = idle.links.len();
        while index > 0 {
            index -= 1;
            let resting = &idle.links[index];
            if resting.home != home || resting.link.writing != writing {
                continue;
            }
            let Some(resting) = idle.links.remove(index) else {
                continue;
            };
            if resting.link.sender.is_ready() {
                drop(idle);
                return Some(resting.link);
            }
            stale.push(resting);
        }
        // About to open another: make room for it.
        if self.0.open.load(Ordering::Relaxed) >= self.0.room {
            stale.extend(idle.links.pop_front());
        }
        drop(idle);
        None
    }

    /// Idle connections that are still open.
    #[cfg(test)]
    pub(super) fn usable(&self) -> usize {
        let idle = self.0.lock();
        let ready = |resting: &&Resting| resting.link.sender.is_ready();
        idle.links.iter().filter(ready).count()
    }

    /// Takes a new connection in.
    pub(super) fn opened(&self, sender: Sender, writing: Writing) -> Link {
        self.0.open.fetch_add(1, Ordering::Relaxed);
        Link {
            sender,
            writing,
            shared: Arc::downgrade(&self.0),
            open: Arc::clone(&self.0.open),
        }
    }
}

impl Link {
    /// Gives the connection back after the head of an answer, when the rest of
    /// the answer has been read off; at once, or by a task of its own. It is
    /// closed instead when the rest is too long or too slow.
    pub(super) fn finish(mut self, mut body: Incoming) {
        let mut left = DRAINED;
        // What came with the head is there already.
        match drain(&mut body, &mut left) {
            Drained::All if self.sender.is_ready() => return self.rest(),
            Drained::All | Drained::More => {}
            Drained::TooMuch => return,
        }
        if self.sender.is_closed() || self.pool().is_none() {
            return;
        }
        tokio::spawn(async move {
            let whole = timeout(DRAIN, async {
                while let Some(frame) = body.frame().await {
                    let read = frame.ok()?.data_ref().map_or(0, |data| data.len() as u64);
                    left = left.checked_sub(read)?;
                }
                // The answer may have come before the request was written out.
                self.sender.ready().await.ok()
            });
            if let Ok(Some(())) = whole.await {
                self.rest();
            }
        });
    }

    /// The pool, if it is still there and has room for this connection.
    fn pool(&self) -> Option<Arc<Shared>> {
        let shared = self.shared.upgrade()?;
        (self.open.load(Ordering::Relaxed) <= shared.room).then_some(shared)
    }

    fn rest(self) {
        let Some(shared) = self.pool() else { return };
        let resting = Resting {
            link: self,
            home: runtime::Handle::current().id(),
            since: Instant::now(),
        };
        let mut stale = Vec::new();
        let mut idle = shared.lock();
        idle.expire(&mut stale);
        idle.links.push_back(resting);
        let sweep = !std::mem::replace(&mut idle.swept, true);
        drop(idle);
        if sweep {
            tokio::spawn(sweeping(Sweeper {
                shared: Arc::downgrade(&shared),
                armed: true,
            }));
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Idle> {
        // Nothing inside can panic halfway.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idle {
    /// Moves out what has been idle too long.
    fn expire(&mut self, stale: &mut Vec<Resting>) {
        while let Some(oldest) = self.links.front()
            && oldest.since.elapsed() >= IDLE
        {
            stale.extend(self.links.pop_front());
        }
    }
}

/// Closes what nobody came back for, as long as there is any.
async fn sweeping(mut sweeper: Sweeper) {
    let mut next = Instant::now() + IDLE;
    loop {
        sleep_until(next).await;
        let Some(shared) = sweeper.shared.upgrade() else {
            return;
        };
        let mut stale = Vec::new();
        let mut idle = shared.lock();
        idle.expire(&mut stale);
        match idle.links.front() {
            Some(oldest) => next = oldest.since + IDLE,
            None => {
                idle.swept = false;
                sweeper.armed = false;
                return;
            }
        }
    }
}

/// When its runtime ends before its work does, another may take over.
struct Sweeper {
    shared: Weak<Shared>,
    armed: bool,
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        if self.armed
            && let Some(shared) = self.shared.upgrade()
        {
            shared.lock().swept = false;
        }
    }
}

enum Drained {
    All,
    More,
    TooMuch,
}

/// Reads off what is there, without waiting.
fn drain(body: &mut Incoming, left: &mut u64) -> Drained {
    let mut context = Context::from_waker(Waker::noop());
    while !body.is_end_stream() {
        match Pin::new(&mut *body).poll_frame(&mut context) {
            Poll::Pending => return Drained::More,
            Poll::Ready(None) => break,
            Poll::Ready(Some(Err(_))) => return Drained::TooMuch,
            Poll::Ready(Some(Ok(frame))) => {
                let read = frame.data_ref().map_or(0, |data| data.len() as u64);
                match left.checked_sub(read) {
                    Some(rest) => *left = rest,
                    None => return Drained::TooMuch,
                }
            }
        }
    }
    Drained::All
}

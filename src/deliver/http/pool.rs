use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime;
use tokio::time::{Instant, sleep_until, timeout};

use super::reply::{Came, Reply};
use super::wire::Wire;

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
    pub(super) wire: Wire,
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
const DRAINED: usize = 64 * 1024;
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
    pub(super) fn take(&self, now: Instant) -> Option<Link> {
        let home = runtime::Handle::current().id();
        // Closed after the lock is let go.
        let mut stale = Vec::new();
        let mut idle = self.0.lock();
        idle.expire(now, &mut stale);
        let mut index = idle.links.len();
        while index > 0 {
            index -= 1;
            if idle.links[index].home != home {
                continue;
            }
            let Some(mut resting) = idle.links.remove(index) else {
                continue;
            };
            if resting.link.wire.is_usable() {
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
        let mut idle = self.0.lock();
        let usable = |resting: &mut Resting| resting.link.wire.is_usable();
        let links = idle.links.iter_mut();
        links.map(usable).filter(|usable| *usable).count()
    }

    /// Takes a new connection in.
    pub(super) fn opened(&self, wire: Wire) -> Link {
        self.0.open.fetch_add(1, Ordering::Relaxed);
        Link {
            wire,
            shared: Arc::downgrade(&self.0),
            open: Arc::clone(&self.0.open),
        }
    }
}

impl Link {
    /// Gives the connection back after the head of an answer, when the rest of
    /// the answer has been read off; at once, or by a task of its own. It is
    /// closed instead when the rest is too long or too slow, or when the answer
    /// came before all of the request was out (`whole`).
    pub(super) fn finish(mut self, reply: Reply, whole: bool) {
        let mut rest = reply.rest;
        if !whole || !reply.keeps {
            return;
        }
        // What came with the head is there already.
        match self.wire.skip(&mut rest) {
            Came::Whole => return self.rest(),
            Came::Broken => return,
            Came::More => {}
        }
        if self.pool().is_none() {
            return;
        }
        tokio::spawn(async move {
            let mut left = DRAINED;
            let whole = timeout(DRAIN, async {
                loop {
                    let read = self.wire.more().await.ok().filter(|read| *read > 0)?;
                    left = left.checked_sub(read)?;
                    match self.wire.skip(&mut rest) {
                        Came::Whole => return Some(()),
                        Came::More => {}
                        Came::Broken => return None,
                    }
                }
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

    fn rest(mut self) {
        let Some(shared) = self.pool() else { return };
        self.wire.rests();
        let now = Instant::now();
        let resting = Resting {
            link: self,
            home: runtime::Handle::current().id(),
            since: now,
        };
        let mut stale = Vec::new();
        let mut idle = shared.lock();
        idle.expire(now, &mut stale);
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
    fn expire(&mut self, now: Instant, stale: &mut Vec<Resting>) {
        while let Some(oldest) = self.links.front()
            && now.saturating_duration_since(oldest.since) >= IDLE
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
        idle.expire(Instant::now(), &mut stale);
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

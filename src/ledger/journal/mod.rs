//! The ledger's journal: ids and receipts in a folder of this process's own.
//!
//! | file | |
//! |---|---|
//! | `folder` | makes and locks the folder, cuts a torn tail, finds damage |
//! | `slices` | what is on disk, in slices of time that go whole; fjall |
//! | `filter` | tells in memory which ids are not there |
//! | `shelf` | what the writer and those who look have in common |
//! | `writer` | the thread that writes; one fsync for all who wait |
//!
//! **When the disk fails**, the order that met it fails, everything is closed, and
//! the writer tries to open it again, five times a second: the folder is read
//! anew, and what was not sorted yet is written anew into other files, because
//! after a failed fsync a second one says nothing about the pages of the first.
//! Meanwhile every call is refused at once.

mod filter;
mod folder;
mod shelf;
mod slices;
#[cfg(test)]
mod tests;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::process::umask;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout, timeout_at};

use self::shelf::{STALLED, Shelf};
use self::slices::{Broken, Change};
use self::writer::{Order, Progress, Writer};
use super::claim::IdDigest;
use super::record::{Millis, Names, Record};
use super::store::Page;
use super::{LedgerAway, Unusable, stored};

/// Ids and receipts in a folder. Dropped, it finishes what it was told to write,
/// and lets the folder go.
pub(super) struct Journal {
    shelf: Arc<Shelf>,
    names: Arc<Names>,
    orders: mpsc::Sender<Order>,
    progress: watch::Receiver<Progress>,
}

/// How long the disk may take for one order or one look.
const PATIENCE: Duration = Duration::from_secs(5);
/// Orders that wait; past it who gives one waits.
const ORDERS: usize = 4096;

impl Journal {
    /// Begins to open the folder. From now on whatever this process creates is its
    /// owner's alone unless it says otherwise: the store makes files without a mode.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn open(path: &Path, names: &Arc<Names>, retention: u64) -> std::io::Result<Self> {
        umask(Mode::RWXG | Mode::RWXO);
        let shelf = Arc::new(Shelf::new(retention));
        let (orders, received) = mpsc::channel(ORDERS);
        let (told, progress) = watch::channel(Progress::Opening);
        let writer = Writer {
            path: path.to_owned(),
            shelf: Arc::clone(&shelf),
            orders: received,
            progress: told,
            folder: None,
            failed: false,
        };
        std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.run())?;
        Ok(Self {
            shelf,
            names: Arc::clone(names),
            orders,
            progress,
        })
    }

    /// Waits until it can be used, or the disk will be waited for while it runs.
    /// Another process that owns the folder is waited for until `deadline`, its
    /// content as long as reading it takes.
    ///
    /// # Errors
    /// When it never can, or another process still owns the folder.
    pub(super) async fn usable(&self, deadline: Instant) -> Result<(), Unusable> {
        let mut progress = self.progress.clone();
        loop {
            let now = progress.borrow_and_update().clone();
            let changed = match now {
                Progress::Running => return Ok(()),
                Progress::Refused(why) => return Err(Unusable::Refused(why)),
                Progress::Opening => progress.changed().await,
                Progress::Elsewhere => match timeout_at(deadline, progress.changed()).await {
                    Ok(changed) => changed,
                    Err(_) => return Err(Unusable::Elsewhere),
                },
            };
            if changed.is_err() {
                return Err(Unusable::Refused("its thread has ended".into()));
            }
        }
    }

    /// What is known of an id. One that is not there costs no look at the disk.
    pub(super) async fn look(&self, id: IdDigest) -> Result<Option<Record>, LedgerAway> {
        let places = self.shelf.places(id)?;
        if places.is_empty() {
            return Ok(None);
        }
        let names = Arc::clone(&self.names);
        self.read(move || slices::recall(&places, id, &names)).await
    }

    /// Keeps a record; it is on disk when this returns.
    pub(super) async fn settle(&self, id: IdDigest, record: &Record) -> Result<(), LedgerAway> {
        let change = Change {
            id,
            bytes: stored::encode(id, record, &self.names),
            last: Some(record.last),
        };
        self.order(|answer| Order::Write(vec![change], answer))
            .await
    }

    /// Forgets ids.
    pub(super) async fn forget(&self, ids: &[IdDigest]) -> Result<(), LedgerAway> {
        if ids.is_empty() {
            return Ok(());
        }
        let change = |&id: &IdDigest| Change {
            id,
            bytes: stored::encode_forgotten(id),
            last: None,
        };
        let changes = ids.iter().map(change).collect();
        self.order(|answer| Order::Write(changes, answer)).await
    }

    /// The ids of a source with a receipt since then, a slice after the other.
    pub(super) async fn page(
        &self,
        source: u32,
        since: Millis,
        from: Option<u64>,
    ) -> Result<Page, LedgerAway> {
        let Some((start, keyspace)) = self.shelf.with(|slices| slices.after(from))? else {
            return Ok(Page::default());
        };
        let names = Arc::clone(&self.names);
        self.read_long(move || {
            let mut ids = Vec::new();
            for entry in keyspace.iter() {
                let (key, bytes) = entry.into_inner()?;
                let id = slices::digest(&key)?;
                let record = stored::decode(id, &bytes, &names)?;
                if record.is_some_and(|r| r.source == source && r.last >= since) {
                    ids.push(id);
                }
            }
            Ok(Page {
                ids,
                next: Some(start),
            })
        })
        .await
    }

    /// Drops what was last accepted before a time, and tidies up. Given also while
    /// orders are refused because one waited for too long: once the writer is through
    /// with this, it can be used again, whichever of the two was told last.
    pub(super) async fn expire(&self, before: Millis) {
        if self.shelf.is_open() {
            // That it failed is told by the writer, and it comes again.
            let _ = self.give(|answer| Order::Tidy(before, answer)).await;
        }
    }

    pub(super) fn set_retention(&self, retention: u64) {
        self.shelf.set_retention(retention);
    }

    /// How many ids are known.
    pub(super) fn count(&self) -> u64 {
        self.shelf.with(slices::Slices::known).unwrap_or(0)
    }

    pub(super) fn up(&self) -> Result<(), LedgerAway> {
        self.shelf.up()
    }

    async fn order(&self, order: impl FnOnce(Answer) -> Order) -> Result<(), LedgerAway> {
        self.shelf.up()?;
        self.give(order).await
    }

    /// Gives an order, and waits until it is carried out.
    async fn give(&self, order: impl FnOnce(Answer) -> Order) -> Result<(), LedgerAway> {
        let (answer, answered) = oneshot::channel();
        let carried_out = async {
            let sent = self.orders.send(order(answer)).await.is_ok();
            if sent { answered.await.ok() } else { None }
        };
        match timeout(PATIENCE, carried_out).await {
            Ok(Some(done)) => done,
            Ok(None) => Err(LedgerAway {
                reason: "the journal is closed".into(),
            }),
            Err(_) => {
                self.shelf.stalls();
                Err(self.shelf.up().err().unwrap_or_else(slow))
            }
        }
    }

    /// Reads from the disk, where it may take a while.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, Broken> + Send + 'static,
    ) -> Result<T, LedgerAway> {
        timeout(PATIENCE, self.read_long(read))
            .await
            .unwrap_or_else(|_| Err(slow()))
    }

    async fn read_long<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, Broken> + Send + 'static,
    ) -> Result<T, LedgerAway> {
        let reason = match spawn_blocking(read).await {
            Ok(Ok(read)) => return Ok(read),
            Ok(Err(Broken::Disk(why) | Broken::Content(why))) => why,
            Err(error) => error.to_string(),
        };
        // Full of orders, it will meet the fault by itself.
        let _ = self.orders.try_send(Order::Distrust(reason.clone()));
        Err(LedgerAway { reason })
    }
}

type Answer = oneshot::Sender<Result<(), LedgerAway>>;

fn slow() -> LedgerAway {
    LedgerAway {
        reason: STALLED.into(),
    }
}

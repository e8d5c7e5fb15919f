use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::slices::{Broken, Change, Places, Slices};
use crate::ledger::LedgerAway;
use crate::ledger::claim::IdDigest;
use crate::ledger::record::Millis;

/// What the writer and those who look have in common. Nobody reads or writes the
/// disk under the lock where the runtime's threads would wait for it.
pub(super) struct Shelf {
    /// The same as whether `slices` are there, without the lock; and no order
    /// waits for too long.
    up: AtomicBool,
    slices: RwLock<Result<Slices, LedgerAway>>,
    /// How much time a slice is for (milliseconds).
    slice: AtomicU64,
}

/// Why it is away while an order waits for too long.
pub(super) const STALLED: &str = "the journal's disk does not answer in time";

/// Enough that an id stays at most an eighth of the retention longer on the disk,
/// and few enough that an unknown one is looked for in few filters.
const SLICES: u64 = 8;
/// A slice is some files; nobody needs more of them in a minute.
const SHORTEST: u64 = 60_000;

impl Shelf {
    pub(super) fn new(retention: u64) -> Self {
        let shelf = Self {
            up: AtomicBool::new(false),
            slices: RwLock::new(Err(LedgerAway {
                reason: "the journal is being opened".into(),
            })),
            slice: AtomicU64::new(0),
        };
        shelf.set_retention(retention);
        shelf
    }

    pub(super) fn set_retention(&self, retention: u64) {
        let slice = (retention / SLICES).max(SHORTEST);
        self.slice.store(slice, Ordering::Relaxed);
    }

    pub(super) fn open(&self, slices: Slices) {
        *self.changing() = Ok(slices);
        self.up.store(true, Ordering::Release);
    }

    pub(super) fn close(&self, reason: String) {
        self.up.store(false, Ordering::Release);
        let open = std::mem::replace(&mut *self.changing(), Err(LedgerAway { reason }));
        // Closing it waits for its threads, and nobody waits with it.
        drop(open);
    }

    /// An order has waited for too long. Told by the first of those who did.
    pub(super) fn stalls(&self) {
        if self.up.swap(false, Ordering::AcqRel) {
            tracing::error!(
                why = STALLED,
                "the ledger's journal cannot be used; requests are refused until it can"
            );
        }
    }

    /// Orders are carried out.
    pub(super) fn goes_on(&self) {
        if !self.up.swap(true, Ordering::AcqRel) {
            tracing::info!("the ledger's journal can be used again");
        }
    }

    pub(super) fn up(&self) -> Result<(), LedgerAway> {
        if self.up.load(Ordering::Acquire) {
            return Ok(());
        }
        match &*self.reading() {
            Err(away) => Err(away.clone()),
            Ok(_) => Err(LedgerAway {
                reason: STALLED.into(),
            }),
        }
    }

    /// Whether it is open, be it that an order waits for too long.
    pub(super) fn is_open(&self) -> bool {
        self.reading().is_ok()
    }

    /// Where an id may stand.
    pub(super) fn places(&self, id: IdDigest) -> Result<Places, LedgerAway> {
        match &*self.reading() {
            Ok(slices) => Ok(slices.places(id)),
            Err(away) => Err(away.clone()),
        }
    }

    /// Something of what is open.
    pub(super) fn with<T>(&self, read: impl FnOnce(&Slices) -> T) -> Result<T, LedgerAway> {
        match &*self.reading() {
            Ok(slices) => Ok(read(slices)),
            Err(away) => Err(away.clone()),
        }
    }

    /// Writes changes for good. For the writer alone.
    pub(super) fn write(&self, changes: &[Change]) -> Result<(), Broken> {
        let closed = |away: LedgerAway| Broken::Disk(away.reason);
        let now = changes.iter().filter_map(|change| change.last).max();
        let length = self.slice.load(Ordering::Relaxed);
        let (next, outdated) = self
            .with(|slices| {
                let next = slices.next(now.unwrap_or(0), length)?;
                Ok::<_, Broken>((next, slices.outdated(changes)?))
            })
            .map_err(closed)??;
        let batch = match &mut *self.changing() {
            Ok(slices) => {
                next.into_iter().for_each(|next| slices.turn(next));
                slices.announce(changes)
            }
            Err(away) => return Err(closed(away.clone())),
        };
        batch.commit()?;
        if let Ok(slices) = &mut *self.changing() {
            slices.written(changes, &outdated);
        }
        Ok(())
    }

    /// Drops what was last accepted before a time. For the writer alone.
    pub(super) fn expire(&self, before: Millis) -> Result<(), Broken> {
        loop {
            let expired = match &mut *self.changing() {
                Ok(slices) => slices.expired(before),
                Err(_) => None,
            };
            match expired {
                Some(expired) => expired.delete()?,
                None => return Ok(()),
            }
        }
    }

    /// Has sorted what is not written to any more. The store looks whether a part of
    /// its log can go only when it has sorted something, and does that by itself only
    /// with a slice that has become large: where none ever does, its log would grow
    /// for as long as the process runs. For the writer alone.
    pub(super) fn sort(&self) -> Result<(), Broken> {
        for past in self.with(Slices::past).unwrap_or_default() {
            past.rotate_memtable()?;
        }
        Ok(())
    }

    fn reading(&self) -> RwLockReadGuard<'_, Result<Slices, LedgerAway>> {
        self.slices.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn changing(&self) -> RwLockWriteGuard<'_, Result<Slices, LedgerAway>> {
        self.slices.write().unwrap_or_else(PoisonError::into_inner)
    }
}

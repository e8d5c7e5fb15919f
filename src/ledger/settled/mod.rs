//! The settled ids, at most `max_entries`; past that the one settled longest ago is
//! forgotten.
//!
//! | file | |
//! |---|---|
//! | `flat` | ids with their small records, in order, 56 bytes each |
//! | `index` | where an id stands there, five to nine bytes each |
//! | `small` | a record in 32 bytes, if it is as nearly all are |
//!
//! **Nearly all records are small**: accepted by up to three destinations in about a
//! minute, or failed. The few others (more destinations, a receipt much later, a
//! resend that is under way) stand in moka, each with a small one in its place that
//! keeps the order and the bound. moka for all was measured against this, a million
//! ids, one destination, claimed and settled on one core: 361 bytes an id against 66;
//! 1.0 µs a claim while it is empty and 3.2 at its bound, against 0.7 and 1.2; 1.9 s
//! to move to another bound against 0.4. moka is not put in front for recent ids
//! either: coming and going there is what costs, and a look-up in `flat` is one or two
//! cache misses, as it would be there.
//!
//! **The order is that of settling.** A look-up is no use that would keep an id
//! longer: repeats of old ids must not push newer ones out of the half that is
//! always known.
//!
//! Whoever changes an id holds the lock of its shard, and then takes the one here
//! for some hundred nanoseconds, to keep one order over all shards. Only past four
//! million ids there are several of these, each with its part of the ids and an
//! order of its own; with so many the oldest of one is as good as the oldest of all.

mod flat;
mod index;
mod small;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use self::flat::Flat;
use self::small::{Shapes, Small};
use super::claim::{ByDigest, IdDigest};
use super::forgetting::Forgetting;
use super::record::{Millis, Record};

/// The settled ids. Cloning shares them.
#[derive(Clone)]
pub(super) struct Settled(Arc<Inner>);

struct Inner {
    banks: Box<[Mutex<Bank>]>,
    max_entries: u64,
    forgetting: Arc<Forgetting>,
}

/// A part of the ids, picked by their digest.
struct Bank {
    flat: Flat,
    shapes: Shapes,
    /// The records that are not small. `flat` has each of their ids, so the bound
    /// and the order are kept there; this bound is the same once more.
    odd: Cache<IdDigest, Record, ByDigest>,
}

/// How many ids a bank is for: with more, too little of an index slot would be left
/// to tell ids apart.
const BANK: u64 = 1 << 22;
/// More than any memory has room for, and all that is told apart by.
const MOST: u64 = 1 << 32;

impl Settled {
    pub(super) fn new(max_entries: u64, forgetting: Arc<Forgetting>) -> Self {
        let room = max_entries.clamp(1, MOST);
        let banks = room.div_ceil(BANK);
        // Below 2^22, and so is what is not divided.
        let most = u32::try_from(room / banks).unwrap_or(1);
        let banks = (0..banks).map(|_| Mutex::new(Bank::new(most)));
        Self(Arc::new(Inner {
            banks: banks.collect(),
            max_entries,
            forgetting,
        }))
    }

    pub(super) fn max_entries(&self) -> u64 {
        self.0.max_entries
    }

    /// What is known of an id, expired or not.
    pub(super) fn get(&self, id: IdDigest) -> Option<Record> {
        let bank = self.bank(id);
        bank.record(id, bank.flat.get(id)?)
    }

    /// Keeps a record, as the newest, in the place of what was known of the id.
    pub(super) fn put(&self, id: IdDigest, record: Record) {
        let evicted = self.bank(id).put(id, record);
        if let Some(record) = evicted {
            self.0.forgetting.forgot(&record);
        }
    }

    pub(super) fn remove(&self, id: IdDigest) {
        self.bank(id).remove(id);
    }

    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        let banks = self.0.banks.iter();
        banks.map(|bank| u64::from(lock(bank).flat.len())).sum()
    }

    /// The ids whose records are wanted, in no order. Those put meanwhile may be
    /// missing: nobody else waits for longer than for a thousand of them.
    pub(super) fn ids(&self, wanted: impl Fn(&Record) -> bool) -> Vec<IdDigest> {
        let mut ids = Vec::new();
        self.each_part(|bank, part| {
            let known = bank.flat.part(part);
            let wanted =
                known.filter(|&(id, small)| bank.record(id, small).is_some_and(|r| wanted(&r)));
            ids.extend(wanted.map(|(id, _)| id));
        });
        ids
    }

    /// Removes what has expired, a thousand at a time.
    pub(super) fn sweep(&self, now: Millis) {
        self.each_part(|bank, part| {
            let known = bank.flat.part(part);
            let expired = known.filter(|&(id, small)| {
                let record = bank.record(id, small);
                record.is_none_or(|record| self.0.forgetting.expired(&record, now))
            });
            let expired: Vec<IdDigest> = expired.map(|(id, _)| id).collect();
            for id in expired {
                bank.remove(id);
            }
        });
    }

    /// The same ids with another bound: the newest, in their order. Nobody may
    /// change what is here meanwhile.
    pub(super) fn resized(&self, max_entries: u64) -> Self {
        let new = Self::new(max_entries, Arc::clone(&self.0.forgetting));
        let now = self.0.forgetting.now();
        let banks: Vec<_> = self.0.banks.iter().map(lock).collect();
        let mut known: Vec<_> = banks
            .iter()
            .map(|bank| bank.oldest_first().peekable())
            .collect();
        // What is expired goes now, lest something else goes for it.
        loop {
            let heads = known.iter_mut().enumerate();
            let heads = heads.filter_map(|(n, known)| Some((known.peek()?.1.last, n)));
            let Some((_, oldest)) = heads.min() else {
                break;
            };
            if let Some((id, record)) = known[oldest].next()
                && !self.0.forgetting.expired(&record, now)
            {
                new.put(id, record);
            }
        }
        drop(known);
        new
    }

    fn each_part(&self, mut each: impl FnMut(&mut Bank, usize)) {
        for bank in &self.0.banks {
            let parts = lock(bank).flat.parts();
            for part in 0..parts {
                each(&mut lock(bank), part);
            }
        }
    }

    fn bank(&self, id: IdDigest) -> MutexGuard<'_, Bank> {
        lock(&self.0.banks[id.bank(self.0.banks.len())])
    }
}

impl Bank {
    fn new(most: u32) -> Self {
        let odd = Cache::builder()
            .max_capacity(u64::from(most))
            // Its default policy forgets the newest once it is full.
            .eviction_policy(EvictionPolicy::lru())
            .build_with_hasher(ByDigest::default());
        Self {
            flat: Flat::new(most),
            shapes: Shapes::default(),
            odd,
        }
    }

    fn record(&self, id: IdDigest, small: Small) -> Option<Record> {
        if small.is_elsewhere() {
            self.odd.get(&id)
        } else {
            self.shapes.unpack(small)
        }
    }

    /// What had to go, to make room.
    fn put(&mut self, id: IdDigest, record: Record) -> Option<Record> {
        self.remove(id);
        let small = self.shapes.pack(&record);
        let evicted = self.flat.put(id, small.unwrap_or(Small::ELSEWHERE));
        let evicted = evicted.and_then(|(evicted, small)| self.taken_out(evicted, small));
        if small.is_none() {
            self.odd.insert(id, record);
        }
        evicted
    }

    fn remove(&mut self, id: IdDigest) {
        if let Some(small) = self.flat.remove(id) {
            self.taken_out(id, small);
        }
    }

    /// The record of an id that is in `flat` no more.
    fn taken_out(&self, id: IdDigest, small: Small) -> Option<Record> {
        if small.is_elsewhere() {
            self.odd.remove(&id)
        } else {
            self.shapes.unpack(small)
        }
    }

    fn oldest_first(&self) -> impl Iterator<Item = (IdDigest, Record)> {
        let known = self.flat.iter();
        known.filter_map(|(id, small)| Some((id, self.record(id, small)?)))
    }
}

fn lock(bank: &Mutex<Bank>) -> MutexGuard<'_, Bank> {
    // Nothing in it panics halfway through a change.
    bank.lock().unwrap_or_else(PoisonError::into_inner)
}

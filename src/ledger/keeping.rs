//! The ledger and its store: what is asked, what is kept, and what is owed.

use std::sync::Arc;
use std::time::SystemTime;

use super::claim::IdDigest;
use super::record::{Millis, Record, millis};
use super::run::{Reservation, Run};
use super::{Ledger, LedgerAway, Reserved};

impl<A> Ledger<A> {
    /// Asks the store for an id that memory does not know, or writes what is owed
    /// of it. The reservation holds the id meanwhile, and frees it when this is
    /// dropped or fails.
    pub(super) async fn ask(
        &self,
        reservation: Reservation<A>,
        now: Millis,
    ) -> Result<Reserved<A>, LedgerAway> {
        let id = reservation.id;
        let owed = self.shard(id).owed.get(&id).cloned();
        let known = match owed {
            Some(record) => {
                self.store.settle(id, Some(&record)).await?;
                Some(record)
            }
            None => self.store.claim(id).await?,
        };
        let known = known.filter(|record| !self.forgetting.expired(record, now));
        let mut earlier = None;
        if let Some(record) = known {
            // The next look-up finds it in memory, and so do those who wait.
            let mut shard = self.shard(id);
            shard.owed.remove(&id);
            shard.settled.put(id, record.clone());
            drop(shard);
            match Self::judged(record, &reservation.claim, now) {
                Ok(record) => earlier = Some(record),
                Err(over) => return Ok(over.into()),
            }
        }
        reservation.run.starts_from(earlier);
        Ok(Reserved::Run(reservation))
    }

    /// Notes that a destination which nobody had to wait for accepted an id after
    /// that was settled. An id that is forgotten or runs again by now stays as it
    /// is: it was delivered without this receipt.
    pub async fn accept_late(
        &self,
        source: &str,
        id: &str,
        destination: &Arc<str>,
        at: SystemTime,
    ) {
        let id = IdDigest::of(source, id);
        if let Some(redis) = self.store.shared() {
            return self
                .accept_late_shared(redis, id, destination, millis(at))
                .await;
        }
        let Some(held) = self.hold(id).await else {
            return;
        };
        // That the store is away is told by those who need it.
        if let Ok(Some(mut record)) = self.recall(id).await {
            record.accept(self.names.intern(destination), millis(at));
            match self.store.settle(id, Some(&record)).await {
                Ok(()) => held.keep(record),
                Err(_) => held.owe(record),
            }
        }
    }

    /// Does what wants the store: lets it drop what has expired, and writes what
    /// is owed. To be called every second, not twice at once.
    pub async fn upkeep(&self) {
        let now = self.forgetting.now();
        let before = now.saturating_sub(self.forgetting.retention());
        self.store.expire(before).await;
        for id in self.owed_ids(|_| true) {
            let Some(held) = self.try_hold(id) else {
                continue;
            };
            let Some(record) = self.shard(id).owed.get(&id).cloned() else {
                continue;
            };
            match self.store.settle(id, Some(&record)).await {
                Ok(()) => held.keep(record),
                Err(_) if self.store.up().is_err() => return,
                // Something that only this id suffers from keeps no other back.
                Err(_) => {}
            }
        }
    }

    /// What is known of an id, from wherever it is.
    pub(super) async fn recall(&self, id: IdDigest) -> Result<Option<Record>, LedgerAway> {
        let now = self.forgetting.now();
        let near = {
            let shard = self.shard(id);
            let owed = shard.owed.get(&id).cloned();
            owed.or_else(|| self.known(&shard, id, now))
        };
        let record = match near {
            Some(record) => Some(record),
            None => self.store.look(id).await?,
        };
        Ok(record.filter(|record| !self.forgetting.expired(record, now)))
    }

    /// The ids of which something is owed to the store.
    pub(super) fn owed_ids(&self, wanted: impl Fn(&Record) -> bool) -> Vec<IdDigest> {
        let mut ids = Vec::new();
        for shard in &self.shards {
            let shard = super::lock(shard);
            let owed = shard.owed.iter().filter(|(_, record)| wanted(record));
            ids.extend(owed.map(|(id, _)| *id));
        }
        ids
    }

    /// Ends the run of an id; without a `record`, what was known of it stays.
    pub(super) fn end(&self, id: IdDigest, record: Option<Record>) {
        let mut shard = self.shard(id);
        if let Some(record) = record {
            shard.owed.remove(&id);
            shard.settled.put(id, record);
        }
        shard.running.remove(&id);
    }

    /// The same for one whose record has not been written.
    pub(super) fn end_unwritten(&self, id: IdDigest, record: Option<Record>) {
        let mut shard = self.shard(id);
        if let Some(record) = record {
            if record.is_failed() || !self.store.is_asked() {
                shard.owed.remove(&id);
                shard.settled.put(id, record);
            } else {
                shard.settled.remove(id);
                shard.owed.insert(id, record);
            }
        }
        self.give_back_unless_owed(&shard, id);
        shard.running.remove(&id);
    }

    /// Holds an id to change what is known of it; none while it runs. Who holds it
    /// already is waited for.
    pub(super) async fn hold(&self, id: IdDigest) -> Option<Held<'_, A>> {
        loop {
            if let Some(held) = self.try_hold(id) {
                return Some(held);
            }
            let run = self.shard(id).running.get(&id).map(Arc::clone);
            match run {
                Some(run) if run.has_begun() => return None,
                Some(run) => run.ended().await,
                None => {}
            }
        }
    }

    /// Holds an id unless that is running or held.
    pub(super) fn try_hold(&self, id: IdDigest) -> Option<Held<'_, A>> {
        let mut shard = self.shard(id);
        if shard.running.contains_key(&id) {
            return None;
        }
        let run = Arc::new(Run::upkeep());
        shard.running.insert(id, Arc::clone(&run));
        drop(shard);
        Some(Held {
            ledger: self,
            run,
            id,
        })
    }
}

/// An id that is held to change what is known of it; let go when dropped.
pub(super) struct Held<'a, A> {
    ledger: &'a Ledger<A>,
    run: Arc<Run<A>>,
    id: IdDigest,
}

impl<A> Held<'_, A> {
    pub(super) fn id(&self) -> IdDigest {
        self.id
    }

    /// The record is written, and known from now on.
    pub(super) fn keep(self, record: Record) {
        let mut shard = self.ledger.shard(self.id);
        shard.owed.remove(&self.id);
        shard.settled.put(self.id, record);
    }

    /// The record could not be written.
    pub(super) fn owe(self, record: Record) {
        let mut shard = self.ledger.shard(self.id);
        shard.settled.remove(self.id);
        shard.owed.insert(self.id, record);
    }

    /// Nothing is known of the id any more.
    pub(super) fn forget(self) {
        let mut shard = self.ledger.shard(self.id);
        shard.owed.remove(&self.id);
        shard.settled.remove(self.id);
    }
}

impl<A> Drop for Held<'_, A> {
    fn drop(&mut self) {
        let mut shard = self.ledger.shard(self.id);
        // Where it was let go before, the next may have it by now.
        if let Some(run) = shard.running.get(&self.id)
            && Arc::ptr_eq(run, &self.run)
        {
            shard.running.remove(&self.id);
        }
        drop(shard);
        self.run.finish(None);
    }
}

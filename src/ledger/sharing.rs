//! The ledger over a store that other replicas change too. Memory is no proof
//! there: every claim asks the store. Memory keeps which ids failed here, and with
//! `when_away = "memory"` what was delivered here, to go by while the store is away.

use std::sync::Arc;

use super::claim::IdDigest;
use super::look::{Forgotten, Look, LookState};
use super::record::{Millis, Record};
use super::redis::{Claimed, Redis};
use super::run::{Reservation, Run, Waiter};
use super::{Claim, Ledger, LedgerAway, Reserved, SHARDS, Shard};

/// Ids delivered while the store was away that are kept to be written when it is
/// back; what goes beyond is known to this replica alone.
pub(super) const OWED_ALONE: usize = 131_072;

impl<A> Ledger<A> {
    pub(super) async fn reserve_shared(
        self: &Arc<Self>,
        redis: &Redis,
        id: IdDigest,
        claim: Claim,
    ) -> Result<Reserved<A>, LedgerAway> {
        let run = Arc::new(Run::new(&claim));
        {
            let mut shard = self.shard(id);
            if let Some(run) = shard.running.get(&id) {
                return Ok(Reserved::Running(Waiter::new(run, &claim)));
            }
            shard.running.insert(id, Arc::clone(&run));
        }
        // Holds the id, and frees it when this is dropped or fails.
        let reservation = Reservation::new(Arc::clone(self), run, id, claim);
        match self.claim_shared(redis, &reservation).await {
            Ok(Turn::Run(earlier)) => {
                reservation.run.starts_from(earlier);
                Ok(Reserved::Run(reservation))
            }
            Ok(Turn::Over(over)) => Ok(over),
            Ok(Turn::Wait(elsewhere)) => {
                Ok(Reserved::Running(Waiter::elsewhere(reservation, elsewhere)))
            }
            // Something that only this id suffers from is no reason to.
            Err(_) if redis.goes_on_alone() && redis.up().is_err() => {
                Ok(self.reserve_alone(reservation))
            }
            Err(away) => Err(away),
        }
    }

    async fn claim_shared(
        &self,
        redis: &Redis,
        reservation: &Reservation<A>,
    ) -> Result<Turn<A>, LedgerAway> {
        let (id, claim) = (reservation.id, &reservation.claim);
        self.pay(redis, id).await?;
        let now = self.forgetting.saw(claim.now);
        let known = |record: &Record| !self.forgetting.expired(record, now);
        match redis.claim(id, claim, b"").await? {
            Claimed::Elsewhere(elsewhere) => Ok(Turn::Wait(elsewhere)),
            Claimed::Ours(record) => {
                let record = record.filter(known);
                Ok(Turn::Run(record.or_else(|| self.failed_here(id, now))))
            }
            Claimed::Known(record, stands) => {
                // It runs all the same where it is forgotten by now, or resent.
                let earlier = match Some(record).filter(known) {
                    None => self.failed_here(id, now),
                    Some(record) => match Self::judged(record, claim, now) {
                        Ok(record) => Some(record),
                        Err(over) => return Ok(Turn::Over(over.into())),
                    },
                };
                match redis.claim(id, claim, &stands).await? {
                    Claimed::Ours(_) => Ok(Turn::Run(earlier)),
                    Claimed::Elsewhere(elsewhere) => Ok(Turn::Wait(elsewhere)),
                    // Another replica has just been through with it.
                    Claimed::Known(record, _) => match Self::judged(record, claim, now) {
                        Err(over) => Ok(Turn::Over(over.into())),
                        Ok(_) => Err(LedgerAway {
                            reason: "another replica changes the same id".into(),
                        }),
                    },
                }
            }
        }
    }

    /// Runs an id, or not, by what this replica knows.
    fn reserve_alone(&self, reservation: Reservation<A>) -> Reserved<A> {
        let now = self.forgetting.now();
        let known = self.remembered(reservation.id, now);
        self.forgetting.metrics().alone.inc();
        match known.map(|record| Self::judged(record, &reservation.claim, now)) {
            Some(Err(over)) => over.into(),
            Some(Ok(record)) => {
                reservation.run.starts_from(Some(record));
                Reserved::Run(reservation)
            }
            None => {
                reservation.run.starts_from(None);
                Reserved::Run(reservation)
            }
        }
    }

    /// Ends a run whose record was written, or is owed because this replica goes on
    /// alone.
    pub(super) fn end_shared(&self, id: IdDigest, record: Option<Record>, written: bool) {
        let alone = self.store.shared().is_some_and(Redis::goes_on_alone);
        let mut shard = self.shard(id);
        if let Some(record) = record {
            if written {
                shard.owed.remove(&id);
            } else if !record.is_failed() {
                if shard.owed.contains_key(&id) || shard.owed.len() < OWED_ALONE / SHARDS {
                    shard.owed.insert(id, record.clone());
                } else {
                    self.forgetting.metrics().evictions.inc();
                }
            }
            if alone || record.is_failed() {
                shard.settled.put(id, record);
            } else {
                shard.settled.remove(id);
            }
        }
        if !written {
            self.give_back_unless_owed(&shard, id);
        }
        shard.running.remove(&id);
    }

    /// Has the lease of an id given back whose run ended without being written. What
    /// is owed of it gives it back when that is written: until then no other replica
    /// may run it. To be called while the id still runs, so that nobody has taken the
    /// next lease.
    pub(super) fn give_back_unless_owed(&self, shard: &Shard<A>, id: IdDigest) {
        if let Some(redis) = self.store.shared()
            && !shard.owed.contains_key(&id)
        {
            redis.give_back(id);
        }
    }

    pub(super) async fn lookup_shared(
        &self,
        redis: &Redis,
        id: IdDigest,
    ) -> Result<Option<Look>, LedgerAway> {
        let now = self.forgetting.now();
        let owed = self.shard(id).owed.get(&id).cloned();
        let fresh = |record: &Record| !self.forgetting.expired(record, now);
        let record = match (owed, redis.look(id).await) {
            (Some(owed), _) => Some(owed),
            (None, Err(_)) if redis.goes_on_alone() => self.remembered(id, now),
            (None, Err(away)) => return Err(away),
            (None, Ok(known)) => {
                let look = known.record.as_ref().map(|r| self.look_at_record(r));
                if let Some(elsewhere) = known.elsewhere {
                    let (first, destinations) = match look {
                        Some(look) => (look.first, look.destinations),
                        None => Default::default(),
                    };
                    return Ok(Some(Look {
                        state: LookState::Running,
                        first,
                        signed: elsewhere.signed,
                        destinations,
                    }));
                }
                known
                    .record
                    .filter(fresh)
                    .or_else(|| self.failed_here(id, now))
            }
        };
        Ok(record
            .filter(fresh)
            .map(|record| self.look_at_record(&record)))
    }

    pub(super) async fn forget_shared(
        &self,
        redis: &Redis,
        id: IdDigest,
        destination: Option<&str>,
    ) -> Result<Forgotten, LedgerAway> {
        let Some(held) = self.try_hold(id) else {
            return Ok(Forgotten::Running);
        };
        self.pay(redis, id).await?;
        let now = self.forgetting.now();
        let number = destination.map(|destination| self.names.number(destination));
        let forgotten = redis.change(id, |mut record| {
            if self.forgetting.expired(&record, now) {
                return None;
            }
            match number {
                None => Some(None),
                Some(number) if number.is_some_and(|number| record.forget(number)) => {
                    // What is being resent was delivered, with or without receipts.
                    Some(Some(record).filter(|record| !record.is_failed()))
                }
                Some(_) => None,
            }
        });
        let mut forgotten = forgotten.await?;
        let failed = self.failed_here(id, now).is_some();
        if forgotten == Forgotten::Unknown && failed && destination.is_none() {
            forgotten = Forgotten::Done;
        }
        if forgotten == Forgotten::Done {
            held.forget();
        }
        Ok(forgotten)
    }

    pub(super) async fn forget_since_shared(
        &self,
        redis: &Redis,
        source: &str,
        since: Millis,
    ) -> Result<u64, LedgerAway> {
        for id in self.owed_ids(|_| true) {
            if let Some(_held) = self.try_hold(id) {
                self.pay(redis, id).await?;
            }
        }
        let mut forgotten = redis.forget_since(source, since).await?;
        let number = self.names.number(source);
        let wanted = |record: &Record| Some(record.source) == number && record.last >= since;
        let now = self.forgetting.now();
        for id in self.settled().ids(wanted) {
            if let Some(held) = self.try_hold(id) {
                forgotten += u64::from(self.failed_here(id, now).is_some());
                held.forget();
            }
        }
        Ok(forgotten)
    }

    pub(super) async fn accept_late_shared(
        &self,
        redis: &Redis,
        id: IdDigest,
        destination: &Arc<str>,
        at: Millis,
    ) {
        let Some(held) = self.try_hold(id) else {
            return;
        };
        let number = self.names.intern(destination);
        let accept = |mut record: Record| {
            record.accept(number, at);
            record
        };
        let owed = self.shard(id).owed.get(&id).cloned();
        if let Some(record) = owed {
            return held.owe(accept(record));
        }
        // That the store is away is told by those who need it.
        let changed = redis.change(id, |record| Some(Some(accept(record)))).await;
        if changed.is_err()
            && redis.goes_on_alone()
            && let Some(record) = self.remembered(id, self.forgetting.now())
        {
            self.end_shared(id, Some(accept(record)), false);
            drop(held);
        }
    }

    /// Writes what is owed of an id that is held.
    async fn pay(&self, redis: &Redis, id: IdDigest) -> Result<(), LedgerAway> {
        let owed = self.shard(id).owed.get(&id).cloned();
        if let Some(record) = owed {
            redis.settle(id, Some(&record)).await?;
            self.shard(id).owed.remove(&id);
        }
        Ok(())
    }

    /// What this replica itself remembers of an id.
    fn remembered(&self, id: IdDigest, now: Millis) -> Option<Record> {
        let shard = self.shard(id);
        let record = shard.owed.get(&id).cloned();
        let record = record.or_else(|| shard.settled.get(id))?;
        (!self.forgetting.expired(&record, now)).then_some(record)
    }

    /// What is known of an id that failed on this replica. The store keeps no
    /// such records.
    fn failed_here(&self, id: IdDigest, now: Millis) -> Option<Record> {
        self.remembered(id, now).filter(Record::is_failed)
    }
}

/// Whose turn it is.
enum Turn<A> {
    /// This replica's, from what was known.
    Run(Option<Record>),
    /// Nobody's: it was delivered.
    Over(Reserved<A>),
    /// Another replica's.
    Wait(super::redis::Elsewhere),
}

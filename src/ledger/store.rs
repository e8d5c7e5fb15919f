use super::journal::Journal;
use super::{LedgerAway, Unusable};
use tokio::time::Instant;

use super::claim::IdDigest;
use super::record::{Millis, Record};
use super::redis::Redis;

/// Where ids and receipts are kept beyond this process; an arm a store.
///
/// - The ledger holds an id as running from before it asks until after it has
///   written, so a store never has two calls on one id from one process. One that
///   several processes share takes a lease in [`claim`](Self::claim), gives it
///   back in [`settle`](Self::settle), and says no to whoever comes meanwhile.
/// - Records without a receipt never come here. Expired ones may be given back;
///   the ledger looks at their age.
/// - A store blocks no thread of the runtime, and each call ends within seconds.
///   The future of a call may be dropped: then what it asked for happens or not.
/// - It notices by itself when it is away and when it is back. While it is known
///   to be away it says so at once, so that nothing is delivered in vain.
pub(super) enum Store {
    /// None: memory is all there is.
    Memory,
    /// A folder of this process's own.
    Journal(Journal),
    /// Redis, which replicas share.
    Redis(Redis),
    /// One that does what a test says.
    #[cfg(test)]
    Scripted(super::tests::Scripted),
}

/// Some of a store's ids.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) ids: Vec<IdDigest>,
    /// Where the next page begins; none after the last.
    pub(super) next: Option<u64>,
}

impl Store {
    /// The store that other replicas change too, if it is one. What memory knows
    /// is not final there, and an id is claimed by other steps (`sharing.rs`).
    pub(super) fn shared(&self) -> Option<&Redis> {
        match self {
            Store::Redis(redis) => Some(redis),
            _ => None,
        }
    }

    /// Whether there is anything to ask.
    pub(super) fn is_asked(&self) -> bool {
        !matches!(self, Store::Memory)
    }

    /// What is known of an id that somebody is about to run.
    ///
    /// # Errors
    /// When the store is away: the id must not run.
    pub(super) async fn claim(&self, id: IdDigest) -> Result<Option<Record>, LedgerAway> {
        self.look(id).await
    }

    /// What is known of an id.
    ///
    /// # Errors
    /// When the store is away.
    pub(super) async fn look(&self, id: IdDigest) -> Result<Option<Record>, LedgerAway> {
        match self {
            Store::Memory => Ok(None),
            Store::Journal(journal) => journal.look(id).await,
            Store::Redis(redis) => Ok(redis.look(id).await?.record),
            #[cfg(test)]
            Store::Scripted(scripted) => scripted.look(id).await,
        }
    }

    /// Keeps what is known of an id after it ran; without a record, what was known
    /// stays. It is kept for good before this returns.
    ///
    /// # Errors
    /// When the store is away: it may be kept, or may not.
    pub(super) async fn settle(
        &self,
        id: IdDigest,
        record: Option<&Record>,
    ) -> Result<(), LedgerAway> {
        match self {
            Store::Memory => Ok(()),
            Store::Journal(journal) => match record {
                Some(record) => journal.settle(id, record).await,
                None => Ok(()),
            },
            Store::Redis(redis) => redis.settle(id, record).await,
            #[cfg(test)]
            Store::Scripted(scripted) => scripted.settle(id, record).await,
        }
    }

    /// Forgets ids, for good before this returns.
    ///
    /// # Errors
    /// When the store is away: some may be forgotten.
    pub(super) async fn forget(&self, ids: &[IdDigest]) -> Result<(), LedgerAway> {
        match self {
            Store::Memory => Ok(()),
            Store::Journal(journal) => journal.forget(ids).await,
            Store::Redis(redis) => {
                for id in ids {
                    redis.change(*id, |_| Some(None)).await?;
                }
                Ok(())
            }
            #[cfg(test)]
            Store::Scripted(scripted) => scripted.forget(ids),
        }
    }

    /// Ids of a source with a receipt of `since` or later, from a place on. An id
    /// may come on several pages.
    ///
    /// # Errors
    /// When the store is away.
    pub(super) async fn page(
        &self,
        source: u32,
        since: Millis,
        from: Option<u64>,
    ) -> Result<Page, LedgerAway> {
        match self {
            Store::Memory => Ok(Page::default()),
            Store::Journal(journal) => journal.page(source, since, from).await,
            // It forgets by time itself.
            Store::Redis(_) => Ok(Page::default()),
            #[cfg(test)]
            Store::Scripted(scripted) => scripted.page(source, since),
        }
    }

    /// How many ids are kept, where the store knows that.
    pub(super) fn count(&self) -> Option<u64> {
        match self {
            Store::Memory => None,
            Store::Journal(journal) => Some(journal.count()),
            Store::Redis(redis) => redis.count(),
            #[cfg(test)]
            Store::Scripted(scripted) => Some(scripted.count()),
        }
    }

    /// Whether it answers, as far as it is known.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn up(&self) -> Result<(), LedgerAway> {
        match self {
            Store::Memory => Ok(()),
            Store::Journal(journal) => journal.up(),
            Store::Redis(redis) => redis.up(),
            #[cfg(test)]
            Store::Scripted(scripted) => scripted.up(),
        }
    }

    /// Drops what was last accepted before a time.
    pub(super) async fn expire(&self, before: Millis) {
        match self {
            Store::Memory | Store::Redis(_) => {}
            Store::Journal(journal) => journal.expire(before).await,
            #[cfg(test)]
            Store::Scripted(scripted) => scripted.expire(before),
        }
    }

    /// How long ids are to be known from now on (milliseconds).
    pub(super) fn set_retention(&self, retention: u64) {
        if let Store::Journal(journal) = self {
            journal.set_retention(retention);
        }
    }

    /// Waits until it can be used. One that several processes could use, and one
    /// does, is waited for until `deadline`.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(super) async fn usable(&self, deadline: Instant) -> Result<(), Unusable> {
        match self {
            Store::Journal(journal) => journal.usable(deadline).await,
            _ => Ok(()),
        }
    }
}

use std::sync::Arc;
use std::time::SystemTime;

use super::claim::IdDigest;
use super::record::{Record, millis, time};
use super::run::Run;
use super::{Ledger, LedgerAway};

/// What the ledger knows of an id, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// How far it is.
    pub state: LookState,
    /// When a destination first accepted it; none while none has.
    pub first: Option<SystemTime>,
    /// The signed time (Unix seconds).
    pub signed: u64,
    /// The destinations that have accepted it, each with the time. Of an id that
    /// is being resent, those that have accepted it again.
    pub destinations: Vec<(Arc<str>, SystemTime)>,
}

/// How far an id is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookState {
    /// It is being delivered now.
    Running,
    /// It ran, and no destination has accepted it.
    Failed,
    /// Some destinations have accepted it, not all that had to.
    Partly,
    /// It is delivered.
    Delivered,
}

impl LookState {
    /// The word it is told as.
    pub const fn word(self) -> &'static str {
        match self {
            LookState::Running => "running",
            LookState::Failed => "failed",
            LookState::Partly => "partly",
            LookState::Delivered => "delivered",
        }
    }
}

/// What became of a wish to forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgotten {
    /// It is forgotten.
    Done,
    /// The id, or the destination's receipt, is not known.
    Unknown,
    /// The id is running; nothing was changed.
    Running,
}

/// The most ids that are forgotten, or written, at once.
const AT_ONCE: usize = 1000;

impl<A> Ledger<A> {
    /// What is known of an id.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn lookup(&self, source: &str, id: &str) -> Result<Option<Look>, LedgerAway> {
        let id = IdDigest::of(source, id);
        if let Some(run) = self.shard(id).running.get(&id)
            && run.has_begun()
        {
            return Ok(Some(self.look_at_run(run)));
        }
        if let Some(redis) = self.store.shared() {
            return self.lookup_shared(redis, id).await;
        }
        let record = self.recall(id).await?;
        Ok(record.map(|record| self.look_at_record(&record)))
    }

    /// Forgets an id, or only that `destination` has accepted it: then the next
    /// retry reaches that destination again.
    ///
    /// # Errors
    /// When the store is away; nothing is forgotten then.
    pub async fn forget(
        &self,
        source: &str,
        id: &str,
        destination: Option<&str>,
    ) -> Result<Forgotten, LedgerAway> {
        let id = IdDigest::of(source, id);
        if let Some(redis) = self.store.shared() {
            return self.forget_shared(redis, id, destination).await;
        }
        let Some(held) = self.hold(id).await else {
            return Ok(Forgotten::Running);
        };
        let Some(mut record) = self.recall(id).await? else {
            return Ok(Forgotten::Unknown);
        };
        if let Some(destination) = destination {
            let number = self.names.number(destination);
            if !number.is_some_and(|number| record.forget(number)) {
                return Ok(Forgotten::Unknown);
            }
        }
        // What is being resent was delivered, with or without receipts now.
        if destination.is_none() || record.is_failed() {
            self.store.forget(&[id]).await?;
            held.forget();
        } else {
            self.store.settle(id, Some(&record)).await?;
            held.keep(record);
        }
        Ok(Forgotten::Done)
    }

    /// Forgets all settled ids of a source whose last receipt is of `since` or
    /// later: how many there were. It looks at every id, some tenths of a second
    /// for a million, so it wants a thread that may block.
    ///
    /// # Errors
    /// When the store is away; some are forgotten then, and not others.
    pub async fn forget_since(&self, source: &str, since: SystemTime) -> Result<u64, LedgerAway> {
        let since = millis(since);
        if let Some(redis) = self.store.shared() {
            return self.forget_since_shared(redis, source, since).await;
        }
        let Some(number) = self.names.number(source) else {
            return Ok(0);
        };
        let wanted = |record: &Record| record.source == number && record.last >= since;
        let mut ids: Vec<IdDigest> = self.owed_ids(wanted);
        ids.extend(self.settled().ids(wanted));
        let mut forgotten = 0;
        for some in ids.chunks(AT_ONCE) {
            forgotten += self.forget_some(some, wanted).await?;
        }
        let mut from = None;
        loop {
            let page = self.store.page(number, since, from).await?;
            for some in page.ids.chunks(AT_ONCE) {
                forgotten += self.forget_some(some, wanted).await?;
            }
            if page.next.is_none() {
                return Ok(forgotten);
            }
            from = page.next;
        }
    }

    /// Forgets those of the ids that are still wanted and do not run.
    async fn forget_some(
        &self,
        ids: &[IdDigest],
        wanted: impl Fn(&Record) -> bool,
    ) -> Result<u64, LedgerAway> {
        let mut held = Vec::with_capacity(ids.len());
        for &id in ids {
            // It may have changed since it was seen.
            if let Some(hold) = self.try_hold(id)
                && self.recall(id).await?.is_some_and(|record| wanted(&record))
            {
                held.push(hold);
            }
        }
        let ids: Vec<IdDigest> = held.iter().map(|held| held.id()).collect();
        self.store.forget(&ids).await?;
        held.into_iter().for_each(|held| held.forget());
        Ok(ids.len() as u64)
    }

    pub(super) fn look_at_record(&self, record: &Record) -> Look {
        let destinations = record.receipts.iter().filter_map(|receipt| {
            let at = record.first.saturating_add(u64::from(receipt.after));
            Some((self.names.name(receipt.destination)?, time(at)))
        });
        Look {
            state: record.state(),
            first: (!record.is_failed()).then(|| time(record.first)),
            signed: record.signed,
            destinations: destinations.collect(),
        }
    }

    fn look_at_run(&self, run: &Run<A>) -> Look {
        let earlier = run.earlier().map(|r| self.look_at_record(r));
        let (mut first, mut destinations) = match earlier {
            Some(earlier) => (earlier.first, earlier.destinations),
            None => (None, Vec::new()),
        };
        for (destination, at) in run.accepted() {
            first = first.or(Some(time(at)));
            destinations.push((destination, time(at)));
        }
        Look {
            state: LookState::Running,
            first,
            signed: run.signed,
            destinations,
        }
    }
}

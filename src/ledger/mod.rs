//! The ledger: who has accepted which id.
//!
//! An id is absent, running, failed, partly delivered or delivered. Running ids live in
//! a map of their own, because nothing may push them out; settled ones live in
//! `settled`, which is bounded and forgets the oldest. Both are guarded by the
//! lock of the id's shard, so each id changes hands in one place at a time.
//!
//! | before | a claim comes | the run ends with | after |
//! |---|---|---|---|
//! | absent, failed | [`Reserved::Run`] | no receipt | failed |
//! | | | nothing, as it was broken off | as it was |
//! | | | some receipts | partly |
//! | | | `delivered` | delivered |
//! | running | [`Reserved::Running`]: wait for its outcome | | |
//! | partly | [`Reserved::Run`] with the receipts so far | no further receipt | partly, as it was |
//! | | | further receipts, `delivered` | partly, delivered |
//! | delivered | [`Reserved::Duplicate`]; another body: [`Reserved::Conflict`] | | |
//! | delivered | a deliberate resend: [`Reserved::Run`] without receipts | no receipt | delivered, as it was |
//! | | | some receipts | resending |
//! | | | `delivered` | delivered |
//! | resending | signed after what was delivered: [`Reserved::Run`] with the receipts of the resend; else as delivered | | |
//!
//! So a resend that failed halfway goes on as a resend, to the destinations that
//! have not accepted it again, and never counts as undelivered: a replay of the
//! request that was delivered stays a duplicate. Failing with no receipt at all
//! changes nothing, and the next claim is the same resend again.
//!
//! A record counts its retention from its last receipt; look-ups and repeats do
//! not lengthen it.

mod claim;
mod config;
mod forgetting;
mod look;
mod record;
mod run;
mod settled;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

pub use claim::{BodyDigest, Claim};
pub use config::LedgerConfig;
pub use look::{Forgotten, Look, LookState};
pub use run::{Reservation, Waiter};

use claim::{ByDigest, IdDigest};
use forgetting::Forgetting;
use record::{Millis, Names, Record, Verdict, duration_millis, millis, time};
use run::Run;
use settled::{Known, Settled};

use crate::observe::{Clock, LedgerMetrics, RepeatKind};

/// Enough that threads of a large machine seldom meet, and few enough to lock
/// all of them when `max_entries` changes.
const SHARDS: usize = 64;

/// The sweep for expired ids comes at most this often (milliseconds): it looks
/// at every id, and what it frees would only have been reused later.
const SWEEP_EVERY: u64 = 60_000;

/// Who has accepted which id, in memory. `A` is what those who wait for a
/// running id are told.
pub struct Ledger<A> {
    shards: Box<[Mutex<Shard<A>>]>,
    names: Names,
    forgetting: Arc<Forgetting>,
    next_sweep: AtomicU64,
}

struct Shard<A> {
    running: HashMap<IdDigest, Arc<Run<A>>, ByDigest>,
    /// The same store in every shard; here so that it is read under the lock.
    settled: Settled,
}

/// What became of a [`Claim`].
#[derive(Debug)]
pub enum Reserved<A> {
    /// The id is the caller's to run.
    Run(Reservation<A>),
    /// It was delivered.
    Duplicate {
        /// When a destination first accepted it.
        first: SystemTime,
        /// Whether it is the very request that was delivered.
        kind: RepeatKind,
    },
    /// It was delivered with another body.
    Conflict {
        /// When a destination first accepted it.
        first: SystemTime,
    },
    /// It is running.
    Running(Waiter<A>),
}

/// The ledger's store does not answer. The one in memory always does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerAway {
    /// What is wrong with it, for the log; without a secret.
    pub reason: String,
}

impl fmt::Display for LedgerAway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the ledger's store is away: {}", self.reason)
    }
}

impl std::error::Error for LedgerAway {}

impl<A> Ledger<A> {
    /// An empty ledger. `clock` is asked where no caller brings the time: on
    /// look-ups, and for what is forgotten.
    pub fn in_memory(config: &LedgerConfig, metrics: LedgerMetrics, clock: Clock) -> Arc<Self> {
        let retention = duration_millis(config.retention);
        let forgetting = Arc::new(Forgetting::new(retention, metrics, clock));
        let settled = Settled::new(config.max_entries, Arc::clone(&forgetting));
        let shard = || Shard {
            running: HashMap::default(),
            settled: settled.clone(),
        };
        Arc::new(Self {
            shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect(),
            names: Names::default(),
            next_sweep: AtomicU64::new(forgetting.now().saturating_add(SWEEP_EVERY)),
            forgetting,
        })
    }

    /// Claims an id: to run it, or to learn that it was delivered or is running.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn reserve(self: &Arc<Self>, claim: Claim) -> Result<Reserved<A>, LedgerAway> {
        let id = IdDigest::of(&claim.source, claim.id.as_str());
        let now = self.forgetting.saw(claim.now);
        let mut shard = self.shard(id);
        if let Some(run) = shard.running.get(&id) {
            return Ok(Reserved::Running(Waiter::new(run, &claim)));
        }
        let earlier = match self.known(&shard, id, now) {
            None => None,
            Some(record) => {
                let first = time(record.first);
                let kind = if record.signed == claim.signed {
                    RepeatKind::SameTimestamp
                } else {
                    RepeatKind::NewTimestamp
                };
                match record.judge(&claim, now) {
                    Verdict::Run(record) => Some(record),
                    Verdict::Duplicate => return Ok(Reserved::Duplicate { first, kind }),
                    Verdict::Conflict => return Ok(Reserved::Conflict { first }),
                }
            }
        };
        let run = Arc::new(Run::new(&claim, earlier));
        shard.running.insert(id, Arc::clone(&run));
        drop(shard);
        let reservation = Reservation::new(Arc::clone(self), run, id, claim);
        Ok(Reserved::Run(reservation))
    }

    /// Notes that a destination which nobody had to wait for accepted an id after
    /// that was settled. An id that is forgotten or runs again by now stays as it
    /// is: it was delivered without this receipt.
    pub fn accept_late(&self, source: &str, id: &str, destination: &Arc<str>, at: SystemTime) {
        let id = IdDigest::of(source, id);
        let shard = self.shard(id);
        if shard.running.contains_key(&id) {
            return;
        }
        if let Some(mut record) = self.known(&shard, id, self.forgetting.now()) {
            record.accept(self.names.intern(destination), millis(at));
            shard.settled.put(id, record);
        }
    }

    /// Does what was put off: forgets what is over the bound or has expired, and
    /// brings the metrics up to date. To be called every second, from a thread
    /// that may block: a sweep looks at every id, some tenths of a second for a
    /// million, and comes once in an hour, or with a shorter retention in each
    /// thirty-second part of it, yet not twice in a minute.
    pub fn tick(&self) {
        let now = self.forgetting.now();
        let settled = self.settled();
        if now >= self.next_sweep.load(Ordering::Relaxed) {
            let every = (self.forgetting.retention() / 32).clamp(SWEEP_EVERY, 60 * SWEEP_EVERY);
            self.next_sweep
                .store(now.saturating_add(every), Ordering::Relaxed);
            self.sweep(&settled, now);
        }
        self.count();
        self.forgetting.tell(now);
    }

    /// Brings the count of known ids up to date, as for somebody who asks now.
    pub fn count(&self) {
        let settled = self.settled();
        settled.tidy();
        let entries = i64::try_from(settled.len()).unwrap_or(i64::MAX);
        self.forgetting.metrics().entries.set(entries);
    }

    /// Takes over a new configuration. Another `retention` counts at once, also
    /// for ids known already. Another `max_entries` moves the newest ids to a new
    /// store, which takes seconds for a million, and claims wait meanwhile: moka
    /// cannot be resized, and ids must not be known in two orders. Wants a
    /// thread that may block.
    pub fn reconfigure(&self, config: &LedgerConfig) {
        self.forgetting
            .set_retention(duration_millis(config.retention));
        let mut shards: Vec<_> = self.shards.iter().map(lock).collect();
        let Some(old) = shards.first().map(|shard| shard.settled.clone()) else {
            return;
        };
        if old.max_entries() == config.max_entries {
            return;
        }
        let new = self.moved(&old, config.max_entries);
        for shard in &mut shards {
            shard.settled = new.clone();
        }
        // The old store is large, and goes after the locks do.
        drop(shards);
    }

    /// A store with the newest of `old`, in their order.
    fn moved(&self, old: &Settled, max_entries: u64) -> Settled {
        let now = self.forgetting.now();
        let mut known: Vec<Arc<Known>> = old
            .iter()
            .filter(|known| !self.forgetting.expired(&known.record, now))
            .collect();
        known.sort_unstable_by_key(|known| known.record.last);
        let room = usize::try_from(max_entries).unwrap_or(usize::MAX);
        let newest = known.split_off(known.len().saturating_sub(room));
        for known in known {
            self.forgetting.forgot(&known.record);
        }
        let new = Settled::new(max_entries, Arc::clone(&self.forgetting));
        for known in newest {
            new.put(known.id(), known.record.clone());
        }
        new
    }

    /// Ends the run of an id; without a `record`, what was known of it stays.
    fn end(&self, id: IdDigest, record: Option<Record>) {
        let mut shard = self.shard(id);
        if let Some(record) = record {
            shard.settled.put(id, record);
        }
        shard.running.remove(&id);
    }

    /// Removes all ids that have expired.
    fn sweep(&self, settled: &Settled, now: Millis) {
        for known in settled.iter() {
            if self.forgetting.expired(&known.record, now) {
                let shard = self.shard(known.id());
                // It may have been settled anew since it was seen.
                let record = shard.settled.get(known.id());
                if record.is_some_and(|record| self.forgetting.expired(&record, now)) {
                    shard.settled.remove(known.id());
                }
            }
        }
    }

    /// What is known of a settled id.
    fn known(&self, shard: &Shard<A>, id: IdDigest, now: Millis) -> Option<Record> {
        let record = shard.settled.get(id)?;
        (!self.forgetting.expired(&record, now)).then_some(record)
    }

    fn settled(&self) -> Settled {
        lock(&self.shards[0]).settled.clone()
    }

    fn shard(&self, id: IdDigest) -> MutexGuard<'_, Shard<A>> {
        lock(&self.shards[id.shard(SHARDS)])
    }
}

fn lock<A>(shard: &Mutex<Shard<A>>) -> MutexGuard<'_, Shard<A>> {
    // A shard is whole after every statement that changes it, so what a thread
    // that panicked left behind can be used.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

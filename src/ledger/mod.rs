//! The ledger: who has accepted which id.
//!
//! An id is absent, running, failed, partly delivered or delivered. Running ids live in
//! a map of their own, because nothing may push them out; settled ones live in
//! `settled`, which is bounded and forgets the oldest. Both are guarded by the
//! lock of the id's shard, so each id changes hands in one place at a time.
//!
//! Memory is the hot tier, and without a store behind it, all there is. Another
//! store keeps what was accepted beyond the process: it is asked for ids that memory
//! does not know, and a receipt is with it before anybody is answered. No lock is
//! held while it is waited for; the id is running meanwhile. What it could not take
//! is *owed*: kept in memory where nothing pushes it out, and written before the id
//! is used again (`keeping.rs`).
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
mod journal;
mod keeping;
mod look;
mod record;
mod redis;
mod run;
mod settled;
mod sharing;
mod store;
mod stored;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::time::Instant;

pub use claim::{BodyDigest, Claim};
pub use config::LedgerConfig;
pub use look::{Forgotten, Look, LookState};
pub use redis::{RedisConfig, RedisUrl, WhenAway};
pub use run::{Reservation, Told, Waiter};

use claim::{ByDigest, IdDigest};
use forgetting::Forgetting;
use journal::Journal;
use record::{Millis, Names, Record, Verdict, duration_millis, time};
use redis::Redis;
use run::Run;
use settled::Settled;
use store::Store;

use crate::observe::{Clock, LedgerMetrics, RepeatKind};

/// Enough that threads of a large machine seldom meet, and few enough to lock
/// all of them when `max_entries` changes.
const SHARDS: usize = 64;

/// The sweep for expired ids comes at most this often (milliseconds): it looks
/// at every id, and what it frees would only have been reused later.
const SWEEP_EVERY: u64 = 60_000;

/// Who has accepted which id. `A` is what those who wait for a running id are
/// told.
pub struct Ledger<A> {
    shards: Box<[Mutex<Shard<A>>]>,
    store: Store,
    names: Arc<Names>,
    forgetting: Arc<Forgetting>,
    next_sweep: AtomicU64,
}

struct Shard<A> {
    running: HashMap<IdDigest, Arc<Run<A>>, ByDigest>,
    /// What the store could not take. No more than were at work when it went
    /// away: once it is known to be away, ids that it would have to tell of are
    /// refused.
    owed: HashMap<IdDigest, Record, ByDigest>,
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

/// What a claim comes to that needs no run.
enum Over {
    Duplicate { first: SystemTime, kind: RepeatKind },
    Conflict { first: SystemTime },
}

impl<A> From<Over> for Reserved<A> {
    fn from(over: Over) -> Self {
        match over {
            Over::Duplicate { first, kind } => Reserved::Duplicate { first, kind },
            Over::Conflict { first } => Reserved::Conflict { first },
        }
    }
}

/// The ledger's store does not answer, or could not keep something. The one in
/// memory always can.
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

/// Why a ledger cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// Another process owns its journal.
    Elsewhere,
    /// It never can; why, in words that follow `ledger.journal`.
    Refused(String),
}

impl<A> Ledger<A> {
    /// An empty ledger. `clock` is asked where no caller brings the time: on
    /// look-ups, and for what is forgotten.
    pub fn in_memory(config: &LedgerConfig, metrics: LedgerMetrics, clock: Clock) -> Arc<Self> {
        Self::with(Store::Memory, Arc::default(), config, (metrics, clock))
    }

    /// A ledger where the configuration says; one in Redis begins to connect, so
    /// this is to be called in a tokio runtime. Whether that can be used is told by
    /// [`usable`](Self::usable); until then every claim is refused.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn open(
        config: &LedgerConfig,
        metrics: LedgerMetrics,
        clock: Clock,
    ) -> io::Result<Arc<Self>> {
        let names = Arc::<Names>::default();
        let store = match (&config.journal, &config.redis) {
            (None, None) => Store::Memory,
            (Some(path), _) => {
                let retention = duration_millis(config.retention);
                Store::Journal(Journal::open(path, &names, retention)?)
            }
            (None, Some(redis)) => Store::Redis(Redis::open(
                redis.clone(),
                Arc::clone(&names),
                metrics.clone(),
            )),
        };
        Ok(Self::with(store, names, config, (metrics, clock)))
    }

    /// Waits until the ledger can be used. A journal whose disk is away can: its
    /// requests are refused until it is back.
    ///
    /// # Errors
    /// When it never can, or another process owns its journal until `deadline`.
    pub async fn usable(&self, deadline: Instant) -> Result<(), Unusable> {
        self.store.usable(deadline).await
    }

    /// A ledger on a store; `names` are those that the store's records go by.
    fn with(
        store: Store,
        names: Arc<Names>,
        config: &LedgerConfig,
        (metrics, clock): (LedgerMetrics, Clock),
    ) -> Arc<Self> {
        let retention = duration_millis(config.retention);
        let forgetting = Forgetting::new(retention, metrics, clock);
        let forgetting = Arc::new(if store.is_asked() {
            forgetting.of_a_hot_tier()
        } else {
            forgetting
        });
        if let Some(redis) = store.shared() {
            redis.forgets_by(&forgetting);
        }
        let settled = Settled::new(config.max_entries, Arc::clone(&forgetting));
        let shard = || Shard {
            running: HashMap::default(),
            owed: HashMap::default(),
            settled: settled.clone(),
        };
        Arc::new(Self {
            shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect(),
            store,
            names,
            next_sweep: AtomicU64::new(forgetting.now().saturating_add(SWEEP_EVERY)),
            forgetting,
        })
    }

    /// Claims an id: to run it, or to learn that it was delivered or is running.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn reserve(self: &Arc<Self>, claim: Claim) -> Result<Reserved<A>, LedgerAway> {
        let id = IdDigest::of(&claim.source, claim.id.as_bytes());
        let now = self.forgetting.saw(claim.now);
        if let Some(redis) = self.store.shared() {
            // Boxed, as what follows with a journal, so that memory does not carry
            // their size.
            return Box::pin(self.reserve_shared(redis, id, claim)).await;
        }
        let reservation = {
            let mut shard = self.shard(id);
            if let Some(run) = shard.running.get(&id) {
                return Ok(Reserved::Running(Waiter::new(run, &claim)));
            }
            let known = match self.known(&shard, id, now) {
                None => None,
                Some(record) => match Self::judged(record, &claim, now) {
                    Err(over) => return Ok(over.into()),
                    earlier => Some(earlier.ok()),
                },
            };
            // Before anything is delivered that could not be kept.
            self.store.up()?;
            let asked = known.is_none() && self.store.is_asked();
            let run = Arc::new(Run::new(&claim));
            if !asked {
                run.starts_from(known.flatten());
            }
            shard.running.insert(id, Arc::clone(&run));
            drop(shard);
            let reservation = Reservation::new(Arc::clone(self), run, id, claim);
            if !asked {
                return Ok(Reserved::Run(reservation));
            }
            reservation
        };
        Box::pin(self.ask(reservation, now)).await
    }

    /// What a claim on a known id comes to: the record it runs from, or the end.
    fn judged(record: Record, claim: &Claim, now: Millis) -> Result<Record, Over> {
        let first = time(record.first);
        let kind = if record.signed == claim.signed {
            RepeatKind::SameTimestamp
        } else {
            RepeatKind::NewTimestamp
        };
        match record.judge(claim, now) {
            Verdict::Run(record) => Ok(record),
            Verdict::Duplicate => Err(Over::Duplicate { first, kind }),
            Verdict::Conflict => Err(Over::Conflict { first }),
        }
    }

    /// Does what was put off: forgets what has expired, and brings the metrics up to
    /// date. To be called every second, from a thread that may block: a sweep looks
    /// at every id, some hundredths of a second for a million, and comes once in an
    /// hour, or with a shorter retention in each thirty-second part of it, yet not
    /// twice in a minute.
    pub fn tick(&self) {
        let now = self.forgetting.now();
        let settled = self.settled();
        if now >= self.next_sweep.load(Ordering::Relaxed) {
            let every = (self.forgetting.retention() / 32).clamp(SWEEP_EVERY, 60 * SWEEP_EVERY);
            self.next_sweep
                .store(now.saturating_add(every), Ordering::Relaxed);
            settled.sweep(now);
        }
        self.count();
        self.forgetting.tell(now);
    }

    /// Brings the metrics up to date, as for somebody who asks now: how many ids
    /// are known, and whether the store answers.
    pub fn count(&self) {
        let settled = self.settled();
        let entries = self.store.count().unwrap_or_else(|| settled.len());
        let metrics = self.forgetting.metrics();
        metrics
            .entries
            .set(i64::try_from(entries).unwrap_or(i64::MAX));
        metrics.up.set(i64::from(self.store.up().is_ok()));
    }

    /// Why the store is away, if it is.
    ///
    /// # Errors
    /// When it is.
    pub fn up(&self) -> Result<(), LedgerAway> {
        self.store.up()
    }

    /// Takes over a new configuration. Another `retention` counts at once, also
    /// for ids known already. Another `max_entries` moves the newest ids to a new
    /// place, which takes some tenths of a second for a million, and claims wait
    /// meanwhile: ids must not be known in two orders. Wants a thread that may block.
    pub fn reconfigure(&self, config: &LedgerConfig) {
        if let (Some(redis), Some(config)) = (self.store.shared(), &config.redis) {
            redis.reconfigure(config);
        }
        self.forgetting
            .set_retention(duration_millis(config.retention));
        self.store.set_retention(duration_millis(config.retention));
        let mut shards: Vec<_> = self.shards.iter().map(lock).collect();
        let Some(old) = shards.first().map(|shard| shard.settled.clone()) else {
            return;
        };
        if old.max_entries() == config.max_entries {
            return;
        }
        let new = old.resized(config.max_entries);
        for shard in &mut shards {
            shard.settled = new.clone();
        }
        // What was before is large, and goes after the locks do.
        drop(shards);
    }

    /// What memory knows of a settled id, and may be acted on. What is owed to
    /// the store may not, until it is written.
    fn known(&self, shard: &Shard<A>, id: IdDigest, now: Millis) -> Option<Record> {
        if shard.owed.contains_key(&id) {
            return None;
        }
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

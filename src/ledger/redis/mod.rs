//! The ledger's store in Redis, which replicas share.
//!
//! Whoever runs an id holds a lease on it, which Redis takes back after a known
//! time if its holder is gone, and which is renewed while a run lasts longer. A
//! record is written only in the place of the one that it was made from; where
//! another replica was quicker, the receipts of both count. So a run whose lease
//! was lost takes nothing from anybody, and a write may be done twice.
//!
//! An id costs two round trips: one to take the lease and learn what is known, one
//! to write the record and give the lease back. A duplicate costs one.

mod change;
mod config;
mod leases;
mod link;
mod script;
mod standing;
mod supervisor;
mod value;

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use redis::{Cmd, FromRedisValue, cmd};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

pub use config::{RedisConfig, RedisUrl, WhenAway};

pub(super) use leases::Leases;
use leases::Settling;
use link::{Failed, Link};
use script::Script;
use standing::{Inner, Standing};
use supervisor::{Supervisor, no_answer};
use value::Unreadable;

use super::claim::IdDigest;
use super::forgetting::Forgetting;
use super::record::{Names, Record};
use super::{BodyDigest, Claim, LedgerAway};
use crate::observe::LedgerMetrics;

/// The store in Redis. Its connection ends with it.
pub(super) struct Redis {
    inner: Arc<Inner>,
    names: Arc<Names>,
    /// How long records are known, and what time it is.
    forgetting: OnceLock<Arc<Forgetting>>,
    supervisor: JoinHandle<()>,
}

/// What became of a claim.
pub(super) enum Claimed {
    /// The id is this replica's to run, from what was known.
    Ours(Option<Record>),
    /// It was delivered, and no lease was taken. The second is what stands there,
    /// for [`Redis::claim`] to expect.
    Known(Record, Vec<u8>),
    /// It runs, on another replica.
    Elsewhere(Elsewhere),
}

/// A run on another replica.
pub(super) struct Elsewhere {
    token: String,
    pub(super) body: BodyDigest,
    pub(super) signed: u64,
}

/// How long the outcome of a run is there for those who wait for it. They look at
/// least every [`LOOK_LONGEST`].
const END: Duration = Duration::from_secs(5);
/// Between two looks whether a run on another replica has ended, at first and at
/// most.
const LOOK_FIRST: Duration = Duration::from_millis(10);
const LOOK_LONGEST: Duration = Duration::from_millis(250);
/// Ids that are looked at in one step.
const AT_ONCE: usize = 1000;
/// How often a record is made anew because another replica was quicker. Who
/// settles holds the lease, so the first is rare already.
const TRIES: usize = 8;

impl Redis {
    /// Begins to connect. To be called in a tokio runtime.
    pub(super) fn open(config: RedisConfig, names: Arc<Names>, metrics: LedgerMetrics) -> Self {
        Self::open_as(Leases::new(), config, names, metrics)
    }

    pub(super) fn open_as(
        leases: Leases,
        config: RedisConfig,
        names: Arc<Names>,
        metrics: LedgerMetrics,
    ) -> Self {
        let inner = Arc::new(Inner::new(leases, config, metrics));
        let supervisor = tokio::spawn(Supervisor::new(Arc::clone(&inner)).run());
        Self {
            inner,
            names,
            forgetting: OnceLock::new(),
            supervisor,
        }
    }

    /// Says how long records are known; asked once, before anything else.
    pub(super) fn forgets_by(&self, forgetting: &Arc<Forgetting>) {
        let _ = self.forgetting.set(Arc::clone(forgetting));
    }

    /// Takes over another configuration, all but the prefix.
    pub(super) fn reconfigure(&self, config: &RedisConfig) {
        if **self.inner.config.load() != *config {
            self.inner.config.store(Arc::new(config.clone()));
            self.inner.changed.notify_one();
        }
    }

    /// Whether this replica goes on alone while Redis is away.
    pub(super) fn goes_on_alone(&self) -> bool {
        self.inner.config.load().when_away == WhenAway::Memory
    }

    /// Whether Redis answers, as far as it is known.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn up(&self) -> Result<(), LedgerAway> {
        match &*self.inner.standing.borrow() {
            Standing::Ready(_) => Ok(()),
            Standing::Connecting => Err(away("connecting")),
            Standing::Away(why) => Err(away(why)),
        }
    }

    /// Keys in the database, as of the last heartbeat.
    pub(super) fn count(&self) -> Option<u64> {
        Some(self.inner.entries.load(Ordering::Relaxed))
    }

    /// Takes the lease of an id. What is final stays so, unless it is `expected`:
    /// what the caller has seen, and wants to run from all the same.
    ///
    /// # Errors
    /// When Redis is away; the lease may be taken then, and the next claim of this
    /// replica takes it over.
    pub(super) async fn claim(
        &self,
        id: IdDigest,
        claim: &Claim,
        expected: &[u8],
    ) -> Result<Claimed, LedgerAway> {
        let mut lease = self.inner.leases.new_lease(claim.body, claim.signed);
        let time = self.inner.config.load().lease.as_millis().to_string();
        let arguments = [
            lease.text.as_bytes(),
            time.as_bytes(),
            self.inner.leases.replica.as_bytes(),
            expected,
        ];
        let keys = self.inner.keys(id);
        let (what, found): (u8, Option<Vec<u8>>) =
            self.run(Script::Claim, &keys[..2], &arguments).await?;
        let found = found.unwrap_or_default();
        match what {
            script::RUNNING => Ok(Claimed::Elsewhere(elsewhere(&found)?)),
            script::KNOWN => Ok(Claimed::Known(self.read(&found)?, found)),
            script::RUN => {
                let record = match &found[..] {
                    b"" => Ok(None),
                    found => self.read(found).map(Some),
                };
                lease.expected = found;
                self.inner.leases.hold(id, lease);
                match record {
                    Ok(record) => Ok(Claimed::Ours(record)),
                    Err(unreadable) => {
                        self.give_back(id);
                        Err(unreadable)
                    }
                }
            }
            _ => Err(away("it answered a claim with something else")),
        }
    }

    /// Says how the run of an id came out, for those who wait on other replicas.
    pub(super) fn tell(&self, id: IdDigest, outcome: String) {
        self.inner.leases.tell(id, outcome);
    }

    /// Writes what is known of an id after it ran, with what others have written
    /// meanwhile, and gives its lease back. Without a record, what was known stays.
    /// Whoever waits for it on another replica is told what [`tell`](Self::tell) said.
    ///
    /// # Errors
    /// When Redis is away: it may be written, or may not, and the lease stays this
    /// replica's. To be called again then.
    pub(super) async fn settle(
        &self,
        id: IdDigest,
        record: Option<&Record>,
    ) -> Result<(), LedgerAway> {
        let settling = self.inner.leases.settle(id);
        let (token, mut expected, outcome) = match settling.as_ref().map(|one| &one.lease) {
            Some(lease) => (&lease.token[..], lease.expected.clone(), &lease.outcome[..]),
            None if record.is_none() => return Ok(()),
            None => Default::default(),
        };
        let keys = self.inner.keys(id);
        let end = END.as_millis().to_string();
        let mut record = record.cloned();
        for _ in 0..TRIES {
            let (text, time) = self.written(record.as_ref());
            let arguments = [
                token.as_bytes(),
                &expected,
                text.as_bytes(),
                time.as_bytes(),
                outcome.as_bytes(),
                end.as_bytes(),
            ];
            let (what, known): (u8, Vec<u8>) = self.run(Script::Settle, &keys, &arguments).await?;
            if what == 0 {
                if settling.is_some_and(Settling::done) {
                    self.inner.given_back.notify_one();
                }
                return Ok(());
            }
            // Another replica was quicker; its receipts are facts as well.
            if let (Some(ours), false) = (&record, known.is_empty()) {
                record = Some(value::merged(self.read(&known)?, ours));
            }
            expected = known;
        }
        Err(away("other replicas write the same id without end"))
    }

    /// Gives the lease of an id back when there is nothing to write. That happens
    /// soon, and nobody waits for it.
    pub(super) fn give_back(&self, id: IdDigest) {
        if self.inner.leases.free(id) {
            self.inner.given_back.notify_one();
        }
    }

    /// Renews all leases, as after a reconnect.
    #[cfg(test)]
    pub(super) async fn renew(&self) {
        let link = self.inner.link().await.unwrap();
        let supervisor = Supervisor::new(Arc::clone(&self.inner));
        supervisor.renew(&link, Duration::ZERO).await.unwrap();
    }

    /// Waits until a run on another replica has ended: how it came out, or none
    /// when that is not known and the id is free.
    ///
    /// # Errors
    /// When Redis is away.
    pub(super) async fn outcome(
        &self,
        id: IdDigest,
        elsewhere: &Elsewhere,
    ) -> Result<Option<String>, LedgerAway> {
        let [_, run, end] = self.inner.keys(id);
        let look = cmd("MGET").arg(run).arg(end).to_owned();
        let mut wait = LOOK_FIRST;
        loop {
            // Many may wait for one end, and are not to look all at once.
            sleep(wait.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
            wait = wait.mul_f64(1.5).min(LOOK_LONGEST);
            let (run, end): (Option<Vec<u8>>, Option<Vec<u8>>) = self.ask(&look).await?;
            let running = run.and_then(|run| leases::read(&run));
            if running.is_some_and(|told| told.token == elsewhere.token) {
                continue;
            }
            let end = end.and_then(|end| String::from_utf8(end).ok());
            let outcome = end.as_deref().and_then(|end| end.split_once(' '));
            let outcome = outcome.filter(|(token, _)| *token == elsewhere.token);
            return Ok(outcome.map(|(_, outcome)| outcome.to_owned()));
        }
    }

    fn read(&self, text: &[u8]) -> Result<Record, LedgerAway> {
        value::read(text, &self.names).map_err(|Unreadable| away(Unreadable::WHY))
    }

    /// A record as it is written, and for how long (ms); of none, nothing.
    fn written(&self, record: Option<&Record>) -> (String, String) {
        let (Some(record), Some(forgetting)) = (record, self.forgetting.get()) else {
            return (String::new(), String::new());
        };
        let until = record.last.saturating_add(forgetting.retention());
        // Redis takes no more than fits an i64, and nothing that is over.
        let time = until.saturating_sub(forgetting.now());
        let time = time.clamp(1, u64::from(u32::MAX) * 1000);
        (value::write(record, &self.names), time.to_string())
    }

    async fn run<T: FromRedisValue>(
        &self,
        script: Script,
        keys: &[String],
        arguments: &[&[u8]],
    ) -> Result<T, LedgerAway> {
        self.over_link(async |link| link.run(script, keys, arguments).await)
            .await
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, LedgerAway> {
        self.over_link(async |link| link.ask(command).await).await
    }

    /// Asks something over the connection, within `timeout`. What fails for want
    /// of Redis makes it count as away.
    async fn over_link<T>(
        &self,
        ask: impl AsyncFnOnce(&Link) -> Result<T, Failed>,
    ) -> Result<T, LedgerAway> {
        let patience = self.inner.config.load().timeout;
        let mut used = None;
        let asked = async {
            let link = self.inner.link().await?;
            used = Some(link.number);
            ask(&link).await
        };
        let why = match timeout(patience, asked).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(Failed::Refused(why))) => return Err(away(&why)),
            Ok(Err(Failed::Away(why))) => why,
            Err(_) => no_answer(patience),
        };
        if let Some(number) = used {
            self.inner.suspect(number);
        }
        Err(away(&why))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

fn elsewhere(run: &[u8]) -> Result<Elsewhere, LedgerAway> {
    let told = leases::read(run).ok_or_else(|| away(Unreadable::WHY))?;
    Ok(Elsewhere {
        token: told.token,
        body: told.body,
        signed: told.signed,
    })
}

fn away(reason: &str) -> LedgerAway {
    LedgerAway {
        reason: reason.to_owned(),
    }
}

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::cmd;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::link::{Driver, Failed, Link};
use super::standing::{Inner, Standing};
use crate::setting::Escaped;

/// Keeps a connection to Redis, and does on it what nobody waits for: heartbeats,
/// renewing leases, giving them back.
pub(super) struct Supervisor {
    inner: Arc<Inner>,
    /// What was last told of how Redis keeps things.
    warned: Option<String>,
}

/// How often it is asked whether it is there, at least.
const BEAT: Duration = Duration::from_secs(1);
/// Between attempts to connect, at first and at most: service is to be back
/// within 2 s of a Redis that restarts.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(1);
/// For a whole attempt: name, TCP, TLS, password, scripts.
const CONNECT: Duration = Duration::from_secs(5);
/// A key that every replica writes again and again, to see that it can (ms).
const ALIVE: u64 = 60_000;

impl Supervisor {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self {
            inner,
            warned: None,
        }
    }

    pub(super) async fn run(mut self) {
        let mut wait = SHORTEST;
        for number in 0.. {
            let why = match self.connect(number).await {
                Ok((link, driver)) => {
                    let began = Instant::now();
                    let why = self.serve(Arc::new(link), driver).await;
                    if began.elapsed() >= LONGEST {
                        wait = SHORTEST;
                    }
                    self.inner.metrics.up.set(0);
                    tracing::debug!(reason = why, "the connection to the ledger's Redis is lost");
                    // Who asks meanwhile waits for the next one, if that is soon.
                    self.inner.stand(Standing::Connecting);
                    if wait == SHORTEST {
                        wait = wait.saturating_mul(2);
                        continue;
                    }
                    why
                }
                Err(why) => why,
            };
            self.inner.away(why);
            // Replicas are not to come all at once.
            let jittered = wait.mul_f64(0.5 + fastrand::f64() / 2.0);
            tokio::select! {
                () = sleep(jittered) => {}
                () = self.inner.changed.notified() => {}
            }
            wait = wait.saturating_mul(2).min(LONGEST);
        }
    }

    /// One attempt. It counts as away as soon as the attempt takes longer than an
    /// answer may.
    async fn connect(&self, number: u64) -> Result<(Link, Driver), String> {
        let config = self.inner.config.load_full();
        let patience = config.timeout;
        let mut attempt = Box::pin(async {
            let (link, mut driver) = Link::open(&config, number).await?;
            tokio::select! {
                () = &mut driver => return Err("it closed the connection".into()),
                beaten = beat(&self.inner, &link) => beaten?,
            }
            Ok((link, driver))
        });
        match timeout(patience, &mut attempt).await {
            Ok(done) => done,
            Err(_) => {
                self.inner.away(no_answer(patience));
                let rest = timeout(CONNECT, &mut attempt).await;
                rest.unwrap_or_else(|_| Err(no_answer(CONNECT)))
            }
        }
    }

    /// Uses a connection for as long as it lasts, and says why it ended.
    async fn serve(&mut self, link: Arc<Link>, driver: Driver) -> String {
        let inner = Arc::clone(&self.inner);
        inner.here(Arc::clone(&link));
        let mut standing = inner.standing.subscribe();
        let lost = standing.wait_for(|standing| !standing.is(link.number));
        tokio::select! {
            () = driver => "it closed the connection".into(),
            why = self.chores(&link) => why,
            _ = lost => "it did not answer in time".into(),
            () = inner.changed.notified() => "it is configured anew".into(),
        }
    }

    async fn chores(&mut self, link: &Link) -> String {
        // What was held over the gap is held on, before anybody else comes.
        if let Err(why) = self.renew(link, Duration::ZERO).await {
            return why;
        }
        self.warn(link).await;
        let (lease, timeout) = {
            let config = self.inner.config.load();
            (config.lease, config.timeout)
        };
        let mut beats = interval(BEAT.min(lease / 4));
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                _ = beats.tick() => match beat(&self.inner, link).await {
                    Ok(()) => self.renew(link, lease / 3).await,
                    Err(why) => Err(why),
                },
                () = self.inner.given_back.notified() => {
                    within(timeout, self.inner.give_back(link)).await
                }
            };
            if let Err(why) = done {
                return why;
            }
        }
    }

    /// Lengthens the leases that were taken or renewed longer ago.
    pub(super) async fn renew(&self, link: &Link, since: Duration) -> Result<(), String> {
        let due = self.inner.leases.due(since);
        let config = self.inner.config.load_full();
        let lease = config.lease.as_millis().to_string();
        for some in due.chunks(super::AT_ONCE) {
            let keys: Vec<String> = some.iter().map(|(id, _)| self.inner.run_key(*id)).collect();
            let mut arguments: Vec<&[u8]> = vec![lease.as_bytes()];
            arguments.extend(some.iter().map(|(_, text)| text.as_bytes()));
            let renewing = link.run::<u64>(super::Script::Renew, &keys, &arguments);
            within(config.timeout, renewing).await?;
            self.inner.leases.renewed(some);
        }
        Ok(())
    }

    /// Warns of a Redis that may forget what it was told.
    async fn warn(&mut self, link: &Link) {
        let timeout = self.inner.config.load().timeout;
        let info = cmd("INFO").to_owned();
        // Who may not ask is told nothing.
        let Ok(info) = within(timeout, link.ask::<String>(&info)).await else {
            return;
        };
        let save = cmd("CONFIG").arg("GET").arg("save").to_owned();
        let save = within(timeout, link.ask::<HashMap<String, String>>(&save)).await;
        let save = save.ok().and_then(|found| found.get("save").cloned());
        let warning = warning(&info, save.as_deref());
        if warning == self.warned {
            return;
        }
        if let Some(warning) = &warning {
            tracing::warn!(redis = %self.inner.config.load(), "{warning}");
        }
        self.warned = warning;
    }
}

/// Looks whether Redis takes something, and how much it holds.
async fn beat(inner: &Inner, link: &Link) -> Result<(), String> {
    let timeout = inner.config.load().timeout;
    let write = cmd("SET")
        .arg(format!("{}alive", inner.prefix))
        .arg(1)
        .arg("PX")
        .arg(ALIVE)
        .to_owned();
    within(timeout, link.ask::<()>(&write)).await?;
    let count = cmd("DBSIZE").to_owned();
    match within(timeout, link.ask::<u64>(&count)).await {
        Ok(count) => inner.entries.store(count, Ordering::Relaxed),
        // Not everybody may ask that.
        Err(why) if why.starts_with("NOPERM") => {}
        Err(why) => return Err(why),
    }
    Ok(())
}

async fn within<T>(
    patience: Duration,
    asked: impl Future<Output = Result<T, Failed>>,
) -> Result<T, String> {
    match timeout(patience, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(Failed::Away(why) | Failed::Refused(why))) => Err(why),
        Err(_) => Err(no_answer(patience)),
    }
}

pub(super) fn no_answer(patience: Duration) -> String {
    format!("no answer within {patience:?}")
}

/// What is to be feared of a Redis, by what it says of itself (`INFO`) and the
/// value of `save`, if that was told.
fn warning(info: &str, save: Option<&str>) -> Option<String> {
    let value = |key: &str| {
        let mut lines = info.lines();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
    };
    let policy = value("maxmemory_policy").unwrap_or("noeviction");
    let limited = value("maxmemory").is_some_and(|bytes| bytes != "0");
    if limited && policy != "noeviction" {
        return Some(format!(
            "the ledger's Redis evicts keys when it is full (`maxmemory-policy {}`): ids \
             would be forgotten too early and events delivered twice; give it `noeviction`",
            Escaped(policy)
        ));
    }
    let appends = value("aof_enabled") == Some("1");
    (!appends && save == Some("")).then(|| {
        "the ledger's Redis keeps nothing on disk (`appendonly no`, `save \"\"`): a restart of it \
         forgets every id; give it `appendonly yes`"
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_that_may_evict_is_warned_of() {
        for (limit, policy, warned) in [
            ("0", "allkeys-lru", false),
            ("1048576", "noeviction", false),
            ("1048576", "allkeys-lru", true),
            ("1048576", "volatile-ttl", true),
        ] {
            let info = format!("# Memory\r\nmaxmemory:{limit}\r\nmaxmemory_policy:{policy}\r\n");
            let told = warning(&info, Some("3600 1"));
            assert_eq!(
                told.is_some_and(|told| told.contains(policy)),
                warned,
                "{info}"
            );
        }
    }

    #[test]
    fn a_redis_that_keeps_nothing_is_warned_of() {
        let told = |aof: u8, save| warning(&format!("aof_enabled:{aof}\r\n"), save).is_some();
        assert!(told(0, Some("")));
        assert!(!told(1, Some("")));
        assert!(!told(0, Some("3600 1")));
        assert!(!told(0, None), "what may not be asked is not guessed");
    }
}

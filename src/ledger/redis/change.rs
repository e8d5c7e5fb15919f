use std::time::Duration;

use redis::cmd;
use tokio::time::timeout;

use super::script::Script;
use super::standing::KEY;
use super::{AT_ONCE, Elsewhere, Redis, TRIES, away, elsewhere};
use crate::ledger::claim::IdDigest;
use crate::ledger::record::{Millis, Record};
use crate::ledger::{Forgotten, LedgerAway};

/// What is known of an id, and who runs it.
pub(in crate::ledger) struct Known {
    pub(in crate::ledger) record: Option<Record>,
    pub(in crate::ledger) elsewhere: Option<Elsewhere>,
}

/// For forgetting by time, which looks at every key of the database.
const FORGETTING: Duration = Duration::from_secs(60);

impl Redis {
    /// What is known of an id, and whether it runs on another replica.
    ///
    /// # Errors
    /// When Redis is away.
    pub(in crate::ledger) async fn look(&self, id: IdDigest) -> Result<Known, LedgerAway> {
        let (record, run) = self.found(id).await?;
        let record = match record {
            Some(record) => Some(self.read(&record)?),
            None => None,
        };
        let elsewhere = self.elsewhere(run)?;
        Ok(Known { record, elsewhere })
    }

    /// Who runs an id, by its lease, if that is another replica. A lease of this one
    /// is one that it gave up.
    fn elsewhere(&self, run: Option<Vec<u8>>) -> Result<Option<Elsewhere>, LedgerAway> {
        let Some(run) = run else { return Ok(None) };
        let run = elsewhere(&run)?;
        let ours = run.token.starts_with(&self.inner.leases.replica);
        Ok(Some(run).filter(|_| !ours))
    }

    /// Changes what is known of an id that the caller holds and that runs on no
    /// other replica; a change to none forgets it. The change says no with `None`.
    ///
    /// # Errors
    /// When Redis is away: it may be changed then.
    pub(in crate::ledger) async fn change(
        &self,
        id: IdDigest,
        mut change: impl FnMut(Record) -> Option<Option<Record>>,
    ) -> Result<Forgotten, LedgerAway> {
        let keys = self.inner.keys(id);
        for _ in 0..TRIES {
            let (known, run) = self.found(id).await?;
            if self.elsewhere(run)?.is_some() {
                return Ok(Forgotten::Running);
            }
            let Some(known) = known else {
                return Ok(Forgotten::Unknown);
            };
            let Some(record) = change(self.read(&known)?) else {
                return Ok(Forgotten::Unknown);
            };
            let (text, time) = self.written(record.as_ref());
            let replica = self.inner.leases.replica.as_bytes();
            let arguments = [&known[..], text.as_bytes(), time.as_bytes(), replica];
            let (what, _): (u8, Vec<u8>) = self.run(Script::Change, &keys[..2], &arguments).await?;
            match what {
                0 => return Ok(Forgotten::Done),
                1 => {}
                _ => return Ok(Forgotten::Running),
            }
        }
        Ok(Forgotten::Running)
    }

    /// Forgets the ids of a source that were last accepted at `since` or later and
    /// do not run: how many there were. There is no index, which would cost every
    /// event; all keys of the database are looked at, a thousand a step.
    ///
    /// # Errors
    /// When Redis is away, or it takes longer than a minute; some are forgotten
    /// then, and not others.
    pub(in crate::ledger) async fn forget_since(
        &self,
        source: &str,
        since: Millis,
    ) -> Result<u64, LedgerAway> {
        let forgetting = self.forget_all(source, since);
        let forgotten = timeout(FORGETTING, forgetting).await;
        forgotten.unwrap_or_else(|_| {
            Err(away(
                "not all keys were looked at within a minute: repeat it",
            ))
        })
    }

    async fn forget_all(&self, source: &str, since: Millis) -> Result<u64, LedgerAway> {
        // What is to be given back does not run any more.
        self.over_link(async |link| self.inner.give_back(link).await)
            .await?;
        let pattern = format!("{}{}", escaped(&self.inner.prefix), "?".repeat(KEY));
        let since = since.to_string();
        let arguments = [source.as_bytes(), since.as_bytes()];
        let mut forgotten = 0;
        let mut cursor = "0".to_owned();
        loop {
            let scan = cmd("SCAN")
                .arg(&cursor)
                .arg("MATCH")
                .arg(&pattern)
                .arg("COUNT")
                .arg(AT_ONCE)
                .to_owned();
            let (next, records): (String, Vec<String>) = self.ask(&scan).await?;
            for some in records.chunks(AT_ONCE) {
                let pairs = some.iter();
                let keys: Vec<String> = pairs
                    .flat_map(|record| [record.clone(), format!("{record}:run")])
                    .collect();
                forgotten += self
                    .run::<u64>(Script::ForgetSince, &keys, &arguments)
                    .await?;
            }
            cursor = next;
            if cursor == "0" {
                return Ok(forgotten);
            }
        }
    }

    /// What stands under an id's record and its lease.
    async fn found(&self, id: IdDigest) -> Result<(Option<Vec<u8>>, Option<Vec<u8>>), LedgerAway> {
        let [record, run, _] = self.inner.keys(id);
        self.ask(cmd("MGET").arg(record).arg(run)).await
    }
}

/// A text as Redis takes it for itself in a pattern.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

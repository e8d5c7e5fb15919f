use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::Semaphore;

use crate::ledger::LedgerAway;
use crate::ledger::claim::{ByDigest, IdDigest};
use crate::ledger::record::{Millis, Record};
use crate::ledger::store::Page;

/// A store that survives the ledger on it, and does what a test says. Cloning
/// shares it.
#[derive(Clone)]
pub(in crate::ledger) struct Scripted(Arc<Mutex<Script>>, Arc<Semaphore>);

#[derive(Default)]
struct Script {
    records: HashMap<IdDigest, Record, ByDigest>,
    /// It says so.
    away: bool,
    /// It fails, and does not know before.
    fails: bool,
    /// It does not take this one.
    refused: Option<IdDigest>,
    looks: usize,
}

impl Scripted {
    pub(super) fn new() -> Self {
        Self(Arc::default(), Arc::new(Semaphore::new(1)))
    }

    /// It notices that it is away, or back.
    pub(super) fn set_away(&self, away: bool) {
        self.0.lock().unwrap().away = away;
    }

    /// The next calls fail, without warning.
    pub(super) fn set_fails(&self, fails: bool) {
        self.0.lock().unwrap().fails = fails;
    }

    /// It does not take this id.
    pub(super) fn refuse(&self, id: IdDigest) {
        self.0.lock().unwrap().refused = Some(id);
    }

    /// How often it was asked for an id.
    pub(super) fn looks(&self) -> usize {
        self.0.lock().unwrap().looks
    }

    /// Calls wait from now on.
    pub(super) fn hold(&self) {
        self.1.forget_permits(1);
    }

    /// They wait no longer.
    pub(super) fn go_on(&self) {
        self.1.add_permits(1);
    }

    pub(in crate::ledger) async fn look(&self, id: IdDigest) -> Result<Option<Record>, LedgerAway> {
        let _permit = self.1.acquire().await.unwrap();
        let mut script = self.0.lock().unwrap();
        script.looks += 1;
        script.ready()?;
        Ok(script.records.get(&id).cloned())
    }

    pub(in crate::ledger) async fn settle(
        &self,
        id: IdDigest,
        record: Option<&Record>,
    ) -> Result<(), LedgerAway> {
        let _permit = self.1.acquire().await.unwrap();
        let mut script = self.0.lock().unwrap();
        script.ready()?;
        if script.refused == Some(id) {
            return Err(away());
        }
        if let Some(record) = record {
            script.records.insert(id, record.clone());
        }
        Ok(())
    }

    pub(in crate::ledger) fn forget(&self, ids: &[IdDigest]) -> Result<(), LedgerAway> {
        let mut script = self.0.lock().unwrap();
        script.ready()?;
        for id in ids {
            script.records.remove(id);
        }
        Ok(())
    }

    pub(in crate::ledger) fn page(&self, source: u32, since: Millis) -> Result<Page, LedgerAway> {
        let script = self.0.lock().unwrap();
        script.ready()?;
        let records = script.records.iter();
        let wanted = records.filter(|(_, record)| record.source == source && record.last >= since);
        Ok(Page {
            ids: wanted.map(|(id, _)| *id).collect(),
            next: None,
        })
    }

    pub(in crate::ledger) fn count(&self) -> u64 {
        self.0.lock().unwrap().records.len() as u64
    }

    pub(in crate::ledger) fn up(&self) -> Result<(), LedgerAway> {
        match self.0.lock().unwrap().away {
            true => Err(away()),
            false => Ok(()),
        }
    }

    pub(in crate::ledger) fn expire(&self, before: Millis) {
        let records = &mut self.0.lock().unwrap().records;
        records.retain(|_, record| record.last > before);
    }
}

impl Script {
    fn ready(&self) -> Result<(), LedgerAway> {
        match self.away || self.fails {
            true => Err(away()),
            false => Ok(()),
        }
    }
}

fn away() -> LedgerAway {
    LedgerAway {
        reason: "on purpose".into(),
    }
}

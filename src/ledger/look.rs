use std::sync::Arc;
use std::time::SystemTime;

use super::Ledger;
use super::claim::IdDigest;
use super::record::{Record, millis, time};
use super::run::Run;

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

impl<A> Ledger<A> {
    /// What is known of an id.
    pub fn lookup(&self, source: &str, id: &str) -> Option<Look> {
        let id = IdDigest::of(source, id);
        let now = self.forgetting.now();
        let shard = self.shard(id);
        match shard.running.get(&id) {
            Some(run) => Some(self.look_at_run(run)),
            None => Some(self.look_at_record(&self.known(&shard, id, now)?)),
        }
    }

    /// Forgets an id, or only that `destination` has accepted it: then the next
    /// retry reaches that destination again.
    pub fn forget(&self, source: &str, id: &str, destination: Option<&str>) -> Forgotten {
        let id = IdDigest::of(source, id);
        let now = self.forgetting.now();
        let shard = self.shard(id);
        if shard.running.contains_key(&id) {
            return Forgotten::Running;
        }
        let Some(mut record) = self.known(&shard, id, now) else {
            return Forgotten::Unknown;
        };
        if let Some(destination) = destination {
            let number = self.names.number(destination);
            if !number.is_some_and(|number| record.forget(number)) {
                return Forgotten::Unknown;
            }
        }
        // What is being resent was delivered, with or without receipts now.
        if destination.is_none() || record.is_failed() {
            shard.settled.remove(id);
        } else {
            shard.settled.put(id, record);
        }
        Forgotten::Done
    }

    /// Forgets all settled ids of a source whose last receipt is of `since` or
    /// later: how many there were. It looks at every id, some tenths of a second
    /// for a million, so it wants a thread that may block.
    pub fn forget_since(&self, source: &str, since: SystemTime) -> usize {
        let (now, since) = (self.forgetting.now(), millis(since));
        let Some(source) = self.names.number(source) else {
            return 0;
        };
        let wanted = |record: &Record| record.source == source && record.last >= since;
        let mut forgotten = 0;
        for known in self.settled().iter().filter(|known| wanted(&known.record)) {
            let shard = self.shard(known.id());
            // It may have changed since it was seen.
            let record = self.known(&shard, known.id(), now);
            let running = shard.running.contains_key(&known.id());
            if !running && record.is_some_and(|record| wanted(&record)) {
                shard.settled.remove(known.id());
                forgotten += 1;
            }
        }
        forgotten
    }

    fn look_at_record(&self, record: &Record) -> Look {
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
        let earlier = run.earlier.as_ref().map(|r| self.look_at_record(r));
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

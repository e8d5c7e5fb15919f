use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::{BodyDigest, Claim, LookState};

/// Milliseconds since the Unix epoch.
pub(super) type Millis = u64;

pub(super) fn millis(time: SystemTime) -> Millis {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    duration_millis(since)
}

pub(super) fn duration_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn time(millis: Millis) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}

/// How far a settled id has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Standing {
    /// Some destinations have accepted it, or none, not all that had to.
    Partly,
    /// All that had to have accepted it.
    Delivered,
    /// It was delivered, is being sent again on purpose, and some destinations
    /// have accepted it again. Its receipts are those of the resend; its signed
    /// time is still that of what was delivered, so that only a request signed
    /// after that goes on with the resend, and a replay of the old one does not.
    Resending,
}

/// What is kept of a settled id.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) body: BodyDigest,
    /// The newest signed time seen (Unix seconds).
    pub(super) signed: u64,
    /// When a destination first accepted it.
    pub(super) first: Millis,
    /// When a destination last accepted it; retention counts from here.
    pub(super) last: Millis,
    pub(super) receipts: Receipts,
    /// Until when a replay would be fresh (Unix seconds); enough until 2106.
    pub(super) window_end: u32,
    /// The source, as a number of [`Names`].
    pub(super) source: u32,
    pub(super) standing: Standing,
}

/// Two without an allocation: few sources fan out further.
pub(super) type Receipts = SmallVec<[Receipt; 2]>;

/// That a destination has accepted an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Receipt {
    /// As a number of [`Names`].
    pub(super) destination: u32,
    /// How long after the record's `first` (milliseconds, at most 49 days).
    pub(super) after: u32,
}

/// What a claim on a settled id comes to.
pub(super) enum Verdict {
    /// It runs, from this.
    Run(Record),
    /// It was delivered.
    Duplicate,
    /// It was delivered with another body.
    Conflict,
}

impl Record {
    /// A record without receipts yet.
    pub(super) fn new(claim: &Claim, first: Millis, source: u32) -> Self {
        Self {
            body: claim.body,
            signed: claim.signed,
            first,
            last: first,
            receipts: Receipts::new(),
            window_end: 0,
            source,
            standing: Standing::Partly,
        }
    }

    /// How far it is, for people.
    pub(super) fn state(&self) -> LookState {
        match self.standing {
            Standing::Partly if self.receipts.is_empty() => LookState::Failed,
            Standing::Partly | Standing::Resending => LookState::Partly,
            Standing::Delivered => LookState::Delivered,
        }
    }

    /// What a claim comes to, given what is known.
    pub(super) fn judge(self, claim: &Claim, now: Millis) -> Verdict {
        if self.standing == Standing::Partly {
            return Verdict::Run(self);
        }
        // A resend is the same event again; with another body it is not.
        if self.body != claim.body {
            return Verdict::Conflict;
        }
        match self.standing {
            Standing::Resending if claim.signed > self.signed => Verdict::Run(self),
            Standing::Delivered if self.is_resend(claim, now) => Verdict::Run(Self {
                standing: Standing::Resending,
                receipts: Receipts::new(),
                ..self
            }),
            _ => Verdict::Duplicate,
        }
    }

    /// Whether a claim on a delivered id is a deliberate resend: signed anew, and
    /// longer after the delivery than `resend_after`.
    ///
    /// The *signed* time must be that much later too. A retry that was signed
    /// sooner was answered `duplicate`, and an attacker who replays it later,
    /// while it is still fresh, must be answered the same.
    fn is_resend(&self, claim: &Claim, now: Millis) -> bool {
        let Some(after) = claim.resend_after else {
            return false;
        };
        // The sender's clock may be ahead of ours or behind, hence both times.
        let from = self.signed.max(self.last / 1000);
        claim.signed > self.signed
            && claim.signed >= from.saturating_add(after.as_secs())
            && now >= self.last.saturating_add(duration_millis(after))
    }

    /// Ends a run of `claim`, whose receipts are noted.
    pub(super) fn settle(&mut self, claim: &Claim, delivered: bool) {
        let window_end = claim.signed.saturating_add(claim.window.as_secs());
        let window_end = u32::try_from(window_end).unwrap_or(u32::MAX);
        self.window_end = self.window_end.max(window_end);
        self.body = claim.body;
        if delivered {
            self.standing = Standing::Delivered;
        }
        if self.standing != Standing::Resending {
            self.signed = self.signed.max(claim.signed);
        }
    }

    /// Whether it ran and nobody accepted it. It is kept so that another body under
    /// its id is noticed.
    pub(super) fn is_failed(&self) -> bool {
        self.standing == Standing::Partly && self.receipts.is_empty()
    }

    pub(super) fn has_receipt(&self, destination: u32) -> bool {
        self.receipts.iter().any(|r| r.destination == destination)
    }

    /// Notes that `destination` accepted at `at`.
    pub(super) fn accept(&mut self, destination: u32, at: Millis) {
        let after = u32::try_from(at.saturating_sub(self.first)).unwrap_or(u32::MAX);
        self.receipts.retain(|r| r.destination != destination);
        self.receipts.push(Receipt { destination, after });
        self.last = self.last.max(at);
    }

    /// Takes a receipt back; false when there is none. A delivered id is partly
    /// delivered then.
    pub(super) fn forget(&mut self, destination: u32) -> bool {
        let known = self.has_receipt(destination);
        self.receipts.retain(|r| r.destination != destination);
        if known && self.standing == Standing::Delivered {
            self.standing = Standing::Partly;
        }
        known
    }

    /// Whether `retention` has passed since the last receipt. At exactly the
    /// retention it has.
    pub(super) fn expired(&self, now: Millis, retention: u64) -> bool {
        now >= self.last.saturating_add(retention)
    }

    /// Whether a replay would still be fresh.
    pub(super) fn in_window(&self, now: Millis) -> bool {
        now / 1000 <= u64::from(self.window_end)
    }
}

/// Numbers for the names of sources and destinations, so that a record holds
/// none. It grows by what configurations name, never by what senders send.
#[derive(Default)]
pub(super) struct Names(RwLock<Table>);

#[derive(Default)]
struct Table {
    /// They are the configuration's own, so nobody can choose them to collide.
    numbers: FxHashMap<Arc<str>, u32>,
    names: Vec<Arc<str>>,
}

impl Names {
    /// The number of a name, if it has one.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        table.numbers.get(name).copied()
    }

    /// The number of a name, a new one if it has none.
    pub(super) fn intern(&self, name: &Arc<str>) -> u32 {
        if let Some(number) = self.number(name) {
            return number;
        }
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Table { numbers, names } = &mut *table;
        *numbers.entry(Arc::clone(name)).or_insert_with(|| {
            names.push(Arc::clone(name));
            // Memory ends long before four billion names do.
            u32::try_from(names.len() - 1).unwrap_or(u32::MAX)
        })
    }

    /// The name of a number.
    pub(super) fn name(&self, number: u32) -> Option<Arc<str>> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let index = usize::try_from(number).ok()?;
        table.names.get(index).cloned()
    }
}

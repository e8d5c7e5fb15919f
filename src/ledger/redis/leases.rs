use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::value;
use crate::ledger::BodyDigest;
use crate::ledger::claim::{ByDigest, IdDigest};

/// The leases this replica holds: as many as there are ids at work, and those of
/// runs whose end could not be written yet.
pub(in crate::ledger) struct Leases {
    /// What tells this replica from every other, with a dot at its end.
    pub(super) replica: String,
    next: AtomicU64,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    leases: HashMap<IdDigest, Lease, ByDigest>,
    /// To be given back, without anything to write.
    free: Vec<(IdDigest, String)>,
}

/// The right to run an id, among replicas.
#[derive(Clone)]
pub(super) struct Lease {
    /// What tells it from every other lease.
    pub(super) token: String,
    /// What stands in Redis.
    pub(super) text: String,
    /// The record that the run began from, as it stood.
    pub(super) expected: Vec<u8>,
    /// How the run came out, for those who wait for it; empty until then.
    pub(super) outcome: String,
    renewed: Instant,
    /// A renewal is under way, or was when it began to be given back.
    renewing: bool,
    /// It is being given back.
    settling: bool,
}

/// More than this are not given back, but end by themselves.
const FREE: usize = 4096;

impl Leases {
    pub(super) fn new() -> Self {
        Self::of(&format!("{:016x}", fastrand::u64(..)))
    }

    /// Those of a replica of this name, which no other may have.
    pub(in crate::ledger) fn of(name: &str) -> Self {
        Self {
            replica: format!("{name}."),
            next: AtomicU64::new(0),
            held: Mutex::default(),
        }
    }

    /// A lease that nobody has yet, for a message with this body and signed time.
    pub(super) fn new_lease(&self, body: BodyDigest, signed: u64) -> Lease {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let token = format!("{}{number:x}", self.replica);
        let text = format!("0{token} {} {signed}", value::body(body));
        Lease {
            token,
            text,
            expected: Vec::new(),
            outcome: String::new(),
            renewed: Instant::now(),
            renewing: false,
            settling: false,
        }
    }

    /// Notes a lease that was taken.
    pub(super) fn hold(&self, id: IdDigest, lease: Lease) {
        self.held().leases.insert(id, lease);
    }

    /// Begins to give the lease of an id back, with what there is to write. It is not
    /// renewed meanwhile: behind that, nobody would give back what a renewal takes.
    pub(super) fn settle(&self, id: IdDigest) -> Option<Settling<'_>> {
        let lease = {
            let mut held = self.held();
            let lease = held.leases.get_mut(&id)?;
            lease.settling = true;
            lease.clone()
        };
        Some(Settling {
            leases: self,
            id,
            lease,
        })
    }

    /// Notes how the run of an id came out.
    pub(super) fn tell(&self, id: IdDigest, outcome: String) {
        if let Some(lease) = self.held().leases.get_mut(&id) {
            lease.outcome = outcome;
        }
    }

    /// The lease of an id is to be given back; whether there is one.
    pub(super) fn free(&self, id: IdDigest) -> bool {
        let mut held = self.held();
        let Some(lease) = held.leases.remove(&id) else {
            return false;
        };
        held.free(id, lease.token);
        true
    }

    /// Takes those that are to be given back.
    pub(super) fn freed(&self) -> Vec<(IdDigest, String)> {
        std::mem::take(&mut self.held().free)
    }

    /// Those to be renewed: taken or renewed longer ago than that, with what stands in
    /// Redis.
    pub(super) fn due(&self, since: Duration) -> Vec<(IdDigest, String)> {
        let mut held = self.held();
        let due = held
            .leases
            .iter_mut()
            .filter(|(_, lease)| !lease.settling && lease.renewed.elapsed() >= since);
        due.map(|(id, lease)| {
            lease.renewing = true;
            (*id, lease.text.clone())
        })
        .collect()
    }

    /// Notes that these were renewed.
    pub(super) fn renewed(&self, some: &[(IdDigest, String)]) {
        let now = Instant::now();
        let mut held = self.held();
        for (id, text) in some {
            // Of one that is being given back it is not known which was first.
            if let Some(lease) = held.leases.get_mut(id)
                && lease.text == *text
                && !lease.settling
            {
                lease.renewed = now;
                lease.renewing = false;
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // What is inside is whole after every statement that changes it.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn free(&mut self, id: IdDigest, token: String) {
        if self.free.len() < FREE {
            self.free.push((id, token));
        }
    }
}

/// A lease that is being given back. Dropped before that is [`done`](Self::done), it
/// is held on.
pub(super) struct Settling<'a> {
    leases: &'a Leases,
    id: IdDigest,
    pub(super) lease: Lease,
}

impl Settling<'_> {
    /// It is given back; whether it is to be once more, because a renewal that was
    /// under way may have taken it again.
    pub(super) fn done(self) -> bool {
        let mut held = self.leases.held();
        let lease = held.leases.remove(&self.id);
        let Some(lease) = lease.filter(|lease| lease.renewing) else {
            return false;
        };
        held.free(self.id, lease.token);
        true
    }
}

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        if let Some(lease) = self.leases.held().leases.get_mut(&self.id) {
            lease.settling = false;
        }
    }
}

/// What a lease tells: whose it is, and of which message.
pub(super) struct Told {
    pub(super) token: String,
    pub(super) body: BodyDigest,
    pub(super) signed: u64,
}

/// Reads what stands under `:run`; none if it is no lease.
pub(super) fn read(text: &[u8]) -> Option<Told> {
    let text = std::str::from_utf8(text.get(1..)?).ok()?;
    let mut parts = text.split(' ');
    Some(Told {
        token: parts.next()?.to_owned(),
        body: value::read_body(parts.next()?)?,
        signed: parts.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_read_as_it_was_written() {
        let leases = Leases::new();
        let body = BodyDigest::of(b"{}");
        let lease = leases.new_lease(body, 1_700_000_000);
        let told = read(lease.text.as_bytes()).unwrap();
        assert_eq!(told.token, lease.token);
        assert_eq!((told.body, told.signed), (body, 1_700_000_000));
        assert!(read(b"").is_none() && read(b"0x").is_none());
    }

    #[test]
    fn no_two_leases_are_one() {
        let (one, other) = (Leases::new(), Leases::new());
        let lease = |leases: &Leases| leases.new_lease(BodyDigest::of(b""), 1).token;
        let tokens = [lease(&one), lease(&one), lease(&other)];
        assert!(tokens[0] != tokens[1] && tokens[0] != tokens[2] && tokens[1] != tokens[2]);
        assert!(tokens[0].starts_with(&one.replica) && !tokens[2].starts_with(&one.replica));
    }

    /// Leases with one of this id.
    fn holding(id: IdDigest) -> Leases {
        let leases = Leases::new();
        leases.hold(id, leases.new_lease(BodyDigest::of(b""), 1));
        leases
    }

    #[test]
    fn a_lease_is_not_renewed_while_it_is_given_back_and_is_if_that_fails() {
        let id = IdDigest::of("clerk", "m");
        let leases = holding(id);
        let settling = leases.settle(id).unwrap();
        assert!(leases.due(Duration::ZERO).is_empty());
        drop(settling);
        assert_eq!(leases.due(Duration::ZERO).len(), 1);
    }

    #[test]
    fn a_lease_is_given_back_again_behind_a_renewal_that_was_under_way() {
        let id = IdDigest::of("clerk", "m");
        for answered in [false, true] {
            let leases = holding(id);
            let due = leases.due(Duration::ZERO);
            let settling = leases.settle(id).unwrap();
            if answered {
                leases.renewed(&due);
            }
            let token = settling.lease.token.clone();
            assert!(settling.done());
            assert_eq!(leases.freed(), [(id, token)]);
        }
    }

    #[test]
    fn a_lease_that_was_renewed_before_is_given_back_once() {
        let id = IdDigest::of("clerk", "m");
        let leases = holding(id);
        leases.renewed(&leases.due(Duration::ZERO));
        assert!(!leases.settle(id).unwrap().done());
        assert!(leases.freed().is_empty() && leases.due(Duration::ZERO).is_empty());
    }
}

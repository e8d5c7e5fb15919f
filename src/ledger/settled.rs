use std::borrow::Borrow;
use std::cell::RefCell;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use moka::Equivalent;
use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::claim::{ByDigest, IdDigest};
use super::forgetting::Forgetting;
use super::record::Record;

/// The settled ids, at most `max_entries`; past that the one settled longest ago
/// is forgotten.
///
/// moka keeps the bound and the order. Three things about it shape this file:
///
/// - Its default policy forgets the *newest* ids once it is full, so this is LRU.
/// - `get` counts as a use. Repeats of old ids would keep those at the cost of
///   newer ones, and could push an id out of the newest half, which must always
///   be known. `contains_key` is no use, so the record stands in the *key*, and a
///   look-up copies it from there (see [`Wanted`]). Least recently used is then
///   first settled.
/// - Its time-to-live costs more than all else at a full million of ids, so
///   deadlines are looked at here ([`Forgetting::expired`]).
///
/// Whoever changes an id holds the lock of its shard, so that moka never sees
/// two writers of one id. Cloning shares the store.
#[derive(Clone)]
pub(super) struct Settled {
    cache: Cache<Known, (), ByDigest>,
    max_entries: u64,
}

/// An id and what is known of it; equal to another by the id alone.
pub(super) struct Known {
    id: IdDigest,
    pub(super) record: Record,
}

impl Settled {
    pub(super) fn new(max_entries: u64, forgetting: Arc<Forgetting>) -> Self {
        let cache = Cache::builder()
            .max_capacity(max_entries)
            .eviction_policy(EvictionPolicy::lru())
            .eviction_listener(move |known: Arc<Known>, (), cause| {
                if cause == RemovalCause::Size {
                    forgetting.forgot(&known.record);
                }
            })
            .build_with_hasher(ByDigest::default());
        Self { cache, max_entries }
    }

    pub(super) fn max_entries(&self) -> u64 {
        self.max_entries
    }

    /// What is known of an id, expired or not.
    pub(super) fn get(&self, id: IdDigest) -> Option<Record> {
        let wanted = Wanted {
            id,
            found: RefCell::new(None),
        };
        self.cache
            .contains_key(&wanted)
            .then(|| wanted.found.into_inner())?
    }

    /// Keeps a record, as the newest, in the place of what was known of the id.
    pub(super) fn put(&self, id: IdDigest, record: Record) {
        // In its order moka would keep the old key, and on eviction tell of the
        // old record.
        self.remove(id);
        self.cache.insert(Known { id, record }, ());
    }

    pub(super) fn remove(&self, id: IdDigest) {
        self.cache.invalidate(&id);
    }

    /// All records, in no order. Those put meanwhile may be missing.
    pub(super) fn iter(&self) -> impl Iterator<Item = Arc<Known>> {
        self.cache.iter().map(|(known, ())| known)
    }

    /// How many there are, as of the last [`Settled::tidy`].
    pub(super) fn len(&self) -> u64 {
        self.cache.entry_count()
    }

    /// Does what moka put off: forgets what is over the bound, and counts.
    pub(super) fn tidy(&self) {
        self.cache.run_pending_tasks();
    }
}

impl Known {
    pub(super) fn id(&self) -> IdDigest {
        self.id
    }
}

impl Borrow<IdDigest> for Known {
    fn borrow(&self) -> &IdDigest {
        &self.id
    }
}

impl PartialEq for Known {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Known {}

impl Hash for Known {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

/// A look-up: the id that is wanted, and the record of the key it was equal to.
struct Wanted {
    id: IdDigest,
    found: RefCell<Option<Record>>,
}

impl Hash for Wanted {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl Equivalent<Known> for Wanted {
    fn equivalent(&self, known: &Known) -> bool {
        let same = self.id == known.id;
        if same {
            *self.found.borrow_mut() = Some(known.record.clone());
        }
        same
    }
}

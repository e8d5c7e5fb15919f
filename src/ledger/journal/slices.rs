use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use smallvec::SmallVec;

use super::filter::Filter;
use crate::ledger::claim::IdDigest;
use crate::ledger::record::{Millis, Names, Record};
use crate::ledger::stored::{self, Unreadable};

/// What is on disk: ids by the time they were last written, a keyspace a slice of
/// time. An id is looked for from the newest slice on. What has expired goes a
/// slice at a time, which is the removal of some files.
pub(super) struct Slices {
    database: Database,
    /// The oldest first.
    slices: Vec<Slice>,
}

pub(super) struct Slice {
    /// Its name, so that they are in order.
    start: Millis,
    keyspace: Keyspace,
    filter: Filter,
    /// When something in it was last accepted.
    newest: Millis,
    /// How many ids it is the last word on, and that are not forgotten.
    known: u64,
}

/// A slice that nobody finds anything in any more.
pub(super) struct Expired(Database, Slice);

impl Expired {
    pub(super) fn delete(self) -> Result<(), Broken> {
        Ok(self.0.delete_keyspace(self.1.keyspace)?)
    }
}

/// Why the slices cannot be used.
#[derive(Debug)]
pub(super) enum Broken {
    /// The disk does not do what it is told.
    Disk(String),
    /// What is there is not what was written, or of a later version.
    Content(String),
}

impl From<fjall::Error> for Broken {
    fn from(error: fjall::Error) -> Self {
        match &error {
            fjall::Error::Io(io) | fjall::Error::Storage(fjall::LsmError::Io(io)) => {
                Broken::Disk(io.to_string())
            }
            fjall::Error::Poisoned => Broken::Disk("an earlier write failed".into()),
            fjall::Error::Locked => Broken::Disk("another process has it open".into()),
            _ => Broken::Content(error.to_string()),
        }
    }
}

impl From<Unreadable> for Broken {
    fn from(unreadable: Unreadable) -> Self {
        Broken::Content(unreadable.to_string())
    }
}

/// One change to what is known.
pub(super) struct Change {
    pub(super) id: IdDigest,
    pub(super) bytes: Vec<u8>,
    /// When it was last accepted; none for an id that is forgotten.
    pub(super) last: Option<Millis>,
}

/// Blocks read from the disk that stay in memory (bytes).
const CACHE: u64 = 16 << 20;
/// What is written and not yet sorted, of one slice (bytes).
const UNSORTED: u64 = 16 << 20;
/// Files that stay open.
const FILES: usize = 48;

/// Where an id may stand, the newest first.
pub(super) type Places = SmallVec<[Keyspace; 2]>;

impl Slices {
    /// Opens what is in a folder, and looks through all of it: so that a damage is
    /// noticed at the start, and not by the one id that it hits.
    pub(super) fn open(path: &Path) -> Result<Self, Broken> {
        let database = Database::builder(path)
            .cache_size(CACHE)
            .max_cached_files(Some(FILES))
            .worker_threads(1)
            .open()?;
        let mut starts: Vec<Millis> = Vec::new();
        for name in database.list_keyspace_names() {
            let start = name
                .strip_prefix("ids-")
                .and_then(|start| start.parse().ok());
            let unknown = || Broken::Content(format!("it holds something unknown, `{name}`"));
            starts.push(start.ok_or_else(unknown)?);
        }
        starts.sort_unstable();
        let mut opened = Self {
            database,
            slices: Vec::new(),
        };
        // The newest first, so that it is known which word on an id is the last.
        for start in starts.into_iter().rev() {
            let slice = opened.read(start)?;
            opened.slices.insert(0, slice);
        }
        Ok(opened)
    }

    fn read(&self, start: Millis) -> Result<Slice, Broken> {
        let mut slice = self.slice(start)?;
        for entry in slice.keyspace.iter() {
            let (key, bytes) = entry.into_inner()?;
            let id = digest(&key)?;
            slice.filter.add(id);
            if let Some(last) = stored::glance(id, &bytes)? {
                slice.newest = slice.newest.max(last);
                let newer = self.places(id);
                slice.known += u64::from(find(&newer, id)?.is_none());
            }
        }
        Ok(slice)
    }

    fn slice(&self, start: Millis) -> Result<Slice, Broken> {
        let options = || KeyspaceCreateOptions::default().max_memtable_size(UNSORTED);
        let name = format!("ids-{start}");
        Ok(Slice {
            start,
            keyspace: self.database.keyspace(&name, options)?,
            filter: Filter::default(),
            newest: start,
            known: 0,
        })
    }

    /// Where an id may stand, as far as memory tells: mostly nowhere.
    pub(super) fn places(&self, id: IdDigest) -> Places {
        let newest_first = self.slices.iter().rev();
        newest_first
            .filter(|slice| slice.filter.may_have(id))
            .map(|slice| slice.keyspace.clone())
            .collect()
    }

    /// Another slice, if the newest is as old as that.
    pub(super) fn next(&self, now: Millis, length: u64) -> Result<Option<Slice>, Broken> {
        let newest = self.slices.last().map(|slice| slice.start);
        if newest.is_some_and(|start| now < start.saturating_add(length)) {
            return Ok(None);
        }
        self.slice(now).map(Some)
    }

    /// From now on changes go to this slice.
    pub(super) fn turn(&mut self, next: Slice) {
        self.slices.push(next);
    }

    /// The slices that have the last word on what is to be changed.
    pub(super) fn outdated(&self, changes: &[Change]) -> Result<Vec<usize>, Broken> {
        let mut outdated = Vec::new();
        for change in changes {
            outdated.extend(self.holder(change.id)?);
        }
        Ok(outdated)
    }

    /// Makes changes known to those who look, and then writes them: the batch to
    /// commit.
    pub(super) fn announce(&mut self, changes: &[Change]) -> fjall::OwnedWriteBatch {
        let mut batch = self
            .database
            .batch()
            .durability(Some(PersistMode::SyncData));
        if let Some(newest) = self.slices.last_mut() {
            for change in changes {
                newest.filter.add(change.id);
                let (key, bytes) = (&change.id.bytes()[..], &change.bytes[..]);
                batch.insert(&newest.keyspace, key, bytes);
                newest.newest = newest.newest.max(change.last.unwrap_or(0));
            }
        }
        batch
    }

    /// Counts what was written.
    pub(super) fn written(&mut self, changes: &[Change], outdated: &[usize]) {
        if let Some(newest) = self.slices.last_mut() {
            newest.known += changes.iter().filter(|c| c.last.is_some()).count() as u64;
        }
        for &number in outdated {
            self.slices[number].known -= 1;
        }
    }

    /// The slice that has the last word on an id, unless that is that it is
    /// forgotten.
    fn holder(&self, id: IdDigest) -> Result<Option<usize>, Broken> {
        for (number, slice) in self.slices.iter().enumerate().rev() {
            if slice.filter.may_have(id)
                && let Some(bytes) = slice.keyspace.get(id.bytes())?
            {
                return Ok(stored::glance(id, &bytes)?.map(|_| number));
            }
        }
        Ok(None)
    }

    /// Takes out the oldest slice, if nothing in it was accepted after `before`.
    pub(super) fn expired(&mut self, before: Millis) -> Option<Expired> {
        let oldest = self.slices.first()?;
        (oldest.newest <= before).then(|| Expired(self.database.clone(), self.slices.remove(0)))
    }

    /// The slices that nothing more is written to.
    pub(super) fn past(&self) -> Vec<Keyspace> {
        let past = self.slices.iter().rev().skip(1);
        past.map(|slice| slice.keyspace.clone()).collect()
    }

    pub(super) fn known(&self) -> u64 {
        self.slices.iter().map(|slice| slice.known).sum()
    }

    /// The slice after `from` (milliseconds), for those who go through all.
    pub(super) fn after(&self, from: Option<Millis>) -> Option<(Millis, Keyspace)> {
        let mut slices = self.slices.iter();
        let next = slices.find(|slice| from.is_none_or(|from| slice.start > from))?;
        Some((next.start, next.keyspace.clone()))
    }
}

/// What stands in the first of these places that has the id.
pub(super) fn find(places: &Places, id: IdDigest) -> Result<Option<fjall::Slice>, Broken> {
    for place in places {
        if let Some(bytes) = place.get(id.bytes())? {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// The same, read.
pub(super) fn recall(
    places: &Places,
    id: IdDigest,
    names: &Names,
) -> Result<Option<Record>, Broken> {
    match find(places, id)? {
        Some(bytes) => Ok(stored::decode(id, &bytes, names)?),
        None => Ok(None),
    }
}

/// The id that a key is.
pub(super) fn digest(key: &[u8]) -> Result<IdDigest, Broken> {
    let bytes = key.try_into().map_err(|_| Unreadable::Damaged)?;
    Ok(IdDigest::from_bytes(bytes))
}

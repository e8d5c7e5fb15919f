use super::index::Index;
use super::small::Small;
use crate::ledger::claim::IdDigest;

/// Ids with their small records, in the order in which they were put; past `most`
/// the first goes.
///
/// An id costs 56 bytes for its [`Entry`], and five in the [`Index`] once that is full. Entries
/// stand in chunks: memory grows a chunk at a time, nothing is ever moved, and a
/// chunk that has emptied is given back. Ids mostly go in the order in which they
/// came, so a chunk empties as a whole.
pub(super) struct Flat {
    chunks: Vec<Chunk>,
    /// The chunks that are not full, with memory or without.
    open: Vec<u32>,
    index: Index,
    oldest: u32,
    newest: u32,
    len: u32,
    most: u32,
}

#[derive(Default)]
struct Chunk {
    entries: Vec<Entry>,
    /// The first of those that are free again, each of which has the next.
    free: Option<u16>,
    used: u16,
}

/// An id, what is known of it, and its neighbours in the order.
#[derive(Clone, Copy)]
struct Entry {
    id: IdDigest,
    small: Small,
    older: u32,
    newer: u32,
}

const _: () = assert!(size_of::<Entry>() == 56);

/// How many entries a chunk has: 56 KiB, which allocators hand out whole.
const CHUNK: u32 = 1024;
/// In the place of a neighbour.
const NOBODY: u32 = u32::MAX;

/// What had to go, to make room.
pub(super) type Evicted = (IdDigest, Small);

impl Flat {
    /// For at most so many ids, below 2^30.
    pub(super) fn new(most: u32) -> Self {
        Self {
            chunks: Vec::new(),
            open: Vec::new(),
            // No chunk is begun while another is not full.
            index: Index::new((most / CHUNK + 1) * CHUNK),
            oldest: NOBODY,
            newest: NOBODY,
            len: 0,
            most,
        }
    }

    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// What is known of an id.
    pub(super) fn get(&self, id: IdDigest) -> Option<Small> {
        Some(self.entry(self.find(id)?).small)
    }

    /// Puts an id as the newest. It must not be there.
    pub(super) fn put(&mut self, id: IdDigest, small: Small) -> Option<Evicted> {
        let evicted = (self.len >= self.most).then(|| self.take_out(self.oldest));
        let place = self.take(Entry {
            id,
            small,
            older: self.newest,
            newer: NOBODY,
        });
        match self.newest {
            NOBODY => self.oldest = place,
            newest => self.entry_mut(newest).newer = place,
        }
        self.newest = place;
        self.len += 1;
        self.index.insert(id.bits(), place);
        evicted
    }

    /// Takes an id out: what was known of it.
    pub(super) fn remove(&mut self, id: IdDigest) -> Option<Small> {
        let place = self.find(id)?;
        Some(self.take_out(place).1)
    }

    /// All, the oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (IdDigest, Small)> {
        let mut next = self.oldest;
        std::iter::from_fn(move || {
            let entry = (next != NOBODY).then(|| self.entry(next))?;
            next = entry.newer;
            Some((entry.id, entry.small))
        })
    }

    /// How many parts [`part`](Self::part) can be asked for.
    pub(super) fn parts(&self) -> usize {
        self.chunks.len()
    }

    /// A small part of all, in no order.
    pub(super) fn part(&self, number: usize) -> impl Iterator<Item = (IdDigest, Small)> {
        let chunk = self.chunks.get(number);
        let entries = chunk.into_iter().flat_map(|chunk| &chunk.entries);
        let there = entries.filter(|entry| entry.small.is_there());
        there.map(|entry| (entry.id, entry.small))
    }

    /// How many chunks have memory.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        let chunks = self.chunks.iter();
        chunks.filter(|chunk| chunk.entries.capacity() > 0).count()
    }

    fn find(&self, id: IdDigest) -> Option<u32> {
        self.index
            .find(id.bits(), |place| self.entry(place).id == id)
    }

    fn take_out(&mut self, place: u32) -> Evicted {
        let Entry {
            id,
            small,
            older,
            newer,
        } = *self.entry(place);
        self.index.remove(id.bits(), place);
        match older {
            NOBODY => self.oldest = newer,
            older => self.entry_mut(older).newer = newer,
        }
        match newer {
            NOBODY => self.newest = older,
            newer => self.entry_mut(newer).older = older,
        }
        self.len -= 1;
        self.give_back(place);
        (id, small)
    }

    /// A place for an entry, with it there.
    fn take(&mut self, entry: Entry) -> u32 {
        let number = match self.open.last() {
            Some(&number) => number,
            None => {
                self.chunks.push(Chunk::default());
                let number = self.chunks.len() as u32 - 1;
                self.open.push(number);
                number
            }
        };
        let chunk = &mut self.chunks[number as usize];
        let offset = chunk.take(entry);
        if u32::from(chunk.used) == CHUNK {
            self.open.pop();
        }
        number * CHUNK + u32::from(offset)
    }

    fn give_back(&mut self, place: u32) {
        let number = place / CHUNK;
        let chunk = &mut self.chunks[number as usize];
        if u32::from(chunk.used) == CHUNK {
            self.open.push(number);
        }
        chunk.give_back((place % CHUNK) as u16);
        if chunk.used == 0 && self.open.len() > 1 {
            *chunk = Chunk::default();
            // Not the next to be filled, or one id that comes and goes would have
            // it given back each time.
            if let Some(at) = self.open.iter().rposition(|&other| other == number) {
                self.open.swap(0, at);
            }
        }
    }

    fn entry(&self, place: u32) -> &Entry {
        &self.chunks[(place / CHUNK) as usize].entries[(place % CHUNK) as usize]
    }

    fn entry_mut(&mut self, place: u32) -> &mut Entry {
        &mut self.chunks[(place / CHUNK) as usize].entries[(place % CHUNK) as usize]
    }
}

impl Chunk {
    fn take(&mut self, entry: Entry) -> u16 {
        self.used += 1;
        if let Some(offset) = self.free {
            let free = &mut self.entries[usize::from(offset)];
            let next = free.newer;
            *free = entry;
            self.free = u16::try_from(next).ok();
            return offset;
        }
        if self.entries.capacity() == 0 {
            self.entries.reserve_exact(CHUNK as usize);
        }
        self.entries.push(entry);
        self.entries.len() as u16 - 1
    }

    fn give_back(&mut self, offset: u16) {
        let entry = &mut self.entries[usize::from(offset)];
        entry.small = Small::NONE;
        entry.newer = self.free.map_or(NOBODY, u32::from);
        self.free = Some(offset);
        self.used -= 1;
    }
}

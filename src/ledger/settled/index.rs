use std::ops::ControlFlow;

/// Where the ids of a [`Flat`](super::flat::Flat) stand: a hash table of 32-bit
/// slots, each a place and, in the bits that a place leaves over, a part of the id's
/// hash.
///
/// It is cut into small tables that grow on their own, so that no insertion waits
/// for more than the move of some hundred slots. A slot tells where in its table it
/// wants to be, so growth and removal need no look at the entries, which would be a
/// cache miss each.
pub(super) struct Index {
    /// None before the first id comes; then a power of two of them.
    tables: Vec<Table>,
    count: usize,
    /// How many slots a table has once there are as many ids as there may be.
    full: usize,
    /// How many bits of a slot are the place, counted from one: a zero is no place.
    place_bits: u32,
}

#[derive(Clone, Default)]
struct Table {
    slots: Box<[u32]>,
    taken: usize,
}

/// How many ids a table is meant for: enough that the tables themselves cost
/// little, few enough that moving them takes about a microsecond.
const TABLE: u64 = 256;
/// The sizes a table grows through, in sixteenths of a full one. So wide apart that
/// nearly all tables have left a size when there are enough ids for the next but
/// one: a few that stay behind would keep whole pages of the allocator.
const SIZES: [usize; 6] = [1, 2, 4, 8, 11, 16];

/// A table and what stands for an id in it.
#[derive(Clone, Copy)]
struct Want {
    table: usize,
    tag: u32,
}

impl Index {
    /// For places below `places`, which is less than 2^31.
    pub(super) fn new(places: u32) -> Self {
        let place_bits = u32::BITS - places.leading_zeros();
        // Tags tell where ids want to be, so there must be several for each.
        let tags = 1 << (u32::BITS - place_bits);
        let table = TABLE.min(tags / 8).max(1);
        let count = u64::from(places).div_ceil(table).next_power_of_two();
        // Seven of nine are taken then, and there is room for more than the mean.
        let full = (u64::from(places) * 9).div_ceil(count * 7).max(16);
        Self {
            tables: Vec::new(),
            count: usize::try_from(count).unwrap_or(usize::MAX),
            full: usize::try_from(full.next_multiple_of(16)).unwrap_or(usize::MAX),
            place_bits,
        }
    }

    /// The place of an id with this hash for which `is` holds.
    pub(super) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        let want = self.want(hash);
        let table = self.tables.get(want.table)?;
        let slot = self.slot(table, want.tag, is)?;
        Some(self.place(table.slots[slot]))
    }

    /// Adds a place that is not there.
    pub(super) fn insert(&mut self, hash: u64, place: u32) {
        if self.tables.is_empty() {
            self.tables.resize(self.count, Table::default());
        }
        let Want { table, tag } = self.want(hash);
        let (bits, table) = (self.place_bits, &mut self.tables[table]);
        // At most seven of eight are taken, so that every search ends soon.
        let length = table.slots.len();
        if (table.taken + 1) * 8 > length * 7 {
            let mut sizes = SIZES.iter().map(|size| self.full * size / 16);
            let next = sizes.find(|size| size * 7 >= (table.taken + 1) * 8);
            // Few have more than a full table is for.
            table.grow(bits, next.unwrap_or(length + length / 8 + 1));
        }
        table.taken += 1;
        table.put(bits, (tag << bits) | (place + 1));
    }

    /// Removes a place that is there.
    pub(super) fn remove(&mut self, hash: u64, place: u32) {
        let want = self.want(hash);
        let Some(table) = self.tables.get(want.table) else {
            return;
        };
        let Some(slot) = self.slot(table, want.tag, |other| other == place) else {
            return;
        };
        self.tables[want.table].close(self.place_bits, slot);
    }

    fn want(&self, hash: u64) -> Want {
        let (high, low) = ((hash >> 32) as u32, hash as u32);
        Want {
            table: low as usize & (self.count - 1),
            tag: high >> self.place_bits,
        }
    }

    fn place(&self, slot: u32) -> u32 {
        (slot & ((1 << self.place_bits) - 1)) - 1
    }

    fn slot(&self, table: &Table, tag: u32, is: impl Fn(u32) -> bool) -> Option<usize> {
        let found = table.walk(table.home(self.place_bits, tag), |at, slot| {
            if slot == 0 {
                ControlFlow::Break(None)
            } else if slot >> self.place_bits == tag && is(self.place(slot)) {
                ControlFlow::Break(Some(at))
            } else {
                ControlFlow::Continue(())
            }
        });
        found.flatten()
    }
}

impl Table {
    /// Where a tag wants to be: the tags in order, spread over all slots.
    fn home(&self, place_bits: u32, tag: u32) -> usize {
        ((u64::from(tag) * self.slots.len() as u64) >> (u32::BITS - place_bits)) as usize
    }

    /// Goes through the slots from one on, and round.
    fn walk<T>(
        &self,
        from: usize,
        mut each: impl FnMut(usize, u32) -> ControlFlow<T>,
    ) -> Option<T> {
        let (before, after) = self.slots.split_at(from);
        let slots = after.iter().zip(from..).chain(before.iter().zip(0..));
        for (&slot, at) in slots {
            if let ControlFlow::Break(end) = each(at, slot) {
                return Some(end);
            }
        }
        None
    }

    fn put(&mut self, place_bits: u32, slot: u32) {
        let free = self.walk(self.home(place_bits, slot >> place_bits), |at, other| {
            if other == 0 {
                ControlFlow::Break(at)
            } else {
                ControlFlow::Continue(())
            }
        });
        if let Some(at) = free {
            self.slots[at] = slot;
        }
    }

    fn grow(&mut self, place_bits: u32, length: usize) {
        let longer = vec![0; length].into_boxed_slice();
        let shorter = std::mem::replace(&mut self.slots, longer);
        for &slot in shorter.iter().filter(|slot| **slot != 0) {
            self.put(place_bits, slot);
        }
    }

    /// Empties a slot, and moves those behind it that wanted to be further front.
    fn close(&mut self, place_bits: u32, slot: usize) {
        let length = self.slots.len();
        let (mut hole, mut at) = (slot, slot);
        loop {
            at = if at + 1 == length { 0 } else { at + 1 };
            let other = self.slots[at];
            if other == 0 {
                break;
            }
            let home = self.home(place_bits, other >> place_bits);
            let back = |to: usize| if to <= at { at - to } else { at + length - to };
            if back(home) >= back(hole) {
                self.slots[hole] = other;
                hole = at;
            }
        }
        self.slots[hole] = 0;
        self.taken -= 1;
    }
}

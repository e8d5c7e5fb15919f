//! The settled ids against the plainest model of them: a list in order.

use std::collections::{BTreeMap, HashMap};
use std::time::UNIX_EPOCH;

use proptest::prelude::*;

use super::*;
use crate::ledger::BodyDigest;
use crate::ledger::record::{Receipt, Standing};
use crate::observe::{Clock, LedgerMetrics, Metrics};

const RETENTION: u64 = 1000;

fn settled(max_entries: u64) -> (Settled, LedgerMetrics) {
    let metrics = Metrics::new().unwrap().ledger().clone();
    let clock = Clock::fixed(UNIX_EPOCH);
    let forgetting = Forgetting::new(RETENTION, metrics.clone(), clock);
    (Settled::new(max_entries, Arc::new(forgetting)), metrics)
}

/// Ids that meet: of 16 after each other one in the index is as good as the next,
/// and of 256 most want one table.
fn id(number: u32) -> IdDigest {
    let [low, high, ..] = number.to_le_bytes();
    let mut bytes = [0; 16];
    (bytes[0], bytes[7], bytes[12]) = (high, low & 0xf0, low);
    IdDigest::from_bytes(bytes)
}

/// A record that another one is told from by `last`; every fifth is not small.
fn record(last: Millis) -> Record {
    let receipt = |destination| Receipt {
        destination,
        after: 0,
    };
    let receipts = if last.is_multiple_of(5) { 4 } else { 1 };
    Record {
        body: BodyDigest::of(&last.to_le_bytes()),
        signed: 7,
        first: last,
        last,
        receipts: (0..receipts).map(receipt).collect(),
        window_end: 300,
        source: 1,
        standing: Standing::Delivered,
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put {
        from: u32,
        count: u32,
    },
    Remove {
        from: u32,
        count: u32,
        every: usize,
    },
    /// So much of what was put in this time expires.
    Sweep {
        share: u64,
    },
    Resize {
        max_entries: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let from = || 0..4000u32;
    let count = || prop_oneof![4 => 1..4u32, 1 => 1..3000u32];
    let max_entries = prop_oneof![1..6u64, 1..5000u64];
    prop_oneof![
        8 => (from(), count()).prop_map(|(from, count)| Step::Put { from, count }),
        3 => (from(), count(), 1..4usize)
            .prop_map(|(from, count, every)| Step::Remove { from, count, every }),
        1 => (0..=10u64).prop_map(|share| Step::Sweep { share }),
        1 => max_entries.prop_map(|max_entries| Step::Resize { max_entries }),
    ]
}

/// What is known, and in which order.
struct Model {
    known: HashMap<u32, (u64, Millis)>,
    order: BTreeMap<u64, u32>,
    max_entries: u64,
    /// Steps on with every id that is put.
    time: u64,
}

impl Model {
    fn put(&mut self, number: u32) {
        self.remove(number);
        self.bound(self.max_entries - 1);
        self.known.insert(number, (self.time, self.time));
        self.order.insert(self.time, number);
        self.time += 1;
    }

    fn remove(&mut self, number: u32) {
        if let Some((place, _)) = self.known.remove(&number) {
            self.order.remove(&place);
        }
    }

    fn bound(&mut self, most: u64) {
        while self.order.len() as u64 > most {
            let (_, number) = self.order.pop_first().unwrap();
            self.known.remove(&number);
        }
    }
}

fn holds(max_entries: u64, steps: &[Step]) {
    let mut settled = settled(max_entries).0;
    let mut model = Model {
        known: HashMap::new(),
        order: BTreeMap::new(),
        max_entries,
        time: 0,
    };
    for step in steps {
        match *step {
            Step::Put { from, count } => {
                for number in from..from + count {
                    settled.put(id(number), record(model.time));
                    model.put(number);
                }
            }
            Step::Remove { from, count, every } => {
                for number in (from..from + count).step_by(every) {
                    settled.remove(id(number));
                    model.remove(number);
                }
            }
            Step::Sweep { share } => {
                let before = model.time * share / 10;
                settled.sweep(before + RETENTION);
                let gone = model.known.iter().filter(|(_, known)| known.1 <= before);
                let gone: Vec<u32> = gone.map(|(&number, _)| number).collect();
                gone.into_iter().for_each(|number| model.remove(number));
            }
            Step::Resize { max_entries } => {
                settled = settled.resized(max_entries);
                model.max_entries = max_entries;
                model.bound(max_entries);
            }
        }
        assert_eq!(settled.len(), model.known.len() as u64);
        for number in 0..7000 {
            let known = settled.get(id(number)).map(|r| (r.body, r.last));
            let expected = model.known.get(&number).map(|known| record(known.1));
            assert_eq!(known, expected.map(|r| (r.body, r.last)), "{number}");
        }
        let mut ids = settled.ids(|_| true);
        ids.sort_unstable_by_key(|id| id.bytes());
        ids.dedup();
        assert_eq!(ids.len(), model.known.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_happens_the_same_ids_are_known_as_in_a_list(
        max_entries in prop_oneof![1..6u64, 1..5000u64],
        steps in proptest::collection::vec(step(), 1..24),
    ) {
        holds(max_entries, &steps);
    }
}

#[test]
fn ids_that_are_alike_in_all_that_the_index_sees_are_told_apart() {
    let (settled, _) = settled(1000);
    let alike = |number: u16| {
        let mut bytes = [9; 16];
        bytes[8..10].copy_from_slice(&number.to_le_bytes());
        IdDigest::from_bytes(bytes)
    };
    for number in 0..1000 {
        settled.put(alike(number), record(u64::from(number)));
    }
    for number in (0..1000).step_by(3) {
        settled.remove(alike(number));
    }
    for number in 0..1000 {
        let known = settled.get(alike(number)).map(|record| record.last);
        let expected = (number % 3 != 0).then_some(u64::from(number));
        assert_eq!(known, expected);
    }
}

#[test]
fn what_is_forgotten_leaves_no_memory_behind() {
    let (settled, _) = settled(100_000);
    for number in 0..50_000u64 {
        let id = IdDigest::of("clerk", number.to_string());
        settled.put(id, record(number));
    }
    settled.sweep(50_000 + RETENTION);
    assert_eq!(settled.len(), 0);
    let bank = lock(&settled.0.banks[0]);
    bank.odd.run_pending_tasks();
    assert!(bank.flat.memory() <= 1);
    assert_eq!(bank.odd.entry_count(), 0);
}

#[test]
fn an_id_that_comes_and_goes_takes_no_further_memory() {
    let (settled, _) = settled(10);
    for number in 0..100_000 {
        settled.put(id(number % 30), record(u64::from(number)));
    }
    assert_eq!(lock(&settled.0.banks[0]).flat.memory(), 1);
}

/// What is too many for one order has several, and the bound is still one.
#[test]
fn past_some_million_ids_there_are_several_banks() {
    let (settled, _) = settled(3 * BANK);
    assert_eq!(settled.0.banks.len(), 3);
    let id = |number: u64| IdDigest::of("clerk", number.to_string());
    for number in 0..10_000 {
        settled.put(id(number), record(number));
    }
    assert_eq!(settled.len(), 10_000);
    let smaller = settled.resized(1000);
    assert!((9_000..10_000).all(|number| smaller.get(id(number)).is_some()));
    assert_eq!(smaller.len(), 1000);
    for max_entries in [u64::MAX, MOST, BANK, BANK + 1] {
        let bound = Settled::new(max_entries, Arc::clone(&settled.0.forgetting));
        bound.put(id(1), record(1));
        assert!(bound.get(id(1)).is_some());
    }
}

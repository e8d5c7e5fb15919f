use std::collections::HashMap;

use smallvec::SmallVec;

use crate::ledger::BodyDigest;
use crate::ledger::record::{Millis, Receipt, Record, Standing};

/// What is kept of a settled id that went as nearly all do, in 32 bytes. What many
/// have in common stands once, as a [`Shape`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Small {
    body: BodyDigest,
    /// 48 bits, the lowest first: enough for 8 900 years.
    first: [u16; 3],
    /// The number of its shape.
    shape: u16,
    signed: u32,
    /// How long after `first` its receipts are: of one receipt; of the later of
    /// two; of the later two of three, 16 bits each.
    after: u32,
}

/// The number of no shape: the record did not fit and is elsewhere.
const ELSEWHERE: u16 = u16::MAX;
/// The number of no shape: there is no id here.
const NONE: u16 = u16::MAX - 1;
/// How many shapes there may be. A record of another is elsewhere.
const SHAPES: usize = 4096;
/// How many receipts fit.
const RECEIPTS: usize = 3;

impl Small {
    /// In the place of a record that is elsewhere.
    pub(super) const ELSEWHERE: Self = Self::of_no_shape(ELSEWHERE);
    /// Where nothing is.
    pub(super) const NONE: Self = Self::of_no_shape(NONE);

    const fn of_no_shape(shape: u16) -> Self {
        Self {
            body: BodyDigest::NONE,
            first: [0; 3],
            shape,
            signed: 0,
            after: 0,
        }
    }

    pub(super) fn is_elsewhere(self) -> bool {
        self.shape == ELSEWHERE
    }

    pub(super) fn is_there(self) -> bool {
        self.shape != NONE
    }

    fn first(self) -> Millis {
        let [low, middle, high] = self.first.map(Millis::from);
        low | middle << 16 | high << 32
    }
}

/// What the records of many ids have in common: as many as there are sources, with
/// the sets of destinations that their events reach.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Shape {
    source: u32,
    standing: Standing,
    /// How long after `signed` a replay is fresh (seconds).
    window: u32,
    /// In the order of their receipts.
    destinations: SmallVec<[u32; RECEIPTS]>,
}

/// All shapes there are. They are never taken out: configurations make them, not
/// senders, and there is a bound.
#[derive(Default)]
pub(super) struct Shapes {
    known: Vec<Shape>,
    numbers: HashMap<Shape, u16>,
    /// The last that was asked for, mostly the next too.
    last: u16,
}

impl Shapes {
    /// The record in small, if it can be had back from that as it is.
    pub(super) fn pack(&mut self, record: &Record) -> Option<Small> {
        // What is being resent has any window, and would make any number of shapes.
        if record.standing == Standing::Resending || record.receipts.len() > RECEIPTS {
            return None;
        }
        let mut receipts: SmallVec<[Receipt; RECEIPTS]> = record.receipts.iter().copied().collect();
        receipts.sort_by_key(|receipt| receipt.after);
        let after = match receipts[..] {
            [] => 0,
            [only] => only.after,
            [first, second] if first.after == 0 => second.after,
            [first, second, third] if first.after == 0 => {
                let (second, third) = (second.after, u16::try_from(third.after).ok()?);
                second | u32::from(third) << 16
            }
            _ => return None,
        };
        let last = receipts.last().map_or(0, |receipt| receipt.after);
        if record.first.checked_add(u64::from(last)) != Some(record.last) {
            return None;
        }
        let signed = u32::try_from(record.signed).ok()?;
        let shape = Shape {
            source: record.source,
            standing: record.standing,
            window: match record.window_end {
                // For ever, as far as this can tell.
                u32::MAX => u32::MAX,
                end => end.checked_sub(signed)?,
            },
            destinations: receipts.iter().map(|r| r.destination).collect(),
        };
        let first = [0, 16, 32].map(|shift| (record.first >> shift) as u16);
        let small = Small {
            body: record.body,
            first,
            shape: self.number(shape)?,
            signed,
            after,
        };
        (small.first() == record.first).then_some(small)
    }

    /// The record that was packed; none of one that is elsewhere.
    pub(super) fn unpack(&self, small: Small) -> Option<Record> {
        let shape = self.known.get(usize::from(small.shape))?;
        let afters = match shape.destinations.len() {
            0 | 1 => [small.after, 0, 0],
            2 => [0, small.after, 0],
            _ => [0, small.after & 0xffff, small.after >> 16],
        };
        let receipts = shape.destinations.iter().zip(afters);
        let last = receipts.clone().map(|(_, after)| after).max().unwrap_or(0);
        let receipts = receipts.map(|(&destination, after)| Receipt { destination, after });
        let first = small.first();
        Some(Record {
            body: small.body,
            signed: u64::from(small.signed),
            first,
            last: first + u64::from(last),
            receipts: receipts.collect(),
            window_end: small.signed.saturating_add(shape.window),
            source: shape.source,
            standing: shape.standing,
        })
    }

    fn number(&mut self, shape: Shape) -> Option<u16> {
        if self.known.get(usize::from(self.last)) == Some(&shape) {
            return Some(self.last);
        }
        let number = match self.numbers.get(&shape) {
            Some(&number) => number,
            None if self.known.len() < SHAPES => {
                let number = u16::try_from(self.known.len()).ok()?;
                self.known.push(shape.clone());
                self.numbers.insert(shape, number);
                number
            }
            None => return None,
        };
        self.last = number;
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIRST: Millis = 1_700_000_000_123;

    fn record(receipts: &[(u32, u32)]) -> Record {
        let receipts = receipts.iter();
        let receipts = receipts.map(|&(destination, after)| Receipt { destination, after });
        let receipts: crate::ledger::record::Receipts = receipts.collect();
        let last = receipts.iter().map(|receipt| receipt.after).max();
        Record {
            body: BodyDigest::of(b"{}"),
            signed: 1_700_000_000,
            first: FIRST,
            last: FIRST + u64::from(last.unwrap_or(0)),
            receipts,
            window_end: 1_700_000_300,
            source: 7,
            standing: Standing::Delivered,
        }
    }

    /// As far as it matters: receipts are in no order.
    fn told(record: &Record) -> String {
        let mut record = record.clone();
        record.receipts.sort_by_key(|receipt| receipt.destination);
        format!("{record:?}")
    }

    fn fits(record: &Record) -> bool {
        let mut shapes = Shapes::default();
        let small = shapes.pack(record);
        if let Some(small) = small {
            assert_eq!(told(&shapes.unpack(small).unwrap()), told(record));
        }
        small.is_some()
    }

    #[test]
    fn what_up_to_three_destinations_accepted_in_one_run_fits() {
        for receipts in [
            &[][..],
            &[(1, 0)],
            &[(1, 86_400_000)],
            &[(2, 12_000), (1, 0)],
            &[(1, 0), (2, 0)],
            &[(1, 0), (2, u32::MAX)],
            &[(3, 65_535), (1, 0), (2, 65_535)],
        ] {
            assert!(fits(&record(receipts)), "{receipts:?}");
        }
        let failed = Record {
            standing: Standing::Partly,
            ..record(&[])
        };
        assert!(fits(&failed));
        let for_ever = Record {
            window_end: u32::MAX,
            ..record(&[(1, 0)])
        };
        assert!(fits(&for_ever));
    }

    #[test]
    fn what_does_not_fit_is_not_bent() {
        for receipts in [
            &[(1, 0), (2, 1), (3, 2), (4, 3)][..],
            &[(1, 1), (2, 2)],
            &[(1, 0), (2, 0), (3, 65_536)],
        ] {
            assert!(!fits(&record(receipts)), "{receipts:?}");
        }
        let usual = record(&[(1, 0)]);
        for unusual in [
            Record {
                signed: 1 << 32,
                ..usual.clone()
            },
            Record {
                first: 1 << 48,
                last: 1 << 48,
                ..usual.clone()
            },
            Record {
                last: FIRST + 1,
                ..usual.clone()
            },
            Record {
                window_end: 1_699_999_999,
                ..usual.clone()
            },
            Record {
                standing: Standing::Resending,
                ..usual.clone()
            },
        ] {
            assert!(!fits(&unusual), "{unusual:?}");
        }
    }

    #[test]
    fn there_are_no_more_shapes_than_the_bound() {
        let mut shapes = Shapes::default();
        let of = |source| Record {
            source,
            ..record(&[(1, 0)])
        };
        let bound = u32::try_from(SHAPES).unwrap();
        let smalls: Vec<_> = (0..bound).map(|n| shapes.pack(&of(n)).unwrap()).collect();
        assert_eq!(shapes.pack(&of(bound)), None);
        assert_eq!(shapes.pack(&of(5)), Some(smalls[5]));
        assert_eq!(shapes.unpack(smalls[5]).unwrap().source, 5);
    }

    proptest! {
        #[test]
        fn whatever_is_packed_comes_back_as_it_was(
            receipts in proptest::collection::btree_map(0..6u32, 0..100_000u32, 0..5),
            times in (0..3u64, 0..1u64 << 49, 0..200_000u64, 0..1u64 << 33),
            window_end in prop_oneof![any::<u32>(), Just(u32::MAX)],
            standing in 0..3usize,
        ) {
            let standings = [Standing::Partly, Standing::Delivered, Standing::Resending];
            let receipts: Vec<_> = receipts.into_iter().collect();
            let usual = record(&receipts);
            let (shift, first, last, signed) = times;
            let first = if shift == 0 { first } else { FIRST };
            let last = if shift == 1 { last } else { usual.last - usual.first };
            fits(&Record {
                first,
                last: first + last,
                signed,
                window_end,
                standing: standings[standing],
                ..usual
            });
        }
    }
}

//! How a record is written down for a store, whole in itself: names stand in it,
//! not their numbers, and a checksum that covers the id too.
//!
//! ```text
//! format (1) · standing (1) · body (16) · signed (8) · first (8) · last (8)
//! window_end (4) · source (1 + n) · receipts (2) · each: name (1 + n), after (4)
//! whatever a later minor version adds · checksum (4)
//! ```
//!
//! Numbers are little-endian. Another minor version may add at the end, and this
//! one reads over it; a change that this one would misread takes another format.

use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::BodyDigest;
use super::claim::IdDigest;
use super::record::{Millis, Names, Receipt, Receipts, Record, Standing};

const FORMAT: u8 = 1;
/// In the place of the standing: the id was forgotten.
const FORGOTTEN: u8 = 0;
const CHECKSUM: usize = 4;

/// Why something that was stored cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is not what was written.
    Damaged,
    /// A later version of hookward wrote it, in this format.
    Newer(u8),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::Damaged => f.write_str("a record is damaged"),
            Unreadable::Newer(format) => write!(
                f,
                "a record has format {format}, which only a later version of hookward reads"
            ),
        }
    }
}

/// Writes down what is known of an id.
pub(super) fn encode(id: IdDigest, record: &Record, names: &Names) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(96);
    bytes.push(FORMAT);
    bytes.push(match record.standing {
        Standing::Partly => 1,
        Standing::Delivered => 2,
        Standing::Resending => 3,
    });
    bytes.extend(record.body.bytes());
    for number in [record.signed, record.first, record.last] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(record.window_end.to_le_bytes());
    put_name(&mut bytes, names, record.source);
    let count = u16::try_from(record.receipts.len()).unwrap_or(u16::MAX);
    bytes.extend(count.to_le_bytes());
    for receipt in record.receipts.iter().take(usize::from(count)) {
        put_name(&mut bytes, names, receipt.destination);
        bytes.extend(receipt.after.to_le_bytes());
    }
    sealed(id, bytes)
}

/// Writes down that an id was forgotten.
pub(super) fn encode_forgotten(id: IdDigest) -> Vec<u8> {
    sealed(id, vec![FORMAT, FORGOTTEN])
}

/// Reads what [`encode`] wrote; none for an id that was forgotten.
///
/// # Errors
/// When it cannot be read.
pub(super) fn decode(
    id: IdDigest,
    bytes: &[u8],
    names: &Names,
) -> Result<Option<Record>, Unreadable> {
    let rest = &mut checked(id, bytes)?;
    read(rest, names).ok_or(Unreadable::Damaged)
}

/// Whether the bytes are those of a record, and not that it was forgotten; and
/// when it was last accepted.
///
/// # Errors
/// When they cannot be read.
pub(super) fn glance(id: IdDigest, bytes: &[u8]) -> Result<Option<Millis>, Unreadable> {
    let rest = checked(id, bytes)?;
    if rest[0] == FORGOTTEN {
        return Ok(None);
    }
    let last = rest.get(33..41).and_then(|last| last.try_into().ok());
    last.map(|last| Some(u64::from_le_bytes(last)))
        .ok_or(Unreadable::Damaged)
}

fn sealed(id: IdDigest, mut bytes: Vec<u8>) -> Vec<u8> {
    let checksum = checksum(id, &bytes);
    bytes.extend(checksum);
    bytes
}

fn checksum(id: IdDigest, bytes: &[u8]) -> [u8; CHECKSUM] {
    let [a, b, c, d, ..] = xxh3_64_with_seed(bytes, id.bits()).to_le_bytes();
    [a, b, c, d]
}

/// What stands between the format and the checksum, at least one byte.
fn checked(id: IdDigest, bytes: &[u8]) -> Result<&[u8], Unreadable> {
    let (body, sum) = bytes
        .split_last_chunk::<CHECKSUM>()
        .ok_or(Unreadable::Damaged)?;
    if checksum(id, body) != *sum {
        return Err(Unreadable::Damaged);
    }
    match body {
        [FORMAT, rest @ ..] if !rest.is_empty() => Ok(rest),
        [format, ..] if *format > FORMAT => Err(Unreadable::Newer(*format)),
        _ => Err(Unreadable::Damaged),
    }
}

/// The outer `None` is damage, the inner one a forgotten id.
fn read(rest: &mut &[u8], names: &Names) -> Option<Option<Record>> {
    let standing = match take::<1>(rest)?[0] {
        FORGOTTEN => return Some(None),
        1 => Standing::Partly,
        2 => Standing::Delivered,
        3 => Standing::Resending,
        _ => return None,
    };
    let mut record = Record {
        body: BodyDigest::from_bytes(take(rest)?),
        signed: u64::from_le_bytes(take(rest)?),
        first: u64::from_le_bytes(take(rest)?),
        last: u64::from_le_bytes(take(rest)?),
        receipts: Receipts::new(),
        window_end: u32::from_le_bytes(take(rest)?),
        source: take_name(rest, names)?,
        standing,
    };
    for _ in 0..u16::from_le_bytes(take(rest)?) {
        record.receipts.push(Receipt {
            destination: take_name(rest, names)?,
            after: u32::from_le_bytes(take(rest)?),
        });
    }
    Some(Some(record))
}

fn put_name(bytes: &mut Vec<u8>, names: &Names, number: u32) {
    let name = names.name(number).unwrap_or_default();
    // A name has at most 63 bytes.
    let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
    bytes.push(length);
    bytes.extend(&name.as_bytes()[..usize::from(length)]);
}

fn take_name(rest: &mut &[u8], names: &Names) -> Option<u32> {
    let length = usize::from(take::<1>(rest)?[0]);
    let (name, after) = rest.split_at_checked(length)?;
    *rest = after;
    let name = std::str::from_utf8(name).ok()?;
    Some(match names.number(name) {
        Some(number) => number,
        None => names.intern(&Arc::from(name)),
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(names: &Names) -> Record {
        let receipt = |name: &str, after| Receipt {
            destination: names.intern(&name.into()),
            after,
        };
        Record {
            body: BodyDigest::of(b"{}"),
            signed: 1_700_000_000,
            first: 1_700_000_000_123,
            last: 1_700_000_009_999,
            receipts: [
                receipt("billing", 7),
                receipt("audit", 9),
                receipt("mail", 0),
            ]
            .into_iter()
            .collect(),
            window_end: 1_700_000_300,
            source: names.intern(&"clerk".into()),
            standing: Standing::Resending,
        }
    }

    #[test]
    fn what_was_written_is_read_by_a_process_with_other_numbers() {
        let id = IdDigest::of("clerk", "m");
        let (here, there) = (Names::default(), Names::default());
        let bytes = encode(id, &record(&here), &here);
        there.intern(&"audit".into());
        let read = decode(id, &bytes, &there).unwrap().unwrap();
        assert_eq!(
            format!("{read:?}"),
            format!("{:?}", {
                let mut same = record(&here);
                same.source = there.number("clerk").unwrap();
                for (receipt, name) in same.receipts.iter_mut().zip(["billing", "audit", "mail"]) {
                    receipt.destination = there.number(name).unwrap();
                }
                same
            })
        );
        assert_eq!(glance(id, &bytes), Ok(Some(1_700_000_009_999)));
        let forgotten = encode_forgotten(id);
        assert!(decode(id, &forgotten, &there).unwrap().is_none());
        assert_eq!(glance(id, &forgotten), Ok(None));
    }

    /// As the first version wrote it: whatever comes later reads this.
    #[test]
    fn the_format_stays() {
        let names = Names::default();
        let bytes = encode(IdDigest::of("clerk", "m"), &record(&names), &names);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            include_str!("../../tests/data/ledger/record-1.hex").trim()
        );
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let names = Names::default();
        let id = IdDigest::of("clerk", "m");
        let bytes = encode(id, &record(&names), &names);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            assert!(decode(id, &changed, &names).is_err(), "{at}");
            assert!(decode(id, &bytes[..at], &names).is_err(), "{at}");
        }
        let other = IdDigest::of("clerk", "n");
        assert!(decode(other, &bytes, &names).is_err(), "of another id");
    }

    #[test]
    fn what_a_later_minor_version_adds_is_read_over() {
        let names = Names::default();
        let id = IdDigest::of("clerk", "m");
        let mut bytes = encode(id, &record(&names), &names);
        bytes.truncate(bytes.len() - CHECKSUM);
        bytes.extend(b"something new");
        assert!(decode(id, &sealed(id, bytes), &names).unwrap().is_some());
    }

    #[test]
    fn another_format_is_told_in_words() {
        let names = Names::default();
        let id = IdDigest::of("clerk", "m");
        let newer = sealed(id, vec![2, 1, 0, 0]);
        let told = decode(id, &newer, &names).unwrap_err();
        assert_eq!(told, Unreadable::Newer(2));
        assert!(told.to_string().contains("a later version of hookward"));
    }
}

//! What stands under an id's key in Redis: one line of text, so that it can be
//! read with any client, and by the scripts.
//!
//! ```text
//! 1d aCZ… 1764000000 1764000001123 250 300 clerk billing:0 audit:250
//! ```
//!
//! The version; how far it is (`p`artly, `d`elivered, `r`esending); the body's
//! digest in base64; the signed time (s); when a destination first accepted (ms);
//! how long after that the last did (ms); how long after the signed time a replay
//! would be fresh (s); the source; and each destination with the time after the
//! first (ms). The scripts look at the first two characters, and at the source
//! and the times.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::ledger::BodyDigest;
use crate::ledger::record::{Names, Receipts, Record, Standing};

/// What stands there is not a record that this version can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

impl Unreadable {
    /// For the log.
    pub(super) const WHY: &str =
        "something that is no record of this version stands under the id's key";
}

/// A record as it is written.
pub(super) fn write(record: &Record, names: &Names) -> String {
    use std::fmt::Write as _;
    let standing = match record.standing {
        Standing::Partly => 'p',
        Standing::Delivered => 'd',
        Standing::Resending => 'r',
    };
    let name = |number| names.name(number).unwrap_or_default();
    let mut text = format!(
        "1{standing} {} {} {} {} {} {}",
        body(record.body),
        record.signed,
        record.first,
        record.last.saturating_sub(record.first),
        u64::from(record.window_end).saturating_sub(record.signed),
        name(record.source),
    );
    for receipt in &record.receipts {
        // Writing to a text does not fail.
        let _ = write!(text, " {}:{}", name(receipt.destination), receipt.after);
    }
    text
}

/// A record as it was written.
///
/// # Errors
/// When it is none that this version can read.
pub(super) fn read(text: &[u8], names: &Names) -> Result<Record, Unreadable> {
    parse(text, names).ok_or(Unreadable)
}

fn parse(text: &[u8], names: &Names) -> Option<Record> {
    let text = std::str::from_utf8(text).ok()?;
    let mut parts = text.split(' ');
    let standing = match parts.next()? {
        "1p" => Standing::Partly,
        "1d" => Standing::Delivered,
        "1r" => Standing::Resending,
        _ => return None,
    };
    let body = read_body(parts.next()?)?;
    let mut number = || parts.next()?.parse::<u64>().ok();
    let (signed, first, after, window) = (number()?, number()?, number()?, number()?);
    let source = names.intern(&Arc::from(parts.next()?));
    let mut record = Record {
        body,
        signed,
        first,
        last: first.checked_add(after)?,
        receipts: Receipts::new(),
        window_end: u32::try_from(signed.checked_add(window)?).unwrap_or(u32::MAX),
        source,
        standing,
    };
    let last = record.last;
    for receipt in parts {
        let (destination, after) = receipt.split_once(':')?;
        let after: u32 = after.parse().ok()?;
        let destination = names.intern(&Arc::from(destination));
        record.accept(destination, first.checked_add(after.into())?);
    }
    record.last = last;
    Some(record)
}

/// A body's digest as it is written.
pub(super) fn body(body: BodyDigest) -> String {
    URL_SAFE_NO_PAD.encode(body.bytes())
}

/// A body's digest as it was written.
pub(super) fn read_body(text: &str) -> Option<BodyDigest> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    Some(BodyDigest::from_bytes(bytes.try_into().ok()?))
}

/// What is known of an id that two replicas have written: the facts of both. A
/// receipt is a fact, whoever held the id when it was given.
pub(super) fn merged(known: Record, ours: &Record) -> Record {
    let (base, other) = match (known.standing, ours.standing) {
        // A resend that goes on takes the place of what it began from, and yields
        // to one that is through.
        (Standing::Resending, Standing::Delivered) if known.signed >= ours.signed => {
            return later(known, ours);
        }
        (Standing::Delivered, Standing::Resending) if ours.signed >= known.signed => {
            return later(ours.clone(), &known);
        }
        (Standing::Delivered, _) => (known, ours.clone()),
        (_, Standing::Delivered) => (ours.clone(), known),
        (Standing::Resending, _) => (known, ours.clone()),
        (_, Standing::Resending) => (ours.clone(), known),
        (Standing::Partly, Standing::Partly) => (ours.clone(), known),
    };
    let mut both = later(base, &other);
    both.signed = both.signed.max(other.signed);
    let at = |record: &Record, after: u32| record.first.saturating_add(after.into());
    let receipts: Vec<_> = [&other, &both]
        .into_iter()
        .flat_map(|record| {
            let given = record.receipts.iter();
            given.map(|receipt| (receipt.destination, at(record, receipt.after)))
        })
        .collect();
    both.first = both.first.min(other.first);
    both.receipts.clear();
    for (destination, time) in receipts {
        both.accept(destination, time);
    }
    both
}

/// The one record, remembered for as long as the longer of the two.
fn later(mut record: Record, other: &Record) -> Record {
    record.last = record.last.max(other.last);
    record.window_end = record.window_end.max(other.window_end);
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(standing: Standing, signed: u64, receipts: &[(u32, u64)]) -> Record {
        let first = receipts.iter().map(|r| r.1).min().unwrap_or(1_000);
        let mut record = Record {
            body: BodyDigest::of(b"{}"),
            signed,
            first,
            last: first,
            receipts: Receipts::new(),
            window_end: u32::try_from(signed + 300).unwrap(),
            source: 0,
            standing,
        };
        for &(destination, at) in receipts {
            record.accept(destination, at);
        }
        record
    }

    fn names() -> Names {
        let names = Names::default();
        for name in ["clerk", "billing", "audit"] {
            names.intern(&Arc::from(name));
        }
        names
    }

    fn told(record: &Record) -> (Standing, u64, Vec<(u32, u64)>) {
        let mut receipts: Vec<_> = record
            .receipts
            .iter()
            .map(|r| (r.destination, record.first + u64::from(r.after)))
            .collect();
        receipts.sort_unstable();
        (record.standing, record.signed, receipts)
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let names = names();
        for standing in [Standing::Partly, Standing::Delivered, Standing::Resending] {
            for receipts in [
                &[][..],
                &[(1, 1_700_000_000_123)],
                &[(2, 5_000), (1, 7_000)],
            ] {
                let written = record(standing, 1_700_000_000, receipts);
                let text = write(&written, &names);
                let read = read(text.as_bytes(), &names).unwrap();
                assert_eq!(told(&read), told(&written), "{text}");
                assert_eq!((read.first, read.last), (written.first, written.last));
                assert_eq!(
                    (read.body, read.window_end),
                    (written.body, written.window_end)
                );
                assert_eq!(read.source, written.source);
            }
        }
    }

    #[test]
    fn names_are_written_and_not_their_numbers() {
        let ours = record(Standing::Delivered, 5, &[(1, 7)]);
        let text = write(&ours, &names());
        let theirs = Names::default();
        theirs.intern(&Arc::from("mail"));
        let read = read(text.as_bytes(), &theirs).unwrap();
        assert_eq!(theirs.name(read.source).as_deref(), Some("clerk"));
        assert_eq!(
            theirs.name(read.receipts[0].destination).as_deref(),
            Some("billing")
        );
    }

    #[test]
    fn what_another_version_wrote_is_not_guessed_at() {
        let names = names();
        let good = write(&record(Standing::Partly, 5, &[(1, 7)]), &names);
        for bad in [
            good.replacen('1', "2", 1),
            good.replacen("1p", "1x", 1),
            good.replacen(":0", "", 1),
            good.replacen(" 5 ", " x ", 1),
            good[..20].to_owned(),
            String::new(),
        ] {
            assert_eq!(
                read(bad.as_bytes(), &names).map(|_| ()),
                Err(Unreadable),
                "{bad}"
            );
        }
        assert!(read(b"\xff\xfe", &names).is_err());
    }

    #[test]
    fn receipts_of_both_count_whoever_was_first() {
        let one = record(Standing::Partly, 10, &[(1, 2_000)]);
        let other = record(Standing::Partly, 20, &[(2, 1_000)]);
        let expected = (Standing::Partly, 20, vec![(1, 2_000), (2, 1_000)]);
        assert_eq!(told(&merged(one.clone(), &other)), expected);
        assert_eq!(told(&merged(other, &one)), expected);
    }

    #[test]
    fn delivered_stays_delivered() {
        let partly = record(Standing::Partly, 20, &[(1, 2_000)]);
        let delivered = record(Standing::Delivered, 10, &[(2, 1_000)]);
        let expected = (Standing::Delivered, 20, vec![(1, 2_000), (2, 1_000)]);
        assert_eq!(told(&merged(partly.clone(), &delivered)), expected);
        assert_eq!(told(&merged(delivered, &partly)), expected);
    }

    #[test]
    fn a_resend_that_goes_on_takes_the_place_of_what_it_began_from() {
        let delivered = record(Standing::Delivered, 10, &[(1, 1_000), (2, 1_000)]);
        let resending = record(Standing::Resending, 10, &[(1, 9_000)]);
        let expected = (Standing::Resending, 10, vec![(1, 9_000)]);
        assert_eq!(told(&merged(delivered.clone(), &resending)), expected);
        assert_eq!(told(&merged(resending.clone(), &delivered)), expected);

        let through = record(Standing::Delivered, 90, &[(1, 9_500), (2, 9_600)]);
        let expected = (Standing::Delivered, 90, vec![(1, 9_500), (2, 9_600)]);
        assert_eq!(told(&merged(through.clone(), &resending)), expected);
        assert_eq!(told(&merged(resending, &through)), expected);
    }

    #[test]
    fn merging_twice_changes_nothing() {
        let one = record(Standing::Partly, 10, &[(1, 2_000)]);
        let other = record(Standing::Delivered, 20, &[(2, 1_000)]);
        let once = merged(one, &other);
        assert_eq!(told(&merged(once.clone(), &other)), told(&once));
    }
}

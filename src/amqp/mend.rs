//! Makes what a broker hands out readable for lapin, which ends the connection over a
//! name that is not UTF-8, and the process, by a full stack, over a table in a table
//! in a table. Either is a producer's to write, and no consumer could ever get past
//! such a message; tables also come from whoever is taken for the broker, before any
//! login. Everything is mended in place, so that no length changes.

/// `connection`, which begins with what the broker tells of itself.
const CONNECTION: u16 = 10;
const START: u16 = 10;
/// `basic`, whose methods carry names that producers wrote.
const BASIC: u16 = 60;
const RETURN: u16 = 50;
const DELIVER: u16 = 60;

/// Mends the names in a method, and its table.
pub(super) fn method(payload: &mut [u8]) {
    let mut rest = Rest::of(payload);
    // What is cut off is lapin's to complain of.
    let _ = match (rest.number(), rest.number()) {
        (Some(CONNECTION), Some(START)) => start(&mut rest),
        (Some(BASIC), Some(DELIVER)) => deliver(&mut rest),
        (Some(BASIC), Some(RETURN)) => returned(&mut rest),
        _ => None,
    };
}

fn start(rest: &mut Rest<'_>) -> Option<()> {
    // The version.
    rest.skip(2)?;
    table(rest)
}

fn deliver(rest: &mut Rest<'_>) -> Option<()> {
    rest.name()?;
    // The delivery tag, and whether it was redelivered.
    rest.skip(9)?;
    rest.name()?;
    rest.name()
}

fn returned(rest: &mut Rest<'_>) -> Option<()> {
    rest.skip(2)?;
    rest.name()?;
    rest.name()?;
    rest.name()
}

/// Mends the properties of a message. lapin reads them whatever class they are said to
/// be of.
pub(super) fn header(payload: &mut [u8]) {
    let _ = properties(&mut Rest::of(payload));
}

/// The properties in their order, from the highest flag down.
const PROPERTIES: [Property; 14] = {
    use Property::{Name, Number, Table};
    [
        Name,
        Name,
        Table,
        Number(1),
        Number(1),
        Name,
        Name,
        Name,
        Name,
        Number(8),
        Name,
        Name,
        Name,
        Name,
    ]
};

#[derive(Clone, Copy)]
enum Property {
    Name,
    Table,
    /// Of so many bytes.
    Number(usize),
}

fn properties(rest: &mut Rest<'_>) -> Option<()> {
    // Class, weight, and the size of the body.
    rest.skip(12)?;
    let flags = rest.number()?;
    for (number, property) in PROPERTIES.into_iter().enumerate() {
        if flags & (0x8000 >> number) == 0 {
            continue;
        }
        match property {
            Property::Name => rest.name()?,
            Property::Number(bytes) => rest.skip(bytes)?,
            Property::Table => table(rest)?,
        }
    }
    Some(())
}

/// Mends a table, of which nothing deeper than its own entries is left.
fn table(rest: &mut Rest<'_>) -> Option<()> {
    let table = rest.long()?;
    match entries(&mut Rest::of(table)) {
        Some(()) => Some(()),
        None => opaque_table(table),
    }
}

/// Mends the entries of a table. `None` when it is not one that can be read.
fn entries(rest: &mut Rest<'_>) -> Option<()> {
    while !rest.is_empty() {
        rest.name()?;
        match *rest.take(1)?.first()? {
            b'V' => {}
            b't' | b'b' | b'B' => rest.skip(1)?,
            b's' | b'U' | b'u' => rest.skip(2)?,
            b'I' | b'i' | b'f' => rest.skip(4)?,
            b'D' => rest.skip(5)?,
            b'L' | b'l' | b'd' | b'T' => rest.skip(8)?,
            b'S' | b'x' => {
                rest.long()?;
            }
            b'F' => opaque_table(rest.long()?)?,
            b'A' => opaque_array(rest.long()?),
            _ => return None,
        }
    }
    Some(())
}

/// Makes one value of bytes of a whole table: nobody reads tables in it. `None` when
/// no table is as short as that.
fn opaque_table(table: &mut [u8]) -> Option<()> {
    match table {
        [name, kind, a, b, c, d, rest @ ..] => {
            (*name, *kind) = (0, b'x');
            [*a, *b, *c, *d] = length(rest);
        }
        // Too short for that: a name, and nothing under it.
        [name, rest @ .., nothing] => {
            *name = u8::try_from(rest.len()).unwrap_or(0);
            rest.fill(b'x');
            *nothing = b'V';
        }
        [_] => return None,
        [] => {}
    }
    Some(())
}

/// The same of an array.
fn opaque_array(array: &mut [u8]) {
    match array {
        [kind, a, b, c, d, rest @ ..] => {
            *kind = b'x';
            [*a, *b, *c, *d] = length(rest);
        }
        short => short.fill(b'V'),
    }
}

fn length(bytes: &[u8]) -> [u8; 4] {
    // A frame is shorter than that.
    u32::try_from(bytes.len()).unwrap_or(0).to_be_bytes()
}

/// What of a payload was not yet looked at.
struct Rest<'a>(&'a mut [u8]);

impl<'a> Rest<'a> {
    fn of(payload: &'a mut [u8]) -> Self {
        Self(payload)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: usize) -> Option<&'a mut [u8]> {
        let (taken, rest) = std::mem::take(&mut self.0).split_at_mut_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.take(count).map(|_| ())
    }

    fn number(&mut self) -> Option<u16> {
        let bytes = self.take(2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A text of up to 255 bytes, which becomes UTF-8.
    fn name(&mut self) -> Option<()> {
        let length = *self.take(1)?.first()?;
        let name = self.take(usize::from(length))?;
        if std::str::from_utf8(name).is_err() {
            name.iter_mut()
                .filter(|byte| !byte.is_ascii())
                .for_each(|byte| *byte = b'?');
        }
        Some(())
    }

    /// What stands behind its length.
    fn long(&mut self) -> Option<&'a mut [u8]> {
        let bytes = self.take(4)?;
        let length = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        self.take(usize::try_from(length).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use amq_protocol::frame::{AMQPFrame, parse_frame};
    use amq_protocol::protocol::AMQPClass;
    use amq_protocol::protocol::connection::AMQPMethod as Method;
    use lapin::types::AMQPValue;
    use proptest::prelude::*;

    use super::*;

    fn name(bytes: &[u8]) -> Vec<u8> {
        [&[u8::try_from(bytes.len()).unwrap()], bytes].concat()
    }

    fn long(bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).unwrap();
        [&length.to_be_bytes(), bytes].concat()
    }

    /// A header with a table of headers and a type.
    fn with_table(table: &[u8]) -> Vec<u8> {
        let mut payload = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0x20, 0x20];
        payload.extend(long(table));
        payload.extend(name(b"ty\xffpe"));
        payload
    }

    /// What lapin reads, once it is mended.
    fn read(kind: u8, mut payload: Vec<u8>) -> AMQPFrame {
        match kind {
            1 => method(&mut payload),
            _ => header(&mut payload),
        }
        let mut frame = vec![kind, 0, 1];
        frame.extend(long(&payload));
        frame.push(0xce);
        let (rest, read) = parse_frame(frame.as_slice()).unwrap();
        assert!(rest.is_empty());
        read
    }

    fn headers(table: &[u8]) -> Vec<(String, AMQPValue)> {
        let AMQPFrame::Header(_, header) = read(2, with_table(table)) else {
            panic!("no header");
        };
        let kind = header.properties.kind().as_ref();
        assert_eq!(kind.map(|kind| kind.as_str()), Some("ty?pe"));
        let table = header.properties.headers().clone().unwrap();
        let entries = table.inner().iter();
        entries.map(|(n, v)| (n.to_string(), v.clone())).collect()
    }

    #[test]
    fn a_name_that_is_no_utf_8_is_read_all_the_same() {
        let table = [
            name(b"a\xff\xfeb"),
            b"S".to_vec(),
            long(b"\xff"),
            name("ä".as_bytes()),
            b"V".to_vec(),
        ];
        let names: Vec<_> = headers(&table.concat())
            .into_iter()
            .map(|(n, _)| n)
            .collect();
        assert_eq!(names, ["a??b", "ä"]);
    }

    /// A table of a table and an array, each with more in it than lapin can go into.
    fn deep() -> Vec<u8> {
        let mut table = Vec::new();
        let mut array = Vec::new();
        for _ in 0..8_000 {
            table = [name(b""), b"F".to_vec(), long(&table)].concat();
            array = [b"A".to_vec(), long(&array)].concat();
        }
        [name(b"t"), b"F".to_vec(), long(&table), name(b"a"), array].concat()
    }

    #[test]
    fn tables_in_tables_are_not_gone_into() {
        let found = headers(&deep());
        assert!(matches!(&found[0], (n, AMQPValue::FieldArray(_)) if n == "a"));
        assert!(matches!(&found[1], (n, AMQPValue::FieldTable(_)) if n == "t"));
    }

    #[test]
    fn nor_in_a_header_of_any_other_class() {
        for class in [0, 10, 50, 90] {
            let mut payload = with_table(&deep());
            payload[1] = class;
            assert!(matches!(read(2, payload), AMQPFrame::Header(..)));
        }
    }

    #[test]
    fn nor_in_what_a_broker_tells_of_itself() {
        for table in [deep(), b"\x01a?12345".to_vec(), Vec::new()] {
            let mut payload = vec![0, 10, 0, 10, 0, 9];
            for text in [&table[..], b"PLAIN", b"en_US"] {
                payload.extend(long(text));
            }
            let AMQPFrame::Method(_, AMQPClass::Connection(Method::Start(start))) =
                read(1, payload)
            else {
                panic!("no start");
            };
            assert_eq!(start.locales.as_bytes(), b"en_US");
        }
    }

    #[test]
    fn short_tables_stay_what_they_are() {
        for inside in [&b""[..], b"\0V", b"\x01aV", b"\x03aaaV", b"\0t\x01"] {
            let table = [name(b"t"), b"F".to_vec(), long(inside)].concat();
            assert!(matches!(headers(&table)[0].1, AMQPValue::FieldTable(_)));
        }
        for inside in [&b""[..], b"V", b"t\x01", b"I\0\0\0\x01"] {
            let table = [name(b"t"), b"A".to_vec(), long(inside)].concat();
            assert!(matches!(headers(&table)[0].1, AMQPValue::FieldArray(_)));
        }
    }

    #[test]
    fn a_table_that_cannot_be_read_is_one_value() {
        for table in [&b"\x01a?12345"[..], b"\x01aS\0\0\0\x09abc", b"\xffabcdef"] {
            let found = headers(table);
            assert!(matches!(&found[..], [(n, AMQPValue::ByteArray(_))] if n.is_empty()));
        }
    }

    #[test]
    fn a_delivery_under_any_routing_key_is_read() {
        let mut payload = vec![0, 60, 0, 60];
        payload.extend(name(b"tag"));
        payload.extend([0; 9]);
        payload.extend(name(b"\xc3"));
        payload.extend(name(b"\xc3\x28"));
        let read = format!("{:?}", read(1, payload));
        assert!(
            read.contains("\"?(\"") && read.contains("\"tag\""),
            "{read}"
        );
    }

    proptest! {
        #[test]
        fn nothing_is_too_strange_to_be_looked_at(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200),
            flags in any::<u16>(),
        ) {
            method(&mut bytes.clone());
            header(&mut bytes.clone());
            bytes.splice(0..0, [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
            bytes.splice(12..12, flags.to_be_bytes());
            let before = bytes.len();
            header(&mut bytes);
            prop_assert_eq!(bytes.len(), before);
        }

        #[test]
        fn whatever_stands_in_a_table_lapin_can_read_it(
            table in prop::collection::vec(any::<u8>(), 6..200),
        ) {
            headers(&table);
        }

        #[test]
        fn and_also_when_it_is_nearly_one(
            entries in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..5), prop::sample::select(b"VtbBsUuIifDLldTSxFA?".to_vec()), prop::collection::vec(any::<u8>(), 0..9)),
                1..9,
            ),
        ) {
            let mut table = Vec::new();
            for (n, kind, value) in entries {
                table.extend(name(&n));
                table.push(kind);
                match kind {
                    b'S' | b'x' | b'F' | b'A' => table.extend(long(&value)),
                    _ => table.extend(value),
                }
            }
            prop_assume!(table.len() >= 6);
            headers(&table);
        }
    }
}

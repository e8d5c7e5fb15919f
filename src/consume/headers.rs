use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

use crate::message::Family;

/// Headers taken over besides those of the signature; as many as of a request.
const MOST: usize = 100;

/// The headers of a message, as those of a request: the two properties that HTTP
/// has headers for, and every header that is a text.
///
/// A producer may write names in any case, and a text as a long or short string, as
/// bytes, or a time as a whole number. What cannot be a header is left out, but never
/// one of the signature: that one stands there without a value, so that the message
/// is malformed, and not one signed under the other family.
pub(super) fn of(properties: &BasicProperties) -> HeaderMap {
    let mut map = HeaderMap::new();
    if let Some(table) = properties.headers() {
        signature(table, &mut map);
        others(table, &mut map);
    }
    for (name, value) in [
        (CONTENT_TYPE, properties.content_type()),
        (CONTENT_ENCODING, properties.content_encoding()),
    ] {
        let value = value.as_ref().map(|text| text.as_str().as_bytes());
        if let Some(value) = value.and_then(|text| HeaderValue::from_bytes(text).ok()) {
            map.insert(name, value);
        }
    }
    map
}

fn signature(table: &FieldTable, map: &mut HeaderMap) {
    for (name, value) in table.inner() {
        if let Some(name) = of_a_family(name.as_str()) {
            let value = text(value).unwrap_or(HeaderValue::from_static(""));
            // The map cannot be full: a table has each spelling of a name once, and
            // fits into a frame.
            let _ = map.try_append(name, value);
        }
    }
}

fn others(table: &FieldTable, map: &mut HeaderMap) {
    let mut taken = 0;
    for (name, value) in table.inner() {
        let name = name.as_str();
        if taken == MOST {
            break;
        }
        if of_a_family(name).is_some() || is_ours(name) {
            continue;
        }
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Some(value)) = (name, text(value))
            // It would say what is between the sender and us, and there is no such hop.
            && name != CONNECTION
            && map.try_append(name, value).is_ok()
        {
            taken += 1;
        }
    }
}

fn of_a_family(name: &str) -> Option<HeaderName> {
    let mut names = Family::ALL.iter().flat_map(|family| family.names());
    names
        .find(|known| name.eq_ignore_ascii_case(known))
        .map(HeaderName::from_static)
}

/// What only hookward says, and what another one said of its own source.
fn is_ours(name: &str) -> bool {
    let prefix = name.as_bytes().get(.."hookward-".len());
    prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"hookward-"))
}

/// A value as a header; none where it is no text and no whole number.
fn text(value: &AMQPValue) -> Option<HeaderValue> {
    let bytes = |bytes: &[u8]| HeaderValue::from_maybe_shared(Bytes::copy_from_slice(bytes)).ok();
    match value {
        AMQPValue::LongString(text) => bytes(text.as_bytes()),
        AMQPValue::ShortString(text) => bytes(text.as_str().as_bytes()),
        AMQPValue::ByteArray(array) => bytes(array.as_slice()),
        AMQPValue::ShortShortInt(number) => Some(i16::from(*number).into()),
        AMQPValue::ShortShortUInt(number) => Some(u16::from(*number).into()),
        AMQPValue::ShortInt(number) => Some((*number).into()),
        AMQPValue::ShortUInt(number) => Some((*number).into()),
        AMQPValue::LongInt(number) => Some((*number).into()),
        AMQPValue::LongUInt(number) => Some((*number).into()),
        AMQPValue::LongLongInt(number) => Some((*number).into()),
        AMQPValue::Timestamp(number) => Some((*number).into()),
        AMQPValue::Boolean(_)
        | AMQPValue::Float(_)
        | AMQPValue::Double(_)
        | AMQPValue::DecimalValue(_)
        | AMQPValue::FieldArray(_)
        | AMQPValue::FieldTable(_)
        | AMQPValue::Void => None,
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::{ByteArray, FieldArray, LongString, ShortString};
    use proptest::prelude::*;

    use super::*;

    fn long(text: &str) -> AMQPValue {
        AMQPValue::LongString(text.into())
    }

    fn converted(headers: impl IntoIterator<Item = (ShortString, AMQPValue)>) -> HeaderMap {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert(name, value);
        }
        of(&BasicProperties::default().with_headers(table))
    }

    #[test]
    fn every_way_to_write_a_text_is_read() {
        let map = converted([
            ("a".into(), long("long")),
            ("b".into(), AMQPValue::ShortString("short".into())),
            ("c".into(), AMQPValue::ByteArray(b"bytes".as_slice().into())),
            (
                "Webhook-Timestamp".into(),
                AMQPValue::LongLongInt(1_649_367_553),
            ),
            ("e".into(), AMQPValue::Timestamp(7)),
            ("f".into(), AMQPValue::ShortShortInt(-7)),
            ("g".into(), AMQPValue::LongUInt(u32::MAX)),
        ]);
        for (name, value) in [
            ("a", "long"),
            ("b", "short"),
            ("c", "bytes"),
            ("webhook-timestamp", "1649367553"),
            ("e", "7"),
            ("f", "-7"),
            ("g", "4294967295"),
        ] {
            assert_eq!(map[name], value);
        }
    }

    #[test]
    fn the_properties_beat_headers_of_their_name() {
        let mut table = FieldTable::default();
        table.insert("Content-Type".into(), long("text/plain"));
        table.insert("content-encoding".into(), long("br"));
        let properties = BasicProperties::default()
            .with_headers(table)
            .with_content_type("application/json".into())
            .with_content_encoding("a\nb".into());
        let map = of(&properties);
        assert_eq!(map[CONTENT_TYPE], "application/json");
        assert_eq!(
            map[CONTENT_ENCODING], "br",
            "a property that is no header is none"
        );
        assert_eq!(map.len(), 2);
    }

    #[test]
    fn what_is_ours_or_between_two_hops_is_left_out() {
        let map = converted([
            ("hookward-source".into(), long("forged")),
            ("Hookward-Anything".into(), long("forged")),
            ("connection".into(), long("content-type")),
            ("hookwards".into(), long("kept")),
            ("hookwärd-".into(), long("no name")),
            ("a b".into(), long("no name")),
            ("".into(), long("no name")),
        ]);
        assert_eq!(map.keys().collect::<Vec<_>>(), ["hookwards"]);
    }

    #[test]
    fn a_signature_header_that_is_no_text_is_there_all_the_same() {
        for value in [
            AMQPValue::Void,
            AMQPValue::Boolean(true),
            AMQPValue::Double(1.5),
            AMQPValue::FieldTable(FieldTable::default()),
            AMQPValue::FieldArray(FieldArray::default()),
            long("a\r\nb"),
            AMQPValue::ByteArray(ByteArray::from(b"\0".as_slice())),
        ] {
            let map = converted([("svix-id".into(), value.clone()), ("other".into(), value)]);
            assert_eq!(map["svix-id"], "");
            assert_eq!(map.len(), 1);
        }
    }

    #[test]
    fn two_spellings_of_a_name_are_two_headers() {
        let map = converted([
            ("Svix-Id".into(), long("a")),
            ("svix-id".into(), long("b")),
            ("SVIX-ID".into(), long("c")),
        ]);
        assert_eq!(map.get_all("svix-id").iter().count(), 3);
    }

    #[test]
    fn a_crowd_of_headers_does_not_push_the_signature_out() {
        let crowd = (0..40_000).map(|number| (format!("a{number}").into(), long("x")));
        let map = converted(crowd.chain([("webhook-id".into(), long("msg_1"))]));
        assert_eq!(map["webhook-id"], "msg_1");
        assert_eq!(map.len(), MOST + 1);
    }

    fn any_value() -> impl Strategy<Value = AMQPValue> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..40);
        let leaf = prop_oneof![
            bytes().prop_map(|b| AMQPValue::LongString(LongString::from(b))),
            bytes().prop_map(|b| AMQPValue::ByteArray(b.into())),
            ".{0,40}".prop_map(|t| AMQPValue::ShortString(t.into())),
            any::<i64>().prop_map(AMQPValue::LongLongInt),
            any::<u64>().prop_map(AMQPValue::Timestamp),
            any::<f64>().prop_map(AMQPValue::Double),
            any::<bool>().prop_map(AMQPValue::Boolean),
            Just(AMQPValue::Void),
        ];
        leaf.prop_recursive(4, 16, 4, |inner| {
            prop::collection::vec((".{0,9}", inner), 0..4).prop_map(|entries| {
                let mut table = FieldTable::default();
                for (name, value) in entries {
                    table.insert(name.into(), value);
                }
                AMQPValue::FieldTable(table)
            })
        })
    }

    fn any_name() -> impl Strategy<Value = String> {
        prop_oneof![
            ".{0,40}",
            "[Ss]vix-(id|timestamp|signature)",
            "[Ww]ebhook-(id|ID|timestamp|signature)",
            "[Hh]ookward-[a-z]{0,5}",
        ]
    }

    proptest! {
        #[test]
        fn whatever_a_producer_writes_is_headers_or_nothing(
            entries in prop::collection::vec((any_name(), any_value()), 0..30),
        ) {
            let mut spelled = std::collections::BTreeSet::new();
            for (name, _) in &entries {
                if of_a_family(name).is_some() {
                    spelled.insert(name.clone());
                }
            }
            let entries = entries.into_iter();
            let map = converted(entries.map(|(name, value)| (name.into(), value)));
            prop_assert!(map.keys().all(|name| !name.as_str().starts_with("hookward-")));
            prop_assert!(!map.contains_key(CONNECTION));
            let family = map.keys().filter(|name| of_a_family(name.as_str()).is_some());
            let there: usize = family.map(|name| map.get_all(name).iter().count()).sum();
            prop_assert_eq!(there, spelled.len(), "each signature header counts");
        }
    }
}

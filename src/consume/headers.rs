use std::borrow::Cow;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

use crate::message::{Family, Headers, is_header_name, is_header_value};

/// Headers taken over besides those of the signature; as many as of a request.
const MOST: usize = 100;

/// The two that a message has properties for.
const CONTENT_TYPE: &str = "content-type";
const CONTENT_ENCODING: &str = "content-encoding";

/// It would say what is between the sender and us, and there is no such hop.
const CONNECTION: &str = "connection";

/// A name and a value, both in their form.
type Pair<'a> = (&'a str, Cow<'a, [u8]>);

/// The headers of a message, as those of a request: the two properties that HTTP
/// has headers for, and every header that is a text.
///
/// A producer may write names in any case, and a text as a long or short string, as
/// bytes, or a time as a whole number. What cannot be a header is left out, but never
/// one of the signature: that one stands there without a value, so that the message
/// is malformed, and not one signed under the other family.
pub(super) fn of(properties: &BasicProperties) -> Headers {
    let told = [
        (CONTENT_TYPE, properties.content_type()),
        (CONTENT_ENCODING, properties.content_encoding()),
    ];
    let told = told.into_iter().filter_map(|(name, value)| {
        let value = value.as_ref()?.as_str().as_bytes();
        is_header_value(value).then_some((name, Cow::Borrowed(value)))
    });
    let mut pairs: Vec<Pair<'_>> = told.collect();
    if let Some(table) = properties.headers() {
        others(table, &mut pairs);
        signature(table, &mut pairs);
    }
    pairs.into_iter().collect()
}

fn signature<'a>(table: &'a FieldTable, pairs: &mut Vec<Pair<'a>>) {
    for (name, value) in table.inner() {
        if let Some(name) = of_a_family(name.as_str()) {
            pairs.push((name, text(value).unwrap_or_default()));
        }
    }
}

/// Adds those that are not there already as properties.
fn others<'a>(table: &'a FieldTable, pairs: &mut Vec<Pair<'a>>) {
    let properties = pairs.len();
    for (name, value) in table.inner() {
        let name = name.as_str();
        if pairs.len() == properties + MOST {
            break;
        }
        let is_told = |(told, _): &Pair<'_>| name.eq_ignore_ascii_case(told);
        if of_a_family(name).is_none()
            && !is_ours(name)
            && !name.eq_ignore_ascii_case(CONNECTION)
            && !pairs[..properties].iter().any(is_told)
            && is_header_name(name.as_bytes())
            && let Some(value) = text(value)
        {
            pairs.push((name, value));
        }
    }
}

fn of_a_family(name: &str) -> Option<&'static str> {
    let mut names = Family::ALL.iter().flat_map(|family| family.names());
    names.find(|known| name.eq_ignore_ascii_case(known))
}

/// What only hookward says, and what another one said of its own source.
fn is_ours(name: &str) -> bool {
    let prefix = name.as_bytes().get(.."hookward-".len());
    prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"hookward-"))
}

/// A value as a header; none where it is no text and no whole number.
fn text(value: &AMQPValue) -> Option<Cow<'_, [u8]>> {
    let text = match value {
        AMQPValue::LongString(text) => Cow::Borrowed(text.as_bytes()),
        AMQPValue::ShortString(text) => Cow::Borrowed(text.as_str().as_bytes()),
        AMQPValue::ByteArray(array) => Cow::Borrowed(array.as_slice()),
        AMQPValue::ShortShortInt(number) => digits(number),
        AMQPValue::ShortShortUInt(number) => digits(number),
        AMQPValue::ShortInt(number) => digits(number),
        AMQPValue::ShortUInt(number) => digits(number),
        AMQPValue::LongInt(number) => digits(number),
        AMQPValue::LongUInt(number) => digits(number),
        AMQPValue::LongLongInt(number) => digits(number),
        AMQPValue::Timestamp(number) => digits(number),
        AMQPValue::Boolean(_)
        | AMQPValue::Float(_)
        | AMQPValue::Double(_)
        | AMQPValue::DecimalValue(_)
        | AMQPValue::FieldArray(_)
        | AMQPValue::FieldTable(_)
        | AMQPValue::Void => return None,
    };
    is_header_value(&text).then_some(text)
}

fn digits(number: &impl ToString) -> Cow<'static, [u8]> {
    number.to_string().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use lapin::types::{ByteArray, FieldArray, LongString, ShortString};
    use proptest::prelude::*;

    use super::*;

    /// The values of a name, as texts.
    fn told<'a>(headers: &'a Headers, name: &str) -> Vec<&'a str> {
        let values = headers.all(name);
        values.map(|value| value.to_str().unwrap()).collect()
    }

    fn long(text: &str) -> AMQPValue {
        AMQPValue::LongString(text.into())
    }

    fn converted(headers: impl IntoIterator<Item = (ShortString, AMQPValue)>) -> Headers {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert(name, value);
        }
        of(&BasicProperties::default().with_headers(table))
    }

    #[test]
    fn every_way_to_write_a_text_is_read() {
        let headers = converted([
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
            assert_eq!(told(&headers, name), [value]);
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
        let headers = of(&properties);
        assert_eq!(told(&headers, CONTENT_TYPE), ["application/json"]);
        let encoding = told(&headers, CONTENT_ENCODING);
        assert_eq!(encoding, ["br"], "a property that is no header is none");
        assert_eq!(headers.iter().count(), 2);
    }

    #[test]
    fn what_is_ours_or_between_two_hops_is_left_out() {
        let headers = converted([
            ("hookward-source".into(), long("forged")),
            ("Hookward-Anything".into(), long("forged")),
            ("connection".into(), long("content-type")),
            ("hookwards".into(), long("kept")),
            ("hookwärd-".into(), long("no name")),
            ("a b".into(), long("no name")),
            ("".into(), long("no name")),
        ]);
        let names: Vec<_> = headers.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["hookwards"]);
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
            let headers = converted([("svix-id".into(), value.clone()), ("other".into(), value)]);
            assert_eq!(told(&headers, "svix-id"), [""]);
            assert_eq!(headers.iter().count(), 1);
        }
    }

    #[test]
    fn two_spellings_of_a_name_are_two_headers() {
        let headers = converted([
            ("Svix-Id".into(), long("a")),
            ("svix-id".into(), long("b")),
            ("SVIX-ID".into(), long("c")),
        ]);
        assert_eq!(headers.all("svix-id").count(), 3);
    }

    #[test]
    fn a_crowd_of_headers_does_not_push_the_signature_out() {
        let crowd = (0..40_000).map(|number| (format!("a{number}").into(), long("x")));
        let headers = converted(crowd.chain([("webhook-id".into(), long("msg_1"))]));
        assert_eq!(told(&headers, "webhook-id"), ["msg_1"]);
        assert_eq!(headers.iter().count(), MOST + 1);
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
            let headers = converted(entries.map(|(name, value)| (name.into(), value)));
            for (name, value) in headers.iter() {
                prop_assert!(!name.to_lowercase().starts_with("hookward-"));
                prop_assert!(HeaderName::from_bytes(name.as_bytes()).is_ok());
                prop_assert!(HeaderValue::from_bytes(value.as_bytes()).is_ok());
            }
            prop_assert!(!headers.contains(CONNECTION));
            let family = headers.iter().filter(|(name, _)| of_a_family(name).is_some());
            prop_assert_eq!(family.count(), spelled.len(), "each signature header counts");
        }
    }
}

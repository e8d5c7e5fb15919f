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

use proptest::prelude::*;

use super::*;
use crate::message::is_header_value;

/// The bytes of `text` with one bit turned, as a header if it still is one.
fn flipped(text: &[u8], bit: usize) -> Option<Vec<u8>> {
    let mut bytes = text.to_vec();
    let bit = bit % (bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
    is_header_value(&bytes).then_some(bytes)
}

proptest! {
    #[test]
    fn whatever_was_signed_is_proven(
        id in "[!-\\-/-~]{1,255}",
        timestamp in 1u64..1_000_000_000_000,
        body in proptest::collection::vec(any::<u8>(), 0..2000),
    ) {
        let verifier = without_window(SECRET);
        let token = SigningKey::parse(SECRET).unwrap().sign(&id, timestamp, &body).unwrap();
        let headers = svix(&id, &timestamp.to_string(), &token);
        let verified = proven(&verifier, &headers, &body, at(SIGNED)).unwrap();
        prop_assert_eq!(verified.body(), &body);
    }

    #[test]
    fn one_turned_bit_anywhere_is_refused(
        part in 0..4_usize,
        bit in any::<usize>(),
        body in proptest::collection::vec(any::<u8>(), 1..300),
    ) {
        let verifier = without_window(SECRET);
        let time = SIGNED.to_string();
        let token = signed_with(SECRET, &body);
        let mut values = [ID, &time, &token].map(|text| text.as_bytes().to_vec());
        let mut body = body;
        if let Some(value) = values.get_mut(part) {
            // What is no header value never gets past HTTP.
            let Some(turned) = flipped(value, bit) else { return Ok(()) };
            *value = turned;
        } else {
            let bit = bit % (body.len() * 8);
            body[bit / 8] ^= 1 << (bit % 8);
        }
        let headers = Family::Svix.names().into_iter().zip(values).collect();
        prop_assert!(proven(&verifier, &headers, &body, at(SIGNED)).is_err());
    }

    #[test]
    fn no_headers_at_all_make_it_panic(
        values in proptest::collection::vec((0usize..6, proptest::collection::vec(any::<u8>(), 0..60)), 0..8),
    ) {
        let names: Vec<&str> = Family::ALL.iter().flat_map(|family| family.names()).collect();
        let values = values.iter().filter(|(_, value)| is_header_value(value));
        let headers = values.map(|(name, value)| (names[*name], value)).collect();
        prop_assert!(proven(&without_window(SECRET), &headers, b"", at(SIGNED)).is_err());
    }
}

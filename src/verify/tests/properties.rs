use proptest::prelude::*;

use super::*;

/// The bytes of `text` with one bit turned, as a header if it still is one.
fn flipped(text: &str, bit: usize) -> Option<HeaderValue> {
    let mut bytes = text.as_bytes().to_vec();
    let bit = bit % (bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
    HeaderValue::from_bytes(&bytes).ok()
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
        part in 0..4,
        bit in any::<usize>(),
        body in proptest::collection::vec(any::<u8>(), 1..300),
    ) {
        let verifier = without_window(SECRET);
        let time = SIGNED.to_string();
        let token = signed_with(SECRET, &body);
        let mut headers = svix(ID, &time, &token);
        let mut body = body;
        let (name, text) = match part {
            0 => ("svix-id", ID),
            1 => ("svix-timestamp", time.as_str()),
            2 => ("svix-signature", token.as_str()),
            _ => {
                let bit = bit % (body.len() * 8);
                body[bit / 8] ^= 1 << (bit % 8);
                ("", "")
            }
        };
        if !text.is_empty() {
            // What is no header value never gets past HTTP.
            let Some(value) = flipped(text, bit) else { return Ok(()) };
            headers.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
        }
        prop_assert!(proven(&verifier, &headers, &body, at(SIGNED)).is_err());
    }

    #[test]
    fn no_headers_at_all_make_it_panic(
        values in proptest::collection::vec((0usize..6, proptest::collection::vec(any::<u8>(), 0..60)), 0..8),
    ) {
        let names: Vec<&str> = Family::ALL.iter().flat_map(|family| family.names()).collect();
        let mut map = HeaderMap::new();
        for (name, value) in &values {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                map.append(HeaderName::from_bytes(names[*name].as_bytes()).unwrap(), value);
            }
        }
        prop_assert!(proven(&without_window(SECRET), &map, b"", at(SIGNED)).is_err());
    }
}

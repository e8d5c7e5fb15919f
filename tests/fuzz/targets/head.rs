//! Any head: what is admitted is of good form, fresh, and signed by nobody but
//! the holder of the key.
//!
//! The input is lines `name: value`; a name may be short for one of the six. `@`
//! in a value stands for the present time, so that fresh timestamps are found.
#![no_main]

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hookward::key::SigningKey;
use hookward::message::{Envelope, Family, Origin, Protocol, Received, RequestId};
use hookward::observe::Metrics;
use hookward::setting::{OffOr, SecretSource};
use hookward::verify::{NamedKey, Rejection, Verifier, VerifyConfig, VerifyKeys};
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

const KEY: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const NOW: u64 = 1_700_000_000;
const TOLERANCE: u64 = 300;
const BODY: &[u8] = b"{\"type\":\"a\"}";

thread_local! {
    static VERIFIER: Verifier = verifier();
}

fn verifier() -> Verifier {
    let metrics = Metrics::new().unwrap();
    let config = VerifyConfig {
        keys: VerifyKeys::Keys(vec![NamedKey {
            name: Arc::from("1"),
            source: SecretSource::Literal,
            keys: SigningKey::parse_all(KEY).unwrap(),
        }]),
        tolerance: OffOr::On(Duration::from_secs(TOLERANCE)),
        future_tolerance: Duration::from_secs(TOLERANCE),
    };
    Verifier::new(&config, |key| metrics.key("fuzz", key))
}

fn headers(data: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in data.split(|&byte| byte == b'\n').take(20) {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            continue;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let name = match name {
            b"i" => Ok(HeaderName::from_static("svix-id")),
            b"t" => Ok(HeaderName::from_static("svix-timestamp")),
            b"s" => Ok(HeaderName::from_static("svix-signature")),
            b"I" => Ok(HeaderName::from_static("webhook-id")),
            b"T" => Ok(HeaderName::from_static("webhook-timestamp")),
            b"S" => Ok(HeaderName::from_static("webhook-signature")),
            other => HeaderName::from_bytes(other),
        };
        let value = match value {
            b"@" => HeaderValue::from_bytes(NOW.to_string().as_bytes()),
            other => HeaderValue::from_bytes(other),
        };
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

fn received(headers: &HeaderMap, envelope: Envelope) -> Received {
    Received {
        source: Arc::from("fuzz"),
        origin: Origin {
            request: RequestId::new(),
            client: None,
            protocol: Some(Protocol::Http),
        },
        envelope: Some(envelope),
        headers: headers.clone(),
        body: Bytes::from_static(BODY),
    }
}

/// What the contract says of every head that is admitted, in its own words.
fn good_form(headers: &HeaderMap, envelope: &Envelope) {
    for name in envelope.family.names() {
        assert_eq!(headers.get_all(name).iter().count(), 1, "{name}");
    }
    if envelope.family == Family::Webhook {
        let svix = Family::Svix.names();
        assert!(svix.iter().all(|name| !headers.contains_key(*name)));
    }
    let id = envelope.id.as_str();
    assert_eq!(id.as_bytes(), headers[envelope.family.id()].as_bytes());
    assert!((1..=255).contains(&id.len()));
    assert!(id.bytes().all(|b| (b'!'..=b'~').contains(&b) && b != b'.'));
    let at = envelope.timestamp.as_str();
    assert_eq!(
        at.as_bytes(),
        headers[envelope.family.timestamp()].as_bytes()
    );
    assert_eq!(at, envelope.timestamp.seconds().to_string());
    let seconds = envelope.timestamp.seconds();
    assert!(
        (NOW - TOLERANCE..=NOW + TOLERANCE).contains(&seconds),
        "{at}"
    );
    let signature = envelope.signature.as_bytes();
    assert!((1..=4096).contains(&signature.len()));
    let tokens = signature.split(|&b| b == b' ').filter(|t| !t.is_empty());
    assert!(tokens.count() <= 16);
}

fuzz_target!(|data: &[u8]| {
    let now: SystemTime = UNIX_EPOCH + Duration::from_secs(NOW);
    let headers = headers(data);
    VERIFIER.with(|verifier| {
        let Ok(admitted) = verifier.admit(&headers, now) else {
            return;
        };
        let envelope = admitted.expect("a source with keys asks for an envelope");
        good_form(&headers, &envelope);

        // Signed by the holder of the key it is proven, whatever the id and time.
        let key = SigningKey::parse(KEY).unwrap();
        let (id, at) = (envelope.id.as_str(), envelope.timestamp.seconds());
        let genuine = key.sign(id, at, BODY).expect("a symmetric key signs");
        let mut signed = envelope.clone();
        signed.signature = HeaderValue::from_str(&genuine).unwrap();
        let proven = verifier.verify(received(&headers, signed), now).unwrap();
        assert_eq!(proven.proof().unwrap().id().as_str(), id);
        assert_eq!(proven.body(), BODY);

        // And by nobody else.
        let sent = envelope.signature.clone();
        match verifier.verify(received(&headers, envelope), now) {
            Ok(_) => {
                let tokens = sent.as_bytes().split(|&b| b == b' ');
                assert!(tokens.into_iter().any(|token| token == genuine.as_bytes()));
            }
            Err(rejection) => assert!(matches!(rejection, Rejection::NoKeyMatched)),
        }
    });
});

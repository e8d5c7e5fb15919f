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
use hookward::message::{
    Envelope, Family, Headers, Origin, Protocol, Received, RequestId, is_header_name,
    is_header_value,
};
use hookward::observe::Metrics;
use hookward::setting::{OffOr, SecretSource};
use hookward::verify::{NamedKey, Rejection, Verifier, VerifyConfig, VerifyKeys};
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

fn headers(data: &[u8]) -> Headers {
    let now = NOW.to_string();
    let mut headers = Vec::new();
    for line in data.split(|&byte| byte == b'\n').take(20) {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            continue;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let name: &[u8] = match name {
            b"i" => b"svix-id",
            b"t" => b"svix-timestamp",
            b"s" => b"svix-signature",
            b"I" => b"webhook-id",
            b"T" => b"webhook-timestamp",
            b"S" => b"webhook-signature",
            other => other,
        };
        let value = match value {
            b"@" => now.as_bytes(),
            other => other,
        };
        // What is none never gets past HTTP.
        if let Ok(name) = std::str::from_utf8(name)
            && is_header_name(name.as_bytes())
            && is_header_value(value)
        {
            headers.push((name, value));
        }
    }
    headers.into_iter().collect()
}

fn received(headers: &Headers, envelope: Envelope) -> Received {
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
fn good_form(headers: &Headers, envelope: &Envelope) {
    for name in envelope.family.names() {
        assert_eq!(headers.all(name).count(), 1, "{name}");
    }
    if envelope.family == Family::Webhook {
        let svix = Family::Svix.names();
        assert!(svix.iter().all(|name| !headers.contains(name)));
    }
    let sent = |name| headers.get(name).unwrap().as_bytes();
    let id = envelope.id.as_str();
    assert_eq!(id.as_bytes(), sent(envelope.family.id()));
    assert!((1..=255).contains(&id.len()));
    assert!(id.bytes().all(|b| (b'!'..=b'~').contains(&b) && b != b'.'));
    let at = envelope.timestamp.as_str();
    assert_eq!(at.as_bytes(), sent(envelope.family.timestamp()));
    assert_eq!(at, envelope.timestamp.seconds().to_string());
    let seconds = envelope.timestamp.seconds();
    assert!(
        (NOW - TOLERANCE..=NOW + TOLERANCE).contains(&seconds),
        "{at}"
    );
    let signature = &envelope.signature;
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
        signed.signature = genuine.clone().into();
        let proven = verifier.verify(received(&headers, signed), now).unwrap();
        assert_eq!(proven.proof().unwrap().id().as_str(), id);
        assert_eq!(proven.body(), BODY);

        // And by nobody else.
        let sent = envelope.signature.clone();
        match verifier.verify(received(&headers, envelope), now) {
            Ok(_) => {
                let tokens = sent.split(|&b| b == b' ');
                assert!(tokens.into_iter().any(|token| token == genuine.as_bytes()));
            }
            Err(rejection) => assert!(matches!(rejection, Rejection::NoKeyMatched)),
        }
    });
});

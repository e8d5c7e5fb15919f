mod properties;

use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ed25519_dalek::Signer as _;

use super::*;
use crate::message::{Family, Origin, Protocol, RequestId};
use crate::observe::{Metrics, RefusalReason};
use crate::setting::{OffOr, SecretSource};

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const OTHER: &str = "whsec_plJ3nmyCDGBKInavdOK15jsl";
const ID: &str = "msg_1";
const SIGNED: u64 = 1_700_000_000;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn verifier_of(keys: VerifyKeys, tolerance: OffOr<Duration>) -> (Verifier, Metrics) {
    let metrics = Metrics::new().unwrap();
    let config = VerifyConfig {
        keys,
        tolerance,
        future_tolerance: Duration::from_secs(300),
    };
    let verifier = Verifier::new(&config, |name| metrics.key("clerk", name));
    (verifier, metrics)
}

fn verifier(secrets: &[&str]) -> Verifier {
    let named = secrets.iter().enumerate().map(|(index, text)| NamedKey {
        name: (index + 1).to_string().into(),
        source: SecretSource::Literal,
        keys: SigningKey::parse_all(text).unwrap(),
    });
    let keys = VerifyKeys::Keys(named.collect());
    verifier_of(keys, OffOr::On(Duration::from_secs(300))).0
}

fn without_window(secret: &str) -> Verifier {
    Verifier {
        window: Window {
            tolerance: OffOr::Off,
            future_tolerance: Duration::MAX,
        },
        ..verifier(&[secret])
    }
}

fn open() -> Verifier {
    verifier_of(VerifyKeys::DangerouslyUnverified, OffOr::Off).0
}

fn headers(pairs: &[(&str, &str)]) -> Headers {
    pairs.iter().copied().collect()
}

fn svix(id: &str, timestamp: &str, signature: &str) -> Headers {
    headers(&[
        ("svix-id", id),
        ("svix-timestamp", timestamp),
        ("svix-signature", signature),
    ])
}

fn signed_with(secret: &str, body: &[u8]) -> String {
    let key = SigningKey::parse(secret).unwrap();
    key.sign(ID, SIGNED, body).unwrap()
}

pub(super) fn received(envelope: Option<Envelope>, body: &[u8]) -> Received {
    Received {
        source: "clerk".into(),
        origin: Origin {
            request: RequestId::new(),
            client: None,
            protocol: Some(Protocol::Http),
        },
        envelope,
        headers: Headers::default(),
        body: Bytes::copy_from_slice(body),
    }
}

/// The line from head to proof.
fn proven(
    verifier: &Verifier,
    headers: &Headers,
    body: &[u8],
    now: SystemTime,
) -> Result<Verified, Rejection> {
    let envelope = verifier.admit(headers, now)?;
    verifier.verify(received(envelope, body), now)
}

/// The number of the key that matched `signature`, of a message with an empty body.
fn key_for(verifier: &Verifier, signature: &str) -> Result<String, Rejection> {
    let headers = svix(ID, &SIGNED.to_string(), signature);
    let verified = proven(verifier, &headers, b"", at(SIGNED))?;
    Ok(verified.proof().unwrap().key().to_owned())
}

fn rejection(headers: &Headers) -> Rejection {
    verifier(&[SECRET]).admit(headers, at(SIGNED)).unwrap_err()
}

fn token() -> String {
    signed_with(SECRET, b"")
}

#[test]
fn the_published_vectors_are_proven_in_either_family() {
    for (secret, id, timestamp, body, signature) in [
        (
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            "1649367553",
            r#"{"email":"test@example.com","username":"test_user"}"#,
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        ),
        (
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            r#"{"test": 2432232314}"#,
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
        (
            "whsec_plJ3nmyCDGBKInavdOK15jsl",
            "msg_loFOjxBNrRLzqYUf",
            "1731705121",
            r#"{"event_type":"ping","data":{"success":true}}"#,
            "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
        ),
    ] {
        let now = at(timestamp.parse().unwrap());
        for family in Family::ALL {
            let headers = headers(&[
                (family.id(), id),
                (family.timestamp(), timestamp),
                (family.signature(), signature),
            ]);
            let verified = proven(&verifier(&[secret]), &headers, body.as_bytes(), now).unwrap();
            let proof = verified.proof().unwrap();
            assert_eq!(proof.family(), family);
            assert_eq!(proof.id().as_str(), id);
            assert_eq!(proof.key(), "1");
            assert_eq!(verified.body(), body.as_bytes());
        }
    }
}

#[test]
fn one_family_is_used_whole() {
    let time = SIGNED.to_string();
    let token = token();
    let [svix_id, svix_time, svix_token] = Family::Svix.names();
    let [hook_id, hook_time, hook_token] = Family::Webhook.names();
    let svix = [(svix_id, ID), (svix_time, &time), (svix_token, &token)];
    let hook = [(hook_id, ID), (hook_time, &time), (hook_token, &token)];

    assert_eq!(rejection(&headers(&[])), Rejection::Unsigned);
    for (family, there) in [(Family::Svix, svix), (Family::Webhook, hook)] {
        for (missing, name) in family.names().into_iter().enumerate() {
            let mut rest = there.to_vec();
            rest.remove(missing);
            assert_eq!(rejection(&headers(&rest)), Rejection::MissingHeader(name));
        }
    }
    for missing in 0..3 {
        for beside in hook {
            let mut mixed = svix.to_vec();
            mixed.remove(missing);
            mixed.push(beside);
            assert_eq!(rejection(&headers(&mixed)), Rejection::MixedFamily);
        }
    }
    // Every svix-* is there, so it is what counts, whatever webhook-* says.
    let other = [(hook_id, "x"), (hook_id, "y"), (hook_token, "z")];
    for beside in [&hook[..], &hook[..1], &other[..]] {
        let both = headers(&[&svix[..], beside].concat());
        let verified = proven(&verifier(&[SECRET]), &both, b"", at(SIGNED)).unwrap();
        assert_eq!(verified.proof().unwrap().family(), Family::Svix);
    }
}

#[test]
fn a_header_counts_in_any_case_and_only_once() {
    let (time, token) = (SIGNED.to_string(), token());
    let titled = [
        ("Svix-Id", ID),
        ("Svix-Timestamp", &time),
        ("Svix-Signature", &token),
    ];
    assert!(proven(&verifier(&[SECRET]), &headers(&titled), b"", at(SIGNED)).is_ok());
    for again in 0..3 {
        let mut twice = titled.to_vec();
        twice.push(titled[again]);
        let name = Family::Svix.names()[again];
        assert_eq!(
            rejection(&headers(&twice)),
            Rejection::DuplicateHeader(name)
        );
    }
}

#[test]
fn what_is_out_of_its_form_is_malformed() {
    let time = SIGNED.to_string();
    let token = token();
    let long = "x".repeat(4097);
    for (headers, expected) in [
        (svix("a.b", &time, &token), Rejection::BadId),
        (svix("", &time, &token), Rejection::BadId),
        (svix(ID, "0", &token), Rejection::BadTimestamp),
        (svix(ID, "1700000000000", &token), Rejection::BadTimestamp),
        (svix(ID, &time, ""), Rejection::BadSignature),
        (svix(ID, &time, &long), Rejection::BadSignature),
    ] {
        let found = rejection(&headers);
        assert_eq!(found, expected);
        assert!(found.is_malformed());
    }
    let longest = format!("{} {}", token, "x".repeat(4096 - token.len() - 1));
    assert_eq!(key_for(&verifier(&[SECRET]), &longest).unwrap(), "1");
}

#[test]
fn sixteen_signatures_are_read_and_seventeen_are_malformed() {
    let verifier = verifier(&[SECRET]);
    let last_of = |count: usize| format!("{}{}", "v1,x ".repeat(count - 1), token());
    assert_eq!(key_for(&verifier, &last_of(16)).unwrap(), "1");
    assert_eq!(
        key_for(&verifier, &last_of(17)),
        Err(Rejection::BadSignature)
    );
    // Between two spaces there is no token to count.
    let spaced = format!(" {}  {} ", "v1,x   ".repeat(15), token());
    assert_eq!(key_for(&verifier, &spaced).unwrap(), "1");
}

#[test]
fn a_token_that_is_not_canonical_is_skipped() {
    let token = token();
    let verifier = verifier(&[SECRET]);
    let encoded = token.strip_prefix("v1,").unwrap();
    let mac = STANDARD.decode(encoded).unwrap();
    // The last character before the padding carries two bits past the last byte.
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let last = ALPHABET
        .iter()
        .position(|&c| c == encoded.as_bytes()[42])
        .unwrap();
    let spare = char::from(ALPHABET[last | 1]);
    let bad = [
        format!("v1,{}{spare}=", &encoded[..42]),
        format!("v1,{}", encoded.trim_end_matches('=')),
        format!("v1,{encoded}="),
        format!("v1,{}", encoded.replace('=', "A")),
        format!("v1, {encoded}"),
        format!("v1a,{encoded}"),
        format!("v2,{encoded}"),
        format!("V1,{encoded}"),
        format!("v1={encoded}"),
        format!("{token},{token}"),
        format!("v1,\u{e4}{}", &encoded[2..]),
        format!(
            "v1,{}",
            mac.iter().map(|b| format!("{b:02x}")).collect::<String>()
        ),
        encoded.to_owned(),
    ];
    for bad in bad {
        assert_eq!(
            key_for(&verifier, &bad),
            Err(Rejection::NoKeyMatched),
            "{bad}"
        );
        assert_eq!(key_for(&verifier, &format!("{bad} {token}")).unwrap(), "1");
    }
}

#[test]
fn the_window_is_good_at_the_tolerance_and_bad_a_second_past_it() {
    let verifier = verifier(&[SECRET]);
    let headers = svix(ID, &SIGNED.to_string(), &token());
    let by = Duration::from_secs(1);
    let nearly = Duration::from_nanos(999_999_999);
    for (now, expected) in [
        (at(SIGNED), None),
        (at(SIGNED + 300), None),
        (at(SIGNED + 300) + nearly, None),
        (at(SIGNED + 301), Some(Rejection::TooOld { by })),
        (at(SIGNED - 300), None),
        (at(SIGNED - 300) + nearly, None),
        (at(SIGNED - 301), Some(Rejection::TooNew { by })),
    ] {
        let found = verifier.admit(&headers, now);
        assert_eq!(found.as_ref().err(), expected.as_ref(), "{now:?}");
        let Ok(envelope) = found else { continue };
        assert!(verifier.verify(received(envelope, b""), now).is_ok());
    }
    assert!(!Rejection::TooOld { by }.is_malformed());
}

#[test]
fn without_a_tolerance_any_time_ago_is_good_and_no_time_far_ahead() {
    let verifier = Verifier {
        window: Window {
            tolerance: OffOr::Off,
            future_tolerance: Duration::from_secs(300),
        },
        ..verifier(&[SECRET])
    };
    let headers = svix(ID, &SIGNED.to_string(), &token());
    assert!(proven(&verifier, &headers, b"", at(SIGNED * 2)).is_ok());
    assert!(verifier.admit(&headers, at(SIGNED - 301)).is_err());
}

#[test]
fn what_was_admitted_is_not_proven_once_it_is_stale() {
    let verifier = verifier(&[SECRET]);
    let headers = svix(ID, &SIGNED.to_string(), &token());
    let envelope = verifier.admit(&headers, at(SIGNED)).unwrap();
    let late = verifier.verify(received(envelope, b""), at(SIGNED + 400));
    let by = Duration::from_secs(100);
    assert_eq!(late.err(), Some(Rejection::TooOld { by }));
}

#[test]
fn the_key_that_matched_is_named_and_counted() {
    let keys = VerifyKeys::Keys(vec![
        NamedKey {
            name: "new".into(),
            source: SecretSource::Literal,
            keys: SigningKey::parse_all(SECRET).unwrap(),
        },
        NamedKey {
            name: "old".into(),
            source: SecretSource::Literal,
            keys: SigningKey::parse_all(OTHER).unwrap(),
        },
    ]);
    let (verifier, metrics) = verifier_of(keys, OffOr::On(Duration::from_secs(300)));
    let old = signed_with(OTHER, b"");
    assert_eq!(key_for(&verifier, &old).unwrap(), "old");
    let both = format!("{old} {}", token());
    assert_eq!(key_for(&verifier, &both).unwrap(), "new");
    let (new, old) = (metrics.key("clerk", "new"), metrics.key("clerk", "old"));
    assert_eq!((new.verified.get(), old.verified.get()), (1, 1));
    assert_eq!(old.last_verified.get(), SIGNED as f64);
}

#[test]
fn a_foreign_key_and_no_key_at_all_prove_nothing() {
    let headers = svix(ID, &SIGNED.to_string(), &signed_with(OTHER, b""));
    for verifier in [verifier(&[SECRET]), verifier(&[])] {
        let found = proven(&verifier, &headers, b"", at(SIGNED)).err();
        assert_eq!(found, Some(Rejection::NoKeyMatched));
    }
    let nothing = verifier(&[SECRET]).verify(received(None, b""), at(SIGNED));
    assert_eq!(nothing.err(), Some(Rejection::Unsigned));
}

#[test]
fn ed25519_signatures_are_proven_beside_macs() {
    let signer = ed25519_dalek::SigningKey::from_bytes(&[3; 32]);
    let public = format!(
        "whpk_{}",
        STANDARD.encode(signer.verifying_key().as_bytes())
    );
    let verifier = verifier(&[SECRET, &public]);
    let text = format!("{ID}.{SIGNED}.");
    let v1a = format!(
        "v1a,{}",
        STANDARD.encode(signer.sign(text.as_bytes()).to_bytes())
    );
    let mac = signed_with(OTHER, b"");
    assert_eq!(key_for(&verifier, &v1a).unwrap(), "2");
    assert_eq!(key_for(&verifier, &format!("{mac} {v1a}")).unwrap(), "2");
    let foreign = ed25519_dalek::SigningKey::from_bytes(&[4; 32]);
    let foreign = foreign.sign(text.as_bytes()).to_bytes();
    let foreign = format!("v1a,{}", STANDARD.encode(foreign));
    assert_eq!(key_for(&verifier, &foreign), Err(Rejection::NoKeyMatched));
    let as_mac = v1a.replace("v1a,", "v1,");
    assert_eq!(key_for(&verifier, &as_mac), Err(Rejection::NoKeyMatched));
}

#[test]
fn an_open_source_takes_everything_and_proves_nothing() {
    let verifier = open();
    assert!(verifier.is_open());
    for (headers, envelope) in [
        (headers(&[]), false),
        (svix("a.b", "never", "x"), false),
        (svix(ID, "1", "x"), true),
    ] {
        let verified = proven(&verifier, &headers, b"{}", at(SIGNED)).unwrap();
        assert!(verified.proof().is_none());
        assert_eq!(verified.unproven_envelope().is_some(), envelope);
    }
}

#[test]
fn a_rejection_tells_its_reason_and_whether_it_is_malformed() {
    let by = Duration::from_secs(61);
    for (rejection, reason, malformed, text) in [
        (
            Rejection::Unsigned,
            RefusalReason::MissingHeader,
            true,
            "there are no signature headers",
        ),
        (
            Rejection::MissingHeader("svix-id"),
            RefusalReason::MissingHeader,
            true,
            "`svix-id` is missing",
        ),
        (
            Rejection::TooOld { by },
            RefusalReason::TooOld,
            false,
            "signed too long ago, 1m 1s past the tolerance",
        ),
        (
            Rejection::NoKeyMatched,
            RefusalReason::NoKeyMatched,
            false,
            "no signature matches any key",
        ),
    ] {
        assert_eq!(rejection.reason(), reason);
        assert_eq!(rejection.is_malformed(), malformed);
        assert_eq!(rejection.to_string(), text);
    }
}

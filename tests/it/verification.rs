//! Nothing unverified reaches a destination, and what is proven reaches it as it
//! was signed (P1, P4).

use crate::support::{Answer, Gateway, KEY, Message, OTHER_KEY, Sealed, Upstream, clerk_to, sign};

/// A body that does not survive being parsed and written again.
const FUSSY: &str = "{ \"type\" : \"user.created\",\t\"n\": 1.10e+2, \"u\":\"\\u00e9 é \\/\",\r\n\"n2\":100000000000000000000001 }\n";

#[tokio::test]
async fn what_svix_signed_is_delivered_byte_for_byte_and_verifies_again_behind() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;

    let answer = gateway.send(&Message::new("msg_1").body(FUSSY)).await;

    assert_eq!(answer.told(), (200, "delivered"));
    let request = upstream.only();
    assert_eq!(request.body, FUSSY.as_bytes());
    let sdk = svix::webhooks::Webhook::new(KEY).unwrap();
    sdk.verify(&request.body, &request.map()).unwrap();
}

#[tokio::test]
async fn what_standard_webhooks_signed_is_delivered_byte_for_byte_and_verifies_again_behind() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;

    let answer = gateway
        .send(&Message::new("msg_1").body(FUSSY).webhook())
        .await;

    assert_eq!(answer.told(), (200, "delivered"));
    let request = upstream.only();
    assert_eq!(request.body, FUSSY.as_bytes());
    let sdk = standardwebhooks::Webhook::new(KEY).unwrap();
    sdk.verify(&request.body, &request.map()).unwrap();
}

#[tokio::test]
async fn a_body_that_is_no_text_at_all_is_signed_and_delivered_like_any_other() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let body: Vec<u8> = (0..=255).cycle().take(4096).collect();

    let answer = gateway
        .send(&Message::new("msg_1").body(body.clone()))
        .await;

    assert_eq!(answer.told(), (200, "delivered"));
    assert_eq!(upstream.only().body, body);
}

#[tokio::test]
async fn while_keys_rotate_messages_of_both_are_good_and_the_service_is_told_which() {
    let upstream = Upstream::start().await;
    let config = clerk_to(upstream.url()).replace(
        r#"secrets = "env:KEY""#,
        r#"secrets = [{ name = "new", secret = "env:OTHER_KEY" }, "env:KEY"]"#,
    );
    let gateway = Gateway::start(&config).await;

    for (id, key) in [("msg_1", KEY), ("msg_2", OTHER_KEY)] {
        let answer = gateway.send(&Message::new(id).key(key)).await;
        assert_eq!(answer.told(), (200, "delivered"));
    }

    let requests = upstream.requests();
    let keys: Vec<_> = requests.iter().map(|r| r.header("hookward-key")).collect();
    assert_eq!(keys, [Some("2"), Some("new")]);
    let metrics = gateway.metrics().await;
    let count = |key| {
        metrics.value(
            "hookward_key_verified_total",
            &[("source", "clerk"), ("key", key)],
        )
    };
    assert_eq!((count("new"), count("2")), (1.0, 1.0));
}

#[tokio::test]
async fn an_ed25519_signature_is_good_where_its_public_key_is_set() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use ed25519_dalek::{Signer as _, SigningKey};

    let key = SigningKey::from_bytes(&[7; 32]);
    let public = format!("whpk_{}", STANDARD.encode(key.verifying_key().as_bytes()));
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&clerk_to(upstream.url()))
        .env("KEY", &public)
        .start()
        .await;
    let message = Message::new("msg_1").seal();
    let signed = [
        format!("msg_1.{}.", message.header("svix-timestamp")).as_bytes(),
        &message.body,
    ]
    .concat();
    let signature = format!("v1a,{}", STANDARD.encode(key.sign(&signed).to_bytes()));
    let signed = message.clone().with("svix-signature", &signature);

    assert_eq!(
        gateway.post("/clerk", &signed).await.told(),
        (200, "delivered")
    );
    assert_eq!(
        gateway.post("/clerk", &message).await.told(),
        (401, "unverified")
    );
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_signature_among_sixteen_is_found_and_unknown_ones_are_passed_over() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let message = Message::new("msg_1").seal();
    let many = format!(
        "v2,xyz v1a,{} v1,short {} {}",
        "A".repeat(88),
        vec![format!("v1,{}=", "A".repeat(43)); 12].join(" "),
        message.header("svix-signature"),
    );
    assert_eq!(many.split(' ').count(), 16);

    let answer = gateway
        .post("/clerk", &message.with("svix-signature", &many))
        .await;

    assert_eq!(answer.told(), (200, "delivered"));
}

#[tokio::test]
async fn a_message_near_either_end_of_its_window_is_good() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;

    assert_eq!(
        gateway.send(&Message::new("old").at(-270)).await.status,
        200
    );
    assert_eq!(gateway.send(&Message::new("new").at(290)).await.status, 200);
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn the_other_family_in_whole_or_in_part_beside_a_whole_one_changes_nothing() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let message = Message::new("msg_1")
        .seal()
        .and("webhook-id", "msg_other")
        .and("webhook-signature", "v1,nonsense");

    assert_eq!(
        gateway.post("/clerk", &message).await.told(),
        (200, "delivered")
    );

    let request = upstream.only();
    assert_eq!(request.header("svix-id"), Some("msg_1"));
    assert_eq!(request.header("webhook-id"), None);
    assert_eq!(request.header("webhook-signature"), None);
}

/// Everything an attacker, or an unlucky sender, changes about a good message:
/// what it is, and the message.
fn unproven() -> Vec<(&'static str, Sealed)> {
    let good = || Message::new("msg_1").seal();
    let signature = good().header("svix-signature").to_owned();
    let unpadded = signature.trim_end_matches('=').to_owned();
    let url_safe = signature.replace('+', "-").replace('/', "_");
    let mut truncated = good();
    truncated.body.pop();
    let mut list = vec![
        ("another body", good().body(r#"{"type":"user.deleted"}"#)),
        ("a body one byte short", truncated),
        ("another id", good().with("svix-id", "msg_2")),
        ("another timestamp", {
            let later: i64 = good().header("svix-timestamp").parse().unwrap();
            good().with("svix-timestamp", &(later + 1).to_string())
        }),
        ("a foreign key", Message::new("msg_1").key(OTHER_KEY).seal()),
        ("too old", Message::new("msg_1").at(-310).seal()),
        ("too new", Message::new("msg_1").at(330).seal()),
        ("years old", Message::new("msg_1").at(-100_000_000).seal()),
        (
            "an unpadded signature",
            good().with("svix-signature", &unpadded),
        ),
        ("an unknown version", {
            good().with("svix-signature", &signature.replace("v1,", "v2,"))
        }),
        ("a version in capitals", {
            good().with("svix-signature", &signature.replace("v1,", "V1,"))
        }),
        ("no version", good().with("svix-signature", &signature[3..])),
        (
            "half a signature",
            good().with("svix-signature", &signature[..20]),
        ),
    ];
    if url_safe != signature {
        list.push(("another alphabet", good().with("svix-signature", &url_safe)));
    }
    list
}

#[tokio::test]
async fn what_is_not_proven_reaches_nothing_and_is_told_apart_by_nothing() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let mut answers: Vec<(&str, Answer)> = Vec::new();

    for (what, message) in unproven() {
        answers.push((what, gateway.post("/clerk", &message).await));
    }

    let first = answers[0].1.without_what_is_its_own();
    assert_eq!(answers[0].1.told(), (401, "unverified"));
    for (what, answer) in &answers {
        assert_eq!(answer.without_what_is_its_own(), first, "{what}");
    }
    assert_eq!(upstream.count(), 0);
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.answered("unverified"), answers.len() as f64);
    assert_eq!(metrics.refused("too_old"), 2.0);
    assert_eq!(metrics.refused("too_new"), 1.0);
    gateway.only_this_in_the_ledger().await;
}

/// What is out of its form: what it is, the reason it is counted under, and the
/// message.
fn malformed() -> Vec<(&'static str, &'static str, Sealed)> {
    let good = || Message::new("msg_1").seal();
    let at = good().header("svix-timestamp").to_owned();
    let signature = good().header("svix-signature").to_owned();
    let with_id = |id: &str| {
        let signature = sign("svix", KEY, id, at.parse().unwrap(), &good().body);
        good()
            .with("svix-id", id)
            .with("svix-timestamp", &at)
            .with("svix-signature", &signature)
    };
    let mut list = vec![
        ("no id", "missing_header", good().without("svix-id")),
        (
            "no timestamp",
            "missing_header",
            good().without("svix-timestamp"),
        ),
        (
            "no signature",
            "missing_header",
            good().without("svix-signature"),
        ),
        ("none of the three", "missing_header", {
            let bare = good().without("svix-id").without("svix-timestamp");
            bare.without("svix-signature")
        }),
        (
            "the id twice",
            "duplicate_header",
            good().and("svix-id", "msg_1"),
        ),
        (
            "the timestamp twice",
            "duplicate_header",
            good().and("Svix-Timestamp", &at),
        ),
        ("the signature twice", "duplicate_header", {
            good().and("svix-signature", &signature)
        }),
        ("an id of the other family", "mixed_family", {
            good().without("svix-id").and("webhook-id", "msg_1")
        }),
        ("a signature of the other family", "mixed_family", {
            let bare = good().without("svix-signature");
            bare.and("webhook-signature", &signature)
        }),
        ("an id with a dot", "bad_id", with_id("msg.1")),
        ("an id with a space", "bad_id", with_id("msg 1")),
        ("an id of 256", "bad_id", with_id(&"m".repeat(256))),
        ("an empty id", "bad_id", with_id("")),
        ("seventeen signatures", "bad_signature", {
            let many = vec![signature.as_str(); 17].join(" ");
            good().with("svix-signature", &many)
        }),
        (
            "an empty signature",
            "bad_signature",
            good().with("svix-signature", ""),
        ),
        ("a signature over 4096 bytes", "bad_signature", {
            good().with(
                "svix-signature",
                &format!("{signature} {}", "x".repeat(4096)),
            )
        }),
    ];
    for bad in [
        "",
        "abc",
        "-5",
        "+5",
        "0",
        "1e9",
        "1_000",
        "16493675530000",
        "1.5",
        "٣",
    ] {
        list.push(("a timestamp that is none", "bad_timestamp", {
            good().with("svix-timestamp", bad)
        }));
    }
    list.push(("a timestamp with zeros before it", "bad_timestamp", {
        good().with("svix-timestamp", &format!("0{at}"))
    }));
    list
}

#[tokio::test]
async fn what_is_out_of_its_form_reaches_nothing_and_is_malformed() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let mut reasons = std::collections::BTreeMap::new();

    for (what, reason, message) in malformed() {
        let answer = gateway.post("/clerk", &message).await;
        assert_eq!(answer.told(), (400, "malformed"), "{what}");
        *reasons.entry(reason).or_insert(0.0) += 1.0;
    }

    assert_eq!(upstream.count(), 0);
    let metrics = gateway.metrics().await;
    for (reason, count) in reasons {
        assert_eq!(metrics.refused(reason), count, "{reason}");
    }
}

#[tokio::test]
async fn a_signed_text_cannot_be_cut_anew_into_another_id_timestamp_and_body() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let now = crate::support::now();
    // `msg_1.NOW.NOW.{…}` is one text with two readings of it.
    let body = format!("{now}.{{\"type\":\"user.created\"}}");
    let signature = sign("svix", KEY, "msg_1", now, body.as_bytes());
    let recut = Message::new("x")
        .seal()
        .with("svix-id", &format!("msg_1.{now}"))
        .with("svix-timestamp", &now.to_string())
        .with("svix-signature", &signature)
        .body(r#"{"type":"user.created"}"#);
    let recut_timestamp = recut
        .clone()
        .with("svix-id", "msg_1")
        .with("svix-timestamp", &format!("{now}.{now}"));

    assert_eq!(
        gateway.post("/clerk", &recut).await.told(),
        (400, "malformed")
    );
    assert_eq!(
        gateway.post("/clerk", &recut_timestamp).await.told(),
        (400, "malformed")
    );
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn an_old_message_is_refused_before_its_body_is_read() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let stale = Message::new("msg_1")
        .at(-4000)
        .seal()
        .body(vec![b'x'; 1000]);
    let mut connection = gateway.connect().await;

    connection.write(&stale.head("/clerk")).await;

    assert_eq!(connection.answer().await.told(), (401, "unverified"));
}

#[tokio::test]
async fn a_source_that_says_dangerously_unverified_takes_anything_and_says_so() {
    let upstream = Upstream::start().await;
    let config = clerk_to(upstream.url()).replace("env:KEY", "dangerously-unverified");
    let gateway = Gateway::start(&config).await;
    let bare = Message::new("msg_1")
        .seal()
        .without("svix-id")
        .without("svix-timestamp")
        .without("svix-signature");

    for _ in 0..2 {
        assert_eq!(
            gateway.post("/clerk", &bare).await.told(),
            (200, "delivered")
        );
    }

    assert_eq!(upstream.count(), 2);
    gateway.line(&["clerk", "dangerously-unverified"]).await;
}

#[tokio::test]
async fn a_source_without_secrets_does_not_start() {
    for secrets in ["", "secrets = []", r#"secrets = """#] {
        let config = clerk_to("http://127.0.0.1:9/").replace(r#"secrets = "env:KEY""#, secrets);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("hookward.toml"), config).unwrap();

        let output = crate::support::hookward(folder.path(), &["serve"], b"").await;

        assert_eq!(output.status.code(), Some(64), "{secrets}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("`sources.clerk.secrets`"), "{told}");
    }
}

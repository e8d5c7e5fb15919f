use super::*;

#[test]
fn sign_prints_the_published_vector() {
    let (_dir, body) = file(
        "body",
        r#"{"email":"test@example.com","username":"test_user"}"#,
    );
    let ran = hookward(&[
        "sign",
        "--secret",
        KEY,
        "--id",
        "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        "--timestamp",
        "1649367553",
        body.to_str().unwrap(),
    ]);
    assert_eq!(ran.exit, Exit::Yes);
    assert_eq!(
        ran.out,
        "svix-id: msg_27UH4WbU6Z5A5EzD8u03UvzRbpk\n\
         svix-timestamp: 1649367553\n\
         svix-signature: v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=\n"
    );
}

#[test]
fn sign_takes_only_ids_and_timestamps_that_a_gateway_takes() {
    for bad in [
        ["--id", "a.b"],
        ["--timestamp", "01"],
        ["--family", "other"],
    ] {
        let ran = hookward(&["sign", "--secret", KEY, bad[0], bad[1]]);
        assert_eq!(ran.exit.code(), 64, "{bad:?}");
        assert!(ran.out.is_empty());
    }
}

#[test]
fn a_short_key_is_warned_of_beside_what_is_printed() {
    let short = "whsec_MDEyMzQ1Njc4OTAxMjM0NQ==";
    let (_dir, body) = file("body", "{}");
    let body = body.to_str().unwrap();
    let warning = "warning: `--secret` holds a signing key shorter than 24 bytes\nhint: ";
    let signed = hookward(&["sign", "--secret", short, body]);
    assert_eq!(signed.exit, Exit::Yes);
    assert!(signed.err.starts_with(warning), "{}", signed.err);
    assert_eq!(signed.out.lines().count(), 3);
    let mut args = vec!["verify", "--secret", short, body];
    args.extend(signed.out.lines().flat_map(|line| ["--header", line]));
    let verified = hookward(&args);
    assert_eq!(verified.out, "valid\n");
    assert!(verified.err.starts_with(warning), "{}", verified.err);
    assert!(
        !hookward(&["sign", "--secret", KEY, body])
            .err
            .contains("short")
    );
}

#[test]
fn a_body_that_is_not_there_is_bad_usage() {
    let ran = hookward(&["sign", "--secret", KEY, "/no/such/body"]);
    assert_eq!(ran.exit.code(), 64);
    assert!(
        ran.err
            .contains("cannot read the body from `/no/such/body`")
    );
}

#[test]
fn what_sign_prints_is_valid_to_verify() {
    for family in ["svix", "webhook"] {
        let (_dir, body) = file("body", "{}\n");
        let body = body.to_str().unwrap();
        let signed = hookward(&["sign", "--secret", KEY, "--family", family, body]).out;
        let mut args = vec!["verify", "--secret", KEY, body];
        args.extend(signed.lines().flat_map(|line| ["--header", line]));
        let ran = hookward(&args);
        assert_eq!(
            (ran.exit, ran.out.as_str()),
            (Exit::Yes, "valid\n"),
            "{}",
            ran.err
        );
    }
}

/// Verifies the first published vector with something else about it.
fn verify_vector(body: &str, more: &[&str]) -> Ran {
    let (_dir, body) = file("body", body);
    let args = [
        "verify",
        "--secret",
        KEY,
        "-H",
        "svix-id: msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        "-H",
        "Svix-Timestamp:1649367553",
        "-H",
        "svix-signature: v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        body.to_str().unwrap(),
    ];
    hookward(&[&args, more].concat())
}

const VECTOR: &str = r#"{"email":"test@example.com","username":"test_user"}"#;

#[test]
fn an_old_request_is_valid_as_of_its_arrival() {
    assert_eq!(
        verify_vector(VECTOR, &["--at", "1649367853"]).out,
        "valid\n"
    );
    let ran = verify_vector(VECTOR, &["--at", "2022-04-07T21:44:14Z"]);
    assert_eq!(ran.exit, Exit::No);
    assert!(!ran.out.contains("valid\n"));
    assert_eq!(
        verify_vector(VECTOR, &["--tolerance", "off"]).out,
        "valid\n"
    );
    assert_eq!(verify_vector(VECTOR, &[]).exit, Exit::No);
}

#[test]
fn a_changed_body_is_told_as_problem_and_hint_and_exits_1() {
    let ran = verify_vector(&format!("{VECTOR}\n"), &["--at", "1649367553"]);
    assert_eq!(ran.exit, Exit::No);
    assert!(!ran.out.is_empty() && ran.err.is_empty());
}

#[test]
fn a_header_that_cannot_be_one_is_bad_usage() {
    for bad in ["svix-id", "sv ix: 1", "svix-id: a\nb"] {
        let ran = verify_vector(VECTOR, &["--header", bad]);
        assert_eq!(ran.exit.code(), 64, "{bad}");
    }
}

mod properties;

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use ed25519_dalek::Signer as _;

use super::*;
use crate::key::SigningKey;
use crate::setting::SecretReader;

const SECRET: &str = "whsec_+2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const OTHER: &str = "whsec_plJ3nmyCDGBKInavdOK15jsl";
const ID: &str = "msg_1";
const SIGNED: u64 = 1_700_000_000;
const BODY: &str = "{\"b\":1,\"a\":[true,null,{}],\"name\":\"J\u{fc}rgen <a/b> & \\\"co\\\"\"}";

/// A request to look into; what is not told is as it should be.
struct Case {
    headers: Vec<(String, String)>,
    secrets: Vec<Secret>,
    body: Vec<u8>,
    now: u64,
}

fn key(secret: &str) -> SigningKey {
    SigningKey::parse(secret).unwrap()
}

fn mac(text: &[&[u8]]) -> [u8; 32] {
    key(SECRET).mac_of(text).unwrap()
}

fn secret(text: &str) -> Secret {
    Secret::read(text, Path::new("/"), SecretReader::Process).unwrap()
}

fn label(mac: [u8; 32]) -> String {
    format!("v1,{}", STANDARD.encode(mac))
}

impl Case {
    /// A request that was signed over `signed`, and came with `body`.
    fn new(signed: &[u8], body: &[u8]) -> Self {
        let token = key(SECRET).sign(ID, SIGNED, signed).unwrap();
        Self::with_headers(
            &[
                ("svix-id", ID),
                ("svix-timestamp", &SIGNED.to_string()),
                ("svix-signature", &token),
            ],
            body,
        )
    }

    fn with_headers(headers: &[(&str, &str)], body: &[u8]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            headers: headers.iter().map(owned).collect(),
            secrets: vec![secret(SECRET)],
            body: body.to_vec(),
            now: SIGNED,
        }
    }

    fn set(mut self, header: usize, value: &str) -> Self {
        self.headers[header].1 = value.to_owned();
        self
    }

    fn secret(mut self, text: &str) -> Self {
        self.secrets = vec![secret(text)];
        self
    }

    fn at(mut self, now: u64) -> Self {
        self.now = now;
        self
    }

    /// Every finding, one a line.
    fn told(&self) -> String {
        let findings = diagnose(&Diagnosis {
            headers: &self.headers,
            secrets: &self.secrets,
            body: &self.body,
            now: UNIX_EPOCH + Duration::from_secs(self.now),
            tolerance: OffOr::On(Duration::from_secs(300)),
            future_tolerance: Duration::from_secs(300),
        });
        let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
        let told = lines.join("\n");
        let timestamp = self.headers.get(1).map_or("", |(_, value)| value);
        let right = key(SECRET).mac(ID, timestamp, &self.body).unwrap();
        let secrets = self.secrets.iter().filter_map(Secret::expose);
        for hidden in secrets.chain([STANDARD.encode(right).as_str(), &SECRET[6..]]) {
            assert!(!told.contains(hidden), "{hidden} in:\n{told}");
        }
        told
    }

    /// That there is one finding, which says `expected`.
    #[track_caller]
    fn tells(&self, expected: &str) {
        let told = self.told();
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(told.contains(expected), "{expected} in:\n{told}");
    }
}

#[test]
fn a_valid_request_has_no_finding() {
    assert_eq!(Case::new(BODY.as_bytes(), BODY.as_bytes()).told(), "");
    assert_eq!(Case::new(b"", b"").told(), "");
    let mut rotating = Case::new(b"x", b"x");
    rotating.secrets.insert(0, secret(OTHER));
    assert_eq!(rotating.told(), "");
    let token = format!("v2,x  v1a,y {}", rotating.headers[2].1);
    assert_eq!(rotating.set(2, &token).told(), "");
    let typed = Case::new(b"x", b"x");
    let titled = ["Svix-Id ", "Svix-Timestamp", "SVIX-SIGNATURE"];
    let headers = titled.iter().zip(&typed.headers);
    let headers = headers.map(|(name, (_, value))| ((*name).to_owned(), format!(" {value} ")));
    let titled = Case {
        headers: headers.collect(),
        ..typed
    };
    assert_eq!(titled.told(), "");
}

#[test]
fn a_valid_ed25519_request_has_no_finding_and_a_changed_one_has() {
    let signer = ed25519_dalek::SigningKey::from_bytes(&[3; 32]);
    let public = format!(
        "whpk_{}",
        STANDARD.encode(signer.verifying_key().as_bytes())
    );
    let text = format!("{ID}.{SIGNED}.body");
    let token = format!(
        "v1a,{}",
        STANDARD.encode(signer.sign(text.as_bytes()).to_bytes())
    );
    let case = Case::new(b"", b"body").set(2, &token).secret(&public);
    assert_eq!(case.told(), "");
    Case {
        body: b"body\n".to_vec(),
        ..case
    }
    .tells("ends in a line break that was not signed");
    Case::new(b"", b"body")
        .set(2, &token)
        .tells("give the sender's public key");
    Case::new(b"", b"body")
        .secret(&public)
        .tells("give the secret");
}

#[test]
fn a_changed_body_is_named() {
    for (signed, body, expected) in [
        ("a", "a\n", "ends in a line break that was not signed"),
        ("a", "a\r\n", "ends in a line break that was not signed"),
        (
            "a\n",
            "a",
            "ends in a line break, which the one at hand lost",
        ),
        ("a", "  a\t", "white space round it"),
        ("a\nb", "a\r\nb", "has CRLF line ends, and LF was signed"),
        ("a\r\nb", "a\nb", "has LF line ends, and CRLF was signed"),
        (
            "a",
            "\u{feff}a",
            "begins with a byte order mark that was not signed",
        ),
        ("\u{feff}a", "a", "begins with a byte order mark, which"),
        (
            "{\"a\":\"<&>\"}",
            "{&quot;a&quot;:&quot;&lt;&amp;&gt;&quot;}",
            "escaped for HTML",
        ),
        (
            "{\"a\":1}",
            "\"{\\\"a\\\":1}\"",
            "holds the signed one in quotes",
        ),
        (
            "\"{\\\"a\\\":1}\"",
            "{\"a\":1}",
            "holds the body at hand in quotes",
        ),
        ("{\"a\":1}", "eyJhIjoxfQ==", "base64 of the signed one"),
        ("", "{}", "an empty body was signed"),
    ] {
        Case::new(signed.as_bytes(), body.as_bytes()).tells(expected);
    }
    Case::new("ä".as_bytes(), b"\xe4").tells("is Latin-1, and UTF-8 was signed");
    Case::new(b"\xe4", "ä".as_bytes()).tells("from Latin-1 into UTF-8");
    let utf16 = b"\xff\xfe{\0}\0\r\0\n\0";
    Case::new(b"{}", utf16).tells("UTF-16, and UTF-8 was signed");
}

#[test]
fn json_that_was_written_again_is_named_with_its_style() {
    let pretty = "{\n  \"b\": 1,\n  \"a\": [\n    true,\n    null,\n    {}\n  ],\n  \"name\": \"J\u{fc}rgen <a/b> & \\\"co\\\"\"\n}";
    let python =
        "{\"b\": 1, \"a\": [true, null, {}], \"name\": \"J\\u00fcrgen <a/b> & \\\"co\\\"\"}";
    let sorted = "{\"a\":[true,null,{}],\"b\":1,\"name\":\"J\u{fc}rgen <a/b> & \\\"co\\\"\"}";
    let go = "{\"a\":[true,null,{}],\"b\":1,\"name\":\"J\u{fc}rgen \\u003ca/b\\u003e \\u0026 \\\"co\\\"\"}";
    let php = "{\"b\":1,\"a\":[true,null,{}],\"name\":\"J\\u00fcrgen <a\\/b> & \\\"co\\\"\"}";
    let dot_net = "{\"b\":1,\"a\":[true,null,{}],\"name\":\"J\\u00FCrgen \\u003Ca/b\\u003E \\u0026 \\u0022co\\u0022\"}";
    for (signed, expected) in [
        (pretty, "indented by two spaces"),
        (&pretty.replace("  ", "    "), "indented by four spaces"),
        (&pretty.replace("  ", "\t"), "indented by tabs"),
        (&format!("{pretty}\n"), "line break at its end"),
        (
            python,
            "as Python's `json.dumps` writes, with `\\u` escapes",
        ),
        (sorted, "as `JSON.stringify` writes, with its keys sorted"),
        (go, "as Go and Rails write, with its keys sorted"),
        (php, "as PHP writes"),
        (dot_net, "as .NET writes"),
    ] {
        let case = Case::new(signed.as_bytes(), BODY.as_bytes());
        case.tells(expected);
        case.tells("the body was parsed and written again");
    }
    for body in [pretty, python, php, dot_net] {
        Case::new(BODY.as_bytes(), body.as_bytes()).tells("written again");
    }
}

#[test]
fn a_secret_of_another_scheme_is_named() {
    let text = "whsec_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let sign = |bytes: &[u8]| {
        let key = SigningKey::from_bytes(bytes).unwrap();
        Case::new(b"", b"body").set(2, &key.sign(ID, SIGNED, b"body").unwrap())
    };
    let bare = &text[6..];
    sign(bare.as_bytes())
        .secret(text)
        .tells("signs with the text of the secret");
    sign(text.as_bytes())
        .secret(text)
        .tells("its prefix `whsec_` left on");
    let hex = secret::hex(bare).unwrap();
    sign(&hex).secret(text).tells("the secret is hexadecimal");
    // Kubernetes' base64 of a secret that was in base64 already.
    let twice = STANDARD.encode(SECRET);
    Case::new(b"body", b"body")
        .secret(&twice)
        .tells("base64 once too often");
    let url = SECRET.replace('+', "-");
    let told = Case::new(b"body", b"body").secret(&url).told();
    assert!(told.contains("secret 1 ((literal)) holds a signing key that is not base64"));
    assert!(told.contains("the secret is base64url"), "{told}");
    Case::new(b"body", b"body")
        .secret(OTHER)
        .tells("look at the secret first");
}

#[test]
fn a_signature_written_another_way_is_named_once() {
    let mac = mac(&[format!("{ID}.{SIGNED}.a").as_bytes()]);
    let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    let case = |token: String| Case::new(b"a", b"a").set(2, &token);
    case(format!("v1,{hex}")).tells("hexadecimal");
    case(format!("v1,{}", STANDARD_NO_PAD.encode(mac))).tells("lacks the `=`");
    case(STANDARD.encode(mac)).tells("no label");
    case(format!("v2,{}", STANDARD.encode(mac))).tells("no label");
    case(format!("sha256={hex}")).tells("how GitHub writes");
    case(format!("t={SIGNED},v1={hex}")).tells("how Stripe writes");
    case("nonsense".into()).tells("copy the header's whole value");
    // The first id whose signature shows in which alphabet it is written.
    let (id, url) = (0..)
        .map(|n| format!("msg_{n}"))
        .map(|id| {
            let mac = self::mac(&[format!("{id}.{SIGNED}.a").as_bytes()]);
            (id, URL_SAFE.encode(mac))
        })
        .find(|(_, url)| url.contains(['-', '_']))
        .unwrap();
    case(format!("v1,{url}")).set(0, &id).tells("base64url");
}

#[test]
fn a_badly_written_signature_that_does_not_fit_either_is_two_findings() {
    let token = STANDARD_NO_PAD.encode([7; 32]);
    let told = Case::new(b"a", b"a").set(2, &format!("v1,{token}")).told();
    assert_eq!(told.lines().count(), 2, "{told}");
    assert!(told.contains("lacks the `=`") && told.contains("no signature matches any key"));
}

#[test]
fn other_things_that_were_signed_are_named() {
    let time = SIGNED.to_string();
    for (signed, expected) in [
        (format!("{time}.{ID}.a"), "in the other order"),
        (format!("{time}.a"), "as Stripe does"),
        (format!("v0:{time}:a"), "as Slack does"),
        (format!("{ID}.a"), "only `id.body`"),
        ("a".to_owned(), "as GitHub does"),
        (format!("{ID}.{time}000.a"), "milliseconds were signed"),
        (format!("{ID}{time}a"), "without the dots"),
        (
            format!("{ID}.{}.a", SIGNED - 302),
            "made for the timestamp 1699999698",
        ),
        (
            format!("{ID}.{}.a", SIGNED + 7000),
            "made for the timestamp 1700007000",
        ),
    ] {
        let token = label(mac(&[signed.as_bytes()]));
        Case::new(b"", b"a").set(2, &token).tells(expected);
    }
}

#[test]
fn two_causes_at_once_are_both_named() {
    let token = label(mac(&[format!("{SIGNED}.a").as_bytes()]));
    let case = Case::new(b"", b"a\n").set(2, &token);
    case.tells("ends in a line break that was not signed");
    case.tells("as Stripe does");
}

#[test]
fn headers_out_of_form_are_each_named() {
    let a = || Case::new(b"a", b"a");
    let whole = |id: &str, time: &str| {
        let token = label(mac(&[format!("{id}.{time}.a").as_bytes()]));
        a().set(0, id).set(1, time).set(2, &token)
    };
    whole("a.b", "1700000000").tells("cut anew");
    whole(ID, "1700000000000").tells("it is in milliseconds");
    whole(ID, "2023-11-14T22:13:20Z").tells("it is a date");
    whole(ID, "01700000000").tells("drop the leading zeros");
    whole("1700000000", ID).tells("the values of id and timestamp are exchanged");
    assert!(a().set(0, "").told().contains("it is empty"));
    a().set(2, "").tells("copy its whole value");
    a().set(2, &"v1,x ".repeat(17))
        .tells("at most 16 signatures");
    assert!(a().set(0, "a\nb").told().contains("control character"));
}

#[test]
fn headers_that_are_missing_twice_or_mixed_are_each_named() {
    let whole = Case::new(b"a", b"a");
    for missing in 0..3 {
        let mut case = Case::new(b"a", b"a");
        let (name, _) = case.headers.remove(missing);
        case.tells(&format!("`{name}` is missing"));
    }
    let one = Case::with_headers(&[("svix-id", ID)], b"");
    assert_eq!(one.told().lines().count(), 2);
    let mut twice = Case::new(b"a", b"a");
    twice.headers.push(whole.headers[0].clone());
    twice.tells("`svix-id` is there more than once");
    let mut mixed = Case::new(b"a", b"a");
    mixed.headers[1].0 = "webhook-timestamp".into();
    let told = mixed.told();
    assert!(told.contains("of two families"), "{told}");
    assert!(told.contains("`svix-timestamp` is missing"), "{told}");
    let mut both = Case::new(b"a", b"a");
    both.headers.push(("webhook-id".into(), "other".into()));
    assert_eq!(both.told(), "");
}

#[test]
fn another_scheme_is_named_by_its_header() {
    Case::with_headers(&[], b"").tells("there are no signature headers");
    Case::with_headers(&[("X-Hub-Signature-256", "sha256=00")], b"").tells("GitHub's");
    Case::with_headers(&[("Stripe-Signature", "t=1,v1=00")], b"").tells("Stripe's");
    Case::with_headers(&[("HTTP_SVIX_ID", ID)], b"").tells("written with `_`");
}

#[test]
fn a_time_outside_the_window_is_named_beside_the_rest() {
    let fresh = || Case::new(b"a", b"a");
    assert_eq!(fresh().at(SIGNED + 300).told(), "");
    fresh()
        .at(SIGNED + 301)
        .tells("signed 5m 1s ago, at 2023-11-14T22:13:20.000Z");
    fresh().at(SIGNED - 301).tells("signed 5m 1s ahead");
    fresh().at(SIGNED + 7200).tells("off by a time zone");
    let late = Case::new(b"a", b"a\n").at(SIGNED + 400).told();
    assert_eq!(late.lines().count(), 2, "{late}");
}

#[test]
fn a_secret_that_is_no_key_is_named_by_its_place() {
    let a = || Case::new(b"a", b"a");
    a().secret("whsk_AAAA")
        .tells("secret 1 ((literal)) holds a private key");
    assert!(a().secret("whsec_c2hvcnQ=").told().contains("of 5 bytes"));
    let none = Case {
        secrets: Vec::new(),
        ..a()
    };
    none.tells("there is no secret");
}

#[test]
fn a_large_body_that_nothing_fits_ends_in_general_advice() {
    let body = format!("[{}1]", "\"abcdefg\",".repeat(10_000));
    let case = Case::new(b"something else", body.as_bytes());
    case.tells("look at the secret first");
}

#[test]
fn deep_json_is_not_rewritten() {
    let body = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(json::rewritten(body.as_bytes()).count(), 0);
}

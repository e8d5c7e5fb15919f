use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use serde_json::Value;
use serde_json::value::RawValue;

use super::*;
use crate::setting::{Name, Place, Reader, SecretReader};

fn rule(text: &str) -> TypeRule {
    TypeRule::parse(text).unwrap()
}

/// The type that `rule` finds in `body`.
fn told(rule: &TypeRule, body: impl AsRef<[u8]>) -> Option<String> {
    let body = Bytes::copy_from_slice(body.as_ref());
    let event_type = rule.event_type(&body, &HeaderMap::new())?;
    Some(event_type.as_str().to_owned())
}

/// The type that the rule nobody configured finds.
fn by_default(body: impl AsRef<[u8]>) -> Option<String> {
    told(&TypeRule::default(), body)
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn the_first_member_that_is_there_wins() {
    for (body, expected) in [
        (r#"{"type":"a"}"#, some("a")),
        (r#"{"eventType":"b"}"#, some("b")),
        (r#"{"event_type":"c"}"#, some("c")),
        (
            r#"{"event_type":"c","type":"a","eventType":"b"}"#,
            some("a"),
        ),
        (" \t\r\n{ \"type\" :\n\"a\" } \n", some("a")),
        (r#"{"data":{"type":"inner"},"type":"a"}"#, some("a")),
        (r#"{"data":{"type":"inner"}}"#, None),
        (r#"{}"#, None),
        (r#"[]"#, None),
        (r#"[{"type":"a"}]"#, None),
        (r#""type""#, None),
        ("7", None),
        // There, but not a type: the next ones do not count.
        (r#"{"type":null,"eventType":"b"}"#, None),
        (r#"{"type":7,"eventType":"b"}"#, None),
        (r#"{"type":{"type":"x"},"eventType":"b"}"#, None),
        (r#"{"type":["x"],"eventType":"b"}"#, None),
        (r#"{"type":"","eventType":"b"}"#, None),
        (r#"{"type":" a","eventType":"b"}"#, None),
        (r#"{"type":"ä"}"#, None),
        (r#"{"type":"a\n"}"#, None),
    ] {
        assert_eq!(by_default(body), expected, "{body}");
    }
}

#[test]
fn a_type_is_at_most_255_bytes() {
    let body = |length| format!(r#"{{"type":"{}"}}"#, "t".repeat(length));
    assert_eq!(by_default(body(255)), Some("t".repeat(255)));
    assert_eq!(by_default(body(256)), None);
    assert_eq!(by_default(body(1 << 20)), None);
}

#[test]
fn escapes_are_read() {
    for (body, expected) in [
        (r#"{"ty\u0070e":"a"}"#, some("a")),
        (r#"{"type":"user\u002ecreated"}"#, some("user.created")),
        (r#"{"type":"a\/b\\c\"d"}"#, some(r#"a/b\c"d"#)),
        (r#"{"type":"\u0061\u0000"}"#, None),
        (r#"{"type":"\ud83d\ude00"}"#, None),
        (r#"{"type":"\ud83d"}"#, None),
        (r#"{"type":"a\u00"}"#, None),
        (r#"{"type":"a\u00zz"}"#, None),
        (r#"{"type":"a\x61"}"#, None),
        ("{\"type\":\"a\tb\"}", None),
    ] {
        assert_eq!(by_default(body), expected, "{body}");
    }
}

#[test]
fn what_stands_beside_the_type_does_not_matter_while_it_is_json() {
    for beside in [
        r#""\ud83d""#,
        r#"{"\udc00":1,"type":"x","type":"y"}"#,
        "1e999999",
        "-0.0e-0",
        "123456789012345678901234567890",
        "[null,true,false,[],{},[[{}]]]",
        r#"{"a":1,"a":2}"#,
        "\"\u{10ffff}\u{7f}\"",
    ] {
        for body in [
            format!(r#"{{"x":{beside},"type":"a"}}"#),
            format!(r#"{{"type":"a","x":{beside}}}"#),
            format!(r#"{{"type":"a","eventType":{beside}}}"#),
        ] {
            assert_eq!(by_default(&body), some("a"), "{body}");
        }
    }
    assert_eq!(by_default(r#"{"\ud800":1,"type":"a"}"#), some("a"));
}

#[test]
fn a_member_that_stands_twice_along_the_used_pointer_is_no_type() {
    for (pointer, body, expected) in [
        ("/type", r#"{"type":"a","type":"a"}"#, None),
        ("/type", r#"{"type":"a","ty\u0070e":"b"}"#, None),
        ("/type", r#"{"\u0074ype":"a","x":{},"type":null}"#, None),
        ("/type", r#"{"type":"a","Type":"b","types":"c"}"#, some("a")),
        ("/type", r#"{"x":1,"x":2,"type":"a"}"#, some("a")),
        ("/data/type", r#"{"data":{"type":"a","type":"b"}}"#, None),
        ("/data/type", r#"{"data":{"type":"a"},"data":{}}"#, None),
        ("/data/type", r#"{"data":{},"data":{"type":"a"}}"#, None),
        ("/data/type", r#"{"data":7,"d\u0061ta":{"type":"a"}}"#, None),
        (
            "/data/type",
            r#"{"data":{"type":"a","x":1,"x":2}}"#,
            some("a"),
        ),
        (
            "/data/0/type",
            r#"{"data":[{"type":"a"},{"type":"b","type":"c"}]}"#,
            some("a"),
        ),
        (
            "/data/1/type",
            r#"{"data":[{"type":"a"},{"type":"b","type":"c"}]}"#,
            None,
        ),
    ] {
        assert_eq!(told(&rule(pointer), body), expected, "{pointer} {body}");
    }
    // Only the pointer that is used counts.
    assert_eq!(
        by_default(r#"{"type":"a","eventType":"b","eventType":"c"}"#),
        some("a")
    );
    assert_eq!(
        by_default(r#"{"eventType":"b","eventType":"c","event_type":"d"}"#),
        None
    );
    let (config, _) = read("event_type = ['/data/type', '/type']");
    let rule = config.unwrap().event_type;
    assert_eq!(told(&rule, r#"{"data":1,"data":2,"type":"a"}"#), some("a"));
    assert_eq!(
        told(&rule, r#"{"data":1,"data":{"type":"b"},"type":"a"}"#),
        None
    );
}

#[test]
fn a_pointer_follows_rfc_6901() {
    let body = r#"{"a":{"b":["x",{"c":"deep"}],"":"empty","0":"zero"},"m~n":"tilde","a/b":"slash","~1":"both"}"#;
    for (pointer, expected) in [
        ("/a/b/0", some("x")),
        ("/a/b/1/c", some("deep")),
        ("/a/b/2", None),
        ("/a/b/00", None),
        ("/a/b/01/c", None),
        ("/a/b/+1/c", None),
        ("/a/b/-", None),
        ("/a/0", some("zero")),
        ("/a/", some("empty")),
        ("/m~0n", some("tilde")),
        ("/a~1b", some("slash")),
        ("/~01", some("both")),
        ("/a", None),
        ("/A/b/0", None),
    ] {
        assert_eq!(told(&rule(pointer), body), expected, "{pointer}");
    }
}

#[test]
fn a_template_needs_every_member_as_a_string() {
    let two = rule("gh:{/source}.{/data/action}!");
    let body = |source: &str, action: &str| {
        format!(r#"{{"source":{source},"data":{{"action":{action}}}}}"#)
    };
    assert_eq!(
        told(&two, body(r#""pr""#, r#""open\u0065d""#)),
        some("gh:pr.opened!")
    );
    assert_eq!(told(&two, body(r#""pr""#, "1")), None);
    assert_eq!(told(&two, body("null", r#""opened""#)), None);
    assert_eq!(told(&two, r#"{"source":"pr"}"#), None);
    assert_eq!(
        told(&two, r#"{"source":"a","source":"a","data":{"action":"b"}}"#),
        None
    );
    assert_eq!(told(&two, body(r#""ä""#, r#""b""#)), None);
    let most = "s".repeat(255 - "gh:.a!".len());
    assert!(told(&two, body(&format!("{most:?}"), r#""a""#)).is_some());
    assert_eq!(told(&two, body(&format!("{most:?}"), r#""ab""#)), None);
    assert_eq!(told(&rule("{/a}{/a}"), r#"{"a":"x"}"#), some("xx"));
    assert_eq!(told(&rule("{/a}"), r#"{"a":" x"}"#), None);
}

#[test]
fn a_body_that_is_not_one_whole_json_text_has_no_type() {
    let good = r#"{"type":"a","n":[1,{"b":true}]}"#;
    assert_eq!(by_default(good), some("a"));
    for cut in 0..good.len() {
        assert_eq!(by_default(&good[..cut]), None, "{}", &good[..cut]);
    }
    for behind in ["x", "{}", ",", "]", "\0", "\u{feff}", "\u{a0}"] {
        assert_eq!(by_default(format!("{good}{behind}")), None, "{behind:?}");
    }
    for bad in [
        "\u{feff}{\"type\":\"a\"}",
        r#"{"type":"a",}"#,
        r#"{,"type":"a"}"#,
        r#"{"type":"a" "b":1}"#,
        r#"{"type" "a"}"#,
        r#"{type:"a"}"#,
        r#"{'type':'a'}"#,
        r#"{"type":"a","b":[1,]}"#,
        r#"{"type":"a","b":[1}}"#,
        r#"{"type":"a","b":{"c":1]}"#,
        r#"{"type":"a","b":01}"#,
        r#"{"type":"a","b":+1}"#,
        r#"{"type":"a","b":.5}"#,
        r#"{"type":"a","b":5.}"#,
        r#"{"type":"a","b":1e}"#,
        r#"{"type":"a","b":-}"#,
        r#"{"type":"a","b":0x1}"#,
        r#"{"type":"a","b":NaN}"#,
        r#"{"type":"a","b":True}"#,
        r#"{"type":"a","b":nullx}"#,
        r#"{"type":"a","b":"\v"}"#,
        "{\"type\":\"a\",\"b\":\"\u{1}\"}",
        "{\"type\":\"a\",\u{c}\"b\":1}",
        "/**/{\"type\":\"a\"}",
        "",
        " ",
    ] {
        assert_eq!(by_default(bad), None, "{bad}");
    }
    assert_eq!(by_default(b"{\"type\":\"a\",\"b\":\"\xff\"}"), None);
    assert_eq!(by_default(b"{\"type\":\"a\",\"b\":\"\xed\xa0\x80\"}"), None);
}

#[test]
fn deep_nesting_is_skipped_whole() {
    let deep = 100_000;
    let (open, close) = ("[".repeat(deep), "]".repeat(deep));
    for (body, expected) in [
        (format!(r#"{{"x":{open}{close},"type":"a"}}"#), some("a")),
        (format!(r#"{{"type":"a","x":{open}{close}}}"#), some("a")),
        (format!(r#"{{"type":{open}{close}}}"#), None),
        (format!(r#"{{"x":{open}{},"type":"a"}}"#, &close[1..]), None),
        (format!(r#"{{"type":"a","x":{open}"#), None),
        (format!("{open}{close}"), None),
    ] {
        assert_eq!(by_default(body), expected);
    }
    // Objects and arrays in turn, so that a lost bracket would show.
    let mixed = format!(r#"{}1{}"#, r#"[{"a":"#.repeat(deep), "}]".repeat(deep));
    assert_eq!(
        by_default(format!(r#"{{"x":{mixed},"type":"a"}}"#)),
        some("a")
    );
    let swapped = mixed.replacen("}]", "]}", 1);
    assert_eq!(by_default(format!(r#"{{"x":{swapped},"type":"a"}}"#)), None);
    // As deep as a pointer may go.
    let pointer = rule(&"/a".repeat(32));
    let body = format!(r#"{}"t"{}"#, r#"{"a":"#.repeat(32), "}".repeat(32));
    assert_eq!(told(&pointer, &body), some("t"));
    assert!(TypeRule::parse(&"/a".repeat(33)).is_err());
}

#[test]
fn a_plain_type_is_not_copied() {
    let body = Bytes::from_static(br#"{"id":1,"type":"user.created"}"#);
    let found = TypeRule::default()
        .event_type(&body, &HeaderMap::new())
        .unwrap();
    let header = found.header();
    assert!(body.as_ptr_range().contains(&header.as_bytes().as_ptr()));
}

#[test]
fn a_header_tells_the_type_when_it_is_there_once() {
    let github = rule("header:X-GitHub-Event");
    let name = HeaderName::from_static("x-github-event");
    let mut headers = HeaderMap::new();
    let told = |headers: &HeaderMap| github.event_type(&Bytes::from_static(b"not json"), headers);
    assert_eq!(told(&headers), None);
    headers.insert(&name, HeaderValue::from_static("push"));
    assert_eq!(told(&headers).unwrap().as_str(), "push");
    headers.append(&name, HeaderValue::from_static("push"));
    assert_eq!(told(&headers), None);
    headers.insert(&name, HeaderValue::from_bytes(b"\xe4").unwrap());
    assert_eq!(told(&headers), None);
}

#[test]
fn a_constant_needs_no_body() {
    let constant = rule("const:invoice.paid");
    assert_eq!(told(&constant, "not json"), some("invoice.paid"));
    assert!(!constant.needs_body() && constant.is_signed());
    let header = rule("header:x-event");
    assert!(!header.needs_body() && !header.is_signed());
    for reads in ["/type", "{/a}.{/b}"] {
        assert!(rule(reads).needs_body() && rule(reads).is_signed());
    }
}

#[test]
fn what_is_no_rule_is_told() {
    for (bad, expected) in [
        ("", "does not start with `/`"),
        ("type", "does not start with `/`"),
        ("/a~2", "after `~`"),
        ("/a~", "after `~`"),
        ("{/a", "do not pair"),
        ("/a}", "do not pair"),
        ("{/a{/b}}", "do not pair"),
        ("{/a}}", "do not pair"),
        ("{}", "else than a JSON pointer"),
        ("{a}", "else than a JSON pointer"),
        ("ä{/a}", "no type can hold"),
        ("header:", "not a header"),
        ("header:a b", "not a header"),
        ("header:Connection", "can tell no type"),
        ("header:Authorization", "can tell no type"),
        ("header:svix-signature", "can tell no type"),
        ("const:", "names a type"),
        ("const:ä", "names a type"),
    ] {
        let problem = TypeRule::parse(bad).unwrap_err();
        assert!(problem.contains(expected), "{bad}: {problem}");
    }
}

/// Reads `text` as the table of a source named `clerk`.
fn read(text: &str) -> (Option<SourceConfig>, String) {
    let table: toml::Table = text.parse().unwrap();
    let dict = figment::value::Value::serialize(&table)
        .unwrap()
        .into_dict()
        .unwrap();
    let nowhere = |_: &str, _| Place::Nowhere;
    let reader = Reader::new("/", SecretReader::Skip, Place::Nowhere, nowhere);
    let mut section = reader.document(dict);
    let config = SourceConfig::read(&Name::parse("clerk").unwrap(), &mut section);
    drop(section);
    (config, reader.into_problems().to_string())
}

#[test]
fn a_source_is_read_with_its_defaults() {
    let (config, told) = read("");
    assert_eq!(told, "");
    let expected = SourceConfig {
        path: "/clerk".to_owned(),
        event_type: TypeRule::default(),
        unmatched: Unmatched::Accept,
        max_in_flight: None,
        allow_from: Vec::new(),
        expect_every: None,
    };
    assert_eq!(config, Some(expected));
}

#[test]
fn every_key_of_a_source_is_read() {
    let (config, told) = read(
        "path = '/hooks/clerk%20a'\nevent_type = '{/a}.b'\nunmatched = 'refuse'\nmax_in_flight = 8\n\
         allow_from = ['10.0.0.0/8', '::1']\nexpect_every = '2h'",
    );
    assert_eq!(told, "");
    let config = config.unwrap();
    assert_eq!(config.path, "/hooks/clerk%20a");
    assert_eq!(config.event_type, rule("{/a}.b"));
    assert_eq!(config.unmatched, Unmatched::Refuse);
    assert_eq!(config.max_in_flight, Some(8));
    assert_eq!(config.allow_from.len(), 2);
    assert_eq!(config.expect_every.unwrap().as_secs(), 7200);
}

#[test]
fn every_problem_of_a_source_is_told() {
    let (_, told) = read(
        "path = 'clerk'\nevent_type = ['/a', 'b', 'const:c', '/a']\nunmatched = 'maybe'\nmax_in_flight = 0\n\
         allow_from = ['10.0.0.0/33']\nexpect_every = '0s'\nunknown = 1",
    );
    for expected in [
        "error: `path` does not start with `/`",
        "error: `event_type[1]` is not a JSON pointer",
        "error: `event_type[2]` stands in a list",
        "warning: `event_type[3]` repeats",
        "error: `unmatched` is neither",
        "error: `max_in_flight` is zero",
        "error: `allow_from[0]` is not a network",
        "error: `expect_every` is zero",
        "error: `unknown` is not a key",
    ] {
        assert!(told.contains(expected), "{expected} in:\n{told}");
    }
    for path in ["", "/a?b", "/a#b", "/a b", "/a\\tb", "/ä"] {
        let (config, told) = read(&format!("path = \"{path}\""));
        assert!(
            config.is_none() && told.contains("error: `path`"),
            "{path}: {told}"
        );
    }
    let long = format!("path = '/{}'", "p".repeat(2048));
    assert!(read(&long).1.contains("longer than 2 KiB"));
    assert!(read("allow_from = []").1.contains("`allow_from` is empty"));
    assert!(read("event_type = []").1.contains("`event_type` is empty"));
    assert!(
        read("event_type = 'header:x-event'")
            .1
            .contains("warning: `event_type` takes the type from a header")
    );
}

#[test]
fn a_source_on_a_queue_is_refused_with_one_problem() {
    let (config, told) = read("type = 'rabbitmq'\nurl = 'amqp://x'\nqueue = 'q'\nprefetch = 1");
    assert_eq!(config, None);
    assert!(
        told.contains("error: `type` is `rabbitmq`, which this version"),
        "{told}"
    );
    assert_eq!(told.matches("error").count(), 1);
    assert!(
        read("type = 'x'")
            .1
            .contains("`type` is not a kind of source")
    );
}

/// JSON without a name twice in one object, names and strings from a few.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("a"),
        Just("b"),
        Just("0"),
        Just("1"),
        Just("a/b"),
        Just("~"),
        Just("ä\"\\")
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-c.é\\\\\"\n]{0,12}".prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(word.clone().prop_map(str::to_owned), inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn any_pointer() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        Just("a"),
        Just("b"),
        Just("0"),
        Just("1"),
        Just("a~1b"),
        Just("~0"),
        Just("ä\"\\")
    ];
    prop::collection::vec(token, 1..4).prop_map(|tokens| format!("/{}", tokens.join("/")))
}

/// What the same pointers mean to `serde_json`.
fn expected(pointers: &[String], value: &Value) -> Option<String> {
    let first = pointers.iter().find_map(|pointer| value.pointer(pointer))?;
    let text = first.as_str()?;
    let good = crate::message::EventType::from_text(text).is_some();
    good.then(|| text.to_owned())
}

/// Every character of every string as `\uXXXX`, which changes nothing.
fn escape_all(json: &str) -> String {
    let mut escaped = String::new();
    let (mut inside, mut skip) = (false, false);
    for c in json.chars() {
        match c {
            _ if skip => {
                skip = false;
                escaped.push(c);
            }
            '\\' => {
                skip = true;
                escaped.push(c);
            }
            '"' => {
                inside = !inside;
                escaped.push(c);
            }
            c if inside && c.is_ascii_lowercase() && !escaped.ends_with('\\') => {
                escaped.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn pointers_agree_with_serde_json(
        value in any_json(),
        pointers in prop::collection::vec(any_pointer(), 1..5),
        pretty in any::<bool>(),
    ) {
        let list: Vec<String> = pointers.iter().map(|p| format!("{p:?}")).collect();
        let (config, _) = read(&format!("event_type = [{}]", list.join(", ")));
        let rule = config.unwrap().event_type;
        let text = if pretty {
            serde_json::to_string_pretty(&value).unwrap()
        } else {
            value.to_string()
        };
        let expected = expected(&pointers, &value);
        prop_assert_eq!(told(&rule, &text), expected.clone());
        prop_assert_eq!(told(&rule, escape_all(&text)), expected);
    }

    #[test]
    fn what_is_json_is_decided_as_serde_json_decides(
        value in any_json(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), "[\\[\\]{}\",:\\\\u0-9eE.+\\-tn \n\u{1}é]?"), 0..4),
    ) {
        let mut text: Vec<char> = value.to_string().chars().collect();
        for (place, with) in &changes {
            let at = place.index(text.len() + 1);
            let end = (at + 1).min(text.len());
            text.splice(at..end, with.chars());
        }
        let text: String = text.into_iter().collect();
        // Raw: `serde_json` then skips as we do, without looking at the values.
        let theirs = serde_json::from_str::<&RawValue>(&text).is_ok();
        let mut json = super::json::Scanner::new(&text);
        let ours = json.skip().and_then(|()| json.end()).is_ok();
        prop_assert_eq!(ours, theirs, "{}", text);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = by_default(&bytes);
        let _ = told(&rule("{/a}.{/b/0}"), &bytes);
    }
}

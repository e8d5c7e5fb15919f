mod config;
mod properties;

use bytes::Bytes;

use super::*;
use crate::message::Headers;
use config::read;

fn rule(text: &str) -> TypeRule {
    TypeRule::parse(text).unwrap()
}

/// The type that `rule` finds in `body`.
fn told(rule: &TypeRule, body: impl AsRef<[u8]>) -> Option<String> {
    let body = Bytes::copy_from_slice(body.as_ref());
    let event_type = rule.event_type(&body, &Headers::default())?;
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
        .event_type(&body, &Headers::default())
        .unwrap();
    assert!(body.as_ptr_range().contains(&found.as_str().as_ptr()));
}

#[test]
fn a_header_tells_the_type_when_it_is_there_once() {
    let github = rule("header:X-GitHub-Event");
    let told = |values: &[&[u8]]| {
        let headers = values.iter().map(|value| ("x-github-EVENT", value));
        let found = github.event_type(&Bytes::from_static(b"not json"), &headers.collect());
        found.map(|found| found.as_str().to_owned())
    };
    assert_eq!(told(&[]), None);
    assert_eq!(told(&[b"push"]), some("push"));
    assert_eq!(told(&[b"push", b"push"]), None);
    assert_eq!(told(&[b"\xe4"]), None);
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

use proptest::prelude::*;
use serde_json::Value;
use serde_json::value::RawValue;

use super::config::read;
use super::*;

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

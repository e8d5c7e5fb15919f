//! Any body: the type that is found by looking is the one that a parser finds in
//! the whole tree, and none where a member along the way stands twice.
//!
//! The first byte picks the rule; the rest is the body.
#![no_main]

use std::fmt;

use bytes::Bytes;
use hookward::message::{EventType, Headers};
use hookward::source::TypeRule;
use libfuzzer_sys::fuzz_target;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

const RULES: [&[&str]; 5] = [
    &["/type", "/eventType", "/event_type"],
    &["/type"],
    &["/data/kind"],
    &["/0/type"],
    &["/a~1b/~0"],
];

thread_local! {
    static READY: Vec<TypeRule> = RULES
        .iter()
        .map(|rule| match rule {
            [one] => TypeRule::parse(one).unwrap(),
            _ => TypeRule::default(),
        })
        .collect();
}

/// A JSON text with everything in its place, members that stand twice too.
enum Tree {
    Text(String),
    Object(Vec<(String, Tree)>),
    Array(Vec<Tree>),
    Other,
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Grow)
    }
}

struct Grow;

impl<'de> Visitor<'de> for Grow {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
        Ok(Tree::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
        Ok(Tree::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
        Ok(Tree::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Tree::Object(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Tree::Array(items))
    }
}

enum Found<'t> {
    Nothing,
    One(&'t Tree),
    Twice,
}

fn walk<'t>(tree: &'t Tree, pointer: &str) -> Found<'t> {
    let mut at = tree;
    for part in pointer.split('/').skip(1) {
        let name = part.replace("~1", "/").replace("~0", "~");
        at = match at {
            Tree::Object(members) => {
                let mut own = members.iter().filter(|(other, _)| *other == name);
                match (own.next(), own.next()) {
                    (None, _) => return Found::Nothing,
                    (Some((_, value)), None) => value,
                    (Some(_), Some(_)) => return Found::Twice,
                }
            }
            Tree::Array(items) => match name.parse::<usize>() {
                Ok(index) if index < items.len() => &items[index],
                _ => return Found::Nothing,
            },
            _ => return Found::Nothing,
        };
    }
    Found::One(at)
}

/// The type by the contract: the first member that is there.
fn expected(tree: &Tree, rule: &[&str]) -> Option<EventType> {
    for pointer in rule {
        match walk(tree, pointer) {
            Found::Nothing => {}
            Found::One(Tree::Text(text)) => return EventType::from_text(text),
            Found::One(_) | Found::Twice => return None,
        }
    }
    None
}

fuzz_target!(|data: &[u8]| {
    let Some((first, body)) = data.split_first() else {
        return;
    };
    let number = usize::from(*first) % RULES.len();
    let body = Bytes::copy_from_slice(body);
    let found = READY.with(|rules| rules[number].event_type(&body, &Headers::default()));
    let text = std::str::from_utf8(&body).ok();
    if text.is_none_or(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_err()) {
        // Too deep for that parser is not out of form.
        let deep = body.iter().filter(|&&b| b == b'{' || b == b'[').count() >= 120;
        assert!(
            found.is_none() || deep,
            "a type in what is no JSON: {found:?}"
        );
        return;
    }
    // Numbers beyond a double and lone surrogates are JSON that this parser refuses.
    let Ok(tree) = serde_json::from_slice::<Tree>(&body) else {
        return;
    };
    assert_eq!(found, expected(&tree, RULES[number]));
});

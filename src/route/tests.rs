use proptest::prelude::*;

use super::pattern::Word;
use super::*;
use crate::message::EventType;
use crate::setting::{Place, Reader, SecretReader};

fn event(text: &str) -> EventType {
    EventType::from_text(text).unwrap()
}

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|t| Pattern::parse(t).unwrap()).collect()
}

/// A rule as a test writes it: types, destinations, otherwise.
type Written<'a> = (&'a [&'a str], &'a [usize], bool);

fn router(written: &[Written<'_>]) -> Router {
    let types: Vec<Vec<Pattern>> = written.iter().map(|rule| patterns(rule.0)).collect();
    let rules: Vec<Rule<'_>> = written
        .iter()
        .zip(&types)
        .enumerate()
        .map(|(number, (rule, types))| Rule {
            number,
            types,
            to: rule.1,
            otherwise: rule.2,
        })
        .collect();
    Router::compile(&rules)
}

fn to(destinations: &[usize]) -> Plan {
    Plan::To(destinations.into())
}

#[test]
fn two_stars_take_any_number_of_words_and_one_star_takes_one() {
    for (pattern, takes, leaves) in [
        (
            "user.created",
            &["user.created"][..],
            &["user", "user.created.x", "User.created"][..],
        ),
        (
            "user.*",
            &["user.a", "user."],
            &["user", "user.a.b", "users.a"],
        ),
        (
            "user.**",
            &["user", "user.a", "user.a.b", "user."],
            &["users", "x.user"],
        ),
        ("**", &["a", "a.b", "."], &[]),
        ("*", &["a", "a b"], &["a.b", "."]),
        (
            "**.done",
            &["done", "a.done", "a.b.done"],
            &["done.a", "undone"],
        ),
        ("a.**.z", &["a.z", "a.b.z", "a.z.z"], &["a", "z", "a.z.b"]),
        ("**.*", &["a", "a.b"], &[]),
        ("a.*.**", &["a.b", "a.b.c"], &["a", "b.a"]),
        ("a.**.*", &["a.b", "a.b.c"], &["a", "b.a"]),
        ("a..b", &["a..b"], &["a.b", "a.x.b"]),
        ("a.*.b", &["a..b", "a.x.b"], &["a.b"]),
    ] {
        let router = router(&[(&[pattern], &[0], false)]);
        for taken in takes {
            assert_eq!(
                router.plan(Some(&event(taken))),
                to(&[0]),
                "{pattern} {taken}"
            );
        }
        for left in leaves {
            let plan = router.plan(Some(&event(left)));
            assert_eq!(plan, Plan::Unmatched, "{pattern} {left}");
        }
    }
}

#[test]
fn every_matching_rule_counts_and_a_destination_is_named_once() {
    let router = router(&[
        (&["user.created", "user.*"], &[3, 1], false),
        (&["user.**"], &[1, 2], false),
        (&[], &[0], false),
        (&["order.**"], &[9], false),
    ]);
    assert_eq!(router.plan(Some(&event("user.created"))), to(&[0, 1, 2, 3]));
    assert_eq!(router.rules(Some(&event("user.created"))), [0, 1, 2]);
    assert_eq!(router.rules(Some(&event("x"))), [2]);
}

#[test]
fn a_plan_of_few_destinations_stays_in_place() {
    let named: Vec<Written<'_>> = vec![(&["a.**"], &[3, 1, 2, 0], false); 8];
    let Plan::To(destinations) = router(&named).plan(Some(&event("a.b"))) else {
        panic!("nothing matched");
    };
    assert!(!destinations.spilled());
    assert_eq!(destinations.as_slice(), [0, 1, 2, 3]);
}

#[test]
fn otherwise_is_taken_only_when_no_other_rule_matched() {
    let router = router(&[
        (&["user.*"], &[0], false),
        (&[], &[1], true),
        (&["order.*"], &[2], true),
    ]);
    assert_eq!(router.plan(Some(&event("user.a"))), to(&[0]));
    assert_eq!(router.plan(Some(&event("order.a"))), to(&[1, 2]));
    assert_eq!(router.rules(Some(&event("order.a"))), [1, 2]);
    assert_eq!(router.plan(None), to(&[1]));
}

#[test]
fn an_event_without_a_type_reaches_only_rules_without_types() {
    let typed = router(&[(&["**"], &[0], false)]);
    assert_eq!(typed.plan(None), Plan::Untyped);
    assert_eq!(typed.rules(None), [0usize; 0]);

    let both = router(&[(&["**"], &[0], false), (&[], &[1], false)]);
    assert_eq!(both.plan(None), to(&[1]));

    assert_eq!(router(&[]).plan(None), Plan::Unmatched);
    assert_eq!(router(&[]).plan(Some(&event("a"))), Plan::Unmatched);
}

#[test]
fn a_rule_without_destinations_never_counts_as_delivered() {
    assert_eq!(router(&[(&[], &[], false)]).plan(None), Plan::Unmatched);
}

#[test]
fn rules_that_do_not_match_cost_no_steps() {
    let ask = [event("user.created.eu.v2"), event("nobody.wants.this")];
    let steps = |others: usize| {
        let mut texts = vec!["user.**".to_owned(), "user.*.eu.*".to_owned()];
        for n in 0..others {
            texts.push(format!("exact.{n}"));
            texts.push(format!("prefix{n}.**"));
            texts.push(format!("one{n}.*.two.*"));
            texts.push(format!("user.created.eu.v{}.**", n + 3));
        }
        let types: Vec<Pattern> = texts.iter().map(|t| Pattern::parse(t).unwrap()).collect();
        let rules: Vec<Rule<'_>> = types
            .iter()
            .enumerate()
            .map(|(number, pattern)| Rule {
                number,
                types: std::slice::from_ref(pattern),
                to: &[0],
                otherwise: false,
            })
            .collect();
        let router = Router::compile(&rules);
        assert_eq!(router.rules(Some(&ask[0])), [0, 1]);
        ask.each_ref().map(|event| router.steps(event))
    };
    let many = steps(2_500);
    assert_eq!(steps(1), many);
    assert!(many[0] <= 12 && many[1] <= 2, "{many:?}");
}

#[test]
fn many_double_stars_do_not_blow_up() {
    // A backtracking matcher would take ages to say no to this.
    let stars = "**.a.".repeat(40) + "b";
    let router = router(&[(&[&stars], &[0], false)]);
    let long = event(&["a"; 128].join("."));
    assert_eq!(router.plan(Some(&long)), Plan::Unmatched);
    // At most every node for every word.
    assert!(router.steps(&long) <= 128 * 82, "{}", router.steps(&long));

    // Numbered nodes past the words that are kept in place.
    let texts: Vec<String> = (0..400).map(|n| format!("**.a.**.{n}.**.z")).collect();
    let types: Vec<Pattern> = texts.iter().map(|t| Pattern::parse(t).unwrap()).collect();
    let rule = Rule {
        number: 7,
        types: &types,
        to: &[0],
        otherwise: false,
    };
    let router = Router::compile(&[rule]);
    assert_eq!(router.rules(Some(&event("x.a.y.399.0.z"))), [7]);
    assert_eq!(router.plan(Some(&event("a.400.z"))), Plan::Unmatched);
}

/// What a pattern means, word by word.
fn naive(pattern: &[Word<'_>], words: &[&str]) -> bool {
    match pattern.split_first() {
        None => words.is_empty(),
        Some((Word::Deep, rest)) => (0..=words.len()).any(|n| naive(rest, &words[n..])),
        Some((Word::Any, rest)) => !words.is_empty() && naive(rest, &words[1..]),
        Some((Word::Exact(word), rest)) => words.first() == Some(word) && naive(rest, &words[1..]),
    }
}

fn naive_takes(types: &[Pattern], event_type: Option<&EventType>) -> bool {
    let Some(event_type) = event_type else {
        return types.is_empty();
    };
    let words: Vec<&str> = event_type.as_str().split('.').collect();
    types.is_empty()
        || types
            .iter()
            .any(|pattern| naive(&pattern.words().collect::<Vec<_>>(), &words))
}

/// One empty word alone would be no type.
fn joined(words: &[&str]) -> String {
    match words {
        [""] => ".".to_owned(),
        words => words.join("."),
    }
}

fn any_pattern() -> impl Strategy<Value = Pattern> {
    let word = prop_oneof![Just("a"), Just("b"), Just(""), Just("*"), Just("**")];
    prop::collection::vec(word, 1..6).prop_map(|words| Pattern::parse(&joined(&words)).unwrap())
}

fn any_type() -> impl Strategy<Value = EventType> {
    let word = prop_oneof![Just("a"), Just("b"), Just(""), Just("c")];
    prop::collection::vec(word, 1..7).prop_map(|words| event(&joined(&words)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_router_agrees_with_a_naive_matcher(
        written in prop::collection::vec(
            (
                prop::collection::vec(any_pattern(), 0..4),
                prop::collection::vec(0usize..6, 1..4),
                prop::bool::weighted(0.2),
            ),
            0..12,
        ),
        types in prop::collection::vec(any_type(), 1..8),
    ) {
        let rules: Vec<Rule<'_>> = written
            .iter()
            .enumerate()
            .map(|(number, (types, to, otherwise))| Rule { number, types, to, otherwise: *otherwise })
            .collect();
        let router = Router::compile(&rules);
        for event_type in types.iter().map(Some).chain([None]) {
            let matching: Vec<&Rule<'_>> =
                rules.iter().filter(|rule| naive_takes(rule.types, event_type)).collect();
            let only_otherwise = matching.iter().all(|rule| rule.otherwise);
            let taken: Vec<&&Rule<'_>> =
                matching.iter().filter(|rule| rule.otherwise == only_otherwise).collect();
            let mut expected: Vec<usize> = taken.iter().flat_map(|rule| rule.to.to_vec()).collect();
            expected.sort_unstable();
            expected.dedup();
            let plan = if !expected.is_empty() {
                to(&expected)
            } else if event_type.is_none() && rules.iter().any(|rule| !rule.types.is_empty()) {
                Plan::Untyped
            } else {
                Plan::Unmatched
            };
            prop_assert_eq!(router.plan(event_type), plan);
            let numbers: Vec<usize> = taken.iter().map(|rule| rule.number).collect();
            prop_assert_eq!(router.rules(event_type), numbers);
        }
    }
}

/// Reads `text` as one `[[routes]]` table: what came of it, and the problems.
fn read(text: &str) -> (Option<RouteConfig>, String) {
    let table: toml::Table = text.parse().unwrap();
    let dict = figment::value::Value::serialize(&table)
        .unwrap()
        .into_dict()
        .unwrap();
    let nowhere = |_: &str, _| Place::Nowhere;
    let reader = Reader::new("/", SecretReader::Skip, Place::Nowhere, nowhere);
    let config = RouteConfig::read(reader.document(dict));
    (config, reader.into_problems().to_string())
}

#[test]
fn a_route_is_read_with_its_defaults() {
    let (config, told) = read("to = 'billing'");
    assert_eq!(told, "");
    let config = config.unwrap();
    assert!(config.from.is_empty() && config.types.is_empty() && !config.otherwise);
    assert_eq!(config.to[0].as_str(), "billing");

    let (config, told) =
        read("from = ['a', 'b']\ntypes = ['x.*', 'y']\nto = ['c']\notherwise = true");
    assert_eq!(told, "");
    let config = config.unwrap();
    assert_eq!(
        (config.from.len(), config.types.len(), config.otherwise),
        (2, 2, true)
    );
}

#[test]
fn every_problem_of_a_route_is_told() {
    let (config, told) = read("types = ['a*', 'b', 'b', 'c.']\nfrom = []\nother = true");
    assert_eq!(config, None);
    for expected in [
        "error: `types[0]` holds a `*` inside a word",
        "warning: `types[2]` repeats",
        "warning: `types[3]` holds an empty word",
        "error: `from` is empty",
        "error: `to` is missing",
        "error: `other` is not a key hookward knows",
    ] {
        assert!(told.contains(expected), "{expected} in:\n{told}");
    }
    assert!(read("to = []").1.contains("`to` is empty"));
    assert_eq!(read("to = []").1.matches("error").count(), 1);
}

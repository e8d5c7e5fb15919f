use fearless_simd::dispatch;
use proptest::prelude::*;
use serde_json::value::RawValue;

use super::block::{Block, Machine};
use super::*;

#[test]
fn the_first_byte_that_cannot_stand_in_a_string_is_found_wherever_it_is() {
    for fill in [b' ', b'!', b'#', b'[', b']', 0x7f, 0x80, 0xa2, 0xdc, 0xff] {
        for length in 0..24 {
            let mut bytes = vec![fill; length];
            assert_eq!(ordinary(&bytes), length, "{bytes:?}");
            for at in 0..length {
                for special in [b'"', b'\\', 0, 0x1f] {
                    // Whatever follows does not matter.
                    bytes[at..].fill(special);
                    assert_eq!(ordinary(&bytes), at, "{bytes:?}");
                    bytes[at..].fill(fill);
                    bytes[at] = special;
                    assert_eq!(ordinary(&bytes), at, "{bytes:?}");
                    bytes[at] = fill;
                }
            }
        }
    }
}

/// What a block answers, question by question.
fn answers<M: Machine>(machine: M, bytes: &[u8; 64]) -> Vec<u64> {
    let block = machine.load(bytes);
    let mut answers = vec![block.special(), block.between(b'0', b'9')];
    answers.extend([block.is_either(b'{', b'}'), block.is_either(b'e', b'e')]);
    answers.extend([0x1f, 0x20, 0x7f].map(|last| block.up_to(last)));
    answers.extend([0x04, 0x20].map(|bit| block.has(bit)));
    answers.extend((0..0x80).map(|byte| block.is(byte)));
    answers
}

#[test]
fn a_block_answers_for_each_byte_alone() {
    let one = |of: &dyn Fn(u8) -> bool, bytes: &[u8; 64]| {
        let bits = bytes.iter().enumerate();
        bits.fold(0, |all, (at, &byte)| all | u64::from(of(byte)) << at)
    };
    for shift in 0..=255_u8 {
        for step in [1, 7, 64, 129] {
            let bytes: [u8; 64] =
                std::array::from_fn(|at| shift.wrapping_add((at as u8).wrapping_mul(step)));
            let mut expected = vec![
                one(&|b| b == b'"' || b == b'\\' || b < 0x20, &bytes),
                one(&|b| b.is_ascii_digit(), &bytes),
                one(&|b| b"{}[]".contains(&b), &bytes),
                one(&|b| b == b'e' || b == b'E', &bytes),
            ];
            expected.extend([0x1f, 0x20, 0x7f].map(|last| one(&|b| b <= last, &bytes)));
            expected.extend([0x04, 0x20].map(|bit| one(&|b| b & bit != 0, &bytes)));
            expected.extend((0..0x80).map(|byte| one(&|b| b == byte, &bytes)));
            for reader in Reader::all() {
                let found = match reader {
                    Reader::Vectors(level) => {
                        dispatch!(level, simd => answers(Vectors::new(simd), &bytes))
                    }
                    Reader::Words => answers(Words, &bytes),
                };
                assert_eq!(found, expected, "{reader:?} {bytes:?}");
            }
        }
    }
}

fn skips(reader: Reader, text: &str) -> bool {
    let mut json = Scanner::new(text);
    json.skip_by(reader).and_then(|()| json.end()).is_ok()
}

/// Holds every reader against `serde_json`, which when raw skips as we do, without
/// looking at the values.
fn agree(text: &str) {
    let theirs = serde_json::from_str::<&RawValue>(text).is_ok();
    for reader in Reader::all() {
        assert_eq!(skips(reader, text), theirs, "{reader:?} {text}");
    }
}

/// What is and what is not a value, or begins like one.
const PIECES: [&str; 62] = [
    "true",
    "false",
    "null",
    "tru",
    "truee",
    "nul",
    "fals",
    "falsey",
    "true1",
    "1true",
    "0",
    "-0",
    "00",
    "01",
    "-01",
    "-",
    "--1",
    "+1",
    "1",
    "10",
    "1234567890",
    "1.5",
    "-1.5",
    "0.5",
    "00.5",
    "1.",
    ".5",
    "-.5",
    "1.5.5",
    "1..5",
    "1e5",
    "1E+5",
    "1e-05",
    "1e",
    "1e+",
    "1e+-5",
    "1e5.5",
    "1.5e5",
    "1.e5",
    "1e5e5",
    "1-5",
    "1 5",
    "1,5",
    "1:5",
    "\"\"",
    "\"a",
    "\"\\\"",
    "\"\\\"\"",
    "\"\\u00e9\"",
    "\"\\u00e\"",
    "\"\\uD83D\\ude00\"",
    "\"\\x\"",
    "\"a\"\"b\"",
    "[]",
    "[ ]",
    "[,]",
    "{}",
    "{\"a\":1}",
    "{\"a\" : [ ] }",
    "{\"a\"}",
    "{1:2}",
    "}",
];

#[test]
fn a_value_is_judged_alike_wherever_a_block_ends() {
    for piece in PIECES {
        for (before, after) in [
            ("[", "]"),
            ("[1,", ",2]"),
            ("{\"a\":", "}"),
            ("{\"a\":[],\"b\":", ",\"c\":{}}"),
            ("{\"a\":1,", ":2}"),
            ("[\"\",", " \n]"),
        ] {
            for shift in 0..64 {
                agree(&format!(
                    "[{:shift$}\"{:64}\",{before}{piece}{after}]",
                    "", ""
                ));
            }
        }
    }
}

#[test]
fn long_numbers_go_over_many_blocks() {
    let digits = |length: usize| "7".repeat(length);
    for length in [1, 5, 63, 64, 65, 130, 200] {
        for shift in 0..64 {
            for number in [
                digits(length),
                format!("-{}", digits(length)),
                format!("0{}", digits(length)),
                format!("0.{}", digits(length)),
                format!("{}.{}.1", digits(length), digits(length)),
                format!("{}.{}", digits(length), digits(length)),
                format!("{}e{}", digits(length), digits(length)),
                format!("{}.{}E-{}", digits(length), digits(length), digits(length)),
                format!(
                    "{}.{}E-{}.1",
                    digits(length),
                    digits(length),
                    digits(length)
                ),
                format!("{}x", digits(length)),
            ] {
                agree(&format!("[{:shift$}\"{:64}\",{number} ]", "", ""));
            }
        }
    }
}

#[test]
fn runs_of_backslashes_are_paired_wherever_a_block_ends() {
    for length in 0..140 {
        for shift in 0..64 {
            for end in ["\"", "\",\"\"", "n\"", "\n\""] {
                let run = "\\".repeat(length);
                agree(&format!("[\"{:64}\",{:shift$}\"{run}{end}]", "", ""));
            }
        }
    }
}

#[test]
fn deep_brackets_close_what_they_opened() {
    for depth in [1, 31, 32, 33, 63, 64, 65, 127, 128, 129, 192, 500] {
        let open = r#"[{"a":"#.repeat(depth);
        let close = "}]".repeat(depth);
        for reader in Reader::all() {
            for inner in ["0", "[]", "{}", "[{}]"] {
                let good = format!("{open}{inner}{close}");
                assert!(skips(reader, &good), "{reader:?} {good}");
                assert!(!skips(reader, &good[..good.len() - 1]), "{reader:?} {good}");
                assert!(!skips(reader, &format!("{good}]")), "{reader:?} {good}");
                for at in [0, depth / 2, depth - 1] {
                    let mut bad = good.clone().into_bytes();
                    let from = good.len() - close.len() + 2 * at;
                    bad.swap(from, from + 1);
                    let bad = String::from_utf8(bad).unwrap();
                    assert!(!skips(reader, &bad), "{reader:?} {bad}");
                }
            }
        }
    }
}

/// Values, with white space and lengths that shift what follows.
fn any_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        prop::sample::select(&PIECES[..])
            .prop_filter("JSON", |piece| {
                serde_json::from_str::<&RawValue>(piece).is_ok()
            })
            .prop_map(str::to_owned),
        "\"([a-z:,{}\\[\\] é]|\\\\[\\\\\"nu/]0041){0,70}\"",
        "-?[1-9][0-9]{0,70}(\\.[0-9]{1,9})?",
    ];
    let space = "[ \n\t\r]{0,3}";
    leaf.prop_recursive(5, 64, 6, move |inner| {
        let spaced = (space, inner, space).prop_map(|(a, value, b)| format!("{a}{value}{b}"));
        let member = ("[a-z]{0,9}", spaced.clone(), space)
            .prop_map(|(name, value, a)| format!("{a}\"{name}\"{a}:{value}"));
        prop_oneof![
            prop::collection::vec(spaced, 0..6).prop_map(|all| format!("[{}]", all.join(","))),
            prop::collection::vec(member, 0..6).prop_map(|all| format!("{{{}}}", all.join(","))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn every_reader_decides_as_serde_json_does(
        value in any_text(),
        changes in prop::collection::vec(
            (any::<prop::sample::Index>(), "[\\[\\]{}\",:\\\\u0-9eE.+\\-tn \n\u{1}é]?", any::<bool>()),
            0..4,
        ),
    ) {
        agree(&value);
        let mut text: Vec<char> = value.chars().collect();
        for (place, with, instead) in &changes {
            let at = place.index(text.len() + 1);
            let end = (at + usize::from(*instead)).min(text.len());
            text.splice(at..end, with.chars());
        }
        agree(&text.into_iter().collect::<String>());
    }
}

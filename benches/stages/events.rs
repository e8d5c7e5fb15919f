//! The type of an event, out of its body.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use hookward::message::Headers;
use hookward::source::TypeRule;

/// The yardstick: what skips all but the type, and still reads the whole text.
#[derive(serde::Deserialize)]
struct Typed<'a> {
    #[serde(borrow, rename = "type")]
    event_type: &'a str,
}

pub fn measure(criterion: &mut Criterion) {
    let bodies = [
        ("1 KiB, type first", first(1024)),
        ("1 KiB, type last", last(1024)),
        ("600 bytes, 120 deep", nested()),
        ("16 KiB, type first", first(16 * 1024)),
        ("256 KiB, type first", first(256 * 1024)),
        ("256 KiB, of numbers", list(|n| format!("{}", n % 1000))),
        (
            "256 KiB, of short strings",
            list(|n| format!("{:?}", "abcdef".split_at(n % 7).0)),
        ),
        (
            "256 KiB, of long strings",
            list(|n| format!(r#""{n}{}""#, "long ".repeat(400))),
        ),
        (
            "256 KiB, of escapes",
            list(|n| format!(r#""{n}{}""#, r#"\n\"\u00e9 text"#.repeat(40))),
        ),
        (
            "256 KiB, of small objects",
            list(|n| format!(r#"{{"a":[{n}]}}"#)),
        ),
    ];
    let (rule, headers) = (TypeRule::default(), Headers::default());
    let mut group = criterion.benchmark_group("type");
    for (name, body) in bodies {
        let body = Bytes::from(body);
        group.throughput(Throughput::Bytes(body.len() as u64));
        let found = rule.event_type(&body, &headers);
        assert_eq!(found.unwrap().as_str(), "invoice.paid");
        group.bench_function(format!("{name}/hookward"), |bencher| {
            bencher.iter(|| rule.event_type(black_box(&body), &headers));
        });
        group.bench_function(format!("{name}/serde_json, the rest skipped"), |bencher| {
            bencher.iter(|| {
                let typed: Typed<'_> = serde_json::from_slice(black_box(&body)).unwrap();
                typed.event_type.len()
            });
        });
        group.bench_function(format!("{name}/serde_json, a tree"), |bencher| {
            bencher.iter(|| serde_json::from_slice::<serde_json::Value>(black_box(&body)).unwrap());
        });
    }
    group.finish();
}

/// So many bytes and a little, as invoices are.
fn lines(bytes: usize) -> String {
    let mut lines = String::from("[");
    for number in 0.. {
        let comma = if number == 0 { "" } else { "," };
        lines.push_str(&format!(
            r#"{comma}{{"id":"il_{number:014}","amount":1{number},"description":"Seat \"{number}\" (monthly)","proration":false,"tax":19.0}}"#
        ));
        if lines.len() >= bytes {
            break;
        }
    }
    lines + "]"
}

fn first(bytes: usize) -> String {
    let lines = lines(bytes - 100);
    format!(r#"{{"type":"invoice.paid","data":{{"lines":{lines}}}}}"#)
}

fn last(bytes: usize) -> String {
    let lines = lines(bytes - 100);
    format!(r#"{{"data":{{"lines":{lines}}},"type":"invoice.paid"}}"#)
}

/// A list of such items.
fn list(item: impl Fn(usize) -> String) -> String {
    let mut list = String::from(r#"{"type":"invoice.paid","data":["#);
    for number in 0.. {
        let comma = if number == 0 { "" } else { "," };
        list.push_str(&format!("{comma}{}", item(number)));
        if list.len() >= 256 * 1024 {
            break;
        }
    }
    list + "]}"
}

/// As deep as the yardstick reads: 128.
fn nested() -> String {
    const DEPTH: usize = 120;
    let (open, close) = (r#"{"a":[1"#.to_owned() + ",", "]}");
    let inner = open.repeat(DEPTH / 2) + "0" + &close.repeat(DEPTH / 2);
    format!(r#"{{"data":{inner},"type":"invoice.paid"}}"#)
}

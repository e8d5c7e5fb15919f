//! Where an event goes.

use std::hint::black_box;

use criterion::Criterion;
use hookward::message::EventType;
use hookward::route::{Pattern, Router, Rule};

pub fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    for count in [1, 100, 10_000] {
        let last = count - 1;
        let exact = router(count, |number| format!("team{number}.invoice.paid"));
        let starred = router(count, |number| format!("team{number}.*.paid"));
        let typed = |text: &str| EventType::from_text(text).unwrap();
        let known = typed(&format!("team{last}.invoice.paid"));
        let unknown = typed("nobody.invoice.paid");
        for (name, router, event_type) in [
            ("exact", &exact, &known),
            ("pattern", &starred, &known),
            ("exact, no match", &exact, &unknown),
            ("pattern, no match", &starred, &unknown),
        ] {
            group.bench_function(format!("{count} rules/{name}"), |bencher| {
                bencher.iter(|| router.plan(Some(black_box(event_type))));
            });
        }
    }
    group.finish();
}

/// So many rules, each with a type of its own, to a few destinations.
fn router(count: usize, types: impl Fn(usize) -> String) -> Router {
    let patterns: Vec<[Pattern; 1]> = (0..count)
        .map(|number| [Pattern::parse(&types(number)).unwrap()])
        .collect();
    let destinations: Vec<[usize; 1]> = (0..count).map(|number| [number % 16]).collect();
    let rules: Vec<Rule<'_>> = patterns
        .iter()
        .zip(&destinations)
        .enumerate()
        .map(|(number, (types, to))| Rule {
            number,
            types,
            to,
            otherwise: false,
        })
        .collect();
    Router::compile(&rules)
}

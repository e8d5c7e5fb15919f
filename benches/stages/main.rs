//! What each stage of the line costs alone. See `benches/README.md`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement that cannot go on is to end, and its figures are what it is for"
)]
#![allow(
    unreachable_pub,
    missing_docs,
    reason = "one binary; nothing is reachable from outside"
)]

mod events;
mod ids;
mod proof;
#[path = "../support/resident.rs"]
mod resident;
mod routes;

use std::process::ExitCode;
use std::time::Duration;

use criterion::Criterion;

/// As the command has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Whoever runs tests of all targets, or lists them, is to wait for nothing.
    if !std::env::args().any(|argument| argument == "--bench") {
        eprintln!("measures under `cargo bench` alone");
        return ExitCode::SUCCESS;
    }
    let named = std::env::args().skip(1).find(|name| !name.starts_with('-'));
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .without_plots()
        .configure_from_args();
    // First, while this process is small.
    let wanted = named.is_none_or(|name| "memory".contains(&name));
    let kept = !wanted || ids::memory();
    proof::measure(&mut criterion);
    events::measure(&mut criterion);
    routes::measure(&mut criterion);
    ids::measure(&mut criterion);
    criterion.final_summary();
    if kept {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

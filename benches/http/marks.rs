//! What is wanted, printed beside what was found; and what the README states,
//! which is held.

use crate::figures::Figures;

/// CPU of a request, to nginx's.
pub const COST: f64 = 1.0;
/// CPU of a request with a large body, to nginx's and that of the HMAC.
pub const COST_WITH_HMAC: f64 = 1.05;
/// The slowest of a hundred, to nginx's.
pub const P99: f64 = 1.1;
/// Memory at rest (bytes).
pub const AT_REST: u64 = 12 * MIB;
/// Memory under the load of 64 connections (bytes).
pub const UNDER_LOAD: u64 = 32 * MIB;
/// From the start of the process to its first answer (milliseconds).
pub const START: f64 = 50.0;

/// README, "Sizing": at rest, 11 MB; half a unit more is still rounded to it (bytes).
pub const STATED_AT_REST: u64 = 11_500_000;
/// README, "Sizing": an open connection between two usual requests, 3 KiB, rounded (bytes).
pub const STATED_CONNECTION: u64 = 3 * 1024 + 512;

pub const MIB: u64 = 1024 * 1024;

/// Prints a mark and whether it was reached, by the median.
pub fn print(what: &str, found: &Figures, mark: f64) {
    let reached = if found.at(0.5) <= mark {
        "reached"
    } else {
        "not reached"
    };
    println!("  mark: {what}, at most {mark}: {found}, {reached}");
}

/// As [`print`], for bytes.
pub fn print_bytes(what: &str, found: u64, mark: u64) {
    let mebibytes = |bytes: u64| bytes as f64 / MIB as f64;
    print(
        &format!("{what} (MiB)"),
        &Figures::of([mebibytes(found)]),
        mebibytes(mark),
    );
}

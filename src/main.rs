//! The `hookward` command.

use std::process::ExitCode;

/// The gateway allocates and frees on every request, on every core.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    hookward::cli::run(std::env::args_os())
}

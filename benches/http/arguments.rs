use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// hookward beside nginx and HAProxy, end to end. See benches/README.md.
#[derive(Parser)]
#[command(name = "cargo bench --bench http --")]
pub struct Arguments {
    /// Bytes of a body.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1024",
        value_name = "BYTES"
    )]
    pub bodies: Vec<usize>,
    /// Connections that press at a time.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "16,64",
        value_name = "COUNT"
    )]
    pub connections: Vec<usize>,
    /// Slices of each target in each setting.
    #[arg(long, default_value_t = 20)]
    pub rounds: usize,
    /// What is measured; all of it unless `--scale` is there.
    #[arg(long, value_delimiter = ',', value_enum, value_name = "WHAT")]
    pub only: Vec<Part>,
    /// One hookward beside one that has much of something.
    #[arg(long, value_delimiter = ',', value_enum, value_name = "WHAT")]
    pub scale: Vec<Scale>,
    /// Another hookward than the one that was built for this.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_hookward"), hide_default_value = true, value_name = "PATH")]
    pub hookward: PathBuf,
    /// One more hookward in the same rounds, to compare two builds.
    #[arg(long, value_name = "PATH")]
    pub beside: Option<PathBuf>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    pub bench: bool,
}

/// A part of the measurement.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// CPU of a request, requests a second.
    Requests,
    /// Latency at 60 % of what nginx can do.
    Latency,
    /// At rest, under load, of a connection.
    Memory,
    /// To the first answer.
    Start,
}

/// What there is much of.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scale {
    /// 10 000 idle connections.
    Connections,
    /// 1 000 sources, to which requests go in turns.
    Sources,
    /// 10 000 routes.
    Rules,
    /// A full ledger of a million ids; takes a minute to fill.
    Ledger,
}

impl Arguments {
    /// Whether this is to be measured.
    pub fn wants(&self, part: Part) -> bool {
        self.only.contains(&part) || (self.only.is_empty() && self.scale.is_empty())
    }
}

use clap::Args;

use super::print::{Complaint, Exit, Print};

/// The file it prints.
const FILE: &str = include_str!("init.toml");

/// Print a small commented configuration to begin with
#[derive(Args)]
#[command(after_help = "Examples:
  hookward init > hookward.toml
  hookward init > hookward.toml && hookward check --no-secrets")]
pub(super) struct Init {}

impl Init {
    pub(super) fn run(self, print: &mut Print<'_>) -> Result<Exit, Complaint> {
        print.data(FILE.trim_end());
        Ok(Exit::Yes)
    }
}

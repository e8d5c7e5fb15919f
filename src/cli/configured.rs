use std::path::PathBuf;

use super::print::Print;
use crate::config::{Config, Origin};
use crate::setting::SecretReader;

/// Loads the configuration for a command that cannot go on without it, and tells
/// its problems. Warnings are for `check` and `serve`, not for every command.
pub(super) fn load(
    file: Option<PathBuf>,
    secrets: SecretReader,
    print: &mut Print<'_>,
) -> Option<Config> {
    match Config::load(&Origin::new(file, secrets)) {
        Ok((config, _)) => Some(config),
        Err(problems) => {
            print.problems(&problems);
            None
        }
    }
}

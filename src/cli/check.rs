use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::print::{Complaint, Exit, Print};
use crate::config::{Config, Origin, Summary};
use crate::setting::{Place, Problem, Problems, SecretReader};

/// Tell every problem of a configuration, or what it says
///
/// Problems go to stderr, the summary of a good configuration to stdout; it
/// holds no secret. Exits 64 on an error; a warning is none.
#[derive(Args)]
#[command(after_help = "Examples:
  hookward check
  hookward check --config deploy/hookward.toml --no-secrets     in CI, where the secrets are not
  hookward check --format json | jq .problems")]
pub(super) struct Check {
    /// The configuration [default: $HOOKWARD_CONFIG, ./hookward.toml, /etc/hookward/hookward.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Read no secret, file or certificate that it names
    #[arg(long)]
    no_secrets: bool,
    /// For people, or one JSON object {"ok","problems","summary"} on stdout
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl Check {
    pub(super) fn run(self, print: &mut Print<'_>) -> Result<Exit, Complaint> {
        let secrets = if self.no_secrets {
            SecretReader::Skip
        } else {
            SecretReader::Process
        };
        let (summary, problems) = match Config::load(&Origin::new(self.config, secrets)) {
            Ok((config, warnings)) => (Some(config.summary()), warnings),
            Err(problems) => (None, problems),
        };
        match self.format {
            Format::Text => {
                print.problems(&problems);
                if let Some(summary) = &summary {
                    print.data(summary.to_string().trim_end());
                }
            }
            Format::Json => print.data(object(summary.as_ref(), &problems)),
        }
        Ok(match summary {
            Some(_) => Exit::Yes,
            None => Exit::Usage,
        })
    }
}

fn object(summary: Option<&Summary>, problems: &Problems) -> serde_json::Value {
    let problem = |problem: &Problem| {
        json!({
            "severity": problem.severity.word(),
            "key": problem.key,
            "message": problem.message,
            "place": match &problem.place {
                Place::Nowhere => None,
                place => Some(place.to_string()),
            },
            "hint": problem.hint,
        })
    };
    json!({
        "ok": summary.is_some(),
        "problems": problems.iter().map(problem).collect::<Vec<_>>(),
        "summary": summary,
    })
}

use std::path::PathBuf;
use std::time::SystemTime;

use clap::Args;

use super::body;
use super::print::{Complaint, Exit, Print};
use super::signing::{self, Signer};
use crate::message::{Family, MessageId, Timestamp};

/// Print the three signature headers for a body
///
/// The body is signed exactly as read, to the last byte: a newline at its end is
/// part of it. While a secret rotates, `--secret` may hold several keys; each
/// symmetric one signs.
#[derive(Args)]
#[command(after_help = "Examples:
  hookward sign --secret env:CLERK_SECRET body.json
  printf '{\"type\":\"ping\"}' | hookward sign --secret file:/run/secrets/clerk --family webhook")]
pub(super) struct Sign {
    /// The signing key: env:NAME, file:/path or the key itself
    #[arg(long, value_name = "REF")]
    secret: String,
    /// Which header names to use
    #[arg(long, default_value = "svix", value_parser = signing::family())]
    family: Family,
    /// The message id [default: a new one]
    #[arg(long, value_parser = signing::id)]
    id: Option<MessageId>,
    /// The signed time in Unix seconds [default: now]
    #[arg(long, value_name = "T", value_parser = signing::timestamp)]
    timestamp: Option<Timestamp>,
    /// The body; `-` or none reads stdin
    #[arg(value_name = "BODYFILE")]
    body: Option<PathBuf>,
}

impl Sign {
    pub(super) fn run(self, print: &mut Print<'_>) -> Result<Exit, Complaint> {
        let signer = Signer::told(&self.secret, self.family, print)?;
        let id = self.id.unwrap_or_else(signing::new_id);
        let body = body::read(self.body.as_ref(), print)?;
        let timestamp = match self.timestamp {
            Some(timestamp) => timestamp,
            None => signing::timestamp_of(SystemTime::now())?,
        };
        for (name, value) in signer.headers(&id, &timestamp, &body) {
            // Everything in the three headers is visible ASCII by construction.
            print.data(format_args!(
                "{name}: {}",
                value.to_str().unwrap_or_default()
            ));
        }
        Ok(Exit::Yes)
    }
}

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::Method;
use http::header::AUTHORIZATION;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::admin::{self, Admin};
use super::client::{self, Answer, Client};
use super::print::{Complaint, Exit, Print};
use super::signing;
use crate::message::MessageId;
use crate::setting::{Name, Secret, SecretReader};

/// Longer than the ledger of a million ids takes to look through.
const TIMEOUT: Duration = Duration::from_secs(15);

/// What may stand bare in a path segment and in a query value (RFC 3986 §2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~');

/// Make a running hookward forget that an id was delivered, so that it is delivered again
///
/// Asks the admin listener, with `admin.token` of the configuration. Afterwards
/// the sender's next attempt or resend runs as if it were the first.
#[derive(Args)]
#[command(after_help = "Examples:
  hookward forget clerk msg_27UH4WbU6Z5A5EzD8u03UvzRbpk
  hookward forget clerk msg_27UH4WbU6Z5A5EzD8u03UvzRbpk --destination billing
  hookward forget clerk --since 2h")]
pub(super) struct Forget {
    /// The source whose id it is
    #[arg(value_name = "SOURCE", value_parser = name)]
    source: Name,
    /// The message id
    #[arg(value_name = "ID", value_parser = signing::id, required_unless_present = "since")]
    id: Option<MessageId>,
    /// Every id that was delivered in this time, instead of one
    #[arg(long, value_name = "D", value_parser = signing::duration, conflicts_with_all = ["id", "destination"])]
    since: Option<Duration>,
    /// Forget only that this destination accepted it
    #[arg(long, value_name = "NAME", value_parser = name)]
    destination: Option<Name>,
    /// The admin token, instead of the configuration's: env:NAME, file:/path or the token itself
    #[arg(long, value_name = "REF")]
    token: Option<String>,
    #[command(flatten)]
    admin: Admin,
}

/// What the admin listener tells about a deletion by time.
#[derive(Deserialize)]
struct Count {
    forgotten: u64,
}

impl Forget {
    pub(super) fn run(self, print: &mut Print<'_>) -> Result<Exit, Complaint> {
        let secrets = match self.token {
            Some(_) => SecretReader::Skip,
            None => SecretReader::Process,
        };
        let (target, configured) = self.admin.find(&self.path(), secrets, print)?;
        let given = self.token.as_deref();
        let token = match given.map(|given| signing::secret("--token", given)) {
            Some(given) => Some(given?),
            None => configured,
        };
        let bearer = token.as_ref().and_then(Secret::expose);
        let bearer = bearer.map(admin::bearer).transpose()?;
        let mut client = Client::new(target, TIMEOUT, None)?;
        let bearer = bearer.map(|value| (AUTHORIZATION, value));
        let answer = client::block_on(async {
            let asked = client.ask(Method::DELETE, bearer, Bytes::new()).await;
            asked.map_err(|trouble| trouble.complaint(admin::NOBODY))
        })?;
        print.data(self.told(&answer, token.is_some())?);
        Ok(Exit::Yes)
    }

    fn path(&self) -> String {
        let encoded = |text: &str| utf8_percent_encode(text, SEGMENT).to_string();
        let source = encoded(self.source.as_str());
        match (&self.id, &self.since, &self.destination) {
            (Some(id), _, None) => format!("/ledger/{source}/{}", encoded(id.as_str())),
            (Some(id), _, Some(destination)) => format!(
                "/ledger/{source}/{}?destination={}",
                encoded(id.as_str()),
                encoded(destination.as_str())
            ),
            (None, since, _) => {
                let since = humantime::format_duration(since.unwrap_or_default());
                format!("/ledger/{source}?since={}", encoded(&since.to_string()))
            }
        }
    }

    /// What happened, in words.
    fn told(&self, answer: &Answer, had_token: bool) -> Result<String, Complaint> {
        let source = &self.source;
        match (answer.status.as_u16(), &self.id, &self.destination) {
            (200..=299, Some(id), None) => Ok(format!("forgot {id} of {source}")),
            (200..=299, Some(id), Some(destination)) => {
                Ok(format!("forgot that {destination} accepted {id} of {source}"))
            }
            (200..=299, None, _) => {
                let count: Count = serde_json::from_slice(&answer.body).map_err(|_| {
                    Complaint::failed("the admin listener's answer is not hookward's")
                })?;
                let ids = if count.forgotten == 1 { "id" } else { "ids" };
                Ok(format!("forgot {} {ids} of {source}", count.forgotten))
            }
            (401, ..) if !had_token => Err(Complaint::failed("the admin listener wants a token")
                .hint("set `admin.token` in the configuration this reads too, or give it with `--token`")),
            (401, ..) => Err(Complaint::failed("the admin listener does not take this token")
                .hint("it wants `admin.token` of the configuration it runs with; name another with `--token`")),
            (403, ..) => Err(Complaint::failed("the running hookward has no `admin.token`, so nobody may do this")
                .hint("set `admin.token`, at least 16 bytes, and reload")),
            (404, Some(id), Some(destination)) => Err(Complaint::failed(format!(
                "`{source}` has no record that `{destination}` accepted `{id}`"
            ))
            .hint("an id is known once it was delivered, and until `ledger.retention` has passed; destinations are told by `hookward check`")),
            (404, Some(id), None) => Err(Complaint::failed(format!("`{source}` has no record of `{id}`"))
                .hint("an id is known once it was delivered, and until `ledger.retention` has passed; sources are told by `hookward check`")),
            (404, None, _) => Err(Complaint::failed(format!("the running hookward has no source `{source}`"))
                .hint("`hookward check` tells its sources")),
            (409, ..) => Err(Complaint::failed("the id is being delivered right now")
                .hint("try again when it has ended")),
            (status, ..) => Err(Complaint::failed(format!("the admin listener answers {status}"))),
        }
    }
}

fn name(text: &str) -> Result<Name, String> {
    Name::parse(text).ok_or_else(|| Name::FORM.into())
}

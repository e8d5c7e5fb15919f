use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use clap::Args;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method};
use serde::Serialize;
use serde_json::value::RawValue;

use super::body;
use super::client::{self, Client, Target};
use super::print::{Complaint, Exit, Print};
use super::signing::{self, Signer};
use crate::message::{EventType, Family, MessageId};
use crate::observe;

/// Svix gives up then, so a sender that waits longer would be told nothing true.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Sign a message and post it, as a sender does
///
/// Prints a line a request: status, hookward's word for it (`-` from others),
/// message id, time taken. Exits 0 only when every answer was a 2xx.
#[derive(Args)]
#[command(after_help = "Examples:
  hookward send http://127.0.0.1:8080/clerk --secret env:CLERK_SECRET --type user.created
  hookward send http://127.0.0.1:8080/clerk --secret env:CLERK_SECRET body.json
  hookward send … --type ping --id msg_1 --count 2   the second one is a duplicate
  hookward send … --type ping --tamper               401: the body was changed after signing
  hookward send … --type ping --age 10m              401: too old")]
pub(super) struct Send {
    /// Where to: http://…, https://… or unix:/path:/request/path
    #[arg(value_name = "URL")]
    url: String,
    /// The signing key: env:NAME, file:/path or the key itself
    #[arg(long, value_name = "REF")]
    secret: String,
    /// The body, sent exactly as read; `-` or none reads stdin
    #[arg(value_name = "BODYFILE", conflicts_with = "event_type")]
    body: Option<PathBuf>,
    /// Make the body {"type","timestamp","data"} with this type
    #[arg(long = "type", value_name = "T", value_parser = signing::event_type)]
    event_type: Option<EventType>,
    /// The data of a body made with --type [default: {}]
    #[arg(long, value_name = "JSON", requires = "event_type", allow_hyphen_values = true, value_parser = json)]
    data: Option<Box<RawValue>>,
    /// The message id [default: a new one for each]
    #[arg(long, value_parser = signing::id)]
    id: Option<MessageId>,
    /// Sign as if it were this long ago
    #[arg(long, value_name = "D", value_parser = signing::duration)]
    age: Option<Duration>,
    /// Change one byte of the body after signing
    #[arg(long)]
    tamper: bool,
    /// How many to send, one after the other
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Which header names to use
    #[arg(long, default_value = "svix", value_parser = signing::family())]
    family: Family,
    /// The certificates to trust (PEM) instead of the system's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl Send {
    pub(super) fn run(self, print: &mut Print<'_>) -> Result<Exit, Complaint> {
        let target = Target::parse(&self.url)
            .map_err(|problem| Complaint::usage(format!("`URL` {problem}")))?;
        let signer = Signer::told(&self.secret, self.family, print)?;
        let client = Client::new(target, TIMEOUT, self.ca.as_deref())?;
        let body = match &self.event_type {
            Some(event_type) => self.made_body(event_type)?,
            None => body::read(self.body.as_ref(), print)?,
        };
        client::block_on(self.send(client, &signer, &body, print))
    }

    async fn send(
        &self,
        mut client: Client,
        signer: &Signer,
        body: &Bytes,
        print: &mut Print<'_>,
    ) -> Result<Exit, Complaint> {
        let sent = if self.tamper {
            tampered(body)
        } else {
            body.clone()
        };
        let mut all_accepted = true;
        for _ in 0..self.count {
            if print.is_lost() {
                break;
            }
            let id = self.id.clone().unwrap_or_else(signing::new_id);
            let timestamp = signing::timestamp_of(self.signed_at()?)?;
            let json = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
            let headers = signer
                .headers(&id, &timestamp, body)
                .into_iter()
                .chain([json]);
            let answer = client
                .ask(Method::POST, headers, sent.clone())
                .await
                .map_err(|trouble| {
                    trouble.complaint("is hookward running there? start it with `hookward serve`")
                })?;
            all_accepted &= answer.status.is_success();
            let word = answer.header("hookward-result").unwrap_or("-");
            let elapsed = answer.elapsed.as_secs_f64() * 1000.0;
            print.data(format_args!(
                "{} {word} {id} {elapsed:.1}ms",
                answer.status.as_u16()
            ));
        }
        Ok(Exit::answer(all_accepted))
    }

    fn signed_at(&self) -> Result<SystemTime, Complaint> {
        SystemTime::now()
            .checked_sub(self.age.unwrap_or_default())
            .ok_or_else(|| Complaint::usage("`--age` goes back before all time"))
    }

    fn made_body(&self, event_type: &EventType) -> Result<Bytes, Complaint> {
        #[derive(Serialize)]
        struct Made<'a> {
            r#type: &'a str,
            timestamp: String,
            data: Option<&'a RawValue>,
        }
        let empty = RawValue::from_string("{}".into()).ok();
        let made = Made {
            r#type: event_type.as_str(),
            timestamp: observe::rfc3339(self.signed_at()?),
            data: self.data.as_deref().or(empty.as_deref()),
        };
        serde_json::to_vec(&made)
            .map(Bytes::from)
            .map_err(|error| Complaint::failed(format!("cannot make the body: {error}")))
    }
}

/// The body with one byte changed, in its middle; one byte where there was none.
pub(super) fn tampered(body: &Bytes) -> Bytes {
    let mut changed = body.to_vec();
    let middle = changed.len() / 2;
    match changed.get_mut(middle) {
        Some(byte) => *byte ^= 1,
        None => changed.push(b' '),
    }
    changed.into()
}

fn json(text: &str) -> Result<Box<RawValue>, String> {
    RawValue::from_string(text.into()).map_err(|error| format!("not JSON: {error}"))
}

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use clap::Args;

use super::print::{Complaint, Exit, Print};
use super::{body, signing};
use crate::message::{
    Headers, Origin, Protocol, Received, RequestId, Verified, is_header_name, is_header_value,
};
use crate::observe::Metrics;
use crate::setting::{OffOr, Secret};
use crate::verify::{Diagnosis, NamedKey, Rejection, Verifier, VerifyConfig, VerifyKeys, diagnose};

/// What a source grants when its file does not say.
const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// Check a request as the server would, and name every check that fails
///
/// Prints `valid`, or a line `problem: hint` for each failing check and exits 1.
/// Headers other than the signature family's are ignored.
#[derive(Args)]
#[command(after_help = "Examples:
  hookward verify --secret env:CLERK_SECRET --header 'svix-id: msg_1' \\
      --header 'svix-timestamp: 1649367553' --header 'svix-signature: v1,…' body.json
  hookward verify … --at 1649367553 body.json      as it was on arrival
  hookward verify … --tolerance off body.json      however old it is")]
pub(super) struct Verify {
    /// The keys: env:NAME, file:/path or the keys themselves
    #[arg(long, value_name = "REF")]
    secret: String,
    /// A header of the request, once for each
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Check as of this moment, in Unix seconds or RFC 3339 [default: now]
    #[arg(long, value_name = "T", value_parser = signing::moment)]
    at: Option<SystemTime>,
    /// How far the signed time may be off, or `off` for any time ago [default: 5m]
    #[arg(long, value_name = "D", value_parser = tolerance)]
    tolerance: Option<OffOr<Duration>>,
    /// The body exactly as it was sent; `-` or none reads stdin
    #[arg(value_name = "BODYFILE")]
    body: Option<PathBuf>,
}

impl Verify {
    pub(super) fn run(self, print: &mut Print<'_>) -> Result<Exit, Complaint> {
        let secret = signing::secret("--secret", &self.secret)?;
        let config = self.config(&secret, print)?;
        let metrics = Metrics::new()
            .map_err(|error| Complaint::failed(format!("cannot prepare the check: {error}")))?;
        let verifier = Verifier::new(&config, |key| metrics.key("verify", key));
        let headers = self.headers()?;
        let body = body::read(self.body.as_ref(), print)?;
        let now = self.at.unwrap_or_else(SystemTime::now);
        let Err(rejection) = prove(&verifier, headers, body.clone(), now) else {
            print.data("valid");
            return Ok(Exit::Yes);
        };
        let findings = diagnose(&Diagnosis {
            headers: &self.headers,
            secrets: std::slice::from_ref(&secret),
            body: &body,
            now,
            tolerance: config.tolerance,
            future_tolerance: config.future_tolerance,
        });
        for finding in &findings {
            print.data(format_args!("{}: {}", finding.problem, finding.hint));
        }
        if findings.is_empty() {
            print.data(rejection);
        }
        Ok(Exit::No)
    }

    fn config(&self, secret: &Secret, print: &mut Print<'_>) -> Result<VerifyConfig, Complaint> {
        let named = |(index, key): (usize, _)| NamedKey {
            name: (index + 1).to_string().into(),
            source: secret.source().clone(),
            keys: vec![key],
        };
        let keys = signing::keys(secret)?;
        signing::warn_of_short(&keys, print);
        let tolerance = self.tolerance.unwrap_or(OffOr::On(TOLERANCE));
        Ok(VerifyConfig {
            keys: VerifyKeys::Keys(keys.into_iter().enumerate().map(named).collect()),
            tolerance,
            future_tolerance: tolerance.on().unwrap_or(TOLERANCE),
        })
    }

    fn headers(&self) -> Result<Headers, Complaint> {
        for (name, value) in &self.headers {
            let bad = |what| Err(Complaint::usage(format!("`--header` holds {what}")));
            if !is_header_name(name.as_bytes()) {
                return bad("something before `:` that is not a header name");
            }
            if !is_header_value(value.as_bytes()) {
                return bad("a value with control characters");
            }
        }
        let pairs = self.headers.iter();
        Ok(pairs.map(|(name, value)| (name, value)).collect())
    }
}

/// Takes the way of the server: head first, then the signatures.
fn prove(
    verifier: &Verifier,
    headers: Headers,
    body: Bytes,
    now: SystemTime,
) -> Result<Verified, Rejection> {
    let envelope = verifier.admit(&headers, now)?;
    let received = Received {
        source: Arc::from("verify"),
        origin: Origin {
            request: RequestId::new(),
            client: None,
            protocol: Some(Protocol::Http),
        },
        envelope,
        headers,
        body,
    };
    verifier.verify(received, now)
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once(':')
        .ok_or("a header is written `name: value`")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn tolerance(text: &str) -> Result<OffOr<Duration>, String> {
    match text {
        "off" => Ok(OffOr::Off),
        _ => signing::duration(text).map(OffOr::On),
    }
}

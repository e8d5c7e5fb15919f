//! Why a request is not valid, for a person who has to find out: every check
//! that fails, and the likely cause, found by trying what people really meet.
//!
//! It is never on the path of a request, and it prints neither a secret nor a
//! signature that would have been right.

mod body;
mod header;
mod json;
mod search;
mod secret;
mod signature;

#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Rejection;
use super::window::Window;
use crate::message::{Headers, Timestamp, is_header_name, is_header_value};
use crate::observe::rfc3339;
use crate::setting::{OffOr, Secret};
use header::Head;
use search::Search;

/// A request to be looked into.
pub struct Diagnosis<'a> {
    /// The headers as they were given: names in any case, values as they are.
    pub headers: &'a [(String, String)],
    /// The secrets; each may hold several keys.
    pub secrets: &'a [Secret],
    /// The body, the very bytes.
    pub body: &'a [u8],
    /// The time the window is checked at.
    pub now: SystemTime,
    /// How long ago it may have been signed.
    pub tolerance: OffOr<Duration>,
    /// How far ahead of `now` it may have been signed.
    pub future_tolerance: Duration,
}

/// One check that failed. Printed as `problem: hint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub problem: String,
    /// The likely cause and the way out.
    pub hint: String,
}

impl Finding {
    fn new(problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            hint: hint.into(),
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.problem, self.hint)
    }
}

/// Looks into a request: every check that fails, with the likely cause. Empty
/// when, and only when, a source with these secrets would have taken it.
pub fn diagnose(request: &Diagnosis<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let headers = carried(request.headers, &mut findings);
    let head = Head::read(&headers, &mut findings);
    if let Some(timestamp) = head.timestamp.as_deref().and_then(Timestamp::parse) {
        findings.extend(outside_window(request, timestamp.seconds()));
    }
    let keys = secret::read(request.secrets, &mut findings);
    let claims = signature::claims(&head, &mut findings);
    let search = Search {
        head: &head,
        keys: &keys,
        claims: &claims,
        body: request.body,
    };
    findings.extend(search.run());
    findings
}

/// The headers as the server would see them; what HTTP does not carry is told.
fn carried(headers: &[(String, String)], findings: &mut Vec<Finding>) -> Headers {
    let mut carried = Vec::new();
    for (name, value) in headers {
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        if !is_header_name(name.as_bytes()) {
            findings.push(Finding::new(
                "a header has no name that HTTP knows",
                "write `name: value`, as in `svix-id: msg_1`",
            ));
        } else if !is_header_value(value.as_bytes()) {
            findings.push(Finding::new(
                format!("`{name}` holds a control character, which no header may"),
                "was a line break copied along? give the value in one line",
            ));
        } else {
            carried.push((name, value));
        }
    }
    carried.into_iter().collect()
}

fn outside_window(request: &Diagnosis<'_>, signed: u64) -> Option<Finding> {
    let window = Window {
        tolerance: request.tolerance,
        future_tolerance: request.future_tolerance,
    };
    let rejection = window.check(signed, request.now).err()?;
    let now = request
        .now
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let distance = now.abs_diff(signed);
    let zone = match distance % 1800 {
        0..=60 | 1740.. if (1800..=14 * 3600 + 60).contains(&distance) => {
            "; it is off by a time zone: the sender has to sign Unix time, which is UTC"
        }
        _ => "",
    };
    let at = UNIX_EPOCH + Duration::from_secs(signed);
    let (when, hint) = match rejection {
        Rejection::TooOld { .. } => (
            "ago",
            "a captured request is stale by now: check it as of then with `--at`; if it has just \
             been sent, compare the sender's clock and this one, and ask whether it waited in a queue",
        ),
        _ => (
            "ahead",
            "the sender's clock runs ahead, or this one behind: compare both with NTP",
        ),
    };
    Some(Finding::new(
        format!(
            "signed {} {when}, at {}, which is outside the tolerance",
            humantime::format_duration(Duration::from_secs(distance)),
            rfc3339(at),
        ),
        format!("{hint}{zone}"),
    ))
}

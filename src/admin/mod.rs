//! The admin listener: health, readiness and metrics for everyone who can reach
//! it; status, refusals, ledger and reload for whoever has the token.
//!
//! What it tells and does stands behind [`Subject`], so that this room knows
//! HTTP and words, and nothing of how a gateway is built.

mod status;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::json;
use subtle::ConstantTimeEq as _;

pub use status::{DestinationStatus, KeyStatus, SourceStatus, Status};

use crate::ledger::{Forgotten, LedgerAway, Look};
use crate::listen::{Request, Response};
use crate::message::HeaderText;
use crate::observe::{RecentRefusal, rfc3339};
use crate::setting::{Problem, Problems};

/// What the admin listener tells of and acts on: the running hookward.
pub trait Subject: Send + Sync + 'static {
    /// Whether it may be sent requests, and what is away.
    fn readiness(&self) -> Readiness;
    /// Every metric as Prometheus text; none when that failed.
    fn metrics(&self) -> Option<String>;
    /// What there is and how it is doing.
    fn status(&self) -> Status;
    /// The last refusals, the newest first.
    fn refusals(&self) -> Vec<RecentRefusal>;
    /// What the ledger knows of an id.
    fn look_up(
        &self,
        source: &str,
        id: &str,
    ) -> impl Future<Output = Result<Option<Look>, LedgerAway>> + Send;
    /// Makes the ledger forget an id, or the receipt of one destination.
    fn forget(
        &self,
        source: &str,
        id: &str,
        destination: Option<&str>,
    ) -> impl Future<Output = Result<Forgotten, LedgerAway>> + Send;
    /// Makes the ledger forget the ids of a source with receipts since then;
    /// how many. None for an unknown source.
    fn forget_since(
        &self,
        source: &str,
        since: SystemTime,
    ) -> impl Future<Output = Result<Option<u64>, LedgerAway>> + Send;
    /// Reads the configuration again and takes it over if it is good.
    fn reload(&self) -> impl Future<Output = Result<Problems, Problems>> + Send;
    /// Whether `given` is the token; none when there is no token.
    fn allows(&self, given: &[u8]) -> Option<bool>;
    /// The time.
    fn now(&self) -> SystemTime;
}

/// Whether hookward may be sent requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Why not: `starting`, `draining`. None when it may.
    pub not_ready: Option<&'static str>,
    /// What is away, a line each; requests that need it are refused.
    pub degraded: Vec<String>,
}

/// An answer in the place of an error, boxed because it is large.
type Refused = Box<Response>;

/// Whether two tokens are the same, without telling by the time it takes where
/// they differ.
pub fn same_token(given: &[u8], token: &str) -> bool {
    given.ct_eq(token.as_bytes()).into()
}

/// Answers one request to the admin listener.
pub async fn answer<S: Subject>(subject: Arc<S>, request: Request) -> Response {
    let path = request.target.path();
    let query = request.target.query();
    let method = &request.method;
    let reading = matches!(*method, Method::GET | Method::HEAD);
    match path {
        "/healthz" if reading => text(StatusCode::OK, "ok\n".into()),
        "/readyz" if reading => ready(subject.readiness(), query),
        "/metrics" if reading => metrics(subject.metrics()),
        "/healthz" | "/readyz" | "/metrics" => wrong_method("GET"),
        // Who may not ask is not told what there is, either.
        _ => match permit(&*subject, &request).and_then(|()| Action::find(method, path, query)) {
            Err(refused) => *refused,
            Ok(action) => act(&*subject, action).await,
        },
    }
}

/// What only the holder of the token may do.
enum Action {
    Status,
    Refusals,
    LookUp(String, String),
    Forget(String, String, Option<String>),
    ForgetSince(String, Duration),
    Reload,
}

impl Action {
    fn find(method: &Method, path: &str, query: &str) -> Result<Self, Refused> {
        let mut parts = path.strip_prefix('/').unwrap_or("").splitn(3, '/');
        let first = parts.next().unwrap_or("");
        let source = parts.next().map(decoded);
        let id = parts.next().map(decoded);
        let reading = matches!(*method, Method::GET | Method::HEAD);
        match (first, source, id) {
            ("status", None, None) if reading => Ok(Action::Status),
            ("refusals", None, None) if reading => Ok(Action::Refusals),
            ("reload", None, None) if *method == Method::POST => Ok(Action::Reload),
            ("status" | "refusals", None, None) => Err(wrong_method("GET").into()),
            ("reload", None, None) => Err(wrong_method("POST").into()),
            ("ledger", Some(source), Some(id)) if !id.is_empty() => {
                if reading {
                    Ok(Action::LookUp(source, id))
                } else if *method == Method::DELETE {
                    only(query, "destination")?;
                    Ok(Action::Forget(source, id, parameter(query, "destination")))
                } else {
                    Err(wrong_method("GET, DELETE").into())
                }
            }
            ("ledger", Some(source), _) if *method == Method::DELETE => {
                only(query, "since")?;
                let since = parameter(query, "since")
                    .and_then(|since| humantime::parse_duration(&since).ok());
                match since {
                    Some(since) => Ok(Action::ForgetSince(source, since)),
                    None => Err(error(
                        StatusCode::BAD_REQUEST,
                        "`since` is missing or not a duration, as in `?since=2h`",
                    )
                    .into()),
                }
            }
            ("ledger", Some(_), _) => Err(wrong_method("DELETE").into()),
            _ => Err(error(StatusCode::NOT_FOUND, "no such path").into()),
        }
    }
}

fn permit<S: Subject>(subject: &S, request: &Request) -> Result<(), Refused> {
    let given = request
        .headers
        .get(AUTHORIZATION.as_str())
        .map(HeaderText::as_bytes)
        .and_then(bearer)
        .unwrap_or_default();
    match subject.allows(given) {
        Some(true) => Ok(()),
        Some(false) => {
            let refused = error(
                StatusCode::UNAUTHORIZED,
                "send `Authorization: Bearer` with `admin.token`",
            );
            Err(refused.with(WWW_AUTHENTICATE, "Bearer").into())
        }
        None => Err(error(StatusCode::FORBIDDEN, "set `admin.token` to use this path").into()),
    }
}

/// The token of an `Authorization` header (RFC 6750 §2.1; the scheme in any case).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| token.trim_ascii())
}

async fn act<S: Subject>(subject: &S, action: Action) -> Response {
    match action {
        Action::Status => json_answer(StatusCode::OK, &json!(subject.status())),
        Action::Refusals => {
            let refusals: Vec<_> = subject.refusals().iter().map(refusal).collect();
            json_answer(StatusCode::OK, &json!({ "refusals": refusals }))
        }
        Action::LookUp(source, id) => match subject.look_up(&source, &id).await {
            Ok(Some(look)) => json_answer(StatusCode::OK, &looked_up(&source, &id, &look)),
            Ok(None) => error(StatusCode::NOT_FOUND, "the ledger does not know this id"),
            Err(away) => ledger_away(&away),
        },
        Action::Forget(source, id, destination) => {
            match subject.forget(&source, &id, destination.as_deref()).await {
                Ok(Forgotten::Done) => empty(StatusCode::NO_CONTENT),
                Ok(Forgotten::Unknown) => {
                    let told = match destination {
                        None => "the ledger does not know this id",
                        Some(_) => "the ledger knows no receipt of this destination for this id",
                    };
                    error(StatusCode::NOT_FOUND, told)
                }
                Ok(Forgotten::Running) => error(StatusCode::CONFLICT, "the id is running"),
                Err(away) => ledger_away(&away),
            }
        }
        Action::ForgetSince(source, since) => {
            let since = subject
                .now()
                .checked_sub(since)
                .unwrap_or(SystemTime::UNIX_EPOCH);
            match subject.forget_since(&source, since).await {
                Ok(Some(forgotten)) => {
                    json_answer(StatusCode::OK, &json!({ "forgotten": forgotten }))
                }
                Ok(None) => error(StatusCode::NOT_FOUND, "no such source"),
                Err(away) => ledger_away(&away),
            }
        }
        Action::Reload => reload(subject).await,
    }
}

async fn reload(subject: &impl Subject) -> Response {
    if let Some(word) = subject.readiness().not_ready {
        return error(StatusCode::SERVICE_UNAVAILABLE, word);
    }
    match subject.reload().await {
        Ok(warnings) => json_answer(
            StatusCode::OK,
            &json!({ "result": "ok", "warnings": told(warnings.warnings()) }),
        ),
        Err(problems) => json_answer(
            StatusCode::UNPROCESSABLE_ENTITY,
            &json!({
                "error": "refused",
                "problems": told(problems.errors()),
                "warnings": told(problems.warnings()),
            }),
        ),
    }
}

fn told<'p>(problems: impl Iterator<Item = &'p Problem>) -> Vec<String> {
    problems.map(ToString::to_string).collect()
}

fn refusal(refusal: &RecentRefusal) -> serde_json::Value {
    json!({
        "time": rfc3339(refusal.time),
        "source": &*refusal.source,
        "reason": refusal.reason,
        "id": refusal.id,
    })
}

fn looked_up(source: &str, id: &str, look: &Look) -> serde_json::Value {
    let destinations: Vec<_> = look
        .destinations
        .iter()
        .map(|(name, time)| json!({ "destination": &**name, "accepted": rfc3339(*time) }))
        .collect();
    json!({
        "source": source,
        "id": id,
        "state": look.state.word(),
        "signed": look.signed,
        "first": look.first.map(rfc3339),
        "destinations": destinations,
    })
}

fn ready(readiness: Readiness, query: &str) -> Response {
    let mut lines = String::new();
    if let Some(why) = readiness.not_ready {
        lines.push_str(why);
        lines.push('\n');
    }
    for away in &readiness.degraded {
        lines.push_str("degraded: ");
        lines.push_str(away);
        lines.push('\n');
    }
    let strict = parameter(query, "strict").is_some_and(|value| value != "0" && value != "false");
    let bad = readiness.not_ready.is_some() || (strict && !readiness.degraded.is_empty());
    if lines.is_empty() {
        lines.push_str("ready\n");
    }
    let status = if bad {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    text(status, lines)
}

fn metrics(metrics: Option<String>) -> Response {
    let Some(metrics) = metrics else {
        return error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the metrics cannot be written",
        );
    };
    document(
        StatusCode::OK,
        "text/plain; version=0.0.4; charset=utf-8",
        metrics,
    )
}

/// The value of a query parameter, percent-decoded; empty when it has none.
fn parameter(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then(|| decoded(value))
    })
}

/// Makes sure that a query says nothing but that, and once: what would go unheard
/// might have spared something.
fn only(query: &str, name: &str) -> Result<(), Refused> {
    let keys = || query.split('&').filter(|pair| !pair.is_empty());
    let known = keys().all(|pair| pair.split('=').next() == Some(name));
    (known && keys().count() <= 1).then_some(()).ok_or_else(|| {
        let told = format!("the query may say `{name}=…` here, once, and nothing else");
        error(StatusCode::BAD_REQUEST, &told).into()
    })
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn wrong_method(allowed: &'static str) -> Response {
    error(StatusCode::METHOD_NOT_ALLOWED, "not this method").with(ALLOW, allowed)
}

fn error(status: StatusCode, message: &str) -> Response {
    json_answer(status, &json!({ "error": message }))
}

fn ledger_away(away: &LedgerAway) -> Response {
    error(StatusCode::SERVICE_UNAVAILABLE, &away.to_string())
}

fn json_answer(status: StatusCode, value: &serde_json::Value) -> Response {
    document(status, "application/json", format!("{value}\n"))
}

fn text(status: StatusCode, body: String) -> Response {
    document(status, "text/plain; charset=utf-8", body)
}

fn document(status: StatusCode, content_type: &'static str, body: String) -> Response {
    Response::new(status, body)
        .with(CONTENT_TYPE, content_type)
        .with(CACHE_CONTROL, "no-store")
}

fn empty(status: StatusCode) -> Response {
    Response::new(status, "")
}

#[cfg(test)]
mod tests;

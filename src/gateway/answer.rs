use std::time::SystemTime;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, StatusCode};

use super::refusal::{Refusal, status};
use crate::deliver::Reason;
use crate::ledger::Told;
use crate::listen::Response;
use crate::message::{MessageId, RequestId};
use crate::observe::{AttemptOutcome, RequestResult, rfc3339};

/// A yes: what a request that was not refused is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Every matched required destination accepted.
    Delivered,
    /// The id was delivered before.
    Duplicate {
        /// When it was.
        first: SystemTime,
    },
    /// No rule wanted it, and the source accepts that.
    Unmatched,
}

/// What a request ended in. The same for all who waited for one id.
pub type Outcome = Result<Answer, Refusal>;

/// Whether a signed message that ended so speaks for who sent it. One that was
/// delivered before may be a copy in the hands of a stranger, and so may one that
/// leaves no id behind, because nobody wanted it.
pub(super) fn is_news(outcome: &Outcome) -> bool {
    !matches!(
        outcome,
        Ok(Answer::Duplicate { .. } | Answer::Unmatched)
            | Err(Refusal::Conflict { .. }
                | Refusal::Untyped
                | Refusal::Unnamed(_)
                | Refusal::Unmatched)
    )
}

impl Told for Outcome {
    fn write(&self) -> String {
        let result = match self {
            Ok(answer) => Some(answer.result()),
            Err(refusal) => refusal.result(),
        };
        result.map_or("", RequestResult::word).to_owned()
    }

    fn read(text: &str) -> Option<Self> {
        let mut results = RequestResult::ALL.iter();
        match results.find(|result| result.word() == text)? {
            RequestResult::Delivered => Some(Ok(Answer::Delivered)),
            result @ (RequestResult::Failed
            | RequestResult::Late
            | RequestResult::Unavailable
            | RequestResult::Busy) => Some(Err(Refusal::Elsewhere(*result))),
            _ => None,
        }
    }
}

impl Answer {
    pub(crate) fn result(self) -> RequestResult {
        match self {
            Answer::Delivered => RequestResult::Delivered,
            Answer::Duplicate { .. } => RequestResult::Duplicate,
            Answer::Unmatched => RequestResult::Unmatched,
        }
    }
}

const RESULT: HeaderName = HeaderName::from_static("hookward-result");
const REQUEST: HeaderName = HeaderName::from_static("hookward-request");
const FIRST: HeaderName = HeaderName::from_static("hookward-first");
const JSON: &str = "application/json";

/// The response of a yes.
pub(crate) fn accepted(answer: Answer, id: Option<&MessageId>, request: &RequestId) -> Response {
    let result = answer.result();
    let mut body = Vec::with_capacity(320);
    body.extend_from_slice(b"{\"result\":\"");
    body.extend_from_slice(result.word().as_bytes());
    body.push(b'"');
    if let Some(id) = id {
        body.extend_from_slice(b",\"id\":\"");
        for &byte in id.as_bytes() {
            // An id is visible ASCII: these two are all that JSON escapes in it.
            if matches!(byte, b'"' | b'\\') {
                body.push(b'\\');
            }
            body.push(byte);
        }
        body.push(b'"');
    }
    body.push(b'}');
    let response = respond(status(result, false), result, request, body.into());
    match answer {
        Answer::Duplicate { first } => response.with(FIRST, rfc3339(first)),
        Answer::Delivered | Answer::Unmatched => response,
    }
}

/// The response of a no: a word and nothing else, so that a stranger learns nothing.
pub(crate) fn refused(refusal: &Refusal, request: &RequestId) -> Response {
    let Some(result) = refusal.result() else {
        return Response::new(StatusCode::BAD_REQUEST, Bytes::new());
    };
    let body = error_body(result);
    let mut response = respond(status(result, true), result, request, body);
    if let Some(seconds) = retry_after(refusal, result) {
        response = response.with(RETRY_AFTER, seconds.to_string());
    }
    if result == RequestResult::Method {
        response = response.with(ALLOW, "POST");
    }
    response
}

fn respond(
    status: StatusCode,
    result: RequestResult,
    request: &RequestId,
    body: Bytes,
) -> Response {
    Response::new(status, body)
        .with(CONTENT_TYPE, JSON)
        .with(RESULT, result.word())
        .with(REQUEST, request.as_bytes())
}

/// How long a sender is asked to wait (seconds): a full house empties quickly; a
/// stopping one is replaced within a few seconds; a circuit that is open tells until
/// when; what is away or still running takes about as long as one is open by default.
fn retry_after(refusal: &Refusal, result: RequestResult) -> Option<u64> {
    match result {
        RequestResult::Busy => Some(1),
        RequestResult::Draining => Some(2),
        RequestResult::Unavailable => Some(circuits(refusal).unwrap_or(5)),
        RequestResult::InFlight => Some(5),
        _ => None,
    }
}

/// Until when all the circuits are open that a delivery met (whole seconds, at least
/// one); none where something else was away, too.
fn circuits(refusal: &Refusal) -> Option<u64> {
    let Refusal::Undelivered(undelivered) = refusal else {
        return None;
    };
    let mut longest = None;
    for (_, failure) in &undelivered.failures {
        match failure.reason {
            Reason::CircuitOpen { left } => longest = longest.max(Some(left)),
            _ if failure.outcome == AttemptOutcome::Unavailable => return None,
            _ => {}
        }
    }
    longest.map(|left| (left.as_millis().div_ceil(1000) as u64).max(1))
}

fn error_body(result: RequestResult) -> Bytes {
    macro_rules! body {
        ($($variant:ident)*) => {
            match result {
                $(RequestResult::$variant => {
                    const WORD: &str = RequestResult::$variant.word();
                    const LENGTH: usize = WORD.len() + 12;
                    const BODY: [u8; LENGTH] = error_json::<LENGTH>(WORD);
                    Bytes::from_static(&BODY)
                })*
            }
        };
    }
    body!(Delivered Duplicate Unmatched Malformed Unverified Forbidden UnknownPath Method Slow
        TooLarge Conflict Untyped Failed Busy Draining Unavailable InFlight Late)
}

/// `{"error":"WORD"}`, made when hookward is compiled.
const fn error_json<const LENGTH: usize>(word: &str) -> [u8; LENGTH] {
    let mut json = [b'"'; LENGTH];
    let before = b"{\"error\":\"";
    let word = word.as_bytes();
    let mut i = 0;
    while i < before.len() {
        json[i] = before[i];
        i += 1;
    }
    let mut i = 0;
    while i < word.len() {
        json[before.len() + i] = word[i];
        i += 1;
    }
    json[LENGTH - 1] = b'}';
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_copy_could_be_answered_speaks_for_nobody() {
        let first = SystemTime::UNIX_EPOCH;
        for copied in [
            Ok(Answer::Duplicate { first }),
            Ok(Answer::Unmatched),
            Err(Refusal::Conflict { first }),
            Err(Refusal::Untyped),
            Err(Refusal::Unnamed("events".into())),
            Err(Refusal::Unmatched),
        ] {
            assert!(!is_news(&copied), "{copied:?}");
        }
        assert!(is_news(&Ok(Answer::Delivered)));
        let away = Refusal::Undelivered(std::sync::Arc::default());
        assert!(
            is_news(&Err(away)),
            "its service is away, and it is genuine"
        );
    }

    #[test]
    fn every_word_has_its_error_body() {
        for result in RequestResult::ALL {
            let expected = format!("{{\"error\":\"{}\"}}", result.word());
            assert_eq!(error_body(*result), expected.as_bytes());
        }
    }

    #[test]
    fn who_waits_on_another_replica_is_answered_with_the_same_status_and_word() {
        let answered = |outcome: &Outcome| match outcome {
            Ok(answer) => accepted(*answer, None, &RequestId::new()),
            Err(refusal) => refused(refusal, &RequestId::new()),
        };
        let outcomes = [
            Ok(Answer::Delivered),
            Err(Refusal::Elsewhere(RequestResult::Failed)),
            Err(Refusal::Elsewhere(RequestResult::Late)),
            Err(Refusal::Busy("max_in_flight")),
            Err(Refusal::LedgerAway),
        ];
        for outcome in outcomes {
            let told = Outcome::read(&outcome.write()).unwrap();
            let (ours, theirs) = (answered(&outcome), answered(&told));
            assert_eq!(ours.status, theirs.status);
            assert_eq!(ours.header(&RESULT), theirs.header(&RESULT));
        }
        // What leaves no record, or is another's own, is not told.
        for word in ["", "unmatched", "duplicate", "conflict", "in_flight", "x"] {
            assert!(Outcome::read(word).is_none(), "{word}");
        }
    }

    #[test]
    fn an_id_is_told_as_valid_json() {
        let id = MessageId::parse(r#"a"b\c"#.into()).unwrap();
        let response = accepted(Answer::Delivered, Some(&id), &RequestId::new());
        let json: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!(json["id"], r#"a"b\c"#);
        assert_eq!(json["result"], "delivered");
    }
}

use std::time::{Duration, SystemTime};

use http::StatusCode;

use super::attempt::End;

/// When an attempt is followed by another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryConfig {
    /// Tries in all; at least 1.
    pub max_attempts: u32,
    /// What is tried again.
    pub retry_on: Vec<RetryOn>,
    /// The wait before the second try; it doubles with each.
    pub backoff: Duration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            max_attempts: 2,
            retry_on: vec![RetryOn::Status(StatusCode::SERVICE_UNAVAILABLE)],
            backoff: Duration::from_millis(100),
        }
    }
}

/// A way of failing that may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryOn {
    /// This answer.
    Status(StatusCode),
    /// A connection that broke without an answer.
    Reset,
    /// No answer in time.
    Timeout,
}

impl RetryOn {
    /// How they are written.
    pub(super) const FORM: &'static str =
        "any of `\"429\" \"500\" \"502\" \"503\" \"504\" \"reset\" \"timeout\"`";

    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "429" => RetryOn::Status(StatusCode::TOO_MANY_REQUESTS),
            "500" => RetryOn::Status(StatusCode::INTERNAL_SERVER_ERROR),
            "502" => RetryOn::Status(StatusCode::BAD_GATEWAY),
            "503" => RetryOn::Status(StatusCode::SERVICE_UNAVAILABLE),
            "504" => RetryOn::Status(StatusCode::GATEWAY_TIMEOUT),
            "reset" => RetryOn::Reset,
            "timeout" => RetryOn::Timeout,
            _ => return None,
        })
    }
}

/// Doublings past this change nothing: the budget is long over.
const DOUBLINGS: u32 = 16;

impl RetryConfig {
    /// How long to wait before the next try, if there is one, after `tried`.
    /// Between half and the whole of the backoff, so that events that failed
    /// together do not come back together; no shorter than the destination asked.
    pub(super) fn wait(&self, tried: u32, end: &End) -> Option<Duration> {
        if tried >= self.max_attempts || !self.retry_on.contains(&end.retry?) {
            return None;
        }
        let whole = self
            .backoff
            .saturating_mul(1 << (tried.saturating_sub(1)).min(DOUBLINGS));
        let jittered = whole.mul_f64(0.5 + fastrand::f64() / 2.0);
        Some(jittered.max(end.retry_after.unwrap_or_default()))
    }
}

/// What `Retry-After` asks for: whole seconds, or a date (RFC 9110 §10.2.3).
pub(super) fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More than fits is longer than anybody waits.
        let seconds = text.parse().unwrap_or(u32::MAX);
        return Some(Duration::from_secs(seconds.into()));
    }
    static DATE: jiff::fmt::rfc2822::DateTimeParser = jiff::fmt::rfc2822::DateTimeParser::new();
    let date = DATE.parse_timestamp(text).map(SystemTime::from).ok();
    // The two older forms (RFC 9110 §5.6.7).
    let date = date.or_else(|| httpdate::parse_http_date(text).ok())?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::deliver::http::attempt::End;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_770);
        for (text, wait) in [
            ("3", Some(3)),
            (" 120 ", Some(120)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:49:07 GMT", Some(0)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(7)),
            ("Sun Nov  6 08:49:37 1994", Some(7)),
            ("99999999999999", Some(u32::MAX.into())),
            ("soon", None),
            ("-1", None),
            ("+1", None),
            ("", None),
        ] {
            let asked = retry_after(text, now);
            assert_eq!(asked, wait.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn the_wait_doubles_with_jitter_and_heeds_the_destination() {
        let retry = RetryConfig {
            max_attempts: 4,
            ..RetryConfig::default()
        };
        let end = |after| End {
            retry_after: after,
            ..End::answered(StatusCode::SERVICE_UNAVAILABLE)
        };
        for (tried, from, to) in [(1, 50, 100), (2, 100, 200), (3, 200, 400)] {
            let wait = retry.wait(tried, &end(None)).unwrap().as_millis();
            assert!((from..=to).contains(&wait), "{wait} after {tried}");
        }
        assert_eq!(retry.wait(4, &end(None)), None, "four tries in all");
        let asked = Duration::from_secs(2);
        assert_eq!(retry.wait(1, &end(Some(asked))), Some(asked));
        let other = End::answered(StatusCode::BAD_GATEWAY);
        assert_eq!(retry.wait(1, &other), None, "502 is not named");
    }
}

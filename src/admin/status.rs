use serde::Serialize;

/// What `GET /status` tells. Times are RFC 3339 (UTC).
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The version of hookward.
    pub version: &'static str,
    /// Every source.
    pub sources: Vec<SourceStatus>,
    /// Every destination.
    pub destinations: Vec<DestinationStatus>,
}

/// One source.
#[derive(Clone, Debug, Serialize)]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// Its path; none where messages come from a queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The queue it reads, without a secret; none where messages are posted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Whether it says `dangerously-unverified`.
    pub unverified: bool,
    /// When a message was last verified; none since the start.
    pub last_verified: Option<String>,
    /// Its keys.
    pub keys: Vec<KeyStatus>,
}

/// One key of a source.
#[derive(Clone, Debug, Serialize)]
pub struct KeyStatus {
    /// Its name, or its number from 1.
    pub name: String,
    /// Where it is kept: `env:NAME`, `file:/path` or `(literal)`.
    pub kept: String,
    /// When it last verified a message; none since the start.
    pub last_verified: Option<String>,
}

/// One destination.
#[derive(Clone, Debug, Serialize)]
pub struct DestinationStatus {
    /// Its name.
    pub name: String,
    /// What it is, without secrets.
    pub target: String,
    /// Whether deliveries to it are part of the answer.
    pub required: bool,
    /// `up`, or `away` when its last attempt did not find it there.
    pub state: &'static str,
    /// Why it is not to be counted on, as `/readyz` tells it; none while it is.
    pub degraded: Option<String>,
    /// Its circuit: `closed`, `open` or `probing`.
    pub circuit: &'static str,
    /// Deliveries under way.
    pub in_flight: usize,
}

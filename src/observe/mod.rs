//! What hookward tells about itself, and the time it goes by: [`Metrics`],
//! logs, and the [`Clock`].

mod clock;
mod logs;
mod metrics;
mod recent;
mod turn;
mod words;

pub use clock::{Clock, rfc3339};
pub use logs::{LogFormat, LogOptions, Logs};
pub use metrics::{
    DestinationMetrics, KeyMetrics, LedgerMetrics, Metrics, QueueMetrics, RouteMetrics,
    ServerMetrics, SourceMetrics,
};
pub use recent::{RecentRefusal, RecentRefusals};
pub use turn::{PATIENCE, is_behind};
pub use words::{AttemptOutcome, Limited, QueueOutcome, RefusalReason, RepeatKind, RequestResult};

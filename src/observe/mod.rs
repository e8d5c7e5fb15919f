//! What hookward tells about itself, and the time it goes by: [`Metrics`],
//! logs, and the [`Clock`].

mod clock;
mod logs;
mod metrics;
mod recent;

pub use clock::{Clock, rfc3339};
pub use logs::{LogFormat, LogOptions, Logs};
pub use metrics::{
    AttemptOutcome, DestinationMetrics, KeyMetrics, LedgerMetrics, Metrics, RefusalReason,
    RepeatKind, RequestResult, RouteMetrics, ServerMetrics, SourceMetrics,
};
pub use recent::{RecentRefusal, RecentRefusals};

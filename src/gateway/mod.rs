//! The line: what happens to a request, from its path to its answer.
//!
//! [`Gateway`] is one configuration at work; a reload builds another and swaps
//! it in. What outlives a reload is [`Shared`]. The stages stand in `line.rs`,
//! in the order in which a request meets them; `queued.rs` is the way in for a
//! message of a queue, which then goes down the same line.

mod answer;
mod elsewhere;
mod fanout;
mod line;
mod outlive;
mod queued;
mod refusal;
mod slots;
mod trace;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use rustc_hash::FxHashMap;
use tokio_util::task::TaskTracker;

pub use answer::{Answer, Outcome};
pub use refusal::{Refusal, Undelivered};
pub use slots::Slots;

use crate::deliver::Destination;
use crate::ledger::Ledger;
use crate::listen::BufferBudget;
use crate::observe::{Clock, Metrics, RecentRefusals, RouteMetrics, SourceMetrics};
use crate::route::Router;
use crate::source::{TypeRule, Unmatched};
use crate::verify::Verifier;
use elsewhere::Looks;

/// What all configurations of one process share, one after the other.
pub struct Shared {
    /// Who has accepted which id.
    pub ledger: Arc<Ledger<Outcome>>,
    /// The time.
    pub clock: Clock,
    /// Every metric.
    pub metrics: Arc<Metrics>,
    /// The work that a drain waits for.
    pub tasks: TaskTracker,
    /// `server.max_in_flight`
    pub in_flight: Arc<Slots>,
    /// `server.max_buffered`
    pub buffers: BufferBudget,
    /// The last refusals.
    pub recent: RecentRefusals,
    /// When a look at what no key of its source signed may be taken.
    looks: Looks,
    /// Whether new requests are turned away.
    draining: AtomicBool,
}

impl Shared {
    /// Puts together what outlives a reload.
    pub fn new(
        ledger: Arc<Ledger<Outcome>>,
        clock: Clock,
        metrics: Arc<Metrics>,
        limits: (Arc<Slots>, BufferBudget),
    ) -> Self {
        Self {
            ledger,
            clock,
            metrics,
            tasks: TaskTracker::new(),
            in_flight: limits.0,
            buffers: limits.1,
            recent: RecentRefusals::default(),
            looks: Looks::default(),
            draining: AtomicBool::new(false),
        }
    }

    /// From now on every new request is answered `draining`.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

/// What a request may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest body (bytes).
    pub max_body: usize,
    /// How long a body may take.
    pub body_timeout: Duration,
    /// From the first byte of the head to the answer.
    pub request_timeout: Duration,
}

/// One configuration at work.
pub struct Gateway {
    /// What outlives it.
    pub shared: Arc<Shared>,
    /// The sources by their exact path.
    pub sources: FxHashMap<String, Arc<Source>>,
    /// The sources that read a queue, by their name.
    pub queues: FxHashMap<Arc<str>, Arc<Source>>,
    /// What a request may cost.
    pub limits: Limits,
    /// Whose `X-Forwarded-For` is read.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether requests that ended well are logged, too.
    pub log_all: bool,
}

/// A source at work: a sender with its path, keys and routes.
pub struct Source {
    /// Its name.
    pub name: Arc<str>,
    /// Its keys and window.
    pub verifier: Verifier,
    /// Where its event types stand.
    pub event_type: TypeRule,
    /// Its routes; the numbers are those of `destinations`.
    pub router: Router,
    /// What becomes of an event that no route takes.
    pub unmatched: Unmatched,
    /// How long after its signed time a replay of a message is still fresh.
    pub window: Duration,
    /// `resend_after`
    pub resend_after: Option<Duration>,
    /// Who may send; empty for everyone.
    pub allow_from: Vec<IpNet>,
    /// Its share of `server.max_in_flight`.
    pub in_flight: Option<Arc<Slots>>,
    /// What is counted for it.
    pub metrics: SourceMetrics,
    /// Every destination of the configuration, by number.
    pub destinations: Vec<Target>,
}

/// A destination as a source sees it.
#[derive(Clone)]
pub struct Target {
    /// The destination's name, shared with receipts.
    pub name: Arc<str>,
    /// The destination.
    pub destination: Arc<Destination>,
    /// What is counted for this source and it; none where no route joins them.
    pub metrics: Option<RouteMetrics>,
}

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// How a listener is told to stop, in stages, each of which holds those before
/// it. The caller owns it: when to go from one to the next is not the
/// listener's to decide.
///
/// 1. [`leave`](Stop::leave): everything goes on, but answers carry `connection: close`.
/// 2. [`close`](Stop::close): the listening socket is closed; connections go on.
/// 3. [`finish`](Stop::finish): each connection ends after its present answer.
/// 4. [`cut`](Stop::cut): what is left is dropped.
///
/// Cloning shares it.
#[derive(Clone, Default)]
pub struct Stop(Arc<Stages>);

#[derive(Default)]
struct Stages {
    /// How far it has come. Asked for at every turn of every connection, which
    /// must not meet at a token's lock; the tokens only wake who waits.
    stage: AtomicU8,
    closing: CancellationToken,
    finishing: CancellationToken,
    within: OnceLock<Duration>,
    cut: CancellationToken,
}

const LEAVING: u8 = 1;
const CLOSING: u8 = 2;
const FINISHING: u8 = 3;
const CUT: u8 = 4;

impl Stop {
    /// One that has not been told anything.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on every answer asks its sender to go elsewhere.
    pub fn leave(&self) {
        self.reach(LEAVING);
    }

    /// Stops accepting. Connections that are there go on; it is for the service
    /// to answer their further requests with a refusal.
    pub fn close(&self) {
        self.reach(CLOSING);
        self.0.closing.cancel();
    }

    /// Ends idle connections now and the others after their present answer;
    /// what is left after `within` is cut. The first call decides.
    pub fn finish(&self, within: Duration) {
        self.close();
        self.0.within.get_or_init(|| within);
        self.reach(FINISHING);
        self.0.finishing.cancel();
    }

    /// Drops every connection.
    pub fn cut(&self) {
        self.finish(Duration::ZERO);
        self.reach(CUT);
        self.0.cut.cancel();
    }

    /// Whether answers carry `connection: close`.
    pub fn is_leaving(&self) -> bool {
        self.is_at(LEAVING)
    }

    /// Whether the listening socket is closed.
    pub fn is_closing(&self) -> bool {
        self.is_at(CLOSING)
    }

    /// Whether connections end after their present answer.
    pub fn is_finishing(&self) -> bool {
        self.is_at(FINISHING)
    }

    /// Whether everything is dropped.
    pub(super) fn is_cut(&self) -> bool {
        self.is_at(CUT)
    }

    pub(super) fn closing(&self) -> WaitForCancellationFuture<'_> {
        self.0.closing.cancelled()
    }

    pub(super) fn finishing(&self) -> WaitForCancellationFuture<'_> {
        self.0.finishing.cancelled()
    }

    pub(super) fn cutting(&self) -> WaitForCancellationFuture<'_> {
        self.0.cut.cancelled()
    }

    /// How long connections have once they were told to finish.
    pub(super) fn within(&self) -> Duration {
        self.0.within.get().copied().unwrap_or_default()
    }

    fn reach(&self, stage: u8) {
        self.0.stage.fetch_max(stage, Ordering::Release);
    }

    fn is_at(&self, stage: u8) -> bool {
        self.0.stage.load(Ordering::Acquire) >= stage
    }
}

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use smallvec::SmallVec;
use tokio::time::Instant;
use tracing::{Level, error, info, warn};

use super::answer::{Answer, Outcome};
use super::refusal::{Refusal, Undelivered};
use super::{Gateway, Source};
use crate::deliver::{Failure, HungUp};
use crate::message::{EventType, MessageId, RequestId};
use crate::observe::{RecentRefusal, RequestResult};

/// What is known of a request so far, for the one line that is logged about it.
/// Whoever learns its end first tells it; it is told once.
pub(super) struct Trace {
    pub(super) request: RequestId,
    pub(super) began: Instant,
    pub(super) source: Option<Arc<Source>>,
    pub(super) id: Option<MessageId>,
    pub(super) event_type: OnceLock<EventType>,
    pub(super) progress: Progress,
    /// Whether its sender hung up before it was answered.
    pub(super) hung_up: HungUp,
    told: AtomicBool,
}

/// How far the deliveries of an event are, for an answer that cannot wait for all.
#[derive(Default)]
pub(super) struct Progress {
    /// The destinations the event goes to this time.
    pub(super) plan: OnceLock<SmallVec<[usize; 4]>>,
    ended: Mutex<EndedDeliveries>,
    early: OnceLock<Outcome>,
}

/// Destinations by number, each with what kept it from accepting. One without an
/// allocation: few sources fan out.
type EndedDeliveries = SmallVec<[(usize, Option<Failure>); 1]>;

impl Trace {
    pub(super) fn new(began: Instant) -> Self {
        Self {
            request: RequestId::new(),
            began,
            source: None,
            id: None,
            event_type: OnceLock::new(),
            progress: Progress::default(),
            hung_up: HungUp::new(),
            told: AtomicBool::new(false),
        }
    }

    /// Counts and logs how the request ended, unless that was done before.
    pub(super) fn tell(&self, gateway: &Gateway, outcome: &Outcome) {
        if self.told.swap(true, Ordering::AcqRel) {
            return;
        }
        let elapsed = self.began.elapsed();
        let result = match outcome {
            Ok(answer) => Some(answer.result()),
            Err(refusal) => refusal.result(),
        };
        match (&self.source, result) {
            (Some(source), Some(result)) => {
                source.metrics.answered(result);
                source
                    .metrics
                    .request_duration
                    .observe(elapsed.as_secs_f64());
            }
            (None, Some(RequestResult::UnknownPath)) => gateway.shared.metrics.unknown_path(),
            _ => {}
        }
        match outcome {
            Ok(answer) => {
                if gateway.log_all {
                    self.log_answer(*answer);
                }
            }
            Err(refusal) => self.refused(gateway, refusal),
        }
    }

    fn refused(&self, gateway: &Gateway, refusal: &Refusal) {
        let reason = refusal.reason();
        if let (Some(source), Some(reason)) = (&self.source, reason) {
            source.metrics.refused(reason);
        }
        let result = refusal.result().map_or("broken", RequestResult::word);
        let reason = match (reason, refusal) {
            (Some(reason), _) => reason.word(),
            (None, Refusal::Undelivered(undelivered)) => undelivered.decisive().word(),
            (None, _) => result,
        };
        gateway.shared.recent.push(RecentRefusal {
            time: gateway.shared.clock.now(),
            source: self
                .source
                .as_ref()
                .map_or_else(|| "".into(), |source| Arc::clone(&source.name)),
            reason,
            id: self.id.as_ref().map(|id| id.as_str().to_owned()),
        });
        let destination = match refusal {
            Refusal::Undelivered(undelivered) => Some(undelivered.destinations()),
            _ => None,
        };
        macro_rules! line {
            ($log:ident) => {
                $log!(
                    request = self.request.as_str(),
                    source = self.source_name(),
                    id = self.id.as_ref().map(MessageId::as_str),
                    r#type = self.event_type.get().map(EventType::as_str),
                    result,
                    reason,
                    destination,
                    elapsed = self.elapsed(),
                    "{refusal}"
                )
            };
        }
        match refusal.level() {
            Level::ERROR => line!(error),
            Level::WARN => line!(warn),
            _ => line!(info),
        }
    }

    fn log_answer(&self, answer: Answer) {
        info!(
            request = self.request.as_str(),
            source = self.source_name(),
            id = self.id.as_ref().map(MessageId::as_str),
            r#type = self.event_type.get().map(EventType::as_str),
            result = answer.result().word(),
            elapsed = self.elapsed(),
            "answered"
        );
    }

    /// Nobody waits any more. Where that is before the answer was known, the sender
    /// hung up, or the budget is over.
    pub(super) fn is_left(&self) {
        if self.progress.said().is_none() {
            self.hung_up.tell();
        }
    }

    /// Logs that a destination which is not required did not accept.
    pub(super) fn optional_failed(&self, destination: &str, failure: &Failure) {
        warn!(
            request = self.request.as_str(),
            source = self.source_name(),
            id = self.id.as_ref().map(MessageId::as_str),
            r#type = self.event_type.get().map(EventType::as_str),
            reason = failure.outcome.word(),
            destination,
            elapsed = self.elapsed(),
            "{destination}, which is not required, did not accept: {}",
            failure.reason
        );
    }

    /// Logs that an id not yet delivered came with another body.
    pub(super) fn body_changed(&self) {
        warn!(
            request = self.request.as_str(),
            source = self.source_name(),
            id = self.id.as_ref().map(MessageId::as_str),
            "an id that is not yet delivered came with another body; the one now signed is delivered"
        );
    }

    /// The destinations that have accepted so far.
    pub(super) fn accepted(&self) -> impl Iterator<Item = Arc<str>> {
        let ended = self.progress.ended().into_iter();
        let accepted = ended.filter(|(_, failure)| failure.is_none());
        accepted.filter_map(|(number, _)| {
            let target = self.source.as_ref()?.destinations.get(number)?;
            Some(Arc::clone(&target.name))
        })
    }

    /// The refusal of a request whose budget ended before its deliveries did.
    pub(super) fn late(&self) -> Refusal {
        let (Some(plan), Some(source)) = (self.progress.plan.get(), &self.source) else {
            return Refusal::InFlight;
        };
        let ended = self.progress.ended();
        let mut undelivered = Undelivered::default();
        let mut accepted = false;
        for &number in plan {
            let target = &source.destinations[number];
            if !target.destination.required() {
                continue;
            }
            match ended.iter().find(|(ended, _)| *ended == number) {
                None => undelivered.pending.push(Arc::clone(&target.name)),
                Some((_, Some(failure))) => undelivered
                    .failures
                    .push((Arc::clone(&target.name), failure.clone())),
                Some((_, None)) => accepted = true,
            }
        }
        match undelivered.is_empty() {
            false => Refusal::Undelivered(Arc::new(undelivered)),
            // All that is left to do is the ledger's.
            true if accepted => Refusal::Unkept,
            true => Refusal::LedgerAway,
        }
    }

    fn source_name(&self) -> &str {
        self.source.as_ref().map_or("", |source| &source.name)
    }

    /// Seconds since the first byte, to the microsecond.
    fn elapsed(&self) -> f64 {
        (self.began.elapsed().as_secs_f64() * 1e6).round() / 1e6
    }
}

/// Work on a proven message that has not come to its end. Dropped before that,
/// by the end of a shutdown or a fault, it tells which message was cut, because
/// the sender may be the only one who still has it.
pub(super) struct Unfinished<'a>(Option<&'a Trace>);

impl<'a> Unfinished<'a> {
    pub(super) fn new(trace: &'a Trace) -> Self {
        Self(Some(trace))
    }

    pub(super) fn finished(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(trace) = self.0 {
            error!(
                request = trace.request.as_str(),
                source = trace.source_name(),
                id = trace.id.as_ref().map(MessageId::as_str),
                r#type = trace.event_type.get().map(EventType::as_str),
                elapsed = trace.elapsed(),
                "cut before it was finished"
            );
        }
    }
}

impl Progress {
    /// Notes how the delivery to a destination ended.
    pub(super) fn end(&self, number: usize, failure: Option<Failure>) {
        self.ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((number, failure));
    }

    fn ended(&self) -> EndedDeliveries {
        self.ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Says the outcome while there is still work to do.
    pub(super) fn say(&self, outcome: Outcome) {
        let _ = self.early.set(outcome);
    }

    /// The outcome, if it was said early.
    pub(super) fn said(&self) -> Option<Outcome> {
        self.early.get().cloned()
    }
}

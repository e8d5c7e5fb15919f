use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::answer::{Answer, Outcome};
use super::refusal::{Refusal, Undelivered};
use super::trace::Trace;
use super::{Gateway, Source, Target};
use crate::deliver::{Budget, Failure, Receipt};
use crate::ledger::Reservation;
use crate::message::Event;
use crate::observe::AttemptOutcome;

/// The delivery of one event to all destinations it is meant for.
pub(super) struct Fanout<'a> {
    pub(super) gateway: &'a Arc<Gateway>,
    pub(super) source: &'a Arc<Source>,
    pub(super) trace: &'a Trace,
    pub(super) event: &'a Event,
    pub(super) deadline: Instant,
}

impl Fanout<'_> {
    /// Delivers to every destination of the plan that has no receipt yet, all
    /// at once, and settles the id.
    ///
    /// The sender never waits for destinations that are not required: once the
    /// required ones have ended the outcome is known, and said.
    pub(super) async fn deliver(
        &self,
        mut plan: SmallVec<[usize; 4]>,
        reservation: Option<Reservation<Outcome>>,
    ) -> Outcome {
        if let Some(reservation) = &reservation {
            plan.retain(|number| !reservation.has_receipt(&self.target(*number).name));
        }
        let plan = self.trace.progress.plan.get_or_init(|| plan);
        if let [number] = plan[..] {
            let mut undelivered = Undelivered::default();
            let ended = self.attempt(number).await;
            self.note(ended, reservation.as_ref(), &mut undelivered)
                .await;
            return self.settle(reservation, outcome(undelivered)).await;
        }
        // Boxed, so that an event for one destination does not carry its size.
        Box::pin(self.deliver_to_all(plan, reservation)).await
    }

    async fn deliver_to_all(
        &self,
        plan: &[usize],
        mut reservation: Option<Reservation<Outcome>>,
    ) -> Outcome {
        let mut undelivered = Undelivered::default();
        let mut attempts: FuturesUnordered<_> =
            plan.iter().map(|&number| self.attempt(number)).collect();
        let mut awaited = plan.iter().filter(|n| self.is_required(**n)).count();
        while awaited > 0 {
            let Some(ended) = attempts.next().await else {
                break;
            };
            awaited -= usize::from(self.is_required(ended.number));
            self.note(ended, reservation.as_ref(), &mut undelivered)
                .await;
        }
        let mut outcome = outcome(undelivered);
        if attempts.is_empty() {
            return self.settle(reservation, outcome).await;
        }

        // Only ones that are not required are still under way. A delivered id is
        // settled at once; one to be tried again stays reserved until they have
        // ended, so that the next try does not meet them.
        if outcome.is_ok() {
            outcome = self.settle(reservation.take(), outcome).await;
        }
        self.trace.progress.say(outcome.clone());
        let mut optional = Undelivered::default();
        while let Some(ended) = attempts.next().await {
            self.note(ended, reservation.as_ref(), &mut optional).await;
        }
        match reservation {
            Some(_) => self.settle(reservation, outcome).await,
            None => outcome,
        }
    }

    async fn attempt(&self, number: usize) -> Ended {
        let destination = &self.target(number).destination;
        Ended {
            number,
            result: destination.deliver(self.event, self.budget()).await,
        }
    }

    /// Counts and keeps how a delivery ended.
    async fn note(
        &self,
        ended: Ended,
        reservation: Option<&Reservation<Outcome>>,
        undelivered: &mut Undelivered,
    ) {
        let Ended { number, result } = ended;
        let target = self.target(number);
        let counted = match &result {
            Ok(_) => AttemptOutcome::Accepted,
            Err(failure) => failure.outcome,
        };
        if let Some(metrics) = &target.metrics {
            metrics.delivered(counted);
        }
        match result {
            Ok(receipt) => {
                self.trace.progress.end(number, None);
                match (reservation, self.event.id()) {
                    (Some(reservation), _) => reservation.accept(&target.name, receipt.at()),
                    (None, Some(id)) => {
                        let (source, ledger) = (&self.source.name, &self.gateway.shared.ledger);
                        let (id, at) = (id.as_str(), receipt.at());
                        // Boxed, because it is seldom.
                        Box::pin(ledger.accept_late(source, id, &target.name, at)).await;
                    }
                    (None, None) => {}
                }
            }
            Err(failure) if target.destination.required() => {
                self.trace.progress.end(number, Some(failure.clone()));
                undelivered
                    .failures
                    .push((Arc::clone(&target.name), failure));
            }
            Err(failure) => self.trace.optional_failed(&target.name, &failure),
        }
    }

    /// Settles the id. What was broken off because its sender hung up is no outcome
    /// for those who wait with the same id: each has a sender that did not.
    async fn settle(&self, reservation: Option<Reservation<Outcome>>, outcome: Outcome) -> Outcome {
        if let Some(reservation) = reservation {
            let now = self.gateway.shared.clock.now();
            let broken_off = outcome.is_err() && self.budget().is_cut_short(Instant::now());
            let told = (!broken_off).then(|| outcome.clone());
            reservation
                .settle(outcome.is_ok(), told, now)
                .await
                .map_err(|_| match self.trace.accepted().next() {
                    Some(_) => Refusal::Unkept,
                    None => Refusal::LedgerAway,
                })?;
        }
        outcome
    }

    fn budget(&self) -> Budget<'_> {
        Budget {
            deadline: self.deadline,
            hung_up: &self.trace.hung_up,
        }
    }

    fn target(&self, number: usize) -> &Target {
        &self.source.destinations[number]
    }

    fn is_required(&self, number: usize) -> bool {
        self.target(number).destination.required()
    }
}

/// How the delivery to one destination ended.
struct Ended {
    number: usize,
    result: Result<Receipt, Failure>,
}

fn outcome(undelivered: Undelivered) -> Outcome {
    if undelivered.failures.is_empty() {
        Ok(Answer::Delivered)
    } else {
        Err(Refusal::Undelivered(Arc::new(undelivered)))
    }
}

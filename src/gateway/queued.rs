use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::answer::Outcome;
use super::line::{Holding, Proven, claimed_id};
use super::refusal::Refusal;
use super::slots::Places;
use super::trace::Trace;
use super::{Gateway, Source};
use crate::consume::{Message, Verdict};
use crate::message::{Origin, Received, Verified};

impl Gateway {
    /// Takes a message of a queue down the line once: the same stages as a request,
    /// but where that is refused for want of a place, a message waits for one, and
    /// its budget begins then. Until then `stop` ends it.
    pub async fn take(
        self: Arc<Self>,
        source: &str,
        message: &Message,
        stop: &CancellationToken,
    ) -> Verdict {
        // The source went with a reload: its consumer is about to be stopped.
        let Some(source) = self.queues.get(source).cloned() else {
            return Verdict::Later;
        };
        let mut trace = Trace::new(Instant::now());
        trace.source = Some(Arc::clone(&source));
        let (outcome, trace) = match self.prove_queued(&source, message, &mut trace) {
            Err(refusal) => (Err(refusal), Arc::new(trace)),
            Ok(proven) => {
                let places = tokio::select! {
                    biased;
                    () = stop.cancelled() => return Verdict::Later,
                    places = Places::wait(&self.shared.in_flight, source.in_flight.as_ref()) => places,
                };
                trace.began = Instant::now();
                let proven = Proven {
                    deadline: trace.began + self.limits.request_timeout,
                    source: Arc::clone(&source),
                    message: proven,
                    places: Some(places),
                    accepted: message.accepted(),
                    _held: Holding::Shared(Arc::clone(&message.share)),
                };
                let trace = Arc::new(trace);
                (self.see_through(proven, &trace).await, trace)
            }
        };
        trace.tell(&self, &outcome);
        if source.verifier.is_open() {
            message.note(trace.accepted());
        }
        verdict(&outcome)
    }

    /// The stages up to the proof. The message is as old as it was when it arrived,
    /// however long it has been tried since.
    fn prove_queued(
        &self,
        source: &Source,
        message: &Message,
        trace: &mut Trace,
    ) -> Result<Verified, Refusal> {
        let rejected = |trace: &mut Trace, rejection| {
            trace.id = claimed_id(&message.headers);
            Refusal::Rejected(rejection)
        };
        let envelope = source
            .verifier
            .admit(&message.headers, message.arrived)
            .map_err(|rejection| rejected(trace, rejection))?;
        trace.id = envelope.as_ref().map(|envelope| envelope.id.clone());
        if message.body.len() > self.limits.max_body {
            return Err(Refusal::TooLarge);
        }
        let received = Received {
            source: Arc::clone(&source.name),
            origin: Origin {
                request: trace.request.clone(),
                client: None,
                protocol: None,
            },
            envelope,
            headers: message.headers.clone(),
            body: message.body.clone(),
        };
        let proven = source.verifier.verify(received, message.arrived);
        let proven = proven.map_err(Refusal::Rejected)?;
        source.verified(&proven, message.arrived);
        Ok(proven)
    }
}

fn verdict(outcome: &Outcome) -> Verdict {
    match outcome {
        Ok(_) => Verdict::Accepted,
        Err(refusal) => refusal.verdict(),
    }
}

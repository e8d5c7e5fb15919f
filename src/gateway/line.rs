use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Method;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::answer::{self, Answer, Outcome};
use super::fanout::Fanout;
use super::outlive::Outliving;
use super::refusal::Refusal;
use super::slots::{Places, UnderWay};
use super::trace::{Trace, Unfinished};
use super::{Gateway, Source};
use crate::consume::Share;
use crate::ledger::{BodyDigest, Claim, Reservation, Reserved};
use crate::listen::{
    BodyError, BodyRules, Connection, Held, Request, Response, Sender, read_body, skip_body,
};
use crate::message::{Envelope, Event, Family, Headers, MessageId, Origin, Received, Verified};
use crate::route::Plan;
use crate::source::Unmatched;

impl Gateway {
    /// Takes a request down the line, and answers it.
    pub async fn handle(
        self: Arc<Self>,
        request: Request,
        connection: Arc<Connection>,
    ) -> Response {
        // A drain waits for every request that was begun.
        let _begun = self.shared.tasks.token();
        let mut trace = Trace::new(connection.began());
        let (outcome, trace) = match self.prove(request, &connection, &mut trace).await {
            Ok(proven) => {
                let trace = Arc::new(trace);
                // An open source proves nothing.
                let is_signed = proven.message.proof().is_some();
                let outcome = self.see_through(proven, &trace).await;
                if is_signed && answer::is_news(&outcome) {
                    connection.proven();
                }
                (outcome, trace)
            }
            Err(refusal) => (Err(refusal), Arc::new(trace)),
        };
        trace.tell(&self, &outcome);
        match &outcome {
            Ok(answer) => answer::accepted(*answer, trace.id.as_ref(), &trace.request),
            Err(refusal) => {
                if matches!(refusal, Refusal::Draining | Refusal::Broken) {
                    connection.close_after();
                }
                answer::refused(refusal, &trace.request)
            }
        }
    }

    /// The stages up to the proof. Nothing here outlives the sender's patience.
    async fn prove(
        self: &Arc<Self>,
        request: Request,
        connection: &Connection,
        trace: &mut Trace,
    ) -> Result<Proven, Refusal> {
        // A place is only taken by a proven message; when none is left, nothing
        // more is read.
        let full = self.shared.in_flight.stays_full().await;
        let now = self.shared.clock.now();
        let admitted = match self.admit(&request, connection, trace, now) {
            Ok(_) if full => Err(Refusal::Busy("server.max_in_flight")),
            admitted => admitted,
        };
        let Admitted {
            source,
            origin,
            envelope,
        } = match admitted {
            Ok(admitted) => admitted,
            Err(refusal) => {
                skip_body(request.body, connection);
                return Err(refusal);
            }
        };

        let deadline = connection.began() + self.limits.request_timeout;
        let rules = BodyRules {
            max_body: self.limits.max_body,
            timeout: self.limits.body_timeout,
            deadline,
        };
        let body = read_body(request.body, connection, rules, &self.shared.buffers)
            .await
            .map_err(|error| match error {
                BodyError::TooLarge => Refusal::TooLarge,
                BodyError::Slow => Refusal::Slow,
                BodyError::Busy => Refusal::Busy("server.max_buffered"),
                BodyError::Broken => Refusal::Broken,
            })?;

        let received = Received {
            source: Arc::clone(&source.name),
            origin,
            envelope,
            headers: request.headers,
            body: body.bytes,
        };
        let message = match source.verifier.prove(received, now) {
            Ok(message) => message,
            Err(unproven) => {
                let rejection = unproven.rejection;
                self.look_elsewhere(unproven, body.held, trace);
                return Err(Refusal::Rejected(rejection));
            }
        };
        source.verified(&message, now);
        Ok(Proven {
            source,
            message,
            deadline,
            places: None,
            accepted: Vec::new(),
            _held: Holding::Own(body.held),
        })
    }

    /// The stages that look at the head alone.
    fn admit(
        &self,
        request: &Request,
        connection: &Connection,
        trace: &mut Trace,
        now: SystemTime,
    ) -> Result<Admitted, Refusal> {
        let source = self.pick(request)?;
        trace.source = Some(Arc::clone(&source));
        if request.method != Method::POST {
            return Err(Refusal::Method);
        }
        let sender = Sender::of(connection, &request.headers, &self.trusted_proxies);
        if !source.allows(sender.address) {
            return Err(Refusal::Forbidden(sender.address));
        }
        if self.shared.is_draining() {
            return Err(Refusal::Draining);
        }
        let envelope = match source.verifier.admit(&request.headers, now) {
            Ok(envelope) => envelope,
            Err(rejection) => {
                trace.id = claimed_id(&request.headers);
                return Err(Refusal::Rejected(rejection));
            }
        };
        trace.id = envelope.as_ref().map(|envelope| envelope.id.clone());
        let origin = Origin {
            request: trace.request.clone(),
            client: sender.address,
            protocol: Some(sender.protocol),
        };
        Ok(Admitted {
            source,
            origin,
            envelope,
        })
    }

    fn pick(&self, request: &Request) -> Result<Arc<Source>, Refusal> {
        self.sources
            .get(request.target.path())
            .cloned()
            .ok_or_else(|| Refusal::UnknownPath(beginning(request.target.path())))
    }

    /// Carries a proven message to its end, and waits for that as long as the
    /// budget lasts. The sender may hang up, and the budget may end: what was begun
    /// is finished, but no further attempt is begun.
    pub(super) async fn see_through(
        self: &Arc<Self>,
        proven: Proven,
        trace: &Arc<Trace>,
    ) -> Outcome {
        let deadline = proven.deadline;
        let gateway = Arc::clone(self);
        let told = Arc::clone(trace);
        let work = async move {
            let unfinished = Unfinished::new(&told);
            let outcome = gateway.carry(proven, &told).await;
            unfinished.finished();
            told.tell(&gateway, &outcome);
            outcome
        };
        let mut work = Outliving::new(&self.shared.tasks, work, || trace.is_left());
        let mut budget_ends = pin!(sleep_until(deadline));
        poll_fn(move |context| {
            if let Poll::Ready(outcome) = Pin::new(&mut work).poll(context) {
                return Poll::Ready(outcome);
            }
            if let Some(outcome) = trace.progress.said() {
                return Poll::Ready(outcome);
            }
            budget_ends
                .as_mut()
                .poll(context)
                .map(|()| Err(trace.late()))
        })
        .await
    }

    /// The stages after the proof: reserve, classify, plan, deliver, settle.
    async fn carry(self: &Arc<Self>, mut proven: Proven, trace: &Arc<Trace>) -> Outcome {
        let _shown = UnderWay::shown(&self.shared.metrics.server().in_flight);
        let (reservation, _places) = match self.reserve(&mut proven).await? {
            Turn::Run(reservation, places) => (reservation, places),
            Turn::Known(outcome) => return outcome,
        };
        let Proven {
            source, message, ..
        } = &proven;
        if reservation.as_ref().is_some_and(Reservation::body_changed) {
            source.metrics.body_changed.inc();
            trace.body_changed();
        }

        let event_type = source
            .event_type
            .event_type(message.body(), message.headers());
        if let Some(event_type) = &event_type {
            let _ = trace.event_type.set(event_type.clone());
        }
        let mut plan = match source.router.plan(event_type.as_ref()) {
            Plan::To(plan) => plan,
            Plan::Untyped => return Err(Refusal::Untyped),
            Plan::Unmatched if source.unmatched == Unmatched::Refuse => {
                return Err(Refusal::Unmatched);
            }
            Plan::Unmatched => return Ok(Answer::Unmatched),
        };

        let resend = reservation.as_ref().is_some_and(Reservation::is_resend);
        let Proven {
            source,
            message,
            deadline,
            accepted,
            _held,
            ..
        } = proven;
        if !accepted.is_empty() {
            plan.retain(|number| !accepted.contains(&source.destinations[*number].name));
        }
        let event = Event::new(message, event_type, resend);
        if let Some(destination) = source.cannot_take(&event, &plan, reservation.as_ref()) {
            return Err(Refusal::Unnamed(destination));
        }
        let fanout = Fanout {
            gateway: self,
            source: &source,
            trace,
            event: &event,
            deadline,
        };
        fanout.deliver(plan, reservation).await
    }

    /// Takes the message's turn, or learns how the turn of another request with
    /// the same id came out. Who waits holds no place: one message that is sent a
    /// thousand times while it runs keeps nobody out.
    async fn reserve(&self, proven: &mut Proven) -> Result<Turn, Refusal> {
        let Proven {
            source,
            message,
            deadline,
            places: given,
            ..
        } = proven;
        let deadline = *deadline;
        let mut places = async || match given.take() {
            Some(places) => Ok(places),
            None => Places::take_soon(&self.shared.in_flight, source.in_flight.as_ref()).await,
        };
        // An open source proves no ids, so there is nothing to keep apart.
        let Some(proof) = message.proof() else {
            return Ok(Turn::Run(None, places().await?));
        };
        let body = BodyDigest::of(message.body());
        loop {
            let places = places().await?;
            let claim = Claim {
                source: Arc::clone(&source.name),
                id: proof.id().clone(),
                body,
                signed: proof.timestamp().seconds(),
                window: source.window,
                resend_after: source.resend_after,
                now: self.shared.clock.now(),
            };
            let reserved = timeout_at(deadline, self.shared.ledger.reserve(claim))
                .await
                .map_err(|_| Refusal::LedgerAway)?
                .map_err(|_| Refusal::LedgerAway)?;
            match reserved {
                Reserved::Run(reservation) => return Ok(Turn::Run(Some(reservation), places)),
                Reserved::Duplicate { first, kind } => {
                    source.metrics.repeated(kind);
                    return Ok(Turn::Known(Ok(Answer::Duplicate { first })));
                }
                Reserved::Conflict { first } => {
                    return Ok(Turn::Known(Err(Refusal::Conflict { first })));
                }
                Reserved::Running(waiter) => {
                    drop(places);
                    let other_body = waiter.body_differs();
                    match timeout_at(deadline, waiter.outcome()).await {
                        Err(_) => return Err(Refusal::InFlight),
                        Ok(Some(outcome)) if !other_body => return Ok(Turn::Known(outcome)),
                        // It ended without an outcome, or with one that is not
                        // ours: ask again.
                        Ok(_) => {}
                    }
                }
            }
        }
    }
}

impl Source {
    fn allows(&self, client: Option<IpAddr>) -> bool {
        self.allow_from.is_empty()
            || client.is_some_and(|client| {
                let mut networks = self.allow_from.iter();
                networks.any(|network| network.contains(&client))
            })
    }

    /// The first destination of the plan that must accept, has not yet, and cannot
    /// take the event at all.
    fn cannot_take(
        &self,
        event: &Event,
        plan: &[usize],
        reservation: Option<&Reservation<Outcome>>,
    ) -> Option<Arc<str>> {
        let mut planned = plan.iter().map(|number| &self.destinations[*number]);
        let found = planned.find(|target| {
            !target.destination.takes(event)
                && target.destination.required()
                && !reservation.is_some_and(|r| r.has_receipt(&target.name))
        });
        found.map(|target| Arc::clone(&target.name))
    }

    /// Notes when a message was verified, and how far the sender's clock is from ours.
    pub(super) fn verified(&self, message: &Verified, now: SystemTime) {
        self.metrics.verified(now);
        if let Some(proof) = message.proof() {
            let now = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
            let signed = Duration::from_secs(proof.timestamp().seconds());
            self.metrics
                .clock_skew
                .set(signed.as_secs_f64() - now.as_secs_f64());
        }
    }
}

/// As much of a path as tells what is wrong with it, without what could pass for
/// another line of the log.
fn beginning(path: &str) -> Box<str> {
    const TOLD: usize = 100;
    let told = path.chars().take(TOLD).flat_map(char::escape_debug);
    told.collect::<String>().into()
}

/// The id that a refused head claims, for the log, if its form is good.
pub(super) fn claimed_id(headers: &Headers) -> Option<MessageId> {
    let mut claimed = Family::ALL.iter().filter_map(|f| headers.get(f.id()));
    MessageId::parse(claimed.next()?.share())
}

/// A request whose head was good.
struct Admitted {
    source: Arc<Source>,
    origin: Origin,
    envelope: Option<Envelope>,
}

/// A proven message with all it holds while it is under way.
pub(super) struct Proven {
    pub(super) source: Arc<Source>,
    pub(super) message: Verified,
    pub(super) deadline: Instant,
    /// Its places where it has waited for them; else they are taken, or refused.
    pub(super) places: Option<Places>,
    /// Who has accepted it, as far as that is not the ledger's to know.
    pub(super) accepted: Vec<Arc<str>>,
    pub(super) _held: Holding,
}

/// The share of the memory for bodies that a message under way holds.
pub(super) enum Holding {
    /// It is its own.
    Own(#[expect(dead_code, reason = "held until it is dropped")] Held),
    /// A queue's message holds it from one attempt to the next.
    Shared(#[expect(dead_code, reason = "held until it is dropped")] Share),
}

/// Whether it is this message's turn to run.
enum Turn {
    /// It is; without a reservation where there are no ids to keep apart.
    Run(Option<Reservation<Outcome>>, Places),
    /// It is not, and this is how the other came out.
    Known(Outcome),
}

use std::time::Duration;

use http::StatusCode;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::deliver::breaker::Health;
use crate::deliver::{Budget, Failure, Reason};
use crate::message::Event;
use crate::observe::AttemptOutcome;

use super::Http;
use super::connect::NoConnection;
use super::pool::Link;
use super::retry::{RetryOn, retry_after};
use super::wire::{Broken, Wire};

/// One attempt at a delivery.
pub(super) struct Attempt<'a> {
    pub(super) http: &'a Http,
    pub(super) event: &'a Event,
    /// Nothing is begun after its end.
    pub(super) budget: Budget<'a>,
}

/// How an attempt ended that was not accepted.
pub(super) struct End {
    pub(super) failure: Failure,
    pub(super) health: Health,
    /// What `retry_on` calls it, if it has a name there.
    pub(super) retry: Option<RetryOn>,
    /// What the destination asked for.
    pub(super) retry_after: Option<Duration>,
}

/// Between two tries to connect to a destination that refuses.
const KNOCK: Duration = Duration::from_millis(200);

/// Whether a request left on a connection that had been at rest.
enum Sent {
    Accepted,
    /// Not a byte of it, and why: it can go out on another.
    Unwritten(String),
}

impl Attempt<'_> {
    /// Makes the attempt, which begins `now`.
    pub(super) async fn run(&self, now: Instant) -> Result<(), End> {
        if self.budget.has_ended(now) {
            return Err(End::budget());
        }
        self.over(self.http.pool.take(now), now).await
    }

    /// Makes it over an idle connection, or else over one of its own.
    pub(super) async fn over(&self, idle: Option<Link>, now: Instant) -> Result<(), End> {
        if let Some(link) = idle
            && let Sent::Accepted = self.send(link, now).await?
        {
            return Ok(());
        }
        // Seldom needed: boxed, so that every request does not carry its size.
        let link = Box::pin(self.connect()).await?;
        match self.send(link, Instant::now()).await? {
            Sent::Accepted => Ok(()),
            Sent::Unwritten(why) => Err(End {
                health: Health::Away,
                retry: Some(RetryOn::Reset),
                ..End::of(Failure::before(AttemptOutcome::Failed, Reason::Broken(why)))
            }),
        }
    }

    /// Opens a connection; while connecting is refused, again and again.
    async fn connect(&self) -> Result<Link, End> {
        let config = &self.http.config;
        let began = Instant::now();
        loop {
            let now = Instant::now();
            let limit = self.budget.deadline.min(now + config.connect_timeout);
            let reason = match timeout_at(limit, self.http.connector.connect()).await {
                Ok(Ok(stream)) => return Ok(self.http.pool.opened(Wire::new(stream))),
                Ok(Err(NoConnection::Refused)) => {
                    // The last try is at the very end.
                    let next = (Instant::now() + KNOCK).min(began + config.hold);
                    if next > now
                        && next < self.budget.deadline
                        && self.budget.bound(sleep_until(next)).await.is_some()
                    {
                        continue;
                    }
                    Reason::ConnectRefused { held: now - began }
                }
                // Our own want says nothing of the destination.
                Ok(Err(NoConnection::NoFiles(why))) => {
                    let busy = Failure::before(AttemptOutcome::Busy, Reason::Connect(why));
                    return Err(End::of(busy));
                }
                Ok(Err(NoConnection::Other(reason))) => reason,
                Ok(Err(NoConnection::Timeout)) => Reason::ConnectTimeout(config.connect_timeout),
                Err(_) if limit == self.budget.deadline => return Err(End::budget()),
                Err(_) => Reason::ConnectTimeout(config.connect_timeout),
            };
            let (outcome, retry) = match reason {
                Reason::ConnectTimeout(_) => (AttemptOutcome::Late, Some(RetryOn::Timeout)),
                _ => (AttemptOutcome::Failed, None),
            };
            return Err(End {
                health: Health::Away,
                retry,
                ..End::of(Failure::before(outcome, reason))
            });
        }
    }

    /// Writes the request and waits for the head of the answer, for no longer
    /// than `timeout`, whatever is left of the budget.
    async fn send(&self, mut link: Link, now: Instant) -> Result<Sent, End> {
        let Http { config, clock, .. } = self.http;
        let limit = config.timeout;
        let head = |text: &mut _| self.http.heads.write(self.event, || clock.now(), text);
        let deadline = now + limit;
        match link.wire.exchange(head, self.event.body(), deadline).await {
            Ok((reply, whole)) => {
                let status = reply.status;
                if status.is_success() {
                    link.finish(reply, whole);
                    return Ok(Sent::Accepted);
                }
                let asked = reply.retry_after.as_deref();
                let after = asked.and_then(|text| retry_after(text, clock.now()));
                link.finish(reply, whole);
                Err(End {
                    retry_after: after,
                    ..End::answered(status)
                })
            }
            Err(Broken::Unwritten(why)) => Ok(Sent::Unwritten(why)),
            Err(Broken::Midway(why)) => Err(End {
                health: Health::Away,
                retry: Some(RetryOn::Reset),
                ..End::of(Failure::in_doubt(
                    AttemptOutcome::Unconfirmed,
                    Reason::Broken(why),
                ))
            }),
            Err(Broken::Late) => Err(End {
                health: Health::Away,
                retry: Some(RetryOn::Timeout),
                ..End::of(Failure::in_doubt(
                    AttemptOutcome::Late,
                    Reason::Timeout(limit),
                ))
            }),
        }
    }
}

impl End {
    /// With an answer that does not accept.
    pub(super) fn answered(status: StatusCode) -> Self {
        let away = [
            StatusCode::BAD_GATEWAY,
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::GATEWAY_TIMEOUT,
        ];
        Self {
            health: if away.contains(&status) {
                Health::Away
            } else {
                Health::There
            },
            retry: Some(RetryOn::Status(status)),
            ..Self::of(Failure::before(
                AttemptOutcome::Refused,
                Reason::Status(status),
            ))
        }
    }

    /// By our own clock, before anything was sent.
    fn budget() -> Self {
        Self::of(Failure::before(AttemptOutcome::Late, Reason::Budget))
    }

    fn of(failure: Failure) -> Self {
        Self {
            failure,
            health: Health::Unknown,
            retry: None,
            retry_after: None,
        }
    }
}

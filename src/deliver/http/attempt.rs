use std::error::Error as _;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::deliver::breaker::Health;
use crate::deliver::{Failure, Reason};
use crate::message::Event;
use crate::observe::AttemptOutcome;

use super::Http;
use super::connect::{NoConnection, Writing};
use super::pool::Link;
use super::retry::{RetryOn, retry_after};

/// One attempt at a delivery.
pub(super) struct Attempt<'a> {
    pub(super) http: &'a Http,
    pub(super) event: &'a Event,
    /// Nothing is begun after it.
    pub(super) deadline: Instant,
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

enum Sent {
    Accepted,
    /// Not a byte left; the request can go out again.
    Unwritten(Box<Request<Full<Bytes>>>, hyper::Error),
}

impl Attempt<'_> {
    /// Makes the attempt.
    pub(super) async fn run(&self) -> Result<(), End> {
        if Instant::now() >= self.deadline {
            return Err(End::budget());
        }
        let writing = Writing::of(self.event.body());
        self.over(self.http.pool.take(writing)).await
    }

    /// Makes it over an idle connection, or else over one of its own.
    pub(super) async fn over(&self, idle: Option<Link>) -> Result<(), End> {
        let mut request = self.request();
        if let Some(link) = idle {
            match self.send(link, request).await? {
                Sent::Accepted => return Ok(()),
                Sent::Unwritten(back, _) => request = *back,
            }
        }
        // Seldom needed: boxed, so that every request does not carry its size.
        let link = Box::pin(self.connect()).await?;
        match self.send(link, request).await? {
            Sent::Accepted => Ok(()),
            Sent::Unwritten(_, error) => Err(End {
                health: Health::Away,
                retry: Some(RetryOn::Reset),
                ..End::of(Failure::before(
                    AttemptOutcome::Failed,
                    Reason::Broken(text(&error)),
                ))
            }),
        }
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let body = self.event.body().clone();
        let empty = body.is_empty();
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.http.path.clone();
        *request.headers_mut() = self.http.headers.of(self.event, || self.http.clock.now());
        if empty {
            // Otherwise it follows from the body.
            let none = header::HeaderValue::from_static("0");
            request.headers_mut().insert(header::CONTENT_LENGTH, none);
        }
        request
    }

    /// Opens a connection; while connecting is refused, again and again.
    async fn connect(&self) -> Result<Link, End> {
        let writing = Writing::of(self.event.body());
        let config = &self.http.config;
        let began = Instant::now();
        loop {
            let now = Instant::now();
            let limit = self.deadline.min(now + config.connect_timeout);
            let reason = match timeout_at(limit, self.http.connector.connect(writing)).await {
                Ok(Ok(sender)) => return Ok(self.http.pool.opened(sender, writing)),
                Ok(Err(NoConnection::Refused)) => {
                    let next = Instant::now() + KNOCK;
                    if next <= began + config.hold && next < self.deadline {
                        sleep_until(next).await;
                        continue;
                    }
                    let held = now - began;
                    Reason::ConnectRefused { held }
                }
                // Our own want says nothing of the destination.
                Ok(Err(NoConnection::NoFiles(why))) => {
                    let busy = Failure::before(AttemptOutcome::Busy, Reason::Connect(why));
                    return Err(End::of(busy));
                }
                Ok(Err(NoConnection::Other(reason))) => reason,
                Ok(Err(NoConnection::Timeout)) => Reason::ConnectTimeout(config.connect_timeout),
                Err(_) if limit == self.deadline => return Err(End::budget()),
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
    async fn send(&self, mut link: Link, request: Request<Full<Bytes>>) -> Result<Sent, End> {
        let limit = self.http.config.timeout;
        match timeout(limit, link.sender.try_send_request(request)).await {
            Ok(Ok(answer)) => {
                let status = answer.status();
                let after = if status.is_success() {
                    None
                } else {
                    retry_after(answer.headers(), self.http.clock.now())
                };
                link.finish(answer.into_body());
                if status.is_success() {
                    return Ok(Sent::Accepted);
                }
                Err(End {
                    retry_after: after,
                    ..End::answered(status)
                })
            }
            Ok(Err(mut error)) => match error.take_message() {
                Some(request) => Ok(Sent::Unwritten(Box::new(request), error.into_error())),
                None => Err(End {
                    health: Health::Away,
                    retry: Some(RetryOn::Reset),
                    ..End::of(Failure::in_doubt(
                        AttemptOutcome::Unconfirmed,
                        Reason::Broken(text(error.error())),
                    ))
                }),
            },
            Err(_) => Err(End {
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

fn text(error: &hyper::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

//! HTTP services: a small pool of connections for each, and attempts with a
//! timeout of their own.
//!
//! An attempt takes an idle connection or opens one, writes the request and waits
//! for the head of the answer; the rest of the answer is read off later, within
//! bounds, so that the connection can be used again. A request that an idle
//! connection gave back unwritten goes out again on a fresh one without further
//! ado; once bytes were written, only an answer tells what became of them.

mod attempt;
mod config;
mod connect;
mod pool;
mod reply;
mod request;
mod retry;
mod stream;
mod target;
mod wire;

use http::HeaderValue;
use tokio::time::{Instant, sleep_until};

use crate::key::SigningKey;
use crate::message::Event;
use crate::observe::{AttemptOutcome, Clock};

use super::breaker::Health;
use super::headers::Headers;
use super::{Attempts, Budget, Failure};

pub use config::HttpConfig;
pub use retry::{RetryConfig, RetryOn};
pub use target::Target;

use attempt::Attempt;
use connect::Connector;
use pool::Pool;
use request::Heads;

/// An HTTP service.
pub(super) struct Http {
    config: HttpConfig,
    heads: Heads,
    connector: Connector,
    pool: Pool,
    clock: Clock,
}

impl Http {
    /// Prepares connections and headers; connects to nothing.
    pub(super) fn build(config: &HttpConfig, room: usize, clock: Clock) -> Result<Self, String> {
        let unread = || "its secrets were not read".to_owned();
        let configured = config
            .headers
            .iter()
            .map(|(name, secret)| {
                let text = secret.expose().ok_or_else(unread)?;
                let mut value = HeaderValue::from_str(text)
                    .map_err(|_| format!("`headers.{name}` cannot stand in a header"))?;
                value.set_sensitive(true);
                Ok((name.clone(), value))
            })
            .collect::<Result<_, String>>()?;
        let sign = match &config.sign {
            None => Vec::new(),
            Some(secret) => {
                let text = secret.expose().ok_or_else(unread)?;
                SigningKey::parse_all(text).map_err(|problem| format!("`sign` {problem}"))?
            }
        };
        let headers = Headers {
            host: Some(config.target.host()?),
            forward: config.forward_headers.clone(),
            configured,
            sign,
        };
        Ok(Self {
            heads: Heads::new(&config.target.path()?, headers),
            connector: Connector::new(config)?,
            pool: Pool::new(room),
            config: config.clone(),
            clock,
        })
    }

    /// Attempts until one is accepted, or none may follow.
    pub(super) async fn deliver(
        &self,
        event: &Event,
        budget: Budget<'_>,
        attempts: &mut Attempts<'_>,
    ) -> Result<(), Failure> {
        let mut tried = 0;
        let mut in_doubt = false;
        // The first begins with the delivery: the clock need not be asked twice.
        let mut now = attempts.began;
        loop {
            let attempt = Attempt {
                http: self,
                event,
                budget,
            };
            let Err(end) = attempt.run(now).await else {
                attempts.ended(AttemptOutcome::Accepted, Health::There);
                return Ok(());
            };
            tried += 1;
            in_doubt |= end.failure.may_have_arrived;
            attempts.ended(end.failure.outcome, end.health);
            let wait = self.config.retry.wait(tried, &end);
            let next = wait
                .filter(|_| attempts.may_try_again())
                .and_then(|wait| Instant::now().checked_add(wait))
                .filter(|next| *next < budget.deadline);
            match next {
                Some(next) if budget.bound(sleep_until(next)).await.is_some() => {
                    now = Instant::now();
                }
                _ => {
                    return Err(Failure {
                        may_have_arrived: in_doubt,
                        ..end.failure
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;

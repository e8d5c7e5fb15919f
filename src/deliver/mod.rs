//! Destinations: what an event is handed to, and the proof that it was taken.
//!
//! A [`Destination`] is one configured place: an HTTP service, a RabbitMQ exchange or
//! queue, or a file. Each has
//! a bulkhead (`max_in_flight`) and a circuit breaker of its own, so that one slow
//! or dead place holds up no other. [`Destination::deliver`] ends in a [`Receipt`],
//! which only an acceptance makes, or in a [`Failure`], which knows whether the
//! event may have arrived all the same.
//!
//! A further kind of destination is a folder beside `http`, `rabbitmq` and `file`, an arm of
//! [`KindConfig`] and one of `Kind`.

mod breaker;
mod budget;
mod claim;
mod config;
mod failure;
mod file;
#[cfg(test)]
mod fixture;
mod headers;
mod http;
mod rabbitmq;

use std::time::SystemTime;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;

use crate::message::Event;
use crate::observe::{AttemptOutcome, Clock, DestinationMetrics, PATIENCE, is_behind};
use crate::setting::Name;

pub use breaker::CircuitState;
pub use budget::{Budget, HungUp};
pub use config::{BreakerConfig, DestinationConfig, KindConfig};
pub use failure::{Failure, Reason};
pub use file::FileConfig;
pub use http::{HttpConfig, RetryConfig, RetryOn, Target};
pub use rabbitmq::{Argument, Declare, RabbitConfig, RabbitTarget, Template};

use breaker::{Breaker, Health, Passage};

/// What a destination is built with.
#[derive(Clone)]
pub struct Means {
    /// Its counters.
    pub metrics: DestinationMetrics,
    /// The time it goes by.
    pub clock: Clock,
    /// Where a destination's own long work is run, so that a drain waits for it.
    /// `http` and `file` have none: their deliveries are the caller's tasks.
    pub tasks: TaskTracker,
}

/// Proof that a destination accepted an event. Only [`Destination::deliver`]
/// makes one.
#[derive(Clone, Debug)]
pub struct Receipt {
    destination: Name,
    at: SystemTime,
}

impl Receipt {
    /// Who accepted.
    pub fn destination(&self) -> &Name {
        &self.destination
    }

    /// When.
    pub fn at(&self) -> SystemTime {
        self.at
    }
}

/// What a destination looks like at the moment, for `/status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationState {
    /// `http`, `rabbitmq` or `file`.
    pub kind: &'static str,
    /// Whether its last attempt found it there.
    pub up: bool,
    /// Its circuit.
    pub circuit: CircuitState,
    /// Deliveries under way.
    pub in_flight: usize,
}

/// A place events are handed to.
pub struct Destination {
    name: Name,
    required: bool,
    clock: Clock,
    metrics: DestinationMetrics,
    bulkhead: Semaphore,
    room: usize,
    breaker: Breaker,
    kind: Kind,
}

enum Kind {
    Http(Box<http::Http>),
    Rabbit(Box<rabbitmq::Rabbit>),
    File(file::File),
}

impl Destination {
    /// Builds the destination of `config`. A file is opened; an HTTP service is not
    /// connected to; a broker is, in a task of its own, so this is to be called in a
    /// tokio runtime.
    ///
    /// # Errors
    /// In words, when the file or the system's certificates cannot be read, or a
    /// secret was not read with the configuration.
    pub fn build(config: &DestinationConfig, means: Means) -> Result<Self, String> {
        let room = config.max_in_flight.min(Semaphore::MAX_PERMITS);
        let clock = means.clock;
        let kind = match &config.kind {
            KindConfig::Http(http) => {
                http::Http::build(http, room, clock.clone()).map(|http| Kind::Http(Box::new(http)))
            }
            KindConfig::Rabbit(rabbit) => {
                rabbitmq::Rabbit::build(rabbit, &config.name, room, &means.metrics)
                    .map(|rabbit| Kind::Rabbit(Box::new(rabbit)))
            }
            KindConfig::File(file) => file::File::build(file, room, clock.clone()).map(Kind::File),
        };
        Ok(Self {
            name: config.name.clone(),
            required: config.required,
            clock,
            breaker: Breaker::new(config.circuit_breaker.clone()),
            metrics: means.metrics,
            bulkhead: Semaphore::new(room),
            room,
            kind: kind.map_err(|why| format!("destination `{}`: {why}", config.name))?,
        })
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Whether the answer to the sender depends on it.
    pub fn required(&self) -> bool {
        self.required
    }

    /// How many deliveries it takes at once.
    pub fn room(&self) -> usize {
        self.room
    }

    /// Whether the event has all that this destination cannot do without, as a type
    /// where a name on the broker is made of it.
    pub fn takes(&self, event: &Event) -> bool {
        match &self.kind {
            Kind::Http(_) | Kind::File(_) => true,
            Kind::Rabbit(rabbit) => rabbit.takes(event),
        }
    }

    /// Hands an event over, in as many attempts as are configured and fit `budget`.
    ///
    /// Past `max_in_flight` (but see [`is_behind`]), or while the circuit is open,
    /// it ends at once. It may outlast the budget by the timeout of one attempt; a
    /// caller that must answer earlier runs it as a task of its own. Dropping the
    /// future gives up the attempt under way, without a trace of how it ended.
    ///
    /// # Errors
    /// The [`Failure`] of the last attempt.
    pub async fn deliver(&self, event: &Event, budget: Budget<'_>) -> Result<Receipt, Failure> {
        let Some(_place) = self.place(budget).await else {
            self.metrics.attempted(AttemptOutcome::Busy);
            return Err(Failure::before(AttemptOutcome::Busy, Reason::Busy));
        };
        if let Kind::Rabbit(rabbit) = &self.kind
            && rabbit.was_heard()
        {
            // Its supervisor knows before any delivery can show it.
            self.breaker.probe_next();
        }
        let passage = self.breaker.admit().map_err(|left| {
            self.metrics.attempted(AttemptOutcome::Unavailable);
            Failure::before(AttemptOutcome::Unavailable, Reason::CircuitOpen { left })
        })?;
        let mut attempts = Attempts {
            metrics: &self.metrics,
            passage,
            began: Instant::now(),
        };
        self.metrics.in_flight.inc();
        let accepted = match &self.kind {
            Kind::Http(http) => http.deliver(event, budget, &mut attempts).await,
            // Boxed, so that an event for a service does not carry their size.
            Kind::Rabbit(rabbit) => Box::pin(rabbit.deliver(event, budget, &mut attempts)).await,
            Kind::File(file) => Box::pin(file.deliver(event, budget, &mut attempts)).await,
        };
        accepted.map(|()| Receipt {
            destination: self.name.clone(),
            at: self.clock.now(),
        })
    }

    /// A place among `max_in_flight`. None when all are taken, and stay so although
    /// the runtime has caught up, or for [`PATIENCE`].
    async fn place(&self, budget: Budget<'_>) -> Option<SemaphorePermit<'_>> {
        if let Ok(place) = self.bulkhead.try_acquire() {
            return Some(place);
        }
        // Boxed, because it is seldom.
        Box::pin(async {
            if is_behind().await {
                let until = budget.deadline.min(Instant::now() + PATIENCE);
                timeout_at(until, self.bulkhead.acquire()).await.ok()?.ok()
            } else {
                self.bulkhead.try_acquire().ok()
            }
        })
        .await
    }

    /// How it is at the moment.
    pub fn state(&self) -> DestinationState {
        DestinationState {
            kind: match self.kind {
                Kind::Http(_) => "http",
                Kind::Rabbit(_) => "rabbitmq",
                Kind::File(_) => "file",
            },
            up: self.metrics.up.get() != 0,
            circuit: self.breaker.state(),
            in_flight: self.room - self.bulkhead.available_permits(),
        }
    }

    /// Why it is not to be counted on at the moment, if so, for `/readyz`.
    pub fn degraded(&self) -> Option<String> {
        if let Kind::Rabbit(rabbit) = &self.kind
            && let Some(why) = rabbit.degraded()
        {
            return Some(format!("destination `{}`: {why}", self.name));
        }
        match self.breaker.state() {
            CircuitState::Closed => None,
            CircuitState::Open | CircuitState::Probing => Some(format!(
                "the circuit of destination `{}` is open",
                self.name
            )),
        }
    }

    /// Takes leave of a broker, once no event is under way and none will follow;
    /// does nothing to other kinds. It waits for a second at most.
    pub async fn leave(&self) {
        match &self.kind {
            Kind::Rabbit(rabbit) => rabbit.leave().await,
            Kind::Http(_) | Kind::File(_) => {}
        }
    }

    /// Opens its file again before the next line, as log rotation wants it; does
    /// nothing to other kinds.
    pub fn reopen(&self) {
        match &self.kind {
            Kind::Http(_) | Kind::Rabbit(_) => {}
            Kind::File(file) => file.reopen(),
        }
    }
}

/// Where the attempts of one delivery are counted, each as it ends.
struct Attempts<'a> {
    metrics: &'a DestinationMetrics,
    passage: Passage<'a>,
    began: Instant,
}

impl Attempts<'_> {
    /// Counts an attempt, and tells the breaker what it showed.
    fn ended(&mut self, outcome: AttemptOutcome, health: Health) {
        self.metrics.attempted(outcome);
        self.passage.record(health);
        match health {
            Health::There => self.metrics.up.set(1),
            Health::Away => self.metrics.up.set(0),
            Health::Unknown => {}
        }
    }

    /// Whether the circuit lets another attempt of this delivery through.
    fn may_try_again(&self) -> bool {
        self.passage.is_open()
    }
}

impl Drop for Attempts<'_> {
    /// However the delivery ends, also when its future is dropped.
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
        self.metrics
            .delivery_duration
            .observe(self.began.elapsed().as_secs_f64());
    }
}

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::BreakerConfig;

/// A circuit breaker: after so many attempts in a row that did not find the
/// destination there, further ones end at once, until a time has passed; then
/// one at a time may probe.
pub(super) struct Breaker {
    config: Option<BreakerConfig>,
    state: Mutex<State>,
}

/// What an attempt showed of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// It answered.
    There,
    /// It could not be reached, was silent, or said itself that it is away.
    Away,
    /// The attempt ended for a reason of our own.
    Unknown,
}

/// The state of a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitState {
    /// Deliveries pass.
    Closed,
    /// Deliveries end at once, or one may probe now.
    Open,
    /// One delivery is under way to see whether the destination is back.
    Probing,
}

impl CircuitState {
    /// As `/status` writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            CircuitState::Closed => "closed",
            CircuitState::Open => "open",
            CircuitState::Probing => "probing",
        }
    }
}

#[derive(Clone, Copy)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
    },
    /// The probe has its own number, so that one that is given up late does not
    /// free the place of the next.
    Probing {
        probe: u64,
    },
}

impl Breaker {
    /// A closed circuit; without a `config` it never opens.
    pub(super) fn new(config: Option<BreakerConfig>) -> Self {
        Self {
            config,
            state: Mutex::new(State::Closed { failures: 0 }),
        }
    }

    /// Lets a delivery through.
    ///
    /// # Errors
    /// How long it lets none through, as far as it knows: while one probes, not at all.
    pub(super) fn admit(&self) -> Result<Passage<'_>, Duration> {
        let mut probe = None;
        if self.config.is_some() {
            let mut state = self.lock();
            match *state {
                State::Closed { .. } => {}
                State::Open { until } => {
                    let left = until.saturating_duration_since(Instant::now());
                    if !left.is_zero() {
                        return Err(left);
                    }
                    let number = fastrand::u64(..);
                    *state = State::Probing { probe: number };
                    probe = Some(number);
                }
                State::Probing { .. } => return Err(Duration::ZERO),
            }
        }
        Ok(Passage {
            breaker: self,
            probe,
        })
    }

    /// The destination has shown by other means that it is there: the next delivery
    /// through an open circuit is the probe.
    pub(super) fn probe_next(&self) {
        if let State::Open { until } = &mut *self.lock() {
            *until = Instant::now();
        }
    }

    /// Its state.
    pub(super) fn state(&self) -> CircuitState {
        match *self.lock() {
            State::Closed { .. } => CircuitState::Closed,
            State::Open { .. } => CircuitState::Open,
            State::Probing { .. } => CircuitState::Probing,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment: a poisoned state is a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A delivery that was let through. Dropping a probe that showed nothing lets
/// the next delivery probe.
pub(super) struct Passage<'a> {
    breaker: &'a Breaker,
    probe: Option<u64>,
}

impl Passage<'_> {
    /// Takes in what an attempt showed.
    pub(super) fn record(&mut self, health: Health) {
        let Some(config) = &self.breaker.config else {
            return;
        };
        let mut state = self.breaker.lock();
        match (health, *state) {
            (Health::Unknown, _) | (Health::There, State::Closed { failures: 0 }) => {}
            (Health::There, _) => {
                *state = State::Closed { failures: 0 };
                self.probe = None;
            }
            (Health::Away, State::Closed { failures }) => {
                let failures = failures.saturating_add(1);
                if failures < config.failures {
                    *state = State::Closed { failures };
                } else {
                    *state = State::Open {
                        until: Instant::now() + config.open_for,
                    };
                }
            }
            (Health::Away, State::Probing { probe }) if self.probe == Some(probe) => {
                *state = State::Open {
                    until: Instant::now() + config.open_for,
                };
                self.probe = None;
            }
            // Begun before the circuit opened: nothing new.
            (Health::Away, State::Open { .. } | State::Probing { .. }) => {}
        }
    }

    /// Whether the circuit lets another attempt of this delivery through.
    pub(super) fn is_open(&self) -> bool {
        match *self.breaker.lock() {
            State::Closed { .. } => true,
            State::Open { .. } => false,
            State::Probing { probe } => self.probe == Some(probe),
        }
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        let Some(mine) = self.probe else { return };
        let mut state = self.breaker.lock();
        if let State::Probing { probe } = *state
            && probe == mine
        {
            *state = State::Open {
                until: Instant::now(),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN_FOR: Duration = Duration::from_secs(5);

    fn breaker(failures: u32) -> Breaker {
        let config = BreakerConfig {
            failures,
            open_for: OPEN_FOR,
        };
        Breaker::new(Some(config))
    }

    fn attempt(breaker: &Breaker, health: Health) {
        breaker.admit().ok().unwrap().record(health);
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_so_many_failures_in_a_row() {
        let breaker = breaker(3);
        attempt(&breaker, Health::Away);
        attempt(&breaker, Health::Away);
        attempt(&breaker, Health::There);
        attempt(&breaker, Health::Away);
        attempt(&breaker, Health::Away);
        assert_eq!(breaker.state(), CircuitState::Closed);
        attempt(&breaker, Health::Away);
        assert!(breaker.admit().is_err());
        assert_eq!(breaker.state(), CircuitState::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_our_own_doing_counts_for_nothing() {
        let breaker = breaker(2);
        attempt(&breaker, Health::Away);
        attempt(&breaker, Health::Unknown);
        attempt(&breaker, Health::Away);
        assert_eq!(breaker.state(), CircuitState::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_at_a_time_passes_when_it_was_open_long_enough() {
        let breaker = breaker(1);
        attempt(&breaker, Health::Away);
        tokio::time::advance(OPEN_FOR - Duration::from_millis(1)).await;
        assert_eq!(breaker.admit().err(), Some(Duration::from_millis(1)));
        tokio::time::advance(Duration::from_millis(1)).await;
        let mut probe = breaker.admit().ok().unwrap();
        assert_eq!(breaker.admit().err(), Some(Duration::ZERO));
        assert_eq!(breaker.state(), CircuitState::Probing);
        assert!(probe.is_open());
        probe.record(Health::There);
        assert_eq!(breaker.state(), CircuitState::Closed);
        drop(probe);
        assert_eq!(breaker.state(), CircuitState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_probe_keeps_it_open_for_the_whole_time_again() {
        let breaker = breaker(1);
        attempt(&breaker, Health::Away);
        tokio::time::advance(OPEN_FOR).await;
        attempt(&breaker, Health::Away);
        tokio::time::advance(OPEN_FOR - Duration::from_millis(1)).await;
        assert!(breaker.admit().is_err());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(breaker.admit().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_given_up_frees_its_place() {
        let breaker = breaker(1);
        attempt(&breaker, Health::Away);
        tokio::time::advance(OPEN_FOR).await;
        drop(breaker.admit().ok().unwrap());
        assert!(breaker.admit().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_acceptance_closes_it_and_a_late_probe_frees_no_other() {
        let breaker = breaker(1);
        let mut early = breaker.admit().ok().unwrap();
        attempt(&breaker, Health::Away);
        tokio::time::advance(OPEN_FOR).await;
        let first = breaker.admit().ok().unwrap();
        early.record(Health::There);
        assert_eq!(breaker.state(), CircuitState::Closed);
        attempt(&breaker, Health::Away);
        tokio::time::advance(OPEN_FOR).await;
        let _second = breaker.admit().ok().unwrap();
        drop(first);
        assert!(breaker.admit().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn who_began_before_it_opened_ends_no_probe_and_tries_no_more_meanwhile() {
        let breaker = breaker(1);
        let mut early = breaker.admit().ok().unwrap();
        assert!(early.is_open());
        attempt(&breaker, Health::Away);
        assert!(!early.is_open());
        tokio::time::advance(OPEN_FOR).await;
        let mut probe = breaker.admit().ok().unwrap();
        assert!(probe.is_open() && !early.is_open());
        early.record(Health::Away);
        assert_eq!(breaker.state(), CircuitState::Probing);
        probe.record(Health::There);
        assert_eq!(breaker.state(), CircuitState::Closed);
        assert!(early.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_known_to_be_there_again_is_probed_at_once() {
        let breaker = breaker(1);
        attempt(&breaker, Health::Away);
        assert!(breaker.admit().is_err());
        breaker.probe_next();
        assert_eq!(breaker.state(), CircuitState::Open);
        attempt(&breaker, Health::There);
        assert_eq!(breaker.state(), CircuitState::Closed);
        breaker.probe_next();
        assert_eq!(breaker.state(), CircuitState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn switched_off_it_never_opens() {
        let breaker = Breaker::new(None);
        for _ in 0..1000 {
            attempt(&breaker, Health::Away);
        }
        assert_eq!(breaker.state(), CircuitState::Closed);
    }
}

use std::time::Duration;

/// How long a message waits for its next attempt: `retry_delay`, and twice as long
/// each time, up to twelve times as long; a minute by default. All twenty attempts
/// of the default then end within the half hour for which RabbitMQ lets a message
/// be held (`consumer_timeout`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    first: Duration,
}

/// What a wait grows to, in times of the first.
const MOST: u32 = 12;
/// No single wait is longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// What a wait is spread over, so that messages which failed together are not tried
/// together: from 0.8 to 1.2 of it.
const SPREAD: (f64, f64) = (0.8, 1.2);
/// The first wait for a place, or for a ledger that is away.
const SOON: Duration = Duration::from_millis(50);

impl Schedule {
    pub(super) fn new(retry_delay: Duration) -> Self {
        Self { first: retry_delay }
    }

    /// After so many attempts that failed; at least one did.
    pub(super) fn after(self, failed: u32) -> Duration {
        spread(self.nominal(failed))
    }

    /// After hookward itself could not try, so many times in a row: shorter, because
    /// it was not the message's fault.
    pub(super) fn soon(self, times: u32) -> Duration {
        let wait = SOON.saturating_mul(doubled(times).min(1 << 16));
        spread(wait.min(self.first).min(LONGEST))
    }

    /// All waits of so many attempts together, at most.
    pub(super) fn longest(self, attempts: u32) -> Duration {
        // Past the first few all are alike.
        let few = attempts.min(16);
        let growing = (1..few).map(|failed| self.nominal(failed));
        let growing = growing.fold(Duration::ZERO, Duration::saturating_add);
        let rest = self.nominal(few).saturating_mul(attempts - few);
        let all = growing.saturating_add(rest);
        all.saturating_add(all / 5)
    }

    fn nominal(self, failed: u32) -> Duration {
        let times = doubled(failed).min(MOST);
        self.first.saturating_mul(times).min(LONGEST)
    }
}

/// 1, 2, 4, 8, …
fn doubled(times: u32) -> u32 {
    2u32.saturating_pow(times.saturating_sub(1))
}

fn spread(wait: Duration) -> Duration {
    let (least, most) = SPREAD;
    wait.mul_f64(least + fastrand::f64() * (most - least))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_wait_doubles_up_to_twelve_times_the_first() {
        let schedule = Schedule::new(Duration::from_secs(5));
        let seconds = |failed| schedule.nominal(failed).as_secs();
        let waits: Vec<u64> = (1..8).map(seconds).collect();
        assert_eq!(waits, [5, 10, 20, 40, 60, 60, 60]);
        assert_eq!(seconds(u32::MAX), 60);
    }

    #[test]
    fn the_default_ends_within_the_half_hour_of_the_broker() {
        let attempts = Duration::from_secs(12) * 20;
        let all = Schedule::new(Duration::from_secs(5)).longest(20) + attempts;
        assert!(all < Duration::from_secs(30 * 60), "{all:?}");
        assert!(all > Duration::from_secs(15 * 60), "{all:?}");
    }

    #[test]
    fn what_waits_for_hookward_waits_less_long() {
        let schedule = Schedule::new(Duration::from_secs(5));
        assert!(schedule.soon(1) <= Duration::from_millis(60));
        assert!(schedule.soon(100) >= Duration::from_secs(4));
        assert!(schedule.soon(u32::MAX) <= Duration::from_secs(6));
        let hasty = Schedule::new(Duration::from_millis(1));
        assert!(hasty.soon(9) <= Duration::from_micros(1200));
    }

    proptest! {
        #[test]
        fn no_wait_is_out_of_its_bounds(milliseconds in 1u64.., failed in 1u32..) {
            let first = Duration::from_millis(milliseconds);
            let wait = Schedule::new(first).after(failed);
            let nominal = Schedule::new(first).nominal(failed);
            prop_assert!(wait >= nominal.mul_f64(0.79));
            prop_assert!(wait <= nominal.mul_f64(1.21));
            prop_assert!(wait <= LONGEST.mul_f64(1.21));
        }

        #[test]
        fn all_waits_together_are_no_longer_than_told(
            milliseconds in 1u64..100_000,
            attempts in 1u32..60,
        ) {
            let schedule = Schedule::new(Duration::from_millis(milliseconds));
            let all: Duration = (1..attempts).map(|failed| schedule.after(failed)).sum();
            prop_assert!(all <= schedule.longest(attempts) + Duration::from_millis(1));
        }
    }
}

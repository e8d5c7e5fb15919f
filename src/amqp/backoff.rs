use std::time::Duration;

use tokio::time::Instant;

/// How long is waited before a broker is connected to again: twice as long each time,
/// up to [`LONG`](Self::LONG) while it was there within the last minute, and then up to
/// ten seconds (contract §7). Time is an argument.
pub struct Backoff {
    next: Duration,
    /// When a connection last ended.
    seen: Option<Instant>,
}

/// At first.
const SHORTEST: Duration = Duration::from_millis(100);
/// At most.
const LONGEST: Duration = Duration::from_secs(10);
/// How long a broker counts as one that was there.
const LATELY: Duration = Duration::from_secs(60);

impl Backoff {
    /// The longest wait for a broker that was there lately. A connection that held out
    /// for so long, or was of use, is followed by the shortest: one that was neither
    /// is not hammered at.
    pub const LONG: Duration = Duration::from_secs(2);

    /// A connection has ended that `began` then. `useful`: it has done what it is for.
    pub fn ended(&mut self, began: Instant, now: Instant, useful: bool) {
        self.seen = Some(now);
        if useful || now.duration_since(began) >= Self::LONG {
            self.next = SHORTEST;
        }
    }

    /// How long to wait for the next attempt: half of that to all of it, because nodes
    /// and gateways are not to come all at once.
    pub fn wait(&mut self, now: Instant) -> Duration {
        self.longest_wait(now).mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    fn longest_wait(&mut self, now: Instant) -> Duration {
        let lately = self
            .seen
            .is_some_and(|seen| now.duration_since(seen) < LATELY);
        let longest = if lately { Self::LONG } else { LONGEST };
        let wait = self.next.min(longest);
        self.next = (wait * 2).min(longest);
        wait
    }
}

/// Before the first attempt.
impl Default for Backoff {
    fn default() -> Self {
        Self {
            next: SHORTEST,
            seen: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The waits, when each attempt is made after the longest of them and fails at once.
    fn waits(backoff: &mut Backoff, mut now: Instant, count: usize) -> Vec<u128> {
        let wait = |_| {
            let wait = backoff.longest_wait(now);
            now += wait;
            wait.as_millis()
        };
        (0..count).map(wait).collect()
    }

    #[test]
    fn a_broker_that_never_was_there_is_tried_every_ten_seconds_in_the_end() {
        let waits = waits(&mut Backoff::default(), Instant::now(), 9);
        assert_eq!(
            waits,
            [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]
        );
    }

    #[test]
    fn one_that_was_there_is_tried_every_two_seconds_for_a_minute() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        backoff.ended(now, now + 5 * SECOND, false);
        let waits = waits(&mut backoff, now + 5 * SECOND, 40);
        assert_eq!(waits[..6], [100, 200, 400, 800, 1600, 2000]);
        let (lately, later): (Vec<u128>, Vec<u128>) =
            waits[5..].iter().partition(|wait| **wait == 2000);
        assert!((60_000 - 2000..60_000 + 4000).contains(&lately.iter().sum::<u128>()));
        assert_eq!(later[..3], [4000, 8000, 10_000]);
    }

    #[test]
    fn one_that_takes_connections_and_drops_them_is_not_hammered_at() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        for expected in [100, 200, 400] {
            backoff.ended(now, now + SECOND, false);
            assert_eq!(backoff.longest_wait(now + SECOND).as_millis(), expected);
        }
        backoff.ended(now, now + SECOND, true);
        assert_eq!(backoff.longest_wait(now + SECOND), SHORTEST);
    }

    #[test]
    fn nobody_waits_longer_than_that_or_less_than_half_of_it() {
        let now = Instant::now();
        for _ in 0..100 {
            let wait = Backoff::default().wait(now);
            assert!((SHORTEST / 2..=SHORTEST).contains(&wait), "{wait:?}");
        }
    }
}

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// The time hookward goes by. It follows the wall clock forward at once; when
/// that is stepped back, it goes on from where it was, with the boot-time clock
/// (which does not stop while the machine sleeps), until the wall clock catches
/// up. So a signed timestamp that was once too old never becomes good again.
///
/// Cloning shares the clock.
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

struct Inner {
    /// Where wall and boot-time clock are read; fixed ones in tests.
    read: Box<dyn Fn() -> Reading + Send + Sync>,
    /// The largest wall-minus-boot-time offset seen so far (nanoseconds).
    offset: AtomicI64,
    /// Whether the wall clock is behind at the moment.
    behind: AtomicBool,
    /// How often it was stepped back.
    steps: prometheus::IntCounter,
}

/// Both clocks at one moment (nanoseconds).
#[derive(Clone, Copy)]
struct Reading {
    wall: i64,
    boot: i64,
}

/// A wall clock behind by less than this is the jitter of reading two clocks one
/// after the other, and the slewing of NTP; it is not told (nanoseconds).
const JITTER: i64 = 1_000_000_000;

impl Clock {
    /// The clock of this machine; steps back are counted in `steps`.
    pub fn system(steps: prometheus::IntCounter) -> Self {
        Self::reading(steps, || {
            // The wall clock first: a pause between the two then makes the
            // offset smaller, never larger.
            let wall = nanoseconds(ClockId::Realtime);
            let boot = nanoseconds(ClockId::Boottime);
            Reading { wall, boot }
        })
    }

    /// A clock that stands still at `now`, for tests and `--at`.
    pub fn fixed(now: SystemTime) -> Self {
        let wall = i64::try_from(since_epoch(now).as_nanos()).unwrap_or(i64::MAX);
        let steps = prometheus::core::GenericCounter::new("fixed", "none");
        // The name is a constant that prometheus takes.
        let Ok(steps) = steps else {
            unreachable!("`fixed` is a metric name")
        };
        Self::reading(steps, move || Reading { wall, boot: 0 })
    }

    fn reading(
        steps: prometheus::IntCounter,
        read: impl Fn() -> Reading + Send + Sync + 'static,
    ) -> Self {
        let first = read();
        Self(Arc::new(Inner {
            read: Box::new(read),
            offset: AtomicI64::new(first.wall - first.boot),
            behind: AtomicBool::new(false),
            steps,
        }))
    }

    /// The time now.
    pub fn now(&self) -> SystemTime {
        let clock = &*self.0;
        let Reading { wall, boot } = (clock.read)();
        let offset = wall - boot;
        let known = clock.offset.fetch_max(offset, Ordering::Relaxed);
        if known - offset > JITTER {
            if !clock.behind.swap(true, Ordering::Relaxed) {
                clock.steps.inc();
                tracing::error!(
                    behind_seconds = (known - offset) / 1_000_000_000,
                    "the wall clock was stepped back; time goes on from where it was until the wall clock catches up"
                );
            }
        } else if clock.behind.load(Ordering::Relaxed) {
            clock.behind.store(false, Ordering::Relaxed);
            tracing::info!("the wall clock has caught up");
        }
        let now = boot + known.max(offset);
        UNIX_EPOCH + Duration::from_nanos(u64::try_from(now).unwrap_or(0))
    }
}

fn nanoseconds(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A time as RFC 3339 in UTC with milliseconds: `2026-11-21T21:40:00.000Z`.
pub fn rfc3339(time: SystemTime) -> String {
    let time = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{time:.3}")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn stepped(readings: Vec<(i64, i64)>) -> (Clock, prometheus::IntCounter) {
        let steps = prometheus::IntCounter::new("steps", "steps").unwrap();
        let readings = Mutex::new(readings.into_iter());
        let clock = Clock::reading(steps.clone(), move || {
            let (wall, boot) = readings.lock().unwrap().next().unwrap();
            Reading {
                wall: wall * SECOND,
                boot: boot * SECOND,
            }
        });
        (clock, steps)
    }

    fn seconds(clock: &Clock) -> u64 {
        since_epoch(clock.now()).as_secs()
    }

    #[test]
    fn the_wall_clock_is_followed_forward_at_once() {
        let (clock, steps) = stepped(vec![(1000, 1), (1001, 2), (5000, 3)]);
        assert_eq!(seconds(&clock), 1001);
        assert_eq!(seconds(&clock), 5000);
        assert_eq!(steps.get(), 0);
    }

    #[test]
    fn time_goes_on_when_the_wall_clock_is_stepped_back_and_heals() {
        let (clock, steps) = stepped(vec![(1000, 1), (400, 2), (410, 12), (1015, 15), (1000, 16)]);
        assert_eq!(seconds(&clock), 1001);
        assert_eq!(seconds(&clock), 1011);
        assert_eq!(steps.get(), 1, "one step, however often it is read");
        assert_eq!(seconds(&clock), 1015);
        assert_eq!(seconds(&clock), 1016);
        assert_eq!(steps.get(), 2, "a second step is a second step");
    }

    #[test]
    fn times_are_written_in_utc_with_milliseconds() {
        let time = UNIX_EPOCH + Duration::from_millis(1_649_367_553_007);
        assert_eq!(rfc3339(time), "2022-04-07T21:39:13.007Z");
    }
}

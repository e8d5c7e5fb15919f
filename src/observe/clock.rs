use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// The time hookward goes by. It follows the wall clock forward within a millisecond; when
/// that is stepped back, it goes on from where it was, with the boot-time clock
/// (which does not stop while the machine sleeps), until the wall clock catches
/// up. So a signed timestamp that was once too old never becomes good again.
///
/// Cloning shares the clock.
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

struct Inner {
    clocks: Clocks,
    /// The largest wall-minus-boot-time offset seen so far (nanoseconds).
    offset: AtomicI64,
    /// By the boot-time clock, when the wall clock is to be looked at again
    /// (nanoseconds).
    next: AtomicI64,
    /// Whether the wall clock is behind at the moment.
    behind: AtomicBool,
    /// How often it was stepped back.
    steps: prometheus::IntCounter,
}

/// Where wall and boot-time clock are read; fixed ones in tests.
enum Clocks {
    System,
    Read(Box<dyn Fn() -> Reading + Send + Sync>),
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

/// For so long after a look at the wall clock, the boot-time clock alone tells the
/// time: every request asks for it several times (nanoseconds).
const TRUSTED: i64 = 1_000_000;

impl Clocks {
    fn read(&self) -> Reading {
        match self {
            Clocks::System => {
                // The wall clock first: a pause between the two then makes the
                // offset smaller, never larger.
                let wall = nanoseconds(ClockId::Realtime);
                let boot = nanoseconds(ClockId::Boottime);
                Reading { wall, boot }
            }
            Clocks::Read(read) => read(),
        }
    }
}

impl Clock {
    /// The clock of this machine; steps back are counted in `steps`.
    pub fn system(steps: prometheus::IntCounter) -> Self {
        Self::of(steps, Clocks::System)
    }

    /// A clock that stands still at `now`, for tests and `--at`.
    pub fn fixed(now: SystemTime) -> Self {
        let wall = i64::try_from(since_epoch(now).as_nanos()).unwrap_or(i64::MAX);
        let steps = prometheus::core::GenericCounter::new("fixed", "none");
        // The name is a constant that prometheus takes.
        let Ok(steps) = steps else {
            unreachable!("`fixed` is a metric name")
        };
        let standing = move || Reading { wall, boot: 0 };
        Self::of(steps, Clocks::Read(Box::new(standing)))
    }

    fn of(steps: prometheus::IntCounter, clocks: Clocks) -> Self {
        let first = clocks.read();
        Self(Arc::new(Inner {
            clocks,
            offset: AtomicI64::new(first.wall - first.boot),
            next: AtomicI64::new(first.boot),
            behind: AtomicBool::new(false),
            steps,
        }))
    }

    /// The time now.
    pub fn now(&self) -> SystemTime {
        let clock = &*self.0;
        if let Clocks::System = clock.clocks {
            let boot = nanoseconds(ClockId::Boottime);
            if boot < clock.next.load(Ordering::Relaxed) {
                return at(boot + clock.offset.load(Ordering::Relaxed));
            }
            clock.next.store(boot + TRUSTED, Ordering::Relaxed);
        }
        let Reading { wall, boot } = clock.clocks.read();
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
        at(boot + known.max(offset))
    }
}

fn at(nanoseconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))
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
        let read = move || {
            let (wall, boot) = readings.lock().unwrap().next().unwrap();
            Reading {
                wall: wall * SECOND,
                boot: boot * SECOND,
            }
        };
        let clock = Clock::of(steps.clone(), Clocks::Read(Box::new(read)));
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
    fn between_two_looks_at_the_wall_clock_time_goes_on() {
        let clock = Clock::system(prometheus::IntCounter::new("steps", "steps").unwrap());
        let mut before = clock.now();
        // Far more than one look.
        let end = before + Duration::from_millis(20);
        while before < end {
            let now = clock.now();
            assert!(now >= before);
            before = now;
        }
        let wall = SystemTime::now();
        let apart = wall
            .duration_since(before)
            .unwrap_or_else(|error| error.duration());
        assert!(apart < Duration::from_secs(1), "{apart:?}");
    }

    #[test]
    fn times_are_written_in_utc_with_milliseconds() {
        let time = UNIX_EPOCH + Duration::from_millis(1_649_367_553_007);
        assert_eq!(rfc3339(time), "2022-04-07T21:39:13.007Z");
    }
}

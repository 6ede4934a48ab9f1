//! The only door to the time.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point on the cache's own timeline, in milliseconds.
///
/// The timeline never goes back and never runs slower than the wall clock: a wall clock set back cannot make an
/// old answer fresh again, and a machine that slept does not wake with fresh yesterdays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Later than all that comes.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    /// The time `later` than this one, saturating.
    #[must_use]
    pub fn plus(self, later: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(later.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The time from `earlier` to this one; zero if `earlier` is the later one.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A place on the timeline, and the date that goes with it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) at: Timestamp,
    /// Seconds since the Unix epoch, for comparison with the dates in fields.
    pub(crate) unix: i64,
}

/// Where a cache reads the time: the system's clock, or a [`ManualClock`] in tests.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    Manual(ManualClock),
}

impl Clock {
    /// The system's clock; the default.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// The place on the timeline; all that a hit needs.
    pub(crate) fn at(&self) -> Timestamp {
        match &self.0 {
            Source::System => SYSTEM.at(),
            Source::Manual(clock) => clock.at(),
        }
    }

    pub(crate) fn now(&self) -> Now {
        let unix = match &self.0 {
            Source::System => i64::try_from(unix_ms() / 1_000).unwrap_or(i64::MAX),
            Source::Manual(clock) => clock.unix(),
        };
        Now { at: self.at(), unix }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Source::System => "Clock::system",
            Source::Manual(_) => "Clock::manual",
        })
    }
}

impl From<ManualClock> for Clock {
    fn from(clock: ManualClock) -> Self {
        Self(Source::Manual(clock))
    }
}

/// One timeline for the process, so that entries move freely between configurations.
static SYSTEM: LazyLock<SystemClock> = LazyLock::new(SystemClock::start);

struct SystemClock {
    started: Instant,
    started_unix_ms: u64,
    /// How far the wall clock was seen ahead of the monotonic one (a leap forward, a sleep).
    ahead_ms: AtomicU64,
    /// When the wall clock was last asked, in milliseconds since the start.
    asked_ms: AtomicU64,
}

/// How often the wall clock is asked; a leap is noticed that much later at the most.
const ASK_EVERY_MS: u64 = 1_000;

#[allow(clippy::disallowed_methods)] // this is the door
impl SystemClock {
    fn start() -> Self {
        Self {
            started: Instant::now(),
            started_unix_ms: unix_ms(),
            ahead_ms: AtomicU64::new(0),
            asked_ms: AtomicU64::new(0),
        }
    }

    fn at(&self) -> Timestamp {
        let elapsed = self.started.elapsed();
        // By hand: `as_millis` counts in 128 bits, and every hit is here.
        let elapsed = elapsed.as_secs().saturating_mul(1_000).saturating_add(elapsed.subsec_millis().into());
        if elapsed.saturating_sub(self.asked_ms.load(Relaxed)) >= ASK_EVERY_MS {
            self.asked_ms.store(elapsed, Relaxed);
            let steady = self.started_unix_ms.saturating_add(elapsed);
            self.ahead_ms.fetch_max(unix_ms().saturating_sub(steady), Relaxed);
        }
        let ahead = self.ahead_ms.load(Relaxed);
        Timestamp(self.started_unix_ms.saturating_add(elapsed).saturating_add(ahead))
    }
}

#[allow(clippy::disallowed_methods)] // this is the door
fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A clock that stands still until it is told to move; clones share the hands.
///
/// ```
/// use actix_fast_cache::{CacheConfig, ManualClock, MemoryStorage};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let config = CacheConfig::builder(MemoryStorage::new()).clock(clock.clone()).build()?;
/// clock.advance(Duration::from_secs(61)); // what was stored before is stale now
/// # drop(config);
/// # Ok::<(), actix_fast_cache::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Hands>);

#[derive(Debug)]
struct Hands {
    at_ms: AtomicU64,
    wall_skew_ms: AtomicI64,
}

impl ManualClock {
    /// A clock that stands at 2026-01-01 00:00:00 GMT.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Hands { at_ms: AtomicU64::new(1_767_225_600_000), wall_skew_ms: AtomicI64::new(0) }))
    }

    /// Moves the time forward.
    pub fn advance(&self, by: Duration) {
        self.0.at_ms.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Sets the wall clock this many seconds off the timeline, as an operator or NTP would.
    pub fn skew_wall(&self, seconds: i64) {
        self.0.wall_skew_ms.store(seconds.saturating_mul(1_000), Relaxed);
    }

    fn at(&self) -> Timestamp {
        Timestamp(self.0.at_ms.load(Relaxed))
    }

    fn unix(&self) -> i64 {
        let at = i64::try_from(self.0.at_ms.load(Relaxed)).unwrap_or(i64::MAX);
        at.saturating_add(self.0.wall_skew_ms.load(Relaxed)).div_euclid(1_000)
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeline_never_goes_back() {
        let clock = SystemClock::start();
        // The wall clock was an hour ahead once, and was put right since.
        clock.ahead_ms.store(3_600_000, Relaxed);
        let first = clock.at();
        let second = clock.at();
        assert!(second >= first);
        assert!(first > Timestamp(unix_ms() + 3_000_000));
    }

    #[test]
    fn a_leap_of_the_wall_clock_ages_everything() {
        let mut clock = SystemClock::start();
        // As after a sleep of the machine: the monotonic clock knows nothing of an hour.
        clock.started_unix_ms -= 3_600_000;
        clock.started -= Duration::from_millis(ASK_EVERY_MS);
        assert!(clock.at().since(Timestamp(clock.started_unix_ms)) >= Duration::from_secs(3_599));
    }

    #[test]
    fn times_saturate() {
        assert_eq!(Timestamp(5).plus(Duration::MAX), Timestamp(u64::MAX));
        assert_eq!(Timestamp(5).since(Timestamp(9)), Duration::ZERO);
    }
}

//! Leaves a storage in trouble alone, so that requests do not wait for it one after the other.

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};
use std::time::Duration;

use crate::clock::Timestamp;

/// After so many calls in a row that failed or were late, the storage is left alone.
const MOST_FAILURES: u32 = 5;
/// Then one call in so long a time is let through, to see whether it is back.
const PROBE_EVERY: Duration = Duration::from_millis(500);

/// Closed, open, and half open once in a while.
#[derive(Default)]
pub(crate) struct Breaker {
    /// In a row.
    failures: AtomicU32,
    /// When the next call is let through, in milliseconds of the cache's timeline; zero where all are.
    opens_at: AtomicU64,
}

impl Breaker {
    /// Whether a call is to be made. Where all others are left out, one is let through as a probe.
    pub(crate) fn admits(&self, now: impl FnOnce() -> Timestamp) -> bool {
        let opens_at = self.opens_at.load(Acquire);
        if opens_at == 0 {
            return true;
        }
        let now = now();
        let next = millis(now.plus(PROBE_EVERY));
        // Of those who come when it is time, one takes the turn.
        millis(now) >= opens_at && self.opens_at.compare_exchange(opens_at, next, AcqRel, Relaxed).is_ok()
    }

    pub(crate) fn succeeded(&self) {
        if self.failures.load(Relaxed) > 0 || self.opens_at.load(Relaxed) > 0 {
            self.failures.store(0, Relaxed);
            self.opens_at.store(0, Relaxed);
        }
    }

    /// A call failed or was late.
    pub(crate) fn failed(&self, now: Timestamp) {
        if self.failures.fetch_add(1, Relaxed) + 1 >= MOST_FAILURES {
            self.opens_at.store(millis(now.plus(PROBE_EVERY)), Relaxed);
        }
    }
}

/// Never zero: that stands for closed.
fn millis(at: Timestamp) -> u64 {
    u64::try_from(at.since(Timestamp::default()).as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_several_failures_in_a_row_and_lets_one_probe_through_at_a_time() {
        let (breaker, start) = (Breaker::default(), Timestamp::default().plus(Duration::from_secs(1)));
        for _ in 0..3 {
            for _ in 1..MOST_FAILURES {
                breaker.failed(start);
                assert!(breaker.admits(|| start));
            }
            breaker.succeeded();
        }
        for _ in 0..MOST_FAILURES {
            breaker.failed(start);
        }
        assert!(
            !breaker.admits(|| start)
                && !breaker.admits(|| start.plus(PROBE_EVERY - Duration::from_millis(1)))
        );
        let later = start.plus(PROBE_EVERY);
        assert!(breaker.admits(|| later) && !breaker.admits(|| later));
        // A probe that nobody hears of again is followed by another one.
        let later = later.plus(PROBE_EVERY);
        assert!(breaker.admits(|| later));
        breaker.failed(later);
        assert!(!breaker.admits(|| later));
        let later = later.plus(PROBE_EVERY);
        assert!(breaker.admits(|| later));
        breaker.succeeded();
        assert!(breaker.admits(|| later) && breaker.admits(|| later));
    }

    #[test]
    fn a_success_that_meets_the_opening_does_not_leave_it_open_for_good() {
        let start = Timestamp::default().plus(Duration::from_secs(1));
        for _ in 0..20_000 {
            let breaker = Breaker::default();
            for _ in 1..MOST_FAILURES {
                breaker.failed(start);
            }
            std::thread::scope(|scope| {
                scope.spawn(|| breaker.failed(start));
                breaker.succeeded();
            });
            // Past any race the storage is well.
            for n in 1..10 {
                let now = start.plus(PROBE_EVERY * n);
                if breaker.admits(|| now) {
                    breaker.succeeded();
                }
            }
            let end = start.plus(PROBE_EVERY * 20);
            assert!(breaker.admits(|| end) && breaker.admits(|| end), "half open for good");
        }
    }
}

//! A thread that lets go of what is worthless, where nobody asks for it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::storage::deadlines::{Deadline, News};
use crate::storage::shelf::Shelf;

/// Sweeps a shelf until nobody else holds it.
///
/// Where no thread can be had, worthless entries go when they are asked for or when their room is needed.
pub(crate) fn start(shelf: &Arc<Shelf>) {
    let (deadlines, shelf) = (Arc::clone(shelf.deadlines()), Arc::downgrade(shelf));
    let sweeping = move || {
        let mut sweeper = Sweeper { shelf, clock: Clock::system(), known: BinaryHeap::new() };
        while sweeper.heed(deadlines.sleep_until(sweeper.next(), &sweeper.clock)) {}
    };
    let thread = thread::Builder::new().name("cache-sweeper".to_owned()).stack_size(STACK);
    if let Err(error) = thread.spawn(sweeping) {
        tracing::warn!(%error, "no thread to sweep the cache: entries out of date stay until their room is needed");
    }
}

/// It needs little, and a subscriber to traces may need some.
const STACK: usize = 256 << 10;
/// After so many entries others have their turn.
const STEP: usize = 64;
/// So many deadlines of entries that are gone may be known beside those of all entries.
const MOST_STALE: usize = 1024;

/// Nobody puts what has been worthless for longer than this: its timeline is another one, that a test moves by hand, and
/// nothing is known of when its time will be over.
const LATEST: Duration = Duration::from_secs(300);

struct Sweeper {
    shelf: Weak<Shelf>,
    clock: Clock,
    /// At least one deadline for each entry, and none later than the entry's own.
    known: BinaryHeap<Reverse<Deadline>>,
}

impl Sweeper {
    fn next(&self) -> Option<Timestamp> {
        self.known.peek().map(|Reverse(next)| next.until)
    }

    /// Does what there is to do; tells whether there will be more.
    fn heed(&mut self, news: News) -> bool {
        let now = self.clock.at();
        for deadline in news.deadlines {
            self.learn(deadline, now);
        }
        if news.cleared {
            self.sweep_invalid();
        }
        while self.sweep_some() {
            thread::yield_now();
        }
        self.forget_stale();
        !news.closed
    }

    fn learn(&mut self, mut deadline: Deadline, now: Timestamp) {
        if now.since(deadline.until) > LATEST {
            deadline.until = Timestamp::NEVER;
        }
        self.known.push(Reverse(deadline));
    }

    /// Lets go of some entries that are past their time; tells whether there may be more.
    fn sweep_some(&mut self) -> bool {
        let Some(shelf) = self.shelf.upgrade() else { return false };
        let now = self.clock.at();
        for _ in 0..STEP {
            let Some(Reverse(due)) = self.known.peek().filter(|next| next.0.until <= now) else {
                return false;
            };
            let due = *due;
            self.known.pop();
            if let Some(other) = shelf.sweep(due) {
                self.learn(other, now);
            }
        }
        true
    }

    fn sweep_invalid(&mut self) {
        for (at, Reverse(known)) in self.known.iter().enumerate() {
            let Some(shelf) = self.shelf.upgrade() else { return };
            shelf.sweep_invalid(known.hash);
            if at % STEP == 0 {
                thread::yield_now();
            }
        }
    }

    /// Keeps what is known bounded by what is there: entries leave before their time, and are replaced.
    fn forget_stale(&mut self) {
        let Some(shelf) = self.shelf.upgrade() else { return };
        if self.known.len() <= 2 * shelf.count() + MOST_STALE {
            return;
        }
        let mut known = std::mem::take(&mut self.known).into_vec();
        known.sort_unstable_by_key(|Reverse(known)| (known.hash, known.until));
        // The earliest of several: when its time comes, the entry tells its own.
        known.dedup_by_key(|Reverse(known)| known.hash);
        known.retain(|Reverse(known)| shelf.has(known.hash));
        known.shrink_to_fit();
        self.known = known.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_of_what_is_gone_are_forgotten() {
        let shelf = Arc::new(Shelf::new(1 << 20));
        let mut sweeper =
            Sweeper { shelf: Arc::downgrade(&shelf), clock: Clock::system(), known: BinaryHeap::new() };
        for round in 1..100 {
            let until = sweeper.clock.at().plus(Duration::from_secs(3600 + round));
            let deadlines = (0..100).map(|hash| Deadline { until, hash }).collect();
            assert!(sweeper.heed(News { deadlines, ..News::default() }));
            assert!(sweeper.known.len() <= MOST_STALE);
        }
        drop(shelf);
        assert!(!sweeper.heed(News { closed: true, ..News::default() }));
    }
}

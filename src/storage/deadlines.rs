//! When the entries of a storage are worthless: told by those who put them, heard by the one who sweeps them out.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, Timestamp};

/// The time after which an entry is worthless, and its hash. By then it may be gone, or another may be in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deadline {
    pub(crate) until: Timestamp,
    pub(crate) hash: u64,
}

/// What a sweeper was told since it last heard.
#[derive(Default)]
pub(crate) struct News {
    pub(crate) deadlines: Vec<Deadline>,
    /// Much has become invalid at once: every entry is to be looked at.
    pub(crate) cleared: bool,
    /// Nobody can ask for the entries any more.
    pub(crate) closed: bool,
}

/// Between those who put entries, who only add to a list, and the sweeper.
#[derive(Default)]
pub(crate) struct Deadlines {
    told: Mutex<Told>,
    changed: Condvar,
}

#[derive(Default)]
struct Told {
    news: News,
    /// When the sweeper wakes unless it is woken.
    wakes: Timestamp,
}

/// So many deadlines wait at the most until the sweeper takes them over.
const MOST_UNHEARD: usize = 4096;
/// Entries that end soon after each other are swept out together.
const SHORTEST_SLEEP: Duration = Duration::from_millis(100);
/// The timeline may leap, and no sleeper hears of that.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

impl Deadlines {
    /// An entry was put.
    pub(crate) fn tell(&self, deadline: Deadline) {
        let mut told = self.told();
        told.news.deadlines.push(deadline);
        // Once for each time that the sweeper has slept: it is told the rest when it wakes.
        let wakes_it = deadline.until < told.wakes || told.news.deadlines.len() == MOST_UNHEARD;
        told.wakes = told.wakes.min(deadline.until);
        drop(told);
        if wakes_it {
            self.changed.notify_one();
        }
    }

    /// Much has become invalid at once.
    pub(crate) fn clear(&self) {
        self.told().news.cleared = true;
        self.changed.notify_one();
    }

    /// The storage is gone.
    pub(crate) fn close(&self) {
        self.told().news.closed = true;
        self.changed.notify_one();
    }

    /// Sleeps until `next`, the earliest deadline that the sweeper knows of, or until it should know of more.
    pub(crate) fn sleep_until(&self, next: Option<Timestamp>, clock: &Clock) -> News {
        let mut told = self.told();
        let News { deadlines, cleared, closed } = &told.news;
        if !closed && !cleared && deadlines.is_empty() {
            let now = clock.at();
            let sleep = next.map_or(LONGEST_SLEEP, |next| next.since(now));
            let sleep = sleep.clamp(SHORTEST_SLEEP, LONGEST_SLEEP);
            told.wakes = now.plus(sleep);
            told = self.changed.wait_timeout(told, sleep).unwrap_or_else(PoisonError::into_inner).0;
        }
        // Until it sleeps again, nobody needs to wake it.
        told.wakes = Timestamp::default();
        std::mem::take(&mut told.news)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

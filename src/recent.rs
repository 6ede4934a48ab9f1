//! Keys remembered for a short while, in bounded number.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::key::CacheKey;

/// A bounded, forgetful set of keys: those whose answers were not storable a moment ago, or whose refresh failed.
///
/// Only hashes are kept: to take one key for another costs a handler run or a later refresh, and nothing else.
#[derive(Default)]
pub(crate) struct Recent {
    until: Mutex<HashMap<u64, Timestamp>>,
    /// Whether there is anything in it; mostly there is not, and nobody has to lock for that.
    any: AtomicBool,
}

impl Recent {
    const MOST: usize = 16_384;

    pub(crate) fn remember(&self, key: &CacheKey, now: Timestamp, span: Duration) {
        let mut until = self.lock();
        if until.len() >= Self::MOST {
            until.retain(|_, end| *end > now);
            // All still young: forgetting them costs a few coalesced fills, keeping more would cost memory.
            if until.len() >= Self::MOST {
                until.clear();
            }
        }
        until.insert(key.hash64(), now.plus(span));
        self.any.store(true, Relaxed);
    }

    pub(crate) fn contains(&self, key: &CacheKey, now: Timestamp) -> bool {
        self.any.load(Relaxed) && self.lock().get(&key.hash64()).is_some_and(|end| *end > now)
    }

    pub(crate) fn forget(&self, key: &CacheKey) {
        if self.any.load(Relaxed) {
            let mut until = self.lock();
            until.remove(&key.hash64());
            self.any.store(!until.is_empty(), Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Timestamp>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{KeyWriter, Part};

    fn key(number: usize) -> CacheKey {
        let mut writer = KeyWriter::new(b"");
        writer.part(Part::Name, number.to_string().as_bytes());
        writer.finish()
    }

    #[test]
    fn what_is_remembered_is_forgotten_in_time_and_never_grows_past_its_bound() {
        let (recent, now) = (Recent::default(), Timestamp::default());
        for number in 0..Recent::MOST * 2 {
            recent.remember(&key(number), now, Duration::from_secs(1));
            assert!(recent.lock().len() <= Recent::MOST);
        }
        let last = key(Recent::MOST * 2 - 1);
        assert!(recent.contains(&last, now));
        assert!(!recent.contains(&last, now.plus(Duration::from_secs(1))));
        recent.forget(&last);
        assert!(!recent.contains(&last, now));
    }
}

//! Weight that mini-moka is given for a moment, so that it makes enough counters of what is popular.
//!
//! It makes them once, when it is half full, and then as many as `entries * weight / capacity`: where entries have
//! weights, a quarter of what there will be room for. With so few of them it takes keys for each other, keeps the wrong
//! ones, and misses more than it need (`benches/memory.rs` shows how much). So when it is a quarter full, one entry is
//! made so heavy that the same sum gives one counter for each entry to come. To be rid of that weight mini-moka evicts
//! what was used longest ago, as much as it does at a time: these are weightless entries, put in before all others.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use mini_moka::sync::{Cache, ConcurrentCacheExt};

/// As many as mini-moka evicts at a time. They take some 90 KiB, and less than a millisecond to put in.
const WEIGHTLESS: u64 = 500;
/// The one that gets heavy. No entry has this key, nor one of those up to [`WEIGHTLESS`], but by rare luck; then it
/// takes the place of what was there.
const HEAVY: u64 = 0;
/// Less than this would be filled by the ballast itself.
const SMALL: u64 = 8 << 20;

pub(crate) struct Ballast {
    capacity: u64,
    /// Entries of it in the cache.
    aboard: AtomicU64,
}

impl Ballast {
    /// Puts it into a cache that is empty.
    pub(crate) fn load<V, S>(cache: &Cache<u64, V, S>, capacity: u64, weighing: impl Fn(u32) -> V) -> Self
    where
        V: Clone + Send + Sync + 'static,
        S: BuildHasher + Clone + Send + Sync + 'static,
    {
        let weightless = weighing(0);
        for key in (HEAVY..=WEIGHTLESS).filter(|_| capacity >= SMALL) {
            cache.insert(key, weightless.clone());
            cache.sync();
        }
        Self { capacity, aboard: AtomicU64::new(cache.entry_count()) }
    }

    /// How many of the entries in the cache are no entries.
    pub(crate) fn aboard(&self) -> u64 {
        self.aboard.load(Relaxed)
    }

    /// To be called after each write, by one thread at a time: throws it off when the cache is a quarter full.
    pub(crate) fn settle<V, S>(&self, cache: &Cache<u64, V, S>, weighing: impl Fn(u32) -> V)
    where
        V: Clone + Send + Sync + 'static,
        S: BuildHasher + Clone + Send + Sync + 'static,
    {
        let (aboard, weight) = (self.aboard(), cache.weighted_size());
        if aboard == 0 || weight < self.capacity / 4 {
            return;
        }
        let entries = cache.entry_count();
        let room = u128::from(entries.saturating_sub(aboard)) * u128::from(self.capacity)
            / u128::from(weight.max(1));
        let total = room * u128::from(self.capacity) / u128::from(entries.max(1));
        let heavy = total.saturating_sub(weight.into());
        let heavy = weighing(u32::try_from(heavy).unwrap_or(u32::MAX));
        // It must not keep house twice before the weight is gone, or entries would go too. Mostly it does so before it
        // takes in another write: then the second one is what makes it.
        cache.insert(HEAVY, heavy.clone());
        cache.insert(HEAVY, weighing(0));
        cache.sync();
        if cache.entry_count() == entries {
            cache.insert(HEAVY, heavy);
            cache.sync();
            cache.insert(HEAVY, weighing(0));
            cache.sync();
        }
        for key in (HEAVY..=WEIGHTLESS).filter(|key| cache.contains_key(key)) {
            cache.invalidate(&key);
            cache.sync();
        }
        self.aboard.store(0, Relaxed);
    }
}

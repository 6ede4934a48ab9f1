//! Entries in the memory of this process, bounded by what they weigh.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use crate::fence::{Fence, FenceId, Stamp};
use crate::key::CacheKey;
use crate::storage::error::StorageError;
use crate::storage::interface::{Lookup, Storage};
use crate::storage::near::{self, NearTable, Nearby};
use crate::storage::shelf::{Shelf, Slot};
use crate::storage::sweeper;
use crate::stored::entry::Entry;

/// A storage in memory, shared by all its clones.
///
/// Holds 64 MiB unless told otherwise, counted by what entries really occupy. What is asked for often stays; a new
/// entry may be refused while more popular ones fill the room. What is past [`Entry::keep_until`] is let go of within
/// a second or so, whether anybody asks or not, by a thread that starts with the first entry and ends with the storage.
///
/// Beside that each worker thread has copies of up to 16 entries of up to 32 KiB that it serves all the time.
///
/// ```
/// use actix_fast_cache::{CacheConfig, MemoryStorage};
///
/// let config = CacheConfig::builder(MemoryStorage::with_capacity(256 << 20)).build()?;
/// # drop(config);
/// # Ok::<(), actix_fast_cache::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct MemoryStorage(Arc<Shelf>);

thread_local! {
    static NEAR: NearTable<Slot, Arc<Entry>> = const { Cell::new(None) };
}

/// What a [`MemoryStorage`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryStats {
    /// Entries held.
    pub entries: u64,
    /// Bytes they weigh. A storage of more than 1 GiB counts in steps of a 2^30th of it, and rounds each entry up.
    pub bytes: u64,
}

const DEFAULT_CAPACITY: u64 = 64 << 20;
/// Larger bodies take so long to be sent that nobody feels who else counts their references.
const LARGEST_COPY: usize = 32 << 10;

impl MemoryStorage {
    /// A storage of 64 MiB.
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(DEFAULT_CAPACITY)
    }

    /// A storage of this many bytes. Entries that weigh more are not kept.
    #[must_use]
    pub fn with_capacity(bytes: u64) -> Self {
        Self(Arc::new(Shelf::new(bytes)))
    }

    /// What is held now.
    ///
    /// Entries that an invalidation dropped are served to nobody, but held until they are asked for, their room is
    /// needed, or their time is over; after [`CacheHandle::clear`](crate::CacheHandle::clear) for a moment only.
    #[must_use]
    pub fn stats(&self) -> MemoryStats {
        let (entries, bytes) = self.0.sums();
        MemoryStats { entries, bytes }
    }

    fn lookup(&self, key: &CacheKey) -> Lookup {
        let shelf = &*self.0;
        let stamp = shelf.now();
        // By this, and not by its hash: that takes longer, and collisions here cost no more than the way to the shelf.
        let glance = key.glance();
        let near = near::get(
            &NEAR,
            glance,
            shelf.chooses(),
            |slot| slot.is(key, shelf),
            |slot| shelf.is_valid(slot, stamp),
        );
        let entry = match near {
            Some(Nearby::Copy(entry)) => Some(entry),
            Some(Nearby::Shared(slot, is_popular)) => self.valid(key, glance, slot, is_popular, stamp),
            None => self.look_on_the_shelf(key, glance, stamp),
        };
        Lookup { entry, stamp }
    }

    /// Apart, so that the way to what is near stays short.
    #[inline(never)]
    fn look_on_the_shelf(&self, key: &CacheKey, glance: u64, stamp: Stamp) -> Option<Arc<Entry>> {
        let slot = self.0.get(key)?;
        near::set(&NEAR, glance, &slot);
        self.valid(key, glance, slot, false, stamp)
    }

    /// The entry of a slot, unless a fence drops it.
    fn valid(
        &self,
        key: &CacheKey,
        glance: u64,
        slot: Arc<Slot>,
        is_popular: bool,
        stamp: Stamp,
    ) -> Option<Arc<Entry>> {
        if !self.0.is_valid(&slot, stamp) {
            self.0.bury(key.hash64(), &slot);
            return None;
        }
        if is_popular {
            near::copy(&NEAR, glance, &slot, || slot.entry.copy(LARGEST_COPY).map(Arc::new));
        }
        Some(Arc::clone(&slot.entry))
    }

    fn keep(&self, entry: Arc<Entry>, since: Stamp) {
        self.0.keep(entry, since);
        self.0.swept.call_once(|| sweeper::start(&self.0));
    }

    /// Forgets one entry.
    pub(crate) fn forget(&self, key: &CacheKey) -> bool {
        self.0.forget_if(key, |_| true)
    }
}

/// In front of another storage, by the fence clock of that one: stamps and times are its own.
#[cfg(feature = "redis")]
impl MemoryStorage {
    /// Keeps an entry that the other storage gave at this time, or is about to keep.
    pub(crate) fn keep_since(&self, entry: Arc<Entry>, since: Stamp) {
        self.keep(entry, since);
    }

    /// Takes over fences that were raised there.
    pub(crate) fn learn(&self, fences: &[Fence], at: Stamp) {
        self.0.raise(fences, Some(at));
    }

    /// Forgets what is older than an entry that was put there.
    pub(crate) fn forget_older(&self, entry: &Entry) {
        let order = (entry.stamp(), entry.began());
        self.0.forget_if(entry.key(), |held| (held.stamp(), held.began()) < order);
    }

    /// Forgets everything.
    pub(crate) fn forget_all(&self) {
        self.0.forget_all();
    }

    /// Whether a fence that was taken over drops what is valid since then.
    pub(crate) fn is_known_current(&self, since: Stamp, fences: &[FenceId]) -> bool {
        self.0.is_current(since, fences)
    }
}

impl Default for MemoryStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStorage").field("capacity", &self.0.capacity()).finish_non_exhaustive()
    }
}

impl Storage for MemoryStorage {
    fn get_now(&self, key: &CacheKey) -> Option<Lookup> {
        Some(self.lookup(key))
    }

    fn put_now(&self, entry: &Arc<Entry>) -> bool {
        self.keep(Arc::clone(entry), entry.stamp());
        true
    }

    async fn get(&self, key: &CacheKey) -> Result<Lookup, StorageError> {
        Ok(self.lookup(key))
    }

    async fn put(&self, entry: Arc<Entry>) -> Result<(), StorageError> {
        self.put_now(&entry);
        Ok(())
    }

    async fn remove(&self, key: &CacheKey) -> Result<bool, StorageError> {
        Ok(self.forget(key))
    }

    async fn raise(&self, fences: &[Fence]) -> Result<(), StorageError> {
        self.0.raise(fences, None);
        Ok(())
    }

    async fn is_current(&self, stamp: Stamp, fences: &[FenceId]) -> Result<bool, StorageError> {
        Ok(self.0.is_current(stamp, fences))
    }
}

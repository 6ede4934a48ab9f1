//! Entries in the memory of this process, bounded by what they weigh.

use std::fmt;
use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use mini_moka::sync::{Cache, ConcurrentCacheExt};

use crate::fence::{Fence, FenceId, Stamp};
use crate::key::{CacheKey, KeyIsHash};
use crate::storage::error::StorageError;
use crate::storage::fences::{Fences, Raised};
use crate::storage::interface::{Lookup, Storage};
use crate::storage::near::NearTable;
use crate::stored::entry::Entry;

/// A storage in memory, shared by all its clones.
///
/// Holds 64 MiB unless told otherwise, counted by what entries really occupy. What is asked for often stays; a new
/// entry may be refused while more popular ones fill the room.
///
/// ```
/// use actix_fast_cache::{CacheConfig, MemoryStorage};
///
/// let config = CacheConfig::builder(MemoryStorage::with_capacity(256 << 20)).build()?;
/// # drop(config);
/// # Ok::<(), actix_fast_cache::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct MemoryStorage(Arc<Memory>);

struct Memory {
    /// Tells this storage's entries from another's, and from those it has forgotten, in the tables of the workers.
    id: AtomicUsize,
    capacity: u64,
    entries: Cache<u64, Arc<Slot>, BuildHasherDefault<KeyIsHash>>,
    /// One putter at a time for each key: "the older fill does not win" is a read and a write.
    putters: [Mutex<()>; 16],
    fences: RwLock<Fences>,
    /// The fence clock: moved on by each raise, after its fences are in place.
    clock: AtomicU64,
}

struct Slot {
    entry: Arc<Entry>,
    storage: usize,
    /// Replaced or removed: the workers' own tables may still know it.
    dead: AtomicBool,
    /// The time after which a fence drops it: its stamp, or a later one at which another storage found it valid.
    since: Stamp,
    /// The fence clock at which this entry was last found valid: while it stands, no fence can concern it.
    valid_at: AtomicU64,
}

fn next_id() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

thread_local! {
    static NEAR: NearTable<Slot> = const { NearTable::new() };
}

/// What a [`MemoryStorage`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryStats {
    /// Entries held.
    pub entries: u64,
    /// Bytes they weigh.
    pub bytes: u64,
}

const DEFAULT_CAPACITY: u64 = 64 << 20;
/// What mini-moka itself spends on an entry: its map slot, queue nodes and counters.
const OVERHEAD: usize = 600;

impl MemoryStorage {
    /// A storage of 64 MiB.
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(DEFAULT_CAPACITY)
    }

    /// A storage of this many bytes. Entries that weigh more are not kept.
    #[must_use]
    pub fn with_capacity(bytes: u64) -> Self {
        let entries = Cache::builder()
            .max_capacity(bytes)
            .weigher(|_, slot: &Arc<Slot>| u32::try_from(cost(&slot.entry)).unwrap_or(u32::MAX))
            .build_with_hasher(BuildHasherDefault::default());
        Self(Arc::new(Memory {
            id: next_id().into(),
            capacity: bytes,
            entries,
            putters: Default::default(),
            fences: RwLock::default(),
            clock: AtomicU64::new(0),
        }))
    }

    /// What is held now.
    #[must_use]
    pub fn stats(&self) -> MemoryStats {
        self.0.entries.sync();
        MemoryStats { entries: self.0.entries.entry_count(), bytes: self.0.entries.weighted_size() }
    }

    fn lookup(&self, key: &CacheKey) -> Lookup {
        let memory = &*self.0;
        // Read before the entry: whatever is raised from here on is after this lookup.
        let clock = memory.clock.load(Ordering::Acquire);
        let hash = key.hash64();
        let near = NEAR.with(|near| near.get(hash, |slot| slot.is(key, memory)));
        let held = near.or_else(|| {
            let slot = memory.entries.get(&hash).filter(|slot| slot.is(key, memory))?;
            NEAR.with(|near| near.set(hash, &slot));
            Some(slot)
        });
        let entry = held.and_then(|slot| {
            if memory.is_valid(&slot, clock) {
                return Some(Arc::clone(&slot.entry));
            }
            memory.bury(hash, &slot);
            None
        });
        Lookup { entry, stamp: Stamp(clock) }
    }

    /// Keeps an entry that no fence raised until `since` drops.
    fn keep(&self, entry: Arc<Entry>, since: Stamp) {
        let memory = &*self.0;
        if !memory.is_valid_since(since, &entry) {
            return;
        }
        let hash = entry.key().hash64();
        let _putter = memory.putter(hash);
        let held = memory.entries.get(&hash);
        if held.as_ref().is_some_and(|slot| slot.is_newer_than(&entry)) {
            return;
        }
        if cost(&entry) as u64 <= memory.capacity {
            memory.entries.insert(hash, Arc::new(Slot::new(entry, since, memory.id.load(Ordering::Relaxed))));
        } else if held.as_ref().is_some_and(|slot| slot.entry.key() == entry.key()) {
            // Too large to take the place of the older one, which is not what was put last.
            memory.entries.invalidate(&hash);
        } else {
            return;
        }
        if let Some(replaced) = held {
            replaced.dead.store(true, Ordering::Release);
        }
        memory.settle();
    }

    /// Forgets one entry.
    pub(crate) fn forget(&self, key: &CacheKey) -> bool {
        self.forget_if(key, |_| true)
    }

    fn forget_if(&self, key: &CacheKey, is_it: impl FnOnce(&Slot) -> bool) -> bool {
        let hash = key.hash64();
        let _putter = self.0.putter(hash);
        let held = self.0.entries.get(&hash).filter(|slot| slot.is(key, &self.0) && is_it(slot));
        if let Some(held) = &held {
            held.dead.store(true, Ordering::Release);
            self.0.entries.invalidate(&hash);
            self.0.settle();
        }
        held.is_some()
    }
}

impl Slot {
    fn new(entry: Arc<Entry>, since: Stamp, storage: usize) -> Self {
        Self { entry, storage, dead: AtomicBool::new(false), since, valid_at: AtomicU64::new(since.0) }
    }

    /// Whether this is the live entry of a key in a storage.
    fn is(&self, key: &CacheKey, memory: &Memory) -> bool {
        self.storage == memory.id.load(Ordering::Relaxed)
            && self.entry.key() == key
            && !self.dead.load(Ordering::Acquire)
    }

    fn is_newer_than(&self, entry: &Entry) -> bool {
        self.entry.key() == entry.key()
            && (self.entry.stamp(), self.entry.began()) > (entry.stamp(), entry.began())
    }
}

impl Memory {
    /// Lets mini-moka do now what it would queue, still under the key's lock.
    ///
    /// Left in its queue, a second write of one key makes it count entries that it no longer holds, for good; it
    /// evicts late, in maintenance that readers may never trigger; and where the queue is full, `insert` sleeps.
    fn settle(&self) {
        self.entries.sync();
    }

    /// Frees the room of an entry that a fence dropped: it was popular, and would keep out what comes now.
    fn bury(&self, hash: u64, dead: &Arc<Slot>) {
        // Runs for readers, who do not wait: where somebody is writing, a later reader does it.
        if let Ok(_putter) = self.putter_lock(hash).try_lock()
            && self.entries.get(&hash).is_some_and(|slot| Arc::ptr_eq(&slot, dead))
        {
            self.entries.invalidate(&hash);
            self.settle();
        }
    }

    fn is_valid(&self, slot: &Slot, clock: u64) -> bool {
        if slot.valid_at.load(Ordering::Relaxed) == clock {
            return true;
        }
        let valid = self.is_current(slot.since, slot.entry.fences());
        if valid {
            slot.valid_at.store(clock, Ordering::Relaxed);
        }
        valid
    }

    /// Whether an entry with this stamp is valid; its fences are not asked for while nothing was raised since.
    fn is_valid_since(&self, since: Stamp, entry: &Entry) -> bool {
        self.clock.load(Ordering::Acquire) == since.0 || self.is_current(since, entry.fences())
    }

    fn is_current(&self, stamp: Stamp, fences: &[FenceId]) -> bool {
        let table = self.fences.read().unwrap_or_else(PoisonError::into_inner);
        let before = |id: &FenceId| table.raised.get(id).is_none_or(|raised| raised.at <= stamp.0);
        before(&FenceId::ALL) && fences.iter().all(before)
    }

    /// Raises fences at the next time of the clock, or at one that another storage has raised them at.
    fn raise(&self, fences: &[Fence], elsewhere: Option<Stamp>) {
        let mut table = self.fences.write().unwrap_or_else(PoisonError::into_inner);
        let next = self.clock.load(Ordering::Relaxed) + 1;
        let at = elsewhere.map_or(next, |at| at.0);
        for fence in fences {
            let raised = table.raised.entry(fence.id).or_insert(Raised { at, within: fence.within });
            // News from elsewhere come in any order.
            raised.at = raised.at.max(at);
        }
        table.fold();
        // Only now: a reader who sees the new time must find the fences in the table.
        self.clock.store(next, Ordering::Release);
    }

    fn putter(&self, hash: u64) -> MutexGuard<'_, ()> {
        self.putter_lock(hash).lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn putter_lock(&self, hash: u64) -> &Mutex<()> {
        let [first, ..] = &self.putters;
        let lock = usize::try_from(hash % self.putters.len() as u64).ok().and_then(|at| self.putters.get(at));
        lock.unwrap_or(first)
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
        self.forget_if(entry.key(), |held| (held.entry.stamp(), held.entry.began()) < order);
    }

    /// Forgets everything.
    pub(crate) fn forget_all(&self) {
        self.0.id.store(next_id(), Ordering::Relaxed);
        self.0.entries.invalidate_all();
        self.0.settle();
    }

    /// Whether a fence that was taken over drops what is valid since then.
    pub(crate) fn is_known_current(&self, since: Stamp, fences: &[FenceId]) -> bool {
        self.0.is_current(since, fences)
    }
}

fn cost(entry: &Entry) -> usize {
    entry.weight() + OVERHEAD
}

impl Default for MemoryStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStorage").field("capacity", &self.0.capacity).finish_non_exhaustive()
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

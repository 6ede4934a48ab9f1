//! The entries of a storage in memory, each where its hash says, and what makes one of them invalid.

use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, RwLock};

use mini_moka::sync::{Cache, ConcurrentCacheExt};

use crate::clock::Timestamp;
use crate::fence::{Fence, FenceId, Stamp};
use crate::key::{CacheKey, KeyWriter};
use crate::key_hash::IsHash;
use crate::storage::ballast::Ballast;
use crate::storage::deadlines::{Deadline, Deadlines};
use crate::storage::fences::{Fences, Raised};
use crate::stored::entry::{Content, Entry, EntryFences};

/// What the clones of a storage share.
pub(crate) struct Shelf {
    /// Tells this storage's entries from another's, and from those it has forgotten, in the tables of the workers.
    id: AtomicUsize,
    capacity: u64,
    /// Bytes that weigh 1: mini-moka's weights are numbers of 32 bits.
    unit: u64,
    entries: Cache<u64, Arc<Slot>, BuildHasherDefault<IsHash>>,
    ballast: Ballast,
    /// One writer at a time: that the older fill does not win is a read and a write, and mini-moka, where it evicts
    /// the old value of a key while another thread replaces it, counts the new one for good.
    writer: Mutex<()>,
    /// It is half full, and what is popular begins to count.
    chooses: AtomicBool,
    fences: RwLock<Fences>,
    /// The fence clock: moved on by each raise, after its fences are in place.
    clock: AtomicU64,
    deadlines: Arc<Deadlines>,
    /// Done when something has been put that will have to be swept out.
    pub(crate) swept: Once,
}

/// An entry in its place.
pub(crate) struct Slot {
    pub(crate) entry: Arc<Entry>,
    /// The storage that it is in; none once it is replaced or removed, for the workers' own tables may still know it.
    storage: AtomicUsize,
    /// The time after which a fence drops it: its stamp, or a later one at which another storage found it valid.
    since: Stamp,
    /// The fence clock at which this entry was last found valid: while it stands, no fence can concern it.
    valid_at: AtomicU64,
    weight: u32,
}

/// No storage has this number.
const NOWHERE: usize = 0;

fn next_id() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(NOWHERE + 1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A storage of 1 GiB and less is weighed by bytes.
const MOST_UNITS: u64 = 1 << 30;

/// What an entry costs beside itself, as measured: mini-moka's map, queue and counters, its place here, its deadline.
const OVERHEAD: usize = 340;

impl Shelf {
    pub(crate) fn new(capacity: u64) -> Self {
        let unit = (capacity / MOST_UNITS).max(1);
        let entries = Cache::builder()
            .max_capacity(capacity / unit)
            .weigher(|_, slot: &Arc<Slot>| slot.weight)
            .build_with_hasher(BuildHasherDefault::default());
        let ballast = Ballast::load(&entries, capacity / unit, Slot::weighing);
        Self {
            id: next_id().into(),
            capacity,
            unit,
            entries,
            ballast,
            writer: Mutex::default(),
            chooses: AtomicBool::new(false),
            fences: RwLock::default(),
            clock: AtomicU64::new(0),
            deadlines: Arc::default(),
            swept: Once::new(),
        }
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    pub(crate) fn deadlines(&self) -> &Arc<Deadlines> {
        &self.deadlines
    }

    /// The fence clock. Whoever looks an entry up reads it before: what is raised from then on is after the lookup.
    #[inline]
    pub(crate) fn now(&self) -> Stamp {
        Stamp(self.clock.load(Ordering::Acquire))
    }

    /// Whether it has to choose what it keeps, or will soon, and wants to know what is popular.
    #[inline]
    pub(crate) fn chooses(&self) -> bool {
        self.chooses.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn get(&self, key: &CacheKey) -> Option<Arc<Slot>> {
        self.entries.get(&key.hash64()).filter(|slot| slot.is(key, self))
    }

    /// Entries and bytes, after all that is under way has been done.
    pub(crate) fn sums(&self) -> (u64, u64) {
        self.entries.sync();
        let entries = self.entries.entry_count().saturating_sub(self.ballast.aboard());
        (entries, self.entries.weighted_size() * self.unit)
    }

    /// Entries, more or less.
    pub(crate) fn count(&self) -> usize {
        usize::try_from(self.entries.entry_count()).unwrap_or(usize::MAX)
    }

    /// Keeps an entry that no fence raised until `since` drops.
    pub(crate) fn keep(&self, entry: Arc<Entry>, since: Stamp) {
        if !self.is_valid_since(since, &entry) {
            return;
        }
        let hash = entry.key().hash64();
        let deadline = Deadline { until: entry.keep_until(), hash };
        let writing = self.write();
        // Most are new, and mini-moka counts every `get` as a use, which costs.
        let held = if self.has(hash) { self.entries.get(&hash) } else { None };
        if held.as_ref().is_some_and(|slot| slot.is_newer_than(&entry)) {
            return;
        }
        let weight = (cost(&entry) as u64).div_ceil(self.unit);
        let weight =
            u32::try_from(weight).ok().filter(|weight| u64::from(*weight) <= self.capacity / self.unit);
        if let Some(weight) = weight {
            let storage = self.id.load(Ordering::Relaxed).into();
            let valid_at = since.0.into();
            self.entries.insert(hash, Arc::new(Slot { entry, storage, since, valid_at, weight }));
        } else if held.as_ref().is_some_and(|slot| slot.entry.key() == entry.key()) {
            // Too large to take the place of the older one, which is not what was put last.
            self.entries.invalidate(&hash);
        } else {
            return;
        }
        if let Some(replaced) = &held {
            replaced.storage.store(NOWHERE, Ordering::Release);
        }
        self.settle();
        drop(writing);
        if weight.is_some() {
            self.deadlines.tell(deadline);
        }
    }

    /// Forgets the entry of a key, if it is the one meant.
    pub(crate) fn forget_if(&self, key: &CacheKey, is_it: impl FnOnce(&Entry) -> bool) -> bool {
        let hash = key.hash64();
        let writing = self.write();
        let held = self.entries.get(&hash).filter(|slot| slot.is(key, self) && is_it(&slot.entry));
        if let Some(held) = &held {
            self.let_go(hash, held);
        }
        drop(writing);
        held.is_some()
    }

    /// Lets go of the entry whose deadline this is; if there is another in its place, gives the deadline of that one.
    pub(crate) fn sweep(&self, due: Deadline) -> Option<Deadline> {
        let hash = due.hash;
        let writing = self.write();
        let held = self.entries.get(&hash)?;
        let until = held.entry.keep_until();
        if until != due.until {
            return Some(Deadline { until, hash });
        }
        self.let_go(hash, &held);
        // First the lock: to free a large body takes a while.
        drop(writing);
        None
    }

    /// Lets go of the entry at a hash if it was forgotten with all others, or a fence drops it.
    pub(crate) fn sweep_invalid(&self, hash: u64) {
        let writing = self.write();
        let Some(held) = self.entries.get(&hash) else { return };
        let is_ours = held.storage.load(Ordering::Relaxed) == self.id.load(Ordering::Relaxed);
        if !is_ours || !self.is_valid(&held, self.now()) {
            self.let_go(hash, &held);
        }
        drop(writing);
    }

    /// Whether there is an entry at a hash; not counted as a use of it.
    pub(crate) fn has(&self, hash: u64) -> bool {
        self.entries.contains_key(&hash)
    }

    /// Forgets everything: at once for whoever asks, and its bytes a little later.
    #[cfg(feature = "redis")]
    pub(crate) fn forget_all(&self) {
        self.id.store(next_id(), Ordering::Relaxed);
        self.deadlines.clear();
    }

    /// Called by the writer. Whoever calls it holds the slot, so that a large body is not freed under a lock.
    fn let_go(&self, hash: u64, held: &Slot) {
        held.storage.store(NOWHERE, Ordering::Release);
        self.entries.invalidate(&hash);
        self.settle();
    }

    /// Lets mini-moka do now what it would queue; called by the writer.
    ///
    /// Left in its queue, a second write of one key makes it count entries that it no longer holds, for good; it
    /// evicts late, in maintenance that readers may never trigger; and where the queue is full, `insert` sleeps.
    fn settle(&self) {
        self.entries.sync();
        self.ballast.settle(&self.entries, Slot::weighing);
        self.chooses.store(self.entries.weighted_size() * self.unit >= self.capacity / 2, Ordering::Relaxed);
    }

    /// Frees the room of an entry that a fence dropped: it was popular, and would keep out what comes now.
    pub(crate) fn bury(&self, hash: u64, dead: &Arc<Slot>) {
        // Runs for readers, who do not wait: where somebody is writing, a later reader does it.
        if let Ok(_writing) = self.writer.try_lock()
            && self.entries.get(&hash).is_some_and(|slot| Arc::ptr_eq(&slot, dead))
        {
            self.entries.invalidate(&hash);
            self.settle();
        }
    }

    /// Whether no fence drops an entry that was looked up at this time of the fence clock, or later.
    #[inline]
    pub(crate) fn is_valid(&self, slot: &Slot, Stamp(clock): Stamp) -> bool {
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
        self.now() == since || self.is_current(since, entry.fences())
    }

    pub(crate) fn is_current(&self, stamp: Stamp, fences: &[FenceId]) -> bool {
        let table = self.fences.read().unwrap_or_else(PoisonError::into_inner);
        let before = |id: &FenceId| table.raised.get(id).is_none_or(|raised| raised.at <= stamp.0);
        before(&FenceId::ALL) && fences.iter().all(before)
    }

    /// Raises fences at the next time of the clock, or at one that another storage has raised them at.
    pub(crate) fn raise(&self, fences: &[Fence], elsewhere: Option<Stamp>) {
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
        drop(table);
        if fences.iter().any(|fence| fence.id == FenceId::ALL) {
            self.deadlines.clear();
        }
    }

    fn write(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// One that holds nothing, and weighs so much.
    fn weighing(weight: u32) -> Arc<Self> {
        let key = KeyWriter::new(b"").finish();
        let entry = Arc::new(Entry {
            content: Content::Alias(Box::new(key.clone())),
            key,
            stamp: Stamp::default(),
            began: Timestamp::default(),
            fences: EntryFences::default(),
            keep_until: Timestamp::default(),
        });
        let storage = NOWHERE.into();
        Arc::new(Self { entry, storage, since: Stamp::default(), valid_at: AtomicU64::default(), weight })
    }

    /// Whether this is the live entry of a key in a storage.
    #[inline]
    pub(crate) fn is(&self, key: &CacheKey, shelf: &Shelf) -> bool {
        self.storage.load(Ordering::Acquire) == shelf.id.load(Ordering::Relaxed) && self.entry.key() == key
    }

    fn is_newer_than(&self, entry: &Entry) -> bool {
        self.entry.key() == entry.key()
            && (self.entry.stamp(), self.entry.began()) > (entry.stamp(), entry.began())
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        self.deadlines.close();
    }
}

fn cost(entry: &Entry) -> usize {
    entry.weight() + OVERHEAD
}

//! What all scopes and workers of one configuration share: the storage with its deadline, and the fills under way.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use actix_web::http::header::HeaderMap;
use futures_util::future::poll_immediate;
use tokio::sync::Notify;

use crate::breaker::Breaker;
use crate::clock::{Clock, Timestamp};
use crate::fence::{Fence, FenceId, Stamp};
use crate::flight::Flights;
use crate::found::{Found, MOST_STEPS, Walk};
use crate::key::CacheKey;
use crate::policy::reuse::{Failure, StandIn};
use crate::recent::Recent;
use crate::storage::erased::ErasedStorage;
use crate::storage::error::StorageError;
use crate::storage::interface::{Claimed, Holder, Lookup, Storage};
use crate::stored::entry::Entry;

pub(crate) struct Engine {
    storage: Box<dyn ErasedStorage>,
    deadline: Duration,
    pub(crate) clock: Clock,
    pub(crate) flights: Arc<Flights>,
    /// Keys whose answers were not storable a moment ago: nobody queues for them.
    pub(crate) uncacheable: Recent,
    /// Keys whose refresh failed a moment ago, or has just begun: no other one begins behind an answer.
    pub(crate) backing_off: Recent,
    /// Keys whose run failed a moment ago.
    failing: Recent,
    /// Those of them whose origin could not be reached.
    cut_off: Recent,
    /// Background refreshes under way.
    pub(crate) refreshes: AtomicUsize,
    reading: Breaker,
    /// A storage that takes nothing in, for it is full or a copy, is still read.
    writing: Breaker,
    writes: AtomicUsize,
    written: Notify,
    trouble: Trouble,
}

#[derive(Default)]
struct Trouble {
    failed: AtomicU64,
    late: AtomicU64,
    left_alone: AtomicU64,
    writes_dropped: AtomicU64,
}

/// What a cache could not ask of its storage; each was a miss, or an answer that was not stored.
///
/// ```
/// use actix_fast_cache::{CacheConfig, MemoryStorage, StorageTrouble};
///
/// let cache = CacheConfig::builder(MemoryStorage::new()).build()?.handle();
/// assert_eq!(cache.storage_trouble(), StorageTrouble::default());
/// # Ok::<(), actix_fast_cache::ConfigError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StorageTrouble {
    /// Calls that came back with an error.
    pub failed: u64,
    /// Calls that took longer than the deadline.
    pub late: u64,
    /// Calls that were not made, because those before them had failed.
    pub left_alone: u64,
    /// Answers that were not written, because too many were waiting to be.
    pub writes_dropped: u64,
}

/// More answers than these do not wait to be written: a storage that hangs must not fill the memory.
const MOST_WRITES: usize = 1_024;

/// After a refresh began, the next one of the same key waits so long, unless the first one succeeds.
pub(crate) const BACK_OFF: Duration = Duration::from_secs(5);

impl Engine {
    pub(crate) fn new(storage: impl Storage, clock: Clock, deadline: Duration) -> Self {
        Self {
            storage: Box::new(storage),
            deadline,
            clock,
            flights: Arc::default(),
            uncacheable: Recent::default(),
            backing_off: Recent::default(),
            failing: Recent::default(),
            cut_off: Recent::default(),
            refreshes: AtomicUsize::new(0),
            reading: Breaker::default(),
            writing: Breaker::default(),
            writes: AtomicUsize::new(0),
            written: Notify::new(),
            trouble: Trouble::default(),
        }
    }

    /// One lookup without waiting; `None` if the storage cannot.
    pub(crate) fn get_now(&self, key: &CacheKey) -> Option<Lookup> {
        self.storage.get_now(key)
    }

    /// Writes an entry without waiting; `false` if the storage cannot.
    pub(crate) fn put_now(&self, entry: &Arc<Entry>) -> bool {
        self.storage.put_now(entry)
    }

    /// Goes on from a lookup without waiting; `None` if the storage cannot.
    pub(crate) fn follow_now(&self, mut lookup: Lookup, request: &HeaderMap) -> Option<Found> {
        if lookup.entry.is_none() {
            return Some(Found { stamp: lookup.stamp, ..Found::default() });
        }
        let mut walk = Walk::new(lookup.stamp, request);
        for _ in 0..MOST_STEPS {
            let Some(next) = walk.follow(lookup) else { break };
            lookup = self.storage.get_now(&next)?;
            walk.found.at = Some(next);
        }
        // What stands under a name has to be asked about, and there is no asking without waiting.
        if walk.found.name.is_some() { None } else { Some(walk.end()) }
    }

    /// Looks up; a storage in trouble has nothing.
    pub(crate) async fn find(&self, key: &CacheKey, request: &HeaderMap) -> Found {
        let first = self.look_up(key).await;
        let is_blind = first.is_err();
        let mut lookup = first.unwrap_or_default();
        let mut walk = Walk::new(lookup.stamp, request);
        walk.found.is_blind = is_blind;
        for _ in 0..MOST_STEPS {
            let Some(next) = walk.follow(lookup) else { break };
            lookup = self.get(&next).await;
            walk.found.at = Some(next);
        }
        if let Some(entry) = &walk.found.entry
            && !self.is_reached(entry, walk.found.name.as_deref()).await
        {
            walk.found.entry = None;
        }
        walk.end()
    }

    /// Whether an entry that was found under a name is this request's: several URLs may share one, and what another one has
    /// stored there is not this one's past a write to it.
    pub(crate) async fn is_reached(&self, entry: &Entry, name: Option<&Entry>) -> bool {
        match name {
            Some(name) => self.is_current(entry.stamp(), name.fences()).await.unwrap_or(false),
            None => true,
        }
    }

    /// One lookup; a storage in trouble has nothing.
    pub(crate) async fn get(&self, key: &CacheKey) -> Lookup {
        self.look_up(key).await.unwrap_or_default()
    }

    /// One lookup, for callers who want to know of trouble.
    pub(crate) async fn look_up(&self, key: &CacheKey) -> Result<Lookup, StorageError> {
        self.ask(&self.reading, "lookup", self.storage.get(key)).await
    }

    pub(crate) async fn remove(&self, key: &CacheKey) {
        let _ = self.ask(&self.writing, "removal", self.storage.remove(key)).await;
    }

    /// Whether a fill is still valid.
    pub(crate) async fn is_current(&self, stamp: Stamp, fences: &[FenceId]) -> Result<bool, StorageError> {
        self.ask(&self.reading, "fence check", self.storage.is_current(stamp, fences)).await
    }

    /// Raises fences; here an error matters, for data that should be gone may still be served. So it is tried even where
    /// the storage is left alone.
    pub(crate) async fn raise(&self, fences: &[Fence]) -> Result<(), StorageError> {
        self.within_deadline(&self.writing, "invalidation", self.storage.raise(fences)).await
    }

    /// Writes an entry now: for the manual calls, whose callers want to know.
    pub(crate) async fn put(&self, entry: Arc<Entry>) -> Result<(), StorageError> {
        self.ask(&self.writing, "write", self.storage.put(entry)).await
    }

    /// Whether fills of other processes are kept apart from those of this one.
    pub(crate) fn leases(&self) -> bool {
        self.storage.leases()
    }

    pub(crate) async fn claim(
        &self,
        key: &CacheKey,
        holder: Holder,
        lease: Duration,
    ) -> Result<Claimed, StorageError> {
        self.ask(&self.writing, "claim", self.storage.claim(key, holder, lease)).await
    }

    pub(crate) async fn release(&self, key: &CacheKey, holder: Holder, refused: Option<Duration>) {
        let _ = self.ask(&self.writing, "release", self.storage.release(key, holder, refused)).await;
    }

    /// Remembers that a run failed: for a while its stale answer serves without another try.
    pub(crate) fn note_failure(&self, key: &CacheKey, now: Timestamp, failure: Failure) {
        self.backing_off.remember(key, now, BACK_OFF);
        self.failing.remember(key, now, BACK_OFF);
        if failure == Failure::Unreachable {
            self.cut_off.remember(key, now, BACK_OFF);
        }
    }

    /// Whether a run failed a moment ago in a way that a stale answer may stand in for.
    pub(crate) fn failed_lately(&self, key: &CacheKey, now: Timestamp, stand_in: StandIn) -> bool {
        stand_in.errors && self.failing.contains(key, now)
            || stand_in.unreachable && self.cut_off.contains(key, now)
    }

    /// A run has brought an answer.
    pub(crate) fn forget_failures(&self, key: &CacheKey) {
        self.uncacheable.forget(key);
        self.backing_off.forget(key);
        self.failing.forget(key);
        self.cut_off.forget(key);
    }

    /// Lets a write run on its own, off the response's path. A storage that can write at once has written when
    /// this returns; what waits is dropped with its worker.
    pub(crate) fn write_behind(self: &Arc<Self>, write: impl Future<Output = ()> + Send + 'static) {
        if self.writes.fetch_add(1, Relaxed) >= MOST_WRITES {
            self.writes.fetch_sub(1, Relaxed);
            self.trouble.writes_dropped.fetch_add(1, Relaxed);
            return;
        }
        let done = Written(Arc::clone(self));
        let mut write = Box::pin(async move {
            write.await;
            drop(done);
        });
        // Polled once here, a ready write needs no task. One that waits has its timer from this worker's runtime, and
        // stays there: elsewhere the timer would die with this worker.
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        if write.as_mut().poll(&mut context).is_pending() {
            tokio::spawn(write);
        }
    }

    /// Waits until everything written behind is written.
    pub(crate) async fn flush(&self) {
        loop {
            let written = self.written.notified();
            if self.writes.load(Relaxed) == 0 {
                return;
            }
            written.await;
        }
    }

    /// What the storage could not be asked.
    pub(crate) fn trouble(&self) -> StorageTrouble {
        StorageTrouble {
            failed: self.trouble.failed.load(Relaxed),
            late: self.trouble.late.load(Relaxed),
            left_alone: self.trouble.left_alone.load(Relaxed),
            writes_dropped: self.trouble.writes_dropped.load(Relaxed),
        }
    }

    /// Makes a call, unless the storage is left alone.
    async fn ask<T>(
        &self,
        breaker: &Breaker,
        what: &'static str,
        operation: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        if !breaker.admits(|| self.clock.at()) {
            self.trouble.left_alone.fetch_add(1, Relaxed);
            return Err(StorageError::new("the storage has failed, and is left alone for a moment"));
        }
        self.within_deadline(breaker, what, operation).await
    }

    async fn within_deadline<T>(
        &self,
        breaker: &Breaker,
        what: &'static str,
        operation: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        let mut operation = std::pin::pin!(operation);
        // A storage of the application's own may panic; a request does not suffer for that either.
        let operation = poll_fn(|cx| {
            catch_unwind(AssertUnwindSafe(|| operation.as_mut().poll(cx)))
                .unwrap_or_else(|_| Poll::Ready(Err(StorageError::new("the storage panicked"))))
        });
        let mut operation = std::pin::pin!(operation);
        // Most storages answer at once; only those that wait pay for a timer.
        let (result, count) = match poll_immediate(&mut operation).await {
            Some(result) => (result, &self.trouble.failed),
            None => match tokio::time::timeout(self.deadline, operation).await {
                Ok(result) => (result, &self.trouble.failed),
                Err(_) => {
                    let late = StorageError::new(format!("no answer within {:?}", self.deadline));
                    (Err(late), &self.trouble.late)
                }
            },
        };
        match &result {
            Ok(_) => breaker.succeeded(),
            Err(error) => {
                count.fetch_add(1, Relaxed);
                breaker.failed(self.clock.at());
                tracing::debug!(%error, "cache storage: {what} failed");
            }
        }
        result
    }
}

/// A write under way.
struct Written(Arc<Engine>);

impl Drop for Written {
    fn drop(&mut self) {
        self.0.writes.fetch_sub(1, Relaxed);
        self.0.written.notify_waiters();
    }
}

//! Memory in front of Redis.

use std::fmt;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::clock::{Clock, Timestamp};
use crate::fence::{Fence, FenceId, Stamp};
use crate::key::CacheKey;
use crate::storage::error::StorageError;
use crate::storage::interface::{Claimed, Holder, Lookup, Storage};
use crate::storage::memory::{MemoryStats, MemoryStorage};
use crate::storage::redis::news::{self, News};
use crate::storage::redis::store::RedisStorage;
use crate::stored::entry::Entry;

/// Memory that has proven no more recently than this to know all invalidations is not asked.
const HONEST_FOR: Duration = Duration::from_secs(1);
/// It is proven this often.
const PROVE_EVERY: Duration = Duration::from_millis(100);
/// A server that does not answer within this time is left.
const PROVE_WITHIN: Duration = Duration::from_millis(500);

/// A storage in memory in front of one in Redis: what this process has seen costs no round trip.
///
/// Each process listens to what the others invalidate and replace. An invalidation is honoured at once by the process
/// that makes it, and by others as soon as the message reaches them, as a rule within a millisecond. It is proven ten
/// times a second that all messages have come: where that fails for **one second**, memory stands aside and Redis is asked
/// for everything, so nothing is served that was invalidated more than a second ago. That second is the price beside
/// [`RedisStorage`], on which an invalidation is exact everywhere.
/// It is proven of invalidations; that an entry was replaced is told in the same way, but from other nodes of a cluster, and
/// until the message comes an answer is served as long as it would be without the other process.
///
/// Redis speaks RESP3 to the listener, which has a thread of its own; on a cluster it listens at the node of the fences.
///
/// ```no_run
/// use actix_fast_cache::{CacheConfig, MemoryStorage, RedisStorage, TieredStorage};
///
/// let redis = RedisStorage::open("redis://127.0.0.1:6379/0", "shop")?;
/// let storage = TieredStorage::new(MemoryStorage::with_capacity(32 << 20), redis);
/// let config = CacheConfig::builder(storage).build()?;
/// # drop(config);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct TieredStorage(Arc<Tiers>);

struct Tiers {
    memory: MemoryStorage,
    redis: RedisStorage,
    clock: Clock,
    is_listening: AtomicBool,
    /// Until when memory may be asked, in milliseconds of the clock.
    honest_until: AtomicU64,
    /// The fence clock of Redis, as far as it is known here: never ahead of it.
    stamp: AtomicU64,
    /// How often something was replaced, by hash of its key: what was on its way here meanwhile is not kept.
    replaced: [AtomicU64; 64],
}

impl TieredStorage {
    /// Puts memory in front of Redis. Nothing is connected before the first call.
    ///
    /// The memory must be this storage's alone: its entries are kept by the fences of Redis.
    #[must_use]
    pub fn new(memory: MemoryStorage, redis: RedisStorage) -> Self {
        Self(Arc::new(Tiers {
            memory,
            redis,
            clock: Clock::system(),
            is_listening: AtomicBool::new(false),
            honest_until: AtomicU64::new(0),
            stamp: AtomicU64::new(0),
            replaced: [const { AtomicU64::new(0) }; 64],
        }))
    }

    /// Whether memory is asked just now; where not, it stands aside for want of news from Redis.
    #[must_use]
    pub fn is_memory_in_use(&self) -> bool {
        self.0.is_honest()
    }

    /// What is held in memory now.
    #[must_use]
    pub fn memory_stats(&self) -> MemoryStats {
        self.0.memory.stats()
    }

    /// Starts to listen, on the first call.
    fn listen(&self) {
        if self.0.is_listening.load(Relaxed) || self.0.is_listening.swap(true, Relaxed) {
            return;
        }
        let tiers = Arc::downgrade(&self.0);
        let listener = std::thread::Builder::new().name("fast-cache-news".to_owned());
        let started = listener.spawn(move || {
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(listen(tiers)),
                Err(error) => tracing::error!(%error, "cache memory stands aside: nothing to listen with"),
            }
        });
        if let Err(error) = started {
            tracing::error!(%error, "cache memory stands aside: nothing to listen with");
        }
    }
}

impl Tiers {
    fn is_honest(&self) -> bool {
        millis(self.clock.at()) < self.honest_until.load(Acquire)
    }

    /// Memory knows all invalidations that came before `at`.
    fn prove(&self, at: Timestamp) {
        if self.honest_until.swap(millis(at.plus(HONEST_FOR)), Release) == 0 {
            tracing::info!("cache memory is in use in front of Redis");
        }
    }

    fn stand_aside(&self) {
        if self.honest_until.swap(0, Release) != 0 {
            tracing::warn!("cache memory stands aside: no news from Redis");
        }
    }

    fn knows(&self, stamp: Stamp) {
        self.stamp.fetch_max(stamp.0, Relaxed);
    }

    fn stamp(&self) -> Stamp {
        Stamp(self.stamp.load(Relaxed))
    }

    fn replaced(&self, key: &CacheKey) -> &AtomicU64 {
        let [first, ..] = &self.replaced;
        let at = usize::try_from(key.hash64() % self.replaced.len() as u64);
        at.ok().and_then(|at| self.replaced.get(at)).unwrap_or(first)
    }

    /// Keeps an entry in memory, unless another one may have taken its place since that was `replaced` so often.
    fn keep(&self, entry: Arc<Entry>, since: Stamp, replaced: u64) {
        let key = entry.key().clone();
        self.memory.keep_since(entry, since);
        if self.replaced(&key).load(SeqCst) != replaced {
            self.memory.forget(&key);
        }
    }

    /// Forgets everything: of what was raised before this time of the fence clock nothing is known.
    fn begin_anew(&self, at: Stamp) {
        for replaced in &self.replaced {
            replaced.fetch_add(1, SeqCst);
        }
        self.memory.forget_all();
        self.memory.learn(&[Fence { id: FenceId::ALL, within: FenceId::ALL }], at);
    }

    /// Takes a message in; tells whether the connection still stands.
    fn take_in(&self, push: &PushInfo) -> bool {
        match (&push.kind, push.data.as_slice()) {
            (PushKind::Disconnection, _) => return false,
            (PushKind::Message, [_, Value::BulkString(message)]) => match news::read(message) {
                Some(News::Raised(fences, at)) => {
                    self.memory.learn(&fences, at);
                    self.knows(at);
                }
                Some(News::Replaced(entry)) => {
                    // What this process puts is no news to its memory, which knows the newer of two by itself.
                    if !self.redis.told(&entry) {
                        self.replaced(entry.key()).fetch_add(1, SeqCst);
                    }
                    self.memory.forget_older(&entry);
                }
                // Another version's, perhaps: it may have dropped anything, so all is begun anew.
                None => return false,
            },
            _ => {}
        }
        true
    }

    fn look_up_in_memory(&self, key: &CacheKey) -> Option<Lookup> {
        if !self.is_honest() {
            return None;
        }
        // Before the lookup: a fill that follows may carry it.
        let stamp = self.stamp();
        let entry = self.memory.get_now(key)?.entry?;
        Some(Lookup { entry: Some(entry), stamp })
    }
}

/// Listens for as long as there is a storage to listen for.
async fn listen(tiers: Weak<Tiers>) {
    while let Some(here) = tiers.upgrade() {
        let (sender, mut news) = unbounded_channel();
        match here.redis.listen(sender).await {
            Ok(connection) => {
                drop(here);
                follow(&tiers, connection, &mut news).await;
            }
            Err(error) => tracing::debug!(%error, "no news from Redis"),
        }
        if let Some(here) = tiers.upgrade() {
            here.stand_aside();
        }
        tokio::time::sleep(PROVE_EVERY).await;
    }
}

/// Takes in what comes on a connection, until it breaks.
async fn follow(
    tiers: &Weak<Tiers>,
    mut connection: MultiplexedConnection,
    news: &mut UnboundedReceiver<PushInfo>,
) {
    let mut is_first = true;
    while let Some(here) = tiers.upgrade() {
        let (asked, known) = (here.clock.at(), here.stamp());
        // On this very connection: the answer comes after all messages that went before it.
        let Ok(Ok(clock)) = tokio::time::timeout(PROVE_WITHIN, here.redis.clock_on(&mut connection)).await
        else {
            return;
        };
        while let Ok(push) = news.try_recv() {
            if !here.take_in(&push) {
                return;
            }
        }
        match clock {
            Some(clock) if clock >= known => {
                if std::mem::take(&mut is_first) {
                    // What was told while nobody listened is not known.
                    here.begin_anew(clock);
                }
                here.knows(clock);
                here.prove(asked);
            }
            // Behind what is known here, or gone: the server has lost its memory, and with it what it was told.
            _ => {
                here.begin_anew(known);
                here.stand_aside();
                is_first = true;
            }
        }
        drop(here);
        let pause = std::pin::pin!(tokio::time::sleep(PROVE_EVERY));
        if !take_in_until(tiers, news, pause).await {
            return;
        }
    }
}

/// Takes in messages as they come, until the pause is over; tells whether the connection still stands.
async fn take_in_until(
    tiers: &Weak<Tiers>,
    news: &mut UnboundedReceiver<PushInfo>,
    mut pause: std::pin::Pin<&mut tokio::time::Sleep>,
) -> bool {
    use futures_util::future::{Either, select};
    loop {
        let next = std::pin::pin!(news.recv());
        match select(next, pause.as_mut()).await {
            Either::Left((Some(push), _)) => match tiers.upgrade() {
                Some(here) if here.take_in(&push) => {}
                _ => return false,
            },
            Either::Left((None, _)) => return false,
            Either::Right(_) => return true,
        }
    }
}

impl Storage for TieredStorage {
    fn get_now(&self, key: &CacheKey) -> Option<Lookup> {
        self.0.look_up_in_memory(key)
    }

    async fn get(&self, key: &CacheKey) -> Result<Lookup, StorageError> {
        self.listen();
        // A request's way leads over several entries, and some of them are here.
        if let Some(lookup) = self.0.look_up_in_memory(key) {
            return Ok(lookup);
        }
        let replaced = self.0.replaced(key).load(SeqCst);
        let lookup = self.0.redis.look_up(key).await?;
        if let Some(entry) = lookup.entry.as_ref().filter(|_| self.0.is_honest()) {
            self.0.keep(Arc::clone(entry), lookup.stamp, replaced);
        }
        Ok(lookup)
    }

    async fn put(&self, entry: Arc<Entry>) -> Result<(), StorageError> {
        self.listen();
        let replaced = self.0.replaced(entry.key()).load(SeqCst);
        if self.0.redis.keep(&entry).await? && self.0.is_honest() {
            let since = entry.stamp();
            self.0.keep(entry, since, replaced);
        }
        Ok(())
    }

    async fn remove(&self, key: &CacheKey) -> Result<bool, StorageError> {
        let there = self.0.redis.remove(key).await;
        // Afterwards: a lookup meanwhile may have brought it back.
        let here = self.0.memory.forget(key);
        Ok(there? || here)
    }

    async fn raise(&self, fences: &[Fence]) -> Result<(), StorageError> {
        let at = self.0.redis.move_clock(fences).await?;
        if at < self.0.stamp() {
            // Another server is in its place, whose time is behind.
            self.0.begin_anew(self.0.stamp());
            self.0.stand_aside();
        }
        self.0.memory.learn(fences, at);
        self.0.knows(at);
        Ok(())
    }

    async fn is_current(&self, stamp: Stamp, fences: &[FenceId]) -> Result<bool, StorageError> {
        if self.0.is_honest() && self.0.memory.is_known_current(stamp, fences) {
            return Ok(true);
        }
        self.0.redis.is_current(stamp, fences).await
    }

    fn leases(&self) -> bool {
        true
    }

    async fn claim(&self, key: &CacheKey, holder: Holder, lease: Duration) -> Result<Claimed, StorageError> {
        // Whoever claims looks again at what others have stored, and must not find what was known here.
        self.0.memory.forget(key);
        self.0.redis.claim(key, holder, lease).await
    }

    async fn release(
        &self,
        key: &CacheKey,
        holder: Holder,
        refused: Option<Duration>,
    ) -> Result<(), StorageError> {
        self.0.redis.release(key, holder, refused).await
    }
}

/// Never zero: that stands for none.
fn millis(at: Timestamp) -> u64 {
    u64::try_from(at.since(Timestamp::default()).as_millis()).unwrap_or(u64::MAX).max(1)
}

impl fmt::Debug for TieredStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TieredStorage")
            .field("memory", &self.0.memory)
            .field("redis", &self.0.redis)
            .field("is_memory_in_use", &self.is_memory_in_use())
            .finish_non_exhaustive()
    }
}

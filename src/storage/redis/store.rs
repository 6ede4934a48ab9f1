//! The storage.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, Script};
use tokio::sync::mpsc::UnboundedSender;

use crate::fence::{Fence, FenceId, Stamp};
use crate::key::CacheKey;
use crate::storage::error::StorageError;
use crate::storage::interface::{Claimed, Holder, Lookup, Storage};
use crate::storage::redis::calls::{Calls, FENCES_LIVE};
use crate::storage::redis::connection::Connections;
use crate::storage::redis::lookups::Lookups;
use crate::storage::redis::names::Names;
use crate::storage::redis::news;
use crate::storage::redis::servers::RedisServers;
use crate::storage::redis::times::{NoTimes, Question, Standing};
use crate::storage::redis::value::{self, ORDER, millis};
use crate::stored::entry::Entry;

/// A storage in Redis 6.2 or later, or Valkey: one cache for all processes that use the same server and prefix.
///
/// Nothing is connected before the first call. A hit costs one round trip, and a second one where this process reads an entry
/// for the first time that has tags or a name, or where something was invalidated meanwhile; an invalidation costs one,
/// whatever it drops.
///
/// Every lookup reads the whole entry. Its bytes are checked once, and compared from then on with those that were: of
/// what was read lately up to **8 MiB** are kept. Lookups of one worker's turn share a call.
///
/// [`RedisServers`] names a single server, a master behind sentinels, or a cluster.
///
/// A user of an access list needs the keys and channels that begin with the prefix, and GET, SET, DEL, GETRANGE, ZADD,
/// ZMSCORE, ZSCORE, ZCARD, ZRANGE, ZREM, HSET, HSETNX, HGET, HDEL, PEXPIRE, TIME, ECHO, EVALSHA, EVAL, SCRIPT LOAD,
/// PUBLISH and SUBSCRIBE.
///
/// Every key has an expiry: entries as long as they are of use, and a week at most. Under any eviction policy what is
/// evicted is a miss. A server that is lost with its last acknowledged writes takes the invalidations among them along.
///
/// ```no_run
/// use actix_fast_cache::{CacheConfig, RedisStorage};
///
/// let storage = RedisStorage::open("redis://127.0.0.1:6379/0", "shop")?;
/// let config = CacheConfig::builder(storage).build()?;
/// # drop(config);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct RedisStorage(Arc<Inner>);

struct Inner {
    calls: Arc<Calls>,
    lookups: Arc<Lookups>,
    /// Tells its own news from those of others.
    writer: FenceId,
}

/// The longest time that an entry is kept.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

static CLAIM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("claim.lua")));
static RELEASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("release.lua")));
static PUT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("put.lua")));

impl RedisStorage {
    /// The storage on one server, `redis://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE]`; `prefix` begins all its keys.
    ///
    /// # Errors
    /// As those of [`RedisServers::single`] and [`new`](Self::new).
    pub fn open(url: &str, prefix: &str) -> Result<Self, StorageError> {
        Self::new(RedisServers::single(url)?, prefix)
    }

    /// The storage on these servers; `prefix` begins all its keys.
    ///
    /// # Errors
    /// If the servers do not go together, as nodes with several passwords, or a certificate is none.
    pub fn new(servers: RedisServers, prefix: &str) -> Result<Self, StorageError> {
        let calls = Arc::new(Calls::new(Connections::new(servers.door()?), Names::new(prefix)));
        Ok(Self(Arc::new(Inner {
            lookups: Arc::new(Lookups::new(Arc::clone(&calls))),
            calls,
            writer: FenceId::of(b"writer", &RandomState::new().hash_one(prefix).to_be_bytes()),
        })))
    }

    /// Whether an entry was told of by this storage.
    pub(crate) fn told(&self, entry: &Entry) -> bool {
        entry.fences().contains(&self.0.writer)
    }

    /// A connection of its own, on which news come; what is asked on it is answered after the news that went before.
    pub(crate) async fn listen(
        &self,
        news: UnboundedSender<PushInfo>,
    ) -> Result<MultiplexedConnection, StorageError> {
        let names = &self.0.calls.names;
        let unheard = |error| StorageError::with_source("Redis does not say what is invalidated", error);
        let mut connection = self.0.calls.connections.listen(&names.fences, news).await?;
        connection.subscribe(&names.news).await.map_err(unheard)?;
        Ok(connection)
    }

    /// The fence clock, on a connection to the server that has it.
    pub(crate) async fn clock_on(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<Option<Stamp>, StorageError> {
        let question = Question::new(Vec::new());
        let outcome = question.command(&self.0.calls.names.fences).query_async(connection).await;
        let untold = |error| StorageError::with_source("Redis has no fence clock", error);
        let times = question.read(outcome.map_err(untold)?).map_err(|wrong| match wrong {
            NoTimes::Error(error) => untold(error),
            NoTimes::OutOfStep => StorageError::new("Redis has no fence clock"),
        })?;
        Ok(times.map(|times| times.clock))
    }

    pub(crate) async fn look_up(&self, key: &CacheKey) -> Result<Lookup, StorageError> {
        self.0.lookups.look_up(key).await
    }

    /// Raises fences; tells the time.
    pub(crate) async fn move_clock(&self, fences: &[Fence]) -> Result<Stamp, StorageError> {
        self.0.calls.move_clock(fences).await
    }

    /// Tells whether the entry took its place, or a newer one has it.
    pub(crate) async fn keep(&self, entry: &Entry) -> Result<bool, StorageError> {
        let bytes = value::write(entry)?;
        // By the entry's own timeline, which is nobody else's.
        let lives = entry.keep_until().since(entry.began()).clamp(Duration::from_millis(1), LONGEST);
        let mut call = PUT.key(self.0.calls.names.entry(entry.key()));
        call.arg(bytes)
            .arg(ORDER)
            .arg(millis(lives))
            .arg(&self.0.calls.names.news)
            .arg(news::replaced(entry, self.0.writer)?);
        let mut lent = self.0.calls.connections.lend().await?;
        let outcome = call.invoke_async::<u64>(&mut lent.connection).await;
        let is_kept = lent.outcome(outcome).await? == 1;
        // What is in use does not lose its fences: that would drop it all.
        let names = &self.0.calls.names;
        let mut live = redis::pipe();
        for key in [&names.fences, &names.within] {
            live.cmd("PEXPIRE").arg(key).arg(millis(FENCES_LIVE)).ignore();
        }
        let outcome = live.query_async::<()>(&mut lent.connection).await;
        lent.outcome(outcome).await?;
        Ok(is_kept)
    }
}

impl Storage for RedisStorage {
    async fn get(&self, key: &CacheKey) -> Result<Lookup, StorageError> {
        self.look_up(key).await
    }

    async fn put(&self, entry: Arc<Entry>) -> Result<(), StorageError> {
        self.keep(&entry).await.map(drop)
    }

    async fn remove(&self, key: &CacheKey) -> Result<bool, StorageError> {
        self.0.calls.delete(&self.0.calls.names.entry(key)).await
    }

    async fn raise(&self, fences: &[Fence]) -> Result<(), StorageError> {
        self.move_clock(fences).await.map(drop)
    }

    fn leases(&self) -> bool {
        true
    }

    async fn claim(&self, key: &CacheKey, holder: Holder, lease: Duration) -> Result<Claimed, StorageError> {
        let mut call = CLAIM.key(self.0.calls.names.lease(key));
        call.arg(holder.0).arg(millis(lease).max(1));
        let mut lent = self.0.calls.connections.lend().await?;
        let outcome = call.invoke_async::<u64>(&mut lent.connection).await;
        // An answer out of step costs a run or a wait, and nothing worse.
        Ok(match lent.outcome(outcome).await? {
            0 => Claimed::Held,
            2 => Claimed::Refused,
            _ => Claimed::Granted,
        })
    }

    async fn release(
        &self,
        key: &CacheKey,
        holder: Holder,
        refused: Option<Duration>,
    ) -> Result<(), StorageError> {
        let mut call = RELEASE.key(self.0.calls.names.lease(key));
        call.arg(holder.0).arg(refused.map_or(0, millis));
        let mut lent = self.0.calls.connections.lend().await?;
        let outcome = call.invoke_async::<u64>(&mut lent.connection).await;
        lent.outcome(outcome).await.map(drop)
    }

    async fn is_current(&self, stamp: Stamp, fences: &[FenceId]) -> Result<bool, StorageError> {
        let fences = [fences, &[FenceId::ALL]].concat();
        let times = self.0.calls.times(fences.clone()).await?;
        Ok(times.is_some_and(|times| times.standing(stamp, &fences) == Standing::Stands))
    }
}

impl fmt::Debug for RedisStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the URL: it may hold a password.
        f.debug_struct("RedisStorage").field("names", &self.0.calls.names).finish_non_exhaustive()
    }
}

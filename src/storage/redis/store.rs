//! The storage.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use actix_web::web::Bytes;
use futures_util::future::join;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, PushInfo, RedisResult, Script, Value};
use tokio::sync::mpsc::UnboundedSender;

use crate::fence::{Fence, FenceId, Stamp};
use crate::key::CacheKey;
use crate::storage::error::StorageError;
use crate::storage::interface::{Claimed, Holder, Lookup, Storage};
use crate::storage::redis::connection::{Connections, Lent};
use crate::storage::redis::door::Connection;
use crate::storage::redis::names::{Names, fence, hex};
use crate::storage::redis::news;
use crate::storage::redis::servers::RedisServers;
use crate::stored::entry::Entry;

/// A storage in Redis 6.2 or later, or Valkey: one cache for all processes that use the same server and prefix.
///
/// Nothing is connected before the first call. A hit costs one round trip, and a second one if the entry has tags or a
/// name that its handler or a key builder chose; an invalidation costs one, whatever it drops.
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
    connections: Connections,
    pub(crate) names: Names,
    words: AtomicU64,
    /// Tells its own news from those of others.
    writer: FenceId,
}

/// The fence clock, and the times of some fences.
type Times = (u64, Vec<u64>);

/// The longest time that an entry is kept.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// Fences outlive every entry that is older than they are.
const FENCES_LIVE: Duration = Duration::from_secs(8 * 24 * 3600);
/// More fences than these are folded into those around them.
const MOST_FENCES: usize = 65_536;

static RAISE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("raise.lua")));
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
        Ok(Self(Arc::new(Inner {
            connections: Connections::new(servers.door()?),
            names: Names::new(prefix),
            words: AtomicU64::new(0),
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
        let names = &self.0.names;
        let unheard = |error| StorageError::with_source("Redis does not say what is invalidated", error);
        let mut connection = self.0.connections.listen(&names.fences, news).await?;
        connection.subscribe(&names.news).await.map_err(unheard)?;
        Ok(connection)
    }

    /// The fence clock, on a connection to the server that has it.
    pub(crate) async fn clock_on(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<Option<Stamp>, StorageError> {
        let outcome = self.times_of(&[]).query_async::<Vec<Option<f64>>>(connection).await;
        let times = outcome.map_err(|error| StorageError::with_source("Redis has no fence clock", error))?;
        Ok(read_times(times).map(|(clock, _)| Stamp(clock)))
    }

    /// The fence clock and the times of these fences; none if there is no clock.
    async fn times(&self, ids: &[FenceId]) -> Result<Option<Times>, StorageError> {
        let (mut pipeline, word) = (redis::pipe(), self.word());
        pipeline.add_command(self.times_of(ids)).cmd("ECHO").arg(&word);
        let mut lent = self.0.connections.lend().await?;
        let outcome = pipeline.query_async::<(Vec<Option<f64>>, String)>(&mut lent.connection).await;
        match lent.outcome(outcome).await? {
            (times, echo) if echo == word && times.len() == ids.len() + 1 => Ok(read_times(times)),
            _ => Err(lent.out_of_step().await),
        }
    }

    /// The times of these fences, and what is under a name.
    async fn times_and_value(
        &self,
        lent: &mut Lent,
        ids: &[FenceId],
        name: &str,
    ) -> Result<(Vec<Option<f64>>, RedisResult<Value>), StorageError> {
        let (of_fences, of_entry) = (self.times_of(ids), redis::cmd("GET").arg(name).take());
        let (times, value) = match &lent.connection {
            Connection::Server(server) => {
                let (mut server, word) = (server.clone(), self.word());
                let mut call = Pipeline::with_capacity(3);
                call.add_command(of_fences).add_command(of_entry).cmd("ECHO").arg(&word);
                let outcome = call.ignore_errors().query_async(&mut server).await;
                let (times, value, echo): (_, _, RedisResult<String>) = lent.outcome(outcome).await?;
                if lent.outcome(echo).await? != word {
                    return Err(lent.out_of_step().await);
                }
                (times, value)
            }
            // They are on two nodes.
            Connection::Cluster(cluster) => {
                let (mut one, mut other) = (cluster.clone(), cluster.clone());
                let words = (self.word(), self.word());
                let (times, value) = (with_echo(of_fences, &words.0), with_echo(of_entry, &words.1));
                let (times, value) = join(times.query_async(&mut one), value.query_async(&mut other)).await;
                let (times, echo): (_, RedisResult<String>) = lent.outcome(times).await?;
                let (value, other): (_, RedisResult<String>) = lent.outcome(value).await?;
                if (lent.outcome(echo).await?, lent.outcome(other).await?) != words {
                    return Err(lent.out_of_step().await);
                }
                (times, value)
            }
        };
        let times: Vec<Option<f64>> = lent.outcome(times).await?;
        if times.len() != ids.len() + 1 {
            return Err(lent.out_of_step().await);
        }
        Ok((times, value))
    }

    fn times_of(&self, ids: &[FenceId]) -> redis::Cmd {
        let fences = &self.0.names.fences;
        // Room for all of it at once: each lookup writes one.
        let mut command = redis::Cmd::with_capacity(3 + ids.len(), 16 + fences.len() + 32 * ids.len());
        command.arg("ZMSCORE").arg(fences).arg("clock");
        for id in ids {
            command.arg(fence(*id));
        }
        command
    }

    /// A word to be echoed. Calls share a connection, and answers have no names: one that is lost or doubled on the way
    /// would give each call another one's answer, for good. Whatever an answer rests on comes with the call's own word.
    fn word(&self) -> String {
        self.0.words.fetch_add(1, Relaxed).to_string()
    }

    /// Raises fences, or makes the clock; tells the time.
    pub(crate) async fn move_clock(&self, fences: &[Fence]) -> Result<u64, StorageError> {
        let (names, word) = (&self.0.names, self.word());
        let mut call = RAISE.key(&names.fences);
        call.key(&names.within).arg(millis(FENCES_LIVE)).arg(MOST_FENCES).arg(fence(FenceId::ALL)).arg(&word);
        call.arg(&names.news);
        for raised in fences {
            call.arg(fence(raised.id)).arg(fence(raised.within));
        }
        let mut lent = self.0.connections.lend().await?;
        let outcome = call.invoke_async::<(u64, String)>(&mut lent.connection).await;
        match lent.outcome(outcome).await? {
            (clock, echo) if echo == word => Ok(clock),
            _ => Err(lent.out_of_step().await),
        }
    }

    async fn drop_damaged(&self, name: &str) {
        if let Ok(mut lent) = self.0.connections.lend().await {
            let outcome = redis::cmd("DEL").arg(name).query_async::<u64>(&mut lent.connection).await;
            let _ = lent.outcome(outcome).await;
        }
    }
}

impl RedisStorage {
    pub(crate) async fn look_up(&self, key: &CacheKey) -> Result<Lookup, StorageError> {
        let name = self.0.names.entry(key);
        let mut known = key.fences();
        known.push(FenceId::ALL);
        let mut lent = self.0.connections.lend().await?;
        let (times, value) = self.times_and_value(&mut lent, &known, &name).await?;
        let Some((clock, times)) = read_times(times) else {
            // Nothing that is there can be trusted: its fences are gone.
            return Ok(Lookup { entry: None, stamp: Stamp(self.move_clock(&[]).await?) });
        };
        let miss = Lookup { entry: None, stamp: Stamp(clock) };
        let bytes = match value {
            Ok(Value::Nil) => return Ok(miss),
            Ok(Value::BulkString(bytes)) => bytes,
            // A key of another type is not ours, and in our place.
            Err(error) if error.code() == Some("WRONGTYPE") => Vec::new(),
            value => {
                lent.outcome(value).await?;
                return Err(lent.out_of_step().await);
            }
        };
        let Some(entry) = read(bytes) else {
            self.drop_damaged(&name).await;
            return Ok(miss);
        };
        if entry.key() != key {
            return Ok(miss);
        }
        let stamp = entry.stamp().0;
        if times.iter().any(|raised| *raised > stamp) {
            return Ok(miss);
        }
        let others: Vec<FenceId> = entry.fences().iter().filter(|id| !known.contains(id)).copied().collect();
        if !others.is_empty() {
            // With the known ones: a fence may have become the wider one around it since.
            match self.times(&[others, known].concat()).await? {
                Some((_, times)) if times.iter().all(|raised| *raised <= stamp) => {}
                _ => return Ok(miss),
            }
        }
        Ok(Lookup { entry: Some(Arc::new(entry)), stamp: Stamp(clock) })
    }

    /// Tells whether the entry took its place, or a newer one has it.
    pub(crate) async fn keep(&self, entry: &Entry) -> Result<bool, StorageError> {
        let bytes = [order(entry).as_bytes(), &entry.to_bytes()?].concat();
        // By the entry's own timeline, which is nobody else's.
        let lives = entry.keep_until().since(entry.began()).clamp(Duration::from_millis(1), LONGEST);
        let mut call = PUT.key(self.0.names.entry(entry.key()));
        call.arg(bytes)
            .arg(ORDER)
            .arg(millis(lives))
            .arg(&self.0.names.news)
            .arg(news::replaced(entry, self.0.writer)?);
        let mut lent = self.0.connections.lend().await?;
        let outcome = call.invoke_async::<u64>(&mut lent.connection).await;
        let is_kept = lent.outcome(outcome).await? == 1;
        // What is in use does not lose its fences: that would drop it all.
        let names = &self.0.names;
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
        let mut lent = self.0.connections.lend().await?;
        let name = self.0.names.entry(key);
        let outcome = redis::cmd("DEL").arg(name).query_async::<u64>(&mut lent.connection).await;
        Ok(lent.outcome(outcome).await? > 0)
    }

    async fn raise(&self, fences: &[Fence]) -> Result<(), StorageError> {
        self.move_clock(fences).await.map(drop)
    }

    fn leases(&self) -> bool {
        true
    }

    async fn claim(&self, key: &CacheKey, holder: Holder, lease: Duration) -> Result<Claimed, StorageError> {
        let mut call = CLAIM.key(self.0.names.lease(key));
        call.arg(holder.0).arg(millis(lease).max(1));
        let mut lent = self.0.connections.lend().await?;
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
        let mut call = RELEASE.key(self.0.names.lease(key));
        call.arg(holder.0).arg(refused.map_or(0, millis));
        let mut lent = self.0.connections.lend().await?;
        let outcome = call.invoke_async::<u64>(&mut lent.connection).await;
        lent.outcome(outcome).await.map(drop)
    }

    async fn is_current(&self, stamp: Stamp, fences: &[FenceId]) -> Result<bool, StorageError> {
        let ids = [fences, &[FenceId::ALL]].concat();
        let times = self.times(&ids).await?;
        Ok(times.is_some_and(|(_, times)| times.iter().all(|raised| *raised <= stamp.0)))
    }
}

/// A call, and a word to be echoed.
fn with_echo(call: redis::Cmd, word: &str) -> Pipeline {
    let mut pipeline = redis::pipe();
    pipeline.add_command(call).cmd("ECHO").arg(word);
    pipeline.ignore_errors();
    pipeline
}

/// The clock, and the times of fences; zero for those that were never raised.
fn read_times(times: Vec<Option<f64>>) -> Option<Times> {
    // Whole in a double until the year 2255.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let mut times = times.into_iter().map(|time| time.map_or(0, |time| time as u64));
    let clock = times.next().filter(|clock| *clock > 0)?;
    Some((clock, times.collect()))
}

/// What two entries of one key are compared by, as text that compares alike: Lua's numbers would lose digits.
fn order(entry: &Entry) -> String {
    let began = millis(entry.began().since(Default::default()));
    hex(&[entry.stamp().0, began].map(u64::to_be_bytes).concat())
}

/// Its length.
const ORDER: usize = 32;

fn read(bytes: Vec<u8>) -> Option<Entry> {
    let mut told = Bytes::from(bytes);
    let frame = (told.len() >= ORDER).then(|| told.split_off(ORDER))?;
    Entry::from_shared(&frame).filter(|entry| order(entry).as_bytes() == told)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Debug for RedisStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the URL: it may hold a password.
        f.debug_struct("RedisStorage").field("names", &self.0.names).finish_non_exhaustive()
    }
}

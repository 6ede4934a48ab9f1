//! What a process knows of entries in Redis, and lookups that share a call: faster, and nothing else.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering::SeqCst};
use std::time::Duration;

use actix_fast_cache::storage::{Fence, FenceId};
use actix_fast_cache::{
    CacheConfig, CacheHandle, CacheKey, Entry, RedisStorage, Storage, StoreOptions, StoredResponse,
};
use actix_web::http::StatusCode;
use futures_util::future::{join, join_all, poll_immediate};
use support::faults::{Fault, FaultProxy};
use support::redis::{RedisServer, wait_until};
use support::told::Told;

// ---- An allocator that knows how much is held.

struct Counting;

static HELD: AtomicIsize = AtomicIsize::new(0);

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size() as isize, SeqCst);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size() as isize, SeqCst);
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test at a time where memory is counted.
static ALONE: tokio::sync::RwLock<()> = tokio::sync::RwLock::const_new(());

/// A process: what it stores in Redis, and its way there.
struct Process {
    told: Told,
    cache: CacheHandle,
}

fn process(port: u16) -> Process {
    let storage = RedisStorage::open(&format!("redis://127.0.0.1:{port}"), "afc").unwrap();
    let told = Told { storage, stored: Arc::default() };
    let builder = CacheConfig::builder(told.clone()).storage_deadline(Duration::from_secs(60));
    Process { told, cache: builder.build().unwrap().handle() }
}

impl Process {
    /// Stores a page of its name and so many bytes, under a tag; gives the entry.
    async fn store(&self, name: &str, bytes: usize) -> Arc<Entry> {
        let page = StoredResponse::new(StatusCode::OK, page(name, bytes));
        let options = StoreOptions::new().tag(format!("tag of {name}"));
        self.cache.set(name, page, options).await.unwrap();
        self.told.stored.lock().unwrap().pop().unwrap()
    }

    async fn get(&self, key: &CacheKey) -> Option<Arc<Entry>> {
        self.told.storage.get(key).await.unwrap().entry
    }

    async fn body(&self, name: &str) -> Option<String> {
        let found = self.cache.get(name).await.unwrap();
        found.map(|stored| String::from_utf8(stored.body().to_vec()).unwrap())
    }
}

fn page(name: &str, bytes: usize) -> String {
    format!("page {name} {}", "x".repeat(bytes))
}

/// The name that an entry has in Redis.
fn name(entry: &Entry) -> String {
    let digest: String = entry.key().digest().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("afc::v1:{digest}")
}

async fn raw(redis: &RedisServer) -> redis::aio::MultiplexedConnection {
    redis::Client::open(redis.url()).unwrap().get_multiplexed_async_connection().await.unwrap()
}

// F10
#[tokio::test]
async fn damage_is_a_miss_and_gone_though_a_good_copy_was_read_before() {
    let _shared = ALONE.read().await;
    let redis = RedisServer::start().await;
    let process = process(redis.port);
    let entry = process.store("a", 40).await;
    let (mut raw, name) = (raw(&redis).await, name(&entry));
    let good: Vec<u8> = redis::cmd("GET").arg(&name).query_async(&mut raw).await.unwrap();
    let flips = (0..good.len() * 8).map(|bit| {
        let mut flipped = good.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    });
    let cuts = (0..good.len()).step_by(7).map(|cut| good[..cut].to_vec());
    let more = [[&good[..], b"x"].concat(), good.repeat(2)];
    for (turn, damaged) in flips.chain(cuts).chain(more).enumerate() {
        let set = |value: &[u8]| redis::cmd("SET").arg(&name).arg(value).arg("PX").arg(600_000).take();
        set(&good).exec_async(&mut raw).await.unwrap();
        // Twice: it is known, and it is in Redis.
        assert_eq!(process.get(entry.key()).await.as_deref(), Some(&*entry), "{turn}");
        assert_eq!(process.get(entry.key()).await.as_deref(), Some(&*entry), "{turn}");
        set(&damaged).exec_async(&mut raw).await.unwrap();
        // Those who share the call too.
        let found = join(process.get(entry.key()), process.get(entry.key())).await;
        assert_eq!(found, (None, None), "{turn}");
        let exists: bool = redis::cmd("EXISTS").arg(&name).query_async(&mut raw).await.unwrap();
        assert!(!exists, "{turn}");
    }
}

#[tokio::test]
async fn what_another_process_stores_or_removes_is_seen_at_once() {
    let _shared = ALONE.read().await;
    let redis = RedisServer::start().await;
    let (one, other) = (process(redis.port), process(redis.port));
    for turn in 0..200 {
        let entry = one.store("a", turn).await;
        for process in [&one, &other] {
            assert_eq!(process.body("a").await, Some(page("a", turn)));
            assert_eq!(process.body("a").await, Some(page("a", turn)));
        }
        if turn % 3 == 0 {
            assert!(one.told.storage.remove(entry.key()).await.unwrap());
            assert_eq!(other.body("a").await, None);
        }
    }
}

// R1, R2
#[tokio::test]
async fn what_another_process_invalidates_is_gone_at_once_though_it_is_known() {
    let _shared = ALONE.read().await;
    let redis = RedisServer::start().await;
    let (one, other) = (process(redis.port), process(redis.port));
    for turn in 0..100 {
        let entries = [one.store("a", turn).await, one.store("b", turn).await];
        for _ in 0..2 {
            assert!(other.body("a").await.is_some() && other.body("b").await.is_some());
        }
        // Each of the fences that name it, one after the other.
        let ids = [entries[0].fences(), &[FenceId::ALL]].concat();
        let id = ids[turn % ids.len()];
        one.told.storage.raise(&[Fence { id, within: FenceId::ALL }]).await.unwrap();
        let found = join(other.get(entries[0].key()), other.get(entries[1].key())).await;
        let is_both = id == FenceId::ALL || entries[1].fences().contains(&id);
        assert_eq!((found.0.is_some(), found.1.is_some()), (false, !is_both), "turn {turn}");
        assert_eq!(other.get(entries[1].key()).await.is_some(), !is_both, "turn {turn}");
    }
}

// R1: with the answer to the first lookup still on its way, the second one would be told what was before.
#[tokio::test]
async fn a_lookup_that_begins_after_an_invalidation_joins_none_that_was_sent_before() {
    let _shared = ALONE.read().await;
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::before(redis.port).await;
    let (one, other) = (process(proxy.port), process(redis.port));
    for turn in 0..5 {
        let entry = one.store("a", turn).await;
        assert!(one.get(entry.key()).await.is_some());
        let before = redis.calls(|command| command == "get").await;
        proxy.set(Fault::Latency(Duration::from_millis(200)));
        let storage = one.told.storage.clone();
        let key = entry.key().clone();
        let early = tokio::spawn(async move { storage.get(&key).await });
        wait_until(async || redis.calls(|command| command == "get").await > before).await;
        let fence = Fence { id: entry.fences()[0], within: FenceId::ALL };
        other.told.storage.raise(&[fence]).await.unwrap();
        assert!(one.get(entry.key()).await.is_none(), "turn {turn}");
        assert!(early.await.unwrap().unwrap().entry.is_some(), "it was read before");
        proxy.set(Fault::None);
    }
}

#[tokio::test]
async fn lookups_of_one_turn_cost_one_call_and_one_round_trip() {
    let _shared = ALONE.read().await;
    let redis = RedisServer::start().await;
    let process = process(redis.port);
    let mut entries = Vec::new();
    for n in 0..8 {
        entries.push(process.store(&n.to_string(), n * 100).await);
    }
    let look_up = async || {
        let lookups = (0..100).map(|n| process.get(entries[n % entries.len()].key()));
        for (n, found) in join_all(lookups).await.into_iter().enumerate() {
            assert_eq!(found.as_deref(), Some(&*entries[n % entries.len()]));
        }
    };
    // What has tags is known from then on.
    look_up().await;
    let (gets, fences) =
        (redis.calls(|command| command == "get").await, redis.calls(|command| command == "zmscore").await);
    look_up().await;
    assert_eq!(redis.calls(|command| command == "get").await, gets + entries.len());
    assert_eq!(redis.calls(|command| command == "zmscore").await, fences + 1);
}

// F15
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lookups_that_are_given_up_leave_those_that_share_their_call_right() {
    let _shared = ALONE.read().await;
    let redis = RedisServer::start().await;
    let process = process(redis.port);
    let mut entries = Vec::new();
    for n in 0..20 {
        entries.push(process.store(&n.to_string(), n * 500).await);
    }
    let (storage, entries) = (&process.told.storage, &entries);
    for turn in 0..300 {
        // Whoever is first has others behind it when it is given up; at times nobody is left.
        let lookups = (0..60).map(async |n| {
            let entry = &entries[n * 7 % entries.len()];
            let mut lookup = pin!(storage.get(entry.key()));
            if let Some(found) = poll_immediate(&mut lookup).await {
                return Some(found.unwrap());
            }
            let given_up = turn % 10 == 0 || n < turn % 40;
            for _ in 0..n % 4 {
                tokio::task::yield_now().await;
            }
            if given_up { None } else { Some(lookup.await.unwrap()) }
        });
        for (n, found) in join_all(lookups).await.into_iter().enumerate() {
            if let Some(found) = found {
                assert_eq!(found.entry.as_deref(), Some(&*entries[n * 7 % entries.len()]), "turn {turn}");
            }
        }
    }
    assert_eq!(process.get(entries[0].key()).await.as_ref(), Some(&entries[0]));
}

#[tokio::test]
async fn a_runtime_that_ends_leaves_the_others_theirs() {
    let _shared = ALONE.read().await;
    let redis = RedisServer::start().await;
    let process = process(redis.port);
    let entry = process.store("a", 10).await;
    for _ in 0..20 {
        let (storage, key) = (process.told.storage.clone(), entry.key().clone());
        let ended = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            // It has joined, and nothing is sent.
            runtime.block_on(async { assert!(poll_immediate(pin!(storage.get(&key))).await.is_none()) });
        });
        tokio::task::spawn_blocking(|| ended.join().unwrap()).await.unwrap();
        assert!(process.get(entry.key()).await.is_some());
    }
}

#[tokio::test]
async fn what_is_known_takes_eight_megabytes_at_the_most() {
    let _alone = ALONE.write().await;
    let redis = RedisServer::start().await;
    let process = process(redis.port);
    let mut entries = Vec::new();
    for n in 0..400 {
        entries.push(process.store(&n.to_string(), 100_000).await.key().clone());
    }
    assert!(process.get(&entries[0]).await.is_some());
    let before = HELD.load(SeqCst);
    for turn in 0..2 {
        for key in &entries {
            assert!(process.get(key).await.is_some());
        }
        let held = HELD.load(SeqCst) - before;
        assert!((1 << 20..9 << 20).contains(&held), "turn {turn}: {held}");
    }
}

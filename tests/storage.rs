//! Storages: this crate's own and a user's keep the contract, broken ones are found out, and a storage in trouble
//! takes nothing down.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

mod support;

use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_fast_cache::storage::conformance::{self, Clause, Violation};
use actix_fast_cache::storage::{Fence, FenceId, Stamp};
use actix_fast_cache::{
    CacheConfig, CacheConfigBuilder, CacheHandle, CacheKey, Entry, FailingStorage, FastCache, Lookup,
    ManualClock, MemoryStorage, Storage, StorageError, StorageTrouble, StoreOptions, StoredResponse,
};
use actix_web::http::StatusCode;
use actix_web::{App, HttpResponse, web};
use support::{Runs, Server};

// The contract.

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_of_any_size_keeps_the_contract() {
    for capacity in [256 << 10, 256 << 20] {
        let storage = MemoryStorage::with_capacity(capacity);
        conformance::check(async || storage.clone())
            .await
            .unwrap_or_else(|violation| panic!("{capacity} bytes: {violation}"));
    }
}

#[tokio::test]
async fn memory_keeps_the_contract_on_one_thread() {
    let storage = MemoryStorage::new();
    conformance::check(async || storage.clone()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storage_made_by_a_user_keeps_the_contract() {
    let shelf = Shelf::default();
    conformance::check(async || shelf.clone()).await.unwrap();
}

#[tokio::test]
async fn a_storage_that_still_holds_an_earlier_run_keeps_the_contract() {
    let shelf = Shelf::default();
    for _ in 0..2 {
        for clause in
            Clause::EVERY.iter().filter(|clause| !matches!(clause, Clause::ManyFences | Clause::FoldsWithin))
        {
            conformance::check_clause(*clause, async || shelf.clone()).await.unwrap();
        }
    }
}

/// What a suite says that ends with this clause; the floods before it would find nothing, and take long.
async fn broken(fault: Fault, last: Clause) -> Violation {
    let shelf = Shelf { fault: Some(fault), ..Shelf::default() };
    for clause in Clause::EVERY {
        let floods = matches!(clause, Clause::ManyFences | Clause::FoldsWithin);
        if *clause != last && floods {
            continue;
        }
        if let Err(violation) = conformance::check_clause(*clause, async || shelf.clone()).await {
            return violation;
        }
    }
    panic!("{fault:?} passed");
}

#[tokio::test]
async fn each_fault_is_found_under_its_own_clause() {
    let faults = [
        (Fault::KeepsNothing, Clause::Keeps),
        (Fault::CutsBytes, Clause::Keeps),
        (Fault::KeepsTheFirst, Clause::Whole),
        (Fault::TrustsTheHash, Clause::OwnKey),
        (Fault::IgnoresFences, Clause::Fences),
        (Fault::NeverForgivesAFence, Clause::Fences),
        (Fault::IgnoresAll, Clause::Fences),
        (Fault::DropsOnRaiseOnly, Clause::LatePut),
        (Fault::RaisesAll, Clause::OtherNames),
        (Fault::AlwaysCurrent, Clause::IsCurrent),
        (Fault::OldReplacesNew, Clause::OlderFill),
        (Fault::BeganDecides, Clause::OlderFill),
        (Fault::RemovesNothing, Clause::Remove),
        (Fault::GetNowHasNothing, Clause::GetNow),
        (Fault::StampsGoBack, Clause::Stamps),
        (Fault::ForgetsFences, Clause::ManyFences),
        (Fault::FoldsIntoAll, Clause::FoldsWithin),
        (Fault::ChecksThenPuts, Clause::Concurrency),
    ];
    for (fault, clause) in faults {
        let violation = broken(fault, clause).await;
        assert_eq!(violation.clause(), clause, "{fault:?}: {violation}");
    }
}

#[tokio::test]
async fn a_storage_that_fails_breaks_the_contract_and_says_why() {
    let violation = conformance::check(async || FailingStorage).await.unwrap_err();
    let source = std::error::Error::source(&violation).expect("the storage's own error");
    assert_eq!(source.to_string(), "this storage always fails");
}

/// A storage as a user may write one: bytes in a map, and fences beside them.
#[derive(Clone, Default)]
struct Shelf {
    inner: Arc<Mutex<Inner>>,
    fault: Option<Fault>,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<u64, Vec<u8>>,
    raised: HashMap<FenceId, u64>,
    clock: u64,
}

/// What may be wrong with it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    KeepsNothing,
    CutsBytes,
    KeepsTheFirst,
    TrustsTheHash,
    IgnoresFences,
    NeverForgivesAFence,
    IgnoresAll,
    DropsOnRaiseOnly,
    RaisesAll,
    AlwaysCurrent,
    OldReplacesNew,
    BeganDecides,
    RemovesNothing,
    GetNowHasNothing,
    StampsGoBack,
    ForgetsFences,
    FoldsIntoAll,
    ChecksThenPuts,
}

impl Shelf {
    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn valid(&self, inner: &Inner, stamp: Stamp, fences: &[FenceId]) -> bool {
        let before = |id: &FenceId| match inner.raised.get(id) {
            Some(_) if self.has(Fault::NeverForgivesAFence) => false,
            Some(at) => *at <= stamp.0,
            None => true,
        };
        (self.has(Fault::IgnoresAll) || before(&FenceId::ALL)) && fences.iter().all(before)
    }

    fn kept(inner: &Inner, key: &CacheKey) -> Option<Entry> {
        Entry::from_bytes(inner.entries.get(&key.hash64())?)
    }
}

impl Storage for Shelf {
    fn get_now(&self, _: &CacheKey) -> Option<Lookup> {
        self.has(Fault::GetNowHasNothing).then(Lookup::default)
    }

    async fn get(&self, key: &CacheKey) -> Result<Lookup, StorageError> {
        let looked = {
            let inner = self.inner.lock().unwrap();
            let entry = Self::kept(&inner, key)
                .filter(|entry| entry.key() == key || self.has(Fault::TrustsTheHash))
                .filter(|entry| {
                    self.has(Fault::IgnoresFences)
                        || self.has(Fault::DropsOnRaiseOnly)
                        || self.has(Fault::ChecksThenPuts)
                        || self.valid(&inner, entry.stamp(), entry.fences())
                });
            // Late, so that the clauses before it find nothing.
            let goes_back = self.has(Fault::StampsGoBack) && inner.clock > 100 && inner.clock % 7 == 6;
            let back = if goes_back { 2 } else { 0 };
            Lookup { entry: entry.map(Arc::new), stamp: Stamp(inner.clock - back) }
        };
        Ok(looked)
    }

    async fn put(&self, entry: Arc<Entry>) -> Result<(), StorageError> {
        if self.has(Fault::KeepsNothing) {
            return Ok(());
        }
        if self.has(Fault::ChecksThenPuts) {
            if !self.valid(&self.inner.lock().unwrap(), entry.stamp(), entry.fences()) {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
        let mut inner = self.inner.lock().unwrap();
        if let Some(known) = Self::kept(&inner, entry.key()).filter(|known| known.key() == entry.key()) {
            let newer = match self.fault {
                Some(Fault::OldReplacesNew) => false,
                Some(Fault::KeepsTheFirst) => true,
                Some(Fault::BeganDecides) => known.began() > entry.began(),
                _ => (known.stamp(), known.began()) > (entry.stamp(), entry.began()),
            };
            if newer {
                return Ok(());
            }
        }
        let mut bytes = entry.to_bytes()?;
        if self.has(Fault::CutsBytes) {
            bytes.pop();
        }
        inner.entries.insert(entry.key().hash64(), bytes);
        Ok(())
    }

    async fn remove(&self, key: &CacheKey) -> Result<bool, StorageError> {
        let mut inner = self.inner.lock().unwrap();
        let there = Self::kept(&inner, key).is_some_and(|entry| entry.key() == key);
        if there && !self.has(Fault::RemovesNothing) {
            inner.entries.remove(&key.hash64());
        }
        Ok(there)
    }

    async fn raise(&self, fences: &[Fence]) -> Result<(), StorageError> {
        let mut inner = self.inner.lock().unwrap();
        inner.clock += 1;
        let at = inner.clock;
        for fence in fences {
            inner.raised.insert(fence.id, at);
            if self.has(Fault::RaisesAll) {
                inner.raised.insert(FenceId::ALL, at);
            }
        }
        if self.has(Fault::DropsOnRaiseOnly) || self.has(Fault::ChecksThenPuts) {
            let named: HashSet<FenceId> = fences.iter().map(|fence| fence.id).collect();
            inner.entries.retain(|_, bytes| {
                let entry = Entry::from_bytes(bytes).unwrap();
                !named.contains(&FenceId::ALL) && !entry.fences().iter().any(|id| named.contains(id))
            });
        }
        if inner.raised.len() > 10_000 {
            match self.fault {
                Some(Fault::ForgetsFences) => inner.raised.retain(|_, raised| *raised == at),
                Some(Fault::FoldsIntoAll) => {
                    inner.raised.clear();
                    inner.raised.insert(FenceId::ALL, at);
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn is_current(&self, stamp: Stamp, fences: &[FenceId]) -> Result<bool, StorageError> {
        let inner = self.inner.lock().unwrap();
        Ok(self.has(Fault::AlwaysCurrent) || self.valid(&inner, stamp, fences))
    }
}

// A storage in trouble.

/// A scope `/a` that counts its runs; its cache has a deadline of 50 ms.
fn start(cache: CacheConfigBuilder) -> (Server, Runs, CacheHandle) {
    let cache = cache.build().unwrap();
    let (runs, handle) = (Runs::new(), cache.handle());
    let counted = runs.clone();
    let server = Server::start(2, move || {
        let runs = counted.clone();
        let handler = move || {
            let run = runs.add();
            async move { HttpResponse::Ok().body(format!("run {run}")) }
        };
        App::new().service(
            web::scope("/a")
                .wrap(FastCache::new(cache.clone()))
                .route("/{id}", web::get().to(handler.clone()))
                .route("/{id}", web::post().to(handler)),
        )
    });
    (server, runs, handle)
}

/// How a storage fails; what it was asked is counted.
#[derive(Clone)]
struct Sick {
    memory: MemoryStorage,
    how: How,
    asked: Arc<AtomicUsize>,
}

#[derive(Clone, Copy)]
enum How {
    Hangs,
    Errs,
    Panics,
    /// After it waited, answers right.
    Waits(Duration),
    /// Looks up well, and hangs on everything else.
    OnlyReads,
}

impl Sick {
    fn new(how: How) -> Self {
        Self { memory: MemoryStorage::new(), how, asked: Arc::default() }
    }

    async fn suffer(&self, read: bool) -> Result<(), StorageError> {
        self.asked.fetch_add(1, SeqCst);
        match self.how {
            How::Hangs => pending().await,
            How::Errs => Err(StorageError::new("out of order")),
            How::Panics => panic!("out of order"),
            How::Waits(time) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
            How::OnlyReads if read => Ok(()),
            How::OnlyReads => pending().await,
        }
    }
}

impl Storage for Sick {
    async fn get(&self, key: &CacheKey) -> Result<Lookup, StorageError> {
        self.suffer(true).await?;
        self.memory.get(key).await
    }

    async fn put(&self, entry: Arc<Entry>) -> Result<(), StorageError> {
        self.suffer(false).await?;
        self.memory.put(entry).await
    }

    async fn remove(&self, key: &CacheKey) -> Result<bool, StorageError> {
        self.suffer(false).await?;
        self.memory.remove(key).await
    }

    async fn raise(&self, fences: &[Fence]) -> Result<(), StorageError> {
        self.suffer(false).await?;
        self.memory.raise(fences).await
    }

    async fn is_current(&self, stamp: Stamp, fences: &[FenceId]) -> Result<bool, StorageError> {
        self.suffer(false).await?;
        self.memory.is_current(stamp, fences).await
    }
}

/// Reads and writes, one after the other and at once: each is answered by the handler, and none is an error.
async fn each_request_is_a_miss(storage: impl Storage) {
    let (server, runs, handle) = start(CacheConfig::builder(storage));
    for round in 1..=3 {
        let reply = server.get("/a/1", &[]).await;
        assert_eq!((reply.status, reply.cache().as_str()), (200, "MISS"));
        assert_eq!(reply.text(), format!("run {round}"));
    }
    let reply = server.send("POST", "/a/1", &[], b"x").await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "run 4"));
    let at_once = futures_util::future::join_all((0..8).map(|_| server.get("/a/2", &[]))).await;
    assert!(at_once.iter().all(|reply| reply.status == 200));
    assert!(runs.count() > 4);
    assert_ne!(handle.storage_trouble(), StorageTrouble::default());
}

// F17
#[tokio::test]
async fn on_a_storage_that_panics_every_request_is_a_miss() {
    each_request_is_a_miss(Sick::new(How::Panics)).await;
}

// STYLE rule 11
#[tokio::test]
async fn on_a_storage_that_fails_every_request_is_a_miss() {
    each_request_is_a_miss(FailingStorage).await;
    each_request_is_a_miss(Sick::new(How::Errs)).await;
}

#[tokio::test]
async fn on_a_storage_that_hangs_every_request_is_a_miss() {
    each_request_is_a_miss(Sick::new(How::Hangs)).await;
}

#[tokio::test]
async fn on_a_storage_that_can_only_read_every_request_is_a_miss() {
    each_request_is_a_miss(Sick::new(How::OnlyReads)).await;
}

#[tokio::test]
async fn on_a_storage_slower_than_the_deadline_every_request_is_a_miss() {
    each_request_is_a_miss(Sick::new(How::Waits(Duration::from_secs(3)))).await;
}

#[tokio::test]
async fn a_storage_slow_within_the_deadline_serves_hits_and_is_no_trouble() {
    let storage = Sick::new(How::Waits(Duration::from_millis(2)));
    let (server, runs, handle) =
        start(CacheConfig::builder(storage).storage_deadline(Duration::from_secs(30)));
    assert_eq!(server.get("/a/1", &[]).await.cache(), "MISS");
    handle.flush().await;
    assert_eq!(server.get("/a/1", &[]).await.cache(), "HIT");
    handle.invalidate_namespace().await.unwrap();
    assert_eq!(server.get("/a/1", &[]).await.cache(), "MISS");
    assert_eq!((runs.count(), handle.storage_trouble()), (2, StorageTrouble::default()));
}

#[tokio::test]
async fn manual_calls_hear_of_a_storage_in_trouble() {
    for how in [How::Errs, How::Hangs, How::Panics] {
        let config = CacheConfig::builder(Sick::new(how)).storage_deadline(Duration::from_millis(1));
        let handle = config.build().unwrap().handle();
        let page = StoredResponse::new(StatusCode::OK, "page");
        assert!(handle.get("k").await.is_err());
        assert!(handle.set("k", page, StoreOptions::new()).await.is_err());
        assert!(handle.invalidate_tag("t").await.is_err());
        assert!(handle.invalidate_namespace().await.is_err());
        assert!(handle.clear().await.is_err());
        assert!(handle.invalidate("k").await.is_err());
        let trouble = handle.storage_trouble();
        assert!(trouble.failed + trouble.late + trouble.left_alone >= 6, "{trouble:?}");
    }
}

#[tokio::test]
async fn trouble_is_counted_once_for_each_call() {
    let storage = Sick::new(How::Errs);
    let asked = Arc::clone(&storage.asked);
    let (server, _, handle) = start(CacheConfig::builder(storage));
    for _ in 0..5 {
        server.get("/a/1", &[]).await;
    }
    handle.flush().await;
    assert!(asked.load(SeqCst) >= 5);
    assert_eq!(handle.storage_trouble().failed, asked.load(SeqCst) as u64);
    assert_eq!(handle.storage_trouble().late, 0);
}

// The bounds of memory.

fn page(bytes: usize) -> StoredResponse {
    StoredResponse::new(StatusCode::OK, vec![b'x'; bytes])
}

fn cache_of(bytes: u64) -> (MemoryStorage, CacheHandle) {
    let memory = MemoryStorage::with_capacity(bytes);
    let handle = CacheConfig::builder(memory.clone()).namespace("n").build().unwrap().handle();
    (memory, handle)
}

#[tokio::test]
async fn memory_stays_in_its_bound_by_what_entries_weigh() {
    const CAPACITY: u64 = 1 << 20;
    for size in [0, 100, 10_000, 300_000] {
        let (memory, handle) = cache_of(CAPACITY);
        for number in 0..2_000_000 / (size + 1_000) {
            handle.set(&format!("k{number}"), page(size), StoreOptions::new()).await.unwrap();
        }
        let stats = memory.stats();
        assert!(stats.bytes <= CAPACITY, "{size}: {stats:?}");
        assert!(stats.entries > 0, "{size}: {stats:?}");
        // The body, and at least what any entry costs beside it.
        assert!(stats.bytes >= stats.entries * (size as u64 + 600), "{size}: {stats:?}");
    }
}

#[tokio::test]
async fn fields_and_keys_weigh_too() {
    let (memory, handle) = cache_of(8 << 20);
    // The first one weighs what others will share with it.
    handle.set("first", page(10), StoreOptions::new()).await.unwrap();
    let first = memory.stats().bytes;
    handle.set("k", page(10), StoreOptions::new()).await.unwrap();
    let small = memory.stats().bytes - first;
    handle.set(&"k".repeat(10_000), page(10), StoreOptions::new()).await.unwrap();
    let with_key = memory.stats().bytes;
    assert!(with_key >= first + 2 * small + 9_999, "{first} {small} {with_key}");
    let name = actix_web::http::header::HeaderName::from_static("x-long");
    let long = actix_web::http::header::HeaderValue::from_str(&"v".repeat(50_000)).unwrap();
    handle.set("f", page(10).with_header(name, long), StoreOptions::new()).await.unwrap();
    assert!(memory.stats().bytes >= with_key + small + 50_000);
}

#[tokio::test]
async fn memory_refuses_what_is_larger_than_its_bound_and_keeps_the_rest() {
    let (memory, handle) = cache_of(100_000);
    handle.set("small", page(1_000), StoreOptions::new()).await.unwrap();
    handle.set("large", page(100_000), StoreOptions::new()).await.unwrap();
    assert!(handle.get("large").await.unwrap().is_none());
    assert!(handle.get("small").await.unwrap().is_some());
    assert_eq!(memory.stats().entries, 1);
}

#[tokio::test]
async fn an_entry_too_large_to_keep_does_not_leave_the_older_one_in_its_place() {
    let (_, handle) = cache_of(100_000);
    handle.set("k", page(1_000), StoreOptions::new()).await.unwrap();
    handle.set("k", page(100_000), StoreOptions::new()).await.unwrap();
    assert!(handle.get("k").await.unwrap().is_none());
}

#[tokio::test]
async fn what_was_invalidated_makes_room() {
    let (memory, handle) = cache_of(20_000);
    for turn in 0..3 {
        for number in 0..4 {
            let key = format!("{turn} {number}");
            handle.set(&key, page(4_000), StoreOptions::new()).await.unwrap();
            // In demand, so that nothing new would be let in beside it.
            for _ in 0..20 {
                handle.get(&key).await.unwrap();
            }
        }
        handle.invalidate_namespace().await.unwrap();
        for number in 0..4 {
            assert!(handle.get(&format!("{turn} {number}")).await.unwrap().is_none());
        }
        assert_eq!(memory.stats().entries, 0);
    }
}

#[tokio::test]
async fn replacing_an_entry_frees_what_it_weighed() {
    let (memory, handle) = cache_of(1 << 20);
    for size in [200_000, 10, 200_000, 10] {
        handle.set("k", page(size), StoreOptions::new()).await.unwrap();
    }
    let stats = memory.stats();
    assert_eq!(stats.entries, 1);
    assert!(stats.bytes < 5_000, "{stats:?}");
}

#[tokio::test]
async fn an_entry_refused_and_then_replaced_is_counted_only_if_it_is_there() {
    let (memory, handle) = cache_of(1 << 20);
    for round in 0..20 {
        for number in 0..5 {
            handle.set(&format!("{round} {number}"), page(200_000), StoreOptions::new()).await.unwrap();
        }
        // Half a second without maintenance is when mini-moka starts to queue what it should do.
        if round % 10 == 0 {
            tokio::time::sleep(Duration::from_millis(600)).await;
        }
        for number in 0..10 {
            let key = format!("{round} new {number}");
            handle.set(&key, page(200_000), StoreOptions::new()).await.unwrap();
            handle.set(&key, page(10), StoreOptions::new()).await.unwrap();
        }
    }
    let counted = memory.stats();
    let mut found = 0;
    for round in 0..20 {
        for key in (0..5).map(|n| format!("{round} {n}")).chain((0..10).map(|n| format!("{round} new {n}"))) {
            found += u64::from(handle.get(&key).await.unwrap().is_some());
        }
    }
    assert_eq!(found, counted.entries, "{counted:?}");
}

#[tokio::test]
async fn many_tasks_that_replace_the_same_keys_do_not_eat_the_room_away() {
    const CAPACITY: u64 = 1 << 20;
    let (memory, handle) = cache_of(CAPACITY);
    let tasks: Vec<_> = (0..4_u64)
        .map(|task| {
            let handle = handle.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(async {
                    for turn in 0..1_500_u64 {
                        let key = format!("k{}", (turn * 7 + task) % 200);
                        handle.set(&key, page(20_000), StoreOptions::new()).await.unwrap();
                        handle.get(&key).await.unwrap();
                    }
                });
            })
        })
        .collect();
    tasks.into_iter().for_each(|task| task.join().unwrap());
    let stats = memory.stats();
    assert!(stats.bytes <= CAPACITY, "{stats:?}");
    // What is counted is there, and can be asked for.
    let mut found = 0;
    for number in 0..200 {
        found += u64::from(handle.get(&format!("k{number}")).await.unwrap().is_some());
    }
    assert_eq!(found, memory.stats().entries, "{stats:?}");
}

// The bound of the fences.

#[tokio::test]
async fn folding_drops_more_within_the_namespace_and_nothing_beyond_it() {
    let memory = MemoryStorage::new();
    let config = CacheConfig::builder(memory.clone()).namespace("flooded").build().unwrap();
    let (flooded, inner) = (config.handle(), config.scoped("inner").handle());
    let apart = CacheConfig::builder(memory.clone()).namespace("apart").build().unwrap().handle();
    for handle in [&flooded, &inner, &apart] {
        handle.set("k", page(10), StoreOptions::new()).await.unwrap();
    }
    // Of a scope's keys: they fold into its own namespace.
    for number in 0..70_000 {
        inner.invalidate(&format!("other {number}")).await.unwrap();
    }
    assert!(inner.get("k").await.unwrap().is_none(), "an entry as old as the folded fences is dropped");
    assert!(flooded.get("k").await.unwrap().is_some());
    assert!(apart.get("k").await.unwrap().is_some());
    // What is stored since is kept.
    inner.set("k", page(10), StoreOptions::new()).await.unwrap();
    assert!(inner.get("k").await.unwrap().is_some());
}

// F2, F3: nobody waits for what has failed a moment ago
#[tokio::test]
async fn a_storage_that_has_failed_is_left_alone_but_for_one_call_now_and_then_and_for_invalidations() {
    let (storage, clock) = (Sick::new(How::Errs), ManualClock::new());
    let asked = Arc::clone(&storage.asked);
    let (server, _, handle) = start(CacheConfig::builder(storage).clock(clock.clone()));
    let asked_by = async |requests: usize| {
        let before = asked.load(SeqCst);
        for _ in 0..requests {
            assert_eq!(server.get("/a/1", &[]).await.status, 200);
        }
        handle.flush().await;
        asked.load(SeqCst) - before
    };
    // As many to read as to write.
    assert_eq!(asked_by(20).await, 5 + 5);
    assert!(handle.storage_trouble().left_alone >= 15 + 15);
    clock.advance(Duration::from_millis(499));
    assert_eq!(asked_by(20).await, 0);
    clock.advance(Duration::from_millis(1));
    assert_eq!(asked_by(20).await, 1 + 1);
    // Who drops something wants to know whether it is gone.
    let before = asked.load(SeqCst);
    handle.invalidate_tag("t").await.unwrap_err();
    assert_eq!(asked.load(SeqCst) - before, 1);
}

/// A storage in memory that errs while it is told to.
#[derive(Clone)]
struct Switched {
    memory: MemoryStorage,
    errs: Arc<AtomicBool>,
}

impl Switched {
    fn work(&self) -> Result<&MemoryStorage, StorageError> {
        if self.errs.load(SeqCst) { Err(StorageError::new("out of order")) } else { Ok(&self.memory) }
    }
}

impl Storage for Switched {
    async fn get(&self, key: &CacheKey) -> Result<Lookup, StorageError> {
        self.work()?.get(key).await
    }

    async fn put(&self, entry: Arc<Entry>) -> Result<(), StorageError> {
        self.work()?.put(entry).await
    }

    async fn remove(&self, key: &CacheKey) -> Result<bool, StorageError> {
        self.work()?.remove(key).await
    }

    async fn raise(&self, fences: &[Fence]) -> Result<(), StorageError> {
        self.work()?.raise(fences).await
    }

    async fn is_current(&self, stamp: Stamp, fences: &[FenceId]) -> Result<bool, StorageError> {
        self.work()?.is_current(stamp, fences).await
    }
}

#[tokio::test]
async fn a_storage_that_is_well_again_serves_again() {
    let errs = Arc::new(AtomicBool::new(false));
    let storage = Switched { memory: MemoryStorage::new(), errs: Arc::clone(&errs) };
    let clock = ManualClock::new();
    let (server, ..) = start(CacheConfig::builder(storage).clock(clock.clone()));
    server.get("/a/1", &[]).await;
    assert_eq!(server.get("/a/1", &[]).await.cache(), "HIT");
    errs.store(true, SeqCst);
    for _ in 0..10 {
        assert_eq!(server.get("/a/1", &[]).await.cache(), "MISS");
    }
    errs.store(false, SeqCst);
    assert_eq!(server.get("/a/1", &[]).await.cache(), "MISS", "it is left alone for a while");
    clock.advance(Duration::from_millis(500));
    for _ in 0..3 {
        assert_eq!(server.get("/a/1", &[]).await.cache(), "HIT");
    }
}

//! What the process really occupies, and when it is freed. Tests that look at the process itself are a process of their
//! own: what another has given back, but the allocator still holds, would hide what this one takes.
//!
//! With `FULL_SIZE=1` in the environment the crowds and bodies are as large as the promises: that takes minutes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code
#![cfg(target_os = "linux")]

mod support;

use std::collections::HashMap;
use std::future::Future;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_fast_cache::{
    CacheConfig, CacheHandle, Entry, EtagMode, FastCache, ManualClock, MemoryStorage, Storage, StorageError,
    StoreOptions, StoredResponse,
};
use actix_web::body::BodyStream;
use actix_web::dev::Service;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::test::{TestRequest, init_service};
use actix_web::web::{self, Bytes};
use actix_web::{App, Error, HttpRequest, HttpResponse};
use futures_util::stream;
use support::{Runs, Server, answered_by, request, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const MIB: u64 = 1 << 20;

/// The size of a test: as promised where that is asked for, else a smaller one of the same kind.
fn size(promised: u64, smaller: u64) -> u64 {
    if std::env::var_os("FULL_SIZE").is_some() { promised } else { smaller }
}

/// The resident set of this process, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Runs a test of this name in a process that does nothing else.
fn alone(test: &str, run: impl Future<Output = ()>) {
    const ALONE: &str = "THIS_TEST_IS_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return actix_web::rt::System::new().block_on(run);
    }
    let mut process = Command::new(std::env::current_exe().unwrap());
    process.args(["--exact", test, "--nocapture"]).env(ALONE, "1");
    let output = process.output().unwrap();
    let told =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    println!("{told}");
    assert!(output.status.success() && told.contains("1 passed"));
}

#[test]
fn a_streamed_answer_costs_at_most_twice_the_body_limit() {
    alone("a_streamed_answer_costs_at_most_twice_the_body_limit", streamed_answers());
}

#[test]
fn slow_readers_of_a_hit_share_its_body() {
    alone("slow_readers_of_a_hit_share_its_body", slow_readers());
}

#[test]
fn distinct_queries_stay_within_the_capacity() {
    alone("distinct_queries_stay_within_the_capacity", distinct_queries());
}

/// A client with a small window.
async fn ask(server: &Server, target: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let mut stream = socket.connect(server.addr).await.unwrap();
    stream.write_all(&request("GET", target, &[], b"")).await.unwrap();
    stream
}

// X3
async fn streamed_answers() {
    const BASE: u64 = 8 * MIB;
    let long = size(1024 * MIB, 64 * MIB);
    // Chunks of all sizes: the small ones cost most.
    for (chunk, limit, size) in [
        (1, MIB, 2 * MIB),
        (1 << 10, 8 * MIB, 64 * MIB),
        (64 << 10, 8 * MIB, 64 * MIB),
        (64 << 10, MIB, long),
    ] {
        let (peak, made) = (Arc::new(AtomicU64::new(0)), Runs::new());
        let config = CacheConfig::builder(MemoryStorage::new())
            .body_limit(usize::try_from(limit).unwrap())
            .build()
            .unwrap();
        let (seen, counted) = (Arc::clone(&peak), made.clone());
        let server = Server::start(1, move || {
            let (seen, made) = (Arc::clone(&seen), counted.clone());
            let handler = move || {
                let (seen, made) = (Arc::clone(&seen), made.clone());
                let chunks = (0..size / chunk).map(move |nth| {
                    if nth % (16_384 / chunk).max(1) == 0 {
                        seen.fetch_max(resident(), SeqCst);
                    }
                    made.add();
                    Ok::<_, Error>(Bytes::from(vec![b'x'; usize::try_from(chunk).unwrap()]))
                });
                async { HttpResponse::Ok().body(BodyStream::new(stream::iter(chunks))) }
            };
            App::new().service(
                web::scope("/a").wrap(FastCache::new(config.clone())).default_service(web::to(handler)),
            )
        });
        server.get("/none", &[]).await;
        let before = resident();
        let mut client = ask(&server, "/a/x").await;
        // It does not read: what is read ahead stays in memory.
        until("the handler is held back", {
            let mut last = (0, 0);
            move || {
                let now = made.count();
                last = if now > 0 && last.0 == now { (now, last.1 + 1) } else { (now, 0) };
                last.1 == 20
            }
        })
        .await;
        peak.fetch_max(resident(), SeqCst);
        let (mut read, mut buffer) = (0, vec![0; 64 << 10]);
        while read < size {
            let len = client.read(&mut buffer).await.unwrap();
            assert_ne!(len, 0, "the answer is whole");
            read += len as u64;
        }
        let grown = peak.load(SeqCst).saturating_sub(before);
        println!(
            "X3: {} MiB in chunks of {chunk}, limit {} MiB: +{} KiB",
            size / MIB,
            limit / MIB,
            grown >> 10
        );
        assert!(grown <= 2 * limit + BASE, "{} KiB with chunks of {chunk}", grown >> 10);
    }
}

// X5
async fn slow_readers() {
    let count = size(500, 100);
    const SIZE: u64 = 8 * MIB;
    let config = CacheConfig::builder(MemoryStorage::new())
        .body_limit(usize::try_from(SIZE).unwrap())
        .build()
        .unwrap();
    let server = Server::start(1, move || {
        let handler = || async { HttpResponse::Ok().body(vec![b'x'; usize::try_from(SIZE).unwrap()]) };
        App::new()
            .service(web::scope("/a").wrap(FastCache::new(config.clone())).default_service(web::to(handler)))
    });
    server.get("/a/x", &[]).await;
    let before = resident();
    let mut readers = Vec::new();
    for _ in 0..count {
        let mut reader = ask(&server, "/a/x").await;
        let mut first = [0; 12];
        reader.read_exact(&mut first).await.unwrap();
        readers.push(reader);
    }
    // All of them hang half-way, and others are served; they go on byte by byte, and others are still.
    for _ in 0..3 {
        assert_eq!(server.get("/a/x", &[("range", "bytes=0-9")]).await.body.len(), 10);
        for reader in &mut readers {
            reader.read_exact(&mut [0]).await.unwrap();
        }
    }
    let grown = resident().saturating_sub(before);
    println!("X5: {count} readers of {} MiB: +{} MiB", SIZE / MIB, grown / MIB);
    // Each connection holds the slice under way, never the body.
    assert!(grown <= count * 2 * MIB, "{} MiB", grown / MIB);
}

// X1
async fn distinct_queries() {
    const CAPACITY: u64 = 16 * MIB;
    let storage = MemoryStorage::with_capacity(CAPACITY);
    let config = CacheConfig::builder(storage.clone()).build().unwrap();
    let before = resident();
    let app =
        init_service(App::new().service(web::scope("/a").wrap(FastCache::new(config)).default_service(
            web::to(|req: HttpRequest| async move {
                // Grown, and cut down to what it needs.
                let mut body = req.query_string().repeat(2_000);
                body.truncate(1_000);
                body
            }),
        )))
        .await;
    let mut peak = 0;
    let many = size(1_000_000, 100_000);
    for n in 0..many {
        app.call(TestRequest::get().uri(&format!("/a/x?q={n:08}")).to_request()).await.unwrap();
        if n % 1_000 == 0 {
            peak = peak.max(resident());
            let held = storage.stats();
            assert!(held.bytes <= CAPACITY, "{held:?}");
        }
    }
    let held = storage.stats();
    assert!(held.bytes <= CAPACITY && held.entries > 1_000, "{held:?}");
    let grown = peak.saturating_sub(before);
    println!("X1: {many} queries, bound {} MiB: +{} MiB, {held:?}", CAPACITY / MIB, grown / MIB);
    assert!(grown <= CAPACITY * 5 / 2, "{} MiB for {held:?}", grown / MIB);
}

/// A body that tells when it is freed.
struct Tracked {
    bytes: Vec<u8>,
    live: Arc<AtomicU64>,
}

impl Tracked {
    fn body(len: usize, live: &Arc<AtomicU64>) -> Bytes {
        live.fetch_add(len as u64, SeqCst);
        Bytes::from_owner(Self { bytes: vec![b'x'; len], live: Arc::clone(live) })
    }
}

impl AsRef<[u8]> for Tracked {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.live.fetch_sub(self.bytes.len() as u64, SeqCst);
    }
}

/// A body that is kept as it is given.
const LARGE: usize = 128 << 10;

async fn set(handle: &CacheHandle, name: &str, body: impl Into<Bytes>, ttl: Duration) {
    let response = StoredResponse::new(StatusCode::OK, body);
    handle.set(name, response, StoreOptions::new().ttl(ttl)).await.unwrap();
}

#[actix_web::test]
async fn what_is_past_its_time_is_freed_while_nobody_asks() {
    let config = CacheConfig::builder(MemoryStorage::new()).build().unwrap();
    let (handle, live) = (config.handle(), Arc::new(AtomicU64::new(0)));
    set(&handle, "lasts", "it stays", Duration::from_secs(3600)).await;
    for number in 0..100 {
        let name = format!("ends:{number}");
        set(&handle, &name, Tracked::body(LARGE, &live), Duration::from_millis(500 + number)).await;
    }
    until("all is freed", || live.load(SeqCst) == 0).await;
    assert!(handle.get("lasts").await.unwrap().is_some());
    // What has been swept out once is kept anew like anything else.
    set(&handle, "ends:7", Tracked::body(LARGE, &live), Duration::from_secs(3600)).await;
    assert!(handle.get("ends:7").await.unwrap().is_some());
}

#[actix_web::test]
async fn one_that_took_the_place_of_another_stays_for_its_own_time() {
    let config = CacheConfig::builder(MemoryStorage::new()).build().unwrap();
    let (handle, live) = (config.handle(), Arc::new(AtomicU64::new(0)));
    set(&handle, "longer", Tracked::body(LARGE, &live), Duration::from_millis(300)).await;
    set(&handle, "longer", "it stays", Duration::from_secs(3600)).await;
    assert_eq!(live.load(SeqCst), 0, "what is replaced is freed at once");
    set(&handle, "shorter", Tracked::body(LARGE, &live), Duration::from_secs(3600)).await;
    set(&handle, "shorter", Tracked::body(LARGE, &live), Duration::from_millis(500)).await;
    until("the shorter one is freed", || live.load(SeqCst) == 0).await;
    assert!(handle.get("longer").await.unwrap().is_some());
}

#[actix_web::test]
async fn on_a_timeline_moved_by_hand_nothing_is_freed_before_its_time() {
    let storage = MemoryStorage::new();
    let clock = ManualClock::new();
    let by_hand = CacheConfig::builder(storage.clone()).clock(clock.clone()).build().unwrap().handle();
    let of_system = CacheConfig::builder(storage).build().unwrap().handle();
    let live = Arc::new(AtomicU64::new(0));
    set(&by_hand, "by hand", "it stays", Duration::from_millis(1)).await;
    // On the system's timeline a later one is gone: the earlier would be too, were it on the same.
    set(&of_system, "of the system", Tracked::body(LARGE, &live), Duration::from_millis(300)).await;
    until("the later one is freed", || live.load(SeqCst) == 0).await;
    assert!(by_hand.get("by hand").await.unwrap().is_some());
    clock.advance(Duration::from_millis(1));
    assert!(by_hand.get("by hand").await.unwrap().is_none());
}

#[actix_web::test]
async fn all_that_is_cleared_is_freed_while_nobody_asks() {
    let storage = MemoryStorage::new();
    let config = CacheConfig::builder(storage.clone()).clock(ManualClock::new()).build().unwrap();
    let (handle, live) = (config.handle(), Arc::new(AtomicU64::new(0)));
    for number in 0..100 {
        set(&handle, &number.to_string(), Tracked::body(LARGE, &live), Duration::from_secs(3600)).await;
    }
    handle.clear().await.unwrap();
    set(&handle, "later", "it stays", Duration::from_secs(3600)).await;
    until("all is freed", || live.load(SeqCst) == 0).await;
    assert!(handle.get("later").await.unwrap().is_some());
    assert_eq!(storage.stats().entries, 1);
}

#[actix_web::test]
async fn no_more_than_one_entry_is_held_past_the_bound() {
    let storage = MemoryStorage::with_capacity(16 * MIB);
    let config = CacheConfig::builder(storage.clone()).etag(EtagMode::Off).build().unwrap();
    let (handle, live) = (config.handle(), Arc::new(AtomicU64::new(0)));
    for number in 0..200 {
        let name = format!("value:{number}");
        // What is asked for more often than others gets their room.
        for _ in 0..number % 5 {
            assert!(handle.get(&name).await.unwrap().is_none());
        }
        let body = Tracked::body(usize::try_from(MIB).unwrap(), &live);
        assert!(live.load(SeqCst) <= 17 * MIB);
        set(&handle, &name, body, Duration::from_secs(3600)).await;
        assert!(live.load(SeqCst) <= 16 * MIB, "{} MiB after {number}", live.load(SeqCst) / MIB);
    }
    assert!(storage.stats().entries >= 14);
}

/// What is done to mini-moka when it is a quarter full costs no entry: neither small ones, which come one by one, nor
/// large ones, of which one goes past a half at once.
#[actix_web::test]
async fn until_it_is_full_everything_is_kept() {
    for (bound, len, many) in
        [(16 * MIB, 512, 12_000_u64), (16 * MIB, 3 << 20, 5), (64 * 1024 * MIB, 512, 100)]
    {
        let storage = MemoryStorage::with_capacity(bound);
        assert_eq!(storage.stats().entries, 0);
        let config = CacheConfig::builder(storage.clone()).etag(EtagMode::Off).build().unwrap();
        let handle = config.handle();
        let body = Bytes::from(vec![b'x'; len]);
        for nth in 1..=many {
            set(&handle, &format!("page:{nth}"), body.clone(), Duration::from_secs(3600)).await;
            assert_eq!(storage.stats().entries, nth, "of {len} bytes");
        }
        for nth in 1..=many {
            assert!(handle.get(&format!("page:{nth}")).await.unwrap().is_some(), "{nth} of {len} bytes");
        }
        let bytes = storage.stats().bytes;
        assert!(bytes > many * len as u64 && bytes <= bound, "{bytes} bytes");
    }
}

#[test]
fn the_sweeper_ends_with_its_storage() {
    alone("the_sweeper_ends_with_its_storage", async {
        let sweepers = || {
            let tasks = std::fs::read_dir("/proc/self/task").unwrap();
            let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
            names.filter(|name| name.trim() == "cache-sweeper").count()
        };
        let storage = MemoryStorage::new();
        let handle = CacheConfig::builder(storage.clone()).build().unwrap().handle();
        assert_eq!(sweepers(), 0, "there is nothing to sweep yet");
        for name in ["one", "two"] {
            set(&handle, name, "body", Duration::from_secs(3600)).await;
        }
        until("there is one", || sweepers() == 1).await;
        drop(handle);
        assert_eq!((sweepers(), storage.stats().entries), (1, 2));
        drop(storage);
        until("it has ended", || sweepers() == 0).await;
    });
}

/// A storage in memory that remembers what was put last under each key.
#[derive(Clone)]
struct Recorded {
    memory: MemoryStorage,
    put: Arc<Mutex<HashMap<Vec<u8>, Arc<Entry>>>>,
}

impl Storage for Recorded {
    async fn put(&self, entry: Arc<Entry>) -> Result<(), StorageError> {
        self.put.lock().unwrap().insert(entry.key().as_bytes().to_vec(), Arc::clone(&entry));
        self.memory.put(entry).await
    }

    answered_by!(memory: get, remove, raise, is_current);
}

impl Recorded {
    fn forget(&self, is_gone: impl Fn(&Entry) -> bool) {
        self.put.lock().unwrap().retain(|_, entry| !is_gone(entry));
    }
}

#[actix_web::test]
async fn what_is_told_of_entries_and_bytes_is_true_whatever_becomes_of_them() {
    let put = Arc::new(Mutex::new(HashMap::new()));
    let storage = Recorded { memory: MemoryStorage::with_capacity(1 << 30), put };
    let handle = CacheConfig::builder(storage.clone()).build().unwrap().handle();
    set(&handle, "0", "first", Duration::from_secs(3600)).await;
    let first = storage.put.lock().unwrap().values().next().unwrap().weight() as u64;
    let beside = storage.memory.stats().bytes - first;
    let mut dice = 20_260_101_u64;
    let mut roll = |sides: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % sides
    };
    for step in 0..1_000 {
        let name = roll(50).to_string();
        let len = usize::try_from(roll(200) * roll(200)).unwrap();
        let mut options = StoreOptions::new().ttl(Duration::from_secs(3600));
        let what = roll(100);
        match what {
            // Put, and put in place of another.
            0..60 => {
                if what < 10 {
                    options = options.tag("some");
                }
                let response = StoredResponse::new(StatusCode::OK, vec![b'x'; len])
                    .with_header(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
                handle.set(&name, response, options).await.unwrap();
            }
            60..75 => {
                let known: Vec<_> = storage.put.lock().unwrap().values().cloned().collect();
                let nth = usize::try_from(roll(known.len().max(1) as u64)).unwrap();
                if let Some(entry) = known.get(nth) {
                    assert!(storage.memory.remove(entry.key()).await.unwrap());
                    assert!(!storage.memory.remove(entry.key()).await.unwrap());
                    storage.forget(|known| known.key() == entry.key());
                }
            }
            // A fence lets go of what is asked for.
            75..95 => {
                match what {
                    75..90 => drop(handle.invalidate(&name).await.unwrap()),
                    _ => handle.invalidate_tag("some").await.unwrap(),
                }
                let known: Vec<_> = storage.put.lock().unwrap().values().cloned().collect();
                for entry in known {
                    if !storage.memory.is_current(entry.stamp(), entry.fences()).await.unwrap() {
                        storage.forget(|known| known.key() == entry.key());
                        assert!(storage.memory.get(entry.key()).await.unwrap().entry.is_none());
                    }
                }
            }
            // Its time is over before the next step.
            95..99 => {
                set(&handle, &name, vec![b'x'; len], Duration::from_millis(1)).await;
                storage.forget(|entry| entry.keep_until().since(entry.began()) < Duration::from_secs(1));
            }
            _ => {
                handle.clear().await.unwrap();
                storage.forget(|_| true);
            }
        }
        let (entries, bytes) = {
            let put = storage.put.lock().unwrap();
            (put.len() as u64, put.values().map(|entry| entry.weight() as u64 + beside).sum::<u64>())
        };
        until(&format!("step {step}, a {what}: {entries} entries of {bytes} bytes"), || {
            let held = storage.memory.stats();
            (held.entries, held.bytes) == (entries, bytes)
        })
        .await;
    }
}

/// A worker has copies of what it serves all the time.
#[tokio::test]
async fn what_is_served_all_the_time_changes_and_goes_as_soon_as_the_rest() {
    let handle = CacheConfig::builder(MemoryStorage::new()).build().unwrap().handle();
    let hour = Duration::from_secs(3600);
    let served = async || {
        let mut last = None;
        for _ in 0..500 {
            let found = handle.get("k").await.unwrap().map(|response| response.body().clone());
            assert!(last.is_none_or(|last| last == found));
            last = Some(found);
        }
        last.unwrap()
    };
    set(&handle, "k", "one", hour).await;
    assert_eq!(served().await.as_deref(), Some(&b"one"[..]));
    set(&handle, "k", "two", hour).await;
    assert_eq!(served().await.as_deref(), Some(&b"two"[..]));
    for invalidation in 0..3 {
        set(&handle, "k", "new", hour).await;
        assert_eq!(served().await.as_deref(), Some(&b"new"[..]));
        let elsewhere = handle.clone();
        // Another worker does it, whose copies these are not.
        let done = std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async {
                match invalidation {
                    0 => elsewhere.invalidate("k").await.map(drop),
                    1 => elsewhere.invalidate_namespace().await,
                    _ => elsewhere.clear().await,
                }
            })
        });
        done.join().unwrap().unwrap();
        assert_eq!(served().await, None);
    }
}

//! What must be soon, on the real clock: the promises of this file are about elapsed time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code
#![allow(clippy::disallowed_methods)] // it measures

mod support;

use std::time::{Duration, Instant};

use actix_fast_cache::{CacheConfig, CacheConfigBuilder, EtagMode, FastCache, MemoryStorage};
use actix_web::body::{BodyStream, SizedStream};
use actix_web::dev::ServiceRequest;
use actix_web::web::Bytes;
use actix_web::{App, Error, HttpRequest, HttpResponse, web};
use futures_util::stream;
use support::{Reply, Runs, Server, request, reset, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// The tests of this file measure: they run one after the other.
static ALONE: Mutex<()> = Mutex::const_new(());

const MIB: usize = 1 << 20;
const CHUNK: usize = 64 << 10;

/// From the request on the wire to the first byte of the body.
async fn first_byte(server: &Server, target: &str) -> (Duration, TcpStream, Vec<u8>) {
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let began = Instant::now();
    stream.write_all(&request("GET", target, &[], b"")).await.unwrap();
    let mut read = Vec::new();
    loop {
        let mut part = vec![0; CHUNK];
        let reading = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut part));
        let len = reading.await.expect("the answer begins").unwrap();
        assert_ne!(len, 0, "the answer broke off");
        read.extend_from_slice(&part[..len]);
        if read.windows(5).any(|five| five == b"\r\n\r\nx" || five == b"0\r\nxx") {
            return (began.elapsed(), stream, read);
        }
    }
}

/// Chunks of `x` that come one by one, as from a socket.
fn chunks(size: usize) -> impl futures_util::Stream<Item = Result<Bytes, Error>> {
    stream::unfold(size, |left| async move {
        if left == 0 {
            return None;
        }
        actix_web::rt::task::yield_now().await;
        let len = left.min(CHUNK);
        Some((Ok(Bytes::from(vec![b'x'; len])), left - len))
    })
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

// X3: `/a` has a cache around it, `/b` is its twin without one
#[tokio::test]
async fn the_first_byte_of_a_streamed_miss_comes_as_soon_as_without_the_cache() {
    const SIZE: usize = 64 * MIB;
    const ROUNDS: usize = 7;
    let _alone = ALONE.lock().await;
    for (what, limit) in [("stored", SIZE), ("passed on", MIB)] {
        let config = CacheConfig::builder(MemoryStorage::with_capacity(4 * SIZE as u64))
            .body_limit(limit)
            // A digest of all that takes its time in a debug build, after the last byte.
            .etag(EtagMode::Off)
            .build()
            .unwrap();
        let shared = config.clone();
        let server = Server::start(1, move || {
            let handler = |req: HttpRequest| async move {
                let mut answer = HttpResponse::Ok();
                match req.query_string().contains("sized") {
                    true => answer.body(SizedStream::new(SIZE as u64, Box::pin(chunks(SIZE)))),
                    false => answer.body(BodyStream::new(Box::pin(chunks(SIZE)))),
                }
            };
            App::new()
                .service(
                    web::scope("/a").wrap(FastCache::new(shared.clone())).default_service(web::to(handler)),
                )
                .service(web::scope("/b").default_service(web::to(handler)))
        });
        for kind in ["sized", "chunked"] {
            let (mut cached, mut bare) = (Vec::new(), Vec::new());
            for round in 0..ROUNDS {
                for (path, times) in [("a", &mut cached), ("b", &mut bare)] {
                    let target = format!("/{path}/{kind}{round}?{kind}");
                    let (time, stream, _) = first_byte(&server, &target).await;
                    times.push(time);
                    reset(stream);
                    until("no fill is left", || config.handle().fills_under_way() == 0).await;
                }
            }
            let (cached, bare) = (median(cached), median(bare));
            println!("{what}, {kind}: first byte after {cached:?}, without the cache after {bare:?}");
            // What was collected first would come after some 1,000 chunks.
            assert!(
                cached <= bare + Duration::from_millis(10),
                "{what}, {kind}: {cached:?}, without the cache {bare:?}"
            );
        }
    }
}

// X4
#[tokio::test]
async fn an_endless_stream_begins_within_100_milliseconds() {
    let _alone = ALONE.lock().await;
    let storage = MemoryStorage::new();
    let config = CacheConfig::builder(storage.clone()).build().unwrap();
    let shared = config.clone();
    let server = Server::start(1, move || {
        let handler = || async { HttpResponse::Ok().body(BodyStream::new(Box::pin(chunks(usize::MAX)))) };
        App::new()
            .service(web::scope("/a").wrap(FastCache::new(shared.clone())).default_service(web::to(handler)))
    });
    let mut times = Vec::new();
    for _ in 0..9 {
        let (time, stream, _) = first_byte(&server, "/a/x").await;
        times.push(time);
        reset(stream);
        until("no fill is left", || config.handle().fills_under_way() == 0).await;
    }
    let time = median(times);
    println!("an endless stream begins after {time:?}");
    assert!(time <= Duration::from_millis(100), "{time:?}");
    assert_eq!(storage.stats().entries, 0);
}

/// How long a handler takes in the tests below.
const H: Duration = Duration::from_millis(500);
/// Two runs and half a second, beside what the same crowd takes without the cache, beyond the one run it cannot save.
fn bound(bare: Duration) -> Duration {
    2 * H + Duration::from_millis(500) + bare.saturating_sub(H)
}

/// A server whose handler takes `H`, and the number of requests that have come to it.
fn slow(builder: CacheConfigBuilder, field: (&'static str, &'static str)) -> (Server, Runs, Runs) {
    let (runs, arrived) = (Runs::new(), Runs::new());
    let (counted, came) = (runs.clone(), arrived.clone());
    let config = builder
        .guard(move |_: &mut ServiceRequest| {
            came.add();
            async { Ok::<_, Error>(()) }
        })
        .build()
        .unwrap();
    let server = Server::start(4, move || {
        let runs = counted.clone();
        let handler = move || {
            runs.add();
            async move {
                tokio::time::sleep(H).await;
                HttpResponse::Ok().insert_header(field).body("page")
            }
        };
        App::new()
            .service(
                web::scope("/a")
                    .wrap(FastCache::new(config.clone()))
                    .default_service(web::to(handler.clone())),
            )
            .service(web::scope("/b").default_service(web::to(handler)))
    });
    (server, runs, arrived)
}

/// So many requests at once, and how long the last of them takes.
async fn crowd(server: &Server, target: &'static str, many: usize) -> Duration {
    // Connected beforehand: a connection that finds the queue of the listener full is tried again after a second.
    let mut streams = Vec::new();
    for _ in 0..many {
        streams.push(TcpStream::connect(server.addr).await.unwrap());
    }
    let began = Instant::now();
    let mut asked = JoinSet::new();
    for mut stream in streams {
        asked.spawn(async move {
            stream.write_all(&request("GET", target, &[], b"")).await.unwrap();
            Reply::read(&mut stream, false).await.expect("an answer").status
        });
    }
    let answers = tokio::time::timeout(Duration::from_secs(30), asked.join_all()).await;
    assert!(answers.expect("nobody is left waiting").iter().all(|status| *status == 200));
    began.elapsed()
}

// S2
#[tokio::test]
async fn who_waits_for_a_leader_whose_client_resets_is_answered_within_two_runs() {
    let _alone = ALONE.lock().await;
    let (server, runs, arrived) = slow(CacheConfig::builder(MemoryStorage::new()), ("x-any", "1"));
    let bare = crowd(&server, "/b/x", 100).await;
    let before = runs.count();
    let mut leader = TcpStream::connect(server.addr).await.unwrap();
    leader.write_all(&request("GET", "/a/x", &[], b"")).await.unwrap();
    until("the leader runs", || runs.count() == before + 1).await;
    let (time, ()) = tokio::join!(crowd(&server, "/a/x", 100), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        reset(leader);
    });
    let runs = runs.count() - before;
    println!("100 waiters of a leader that was reset: {time:?} and {runs} runs, without the cache {bare:?}");
    assert_eq!(arrived.count(), 101);
    assert!(runs <= 2, "{runs} runs");
    assert!(time <= bound(bare), "{time:?}, without the cache {bare:?}");
}

// S5
#[tokio::test]
async fn who_waits_for_what_cannot_be_stored_is_answered_within_two_runs() {
    let _alone = ALONE.lock().await;
    let refusal = ("cache-control", "no-store");
    let (server, runs, _) = slow(CacheConfig::builder(MemoryStorage::new()), refusal);
    let bare = crowd(&server, "/b/x", 500).await;
    let time = crowd(&server, "/a/x", 500).await;
    println!("500 requests for what cannot be stored: {time:?}, without the cache {bare:?}");
    assert_eq!(runs.count(), 1_000);
    assert!(time <= bound(bare), "{time:?}, without the cache {bare:?}");
}

//! What the process really occupies. Each test is a process of its own: what another has given back, but the allocator
//! still holds, would hide what this one takes.
//!
//! With `FULL_SIZE=1` in the environment the crowds and bodies are as large as the promises: that takes minutes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code
#![cfg(target_os = "linux")]

mod support;

use std::future::Future;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use actix_fast_cache::{CacheConfig, FastCache, MemoryStorage};
use actix_web::body::BodyStream;
use actix_web::dev::Service;
use actix_web::test::{TestRequest, init_service};
use actix_web::web::{self, Bytes};
use actix_web::{App, Error, HttpRequest, HttpResponse};
use futures_util::stream;
use support::{Runs, Server, request, until};
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

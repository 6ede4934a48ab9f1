//! A Redis that is slow, cut off, lying or out of order: requests are answered, and answered right.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use actix_fast_cache::{
    CacheConfig, CacheControl, CacheHandle, FastCache, RedisStorage, StoreOptions, StoredResponse,
};
use actix_web::http::StatusCode;
use actix_web::{App, web};
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::iter;
use support::Server;
use support::faults::{Fault, FaultProxy};
use support::redis::RedisServer;

/// Pages whose bodies say which they are, each with a tag, over a Redis behind a port.
fn serve(port: u16) -> (Server, CacheHandle) {
    let storage = RedisStorage::open(&format!("redis://127.0.0.1:{port}"), "afc").unwrap();
    let config = CacheConfig::builder(storage).build().unwrap();
    let cache = config.handle();
    let server = Server::start(2, move || {
        let page = async |id: web::Path<u32>, cache: CacheControl| {
            cache.tag("pages");
            format!("page {id} {}", "x".repeat(5_000))
        };
        App::new().service(web::resource("/{id}").wrap(FastCache::new(config.clone())).to(page))
    });
    (server, cache)
}

/// So many requests, some at a time: none is an error, and none gets another's page. How many were hits.
async fn all_right(server: &Server, requests: u32) -> usize {
    let hits = AtomicUsize::new(0);
    iter(0..requests)
        .for_each_concurrent(16, async |n| {
            let id = n % 20;
            let reply = server.get(&format!("/{id}"), &[]).await;
            assert_eq!(reply.status, 200);
            assert!(reply.text().starts_with(&format!("page {id} ")) && reply.body.len() > 5_000, "{id}");
            hits.fetch_add(usize::from(reply.cache() == "HIT"), SeqCst);
        })
        .await;
    hits.into_inner()
}

async fn hits_again(server: &Server) -> bool {
    for _ in 0..40 {
        if all_right(server, 20).await == 20 {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

// F3 to F7
#[tokio::test]
async fn whatever_comes_back_every_request_gets_its_own_page_and_hits_come_back() {
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::before(redis.port).await;
    let (server, _) = serve(proxy.port);
    for fault in [
        Fault::Latency(Duration::from_millis(300)),
        Fault::Trickle(Duration::from_millis(10)),
        Fault::Hang,
        Fault::Close,
        Fault::Garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        Fault::Garbage(b"$-5\r\n"),
        Fault::Garbage(b"*999999999\r\n"),
        Fault::Garbage(b"$4294967296\r\n"),
        Fault::Garbage(b"+OK\r\n"),
        Fault::Garbage(&[0; 100]),
    ] {
        proxy.set(fault.clone());
        all_right(&server, 200).await;
        proxy.set(Fault::None);
        assert!(hits_again(&server).await, "after {fault:?}");
    }
}

// F7
#[tokio::test]
async fn answers_that_are_cut_anywhere_are_misses_and_never_short() {
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::before(redis.port).await;
    let (server, _) = serve(proxy.port);
    for cut in (0..40).chain((40..12_000).step_by(997)) {
        proxy.set(Fault::CutAfter(cut));
        all_right(&server, 20).await;
    }
    proxy.set(Fault::None);
    assert!(hits_again(&server).await);
}

// F8
#[tokio::test]
async fn a_server_that_refuses_costs_misses() {
    let mut redis = RedisServer::start().await;
    let (server, cache) = serve(redis.port);
    all_right(&server, 40).await;
    for (refuse, allow) in [
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
        ("CONFIG SET requirepass secret", "AUTH secret\r\nCONFIG SET requirepass \"\""),
        ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
    ] {
        assert!(redis.send(refuse).await.starts_with("+OK"), "{refuse}");
        all_right(&server, 100).await;
        let dropped = cache.invalidate_tag("pages").await;
        assert!(dropped.is_err() || refuse.contains("requirepass"), "{refuse}: an invalidation that is none");
        redis.send(allow).await;
        assert!(hits_again(&server).await, "after {refuse}");
    }
    // NOSCRIPT: a server that has lost its scripts is given them again.
    redis.send("SCRIPT FLUSH").await;
    cache.invalidate_tag("pages").await.unwrap();
    assert!(hits_again(&server).await);
    redis.kill();
    all_right(&server, 100).await;
}

// F8
#[tokio::test]
async fn a_server_that_takes_nothing_in_is_still_read() {
    let redis = RedisServer::start().await;
    let (_server, cache) = serve(redis.port);
    let set = |key| cache.set(key, StoredResponse::new(StatusCode::OK, "page"), StoreOptions::new());
    set("kept").await.unwrap();
    redis.send("CONFIG SET maxmemory 1").await;
    let refused = join_all((0..10).map(|_| set("refused"))).await;
    assert!(refused.iter().all(Result::is_err));
    assert!(cache.get("kept").await.unwrap().is_some());
    // Writes are left alone, and tried again now and then.
    assert!(set("refused").await.is_err() && cache.storage_trouble().left_alone > 0);
    redis.send("CONFIG SET maxmemory 0").await;
    for _ in 0..400 {
        if set("taken").await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("nothing is taken in within two seconds");
}

// F15
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_given_up_on_the_way_give_nobody_another_ones_answer() {
    let reads = if std::env::var_os("FULL_SIZE").is_some() { 100_000 } else { 5_000 };
    let redis = RedisServer::start().await;
    let storage = RedisStorage::open(&redis.url(), "afc").unwrap();
    let config = CacheConfig::builder(storage).storage_deadline(Duration::from_secs(5)).build().unwrap();
    let cache = Arc::new(config.handle());
    for n in 0..50 {
        let page = StoredResponse::new(StatusCode::OK, format!("page {n} {}", "x".repeat(n * 100)));
        cache.set(&n.to_string(), page, StoreOptions::new()).await.unwrap();
    }
    let read = async |n: usize| {
        let (id, cache) = (n * 7 % 50, Arc::clone(&cache));
        let reading = tokio::spawn(async move { cache.get(&id.to_string()).await });
        if n.is_multiple_of(10) {
            for _ in 0..n / 10 % 4 {
                tokio::task::yield_now().await;
            }
            return reading.abort();
        }
        let found = reading.await.unwrap().unwrap().expect("it is there");
        assert!(found.body().starts_with(format!("page {id} ").as_bytes()));
    };
    iter(0..reads).for_each_concurrent(64, read).await;
}

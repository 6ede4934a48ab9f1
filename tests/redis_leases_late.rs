//! Leases at their seams: storages that refuse, waits that follow each other, origins that fail.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code
#![allow(clippy::disallowed_methods)] // what a client waits is measured on the real clock

mod support;

use std::time::{Duration, Instant};

use actix_fast_cache::{CacheConfig, FastCache, RedisStorage};
use actix_web::{App, HttpResponse, web};
use support::redis::{RedisServer, wait_until};
use support::{Runs, Server, request};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

// A storage that is full is left alone by writes, as the builder says.
#[tokio::test]
async fn a_full_redis_is_not_written_to_for_good() {
    let redis = RedisServer::start().await;
    let storage = RedisStorage::open(&redis.url(), "afc").unwrap();
    let config = CacheConfig::builder(storage).storage_deadline(Duration::from_secs(1)).build().unwrap();
    let cache = config.handle();
    let server = Server::start(1, move || {
        App::new().service(
            web::resource("/{kind}")
                .wrap(FastCache::new(config.clone()))
                .to(async || HttpResponse::Ok().body("x")),
        )
    });
    server.get("/first", &[]).await;
    redis.send("CONFIG SET maxmemory 1").await;
    for n in 0..30 {
        assert_eq!(server.get(&format!("/{n}"), &[]).await.status, 200);
        cache.flush().await;
    }
    let trouble = cache.storage_trouble();
    assert!(trouble.left_alone > 0, "{trouble:?}");
}

// One patience for all waits.
#[tokio::test]
async fn a_request_waits_once_whoever_it_waits_for() {
    let redis = RedisServer::start().await;
    let storage = RedisStorage::open(&redis.url(), "afc").unwrap();
    let config = CacheConfig::builder(storage)
        .storage_deadline(Duration::from_secs(1))
        .wait(Duration::from_millis(2_000))
        .build()
        .unwrap();
    let runs = Runs::new();
    let counted = runs.clone();
    let server = Server::start(2, move || {
        let runs = counted.clone();
        let page = move || {
            let run = runs.add();
            async move {
                if run == 1 {
                    tokio::time::sleep(Duration::from_millis(1_800)).await;
                    panic!("as told");
                }
                HttpResponse::Ok().body(format!("run {run}"))
            }
        };
        App::new().service(web::resource("/{kind}").wrap(FastCache::new(config.clone())).to(page))
    });
    let mut leader = TcpStream::connect(server.addr).await.unwrap();
    leader.write_all(&request("GET", "/page", &[], b"")).await.unwrap();
    wait_until(async || runs.count() == 1).await;
    // Another process has the key from now on.
    let lease = redis.keys("afc:*:lease:*").await.pop().unwrap();
    redis.send(&format!("SET {lease} somebody PX 60000")).await;
    let began = Instant::now();
    server.get("/page", &[]).await;
    let waited = began.elapsed();
    assert!(waited < Duration::from_millis(2_600), "{waited:?}");
}

// S4: a failing origin is tried by all processes at once, not by one after the other.
#[tokio::test]
async fn processes_whose_handler_fails_do_not_try_one_after_the_other() {
    let redis = RedisServer::start().await;
    let clock = actix_fast_cache::ManualClock::new();
    let runs = Runs::new();
    let fleet: Vec<_> = (0..6)
        .map(|_| {
            let storage = RedisStorage::open(&redis.url(), "afc").unwrap();
            let config = CacheConfig::builder(storage)
                .storage_deadline(Duration::from_secs(1))
                .clock(clock.clone())
                .host(actix_fast_cache::HostPolicy::Ignore)
                .build()
                .unwrap();
            let (cache, runs) = (config.handle(), runs.clone());
            let server = Server::start(1, move || {
                let runs = runs.clone();
                let page = move || {
                    let run = runs.add();
                    async move {
                        if run == 1 {
                            let value = ("cache-control", "max-age=1, stale-if-error=1000");
                            return HttpResponse::Ok().insert_header(value).body("good");
                        }
                        tokio::time::sleep(Duration::from_millis(500)).await;
                        HttpResponse::InternalServerError().body("bad")
                    }
                };
                App::new().service(web::resource("/{kind}").wrap(FastCache::new(config.clone())).to(page))
            });
            (server, cache)
        })
        .collect();
    fleet[0].0.get("/page", &[]).await;
    fleet[0].1.flush().await;
    clock.advance(Duration::from_secs(2));
    let began = Instant::now();
    let ask = fleet.iter().map(async |(server, _)| {
        let reply = server.get("/page", &[]).await;
        (reply.status, reply.text(), began.elapsed().as_millis())
    });
    let replies = futures_util::future::join_all(ask).await;
    println!("{replies:?} runs {}", runs.count());
    assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", began.elapsed());
}

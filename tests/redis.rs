//! The storage in Redis, on a real server.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

mod support;

use std::time::Duration;

use actix_fast_cache::storage::conformance::{self, Clause};
use actix_fast_cache::{
    CacheConfig, CacheControl, CacheHandle, FastCache, RedisStorage, StoreOptions, StoredResponse,
};
use actix_web::http::StatusCode;
use actix_web::{App, web};
use futures_util::future::join_all;
use support::redis::RedisServer;
use support::{Runs, Server};

fn storage(redis: &RedisServer) -> RedisStorage {
    RedisStorage::open(&redis.url(), "afc").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract() {
    let redis = RedisServer::start().await;
    for clause in Clause::EVERY {
        let kept = conformance::check_clause(*clause, async || storage(&redis)).await;
        assert!(kept.is_ok(), "{clause:?}: {kept:?}");
    }
}

/// A process of an application: what it shows, and how often it ran for it.
struct Process {
    server: Server,
    runs: Runs,
    cache: CacheHandle,
}

fn process(redis: &RedisServer) -> Process {
    process_with(redis, Duration::from_secs(5))
}

fn process_with(redis: &RedisServer, deadline: Duration) -> Process {
    let builder = CacheConfig::builder(storage(redis)).namespace("shop");
    let config = builder.storage_deadline(deadline).build().unwrap();
    let (runs, cache) = (Runs::new(), config.handle());
    let counted = runs.clone();
    let server = Server::start(2, move || {
        let runs = counted.clone();
        let show = move |cache: CacheControl| {
            let run = runs.add();
            cache.tag("shown");
            async move { format!("run {run}") }
        };
        let write = async |cache: CacheControl| {
            cache.invalidate_tag("shown").await.unwrap();
            "written"
        };
        App::new().service(
            web::scope("/a")
                .wrap(FastCache::new(config.clone()))
                .route("/x", web::get().to(show))
                .route("/y", web::post().to(write)),
        )
    });
    Process { server, runs, cache }
}

#[tokio::test]
async fn two_processes_share_one_cache() {
    let redis = RedisServer::start().await;
    let (one, other) = (process(&redis), process(&redis));
    assert_eq!(one.server.get("/a/x", &[]).await.cache(), "MISS");
    one.cache.flush().await;
    for process in [&one, &other] {
        let reply = process.server.get("/a/x", &[]).await;
        assert_eq!((reply.cache().as_str(), reply.text().as_str()), ("HIT", "run 1"));
    }
    assert_eq!(other.server.send("POST", "/a/y", &[], b"").await.text(), "written");
    assert_eq!(one.server.get("/a/x", &[]).await.text(), "run 2");
    assert_eq!((one.runs.count(), other.runs.count()), (2, 0));
}

#[tokio::test]
async fn every_key_can_be_read_by_an_operator_and_has_an_expiry() {
    let redis = RedisServer::start().await;
    let process = process(&redis);
    process.server.get("/a/x", &[]).await;
    process.cache.invalidate_tag("other").await.unwrap();
    process.cache.flush().await;
    let mut keys = redis.keys("*").await;
    keys.sort();
    assert_eq!(keys.len(), 3, "{keys:?}");
    assert!(keys[0].starts_with("afc:shop:v1:"), "{keys:?}");
    assert_eq!(keys[1..], ["afc:{fences}", "afc:{fences}:within"]);
    for key in keys {
        let ttl: i64 =
            redis.send(&format!("TTL {key}")).await.trim_start_matches(':').trim().parse().unwrap();
        assert!((1..=8 * 24 * 3600).contains(&ttl), "{key}: {ttl}");
    }
}

#[tokio::test]
async fn what_is_written_to_keeps_its_fences() {
    let redis = RedisServer::start().await;
    let cache = CacheConfig::builder(storage(&redis)).build().unwrap().handle();
    let set = || cache.set("k", StoredResponse::new(StatusCode::OK, "page"), StoreOptions::new());
    set().await.unwrap();
    redis.send("EXPIRE afc:{fences} 5").await;
    set().await.unwrap();
    let ttl: i64 = redis.send("TTL afc:{fences}").await.trim_start_matches(':').trim().parse().unwrap();
    assert!(ttl > 7 * 24 * 3600, "{ttl}");
}

/// With `FULL_SIZE=1` in the environment 100,000 keys carry it.
#[tokio::test]
async fn to_drop_a_tag_costs_the_same_whatever_carries_it() {
    let redis = RedisServer::start().await;
    let config = CacheConfig::builder(storage(&redis)).storage_deadline(Duration::from_secs(60));
    let cache = config.build().unwrap().handle();
    let page = || StoredResponse::new(StatusCode::OK, "page");
    let many = if std::env::var_os("FULL_SIZE").is_some() { 100_000 } else { 1_000 };
    // The first one loads a script.
    cache.invalidate_tag("nothing").await.unwrap();
    let mut costs = Vec::new();
    for keys in [1, many] {
        let names: Vec<_> = (0..keys).map(|n| format!("{keys} {n}")).collect();
        for some in names.chunks(500) {
            let sets = some.iter().map(|name| cache.set(name, page(), StoreOptions::new().tag("t")));
            assert!(join_all(sets).await.iter().all(Result::is_ok));
        }
        assert!(cache.get(&names[0]).await.unwrap().is_some());
        let before = redis.calls(|_| true).await;
        cache.invalidate_tag("t").await.unwrap();
        costs.push(redis.calls(|_| true).await - before);
        for name in [&names[0], &names[keys / 2], &names[keys - 1]] {
            assert!(cache.get(name).await.unwrap().is_none());
        }
    }
    println!("commands to drop a tag of 1 and of {many} keys: {costs:?}");
    assert_eq!(costs[0], costs[1]);
}

#[tokio::test]
async fn a_hit_costs_one_round_trip_and_one_with_tags_two_at_the_most() {
    let redis = RedisServer::start().await;
    let process = || CacheConfig::builder(storage(&redis)).build().unwrap().handle();
    for (tags, first) in [(&[][..], 1), (&["a", "b"], 2)] {
        let options = tags.iter().fold(StoreOptions::new(), |options, tag| options.tag(*tag));
        process().set("k", StoredResponse::new(StatusCode::OK, "page"), options).await.unwrap();
        let process = process();
        // One that knows of nothing yet, and then knows what it has read. Each round trip has one word to be echoed.
        for most in [first, 1] {
            let before = redis.calls(|command| command == "echo").await;
            assert!(process.get("k").await.unwrap().is_some());
            assert_eq!(redis.calls(|command| command == "echo").await - before, most, "{tags:?}");
        }
    }
}

// F10, F11
#[tokio::test]
async fn a_damaged_entry_is_a_miss_and_gone() {
    let redis = RedisServer::start().await;
    let cache = CacheConfig::builder(storage(&redis)).build().unwrap().handle();
    let page = || StoredResponse::new(StatusCode::OK, "page");
    for damage in ["SETRANGE KEY 60 x", "APPEND KEY x", "SETRANGE KEY 3 x", "SET KEY short", "SET KEY \"\""] {
        cache.set("k", page(), StoreOptions::new()).await.unwrap();
        assert_eq!(cache.get("k").await.unwrap().unwrap().body(), "page");
        let key = redis.keys("afc:*:v1:*").await.remove(0);
        redis.send(&damage.replace("KEY", &key)).await;
        assert!(cache.get("k").await.unwrap().is_none(), "{damage}");
        assert_eq!(redis.keys("afc:*:v1:*").await.len(), 0, "{damage}");
    }
}

// F9
#[tokio::test]
async fn a_key_of_another_type_is_a_miss_and_makes_way() {
    let redis = RedisServer::start().await;
    let cache = CacheConfig::builder(storage(&redis)).build().unwrap().handle();
    let page = || StoredResponse::new(StatusCode::OK, "page");
    cache.set("k", page(), StoreOptions::new()).await.unwrap();
    let key = redis.keys("afc:*:v1:*").await.remove(0);
    redis.send(&format!("DEL {key}")).await;
    redis.send(&format!("LPUSH {key} x")).await;
    assert!(cache.get("k").await.unwrap().is_none());
    cache.set("k", page(), StoreOptions::new()).await.unwrap();
    assert_eq!(cache.get("k").await.unwrap().unwrap().body(), "page");
    // Written over without a lookup before.
    redis.send(&format!("DEL {key}")).await;
    redis.send("DEL afc:{fences}").await;
    redis.send("LPUSH afc:{fences} x").await;
    assert!(cache.get("k").await.is_err(), "without fences there is no cache, and the caller is told");
}

// What evicts or flushes the fences drops all that they guarded
#[tokio::test]
async fn lost_fences_take_everything_along() {
    let redis = RedisServer::start().await;
    let cache = CacheConfig::builder(storage(&redis)).build().unwrap().handle();
    for lost in ["afc:{fences}", "afc:{fences}:within"] {
        cache.set("k", StoredResponse::new(StatusCode::OK, "page"), StoreOptions::new()).await.unwrap();
        redis.send(&format!("DEL {lost}")).await;
        let found = cache.get("k").await.unwrap();
        assert_eq!(found.is_none(), lost == "afc:{fences}");
    }
}

async fn hits_within_two_seconds(process: &Process) {
    for _ in 0..400 {
        if process.server.get("/a/x", &[]).await.cache() == "HIT" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no hit within two seconds of its coming");
}

// F1
#[tokio::test]
async fn an_app_whose_server_is_not_there_answers_everything_and_finds_it_when_it_comes() {
    let mut redis = RedisServer::absent();
    #[allow(clippy::disallowed_methods)] // what an operator waits is measured on the real clock
    let started = std::time::Instant::now();
    let process = process(&redis);
    for run in 1..4 {
        let reply = process.server.get("/a/x", &[]).await;
        assert_eq!((reply.status, reply.text()), (200, format!("run {run}")));
    }
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert!(process.cache.storage_trouble().failed > 0);
    redis.start_again().await;
    hits_within_two_seconds(&process).await;
}

// F2
#[tokio::test]
async fn a_server_that_is_killed_and_comes_back_costs_misses_only() {
    let mut redis = RedisServer::start().await;
    let process = process(&redis);
    process.server.get("/a/x", &[]).await;
    redis.kill();
    for _ in 0..3 {
        assert_eq!(process.server.get("/a/x", &[]).await.status, 200);
    }
    redis.start_again().await;
    hits_within_two_seconds(&process).await;
}

/// The time that each of so many requests takes, one after the other; all are answered.
async fn times(process: &Process, requests: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    for _ in 0..requests {
        #[allow(clippy::disallowed_methods)] // what a client feels is measured on the real clock
        let started = std::time::Instant::now();
        assert_eq!(process.server.get("/a/x", &[]).await.status, 200);
        times.push(started.elapsed());
    }
    times.sort_unstable();
    times
}

// F3, F4
#[tokio::test]
async fn a_server_that_is_frozen_costs_some_deadlines_and_then_nothing() {
    let redis = RedisServer::start().await;
    let process = process_with(&redis, Duration::from_millis(50));
    process.server.get("/a/x", &[]).await;
    redis.signal("STOP");
    // The first ones wait for it, each for a lookup and for a look before it stores; then it is left alone.
    let first = times(&process, 10).await;
    assert!(first[9] < Duration::from_millis(500), "{first:?}");
    let then = times(&process, 100).await;
    assert!(then[90] < Duration::from_millis(20), "{:?}", &then[85..]);
    let trouble = process.cache.storage_trouble();
    assert!(trouble.late > 0 && trouble.left_alone >= 90, "{trouble:?}");
    redis.signal("CONT");
    hits_within_two_seconds(&process).await;
}

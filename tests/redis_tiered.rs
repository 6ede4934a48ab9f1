//! Memory in front of Redis: what it saves, and that it is honest.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

mod support;

use std::time::Duration;

use actix_fast_cache::storage::conformance::{self, Clause};
use actix_fast_cache::{
    CacheConfig, CacheHandle, MemoryStorage, RedisServers, RedisStorage, StoreOptions, StoredResponse,
    TieredStorage,
};
use actix_web::http::StatusCode;
use support::faults::{Fault, FaultProxy};
use support::redis::{RedisCluster, RedisServer, wait_until};

/// A process: its storage, and a cache on it.
struct Process {
    storage: TieredStorage,
    cache: CacheHandle,
}

async fn process(servers: RedisServers) -> Process {
    let redis = RedisStorage::new(servers, "afc").unwrap();
    let storage = TieredStorage::new(MemoryStorage::new(), redis);
    let builder = CacheConfig::builder(storage.clone()).storage_deadline(Duration::from_millis(500));
    let process = Process { storage, cache: builder.build().unwrap().handle() };
    assert!(!process.storage.is_memory_in_use(), "nothing is connected before the first call");
    process.cache.get("nothing").await.unwrap();
    process.is_ready().await;
    process
}

fn at(port: u16) -> RedisServers {
    RedisServers::single(&format!("redis://127.0.0.1:{port}")).unwrap()
}

impl Process {
    async fn is_ready(&self) {
        wait_until(async || self.storage.is_memory_in_use()).await;
    }

    async fn set(&self, name: &str, body: &str) {
        let page = StoredResponse::new(StatusCode::OK, body.to_owned());
        self.cache.set(name, page, StoreOptions::new().tag("pages")).await.unwrap();
    }

    async fn get(&self, name: &str) -> Option<String> {
        let found = self.cache.get(name).await.ok()??;
        Some(String::from_utf8(found.body().to_vec()).unwrap())
    }
}

/// How many lookups Redis has seen.
async fn lookups(redis: &RedisServer) -> usize {
    redis.calls(|command| command == "get").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract() {
    let redis = RedisServer::start().await;
    let one = process(at(redis.port)).await;
    for clause in Clause::EVERY {
        let kept = conformance::check_clause(*clause, async || one.storage.clone()).await;
        assert!(kept.is_ok(), "{clause:?}: {kept:?}");
    }
}

#[tokio::test]
async fn what_a_process_has_seen_costs_no_round_trip() {
    let redis = RedisServer::start().await;
    let (one, other) = (process(at(redis.port)).await, process(at(redis.port)).await);
    // On a machine that is busy elsewhere news may come late, and memory stands aside until they do.
    for key in ["a", "b", "c"] {
        one.set(key, "page").await;
        other.is_ready().await;
        let before = lookups(&redis).await;
        for _ in 0..100 {
            assert_eq!(one.get(key).await.unwrap(), "page");
            assert_eq!(other.get(key).await.unwrap(), "page");
        }
        // The other one has seen it in Redis, once.
        if lookups(&redis).await - before == 1 {
            assert!(other.storage.memory_stats().entries > 0);
            return;
        }
    }
    panic!("Redis is asked again for what was seen");
}

#[tokio::test]
async fn what_one_process_invalidates_or_replaces_the_others_lose() {
    let redis = RedisServer::start().await;
    let (one, other) = (process(at(redis.port)).await, process(at(redis.port)).await);
    for round in 0..50 {
        one.set("a", "page").await;
        wait_until(async || other.get("a").await.is_some()).await;
        match round % 4 {
            0 => assert!(one.cache.invalidate("a").await.is_ok()),
            1 => one.cache.invalidate_tag("pages").await.unwrap(),
            2 => one.cache.clear().await.unwrap(),
            _ => one.set("a", "another page").await,
        }
        if round % 4 < 3 {
            assert!(one.get("a").await.is_none(), "for itself at once");
            wait_until(async || other.get("a").await.is_none()).await;
        } else {
            wait_until(async || other.get("a").await.unwrap() == "another page").await;
        }
    }
}

#[tokio::test]
async fn what_the_server_has_lost_is_lost() {
    let redis = RedisServer::start().await;
    let one = process(at(redis.port)).await;
    for lose in ["FLUSHALL", "DEL afc:{fences}"] {
        one.is_ready().await;
        one.set("a", "page").await;
        assert!(one.get("a").await.is_some());
        redis.send(lose).await;
        wait_until(async || one.get("a").await.is_none()).await;
    }
    one.set("a", "page").await;
    one.is_ready().await;
    assert!(one.get("a").await.is_some());
}

#[tokio::test]
async fn what_was_told_while_nobody_listened_is_not_served_afterwards() {
    let redis = RedisServer::start().await;
    let (one, other) = (process(at(redis.port)).await, process(at(redis.port)).await);
    for _ in 0..20 {
        one.set("a", "page").await;
        other.is_ready().await;
        assert!(other.get("a").await.is_some());
        // The messages of the next call go to nobody.
        redis.send("CLIENT KILL TYPE pubsub").await;
        one.cache.invalidate_tag("pages").await.unwrap();
        wait_until(async || !other.storage.is_memory_in_use()).await;
        assert!(other.get("a").await.is_none(), "memory stands aside");
        other.is_ready().await;
        assert!(other.get("a").await.is_none(), "and has forgotten");
        one.is_ready().await;
    }
}

// The bound
#[tokio::test]
async fn nothing_is_served_that_was_invalidated_more_than_a_second_ago() {
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::before(redis.port).await;
    let (one, other) = (process(at(redis.port)).await, process(at(proxy.port)).await);
    for fault in [Fault::Hang, Fault::Latency(Duration::from_secs(3)), Fault::Garbage(b"+OK\r\n")] {
        proxy.set(Fault::None);
        one.set("a", "page").await;
        wait_until(async || other.storage.is_memory_in_use() && other.get("a").await.is_some()).await;
        proxy.set(fault.clone());
        one.cache.invalidate_tag("pages").await.unwrap();
        #[allow(clippy::disallowed_methods)] // the bound is one of real time
        let invalidated = std::time::Instant::now();
        let mut last = Duration::ZERO;
        while invalidated.elapsed() < Duration::from_millis(1_500) {
            let asked = invalidated.elapsed();
            if other.get("a").await.is_some() {
                last = asked;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert!(last < Duration::from_secs(1), "{fault:?}: {last:?}");
        assert!(!other.storage.is_memory_in_use(), "{fault:?}");
    }
    proxy.set(Fault::None);
    other.is_ready().await;
    assert!(other.get("a").await.is_none());
}

#[tokio::test]
async fn a_server_that_goes_and_comes_back_is_listened_to_again() {
    let mut redis = RedisServer::start().await;
    let one = process(at(redis.port)).await;
    one.set("a", "page").await;
    redis.kill();
    wait_until(async || !one.storage.is_memory_in_use()).await;
    assert!(one.get("a").await.is_none());
    redis.start_again().await;
    wait_until(async || one.get("nothing").await.is_none() && one.storage.is_memory_in_use()).await;
    assert!(one.get("a").await.is_none());
    one.set("a", "page").await;
    assert!(one.get("a").await.is_some());
}

#[tokio::test]
async fn on_a_cluster_it_listens_where_the_fences_are() {
    let nodes = RedisCluster::start().await;
    let urls = nodes.urls();
    // From whichever node it starts.
    for first in &urls {
        let servers = || RedisServers::cluster([first.as_str()]).unwrap();
        let (one, other) = (process(servers()).await, process(servers()).await);
        for _ in 0..5 {
            for name in ["a", "b", "c", "d"] {
                one.set(name, name).await;
                wait_until(async || other.get(name).await.is_some()).await;
            }
            one.cache.invalidate_tag("pages").await.unwrap();
            for name in ["a", "b", "c", "d"] {
                wait_until(async || other.get(name).await.is_none()).await;
            }
        }
    }
}

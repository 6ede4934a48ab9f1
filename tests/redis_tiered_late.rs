//! Memory in front of Redis at its seams: messages that are early, late, lost or of another version.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code
#![allow(clippy::disallowed_methods)] // a thread that is busy when a message comes is what is tested

mod support;

use std::time::Duration;

use actix_fast_cache::{
    CacheConfig, CacheHandle, MemoryStorage, RedisServers, RedisStorage, StoreOptions, StoredResponse,
    TieredStorage,
};
use actix_web::http::StatusCode;
use support::redis::{RedisServer, wait_until};

struct Process {
    storage: TieredStorage,
    cache: CacheHandle,
}

async fn process(port: u16) -> Process {
    let servers = RedisServers::single(&format!("redis://127.0.0.1:{port}")).unwrap();
    let redis = RedisStorage::new(servers, "afc").unwrap();
    let storage = TieredStorage::new(MemoryStorage::new(), redis);
    let builder = CacheConfig::builder(storage.clone()).storage_deadline(Duration::from_millis(500));
    let process = Process { storage, cache: builder.build().unwrap().handle() };
    process.cache.get("nothing").await.unwrap();
    process.is_ready().await;
    process
}

impl Process {
    async fn is_ready(&self) {
        wait_until(async || self.storage.is_memory_in_use()).await;
    }

    async fn set(&self, name: &str, body: &str, tag: &str) {
        let page = StoredResponse::new(StatusCode::OK, body.to_owned());
        self.cache.set(name, page, StoreOptions::new().tag(tag)).await.unwrap();
    }

    async fn get(&self, name: &str) -> Option<String> {
        let found = self.cache.get(name).await.ok()??;
        Some(String::from_utf8(found.body().to_vec()).unwrap())
    }
}

// What was replaced while nobody listened, on a server on which nothing is invalidated meanwhile.
#[tokio::test]
async fn what_was_replaced_while_nobody_listened_is_not_served_afterwards() {
    let redis = RedisServer::start().await;
    let (one, other) = (process(redis.port).await, process(redis.port).await);
    one.set("a", "old", "pages").await;
    assert_eq!(other.get("a").await.unwrap(), "old");
    redis.send("CLIENT KILL TYPE pubsub").await;
    wait_until(async || !one.storage.is_memory_in_use() && !other.storage.is_memory_in_use()).await;
    one.set("a", "new", "pages").await;
    assert_eq!(other.get("a").await.unwrap(), "new", "from Redis");
    one.is_ready().await;
    other.is_ready().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(one.get("a").await.unwrap(), "new", "the process that replaced it");
    assert_eq!(other.get("a").await.unwrap(), "new", "the other one");
}

// What is stored just after another process invalidated something is not lost.
#[tokio::test]
async fn what_is_stored_after_an_invalidation_elsewhere_is_stored() {
    let redis = RedisServer::start().await;
    let (one, other) = (process(redis.port).await, process(redis.port).await);
    let mut lost = 0;
    for round in 0..30 {
        one.set("a", &format!("old {round}"), "pages").await;
        assert!(one.get("a").await.is_some());
        other.cache.invalidate_tag("news").await.unwrap();
        // The message has long come.
        tokio::time::sleep(Duration::from_millis(40)).await;
        one.set("a", &format!("new {round}"), "news").await;
        let (here, there) = (one.get("a").await, other.get("a").await);
        if here.as_deref() != Some(&format!("new {round}"))
            || there.as_deref() != Some(&format!("new {round}"))
        {
            lost += 1;
        }
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    // One whose message takes longer is stored by nobody, and made anew.
    assert!(lost <= 3, "{lost} of 30");
}

// A message of another version may have dropped anything.
#[tokio::test]
async fn a_message_that_is_not_understood_drops_everything() {
    let redis = RedisServer::start().await;
    let (one, other) = (process(redis.port).await, process(redis.port).await);
    let mut kept = 0;
    for round in 0..30 {
        let name = format!("a{round}");
        one.set(&name, "page", "pages").await;
        one.cache.invalidate_tag("news").await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
        // Found in Redis later than the clock was last proven.
        assert!(other.get(&name).await.is_some());
        redis.send("PUBLISH afc:{fences}:news v2-anything").await;
        tokio::time::sleep(Duration::from_millis(10)).await;
        // Seen in Redis no more: were it asked for, it would not be there.
        for key in redis.keys("afc:*:v1:*").await {
            redis.send(&format!("DEL {key}")).await;
        }
        if other.get(&name).await.is_some() {
            kept += 1;
        }
        tokio::time::sleep(Duration::from_millis(13)).await;
    }
    assert!(kept <= 3, "{kept} of 30: no message takes so long");
}

// A worker that is busy for a moment takes its answer from Redis after the listener took in that it was replaced.
#[tokio::test]
async fn an_entry_that_was_replaced_on_its_way_here_is_not_kept() {
    let redis = RedisServer::start().await;
    let port = redis.port;
    let other = process(port).await;
    let (tell, told) = std::sync::mpsc::channel::<&str>();
    let (did, done) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let one = runtime.block_on(process(port));
        for page in told {
            runtime.block_on(one.set("a", page, "pages"));
            std::thread::sleep(Duration::from_millis(20));
            did.send(()).unwrap();
        }
    });
    tell.send("old").unwrap();
    done.recv().unwrap();
    let mut get = std::pin::pin!(other.get("a"));
    assert!(futures_util::future::poll_immediate(&mut get).await.is_none());
    // The call is sent; its answer waits for this thread.
    tokio::task::yield_now().await;
    std::thread::sleep(Duration::from_millis(10));
    tell.send("new").unwrap();
    done.recv().unwrap();
    assert_eq!(get.await.as_deref(), Some("old"), "asked before");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let last = other.get("a").await;
    drop(tell);
    thread.join().unwrap();
    assert_eq!(last.as_deref(), Some("new"));
}

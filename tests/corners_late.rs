//! Corners that a second look found: names and followers, fences that grow or are folded, ends of bodies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

#[cfg(feature = "redis")]
mod support;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use actix_fast_cache::storage::*;
use actix_fast_cache::*;
use actix_service::Service;
use actix_web::body::to_bytes;
use actix_web::test::{TestRequest, call_service, init_service};
use actix_web::web::{self, Bytes};
use actix_web::{App, HttpRequest, HttpResponse};
use futures_util::FutureExt;

struct Recorder(MemoryStorage, Arc<AtomicUsize>);
impl Storage for Recorder {
    async fn get(&self, key: &CacheKey) -> Result<Lookup, StorageError> {
        self.0.get(key).await
    }
    async fn put(&self, entry: Arc<Entry>) -> Result<(), StorageError> {
        self.1.store(entry.fences().len(), SeqCst);
        self.0.put(entry).await
    }
    async fn remove(&self, key: &CacheKey) -> Result<bool, StorageError> {
        self.0.remove(key).await
    }
    async fn raise(&self, fences: &[Fence]) -> Result<(), StorageError> {
        self.0.raise(fences).await
    }
    async fn is_current(&self, s: Stamp, f: &[FenceId]) -> Result<bool, StorageError> {
        self.0.is_current(s, f).await
    }
}

#[actix_web::test]
async fn fences_do_not_grow_with_validations() {
    let last = Arc::new(AtomicUsize::new(0));
    let clock = ManualClock::new();
    let config = CacheConfig::builder(Recorder(MemoryStorage::new(), last.clone()))
        .clock(clock.clone())
        .build()
        .unwrap();
    let handler = |req: HttpRequest, cache: CacheControl| async move {
        cache.tag("page");
        let known = req.headers().contains_key("if-none-match");
        let mut answer = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
        answer.insert_header(("cache-control", "max-age=60")).insert_header(("etag", "\"a\""));
        if known { answer.finish() } else { answer.body("page") }
    };
    let app = init_service(App::new().wrap(FastCache::new(config)).default_service(web::to(handler))).await;
    let mut seen = Vec::new();
    for _ in 0..6 {
        call_service(&app, TestRequest::with_uri("/x").insert_header(("host", "a")).to_request()).await;
        seen.push(last.load(SeqCst));
        clock.advance(Duration::from_secs(61));
    }
    assert!(seen.iter().all(|n| *n == seen[0]), "{seen:?}");
}

#[actix_web::test]
async fn fences_of_changing_tags_do_not_grow_without_end() {
    let last = Arc::new(AtomicUsize::new(0));
    let clock = ManualClock::new();
    let config = CacheConfig::builder(Recorder(MemoryStorage::new(), last.clone()))
        .clock(clock.clone())
        .build()
        .unwrap();
    let run = Rc::new(Cell::new(0));
    let handler = move |req: HttpRequest, cache: CacheControl| {
        run.set(run.get() + 1);
        let n = run.get();
        async move {
            cache.tag(format!("rev:{n}"));
            let known = req.headers().contains_key("if-none-match");
            let mut answer = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
            answer.insert_header(("cache-control", "max-age=60")).insert_header(("etag", "\"a\""));
            if known { answer.finish() } else { answer.body("page") }
        }
    };
    let app = init_service(App::new().wrap(FastCache::new(config)).default_service(web::to(handler))).await;
    let mut most = 0;
    for _ in 0..2_100 {
        call_service(&app, TestRequest::with_uri("/x").insert_header(("host", "a")).to_request()).await;
        most = most.max(last.load(SeqCst));
        clock.advance(Duration::from_secs(61));
    }
    assert!((500..1_100).contains(&most), "{most}");
}

#[actix_web::test]
async fn a_rest_is_not_polled_past_its_end() {
    let config = CacheConfig::builder(MemoryStorage::new()).rfc9111().build().unwrap();
    let run = Rc::new(Cell::new(0));
    let handler = move |_: HttpRequest| {
        run.set(run.get() + 1);
        let run = run.get();
        async move {
            let mut answer = HttpResponse::PartialContent();
            answer.insert_header(("cache-control", "max-age=60")).insert_header(("etag", "\"a\""));
            if run == 1 {
                return answer.insert_header(("content-range", "bytes 4-9/10")).body("456789");
            }
            let stream = futures_util::stream::unfold(false, |done| async move {
                (!done).then(|| (Ok::<_, std::io::Error>(Bytes::from_static(b"0123")), true))
            });
            answer.insert_header(("content-range", "bytes 0-3/10")).streaming(Box::pin(stream))
        }
    };
    let app = init_service(App::new().wrap(FastCache::new(config)).default_service(web::to(handler))).await;
    let get = || TestRequest::with_uri("/x").insert_header(("host", "a"));
    call_service(&app, get().insert_header(("range", "bytes=4-")).to_request()).await;
    let reply = call_service(&app, get().to_request()).await;
    let body = to_bytes(reply.into_body()).await.map_err(|_| ()).unwrap();
    assert_eq!(body, "0123456789");
}

#[actix_web::test]
async fn a_follower_under_a_name_gets_nothing_older_than_a_write_to_its_url() {
    let clock = ManualClock::new();
    let config = CacheConfig::builder(MemoryStorage::new()).clock(clock.clone()).build().unwrap();
    let handle = config.handle();
    let text = Rc::new(RefCell::new("old".to_owned()));
    let (slow, gate) = (Rc::new(Cell::new(false)), Rc::new(tokio::sync::Notify::new()));
    let (t, s, g) = (text.clone(), slow.clone(), gate.clone());
    let handler = move |_: HttpRequest, cache: CacheControl| {
        let (text, slow, gate) = (t.borrow().clone(), s.replace(false), g.clone());
        async move {
            cache.set_key("page");
            if slow {
                gate.notified().await;
            }
            HttpResponse::Ok().insert_header(("cache-control", "max-age=1")).body(text)
        }
    };
    let app = Rc::new(
        init_service(App::new().wrap(FastCache::new(config)).default_service(web::to(handler))).await,
    );
    let get = |path: &'static str| {
        let app = app.clone();
        async move {
            let reply = app
                .call(TestRequest::with_uri(path).insert_header(("host", "a")).to_request())
                .await
                .unwrap();
            String::from_utf8(to_bytes(reply.into_body()).await.map_err(|_| ()).unwrap().to_vec()).unwrap()
        }
    };
    get("/one").await;
    clock.advance(Duration::from_secs(2));
    slow.set(true);
    // It leads the flight of the name, and has read what is old.
    let mut leader = Box::pin(get("/one"));
    assert!((&mut leader).now_or_never().is_none());
    *text.borrow_mut() = "new".to_owned();
    handle.invalidate_url("http://a/two").await.unwrap();
    // Past its invalidation /two sees what is new, and leads to the name again.
    assert_eq!(get("/two").await, "new");
    clock.advance(Duration::from_secs(2));
    let mut follower = Box::pin(get("/two"));
    assert!((&mut follower).now_or_never().is_none());
    gate.notify_one();
    assert_eq!(leader.await, "old");
    assert_eq!(follower.await, "new");
}

#[cfg(feature = "redis")]
#[test]
fn outside_of_a_runtime_redis_fails_by_returning() {
    let config =
        CacheConfig::builder(RedisStorage::open("redis://127.0.0.1:1", "afc").unwrap()).build().unwrap();
    let handle = config.handle();
    let mut call = Box::pin(handle.invalidate_tag("x"));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let answer = std::future::Future::poll(call.as_mut(), &mut cx);
    assert!(matches!(answer, std::task::Poll::Ready(Err(_))), "{answer:?}");
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_that_is_folded_during_a_lookup_still_holds() {
    use support::{faults::*, redis::RedisServer};
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::before(redis.port).await;
    let at = |port: u16| {
        let storage = RedisStorage::open(&format!("redis://127.0.0.1:{port}"), "afc").unwrap();
        CacheConfig::builder(storage)
            .namespace("shop")
            .storage_deadline(Duration::from_secs(9))
            .build()
            .unwrap()
            .handle()
    };
    let (near, far) = (at(redis.port), at(proxy.port));
    let page = StoredResponse::new(actix_web::http::StatusCode::OK, "old");
    near.set("k", page, StoreOptions::new().ttl(Duration::from_secs(600)).tag("old")).await.unwrap();
    assert!(far.get("k").await.unwrap().is_some());
    near.invalidate_tag("old").await.unwrap();
    assert!(far.get("k").await.unwrap().is_none());
    let mut n = 0;
    while n < 65_533 {
        let most = (65_533 - n).min(2000);
        near.invalidate_tags((n..n + most).map(|i| i.to_string())).await.unwrap();
        n += most;
    }
    assert!(far.get("k").await.unwrap().is_none());
    proxy.set(Fault::Latency(Duration::from_millis(300)));
    let looking = tokio::spawn(async move { far.get("k").await });
    // Real time, for a real server: the first round trip is on its way back, the second one has not begun.
    tokio::time::sleep(Duration::from_millis(120)).await;
    near.invalidate_tag("one more").await.unwrap();
    assert!(looking.await.unwrap().unwrap().is_none(), "served long after its invalidation");
}

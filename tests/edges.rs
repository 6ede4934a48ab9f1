//! What a careful reader asks of the corners: refreshes, validation, ranges, and clients that leave.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

mod support;

use std::sync::Arc;
use std::time::Duration;

use actix_fast_cache::storage::{Fence, FenceId, Stamp};
use actix_fast_cache::{
    CacheConfig, CacheConfigBuilder, CacheControl, FastCache, Invalidation, ManualClock, MemoryStorage,
    Storage, StorageError,
};
use actix_web::http::Method;
use actix_web::{App, HttpRequest, HttpResponse, web};
use support::{Runs, Server, answered_by, request, reset, until};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

fn memory() -> CacheConfigBuilder {
    CacheConfig::builder(MemoryStorage::new())
}

/// One worker, and a handler that is told how many runs there were.
fn serve(
    config: CacheConfig,
    handler: impl Fn(HttpRequest, usize) -> HttpResponse + Send + Clone + 'static,
) -> (Server, Runs) {
    let runs = Runs::new();
    let counted = runs.clone();
    let server = Server::start(1, move || {
        let (handler, runs) = (handler.clone(), counted.clone());
        let service = web::to(move |req: HttpRequest| {
            let answer = handler(req, runs.add());
            async { answer }
        });
        App::new().service(web::scope("/a").wrap(FastCache::new(config.clone())).default_service(service))
    });
    (server, runs)
}

#[tokio::test]
async fn a_head_request_in_the_stale_window_leaves_the_refresh_to_a_get() {
    let clock = ManualClock::new();
    let config = memory()
        .clock(clock.clone())
        .ttl(Duration::from_secs(10))
        .stale_while_revalidate(Duration::from_secs(60))
        .build()
        .unwrap();
    let (server, runs) = serve(config.clone(), |_, run| HttpResponse::Ok().body(format!("run {run}")));
    server.get("/a/x", &[]).await;
    clock.advance(Duration::from_secs(11));
    let head = server.send("HEAD", "/a/x", &[], b"").await;
    assert_eq!((head.status, head.cache().as_str()), (200, "HIT"));
    let get = server.get("/a/x", &[]).await;
    assert_eq!((get.cache().as_str(), get.text().as_str()), ("HIT", "run 1"));
    until("the refresh", || runs.count() == 2 && config.handle().fills_under_way() == 0).await;
    assert_eq!(server.get("/a/x", &[]).await.text(), "run 2");
}

#[tokio::test]
async fn ranges_of_what_is_not_stored_reach_the_handler_without_coalescing_too() {
    let config = memory().no_coalescing().body_limit(10).build().unwrap();
    let (server, _) = serve(config, |req, _| match req.headers().contains_key("range") {
        true => HttpResponse::PartialContent().insert_header(("content-range", "bytes 0-1/20")).body("01"),
        false => HttpResponse::Ok().body("01234567890123456789"),
    });
    let range = [("range", "bytes=0-1")];
    server.get("/a/x", &range).await;
    let reply = server.get("/a/x", &range).await;
    assert_eq!((reply.status, reply.text().as_str()), (206, "01"));
}

// RFC 9111 section 4.3.4: what it says of the other one is nobody's, and the stored one is asked about again
#[tokio::test]
async fn a_304_with_the_tag_of_another_body_freshens_nothing() {
    let clock = ManualClock::new();
    let config = memory().clock(clock.clone()).build().unwrap();
    let (server, runs) = serve(config, |_, run| match run {
        1 => HttpResponse::Ok().insert_header(("etag", "\"one\"")).body("plain"),
        _ => HttpResponse::NotModified()
            .insert_header(("etag", "\"two\""))
            .insert_header(("x-news", "1"))
            .finish(),
    });
    server.get("/a/x", &[]).await;
    clock.advance(Duration::from_secs(60));
    for run in 2..4 {
        let reply = server.get("/a/x", &[]).await;
        assert_eq!((reply.status, reply.cache().as_str(), reply.text().as_str()), (200, "-", "plain"));
        assert_eq!(
            (reply.field("etag").as_deref(), reply.field("x-news"), runs.count()),
            (Some("\"one\""), None, run)
        );
    }
}

#[tokio::test]
async fn a_304_does_not_describe_another_body_than_the_stored_one() {
    let clock = ManualClock::new();
    let config = memory().clock(clock.clone()).build().unwrap();
    let (server, _) = serve(config, |_, run| match run {
        1 => HttpResponse::Ok()
            .insert_header(("etag", "\"one\""))
            .insert_header(("content-type", "text/plain"))
            .insert_header(("content-language", "en"))
            .body("plain"),
        _ => HttpResponse::NotModified()
            .insert_header(("content-type", "image/png"))
            .insert_header(("content-encoding", "gzip"))
            .insert_header(("content-range", "bytes 0-1/2"))
            .insert_header(("x-news", "1"))
            .finish(),
    });
    server.get("/a/x", &[]).await;
    clock.advance(Duration::from_secs(60));
    for cache in ["MISS", "HIT"] {
        let reply = server.get("/a/x", &[]).await;
        assert_eq!((reply.status, reply.cache().as_str(), reply.text().as_str()), (200, cache, "plain"));
        for (name, value) in [
            ("etag", Some("\"one\"")),
            ("content-type", Some("text/plain")),
            ("content-language", Some("en")),
            ("content-encoding", None),
            ("content-range", None),
            ("x-news", Some("1")),
        ] {
            assert_eq!(reply.field(name).as_deref(), value, "{name} on {cache}");
        }
    }
}

#[tokio::test]
async fn a_body_too_long_for_a_key_does_not_flush_what_its_method_reads() {
    let config = memory().methods([Method::POST]).request_body_limit(10).build().unwrap();
    let (server, _) = serve(config, |_, run| HttpResponse::Ok().body(format!("run {run}")));
    server.send("POST", "/a/x", &[], b"question").await;
    assert_eq!(server.send("POST", "/a/x", &[], b"much too long").await.cache(), "-");
    let again = server.send("POST", "/a/x", &[], b"question").await;
    assert_eq!((again.cache().as_str(), again.text().as_str()), ("HIT", "run 1"));
}

/// A memory storage whose invalidations, and whose checks of what was invalidated, wait at a gate.
#[derive(Clone)]
struct Gated {
    memory: MemoryStorage,
    asked: Runs,
    gate: Arc<Semaphore>,
}

impl Storage for Gated {
    async fn raise(&self, fences: &[Fence]) -> Result<(), StorageError> {
        self.asked.add();
        self.gate.acquire().await.unwrap().forget();
        self.memory.raise(fences).await
    }

    async fn is_current(&self, stamp: Stamp, fences: &[FenceId]) -> Result<bool, StorageError> {
        self.asked.add();
        self.gate.acquire().await.unwrap().forget();
        self.memory.is_current(stamp, fences).await
    }

    answered_by!(memory: get, put, remove);
}

/// What a write leaves to do when its handler has succeeded.
#[derive(Clone, Copy, PartialEq)]
enum Left {
    Url,
    Queued,
    /// Its answer is to be stored for GET, if nothing has overtaken it.
    Posted,
}

/// A write that has succeeded drops what it made wrong, whether its client waits for that or not.
async fn a_client_leaves_while(left: Left) {
    let gate = Arc::new(Semaphore::new(0));
    let storage = Gated { memory: MemoryStorage::new(), asked: Runs::new(), gate: Arc::clone(&gate) };
    let asked = storage.asked.clone();
    let builder = CacheConfig::builder(storage).storage_deadline(Duration::from_secs(600));
    let builder = if left == Left::Posted { builder.rfc9111() } else { builder };
    let config = builder.build().unwrap();
    let runs = Runs::new();
    let counted = runs.clone();
    let server = Server::start(1, move || {
        let runs = counted.clone();
        let show = move |cache: CacheControl| {
            let run = runs.add();
            cache.tag("shown");
            cache.ttl(Duration::from_secs(60));
            async move { format!("run {run}") }
        };
        let write = move |cache: CacheControl| async move {
            if left == Left::Queued {
                cache.invalidate_on_success(Invalidation::tag("shown"));
            }
            let mut answer = HttpResponse::Ok();
            if left == Left::Posted {
                answer
                    .insert_header(("content-location", "/a/x"))
                    .insert_header(("cache-control", "max-age=60"));
            }
            answer.finish()
        };
        App::new().service(
            web::scope("/a")
                .wrap(FastCache::new(config.clone()))
                .route("/x", web::get().to(show))
                .route("/x", web::post().to(write))
                .route("/y", web::post().to(write)),
        )
    });
    server.get("/a/x", &[]).await;
    assert_eq!(server.get("/a/x", &[]).await.cache(), "HIT");
    let mut client = TcpStream::connect(server.addr).await.unwrap();
    let target = if left == Left::Queued { "/a/y" } else { "/a/x" };
    client.write_all(&request("POST", target, &[], b"")).await.unwrap();
    until("the invalidation", || asked.count() == 1).await;
    reset(client);
    // Two round trips on the same worker: it has met the reset by then.
    server.get("/a/x", &[]).await;
    server.get("/a/x", &[]).await;
    gate.add_permits(100);
    for _ in 0..200 {
        if server.get("/a/x", &[]).await.text() == "run 2" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("old data is served although the write has succeeded");
}

#[tokio::test]
async fn a_client_that_leaves_does_not_take_the_invalidation_of_its_write_along() {
    a_client_leaves_while(Left::Url).await;
}

#[tokio::test]
async fn a_client_that_leaves_does_not_take_queued_invalidations_along() {
    a_client_leaves_while(Left::Queued).await;
}

#[tokio::test]
async fn a_client_that_leaves_does_not_take_the_invalidation_along_of_a_write_whose_answer_could_be_stored() {
    a_client_leaves_while(Left::Posted).await;
}

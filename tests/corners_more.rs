//! Corners where two features meet: made-up tags, stand-ins, raises that fail, many ranges.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

#[allow(dead_code, unreachable_pub)] // a part of it is used
#[path = "rfc9111/origin.rs"]
mod origin;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use actix_fast_cache::storage::*;
use actix_fast_cache::*;
use actix_service::Service;
use actix_web::body::to_bytes;
use actix_web::test::{TestRequest, call_service, init_service};
use actix_web::{App, HttpMessage, HttpRequest, HttpResponse, web};
use origin::{answer, defaults, rfc, site, site_under};
use tokio::sync::Semaphore;

// ETag of a part
#[actix_web::test]
async fn a_part_gets_no_etag_made_of_its_own_bytes() {
    let part = answer(206, &[("cache-control", "max-age=60"), ("content-range", "bytes 0-4/10")], "01234");
    let site = site_under(defaults().store_partial(), &[part]).await;
    for _ in 0..2 {
        assert_eq!(site.get("/x", &[("range", "bytes=0-4")]).await.field("etag"), "-");
    }
}

#[actix_web::test]
async fn a_part_without_a_validator_is_not_completed_by_one_that_was_made_up() {
    let part = |first: usize, last: usize| {
        let range = format!("bytes {first}-{last}/10");
        answer(
            206,
            &[("cache-control", "max-age=60"), ("content-range", &range)],
            &"0123456789"[first..=last],
        )
    };
    let site = site_under(defaults().store_partial().etag(EtagMode::Strong), &[part(0, 4), part(5, 9)]).await;
    site.get("/x", &[("range", "bytes=0-4")]).await;
    site.get("/x", &[]).await;
    assert_eq!((site.last().field("range").as_str(), site.last().field("if-range").as_str()), ("-", "-"));
}

// Selecting fields that a layer inside changes.
#[actix_web::test]
async fn a_layer_inside_that_takes_a_selecting_field_does_not_mix_variants_up() {
    let config = defaults().build().unwrap();
    let app = init_service(
        App::new()
            .wrap_fn(|mut req, service| {
                let tenant =
                    req.headers_mut().remove("x-tenant").next().map(|v| v.to_str().unwrap().to_owned());
                req.extensions_mut().insert(tenant.unwrap_or_else(|| "nobody".to_owned()));
                service.call(req)
            })
            .wrap(FastCache::new(config))
            .default_service(web::to(|req: HttpRequest| async move {
                let tenant = req.extensions().get::<String>().unwrap().clone();
                HttpResponse::Ok().insert_header(("vary", "x-tenant")).body(tenant)
            })),
    )
    .await;
    let get = |tenant: Option<&str>| {
        let mut request = TestRequest::with_uri("/x").insert_header(("host", "a"));
        if let Some(tenant) = tenant {
            request = request.insert_header(("x-tenant", tenant));
        }
        request.to_request()
    };
    let mut seen = Vec::new();
    for tenant in [Some("ann"), None] {
        let reply = call_service(&app, get(tenant)).await;
        seen.push(to_bytes(reply.into_body()).await.map_err(|_| ()).unwrap());
    }
    assert_eq!(seen, ["ann", "nobody"]);
}

// foreground_refresh and early_refresh
#[derive(Clone)]
struct Id;

#[actix_web::test]
async fn in_the_foreground_no_stand_in_is_seen_early_either() {
    let clock = ManualClock::new();
    let config = defaults().foreground_refresh().early_refresh(100.0).clock(clock.clone()).build().unwrap();
    let hands = clock.clone();
    let app = init_service(
        App::new()
            .wrap(FastCache::new(config))
            .wrap_fn(|req, service| {
                req.extensions_mut().insert(Id);
                let call = service.call(req);
                async move {
                    let answer = call.await?;
                    assert!(answer.request().extensions().get::<Id>().is_some(), "a stand-in");
                    Ok(answer)
                }
            })
            .default_service(web::to(move || {
                hands.advance(Duration::from_secs(3));
                async { "x" }
            })),
    )
    .await;
    for _ in 0..40 {
        clock.advance(Duration::from_secs(1));
        call_service(&app, TestRequest::with_uri("/x").insert_header(("host", "a")).to_request()).await;
    }
}

// A raise that fails
#[derive(Clone)]
struct Shaky {
    inner: MemoryStorage,
    fails: Arc<AtomicBool>,
    begun: Arc<Semaphore>,
    gate: Arc<Semaphore>,
}

impl Storage for Shaky {
    async fn get(&self, key: &CacheKey) -> Result<Lookup, StorageError> {
        self.inner.get(key).await
    }
    async fn put(&self, entry: Arc<Entry>) -> Result<(), StorageError> {
        self.inner.put(entry).await
    }
    async fn remove(&self, key: &CacheKey) -> Result<bool, StorageError> {
        self.inner.remove(key).await
    }
    async fn raise(&self, fences: &[Fence]) -> Result<(), StorageError> {
        if self.fails.swap(false, SeqCst) {
            self.begun.add_permits(1);
            self.gate.acquire().await.unwrap().forget();
            return Err(StorageError::new("lost"));
        }
        self.inner.raise(fences).await
    }
    async fn is_current(&self, stamp: Stamp, fences: &[FenceId]) -> Result<bool, StorageError> {
        self.inner.is_current(stamp, fences).await
    }
}

#[actix_web::test]
async fn a_posted_answer_whose_own_raise_failed_is_not_stored_in_the_place_of_anothers() {
    let shaky = Shaky {
        inner: MemoryStorage::new(),
        fails: Arc::default(),
        begun: Arc::new(Semaphore::new(0)),
        gate: Arc::new(Semaphore::new(0)),
    };
    let config = CacheConfig::builder(shaky.clone())
        .rfc9111()
        .storage_deadline(Duration::from_secs(9))
        .build()
        .unwrap();
    let handle = config.handle();
    let handler = |req: HttpRequest, cache: CacheControl| async move {
        cache.tag("page");
        let text = if *req.method() == "POST" { "old" } else { "new" };
        HttpResponse::Ok()
            .insert_header(("cache-control", "max-age=60"))
            .insert_header(("content-location", "/x"))
            .body(text)
    };
    let app = Rc::new(
        init_service(App::new().wrap(FastCache::new(config)).default_service(web::to(handler))).await,
    );
    shaky.fails.store(true, SeqCst);
    let posting = {
        let app = Rc::clone(&app);
        actix_web::rt::spawn(async move {
            let request = TestRequest::post().uri("/x").insert_header(("host", "a")).to_request();
            let reply = call_service(&*app, request).await;
            to_bytes(reply.into_body()).await.map_err(|_| ()).unwrap()
        })
    };
    shaky.begun.acquire().await.unwrap().forget();
    handle.invalidate_tag("page").await.unwrap();
    shaky.gate.add_permits(1);
    assert_eq!(posting.await.unwrap(), "old");
    let reply =
        call_service(&*app, TestRequest::with_uri("/x").insert_header(("host", "a")).to_request()).await;
    assert_eq!(to_bytes(reply.into_body()).await.map_err(|_| ()).unwrap(), "new");
}

// A HEAD and what the handler says of the answer.
#[actix_web::test]
async fn a_tag_outlives_a_head_that_freshens() {
    let clock = ManualClock::new();
    let config = rfc().clock(clock.clone()).build().unwrap();
    let handle = config.handle();
    let handler = |req: HttpRequest, cache: CacheControl| async move {
        if *req.method() == "GET" {
            cache.tag("page");
        }
        HttpResponse::Ok()
            .insert_header(("cache-control", "max-age=60"))
            .insert_header(("etag", "\"a\""))
            .body("x")
    };
    let app = init_service(App::new().wrap(FastCache::new(config)).default_service(web::to(handler))).await;
    let send = |method: &str| {
        TestRequest::with_uri("/x").method(method.parse().unwrap()).insert_header(("host", "a")).to_request()
    };
    call_service(&app, send("GET")).await;
    clock.advance(Duration::from_secs(61));
    call_service(&app, send("HEAD")).await;
    handle.invalidate_tag("page").await.unwrap();
    let reply = call_service(&app, send("GET")).await;
    assert!(reply.headers().get("x-cache").unwrap() != "HIT");
}

#[actix_web::test]
async fn ranges_of_one_variant_do_not_push_out_the_others() {
    let whole = answer(200, &[("cache-control", "max-age=60"), ("vary", "x")], "whole");
    let mut answers = vec![whole];
    for last in 1..=70 {
        let range = format!("bytes 0-{last}/1000");
        let fields = [("cache-control", "max-age=60"), ("vary", "x"), ("content-range", &range)];
        answers.push(answer(206, &fields, &"b".repeat(last + 1)));
    }
    let site = site(&answers).await;
    site.get("/x", &[("x", "1")]).await;
    for last in 1..=70 {
        site.get("/x", &[("x", "2"), ("range", &format!("bytes=0-{last}"))]).await;
    }
    assert_eq!(site.runs(), 71);
    assert_eq!(site.get("/x", &[("x", "1")]).await.field("x-cache"), "HIT");
}

#[actix_web::test]
async fn the_502_for_a_part_that_does_not_join_is_not_stored_by_an_override() {
    let part =
        |range: &str, etag: &str, body: &str| answer(206, &[("content-range", range), ("etag", etag)], body);
    let builder = rfc().ttl_override(Duration::from_secs(60));
    let site = site_under(
        builder,
        &[part("bytes 0-4/10", "\"a\"", "01234"), part("bytes 5-9/10", "\"b\"", "fghij")],
    )
    .await;
    site.get("/x", &[("range", "bytes=0-4")]).await;
    assert_eq!(site.get("/x", &[]).await.status, 502);
    assert_ne!(site.get("/x", &[]).await.field("x-cache"), "HIT");
}

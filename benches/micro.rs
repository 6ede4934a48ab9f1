//! What each part of an answer costs in time, inside the app and without sockets; `cargo bench --bench micro`.
//!
//! All goes through the public API. What has no door of its own is the difference of two requests: building a key is a
//! hit with twenty query parameters beside a hit with none, judging a policy is a hit by a scope that obeys the client,
//! asked with directives, beside a plain one, and a variant is a hit of an answer with `Vary`. Times are noisy where other
//! programs run; `cargo bench --bench instructions` is not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // it is a bench

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use actix_fast_cache::{CacheConfig, FastCache, MemoryStorage, StoreOptions, StoredResponse};
use actix_http::Request;
use actix_service::Service;
use actix_web::body::{MessageBody, to_bytes};
use actix_web::dev::ServiceResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::rt::{System, SystemRunner};
use actix_web::test::{TestRequest, init_service};
use actix_web::web::{self, Bytes};
use actix_web::{App, Error, HttpResponse};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::FutureExt;
use futures_util::future::join_all;

criterion_group!(benches, answers, keys, policy, coalescing, storage);
criterion_main!(benches);

fn page(length: usize) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")))
        .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("max-age=600")))
        .insert_header((header::ETAG, HeaderValue::from_static("\"one\"")))
        .insert_header((header::CONTENT_LANGUAGE, HeaderValue::from_static("en")))
        .body(Bytes::from(vec![b'x'; length]))
}

async fn handler() -> HttpResponse {
    page(1024)
}

async fn varied() -> HttpResponse {
    let mut page = page(1024);
    page.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-language"));
    page
}

static RUNS: AtomicUsize = AtomicUsize::new(0);

/// Lets all others ask before it answers.
async fn deferring() -> HttpResponse {
    RUNS.fetch_add(1, Relaxed);
    actix_web::rt::task::yield_now().await;
    page(1024)
}

fn config() -> CacheConfig {
    CacheConfig::builder(MemoryStorage::new()).build().unwrap()
}

fn app(
    system: &SystemRunner,
    config: CacheConfig,
) -> impl Service<Request, Response = ServiceResponse<impl MessageBody>, Error = Error> {
    system.block_on(init_service(
        App::new()
            .wrap(FastCache::new(config))
            .route("/page", web::get().to(handler))
            .route("/varied", web::get().to(varied))
            .route("/deferring", web::get().to(deferring)),
    ))
}

fn bare_app(
    system: &SystemRunner,
) -> impl Service<Request, Response = ServiceResponse<impl MessageBody>, Error = Error> {
    system.block_on(init_service(
        App::new().route("/page", web::get().to(handler)).route("/deferring", web::get().to(deferring)),
    ))
}

fn get(uri: &str) -> TestRequest {
    TestRequest::get().uri(uri).insert_header(("host", "bench.example"))
}

/// Times answers to requests that are made before.
fn bench<S, B>(
    c: &mut Criterion,
    system: &SystemRunner,
    name: &str,
    app: &S,
    mut request: impl FnMut() -> TestRequest,
) where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    let answer = |request| app.call(request).now_or_never().expect("an answer at once").unwrap();
    // What is stored is seen by the first one.
    system.block_on(async {
        drop(answer(request().to_request()));
        c.bench_function(name, |b| {
            b.iter_batched(|| request().to_request(), answer, BatchSize::SmallInput);
        });
    });
}

fn answers(c: &mut Criterion) {
    let system = System::new();
    let cached = app(&system, config());
    bench(c, &system, "answer/bare handler", &bare_app(&system), || get("/page"));
    bench(c, &system, "answer/hit", &cached, || get("/page"));
    bench(c, &system, "answer/304", &cached, || get("/page").insert_header(("if-none-match", "\"one\"")));
    let mut number = 0;
    bench(c, &system, "answer/miss", &cached, || {
        number += 1;
        get(&format!("/page?number={number}"))
    });
}

fn keys(c: &mut Criterion) {
    let system = System::new();
    let cached = app(&system, config());
    let parameters: Vec<String> = (0..20).rev().map(|number| format!("name{number:02}=value")).collect();
    let long = format!("/page?{}", parameters.join("&"));
    bench(c, &system, "key/hit, no query", &cached, || get("/page"));
    bench(c, &system, "key/hit, 20 parameters in the wrong order", &cached, || get(&long));
}

fn policy(c: &mut Criterion) {
    let system = System::new();
    let plain = app(&system, config());
    let obeying = app(&system, CacheConfig::builder(MemoryStorage::new()).obey_client().build().unwrap());
    let directives = ("cache-control", "max-age=300, min-fresh=10, max-stale=60");
    let language = ("accept-language", "de");
    bench(c, &system, "policy/hit, directives ignored", &plain, || get("/page").insert_header(directives));
    bench(c, &system, "policy/hit, directives obeyed", &obeying, || get("/page").insert_header(directives));
    bench(c, &system, "policy/hit, a variant", &plain, || get("/varied").insert_header(language));
}

const FOLLOWERS: usize = 50;

fn coalescing(c: &mut Criterion) {
    let system = System::new();
    let mut group = c.benchmark_group("coalescing");
    group.throughput(Throughput::Elements(FOLLOWERS as u64 + 1));
    let (bare, cached) = (bare_app(&system), app(&system, config()));
    let mut number = 0;
    let mut requests = || -> Vec<Request> {
        number += 1;
        (0..=FOLLOWERS).map(|_| get(&format!("/deferring?number={number}")).to_request()).collect()
    };
    assert_eq!(runs(&system, &bare, requests()), FOLLOWERS + 1);
    assert_eq!(runs(&system, &cached, requests()), 1);
    group.bench_function("51 runs of the bare handler", |b| {
        b.iter_batched(&mut requests, |requests| runs(&system, &bare, requests), BatchSize::SmallInput);
    });
    group.bench_function("a leader and 50 followers", |b| {
        b.iter_batched(&mut requests, |requests| runs(&system, &cached, requests), BatchSize::SmallInput);
    });
}

/// Answers requests that come at once, and counts the runs of the handler.
fn runs<S, B>(system: &SystemRunner, app: &S, requests: Vec<Request>) -> usize
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    let before = RUNS.load(Relaxed);
    system.block_on(join_all(requests.into_iter().map(async |request| {
        let answer = app.call(request).await.unwrap();
        assert!(to_bytes(answer.into_body()).await.is_ok_and(|body| body.len() == 1024));
    })));
    RUNS.load(Relaxed) - before
}

fn storage(c: &mut Criterion) {
    let system = System::new();
    let cache = config().handle();
    let response = || StoredResponse::new(StatusCode::OK, Bytes::from_static(&[b'x'; 1024]));
    let set = |key: &str| system.block_on(cache.set(key, response(), StoreOptions::new())).unwrap();
    set("known");
    c.bench_function("storage/get", |b| b.iter(|| system.block_on(cache.get("known")).unwrap()));
    c.bench_function("storage/get, unknown", |b| b.iter(|| system.block_on(cache.get("unknown")).unwrap()));
    c.bench_function("storage/put, replacing", |b| b.iter(|| set("known")));
    let mut number = 0;
    c.bench_function("storage/put, new", |b| {
        b.iter(|| {
            number += 1;
            set(&format!("page {number}"));
        });
    });
}

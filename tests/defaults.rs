//! What the README's table says of a cache with no options set, and of the settings that change it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

mod support;

use std::sync::Arc;
use std::time::Duration;

use actix_fast_cache::storage::{Claimed, Fence, FenceId, Holder, Stamp};
use actix_fast_cache::{
    CacheConfig, CacheConfigBuilder, CacheControl, CacheKey, Entry, FastCache, Lookup, ManualClock,
    MemoryStorage, QueryKey, Storage, StorageError,
};
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::Method;
use actix_web::test::{TestRequest, init_service};
use actix_web::{App, HttpRequest, HttpResponse, web};
use futures_util::FutureExt;
use futures_util::future::join_all;
use support::{Runs, until};
use tokio::sync::Semaphore;

macro_rules! app {
    ($config:expr, $handler:expr) => {
        init_service(App::new().service(
            web::scope("/a").wrap(FastCache::new($config.clone())).default_service(web::to($handler)),
        ))
        .await
    };
}

fn get(uri: &str) -> TestRequest {
    TestRequest::get().uri(uri).insert_header(("host", "test.example"))
}

fn cache_of<B>(answer: &ServiceResponse<B>) -> String {
    answer.headers().get("x-cache").map_or("-", |value| value.to_str().unwrap()).to_owned()
}

fn with_clock() -> (CacheConfigBuilder, ManualClock) {
    let clock = ManualClock::new();
    (CacheConfig::builder(MemoryStorage::new()).clock(clock.clone()), clock)
}

macro_rules! ask {
    ($app:expr, $request:expr) => {
        cache_of(&$app.call($request.to_request()).await.unwrap())
    };
}

/// A handler whose answer has the fields that the query names: `name:value&name:value`.
async fn as_told(req: HttpRequest) -> HttpResponse {
    let mut answer = HttpResponse::Ok();
    for field in req.query_string().split('&') {
        if let Some((name, value)) = field.split_once(':') {
            answer.append_header((name, value.replace('_', " ")));
        }
    }
    answer.body("page")
}

#[actix_web::test]
async fn a_lifetime_is_a_minute_or_what_the_answer_says_and_a_day_at_the_most() {
    // The manual clock begins 2026-01-01 00:00:00.
    for (target, seconds) in [
        ("/a/x", 60),
        ("/a/x?expires:Thu,_01_Jan_2026_00:02:00_GMT", 120),
        ("/a/x?expires:Thu,_01_Jan_2026_00:02:00_GMT&cache-control:max-age=30", 30),
        ("/a/x?cache-control:max-age=300", 300),
        ("/a/x?cache-control:max-age=300,_s-maxage=20", 20),
        ("/a/x?cache-control:max-age=31536000", 86_400),
    ] {
        let (builder, clock) = with_clock();
        let app = app!(builder.build().unwrap(), as_told);
        assert_eq!(ask!(app, get(target)), "MISS", "{target}");
        clock.advance(Duration::from_millis(seconds * 1_000 - 1));
        assert_eq!(ask!(app, get(target)), "HIT", "{target}");
        clock.advance(Duration::from_millis(1));
        assert_ne!(ask!(app, get(target)), "HIT", "{target}");
    }
}

#[actix_web::test]
async fn stale_answers_are_not_served_unless_somebody_says_so() {
    let (builder, clock) = with_clock();
    let app = app!(builder.build().unwrap(), |req: HttpRequest| async move {
        match req.headers().contains_key("x-fail") {
            true => HttpResponse::BadGateway().finish(),
            false => HttpResponse::Ok().body("page"),
        }
    });
    assert_eq!(ask!(app, get("/a/x")), "MISS");
    clock.advance(Duration::from_secs(60));
    let answer = app.call(get("/a/x").insert_header(("x-fail", "1")).to_request()).await.unwrap();
    assert_eq!(answer.status(), 502);
}

/// The extractor's windows, beside those of the fields.
#[actix_web::test]
async fn a_handler_can_give_its_answer_stale_windows() {
    let (builder, clock) = with_clock();
    let config = builder.build().unwrap();
    let runs = Runs::new();
    let counted = runs.clone();
    let app = app!(config, move |req: HttpRequest, cache: CacheControl| {
        let run = counted.add();
        match req.path() {
            "/a/behind" => cache.stale_while_revalidate(Duration::from_secs(5)),
            "/a/error" => cache.stale_if_error(Duration::from_secs(5)),
            _ => {}
        }
        async move {
            match req.headers().contains_key("x-fail") {
                true => HttpResponse::BadGateway().finish(),
                false => HttpResponse::Ok().body(format!("run {run}")),
            }
        }
    });
    for path in ["/a/behind", "/a/error", "/a/none"] {
        assert_eq!(ask!(app, get(path)), "MISS");
    }
    clock.advance(Duration::from_millis(64_999));
    let failing = |path| get(path).insert_header(("x-fail", "1"));
    assert_eq!(ask!(app, failing("/a/behind")), "HIT");
    until("the refresh ran", || runs.count() == 4 && config.handle().fills_under_way() == 0).await;
    for (path, status) in [("/a/error", 200), ("/a/none", 502)] {
        assert_eq!(app.call(failing(path).to_request()).await.unwrap().status(), status, "{path}");
    }
    clock.advance(Duration::from_millis(1));
    for path in ["/a/behind", "/a/error"] {
        assert_eq!(app.call(failing(path).to_request()).await.unwrap().status(), 502, "{path}");
    }
}

#[actix_web::test]
async fn bodies_are_stored_up_to_a_mebibyte_and_keyed_up_to_64_kibibytes() {
    let (builder, _) = with_clock();
    let config = builder.methods([Method::POST]).build().unwrap();
    let app = app!(config, |req: HttpRequest, body: web::Bytes| async move {
        let len = req.query_string().parse().unwrap_or(body.len());
        HttpResponse::Ok().body(vec![b'x'; len])
    });
    for (len, kept) in [(1 << 20, "HIT"), ((1 << 20) + 1, "-")] {
        let target = format!("/a/x?{len}");
        ask!(app, get(&target));
        assert_eq!(ask!(app, get(&target)), kept, "{len}");
    }
    for (len, kept) in [(64 << 10, "HIT"), ((64 << 10) + 1, "-")] {
        let post = || TestRequest::post().uri("/a/x").set_payload(vec![b'x'; len]);
        let post = || post().insert_header(("content-length", len.to_string()));
        ask!(app, post());
        assert_eq!(ask!(app, post()), kept, "{len}");
    }
}

#[actix_web::test]
async fn up_to_8_fields_and_64_variants_are_kept() {
    let storage = MemoryStorage::new();
    let app = app!(CacheConfig::builder(storage.clone()).build().unwrap(), as_told);
    for (vary, kept) in [("a,b,c,d,e,f,g,h", "HIT"), ("a,b,c,d,e,f,g,h,i", "-")] {
        let target = format!("/a/x?vary:{vary}");
        ask!(app, get(&target));
        assert_eq!(ask!(app, get(&target)), kept, "{vary}");
    }
    let of = |n: usize| get("/a/y?vary:n").insert_header(("n", n.to_string()));
    for n in 0..64 {
        ask!(app, of(n));
    }
    for n in 0..64 {
        assert_eq!(ask!(app, of(n)), "HIT", "{n}");
    }
}

#[actix_web::test]
async fn up_to_128_fields_and_32_kibibytes_of_them_are_kept() {
    let (builder, _) = with_clock();
    let app = app!(builder.build().unwrap(), |req: HttpRequest| async move {
        let (lines, len) = req.query_string().split_once('x').unwrap();
        let mut answer = HttpResponse::Ok();
        for n in 0..lines.parse().unwrap() {
            answer.append_header((format!("x-{n:03}"), "v".repeat(len.parse().unwrap())));
        }
        answer.body("page")
    });
    for (target, kept) in [("120x1", "HIT"), ("129x1", "-"), ("30x1000", "HIT"), ("33x1000", "-")] {
        let target = format!("/a/x?{target}");
        ask!(app, get(&target));
        assert_eq!(ask!(app, get(&target)), kept, "{target}");
    }
}

#[actix_web::test]
async fn memory_holds_64_mebibytes_and_no_more() {
    let (storage, all) = (MemoryStorage::new(), 64 << 20);
    let app = app!(CacheConfig::builder(storage.clone()).build().unwrap(), || async {
        HttpResponse::Ok().insert_header(("etag", "\"own\"")).body(vec![b'x'; 1_000_000])
    });
    for n in 0..80 {
        ask!(app, get(&format!("/a/x?{n}")));
        assert!(storage.stats().bytes <= all, "{:?}", storage.stats());
    }
    assert!(storage.stats().bytes > all - 2_000_000, "{:?}", storage.stats());
}

/// Time stands still and is moved on by hand: tokio's own, which those who wait wait by.
#[tokio::test(start_paused = true)]
async fn a_follower_waits_five_seconds() {
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let runs = Runs::new();
            let counted = runs.clone();
            let app = app!(CacheConfig::builder(MemoryStorage::new()).build().unwrap(), move || {
                let run = counted.add();
                async move {
                    if run == 1 {
                        std::future::pending::<()>().await;
                    }
                    format!("run {run}")
                }
            });
            let mut leader = Box::pin(app.call(get("/a/x").to_request()));
            assert!(leader.as_mut().now_or_never().is_none());
            let mut follower = Box::pin(app.call(get("/a/x").to_request()));
            assert!(follower.as_mut().now_or_never().is_none());
            tokio::time::advance(Duration::from_millis(4_999)).await;
            assert!(follower.as_mut().now_or_never().is_none());
            tokio::time::advance(Duration::from_millis(2)).await;
            assert_eq!(follower.await.unwrap().status(), 200);
            assert_eq!(runs.count(), 2);
        })
        .await;
}

/// A storage that answers after some time, be it asked for an entry or, where processes are kept apart, for a lease.
struct Late {
    after: Duration,
    leases: bool,
}

impl Storage for Late {
    async fn get(&self, _: &CacheKey) -> Result<Lookup, StorageError> {
        tokio::time::sleep(self.after).await;
        Err(StorageError::new("late"))
    }

    fn leases(&self) -> bool {
        self.leases
    }

    async fn claim(&self, _: &CacheKey, _: Holder, _: Duration) -> Result<Claimed, StorageError> {
        tokio::time::sleep(self.after).await;
        Ok(Claimed::Granted)
    }

    async fn put(&self, _: Arc<Entry>) -> Result<(), StorageError> {
        Ok(())
    }

    async fn remove(&self, _: &CacheKey) -> Result<bool, StorageError> {
        Ok(false)
    }

    async fn raise(&self, _: &[Fence]) -> Result<(), StorageError> {
        Ok(())
    }

    async fn is_current(&self, _: Stamp, _: &[FenceId]) -> Result<bool, StorageError> {
        Ok(true)
    }
}

/// Once: a request does not wait again for what has just kept it waiting.
#[tokio::test(start_paused = true)]
async fn a_storage_has_50_milliseconds() {
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            for leases in [false, true] {
                let runs = Runs::new();
                let counted = runs.clone();
                let late = Late { after: Duration::from_secs(3_600), leases };
                let app = app!(CacheConfig::builder(late).build().unwrap(), move || {
                    counted.add();
                    async { "page" }
                });
                let mut asked = Box::pin(app.call(get("/a/x").to_request()));
                assert!(asked.as_mut().now_or_never().is_none());
                tokio::time::advance(Duration::from_millis(49)).await;
                assert!(asked.as_mut().now_or_never().is_none());
                assert_eq!(runs.count(), 0);
                tokio::time::advance(Duration::from_millis(2)).await;
                let answer = asked.as_mut().now_or_never().expect("an answer after one deadline");
                assert_eq!((answer.unwrap().status().as_u16(), runs.count()), (200, 1));
            }
        })
        .await;
}

#[actix_web::test]
async fn without_coalescing_each_request_that_finds_nothing_runs() {
    let (runs, gate) = (Runs::new(), Arc::new(Semaphore::new(0)));
    let (counted, door) = (runs.clone(), Arc::clone(&gate));
    let config = CacheConfig::builder(MemoryStorage::new()).no_coalescing().build().unwrap();
    let app = app!(config, move || {
        let (run, gate) = (counted.add(), Arc::clone(&door));
        async move {
            gate.acquire().await.unwrap().forget();
            format!("run {run}")
        }
    });
    let mut asked: Vec<_> = (0..20).map(|_| Box::pin(app.call(get("/a/x").to_request()))).collect();
    for call in &mut asked {
        assert!(call.as_mut().now_or_never().is_none());
    }
    assert_eq!(runs.count(), 20);
    gate.add_permits(20);
    assert!(join_all(asked).await.into_iter().all(|answer| answer.unwrap().status() == 200));
    assert_eq!(ask!(app, get("/a/x")), "HIT");
}

#[actix_web::test]
async fn a_run_is_given_up_after_30_seconds_and_a_refusal_forgotten_after_10() {
    let (builder, clock) = with_clock();
    let runs = Runs::new();
    let counted = runs.clone();
    let app = app!(builder.build().unwrap(), move |req: HttpRequest| {
        counted.add();
        async move {
            if req.headers().contains_key("x-refused") {
                return HttpResponse::Ok().insert_header(("cache-control", "no-store")).finish();
            }
            std::future::pending().await
        }
    });
    let mut hung = Vec::new();
    // How many runs there are once this has been asked for.
    macro_rules! after {
        ($path:expr) => {{
            let mut call = Box::pin(app.call(get($path).to_request()));
            assert!(call.as_mut().now_or_never().is_none());
            hung.push(call);
            runs.count()
        }};
    }
    assert_eq!(after!("/a/x"), 1);
    clock.advance(Duration::from_millis(29_999));
    assert_eq!(after!("/a/x"), 1);
    clock.advance(Duration::from_millis(1));
    assert_eq!(after!("/a/x"), 2);

    app.call(get("/a/y").insert_header(("x-refused", "1")).to_request()).await.unwrap();
    assert_eq!(runs.count(), 3);
    clock.advance(Duration::from_millis(9_999));
    assert_eq!((after!("/a/y"), after!("/a/y")), (4, 5));
    clock.advance(Duration::from_millis(1));
    assert_eq!((after!("/a/y"), after!("/a/y")), (6, 6));
}

#[actix_web::test]
async fn a_query_can_be_kept_out_of_the_key() {
    let (builder, _) = with_clock();
    let app = app!(builder.query(QueryKey::none()).build().unwrap(), || async { "page" });
    assert_eq!(ask!(app, get("/a/x?a=1")), "MISS");
    for target in ["/a/x", "/a/x?", "/a/x?b=2"] {
        assert_eq!(ask!(app, get(target)), "HIT", "{target}");
    }
    assert_eq!(ask!(app, get("/a/y?a=1")), "MISS");
}

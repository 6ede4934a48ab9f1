//! What a client can make the cache keep, and what it cannot.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

mod support;

use std::sync::Arc;
use std::time::Duration;

use actix_fast_cache::{CacheConfig, CacheControl, FastCache, MemoryStorage};
use actix_web::body::{BodyStream, MessageBody};
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::test::{TestRequest, init_service, read_body};
use actix_web::web::{self, Bytes};
use actix_web::{App, Error, HttpRequest, HttpResponse};
use futures_util::{FutureExt, stream};
use support::{Runs, Server, request, reset, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// More variants of one key than these are not kept; one entry more says what they vary on.
const MOST_VARIANTS: u64 = 64;

macro_rules! app {
    ($config:expr, $handler:expr) => {
        init_service(App::new().service(
            web::scope("/a").wrap(FastCache::new($config.clone())).default_service(web::to($handler)),
        ))
        .await
    };
}

fn cache_of<B>(answer: &ServiceResponse<B>) -> &str {
    answer.headers().get("x-cache").map_or("-", |value| value.to_str().unwrap())
}

fn get(uri: &str) -> TestRequest {
    TestRequest::get().uri(uri).insert_header(("host", "test.example"))
}

// X2
#[actix_web::test]
async fn ten_thousand_varied_values_leave_a_bounded_number_of_variants_and_the_others_alone() {
    let storage = MemoryStorage::new();
    let config = CacheConfig::builder(storage.clone()).build().unwrap();
    let app = app!(config, || async { HttpResponse::Ok().insert_header(("vary", "x-varied")).body("page") });
    app.call(get("/a/other").to_request()).await.unwrap();
    for value in 0..10_000 {
        app.call(get("/a/x").insert_header(("x-varied", value.to_string())).to_request()).await.unwrap();
    }
    let held = storage.stats().entries;
    assert!(held <= MOST_VARIANTS + 1 + 2, "{held} entries");
    assert_eq!(cache_of(&app.call(get("/a/other").to_request()).await.unwrap()), "HIT");
    let newest = get("/a/x").insert_header(("x-varied", "9999")).to_request();
    assert_eq!(cache_of(&app.call(newest).await.unwrap()), "HIT");
}

// X2
#[actix_web::test]
async fn variants_are_bounded_in_whatever_order_their_fills_end() {
    const MANY: usize = 300;
    let storage = MemoryStorage::new();
    let clock = actix_fast_cache::ManualClock::new();
    let config = CacheConfig::builder(storage.clone()).clock(clock.clone()).build().unwrap();
    let gates: Arc<Vec<Semaphore>> = Arc::new((0..MANY).map(|_| Semaphore::new(0)).collect());
    let doors = Arc::clone(&gates);
    let app = app!(config, move |req: HttpRequest| {
        let gates = Arc::clone(&doors);
        async move {
            let value = req.headers().get("x-varied").unwrap().to_str().unwrap().parse::<usize>();
            if let Ok(nth) = value {
                gates[nth].acquire().await.unwrap().forget();
            }
            HttpResponse::Ok().insert_header(("vary", "x-varied")).body("page")
        }
    });
    // Known to vary, so that each value is a fill of its own.
    app.call(get("/a/x").insert_header(("x-varied", "first")).to_request()).await.unwrap();
    let mut fills: Vec<_> = (0..MANY)
        .map(|nth| {
            clock.advance(Duration::from_millis(1));
            let request = get("/a/x").insert_header(("x-varied", nth.to_string())).to_request();
            let mut fill = Box::pin(app.call(request));
            assert!(fill.as_mut().now_or_never().is_none());
            fill
        })
        .collect();
    while let Some(fill) = fills.pop() {
        gates[fills.len()].add_permits(1);
        assert_eq!(fill.await.unwrap().status(), 200);
    }
    let held = storage.stats().entries;
    assert!(held <= MOST_VARIANTS + 1, "{held} entries");
}

// X4
#[tokio::test]
async fn an_endless_stream_begins_at_once_is_never_stored_and_ends_with_its_client() {
    struct Ended(Runs);

    impl Drop for Ended {
        fn drop(&mut self) {
            self.0.add();
        }
    }

    let (runs, ended, storage) = (Runs::new(), Runs::new(), MemoryStorage::new());
    let config = CacheConfig::builder(storage.clone()).build().unwrap();
    let (counted, over, shared) = (runs.clone(), ended.clone(), config.clone());
    let server = Server::start(1, move || {
        let (runs, over) = (counted.clone(), over.clone());
        let handler = move || {
            runs.add();
            let ended = Ended(over.clone());
            let chunks = stream::repeat_with(move || {
                let _ = &ended;
                Ok::<_, Error>(Bytes::from_static(&[b'x'; 1024]))
            });
            async { HttpResponse::Ok().body(BodyStream::new(chunks)) }
        };
        App::new()
            .service(web::scope("/a").wrap(FastCache::new(shared.clone())).default_service(web::to(handler)))
    });
    for run in 1..=2 {
        let mut client = TcpStream::connect(server.addr).await.unwrap();
        client.write_all(&request("GET", "/a/x", &[], b"")).await.unwrap();
        let mut first = [0; 16];
        let reading = tokio::time::timeout(Duration::from_secs(5), client.read_exact(&mut first));
        reading.await.expect("the first bytes come").unwrap();
        assert_eq!(runs.count(), run);
        reset(client);
        until("the stream is dropped", || ended.count() == run).await;
        assert_eq!((config.handle().fills_under_way(), storage.stats().entries), (0, 0));
    }
}

// X6
#[actix_web::test]
async fn past_the_most_waiters_requests_run_on_their_own() {
    let (runs, gate) = (Runs::new(), Arc::new(Semaphore::new(0)));
    let config = CacheConfig::builder(MemoryStorage::new()).max_waiters(10).build().unwrap();
    let (counted, door) = (runs.clone(), Arc::clone(&gate));
    let app = app!(config, move || {
        let (run, gate) = (counted.add(), Arc::clone(&door));
        async move {
            gate.acquire().await.unwrap().forget();
            format!("run {run}")
        }
    });
    let mut asked: Vec<_> = (0..26).map(|_| Box::pin(app.call(get("/a/x").to_request()))).collect();
    for call in &mut asked {
        assert!(call.as_mut().now_or_never().is_none());
    }
    // One leads, ten wait, the rest do not.
    assert_eq!(runs.count(), 1 + 15);
    gate.add_permits(100);
    let mut shared = 0;
    for answer in futures_util::future::join_all(asked).await {
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 200);
        shared += usize::from(cache_of(&answer) == "HIT");
    }
    assert_eq!((shared, runs.count()), (10, 16));
}

// X6, with nothing set; with `FULL_SIZE=1` in the environment fifty thousand
#[actix_web::test]
async fn more_waiters_of_one_key_than_the_default_allows_are_capped_and_all_are_answered() {
    /// The default of `max_waiters`.
    const WAIT: usize = 16_384;
    let many = if std::env::var_os("FULL_SIZE").is_some() { 50_000 } else { 17_000 };
    let (runs, gate) = (Runs::new(), Arc::new(Semaphore::new(0)));
    let config = CacheConfig::builder(MemoryStorage::new()).wait(Duration::from_secs(600)).build().unwrap();
    let (counted, door) = (runs.clone(), Arc::clone(&gate));
    let app = app!(config, move || {
        let (run, gate) = (counted.add(), Arc::clone(&door));
        async move {
            gate.acquire().await.unwrap().forget();
            format!("run {run}")
        }
    });
    let mut asked: Vec<_> = (0..many).map(|_| Box::pin(app.call(get("/a/x").to_request()))).collect();
    for call in &mut asked {
        assert!(call.as_mut().now_or_never().is_none());
    }
    assert_eq!(runs.count(), many - WAIT);
    assert_eq!(config.handle().fills_under_way(), 1);
    gate.add_permits(many);
    let mut shared = 0;
    for answer in futures_util::future::join_all(asked).await {
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 200);
        shared += usize::from(cache_of(&answer) == "HIT");
    }
    assert_eq!((shared, runs.count(), config.handle().fills_under_way()), (WAIT, many - WAIT, 0));
}

// X7
#[actix_web::test]
async fn odd_encodings_make_few_variants_and_stored_bytes_stay_as_they_are() {
    // Not gzip at all: whoever decoded it would fail.
    const BODY: &[u8] = b"\x1f\x8b not really";
    let storage = MemoryStorage::new();
    let config = CacheConfig::builder(storage.clone()).build().unwrap();
    // No Vary: an encoded answer varies whether it says so or not.
    let app = app!(config, || async {
        HttpResponse::Ok().insert_header(("content-encoding", "gzip")).body(Bytes::from_static(BODY))
    });
    for n in 0..10_000 {
        let accepts = format!("gzip;q=0.{n}, x{n}");
        let answer = app.call(get("/a/x").insert_header(("accept-encoding", accepts)).to_request()).await;
        assert_eq!(read_body(answer.unwrap()).await, BODY);
    }
    let held = storage.stats().entries;
    assert!(held <= MOST_VARIANTS + 1, "{held} entries");
    let hit = app.call(get("/a/x").insert_header(("accept-encoding", "gzip;q=0.9999, x9999")).to_request());
    let hit = hit.await.unwrap();
    assert_eq!(cache_of(&hit), "HIT");
    assert_eq!(read_body(hit).await, BODY);
}

/// Asks twice for the same thing, with the same fields: what `X-Cache` says, and how often the handler ran.
async fn twice<S, B>(app: &S, runs: &Runs, make: impl Fn() -> TestRequest) -> (String, usize)
where
    S: Service<actix_http::Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    let before = runs.count();
    for _ in 0..2 {
        let answer = app.call(make().to_request()).await.unwrap();
        assert_eq!(answer.status(), 200);
        if runs.count() == before + 2 || cache_of(&answer) == "HIT" {
            return (cache_of(&answer).to_owned(), runs.count() - before);
        }
    }
    unreachable!("neither a hit nor a run");
}

// X8
#[actix_web::test]
async fn long_queries_and_long_varied_fields_are_not_kept() {
    let (runs, storage) = (Runs::new(), MemoryStorage::new());
    let config = CacheConfig::builder(storage.clone()).build().unwrap();
    let counted = runs.clone();
    let app = app!(config, move || {
        counted.add();
        async { HttpResponse::Ok().insert_header(("vary", "x-varied")).body("page") }
    });
    let long_query = format!("/a/x?{}", "q".repeat(60_000));
    assert_eq!(twice(&app, &runs, || get(&long_query)).await, ("-".to_owned(), 2));
    let long_field = "v".repeat(100_000);
    let varied = || get("/a/x").insert_header(("x-varied", long_field.as_str()));
    assert_eq!(twice(&app, &runs, varied).await, ("-".to_owned(), 2));
    assert_eq!(storage.stats().entries, 0);
    assert_eq!(twice(&app, &runs, || get("/a/x?q=1")).await, ("HIT".to_owned(), 1));
}

// X9
#[actix_web::test]
async fn too_many_too_long_or_odd_tags_refuse_the_whole_answer() {
    let (runs, storage) = (Runs::new(), MemoryStorage::new());
    let config = CacheConfig::builder(storage.clone()).build().unwrap();
    let counted = runs.clone();
    let app = app!(config, move |req: HttpRequest, cache: CacheControl| {
        counted.add();
        cache.tag("good");
        match req.path() {
            "/a/many" => (0..10_000).for_each(|n| cache.tag(n.to_string())),
            "/a/long" => cache.tag("t".repeat(1_000_000)),
            "/a/empty" => cache.tag(""),
            "/a/line" => cache.tag("a\r\nb"),
            "/a/nul" => cache.tag("\0"),
            "/a/text" => cache.tag("größe, \"quoted\""),
            _ => {}
        }
        let group = match req.path() {
            "/a/group" => format!("\"{}\"", "g".repeat(10_000)),
            _ => "\"fine\"".to_owned(),
        };
        async { HttpResponse::Ok().insert_header(("cache-groups", group)).body("page") }
    });
    for path in ["/a/many", "/a/long", "/a/empty", "/a/line", "/a/nul", "/a/group"] {
        assert_eq!(twice(&app, &runs, || get(path)).await, ("-".to_owned(), 2), "{path}");
    }
    assert_eq!(storage.stats().entries, 0);
    assert_eq!(twice(&app, &runs, || get("/a/text")).await, ("HIT".to_owned(), 1));
    config.handle().invalidate_tag("größe, \"quoted\"").await.unwrap();
    assert_eq!(cache_of(&app.call(get("/a/text").to_request()).await.unwrap()), "MISS");
}

// X10
#[actix_web::test]
async fn answers_with_too_many_or_too_long_fields_are_passed_on_whole_and_not_stored() {
    let (runs, storage) = (Runs::new(), MemoryStorage::new());
    let config = CacheConfig::builder(storage.clone()).build().unwrap();
    let counted = runs.clone();
    let app = app!(config, move |req: HttpRequest| {
        counted.add();
        let mut answer = HttpResponse::Ok();
        let (fields, len) = match req.path() {
            "/a/many" => (1_000, 1),
            "/a/long" => (1, 1_000_000),
            _ => (100, 100),
        };
        for n in 0..fields {
            let name = HeaderName::try_from(format!("x-{n}")).unwrap();
            answer.append_header((name, HeaderValue::try_from("v".repeat(len)).unwrap()));
        }
        async move { answer.body("page") }
    });
    for (path, fields) in [("/a/many", 1_000), ("/a/long", 1)] {
        assert_eq!(twice(&app, &runs, || get(path)).await, ("-".to_owned(), 2), "{path}");
        let answer = app.call(get(path).to_request()).await.unwrap();
        assert_eq!(
            answer.headers().iter().filter(|(name, _)| name.as_str().starts_with("x-")).count(),
            fields
        );
    }
    assert_eq!(storage.stats().entries, 0);
    assert_eq!(twice(&app, &runs, || get("/a/some")).await, ("HIT".to_owned(), 1));
}

// X11
#[actix_web::test]
async fn absurd_ranges_of_a_hit_are_answered_with_the_whole_or_refused() {
    let config = CacheConfig::builder(MemoryStorage::new()).build().unwrap();
    let body = Bytes::from(vec![b'x'; 100_000]);
    let app = app!(config, move || {
        let body = body.clone();
        async { HttpResponse::Ok().body(body) }
    });
    app.call(get("/a/x").to_request()).await.unwrap();
    let many = |range: &str| format!("bytes={}", vec![range; 1_000].join(","));
    for (range, status, len) in [
        (many("0-"), 200, 100_000),
        (many("0-0,1-1"), 200, 100_000),
        (many("9223372036854775808-"), 416, 0),
        (many("-0"), 416, 0),
        ("bytes=9223372036854775807-9223372036854775808".to_owned(), 416, 0),
        ("bytes=0-18446744073709551616".to_owned(), 206, 100_000),
        (format!("bytes=-{}", "9".repeat(100)), 206, 100_000),
        (format!("bytes={}", "-".repeat(10_000)), 200, 100_000),
    ] {
        let answer =
            app.call(get("/a/x").insert_header(("range", range.as_str())).to_request()).await.unwrap();
        let about = &range[..range.len().min(60)];
        assert_eq!((answer.status().as_u16(), cache_of(&answer)), (status, "HIT"), "{about}");
        assert_eq!(read_body(answer).await.len(), len, "{about}");
    }
}

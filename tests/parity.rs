//! What the reference offers, promise by promise, and what it gets wrong: each test names the row of the table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

mod support;

use std::collections::VecDeque;
use std::future::{Future, pending, ready};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_fast_cache::storage::{Fence, FenceId, Stamp};
use actix_fast_cache::{
    CacheConfig, CacheConfigBuilder, CacheControl, CacheKey, Entry, FailingStorage, FastCache, Lookup,
    ManualClock, MemoryStorage, NamespacePolicy, QueryKey, SetCookiePolicy, Storage, StorageError,
    StoreOptions, StoredResponse,
};
use actix_service::{IntoServiceFactory, Service, ServiceFactory};
use actix_web::dev::{AppConfig, Payload, ServiceRequest};
use actix_web::error::{ErrorUnauthorized, InternalError};
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, Bytes};
use actix_web::{App, Error, FromRequest, HttpRequest, HttpResponse, test};
use futures_util::future::{LocalBoxFuture, join_all};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use support::{Reply, Runs, Server, answered_by, request, reset, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedMutexGuard, Semaphore, mpsc};

fn memory() -> CacheConfigBuilder {
    CacheConfig::builder(MemoryStorage::new())
}

fn default_cache() -> CacheConfig {
    memory().build().unwrap()
}

/// A server whose scope `/c` is cached; its handler takes any path and method, and is told which run it is.
fn serve<F>(config: &CacheConfig, answer: F) -> (Server, Runs)
where
    F: Fn(&HttpRequest, usize) -> HttpResponse + Clone + Send + 'static,
{
    let (config, runs) = (config.clone(), Runs::new());
    let counted = runs.clone();
    let server = Server::start(2, move || {
        let (runs, answer) = (counted.clone(), answer.clone());
        let handler = move |req: HttpRequest| ready(answer(&req, runs.add()));
        App::new()
            .service(web::scope("/c").wrap(FastCache::new(config.clone())).default_service(web::to(handler)))
    });
    (server, runs)
}

/// An answer that tells which run made it.
fn number(_: &HttpRequest, run: usize) -> HttpResponse {
    HttpResponse::Ok().body(format!("run {run}"))
}

/// Status, `X-Cache` and body of a reply.
fn summary(reply: &Reply) -> String {
    format!("{} {} {}", reply.status, reply.cache(), reply.text())
}

async fn get(server: &Server, target: &str) -> String {
    summary(&server.get(target, &[]).await)
}

async fn get_with(server: &Server, target: &str, name: &str, value: &str) -> String {
    summary(&server.get(target, &[(name, value)]).await)
}

/// The names of a reply's fields, sorted.
fn names(reply: &Reply) -> Vec<&str> {
    let mut names: Vec<&str> = reply.fields.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names
}

/// What must not hang.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("an answer within ten seconds")
}

/// Memory that counts its calls, and shows the entry it gave last.
#[derive(Clone, Default)]
struct Spy {
    memory: MemoryStorage,
    reads: Runs,
    writes: Runs,
    last: Arc<Mutex<Option<Arc<Entry>>>>,
    /// Asked at each lookup.
    free: Option<Arc<tokio::sync::Mutex<()>>>,
    was_free: Arc<Mutex<Vec<bool>>>,
}

impl Spy {
    fn last(&self) -> Arc<Entry> {
        self.last.lock().unwrap().clone().expect("an entry")
    }

    fn asked(&self) {
        self.reads.add();
        if let Some(free) = &self.free {
            self.was_free.lock().unwrap().push(free.try_lock().is_ok());
        }
    }
}

impl Storage for Spy {
    fn get_now(&self, key: &CacheKey) -> Option<Lookup> {
        self.asked();
        let found = self.memory.get_now(key)?;
        if let Some(entry) = &found.entry {
            *self.last.lock().unwrap() = Some(Arc::clone(entry));
        }
        Some(found)
    }

    async fn get(&self, key: &CacheKey) -> Result<Lookup, StorageError> {
        self.asked();
        self.memory.get(key).await
    }

    async fn put(&self, entry: Arc<Entry>) -> Result<(), StorageError> {
        self.writes.add();
        self.memory.put(entry).await
    }

    answered_by!(memory: remove, raise, is_current);
}

// ---- Construction and marking

// Row 1
#[tokio::test]
async fn one_cache_over_one_storage_needs_nothing_else() {
    let (server, runs) = serve(&default_cache(), number);
    assert_eq!(get(&server, "/c").await, "200 MISS run 1");
    assert_eq!(get(&server, "/c").await, "200 HIT run 1");
    assert_eq!(runs.count(), 1);
}

// Row 2
#[tokio::test]
async fn several_caches_live_in_one_app() {
    let (first, second) = (MemoryStorage::new(), MemoryStorage::new());
    let a = CacheConfig::builder(first.clone()).namespace("a").build().unwrap();
    let b = CacheConfig::builder(second.clone()).namespace("b").build().unwrap();
    let c = CacheConfig::builder(first.clone()).namespace("c").build().unwrap();
    let (runs, configs) = (Runs::new(), [a.clone(), b.clone(), c.clone()]);
    let counted = runs.clone();
    let server = Server::start(2, move || {
        let [a, b, c] = configs.clone().map(FastCache::new);
        let route = || {
            let runs = counted.clone();
            web::get().to(move || ready(HttpResponse::Ok().body(format!("run {}", runs.add()))))
        };
        App::new()
            .service(web::scope("/a").wrap(a).route("", route()))
            .service(web::scope("/b").wrap(b).route("", route()))
            .service(web::scope("/c").wrap(c).route("", route()))
    });
    for (target, run) in [("/a", 1), ("/b", 2), ("/c", 3)] {
        assert_eq!(get(&server, target).await, format!("200 MISS run {run}"));
        assert_eq!(get(&server, target).await, format!("200 HIT run {run}"));
    }
    assert_eq!((first.stats().entries, second.stats().entries), (2, 1));
    a.handle().invalidate_namespace().await.unwrap();
    assert_eq!(get(&server, "/a").await, "200 MISS run 4");
    assert_eq!(get(&server, "/b").await, "200 HIT run 2");
    assert_eq!(get(&server, "/c").await, "200 HIT run 3");
}

// Row 3
#[tokio::test]
async fn namespaces_are_pairs_that_no_other_pair_can_forge() {
    let storage = MemoryStorage::new();
    let pair = |root: &str, scope: &str| {
        CacheConfig::builder(storage.clone()).namespace(root).build().unwrap().scoped(scope)
    };
    let (users, glued, split) = (pair("api", "users"), pair("apiu", "sers"), pair("ap", "iusers"));
    assert_eq!(users.namespace(), ["api", "users"]);
    let whole = CacheConfig::builder(storage.clone()).namespace("apiusers").build().unwrap();
    let page = StoredResponse::new(StatusCode::OK, "theirs");
    users.handle().set("k", page, StoreOptions::new()).await.unwrap();
    for other in [&glued, &split, &whole] {
        assert!(other.handle().get("k").await.unwrap().is_none());
        other.handle().invalidate("k").await.unwrap();
        other.handle().invalidate_namespace().await.unwrap();
    }
    assert_eq!(users.handle().get("k").await.unwrap().unwrap().body(), "theirs");
}

// Row 3
#[tokio::test]
async fn the_replace_policy_puts_a_scopes_name_in_the_place_of_the_roots() {
    let storage = MemoryStorage::new();
    let root = CacheConfig::builder(storage.clone())
        .namespace("api")
        .namespace_policy(NamespacePolicy::Replace)
        .build()
        .unwrap();
    let users = root.scoped("users");
    assert_eq!(users.namespace(), ["users"]);
    let page = StoredResponse::new(StatusCode::OK, "shared");
    users.handle().set("k", page, StoreOptions::new()).await.unwrap();
    let same = CacheConfig::builder(storage).namespace("users").build().unwrap();
    assert_eq!(same.handle().get("k").await.unwrap().unwrap().body(), "shared");
    assert!(root.handle().get("k").await.unwrap().is_none());
}

// Row 4
#[tokio::test]
async fn the_status_header_can_be_renamed_and_switched_off() {
    let renamed = memory().status_header("X-From", "memory", "handler").build().unwrap();
    let (server, _) = serve(&renamed, number);
    for expected in ["handler", "memory"] {
        let reply = server.get("/c", &[]).await;
        assert_eq!((reply.field("x-from").as_deref(), reply.cache().as_str()), (Some(expected), "-"));
    }
    let (server, runs) = serve(&memory().no_status_header().build().unwrap(), number);
    for _ in 0..2 {
        assert_eq!(get(&server, "/c").await, "200 - run 1");
    }
    assert_eq!(runs.count(), 1);
}

// Row 5
#[tokio::test]
async fn any_set_of_status_codes_is_accepted_and_can_be_read() {
    let statuses = |config: &CacheConfig| config.accepted_statuses().map(|s| s.as_u16()).collect::<Vec<_>>();
    assert_eq!(statuses(&default_cache()), [200]);
    let config = memory().statuses([203, 404, 599]).build().unwrap();
    assert_eq!(statuses(&config), [203, 404, 599]);
    let (server, _) = serve(&config, |req, run| {
        let status: u16 = req.query_string().parse().unwrap();
        HttpResponse::build(StatusCode::from_u16(status).unwrap()).body(format!("run {run}"))
    });
    assert_eq!(get(&server, "/c?404").await, "404 MISS run 1");
    assert_eq!(get(&server, "/c?404").await, "404 HIT run 1");
    assert_eq!(get(&server, "/c?599").await, "599 MISS run 2");
    assert_eq!(get(&server, "/c?599").await, "599 HIT run 2");
    assert_eq!(get(&server, "/c?200").await, "200 - run 3");
    assert_eq!(get(&server, "/c?200").await, "200 - run 4");
}

async fn needs_api_key(req: &mut ServiceRequest) -> Result<(), Error> {
    match req.headers().get("x-api-key") {
        Some(key) if key == "secret" => Ok(()),
        _ => Err(ErrorUnauthorized("an API key is needed")),
    }
}

// Row 6
#[tokio::test]
async fn each_scope_has_its_own_key_checks_fields_namespace_and_ttl() {
    let clock = ManualClock::new();
    let root = memory().namespace("api").clock(clock.clone()).build().unwrap();
    let a = root
        .scoped_builder("a")
        .key_builder(|_| "page".to_owned())
        .vary(["accept-language"])
        .ttl(Duration::from_secs(10))
        .build()
        .unwrap();
    let b = root.scoped_builder("b").guard(needs_api_key).build().unwrap();
    assert_eq!(
        (a.namespace(), b.namespace()),
        (&["api", "a"].map(String::from)[..], &["api", "b"].map(String::from)[..])
    );
    let server = Server::start(2, move || {
        let runs = Runs::new();
        let route = |runs: &Runs| {
            let runs = runs.clone();
            web::get().to(move || {
                runs.add();
                ready("page")
            })
        };
        App::new()
            .service(web::scope("/a").wrap(FastCache::new(a.clone())).route("/{id}", route(&runs)))
            .service(web::scope("/b").wrap(FastCache::new(b.clone())).route("/{id}", route(&runs)))
    });
    let key = [("x-api-key", "secret")];
    // The key builder and the fields of the one are nothing to the other.
    let first = server.get("/a/1", &[]).await;
    assert_eq!((first.cache().as_str(), first.lines("vary")), ("MISS", vec!["accept-language".to_owned()]));
    assert_eq!(server.get("/a/2", &[]).await.cache(), "HIT");
    assert_eq!(server.get("/a/2", &[("accept-language", "de")]).await.cache(), "MISS");
    // Neither are the checks of the other to the one.
    assert_eq!(server.get("/b/1", &[]).await.status, 401);
    let first = server.get("/b/1", &key).await;
    assert_eq!((first.cache().as_str(), first.lines("vary")), ("MISS", vec![]));
    assert_eq!(server.get("/b/2", &key).await.cache(), "MISS");
    assert_eq!(server.get("/b/2", &[key[0], ("accept-language", "de")]).await.cache(), "HIT");
    clock.advance(Duration::from_secs(11));
    assert_eq!(server.get("/a/1", &[]).await.cache(), "MISS");
    assert_eq!(server.get("/b/1", &key).await.cache(), "HIT");
}

// Row 7
#[tokio::test]
async fn a_scope_that_is_not_wrapped_is_untouched() {
    let (config, runs) = (default_cache(), Runs::new());
    let counted = runs.clone();
    let server = Server::start(2, move || {
        let route = || {
            let runs = counted.clone();
            web::get().to(move || ready(HttpResponse::Ok().body(format!("run {}", runs.add()))))
        };
        App::new()
            .service(web::scope("/wrapped").wrap(FastCache::new(config.clone())).route("", route()))
            .service(web::scope("/bare").route("", route()))
    });
    assert_eq!(get(&server, "/wrapped").await, "200 MISS run 1");
    for run in 2..4 {
        let reply = server.get("/bare", &[]).await;
        assert_eq!(summary(&reply), format!("200 - run {run}"));
        assert_eq!(names(&reply), ["content-length", "date"]);
    }
}

// Row 8
#[tokio::test]
async fn one_handler_on_two_paths_has_two_entries() {
    let (server, _) = serve(&default_cache(), number);
    assert_eq!(get(&server, "/c/one").await, "200 MISS run 1");
    assert_eq!(get(&server, "/c/two").await, "200 MISS run 2");
    assert_eq!(get(&server, "/c/one").await, "200 HIT run 1");
    assert_eq!(get(&server, "/c/two").await, "200 HIT run 2");
}

// Row 8; the reference gives the second body the first one's answer
#[tokio::test]
async fn a_method_with_a_body_has_that_body_in_its_key() {
    let config = memory().methods([Method::POST]).build().unwrap();
    let runs = Runs::new();
    let counted = runs.clone();
    let server = Server::start(2, move || {
        let runs = counted.clone();
        let handler =
            move |body: String| ready(HttpResponse::Ok().body(format!("run {} {body}", runs.add())));
        App::new()
            .service(web::scope("/c").wrap(FastCache::new(config.clone())).route("", web::post().to(handler)))
    });
    let post = |fields: &'static [(&str, &str)], body: &'static str| {
        let server = &server;
        async move { summary(&server.send("POST", "/c", fields, body.as_bytes()).await) }
    };
    assert_eq!(post(&[], "one").await, "200 MISS run 1 one");
    assert_eq!(post(&[], "two").await, "200 MISS run 2 two");
    assert_eq!(post(&[], "one").await, "200 HIT run 1 one");
    assert_eq!(post(&[], "two").await, "200 HIT run 2 two");
    assert_eq!(post(&[("content-type", "text/plain")], "one").await, "200 MISS run 3 one");
    assert_eq!(runs.count(), 3);
}

// ---- Checks before the lookup

/// An extractor with an error of its own.
struct Member;

impl FromRequest for Member {
    type Error = Error;
    type Future = std::future::Ready<Result<Self, Error>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        let is_member = req.headers().contains_key("x-member");
        ready(is_member.then_some(Self).ok_or_else(|| actix_web::error::ErrorForbidden("members only")))
    }
}

// Row 9
#[tokio::test]
async fn checks_run_on_hits_too_while_the_handler_does_not() {
    let checks = Runs::new();
    let counted = checks.clone();
    let config = memory()
        .require::<Member>()
        .guard(async move |_: &mut ServiceRequest| {
            counted.add();
            Ok::<(), Error>(())
        })
        .build()
        .unwrap();
    let (server, runs) = serve(&config, number);
    assert_eq!(get_with(&server, "/c", "x-member", "1").await, "200 MISS run 1");
    for _ in 0..3 {
        assert_eq!(get_with(&server, "/c", "x-member", "1").await, "200 HIT run 1");
    }
    assert_eq!((checks.count(), runs.count()), (4, 1));
    // What is stored does not let anybody past the extractor.
    assert_eq!(get(&server, "/c").await, "403 - members only");
}

#[derive(Deserialize)]
struct Page {
    #[expect(dead_code, reason = "it is there to be asked for")]
    page: u32,
}

// Row 10; the reference lets the failed validation through to the handler
#[tokio::test]
async fn a_failing_check_answers_and_the_cache_is_not_touched() {
    let spy = Spy::default();
    let config =
        CacheConfig::builder(spy.clone()).require::<web::Query<Page>>().guard(needs_api_key).build().unwrap();
    let (server, runs) = serve(&config, number);
    let invalid = server.get("/c?page=x", &[("x-api-key", "secret")]).await;
    assert_eq!((invalid.status, invalid.cache().as_str()), (400, "-"));
    assert_eq!(get(&server, "/c?page=1").await, "401 - an API key is needed");
    assert_eq!((runs.count(), spy.reads.count(), spy.writes.count()), (0, 0, 0));
    assert_eq!(get_with(&server, "/c?page=1", "x-api-key", "secret").await, "200 MISS run 1");
    assert_eq!(get(&server, "/c?page=1").await, "401 - an API key is needed");
}

/// An extractor that holds a lock as long as it lives.
struct Connection(#[expect(dead_code, reason = "it is held, not used")] OwnedMutexGuard<()>);

impl FromRequest for Connection {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        let pool = req.app_data::<Arc<tokio::sync::Mutex<()>>>().cloned().expect("a pool");
        Box::pin(async move {
            let held = pool.lock_owned().await;
            tokio::task::yield_now().await;
            Ok(Self(held))
        })
    }
}

// Row 11
#[tokio::test]
async fn what_an_async_check_holds_is_released_before_the_lookup() {
    let pool = Arc::new(tokio::sync::Mutex::new(()));
    let spy = Spy { free: Some(Arc::clone(&pool)), ..Spy::default() };
    let in_check = Arc::clone(&pool);
    let config = CacheConfig::builder(spy.clone())
        .require::<Connection>()
        .guard(async move |_: &mut ServiceRequest| {
            let _held = in_check.lock().await;
            tokio::task::yield_now().await;
            Ok::<(), Error>(())
        })
        .build()
        .unwrap();
    let server = Server::start(2, move || {
        App::new().app_data(Arc::clone(&pool)).service(
            web::scope("/c")
                .wrap(FastCache::new(config.clone()))
                .route("", web::get().to(|_: Connection| ready("held by the handler"))),
        )
    });
    assert_eq!(soon(get(&server, "/c")).await, "200 MISS held by the handler");
    assert_eq!(soon(get(&server, "/c")).await, "200 HIT held by the handler");
    let was_free = spy.was_free.lock().unwrap().clone();
    assert!(was_free.len() >= 2 && was_free.iter().all(|free| *free), "{was_free:?}");
}

// ---- Default key

// Row 12
#[tokio::test]
async fn get_and_head_share_an_entry_and_other_methods_have_their_own() {
    let config = memory().methods([Method::POST, Method::PUT]).build().unwrap();
    let (server, runs) = serve(&config, number);
    assert_eq!(get(&server, "/c").await, "200 MISS run 1");
    let head = server.send("HEAD", "/c", &[], b"").await;
    assert_eq!(summary(&head), "200 HIT ");
    assert_eq!(head.field("content-length").as_deref(), Some("5"));
    for (method, run) in [("POST", 2), ("PUT", 3)] {
        for cache in ["MISS", "HIT"] {
            let reply = server.send(method, "/c", &[], b"").await;
            assert_eq!(summary(&reply), format!("200 {cache} run {run}"));
        }
    }
    assert_eq!(get(&server, "/c").await, "200 HIT run 1");
    assert_eq!(runs.count(), 3);
}

// Row 12; the reference gives one host's page to the other
#[tokio::test]
async fn host_path_and_query_each_tell_entries_apart() {
    let (server, _) = serve(&default_cache(), number);
    let asked = [
        ("/c/a", "one.example"),
        ("/c/a", "two.example"),
        ("/c/b", "one.example"),
        ("/c/a?q=1", "one.example"),
        ("/c/a?q=2", "one.example"),
        ("/c/A", "one.example"),
        ("/c/a/", "one.example"),
    ];
    for cache in ["MISS", "HIT"] {
        for (run, (target, host)) in (1..).zip(asked) {
            assert_eq!(get_with(&server, target, "host", host).await, format!("200 {cache} run {run}"));
        }
    }
}

// Row 12
#[actix_web::test]
async fn the_scheme_tells_entries_apart() {
    let (config, runs) = (default_cache(), Runs::new());
    let over = async |secure: bool| {
        let runs = runs.clone();
        let handler = move |req: HttpRequest| {
            runs.add();
            ready(req.connection_info().scheme().to_owned())
        };
        let app = App::new()
            .service(web::scope("/c").wrap(FastCache::new(config.clone())).route("", web::get().to(handler)));
        let listening =
            AppConfig::__priv_test_new(secure, "test.example".into(), ([127, 0, 0, 1], 443).into());
        let service = app.into_factory().new_service(listening).await.unwrap();
        let response = service.call(test::TestRequest::get().uri("/c").to_request()).await.unwrap();
        test::read_body(response).await
    };
    for _ in 0..2 {
        assert_eq!(over(false).await, "http");
        assert_eq!(over(true).await, "https");
    }
    assert_eq!(runs.count(), 2);
    // The same through a proxy that speaks TLS for the application.
    let (server, _) = serve(&default_cache(), number);
    assert_eq!(get(&server, "/c").await, "200 MISS run 1");
    assert_eq!(get_with(&server, "/c", "x-forwarded-proto", "https").await, "200 MISS run 2");
    assert_eq!(get_with(&server, "/c", "x-forwarded-proto", "https").await, "200 HIT run 2");
}

// Row 13; the reference decodes, and makes one of them
#[tokio::test]
async fn the_path_is_keyed_as_sent() {
    let (server, _) = serve(&default_cache(), number);
    assert_eq!(get(&server, "/c/b%2Fc").await, "200 MISS run 1");
    assert_eq!(get(&server, "/c/b/c").await, "200 MISS run 2");
    assert_eq!(get(&server, "/c/b%2Fc").await, "200 HIT run 1");
}

// Row 13
#[tokio::test]
async fn path_parameters_are_in_the_key() {
    let config = default_cache();
    let server = Server::start(2, move || {
        let show = |path: web::Path<(u32, String)>| ready(format!("{} {}", path.0, path.1));
        App::new().service(
            web::scope("/users/{id}")
                .wrap(FastCache::new(config.clone()))
                .route("/{part}", web::get().to(show)),
        )
    });
    for cache in ["MISS", "HIT"] {
        assert_eq!(get(&server, "/users/1/name").await, format!("200 {cache} 1 name"));
        assert_eq!(get(&server, "/users/2/name").await, format!("200 {cache} 2 name"));
        assert_eq!(get(&server, "/users/1/mail").await, format!("200 {cache} 1 mail"));
    }
}

// Row 14
#[tokio::test]
async fn query_order_matters_between_repeats_of_one_name_only() {
    let (server, _) = serve(&default_cache(), number);
    assert_eq!(get(&server, "/c?a=1&b=2").await, "200 MISS run 1");
    assert_eq!(get(&server, "/c?b=2&a=1").await, "200 HIT run 1");
    assert_eq!(get(&server, "/c?a=1&a=2").await, "200 MISS run 2");
    assert_eq!(get(&server, "/c?a=2&a=1").await, "200 MISS run 3");
    assert_eq!(get(&server, "/c?a=1").await, "200 MISS run 4");
    assert_eq!(get(&server, "/c?a=1&a=1").await, "200 MISS run 5");
    assert_eq!(get(&server, "/c?a=1&b=3&a=2").await, "200 MISS run 6");
    assert_eq!(get(&server, "/c?b=3&a=1&a=2").await, "200 HIT run 6");
}

// Row 14
#[tokio::test]
async fn absent_and_empty_parameters_differ() {
    let (server, _) = serve(&default_cache(), number);
    for (run, target) in (1..).zip(["/c", "/c?", "/c?a", "/c?a=", "/c?a=1", "/c?a=1&b="]) {
        assert_eq!(get(&server, target).await, format!("200 MISS run {run}"), "{target}");
    }
}

// Row 15; the reference keys declared parameters only
#[tokio::test]
async fn parameters_that_no_handler_declares_are_keyed_too() {
    let config = default_cache();
    let server = Server::start(2, move || {
        let echo = |req: HttpRequest| ready(req.query_string().to_owned());
        App::new()
            .service(web::scope("/c").wrap(FastCache::new(config.clone())).route("", web::get().to(echo)))
    });
    assert_eq!(get(&server, "/c?undeclared=1").await, "200 MISS undeclared=1");
    assert_eq!(get(&server, "/c?undeclared=2").await, "200 MISS undeclared=2");
}

// Row 15
#[tokio::test]
async fn parameters_can_be_allowed_ignored_and_rid_of_trackers() {
    let server = |query| serve(&memory().query(query).build().unwrap(), number).0;
    let only = server(QueryKey::only(["q"]));
    assert_eq!(get(&only, "/c?q=1&x=1").await, "200 MISS run 1");
    assert_eq!(get(&only, "/c?x=2&q=1").await, "200 HIT run 1");
    assert_eq!(get(&only, "/c?q=2&x=1").await, "200 MISS run 2");
    let except = server(QueryKey::except(["session", "debug_*"]));
    assert_eq!(get(&except, "/c?q=1&session=7&debug_sql=1").await, "200 MISS run 1");
    assert_eq!(get(&except, "/c?q=1&session=8").await, "200 HIT run 1");
    assert_eq!(get(&except, "/c?q=1&sessions=8").await, "200 MISS run 2");
    let trackers = server(QueryKey::without_tracking());
    assert_eq!(get(&trackers, "/c?q=1&utm_source=letter&fbclid=abc").await, "200 MISS run 1");
    assert_eq!(get(&trackers, "/c?gclid=x&q=1").await, "200 HIT run 1");
    assert_eq!(get(&trackers, "/c?q=2&utm_source=letter").await, "200 MISS run 2");
}

#[derive(Deserialize, Serialize)]
struct Search {
    a: String,
    #[serde(default = "default_b")]
    b: String,
}

fn default_b() -> String {
    "b".to_owned()
}

// Row 15
#[tokio::test]
async fn a_typed_query_counts_defaults_as_given() {
    let (server, _) = serve(&memory().query(QueryKey::typed::<Search>()).build().unwrap(), number);
    assert_eq!(get(&server, "/c?a=a").await, "200 MISS run 1");
    assert_eq!(get(&server, "/c?a=a&b=b").await, "200 HIT run 1");
    assert_eq!(get(&server, "/c?unknown=1&b=b&a=%61").await, "200 HIT run 1");
    assert_eq!(get(&server, "/c?a=a&b=c").await, "200 MISS run 2");
    // It has no key; the handler says what is wrong with it.
    assert_eq!(get(&server, "/c?b=b").await, "200 - run 3");
}

// Row 16
#[tokio::test]
async fn vary_fields_are_cleaned_keyed_and_merged_after_the_answers_own() {
    let vary = [" Accept-Language ", "", "ACCEPT-LANGUAGE", "X-Kind", "  ", "Origin"];
    let (server, _) = serve(&memory().vary(vary).build().unwrap(), |_, run| {
        HttpResponse::Ok().insert_header(("vary", "Origin, Accept")).body(format!("run {run}"))
    });
    for cache in ["MISS", "HIT"] {
        let reply = server.get("/c", &[("accept-language", "de")]).await;
        assert_eq!(summary(&reply), format!("200 {cache} run 1"));
        assert_eq!(reply.lines("vary").join(", "), "Origin, Accept, accept-language, x-kind");
    }
    assert_eq!(get_with(&server, "/c", "accept-language", "fr").await, "200 MISS run 2");
    assert_eq!(get(&server, "/c").await, "200 MISS run 3");
    assert_eq!(get_with(&server, "/c", "accept-language", "").await, "200 MISS run 4");
    assert_eq!(get(&server, "/c").await, "200 HIT run 3");
    assert_eq!(get_with(&server, "/c", "x-kind", "a").await, "200 MISS run 5");
    assert_eq!(get_with(&server, "/c", "accept-language", "de").await, "200 HIT run 1");
}

/// A server with users by id, cached on their resource.
fn users(config: &CacheConfig) -> Server {
    let (config, runs) = (config.clone(), Runs::new());
    Server::start(2, move || {
        let runs = runs.clone();
        let show = move |id: web::Path<u32>| ready(format!("run {} user {id}", runs.add()));
        App::new()
            .service(web::resource("/users/{id}").wrap(FastCache::new(config.clone())).route(web::to(show)))
    })
}

fn user_key(id: &str) -> String {
    format!("user:{id}")
}

// Row 17
#[tokio::test]
async fn a_key_builders_name_stands_for_the_url_and_the_rest_stays() {
    let config = memory()
        .methods([Method::POST])
        .vary(["accept-language"])
        .key_builder(|req| req.match_info().get("id").map(user_key))
        .build()
        .unwrap();
    let server = users(&config);
    assert_eq!(get(&server, "/users/7").await, "200 MISS run 1 user 7");
    assert_eq!(get(&server, "/users/7?any=1").await, "200 HIT run 1 user 7");
    assert_eq!(get_with(&server, "/users/7", "host", "other.example").await, "200 HIT run 1 user 7");
    assert_eq!(get(&server, "/users/8").await, "200 MISS run 2 user 8");
    assert_eq!(get_with(&server, "/users/7", "accept-language", "de").await, "200 MISS run 3 user 7");
    let post = server.send("POST", "/users/7", &[], b"").await;
    assert_eq!(summary(&post), "200 MISS run 4 user 7");
}

// Row 17
#[tokio::test]
async fn a_key_part_is_added_and_the_url_stays() {
    let config = memory()
        .key_part(|req| req.headers().get("x-tenant")?.to_str().ok().map(str::to_owned))
        .build()
        .unwrap();
    let (server, _) = serve(&config, number);
    assert_eq!(get_with(&server, "/c/1", "x-tenant", "a").await, "200 MISS run 1");
    assert_eq!(get_with(&server, "/c/1", "x-tenant", "b").await, "200 MISS run 2");
    assert_eq!(get_with(&server, "/c/2", "x-tenant", "a").await, "200 MISS run 3");
    assert_eq!(get_with(&server, "/c/1", "x-tenant", "a").await, "200 HIT run 1");
    // Without a tenant there is no key, and no cache.
    assert_eq!(get(&server, "/c/1").await, "200 - run 4");
}

// Row 17
#[tokio::test]
async fn replacing_the_whole_key_is_a_call_of_its_own() {
    let config = memory()
        .methods([Method::POST])
        .vary(["accept-language"])
        .replace_key(|req| req.match_info().get("id").map(user_key))
        .build()
        .unwrap();
    let server = users(&config);
    assert_eq!(get(&server, "/users/7").await, "200 MISS run 1 user 7");
    assert_eq!(get_with(&server, "/users/7", "accept-language", "de").await, "200 HIT run 1 user 7");
    let post = server.send("POST", "/users/7", &[], b"body").await;
    assert_eq!(summary(&post), "200 HIT run 1 user 7");
    assert_eq!(get(&server, "/users/8").await, "200 MISS run 2 user 8");
}

// Row 18
#[tokio::test]
async fn a_built_key_can_be_rebuilt_elsewhere_to_invalidate() {
    let config = memory()
        .namespace("api")
        .key_builder(|req| req.match_info().get("id").map(user_key))
        .build()
        .unwrap();
    let name = Arc::new(Mutex::new("Ann".to_owned()));
    let (cache, stored) = (config.clone(), Arc::clone(&name));
    let server = Server::start(2, move || {
        let (read, write) = (Arc::clone(&stored), Arc::clone(&stored));
        let show = move |_: web::Path<u32>| ready(read.lock().unwrap().clone());
        let rename = move |id: web::Path<String>, body: String, cache: CacheControl| {
            *write.lock().unwrap() = body;
            async move { Ok::<_, Error>(cache.invalidate(&user_key(&id)).await?.to_string()) }
        };
        App::new().service(
            web::resource("/users/{id}")
                .wrap(FastCache::new(cache.clone()))
                .route(web::get().to(show))
                .route(web::patch().to(rename)),
        )
    });
    assert_eq!(get(&server, "/users/7").await, "200 MISS Ann");
    assert_eq!(get(&server, "/users/7").await, "200 HIT Ann");
    assert_eq!(server.send("PATCH", "/users/7", &[], b"Bea").await.text(), "1");
    assert_eq!(get(&server, "/users/7").await, "200 MISS Bea");
    *name.lock().unwrap() = "Cid".to_owned();
    assert_eq!(get(&server, "/users/7").await, "200 HIT Bea");
    // And outside any request.
    assert_eq!(config.handle().invalidate(&user_key("7")).await.unwrap(), 1);
    assert_eq!(get(&server, "/users/7").await, "200 MISS Cid");
}

// ---- Hit

/// Every byte there is.
fn all_bytes() -> Bytes {
    (0..=u8::MAX).collect()
}

// Row 19
#[tokio::test]
async fn a_hit_replays_status_fields_and_body_byte_for_byte() {
    let config = memory().statuses([203]).build().unwrap();
    let (server, runs) = serve(&config, |_, _| {
        HttpResponse::NonAuthoritativeInformation()
            .append_header(("x-list", "first"))
            .append_header(("x-list", ""))
            .append_header(("x-list", "first"))
            .append_header(("x-list", "last"))
            .append_header(("x-bytes", HeaderValue::from_bytes(b"caf\xe9").unwrap()))
            .append_header(("x-cache", "the handler's own"))
            .append_header(("x-cache", "twice"))
            .content_type("application/x-own")
            .body(all_bytes())
    });
    let (miss, hit) = (server.get("/c", &[]).await, server.get("/c", &[]).await);
    assert_eq!(runs.count(), 1);
    assert_eq!((miss.lines("x-cache"), hit.lines("x-cache")), (vec!["MISS".into()], vec!["HIT".into()]));
    for reply in [&miss, &hit] {
        assert_eq!(reply.status, 203);
        assert_eq!(reply.lines("x-list"), ["first", "", "first", "last"]);
        assert!(reply.fields.contains(&("x-bytes".to_owned(), b"caf\xe9".to_vec())));
        assert_eq!(reply.body, all_bytes());
    }
    let others = |reply: &Reply| {
        let own = |name: &str| !matches!(name, "x-cache" | "age");
        let mut fields: Vec<_> = reply.fields.iter().filter(|(name, _)| own(name)).cloned().collect();
        fields.sort();
        fields
    };
    assert_eq!(others(&miss), others(&hit));
}

// Row 20; in the reference one 304 empties the stored body for everyone
#[tokio::test]
async fn ten_thousand_replays_leave_the_entry_as_it_was() {
    let spy = Spy::default();
    let (server, runs) = serve(&CacheConfig::builder(spy.clone()).build().unwrap(), |_, _| {
        HttpResponse::Ok()
            .insert_header(("etag", "\"v1\""))
            .insert_header(("last-modified", "Sat, 01 Jan 2022 00:00:00 GMT"))
            .body(all_bytes())
    });
    assert_eq!(server.get("/c", &[]).await.cache(), "MISS");
    assert_eq!(server.get("/c", &[]).await.cache(), "HIT");
    let before = spy.last();
    let bytes = before.to_bytes().unwrap();
    let mixed: [(u16, &[(&str, &str)]); 5] = [
        (304, &[("if-none-match", "\"v1\"")]),
        (200, &[]),
        (200, &[("if-none-match", "\"v2\"")]),
        (304, &[("if-modified-since", "Sat, 01 Jan 2022 00:00:00 GMT")]),
        (206, &[("range", "bytes=1-2")]),
    ];
    let mixed = mixed.map(|(status, fields)| (status, request("GET", "/c", fields, b"")));
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    for (status, bytes) in mixed.iter().cycle().take(10_000) {
        stream.write_all(bytes).await.unwrap();
        let reply = Reply::read(&mut stream, false).await.unwrap();
        assert_eq!((reply.status, reply.cache().as_str()), (*status, "HIT"));
        match status {
            200 => assert_eq!(reply.body, all_bytes()),
            206 => assert_eq!(reply.body, [1, 2]),
            _ => assert!(reply.body.is_empty()),
        }
    }
    assert_eq!((runs.count(), spy.writes.count()), (1, 1));
    assert_eq!(spy.last().to_bytes().unwrap(), bytes);
    assert_eq!(spy.last(), before);
}

// Row 21
#[tokio::test]
async fn age_is_sent_on_hits() {
    let clock = ManualClock::new();
    let (server, _) = serve(&memory().clock(clock.clone()).build().unwrap(), |req, run| {
        let mut response = HttpResponse::Ok();
        if req.query_string() == "old" {
            response.insert_header(("age", "5")).insert_header(("cache-control", "max-age=60"));
        }
        response.body(format!("run {run}"))
    });
    let age = async |target| server.get(target, &[]).await.field("age");
    assert_eq!((age("/c").await, age("/c?old").await.as_deref()), (None, Some("5")));
    assert_eq!((age("/c").await.as_deref(), age("/c?old").await.as_deref()), (Some("0"), Some("5")));
    clock.advance(Duration::from_secs(7));
    assert_eq!((age("/c").await.as_deref(), age("/c?old").await.as_deref()), (Some("7"), Some("12")));
}

// Row 21: so that an age counted from the date is not older than the `Age` beside it (RFC 9110 section 6.6.1)
#[tokio::test]
async fn an_answer_without_a_date_is_dated_when_it_was_received() {
    let clock = ManualClock::new();
    let hands = clock.clone();
    let (server, _) = serve(&memory().clock(clock).build().unwrap(), move |_, run| {
        // A slow handler.
        hands.advance(Duration::from_secs(5));
        HttpResponse::Ok().body(format!("run {run}"))
    });
    server.get("/c", &[]).await;
    let hit = server.get("/c", &[]).await;
    assert_eq!(hit.field("age").as_deref(), Some("0"));
    assert_eq!(hit.field("date").as_deref(), Some("Thu, 01 Jan 2026 00:00:05 GMT"));
}

// Row 21
#[tokio::test]
async fn fields_of_the_connection_are_not_stored() {
    let config = memory().key_builder(|_| "page".to_owned()).build().unwrap();
    let (server, _) = serve(&config, |_, _| {
        let mut response = HttpResponse::Ok();
        for (name, value) in [
            ("connection", "x-hop, keep-alive"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-authenticate", "Basic"),
            ("te", "trailers"),
            ("trailer", "x-sum"),
            ("upgrade", "h2c"),
            ("x-end", "2"),
        ] {
            response.append_header((name, value));
        }
        response.body("page")
    });
    server.get("/c", &[]).await;
    let hit = server.get("/c", &[]).await;
    assert_eq!(summary(&hit), "200 HIT page");
    assert_eq!(names(&hit), ["age", "content-length", "date", "etag", "x-cache", "x-end"]);
    let stored = config.handle().get("page").await.unwrap().unwrap();
    let mut kept: Vec<&str> = stored.headers().map(|(name, _)| name.as_str()).collect();
    kept.sort_unstable();
    assert_eq!(kept, ["date", "etag", "x-end"]);
}

// ---- Miss and store

// Row 22
#[tokio::test]
async fn an_answer_with_another_status_passes_untouched() {
    let config = memory().vary(["accept-language"]).build().unwrap();
    let missing = || ready(HttpResponse::NotFound().insert_header(("x-own", "1")).body("nothing here"));
    let server = Server::start(2, move || {
        App::new()
            .service(web::scope("/c").wrap(FastCache::new(config.clone())).route("", web::get().to(missing)))
            .service(web::scope("/bare").route("", web::get().to(missing)))
    });
    let bare = server.get("/bare", &[]).await;
    for _ in 0..2 {
        let reply = server.get("/c", &[]).await;
        assert_eq!(summary(&reply), "404 - nothing here");
        assert_eq!(names(&reply), names(&bare));
    }
}

// Row 23
#[tokio::test]
async fn a_handlers_error_is_never_stored_whatever_its_status() {
    let config = memory().statuses([200, 404]).build().unwrap();
    let runs = Runs::new();
    let counted = runs.clone();
    let server = Server::start(2, move || {
        let runs = counted.clone();
        let fails = move |status: web::Path<u16>| {
            runs.add();
            let status = StatusCode::from_u16(*status).unwrap();
            ready(Err::<&str, Error>(InternalError::new("failed", status).into()))
        };
        App::new().service(
            web::scope("/c").wrap(FastCache::new(config.clone())).route("/{status}", web::get().to(fails)),
        )
    });
    for status in [200, 404, 500] {
        for _ in 0..2 {
            assert_eq!(get(&server, &format!("/c/{status}")).await, format!("{status} - failed"));
        }
    }
    assert_eq!(runs.count(), 6);
}

// Row 24
#[tokio::test]
async fn vary_with_a_star_anywhere_is_not_stored() {
    let (server, runs) = serve(&default_cache(), |req, run| {
        let mut response = HttpResponse::Ok();
        for line in req.query_string().split(';') {
            response.append_header(("vary", line));
        }
        response.body(format!("run {run}"))
    });
    for target in ["/c?*", "/c?accept,*", "/c?accept;*", "/c?*;accept,origin"] {
        for _ in 0..2 {
            assert!(get(&server, target).await.starts_with("200 - run"), "{target}");
        }
    }
    assert_eq!(runs.count(), 8);
}

// Row 25
#[tokio::test]
async fn an_etag_made_of_the_body_is_added_on_the_miss_too() {
    let (server, _) = serve(&default_cache(), |req, _| HttpResponse::Ok().body(req.path().to_owned()));
    let digest: String = Sha256::digest("/c/a").iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let expected = Some(format!("W/\"{digest}\""));
    let (miss, hit) = (server.get("/c/a", &[]).await, server.get("/c/a", &[]).await);
    assert_eq!((miss.cache().as_str(), miss.field("etag")), ("MISS", expected.clone()));
    assert_eq!((hit.cache().as_str(), hit.field("etag")), ("HIT", expected.clone()));
    assert_eq!(hit.lines("etag").len(), 1);
    assert_ne!(server.get("/c/b", &[]).await.field("etag"), expected);
}

// Row 25
#[tokio::test]
async fn the_handlers_own_etag_is_kept() {
    let (server, _) = serve(&default_cache(), |req, _| {
        let etag = if req.path().ends_with("weak") { "W/\"own\"" } else { "\"own\"" };
        HttpResponse::Ok().insert_header(("etag", etag)).body("page")
    });
    for (target, etag) in [("/c/weak", "W/\"own\""), ("/c/strong", "\"own\"")] {
        for cache in ["MISS", "HIT"] {
            let reply = server.get(target, &[]).await;
            assert_eq!((reply.cache().as_str(), reply.lines("etag")), (cache, vec![etag.to_owned()]));
        }
    }
}

// Row 26
#[tokio::test]
async fn the_stored_copy_has_no_status_field() {
    let config = memory().key_builder(|_| "page".to_owned()).build().unwrap();
    let (server, _) = serve(&config, |_, _| {
        HttpResponse::Ok().insert_header(("x-cache", "HIT from elsewhere")).body("page")
    });
    assert_eq!(server.get("/c", &[]).await.lines("x-cache"), ["MISS"]);
    let stored = config.handle().get("page").await.unwrap().unwrap();
    assert_eq!((stored.header("x-cache"), stored.body().as_ref()), (None, b"page".as_slice()));
}

// Row 27; the reference stores them all
#[tokio::test]
async fn what_the_handler_forbids_to_store_is_not_stored() {
    let (server, runs) = serve(&default_cache(), |req, run| {
        let (name, value) = match req.path() {
            "/c/no-store" => ("cache-control", "max-age=60, no-store"),
            "/c/private" => ("cache-control", "Private, max-age=60"),
            "/c/zero" => ("cache-control", "max-age=0"),
            "/c/s-zero" => ("cache-control", "max-age=60, s-maxage=0"),
            "/c/expired" => ("expires", "Thu, 01 Jan 1970 00:00:00 GMT"),
            "/c/never" => ("expires", "0"),
            _ => ("set-cookie", "session=1"),
        };
        HttpResponse::Ok().insert_header((name, value)).body(format!("run {run}"))
    });
    for what in ["no-store", "private", "zero", "s-zero", "expired", "never", "cookie"] {
        for _ in 0..2 {
            assert!(get(&server, &format!("/c/{what}")).await.starts_with("200 - run"), "{what}");
        }
    }
    assert_eq!(runs.count(), 14);
}

// Row 27
#[tokio::test]
async fn answers_that_set_cookies_are_stored_on_request_only() {
    let login = |_: &HttpRequest, run: usize| {
        HttpResponse::Ok().insert_header(("set-cookie", format!("session={run}"))).body("page")
    };
    let server = |policy| serve(&memory().set_cookie(policy).build().unwrap(), login).0;
    let cookies = async |server: &Server| {
        let reply = server.get("/c", &[]).await;
        (reply.cache(), reply.lines("set-cookie").join(";"))
    };
    let told = |cache: &str, cookies: &str| (cache.to_owned(), cookies.to_owned());
    let strip = server(SetCookiePolicy::Strip);
    assert_eq!(cookies(&strip).await, told("MISS", "session=1"));
    assert_eq!(cookies(&strip).await, told("HIT", ""));
    let keep = server(SetCookiePolicy::Keep);
    assert_eq!(cookies(&keep).await, told("MISS", "session=1"));
    assert_eq!(cookies(&keep).await, told("HIT", "session=1"));
}

// Row 28; in the reference zero is for ever
#[tokio::test]
async fn ttl_is_set_per_scope_and_per_answer_and_zero_does_not_store() {
    let clock = ManualClock::new();
    let root = memory().clock(clock.clone()).build().unwrap();
    let scope =
        |name: &str, seconds| root.scoped_builder(name).ttl(Duration::from_secs(seconds)).build().unwrap();
    let (ten, zero) = (scope("ten", 10), scope("zero", 0));
    let server = Server::start(2, move || {
        let runs = Runs::new();
        let handler = || {
            let runs = runs.clone();
            move |cache: CacheControl, seconds: Option<web::Path<u64>>| {
                runs.add();
                if let Some(seconds) = seconds {
                    cache.ttl(Duration::from_secs(*seconds));
                }
                ready("page")
            }
        };
        let scope = |path: &str, config: &CacheConfig| {
            web::scope(path)
                .wrap(FastCache::new(config.clone()))
                .route("", web::get().to(handler()))
                .route("/{seconds}", web::get().to(handler()))
        };
        App::new().service(scope("/ten", &ten)).service(scope("/zero", &zero))
    });
    let cache = async |target| server.get(target, &[]).await.cache();
    for target in ["/ten", "/ten/20", "/zero/20"] {
        assert_eq!((cache(target).await, cache(target).await), ("MISS".into(), "HIT".into()), "{target}");
    }
    for target in ["/ten/0", "/zero", "/zero/0"] {
        assert_eq!((cache(target).await, cache(target).await), ("-".into(), "-".into()), "{target}");
    }
    clock.advance(Duration::from_secs(9));
    assert_eq!((cache("/ten").await, cache("/ten/20").await), ("HIT".into(), "HIT".into()));
    clock.advance(Duration::from_secs(2));
    assert_eq!((cache("/ten").await, cache("/ten/20").await), ("MISS".into(), "HIT".into()));
    clock.advance(Duration::from_secs(10));
    assert_eq!((cache("/zero/20").await, cache("/ten/20").await), ("MISS".into(), "MISS".into()));
}

// ---- Conditional requests

/// A page with every field a 304 may and may not have.
fn validated(req: &HttpRequest, _: usize) -> HttpResponse {
    let etag = if req.path().ends_with("weak") { "W/\"a,b\"" } else { "\"a,b\"" };
    let mut response = HttpResponse::Ok();
    for (name, value) in [
        ("etag", etag),
        ("last-modified", "Sat, 01 Jan 2022 00:00:00 GMT"),
        ("cache-control", "max-age=60"),
        ("content-location", "/c/page"),
        ("expires", "Fri, 01 Jan 2100 00:00:00 GMT"),
        ("vary", "accept"),
        ("content-language", "en"),
        ("x-own", "1"),
    ] {
        response.insert_header((name, value));
    }
    response.content_type("text/plain").body("page")
}

// Row 29; the reference splits at the comma inside the quotes
#[tokio::test]
async fn if_none_match_is_read_as_a_list_of_quoted_tags() {
    let (server, runs) = serve(&default_cache(), validated);
    for target in ["/c/weak", "/c/strong"] {
        assert_eq!(server.get(target, &[]).await.cache(), "MISS");
        let matching =
            ["\"a,b\"", "W/\"a,b\"", "*", "\"x\", \"a,b\"", "\"x\",W/\"y\" , W/\"a,b\"", "\"\", , \"a,b\""];
        for tags in matching {
            assert_eq!(get_with(&server, target, "if-none-match", tags).await, "304 HIT ", "{tags}");
        }
        let others = ["\"x\"", "a,b", "\"a\"", "a", "\"a\",\"b\"", "\"a,b", "w/\"a,b\"", "\"A,B\"", "\"*\""];
        for tags in others {
            assert_eq!(get_with(&server, target, "if-none-match", tags).await, "200 HIT page", "{tags}");
        }
    }
    // Lines are one list.
    let lines = [("if-none-match", "\"x\""), ("if-none-match", "\"a,b\"")];
    assert_eq!(server.get("/c/weak", &lines).await.status, 304);
    assert_eq!(runs.count(), 2);
}

// Row 29
#[tokio::test]
async fn a_304_is_empty_and_has_the_fields_of_rfc_9110_only() {
    let (server, _) = serve(&default_cache(), validated);
    let page = server.get("/c", &[]).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let twice = request("GET", "/c", &[("if-none-match", "\"a,b\"")], b"").repeat(2);
    stream.write_all(&twice).await.unwrap();
    let mut read = vec![0; 64 << 10];
    let mut len = 0;
    while read[..len].windows(4).filter(|end| *end == b"\r\n\r\n").count() < 2 {
        len += soon(stream.read(&mut read[len..])).await.unwrap();
    }
    // Nothing between the head of the first and the next answer, and nothing after it.
    let text = String::from_utf8(read[..len].to_vec()).unwrap();
    let heads: Vec<&str> = text.split_terminator("\r\n\r\n").collect();
    assert_eq!(heads.len(), 2);
    assert!(heads.iter().all(|head| head.starts_with("HTTP/1.1 304 ")));
    let reply = server.get("/c", &[("if-none-match", "\"a,b\"")]).await;
    // Age belongs to every answer that is reused (RFC 9111 section 4).
    let allowed = ["age", "cache-control", "content-location", "date", "etag", "expires", "vary", "x-cache"];
    assert_eq!(names(&reply), allowed);
    for name in ["cache-control", "content-location", "date", "etag", "expires", "vary"] {
        assert_eq!(reply.lines(name), page.lines(name));
    }
}

// Row 30
#[tokio::test]
async fn if_modified_since_counts_where_there_is_no_if_none_match() {
    let (server, _) = serve(&default_cache(), validated);
    server.get("/c", &[]).await;
    let since = |date| ("if-modified-since", date);
    let then = since("Sat, 01 Jan 2022 00:00:00 GMT");
    let before = since("Fri, 31 Dec 2021 23:59:59 GMT");
    let ask = async |fields: &[(&str, &str)]| server.get("/c", fields).await.status;
    assert_eq!(ask(&[then]).await, 304);
    assert_eq!(ask(&[since("Sun, 02 Jan 2022 00:00:00 GMT")]).await, 304);
    assert_eq!(ask(&[before]).await, 200);
    assert_eq!(ask(&[since("yesterday")]).await, 200);
    assert_eq!(ask(&[then, ("if-none-match", "\"x\"")]).await, 200);
    assert_eq!(ask(&[before, ("if-none-match", "\"a,b\"")]).await, 304);
    let head = server.send("HEAD", "/c", &[then], b"").await;
    assert_eq!((head.status, head.cache().as_str()), (304, "HIT"));
}

// Row 30
#[tokio::test]
async fn conditions_are_answered_on_the_request_that_fills_the_cache_too() {
    let (server, runs) = serve(&default_cache(), validated);
    assert_eq!(get_with(&server, "/c/1", "if-none-match", "\"a,b\"").await, "304 MISS ");
    let since = "Sat, 01 Jan 2022 00:00:00 GMT";
    assert_eq!(get_with(&server, "/c/2", "if-modified-since", since).await, "304 MISS ");
    // The whole answer was stored, for everybody.
    assert_eq!(get(&server, "/c/1").await, "200 HIT page");
    assert_eq!(get(&server, "/c/2").await, "200 HIT page");
    assert_eq!(runs.count(), 2);
    // So is it where the tag is the cache's own.
    let (server, _) = serve(&default_cache(), |_, _| HttpResponse::Ok().body("page"));
    let etag = server.get("/c/1", &[]).await.field("etag").unwrap();
    assert_eq!(get_with(&server, "/c/2", "if-none-match", &etag).await, "304 MISS ");
    assert_eq!(get(&server, "/c/2").await, "200 HIT page");
}

// Row 30
#[tokio::test]
async fn conditions_hold_for_get_and_head_of_a_200_only() {
    let config = memory().methods([Method::POST]).statuses([200, 404]).build().unwrap();
    let (server, _) = serve(&config, |req, _| {
        let status = if req.path() == "/c/missing" { 404 } else { 200 };
        HttpResponse::build(StatusCode::from_u16(status).unwrap())
            .insert_header(("etag", "\"v1\""))
            .insert_header(("last-modified", "Sat, 01 Jan 2022 00:00:00 GMT"))
            .body("page")
    });
    let conditions = [("if-none-match", "\"v1\""), ("if-modified-since", "Sun, 02 Jan 2022 00:00:00 GMT")];
    for cache in ["MISS", "HIT", "HIT"] {
        for condition in conditions {
            let post = server.send("POST", &format!("/c?{}", condition.0), &[condition], b"").await;
            assert_eq!(summary(&post), format!("200 {cache} page"));
            let missing = server.get(&format!("/c/missing?{}", condition.0), &[condition]).await;
            assert_eq!(summary(&missing), format!("404 {cache} page"));
        }
    }
}

// ---- Streaming

type Chunk = Result<Bytes, io::Error>;

/// Bodies that the test writes chunk by chunk, one for each run.
#[derive(Clone, Default)]
struct Pens(Arc<Mutex<VecDeque<mpsc::UnboundedReceiver<Chunk>>>>);

impl Pens {
    fn next(&self) -> mpsc::UnboundedSender<Chunk> {
        let (pen, body) = mpsc::unbounded_channel();
        self.0.lock().unwrap().push_back(body);
        pen
    }

    fn answer(&self, content_type: &'static str) -> HttpResponse {
        let body = self.0.lock().unwrap().pop_front().expect("a body for this run");
        let chunks = futures_util::stream::unfold(body, async |mut body| Some((body.recv().await?, body)));
        HttpResponse::Ok().content_type(content_type).streaming(chunks)
    }
}

fn chunk(text: &str) -> Chunk {
    Ok(Bytes::copy_from_slice(text.as_bytes()))
}

/// A server whose answers are written by the test.
fn streaming(config: &CacheConfig, content_type: &'static str) -> (Server, Pens, Runs) {
    let pens = Pens::default();
    let written = pens.clone();
    let (server, runs) = serve(config, move |_, _| written.answer(content_type));
    (server, pens, runs)
}

async fn open(server: &Server, target: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(&request("GET", target, &[], b"")).await.unwrap();
    stream
}

/// Reads until this has come; all that was read.
async fn read_until(stream: &mut TcpStream, wanted: &str) -> Vec<u8> {
    let mut read = Vec::new();
    while !read.windows(wanted.len()).any(|part| part == wanted.as_bytes()) {
        let mut bytes = [0; 4096];
        let len = soon(stream.read(&mut bytes)).await.unwrap();
        assert_ne!(len, 0, "closed before {wanted:?} came");
        read.extend_from_slice(&bytes[..len]);
    }
    read
}

// Row 31; the reference sends the first chunk after the last
#[tokio::test]
async fn chunks_reach_the_client_as_they_come_and_the_whole_is_stored() {
    let storage = MemoryStorage::new();
    let config = CacheConfig::builder(storage.clone()).build().unwrap();
    let (server, pens, runs) = streaming(&config, "text/plain");
    let pen = pens.next();
    let mut client = open(&server, "/c").await;
    pen.send(chunk("one,")).unwrap();
    let head = read_until(&mut client, "one,").await;
    assert!(String::from_utf8_lossy(&head).to_ascii_lowercase().contains("x-cache: miss"));
    pen.send(chunk("two,")).unwrap();
    read_until(&mut client, "two,").await;
    // Nothing is stored before the end.
    assert_eq!(storage.stats().entries, 0);
    pen.send(chunk("three")).unwrap();
    drop(pen);
    read_until(&mut client, "0\r\n\r\n").await;
    let hit = server.get("/c", &[]).await;
    assert_eq!(summary(&hit), "200 HIT one,two,three");
    assert_eq!(hit.field("content-length").as_deref(), Some("13"));
    assert_eq!(runs.count(), 1);
}

// Row 31
#[tokio::test]
async fn a_stream_past_the_limit_reaches_the_client_whole_and_is_not_stored() {
    let storage = MemoryStorage::new();
    let config = CacheConfig::builder(storage.clone()).body_limit(10).build().unwrap();
    let (server, pens, runs) = streaming(&config, "text/plain");
    for _ in 0..2 {
        let pen = pens.next();
        for part in ["12345", "67890", "x"] {
            pen.send(chunk(part)).unwrap();
        }
        drop(pen);
        assert_eq!(server.get("/c", &[]).await.text(), "1234567890x");
    }
    assert_eq!((runs.count(), storage.stats().entries), (2, 0));
}

// Row 31
#[tokio::test]
async fn a_stream_that_breaks_is_not_stored() {
    let storage = MemoryStorage::new();
    let config = CacheConfig::builder(storage.clone()).build().unwrap();
    let (server, pens, runs) = streaming(&config, "text/plain");
    let pen = pens.next();
    let mut client = open(&server, "/c").await;
    pen.send(chunk("half")).unwrap();
    read_until(&mut client, "half").await;
    pen.send(Err(io::Error::other("the source is gone"))).unwrap();
    assert_eq!(soon(client.read(&mut [0; 64])).await.unwrap_or(0), 0, "no clean end");
    assert_eq!(storage.stats().entries, 0);
    let pen = pens.next();
    pen.send(chunk("whole")).unwrap();
    drop(pen);
    assert_eq!(get(&server, "/c").await, "200 MISS whole");
    assert_eq!(get(&server, "/c").await, "200 HIT whole");
    assert_eq!(runs.count(), 2);
}

// Row 31
#[tokio::test]
async fn a_client_that_leaves_half_way_never_causes_a_short_entry() {
    let storage = MemoryStorage::new();
    let config = CacheConfig::builder(storage.clone()).build().unwrap();
    let (server, pens, runs) = streaming(&config, "text/plain");
    let pen = pens.next();
    let mut client = open(&server, "/c").await;
    pen.send(chunk("one,")).unwrap();
    read_until(&mut client, "one,").await;
    reset(client);
    pen.send(chunk("two,")).unwrap();
    pen.send(chunk("three")).unwrap();
    drop(pen);
    until("the copy was finished without its client", || storage.stats().entries == 1).await;
    assert_eq!(get(&server, "/c").await, "200 HIT one,two,three");
    assert_eq!(runs.count(), 1);
}

// Row 31; a follower that waited for the end of such a stream would wait for nothing
#[tokio::test]
async fn a_stream_of_unknown_length_holds_no_other_client_up() {
    let storage = MemoryStorage::new();
    let config = CacheConfig::builder(storage.clone()).wait(Duration::from_secs(3600)).build().unwrap();
    let (server, pens, runs) = streaming(&config, "application/x-ndjson");
    let (first, second) = (pens.next(), pens.next());
    let mut a = open(&server, "/c").await;
    first.send(chunk("a1\n")).unwrap();
    read_until(&mut a, "a1\n").await;
    let mut b = open(&server, "/c").await;
    second.send(chunk("b1\n")).unwrap();
    read_until(&mut b, "b1\n").await;
    assert_eq!((runs.count(), storage.stats().entries), (2, 0));
    // The one that ends is stored, whatever becomes of the other.
    drop(second);
    read_until(&mut b, "0\r\n\r\n").await;
    assert_eq!(get(&server, "/c").await, "200 HIT b1\n");
}

// Rows 30 and 31
#[tokio::test]
async fn a_condition_on_the_request_that_fills_from_a_stream_is_answered_and_the_whole_is_stored() {
    let storage = MemoryStorage::new();
    let config = CacheConfig::builder(storage.clone()).build().unwrap();
    let pens = Pens::default();
    let written = pens.clone();
    let (server, runs) = serve(&config, move |_, _| {
        let mut response = written.answer("text/plain");
        response.headers_mut().insert(header::ETAG, HeaderValue::from_static("\"v1\""));
        response
    });
    let pen = pens.next();
    pen.send(chunk("one,")).unwrap();
    assert_eq!(soon(get_with(&server, "/c", "if-none-match", "\"v1\"")).await, "304 MISS ");
    pen.send(chunk("two")).unwrap();
    drop(pen);
    until("the copy was made behind the answer", || storage.stats().entries == 1).await;
    assert_eq!(get(&server, "/c").await, "200 HIT one,two");
    assert_eq!(runs.count(), 1);
}

/// A file of this many bytes.
fn file(name: &str, len: usize) -> (PathBuf, Vec<u8>) {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let bytes: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
    std::fs::write(&path, &bytes).unwrap();
    (path, bytes)
}

fn file_server(path: PathBuf) -> Server {
    let config = default_cache();
    Server::start(2, move || {
        let path = path.clone();
        let open = move || ready(actix_files::NamedFile::open(&path));
        App::new()
            .service(web::scope("/c").wrap(FastCache::new(config.clone())).route("", web::get().to(open)))
    })
}

// Row 32; the reference answers 500
#[tokio::test]
async fn files_are_served_and_cached() {
    let (path, bytes) = file("small.txt", 200_000);
    let server = file_server(path.clone());
    let miss = server.get("/c", &[]).await;
    std::fs::remove_file(path).unwrap();
    let hit = server.get("/c", &[]).await;
    for (reply, cache) in [(&miss, "MISS"), (&hit, "HIT")] {
        assert_eq!((reply.status, reply.cache().as_str()), (200, cache));
        assert!(reply.body == bytes);
        assert_eq!(reply.field("content-length").as_deref(), Some("200000"));
        assert_eq!(reply.field("content-type").as_deref(), Some("text/plain; charset=utf-8"));
    }
    assert!(miss.field("etag").is_some() && miss.field("last-modified").is_some());
    for name in ["etag", "last-modified", "content-disposition", "accept-ranges"] {
        assert_eq!(miss.lines(name), hit.lines(name));
    }
    let modified = hit.field("last-modified").unwrap();
    assert_eq!(server.get("/c", &[("if-modified-since", &modified)]).await.status, 304);
    let part = server.get("/c", &[("range", "bytes=1000-1999")]).await;
    assert_eq!(part.status, 206);
    assert_eq!(part.field("content-range").as_deref(), Some("bytes 1000-1999/200000"));
    assert!(part.body == bytes[1000..2000]);
}

// Row 32
#[tokio::test]
async fn files_too_large_to_store_pass_unharmed() {
    let (path, bytes) = file("large.bin", 3 << 20);
    let server = file_server(path.clone());
    for _ in 0..2 {
        let reply = server.get("/c", &[]).await;
        assert_eq!((reply.status, reply.cache().as_str()), (200, "-"));
        assert!(reply.body == bytes);
    }
    std::fs::remove_file(path).unwrap();
}

// Row 32
#[tokio::test]
async fn ranges_and_conditions_reach_the_handler_where_its_answers_are_not_stored() {
    let (path, bytes) = file("film.bin", 3 << 20);
    let server = file_server(path.clone());
    let film = server.get("/c", &[]).await;
    assert_eq!((film.status, film.cache().as_str()), (200, "-"));
    let modified = film.field("last-modified").unwrap();
    let (range, since) = (("range", "bytes=2000000-2000999"), ("if-modified-since", modified.as_str()));
    for _ in 0..2 {
        let part = server.get("/c", &[range]).await;
        assert_eq!((part.status, part.cache().as_str()), (206, "-"));
        assert!(part.body == bytes[2_000_000..2_001_000]);
        assert_eq!(server.get("/c", &[since]).await.status, 304);
    }
    // Nor are they for those who come with a cookie.
    let server = file_server(path.clone());
    for _ in 0..2 {
        let part = server.get("/c", &[("cookie", "session=1"), range]).await;
        assert_eq!((part.status, part.cache().as_str(), part.body.len()), (206, "-", 1_000));
        assert_eq!(server.get("/c", &[("cookie", "session=1"), since]).await.status, 304);
    }
    std::fs::remove_file(path).unwrap();
}

// Row 32; the reference never answers
#[tokio::test]
async fn event_streams_pass_as_they_come_each_client_its_own() {
    let storage = MemoryStorage::new();
    let config = CacheConfig::builder(storage.clone()).build().unwrap();
    let (server, pens, runs) = streaming(&config, "text/event-stream");
    let (first, second) = (pens.next(), pens.next());
    let mut a = open(&server, "/c").await;
    first.send(chunk("data: a1\n\n")).unwrap();
    let head = read_until(&mut a, "data: a1\n\n").await;
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200") && !head.contains("x-cache") && !head.contains("etag"));
    // Another client does not wait for the end of this one, which never comes.
    let mut b = open(&server, "/c").await;
    second.send(chunk("data: b1\n\n")).unwrap();
    read_until(&mut b, "data: b1\n\n").await;
    first.send(chunk("data: a2\n\n")).unwrap();
    read_until(&mut a, "data: a2\n\n").await;
    assert_eq!((runs.count(), storage.stats().entries), (2, 0));
}

// Row 32
#[tokio::test]
async fn upgrades_pass_unharmed() {
    let config = default_cache();
    let server = Server::start(2, move || {
        let echo = |body: web::Payload| {
            ready(HttpResponse::SwitchingProtocols().upgrade("websocket").streaming(body))
        };
        App::new()
            .service(web::scope("/c").wrap(FastCache::new(config.clone())).route("", web::get().to(echo)))
    });
    for said in ["hello", "again"] {
        let mut client = TcpStream::connect(server.addr).await.unwrap();
        let fields = [("connection", "upgrade"), ("upgrade", "websocket")];
        client.write_all(&request("GET", "/c", &fields, b"")).await.unwrap();
        let head = read_until(&mut client, "\r\n\r\n").await;
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 101") && head.contains("upgrade: websocket"), "{head}");
        assert!(!head.contains("x-cache"));
        for round in 0..2 {
            let said = format!("{said} {round}");
            client.write_all(said.as_bytes()).await.unwrap();
            read_until(&mut client, &said).await;
        }
    }
}

// ---- Manual API

// Row 33; the reference's manual calls bypass the scope's namespace
#[tokio::test]
async fn manual_calls_have_the_namespace_of_their_scope() {
    let root = memory().namespace("api").build().unwrap();
    let config = root
        .scoped_builder("users")
        .key_builder(|req| req.match_info().get("id").map(user_key))
        .build()
        .unwrap();
    let server = users(&config);
    let (cache, other) = (config.handle(), root.scoped("teams").handle());
    let page = StoredResponse::new(StatusCode::OK, "by hand")
        .with_header(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"))
        .with_header(HeaderName::from_static("x-list"), HeaderValue::from_static("1"))
        .with_header(HeaderName::from_static("x-list"), HeaderValue::from_static("2"));
    cache.set("user:7", page, StoreOptions::new()).await.unwrap();
    let hit = server.get("/users/7", &[]).await;
    assert_eq!(summary(&hit), "200 HIT by hand");
    assert_eq!((hit.lines("x-list").join(","), hit.lines("etag").len()), ("1,2".to_owned(), 1));
    assert_eq!(get(&server, "/users/8").await, "200 MISS run 1 user 8");
    assert_eq!(cache.get("user:8").await.unwrap().unwrap().body(), "run 1 user 8");
    // The same key elsewhere is another key.
    for elsewhere in [&root.handle(), &other] {
        assert!(elsewhere.get("user:8").await.unwrap().is_none());
        assert_eq!(elsewhere.invalidate("user:8").await.unwrap(), 0);
    }
    assert_eq!(get(&server, "/users/8").await, "200 HIT run 1 user 8");
}

// Row 33
#[tokio::test]
async fn invalidate_tells_how_many_answers_it_dropped() {
    let config = memory().key_builder(|_| "page".to_owned()).build().unwrap();
    let cache = config.handle();
    let (server, _) = serve(&config, |req, run| {
        let mut response = HttpResponse::Ok();
        if req.query_string() == "varies" {
            response.insert_header(("vary", "accept-language"));
        }
        response.body(format!("run {run}"))
    });
    assert_eq!(cache.invalidate("page").await.unwrap(), 0);
    get(&server, "/c").await;
    assert_eq!(cache.invalidate("page").await.unwrap(), 1);
    assert_eq!(cache.invalidate("page").await.unwrap(), 0);
    for language in ["de", "fr", "it"] {
        get_with(&server, "/c?varies", "accept-language", language).await;
    }
    assert_eq!(cache.invalidate("page").await.unwrap(), 3);
    assert_eq!(cache.invalidate("page").await.unwrap(), 0);
    assert_eq!(get_with(&server, "/c?varies", "accept-language", "de").await, "200 MISS run 5");
}

// Row 33
#[tokio::test]
async fn invalidate_reaches_what_has_more_in_its_key_than_the_name() {
    let config = memory()
        .vary(["accept-language"])
        .methods([Method::POST])
        .key_builder(|_| "page".to_owned())
        .build()
        .unwrap();
    let (server, _) = serve(&config, number);
    assert_eq!(get_with(&server, "/c", "accept-language", "de").await, "200 MISS run 1");
    let post = async || summary(&server.send("POST", "/c", &[], b"body").await);
    assert_eq!(post().await, "200 MISS run 2");
    config.handle().invalidate("page").await.unwrap();
    assert_eq!(get_with(&server, "/c", "accept-language", "de").await, "200 MISS run 3");
    assert_eq!(post().await, "200 MISS run 4");
}

// Row 33
#[tokio::test]
async fn a_namespace_is_invalidated_with_those_inside_it() {
    let root = memory().namespace("api").build().unwrap();
    let (users, teams) = (root.scoped("users"), root.scoped("teams"));
    let fill = async || {
        for config in [&root, &users, &teams] {
            let page = StoredResponse::new(StatusCode::OK, "page");
            config.handle().set("k", page, StoreOptions::new()).await.unwrap();
        }
    };
    let held = async || {
        let found = join_all([&root, &users, &teams].map(|config| {
            let cache = config.handle();
            async move { cache.get("k").await.unwrap().is_some() }
        }));
        found.await
    };
    fill().await;
    users.handle().invalidate_namespace().await.unwrap();
    assert_eq!(held().await, [true, false, true]);
    fill().await;
    root.handle().invalidate_namespace().await.unwrap();
    assert_eq!(held().await, [false, false, false]);
}

// Row 34; the reference stores the old answer after the write
#[tokio::test]
async fn a_read_that_began_before_an_invalidation_cannot_store_its_answer_after_it() {
    let config = memory().key_builder(|_| "value".to_owned()).build().unwrap();
    let cache = config.handle();
    let value = Arc::new(Mutex::new("old"));
    let (entered, gate, runs) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)), Runs::new());
    let (stored, signal, held, counted) =
        (Arc::clone(&value), Arc::clone(&entered), Arc::clone(&gate), runs.clone());
    let server = Server::start(2, move || {
        let (stored, signal, held, counted) =
            (Arc::clone(&stored), Arc::clone(&signal), Arc::clone(&held), counted.clone());
        let read = move || {
            let (value, run) = (*stored.lock().unwrap(), counted.add());
            let (signal, held) = (Arc::clone(&signal), Arc::clone(&held));
            async move {
                if run == 1 {
                    signal.notify_one();
                    held.acquire().await.unwrap().forget();
                }
                value
            }
        };
        App::new()
            .service(web::scope("/c").wrap(FastCache::new(config.clone())).route("", web::get().to(read)))
    });
    let slow = async { get(&server, "/c").await };
    let write = async {
        soon(entered.notified()).await;
        *value.lock().unwrap() = "new";
        cache.invalidate("value").await.unwrap();
        gate.add_permits(1);
    };
    let (answer, ()) = tokio::join!(slow, write);
    // It began before the write; what it says is its own affair.
    assert_eq!(answer, "200 MISS old");
    assert_eq!(get(&server, "/c").await, "200 MISS new");
    assert_eq!(get(&server, "/c").await, "200 HIT new");
    assert_eq!(runs.count(), 2);
}

// Row 35; the reference runs it twenty times
#[tokio::test]
async fn twenty_first_requests_at_once_run_the_handler_once() {
    let spy = Spy::default();
    let config = CacheConfig::builder(spy.clone()).build().unwrap();
    let (gate, runs) = (Arc::new(Semaphore::new(0)), Runs::new());
    let (held, counted) = (Arc::clone(&gate), runs.clone());
    // One worker: when the last of them has looked, all of them wait.
    let server = Server::start(1, move || {
        let (held, counted) = (Arc::clone(&held), counted.clone());
        let handler = move || {
            let (held, run) = (Arc::clone(&held), counted.add());
            async move {
                held.acquire().await.unwrap().forget();
                format!("run {run}")
            }
        };
        App::new()
            .service(web::scope("/c").wrap(FastCache::new(config.clone())).route("", web::get().to(handler)))
    });
    let clients = join_all((0..20).map(|_| get(&server, "/c")));
    let release = async {
        until("all twenty have looked", || spy.reads.count() >= 20).await;
        gate.add_permits(20);
    };
    let (answers, ()) = tokio::join!(clients, release);
    assert_eq!(runs.count(), 1);
    assert_eq!(answers.iter().filter(|answer| *answer == "200 MISS run 1").count(), 1);
    assert_eq!(answers.iter().filter(|answer| *answer == "200 HIT run 1").count(), 19);
}

/// A storage that never answers.
struct Hanging;

impl Storage for Hanging {
    async fn get(&self, _: &CacheKey) -> Result<Lookup, StorageError> {
        pending().await
    }

    async fn put(&self, _: Arc<Entry>) -> Result<(), StorageError> {
        pending().await
    }

    async fn remove(&self, _: &CacheKey) -> Result<bool, StorageError> {
        pending().await
    }

    async fn raise(&self, _: &[Fence]) -> Result<(), StorageError> {
        pending().await
    }

    async fn is_current(&self, _: Stamp, _: &[FenceId]) -> Result<bool, StorageError> {
        pending().await
    }
}

// Row 36; the reference answers 500
#[tokio::test]
async fn a_storage_that_fails_or_hangs_is_a_miss() {
    let failing = CacheConfig::builder(FailingStorage).build().unwrap();
    let hanging = CacheConfig::builder(Hanging).storage_deadline(Duration::from_millis(5)).build().unwrap();
    for config in [failing, hanging] {
        let (server, _) = serve(&config, number);
        for run in 1..4 {
            assert_eq!(soon(get(&server, "/c")).await, format!("200 MISS run {run}"));
        }
        let trouble = config.handle().storage_trouble();
        assert!(trouble.failed + trouble.late + trouble.left_alone >= 3, "{trouble:?}");
        // Where the caller has to know, it is told.
        assert!(config.handle().get("k").await.is_err());
        assert!(config.handle().invalidate("k").await.is_err());
    }
}

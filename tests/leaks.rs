//! Leaks: what was made for one client is not shown to another.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

mod support;

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use actix_cors::Cors;
use actix_fast_cache::{
    CacheConfig, CacheConfigBuilder, CacheControl, CookiePolicy, FastCache, ManualClock, MemoryStorage,
};
use actix_web::http::StatusCode;
use actix_web::middleware::Condition;
use actix_web::{App, HttpRequest, HttpResponse, web};
use futures_util::future::join_all;
use support::{Reply, Runs, Server, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

fn builder() -> CacheConfigBuilder {
    CacheConfig::builder(MemoryStorage::new()).clock(ManualClock::new())
}

fn defaults() -> CacheConfig {
    builder().build().unwrap()
}

/// A site with one page for every path and method.
fn site<F>(config: &CacheConfig, page: F) -> Server
where
    F: Fn(&HttpRequest, &CacheControl) -> HttpResponse + Clone + Send + 'static,
{
    let config = config.clone();
    Server::start(2, move || {
        let page = page.clone();
        let handler = move |req: HttpRequest, cache: CacheControl| ready(page(&req, &cache));
        App::new().wrap(FastCache::new(config.clone())).default_service(web::to(handler))
    })
}

/// A page whose fields are in its query, as `?name:value&name:value`, and whose body is the number of the run.
fn as_told(config: &CacheConfig) -> Server {
    let runs = Runs::new();
    site(config, move |req, _| {
        let mut answer = HttpResponse::Ok();
        for field in req.query_string().split('&').filter(|field| !field.is_empty()) {
            let (name, value) = field.split_once(':').unwrap();
            let plain = [("%20", " "), ("%09", "\t"), ("%22", "\""), ("%5C", "\\")];
            let value = plain.iter().fold(value.to_owned(), |value, (from, to)| value.replace(from, to));
            answer.append_header((name, value));
        }
        answer.body(runs.add().to_string())
    })
}

/// Whether the second of two equal requests is answered from the cache.
async fn is_shared(server: &Server, target: &str, first: &[(&str, &str)], second: &[(&str, &str)]) -> bool {
    let (one, two) = (server.get(target, first).await, server.get(target, second).await);
    assert_eq!((one.status, two.status), (200, 200));
    assert_eq!(one.text() == two.text(), two.cache() == "HIT", "{one:?} {two:?}");
    one.text() == two.text()
}

// L1
#[tokio::test]
async fn an_answer_that_sets_a_cookie_is_not_stored() {
    let server = as_told(&defaults());
    for more in
        ["", "&cache-control:public,max-age=600", "&cache-control:s-maxage=9,immutable", "&set-cookie:b=2"]
    {
        let target = format!("/p?set-cookie:a=1{more}");
        assert!(!is_shared(&server, &target, &[], &[]).await, "{more}");
    }
}

// L2
#[tokio::test]
async fn first_visits_together_get_a_cookie_each() {
    let gate = Arc::new(Semaphore::new(0));
    let (runs, config) = (Runs::new(), defaults());
    let (counted, opened, shared) = (runs.clone(), Arc::clone(&gate), config.clone());
    let server = Server::start(2, move || {
        let (runs, gate) = (counted.clone(), Arc::clone(&opened));
        let handler = move || {
            let (run, gate) = (runs.add(), Arc::clone(&gate));
            async move {
                gate.acquire().await.unwrap().forget();
                HttpResponse::Ok().insert_header(("Set-Cookie", format!("id={run}"))).body("hello")
            }
        };
        App::new().wrap(FastCache::new(shared.clone())).default_service(web::to(handler))
    });
    let open = async {
        until("a first run", || runs.count() >= 1).await;
        gate.add_permits(50);
    };
    let (replies, ()) = tokio::join!(join_all((0..50).map(|_| server.get("/p", &[]))), open);
    let mut cookies: Vec<_> = replies.iter().flat_map(|reply| reply.lines("set-cookie")).collect();
    cookies.sort();
    cookies.dedup();
    assert_eq!(cookies.len(), 50);
}

// L3
#[tokio::test]
async fn authorized_answers_are_shared_only_where_marked() {
    let server = as_told(&defaults());
    let (a, v) = ([("Authorization", "Basic a")], [("Authorization", "Basic v")]);
    for (n, (control, shared)) in [
        ("", false),
        ("max-age=60", false),
        ("immutable,max-age=60", false),
        ("proxy-revalidate,max-age=60", false),
        ("public", true),
        ("s-maxage=60", true),
        ("must-revalidate,max-age=60", true),
        ("public,private", false),
        ("public,no-store", false),
    ]
    .into_iter()
    .enumerate()
    {
        let control = if control.is_empty() { String::new() } else { format!("cache-control:{control}") };
        assert_eq!(is_shared(&server, &format!("/a{n}?{control}"), &a, &v).await, shared, "{control}");
        assert_eq!(is_shared(&server, &format!("/b{n}?{control}"), &a, &[]).await, shared, "{control}");
        assert_eq!(is_shared(&server, &format!("/c{n}?{control}"), &[], &v).await, shared, "{control}");
    }
}

// L4
#[tokio::test]
async fn answers_to_cookies_are_shared_only_where_marked() {
    let server = as_told(&defaults());
    let (a, v) = ([("Cookie", "id=a")], [("Cookie", "x=1"), ("Cookie", "id=v")]);
    for (n, (control, shared)) in [
        ("", false),
        ("max-age=60", false),
        ("must-revalidate,max-age=60", false),
        ("public,max-age=60", true),
        ("s-maxage=60", true),
    ]
    .into_iter()
    .enumerate()
    {
        let control = if control.is_empty() { String::new() } else { format!("cache-control:{control}") };
        assert_eq!(is_shared(&server, &format!("/a{n}?{control}"), &a, &v).await, shared, "{control}");
        assert_eq!(is_shared(&server, &format!("/b{n}?{control}"), &a, &[]).await, shared, "{control}");
        assert_eq!(is_shared(&server, &format!("/c{n}?{control}"), &[], &v).await, shared, "{control}");
    }
    // Marked for those with Authorization is not marked for those with cookies.
    let both = [("Cookie", "id=a"), ("Authorization", "Basic a")];
    assert!(!is_shared(&server, "/d?cache-control:must-revalidate,max-age=60", &both, &both).await);
}

// L5
#[tokio::test]
async fn a_refusal_is_heard_however_it_is_written() {
    let server = as_told(&defaults());
    for control in [
        "PRIVATE",
        "No-Store",
        "%09no-store%09",
        "max-age=60,%09private",
        "max-age=60&cache-control:no-store",
        "max-age=60&Cache-Control:x&CACHE-CONTROL:Private",
        "private=%22set-cookie,x%22",
        "no-cache=%22set-cookie%22",
        "no-cache",
        "max-age=60,ext=%22a,b%22,no-store",
        "ext=%22%5C%22%22,private",
        "no-store;x",
        "no-store=1",
        "max-age=%220%22",
        "max-age=60,,,,no-store",
        "max-age=-1",
        "s-maxage=0,max-age=60",
    ] {
        assert!(!is_shared(&server, &format!("/p?cache-control:{control}"), &[], &[]).await, "{control}");
    }
    for control in
        ["ext=%22no-store%22", "x-private", "community=%22private%22,max-age=60", "max-age=%2260%22"]
    {
        assert!(is_shared(&server, &format!("/p?cache-control:{control}"), &[], &[]).await, "{control}");
    }
}

// L6
#[tokio::test]
async fn vary_on_anything_is_not_stored() {
    let server = as_told(&defaults());
    for vary in ["*", "%20*%20", "accept,%20*", "accept&vary:*", "*,accept", "%22*%22", "accept%20x"] {
        let target = format!("/p?cache-control:public,max-age=60&vary:{vary}");
        assert!(!is_shared(&server, &target, &[], &[]).await, "{vary}");
    }
}

// L7, L8
#[tokio::test]
async fn a_varying_cookie_or_authorization_is_keyed_whole_or_not_stored() {
    let target = "/p?vary:%20%20Cookie%20,%09Accept";
    let plain = as_told(&defaults());
    assert!(!is_shared(&plain, target, &[], &[]).await);
    assert!(!is_shared(&plain, "/p?vary:authorization&cache-control:public", &[], &[]).await);

    for policy in [CookiePolicy::Ignore, CookiePolicy::KeyBy(vec!["id".into()])] {
        let server = as_told(&builder().cookies(policy).build().unwrap());
        let with = |cookie, accept| [("Cookie", cookie), ("Accept", accept)];
        assert!(is_shared(&server, target, &with("id=1; x=1", "a"), &with("id=1; x=1", "a")).await);
        assert!(!is_shared(&server, target, &with("id=1; x=1", "b"), &with("id=1; x=2", "b")).await);
        assert!(!is_shared(&server, target, &with("id=1; x=3", "c"), &with("id=1; x=3", "d")).await);
        assert!(!is_shared(&server, target, &with("id=1", "e"), &[("Accept", "e")]).await);
    }
    let server = as_told(&builder().key_by_authorization().build().unwrap());
    let with = |value| [("Authorization", value)];
    let target = "/p?vary:Authorization";
    assert!(is_shared(&server, target, &with("Basic a"), &with("Basic a")).await);
    assert!(!is_shared(&server, target, &with("Basic b"), &with("Basic c")).await);
}

// L9
#[tokio::test]
async fn nobody_is_told_of_anothers_origin() {
    for (outside, says_vary) in [(true, true), (true, false), (false, true), (false, false)] {
        let config = defaults();
        let runs = Runs::new();
        let counted = runs.clone();
        let server = Server::start(2, move || {
            let cors = || {
                let cors = Cors::default().allowed_origin_fn(|_, _| true).supports_credentials();
                if says_vary { cors } else { cors.disable_vary_header() }
            };
            let runs = counted.clone();
            let handler = move || ready(HttpResponse::Ok().body(runs.add().to_string()));
            App::new()
                .wrap(Condition::new(!outside, cors()))
                .wrap(FastCache::new(config.clone()))
                .wrap(Condition::new(outside, cors()))
                .default_service(web::to(handler))
        });
        let case = format!("cache inside: {outside}, says Vary: {says_vary}");
        for round in 0..2 {
            for origin in ["https://a.example", "https://v.example"] {
                let reply = server.get("/p", &[("Origin", origin)]).await;
                let told = reply.field("access-control-allow-origin");
                assert_eq!(told.as_deref(), Some(origin), "{case}, round {round}");
            }
            let none = server.get("/p", &[]).await.field("access-control-allow-origin");
            assert_eq!(none, None, "{case}, round {round}");
        }
        assert_eq!(runs.count(), if outside { 1 } else { 3 }, "{case}");
    }
}

// L10
#[tokio::test]
async fn pages_with_a_nonce_or_token_are_made_for_one_client() {
    let server = as_told(&defaults());
    for name in ["content-security-policy", "Content-Security-Policy-Report-Only"] {
        let target = format!("/p?{name}:script-src%20'NONCE-abc'&cache-control:public,max-age=60");
        assert!(!is_shared(&server, &target, &[], &[]).await, "{name}");
    }
    assert!(is_shared(&server, "/p?content-security-policy:default-src%20'self'", &[], &[]).await);

    let runs = Runs::new();
    let form = site(&defaults(), move |_, cache| {
        cache.no_store();
        HttpResponse::Ok().insert_header(("Cache-Control", "public, max-age=60")).body(runs.add().to_string())
    });
    assert!(!is_shared(&form, "/form", &[], &[]).await);
}

/// One cache around another: what the handler says must reach both.
#[tokio::test]
async fn a_refusal_reaches_every_cache_around_the_handler() {
    let root = defaults();
    for (outer, inner) in
        [(root.clone(), root.clone()), (root.scoped("a"), root.scoped("b")), (defaults(), defaults())]
    {
        let runs = Runs::new();
        let server = Server::start(1, move || {
            let runs = runs.clone();
            let handler = move |req: HttpRequest, cache: CacheControl| {
                match req.path() {
                    "/s/refused" => cache.no_store(),
                    "/s/zero" => cache.ttl(Duration::ZERO),
                    "/s/varied" => cache.vary("x-user"),
                    _ => {}
                }
                ready(HttpResponse::Ok().body(runs.add().to_string()))
            };
            App::new().wrap(FastCache::new(outer.clone())).service(
                web::scope("/s").wrap(FastCache::new(inner.clone())).default_service(web::to(handler)),
            )
        });
        assert!(!is_shared(&server, "/s/refused", &[], &[]).await);
        assert!(!is_shared(&server, "/s/zero", &[], &[]).await);
        assert!(!is_shared(&server, "/s/varied", &[("X-User", "a")], &[("X-User", "v")]).await);
        assert!(is_shared(&server, "/s/varied", &[("X-User", "a")], &[("X-User", "a")]).await);
        assert!(is_shared(&server, "/s/plain", &[], &[]).await);
    }
}

/// A tag that the handler gave reaches the outer cache too, and the outer one is dropped with it.
#[tokio::test]
async fn a_tag_reaches_every_cache_around_the_handler() {
    let root = builder().namespace("n").build().unwrap();
    for (outer, inner) in [(root.clone(), root.clone()), (root.scoped("a"), root.scoped("b"))] {
        let handle = root.handle();
        let runs = Runs::new();
        let server = Server::start(1, move || {
            let runs = runs.clone();
            let handler = move |cache: CacheControl| {
                cache.tag("t");
                ready(HttpResponse::Ok().body(runs.add().to_string()))
            };
            App::new().wrap(FastCache::new(outer.clone())).service(
                web::scope("/s").wrap(FastCache::new(inner.clone())).default_service(web::to(handler)),
            )
        });
        assert!(is_shared(&server, "/s/p", &[], &[]).await);
        let before = server.get("/s/p", &[]).await.text();
        handle.invalidate_tag("t").await.unwrap();
        assert_ne!(server.get("/s/p", &[]).await.text(), before);
    }
}

// L11
#[tokio::test]
async fn fields_of_one_connection_are_not_in_hits() {
    let server = as_told(&defaults());
    let secret = "x-secret:s&keep-alive:timeout=5&proxy-authenticate:Basic&te:trailers&trailer:x&upgrade:h2c&\
                  proxy-connection:x&proxy-authorization:x&x-other:o&x-kept:k";
    let target = format!("/p?connection:X-Secret,%09close&connection:x-Other&{secret}");
    server.get(&target, &[]).await;
    let hit = server.get(&target, &[]).await;
    assert_eq!(hit.cache(), "HIT");
    for name in [
        "x-secret",
        "x-other",
        "keep-alive",
        "proxy-authenticate",
        "te",
        "trailer",
        "upgrade",
        "proxy-connection",
        "proxy-authorization",
        "transfer-encoding",
    ] {
        assert_eq!(hit.field(name), None, "{name}");
    }
    assert!(!hit.field("connection").is_some_and(|value| value.to_lowercase().contains("x-")));
    assert_eq!(hit.field("x-kept").as_deref(), Some("k"));
}

// L12, L13
#[tokio::test]
async fn age_goes_on_from_what_the_answer_said() {
    let clock = ManualClock::new();
    let config = CacheConfig::builder(MemoryStorage::new()).clock(clock.clone()).build().unwrap();
    let server = as_told(&config);
    let target = "/p?cache-control:max-age=23&age:4";
    let first = server.get(target, &[]).await;
    assert_eq!((first.cache().as_str(), first.lines("age")), ("MISS", vec!["4".to_owned()]));
    let mut dates = Vec::new();
    for (seconds, age) in [(0, "4"), (10, "14"), (8, "22")] {
        clock.advance(Duration::from_secs(seconds));
        let hit = server.get(target, &[]).await;
        assert_eq!((hit.cache().as_str(), hit.lines("age")), ("HIT", vec![age.to_owned()]));
        dates.extend(hit.lines("date"));
    }
    // One a hit, and always the stored one: the manual clock's, not the server's.
    assert_eq!(dates, ["Thu, 01 Jan 2026 00:00:00 GMT"; 3]);
    clock.advance(Duration::from_secs(1));
    assert_eq!(server.get(target, &[]).await.cache(), "MISS");

    // A date of the handler's own counts as age.
    let dated = "/q?cache-control:max-age=60&date:Thu,%2001%20Jan%202026%2000:00:00%20GMT";
    server.get(dated, &[]).await;
    let hit = server.get(dated, &[]).await;
    assert_eq!((hit.lines("date").len(), hit.lines("age")), (1, vec!["19".to_owned()]));
}

// L14
#[tokio::test]
async fn a_condition_on_a_cold_key_does_not_empty_the_page() {
    let server = site(&defaults(), |req, _| {
        let conditional =
            ["if-none-match", "if-modified-since", "if-match", "if-unmodified-since", "if-range"];
        match conditional.iter().any(|name| req.headers().contains_key(*name)) {
            true => HttpResponse::NotModified().finish(),
            false => HttpResponse::Ok()
                .insert_header(("ETag", "\"1\""))
                .insert_header(("Last-Modified", "Thu, 01 Jan 2025 00:00:00 GMT"))
                .body("page"),
        }
    });
    for (n, (name, value, status)) in [
        ("If-None-Match", "\"1\"", 304),
        ("If-None-Match", "*", 304),
        ("If-None-Match", "\"2\"", 200),
        ("If-Modified-Since", "Thu, 01 Jan 2026 00:00:00 GMT", 304),
        ("If-Modified-Since", "junk", 200),
        ("If-Match", "\"9\"", 200),
        ("If-Unmodified-Since", "Thu, 01 Jan 1990 00:00:00 GMT", 200),
        ("If-Range", "\"1\"", 200),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{n}");
        assert_eq!(server.get(&path, &[(name, value)]).await.status, status, "{name}: {value}");
        let next = server.get(&path, &[]).await;
        assert_eq!(
            (next.status, next.cache().as_str(), next.text().as_str()),
            (200, "HIT", "page"),
            "{name}"
        );
        assert_eq!(server.get(&path, &[(name, value)]).await.status, status, "{name}: {value}");
    }
}

/// A handler that answers 304 to whoever asks is not believed.
#[tokio::test]
async fn a_304_that_nobody_asked_for_is_not_stored() {
    let runs = Runs::new();
    let server = site(&defaults(), move |_, _| match runs.add() {
        1 => HttpResponse::NotModified().insert_header(("Cache-Control", "public, max-age=60")).finish(),
        _ => HttpResponse::Ok().body("page"),
    });
    server.get("/p", &[("If-None-Match", "\"x\"")]).await;
    assert_eq!(server.get("/p", &[]).await.text(), "page");
}

// L15
#[tokio::test]
async fn a_head_does_not_empty_the_page() {
    let server = site(&defaults(), |req, _| match req.method().as_str() {
        "HEAD" => HttpResponse::Ok().finish(),
        _ => HttpResponse::Ok().body("page"),
    });
    let head = server.send("HEAD", "/p", &[], b"").await;
    assert_eq!((head.status, head.cache().as_str()), (200, "-"));
    let get = server.get("/p", &[]).await;
    assert_eq!((get.cache().as_str(), get.text().as_str()), ("MISS", "page"));
    let head = server.send("HEAD", "/p", &[], b"").await;
    assert_eq!((head.cache().as_str(), head.field("content-length").as_deref()), ("HIT", Some("4")));
}

// L16
#[tokio::test]
async fn a_client_that_wants_nothing_stored_is_obeyed_where_the_scope_obeys() {
    let obeying = as_told(&builder().obey_client().build().unwrap());
    let fields = [("Cache-Control", "max-age=5, No-Store")];
    assert!(!is_shared(&obeying, "/p", &fields, &[]).await);
    // Nor is what is stored an answer to it.
    assert!(!is_shared(&obeying, "/p", &[], &fields).await);
    // Whoever forces a miss forces load.
    assert!(is_shared(&as_told(&defaults()), "/p", &fields, &fields).await);
}

// L17
#[tokio::test]
async fn a_secret_in_a_url_is_told_to_nobody() {
    support::listen();
    let config = builder().namespace("secrets").cache_status("c").build().unwrap();
    let server = as_told(&config);
    for (target, fields) in [
        ("/token-SECRET?x:SECRET", vec![]),
        ("/token-SECRET?x:SECRET", vec![("Cookie", "SECRET")]),
        ("/token-SECRET?x:SECRET&cache-control:no-store", vec![]),
        ("/token-SECRET?x:SECRET&vary:*", vec![("Authorization", "SECRET")]),
        ("/token-SECRET?x:SECRET", vec![("X-HTTP-Method-Override", "SECRET")]),
    ] {
        for _ in 0..2 {
            let reply = server.get(target, &fields).await;
            let told = reply.lines("cache-status");
            assert!(!told.is_empty() && told.iter().all(|line| !line.contains("SECRET")), "{told:?}");
        }
    }
    let handle = config.handle();
    handle.invalidate_url("http://test.example/token-SECRET?x:SECRET").await.unwrap();
    handle.invalidate_url("SECRET SECRET").await.unwrap_err();
    let lines = support::log_lines();
    let of_ours: Vec<_> = lines.iter().filter(|line| line.contains("actix_fast_cache")).collect();
    assert!(of_ours.iter().any(|line| line.contains("secrets")), "the log was heard");
    assert!(of_ours.iter().all(|line| !line.contains("SECRET")), "{of_ours:?}");
    assert!(!format!("{config:?} {handle:?}").contains("SECRET"));
}

// L18
#[tokio::test]
async fn interim_answers_pass_and_are_not_stored() {
    let runs = Runs::new();
    let counted = runs.clone();
    let config = defaults();
    let server = Server::start(1, move || {
        let runs = counted.clone();
        let handler = move |req: HttpRequest, body: web::Bytes| {
            let run = runs.add();
            ready(match req.headers().contains_key("upgrade") {
                true => HttpResponse::SwitchingProtocols()
                    .upgrade("echo")
                    .insert_header(("Cache-Control", "public, max-age=60"))
                    .streaming(futures_util::stream::empty::<Result<web::Bytes, actix_web::Error>>()),
                false => HttpResponse::Ok().body(format!("run {run} of {}", body.len())),
            })
        };
        App::new().wrap(FastCache::new(config.clone())).default_service(web::to(handler))
    });
    for _ in 0..2 {
        let asked = [("Connection", "upgrade"), ("Upgrade", "echo")];
        let bytes = support::request("GET", "/p", &asked, b"");
        assert_eq!(status_lines(&server, &bytes).await, ["HTTP/1.1 101 Switching Protocols"]);
    }
    assert_eq!(server.get("/p", &[]).await.text(), "run 3 of 0");
    assert_eq!(server.get("/p", &[]).await.cache(), "HIT");
    let expecting =
        support::request("POST", "/p", &[("Expect", "100-continue"), ("Connection", "close")], b"body");
    assert_eq!(status_lines(&server, &expecting).await, ["HTTP/1.1 100 Continue", "HTTP/1.1 200 OK"]);
}

/// The status lines of all answers until the server closes, or has nothing more to say.
async fn status_lines(server: &Server, bytes: &[u8]) -> Vec<String> {
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    let text = String::from_utf8_lossy(&all).into_owned();
    text.lines().filter(|line| line.starts_with("HTTP/1.1")).map(str::to_owned).collect()
}

/// A page under a chosen name: handlers that are told apart by the choice stay apart while one fills.
#[tokio::test]
async fn who_waits_for_a_chosen_name_gets_no_answer_of_another_name() {
    let gate = Arc::new(Semaphore::new(100));
    let (runs, split) = (Runs::new(), Runs::new());
    let config = builder().build().unwrap();
    let (shared, opened, counted, parted) = (config.clone(), Arc::clone(&gate), runs.clone(), split.clone());
    let server = Server::start(2, move || {
        let (gate, runs, split) = (Arc::clone(&opened), counted.clone(), parted.clone());
        let handler = move |req: HttpRequest, cache: CacheControl| {
            let (gate, split) = (Arc::clone(&gate), split.clone());
            runs.add();
            async move {
                gate.acquire().await.unwrap().forget();
                // First both are one product; later each is its own.
                let parted = split.count() > 0;
                cache.set_key(if parted { req.path() } else { "product" }.to_owned());
                cache.tag("products");
                HttpResponse::Ok().body(if parted { req.path().to_owned() } else { "one".to_owned() })
            }
        };
        App::new().wrap(FastCache::new(shared.clone())).default_service(web::to(handler))
    });
    for path in ["/a", "/b"] {
        assert_eq!(server.get(path, &[]).await.text(), "one");
    }
    split.add();
    gate.forget_permits(100);
    config.handle().invalidate_tag("products").await.unwrap();
    let open = async {
        until("a run", || runs.count() >= 3).await;
        tokio::task::yield_now().await;
        gate.add_permits(100);
    };
    let (a, b, c, ()) =
        tokio::join!(server.get("/a", &[]), server.get("/b", &[]), server.get("/a", &[]), open);
    assert_eq!((a.text().as_str(), b.text().as_str(), c.text().as_str()), ("/a", "/b", "/a"));
}

/// That one client's request could not be stored says nothing of the others': they still wait for one run.
#[tokio::test]
async fn a_personal_request_does_not_stop_coalescing() {
    let gate = Arc::new(Semaphore::new(1));
    let runs = Runs::new();
    let config = builder().wait(Duration::from_secs(60)).build().unwrap();
    let (shared, opened, counted) = (config.clone(), Arc::clone(&gate), runs.clone());
    let server = Server::start(2, move || {
        let (gate, runs) = (Arc::clone(&opened), counted.clone());
        let handler = move || {
            let (run, gate) = (runs.add(), Arc::clone(&gate));
            async move {
                gate.acquire().await.unwrap().forget();
                HttpResponse::Ok().body(run.to_string())
            }
        };
        App::new().wrap(FastCache::new(shared.clone())).default_service(web::to(handler))
    });
    for (n, (method, fields)) in
        [("GET", [("Cookie", "a=1")]), ("GET", [("Authorization", "a")]), ("HEAD", [("X", "y")])]
            .iter()
            .enumerate()
    {
        let path = format!("/{n}");
        server.send(method, &path, fields, b"").await;
        let before = runs.count();
        let open = async {
            until("a run", || runs.count() > before).await;
            gate.add_permits(20);
        };
        let (replies, ()): (Vec<Reply>, _) =
            tokio::join!(join_all((0..20).map(|_| server.get(&path, &[]))), open);
        let first = replies[0].text();
        assert!(replies.iter().all(|reply| reply.text() == first), "{method} {fields:?}");
        gate.forget_permits(100);
        gate.add_permits(1);
    }
}

/// A chosen name does not lead past what tells clients apart.
#[tokio::test]
async fn a_chosen_name_keeps_principals_and_varying_fields_apart() {
    let config = builder().key_by_authorization().vary(["x-tenant"]).build().unwrap();
    let server = site(&config, |req, cache| {
        cache.set_key("page");
        let said = |name: &str| req.headers().get(name).map_or("-", |value| value.to_str().unwrap());
        HttpResponse::build(StatusCode::OK).body(format!("{} {}", said("authorization"), said("x-tenant")))
    });
    for _ in 0..2 {
        for user in ["a", "v"] {
            for tenant in ["1", "2"] {
                let reply = server.get("/p", &[("Authorization", user), ("X-Tenant", tenant)]).await;
                assert_eq!(reply.text(), format!("{user} {tenant}"));
            }
        }
        assert_eq!(server.get("/p", &[]).await.text(), "- -");
    }
}

/// An outer cache fills from an inner one's hit: what the handler once said still holds.
#[tokio::test]
async fn what_an_inner_cache_answers_is_not_kept_outside_its_rules() {
    // Two caches; of one and the same, the inner layer stands aside.
    let (outer, inner) = (builder().build().unwrap(), builder().build().unwrap());
    let (drop_outer, handle) = (outer.handle(), inner.handle());
    let runs = Runs::new();
    let server = Server::start(1, move || {
        let runs = runs.clone();
        let handler = move |req: HttpRequest, cache: CacheControl| {
            cache.tag("t");
            cache.vary("x-user");
            let user = req.headers().get("x-user").map_or("-", |value| value.to_str().unwrap()).to_owned();
            ready(HttpResponse::Ok().body(format!("{user} {}", runs.add())))
        };
        App::new()
            .wrap(FastCache::new(outer.clone()))
            .service(web::scope("/s").wrap(FastCache::new(inner.clone())).default_service(web::to(handler)))
    });
    let a = [("X-User", "a")];
    assert_eq!(server.get("/s/p", &a).await.text(), "a 1");
    drop_outer.invalidate_namespace().await.unwrap();
    // From the inner cache, through the outer one.
    assert_eq!(server.get("/s/p", &a).await.text(), "a 1");
    assert_eq!(server.get("/s/p", &[("X-User", "v")]).await.text(), "v 2");
    assert_eq!(server.get("/s/p", &a).await.text(), "a 1");
    handle.invalidate_tag("t").await.unwrap();
    assert_eq!(server.get("/s/p", &a).await.text(), "a 3");
}

/// What selects an answer is told to the caches behind this one.
#[tokio::test]
async fn caches_downstream_hear_what_selects_an_answer() {
    let server = site(&defaults(), |_, cache| {
        cache.vary("X-User");
        HttpResponse::Ok().insert_header(("Vary", "Accept")).body("page")
    });
    for told in ["MISS", "HIT"] {
        let reply = server.get("/p", &[]).await;
        assert_eq!(
            (reply.cache().as_str(), reply.lines("vary").join(", ").to_lowercase()),
            (told, "accept, x-user".into())
        );
    }
}

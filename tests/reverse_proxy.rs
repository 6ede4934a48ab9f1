//! The example proxy, as a process of its own, in front of a real nginx.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

#[path = "../examples/reverse_proxy/purge.rs"]
mod purge;
mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::SystemTime;

use actix_fast_cache::{CacheConfig, MemoryStorage};
use actix_web::middleware::from_fn;
use actix_web::test::{TestRequest, call_service, init_service};
use actix_web::{App, HttpResponse, web};
use support::{Reply, request, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn a_second_request_is_answered_from_memory() {
    let nginx = Nginx::start("location / { add_header Cache-Control max-age=60; }").await;
    nginx.put("page.txt", b"a page\n");
    let proxy = Proxy::start(&nginx.url(), &[]);
    let first = proxy.get("/page.txt", &[]).await;
    let second = proxy.get("/page.txt", &[]).await;
    assert_eq!((first.status, first.cache(), first.text()), (200, "MISS".into(), "a page\n".into()));
    assert_eq!((second.status, second.cache(), second.text()), (200, "HIT".into(), "a page\n".into()));
    assert_eq!(first.field("cache-status").unwrap(), "reverse_proxy; fwd=uri-miss; stored");
    assert!(second.field("cache-status").unwrap().starts_with("reverse_proxy; hit; ttl="));
    assert!(second.field("age").is_some() && first.field("age").is_none());
    for name in ["etag", "last-modified", "content-type", "content-length", "date", "server", "accept-ranges"]
    {
        assert!(first.field(name).is_some(), "no {name}");
        assert_eq!(first.lines(name), second.lines(name), "{name}");
    }
    assert_eq!(nginx.requests("/page.txt").await, 1);
}

#[tokio::test]
async fn without_ttl_an_answer_that_names_no_lifetime_is_asked_for_again() {
    let nginx = Nginx::start("").await;
    nginx.put("page.txt", b"a page\n");
    let careful = Proxy::start(&nginx.url(), &[]);
    for _ in 0..2 {
        let reply = careful.get("/page.txt", &[]).await;
        assert_eq!((reply.status, reply.cache()), (200, "-".into()));
        assert_eq!(reply.field("cache-status").unwrap(), "reverse_proxy; fwd=uri-miss; detail=no-lifetime");
    }
    assert_eq!(nginx.requests("/page.txt").await, 2);

    let told = Proxy::start(&nginx.url(), &["--ttl", "60"]);
    assert_eq!(told.get("/page.txt", &[]).await.cache(), "MISS");
    assert_eq!(told.get("/page.txt", &[]).await.cache(), "HIT");
    assert_eq!(nginx.requests("/page.txt").await, 3);
}

#[tokio::test]
async fn hits_honour_the_validators_of_the_origin() {
    let nginx = Nginx::start("").await;
    nginx.put("page.txt", b"a page\n");
    let proxy = Proxy::start(&nginx.url(), &["--ttl", "60"]);
    let first = proxy.get("/page.txt", &[]).await;
    let (etag, modified) = (first.field("etag").unwrap(), first.field("last-modified").unwrap());
    for (name, value) in [("If-None-Match", etag.as_str()), ("If-Modified-Since", modified.as_str())] {
        let reply = proxy.get("/page.txt", &[(name, value)]).await;
        assert_eq!((reply.status, reply.cache()), (304, "HIT".into()), "{name}");
        assert_eq!(reply.field("etag").unwrap(), etag, "{name}");
    }
    let other = proxy.get("/page.txt", &[("If-None-Match", "\"other\"")]).await;
    assert_eq!((other.status, other.text()), (200, "a page\n".into()));
    assert_eq!(nginx.requests("/page.txt").await, 1);
}

#[tokio::test]
async fn a_conditional_miss_is_stored_whole_and_answered_304() {
    let nginx = Nginx::start("").await;
    nginx.put("page.txt", b"a page\n");
    let etag = nginx.get("/page.txt").await.field("etag").unwrap();
    let proxy = Proxy::start(&nginx.url(), &["--ttl", "60"]);
    let miss = proxy.get("/page.txt", &[("If-None-Match", &etag)]).await;
    assert_eq!((miss.status, miss.cache()), (304, "MISS".into()));
    // nginx was asked for all of it, once: the line of the test's own request is the other one.
    assert_eq!(proxy.get("/page.txt", &[]).await.text(), "a page\n");
    assert_eq!(nginx.statuses("/page.txt").await, ["200", "200"]);
}

#[tokio::test]
async fn a_range_of_a_hit_is_206_from_memory() {
    let nginx = Nginx::start("").await;
    nginx.put("digits.txt", b"0123456789");
    let proxy = Proxy::start(&nginx.url(), &["--ttl", "60"]);
    proxy.get("/digits.txt", &[]).await;
    let part = proxy.get("/digits.txt", &[("Range", "bytes=2-4")]).await;
    assert_eq!((part.status, part.cache(), part.text()), (206, "HIT".into(), "234".into()));
    assert_eq!(part.field("content-range").unwrap(), "bytes 2-4/10");
    let beyond = proxy.get("/digits.txt", &[("Range", "bytes=10-")]).await;
    assert_eq!((beyond.status, beyond.field("content-range").unwrap()), (416, "bytes */10".into()));
    assert_eq!(nginx.requests("/digits.txt").await, 1);
}

#[tokio::test]
async fn head_is_answered_from_the_entry_of_get_and_never_makes_one() {
    let nginx = Nginx::start("").await;
    nginx.put("page.txt", b"a page\n");
    let proxy = Proxy::start(&nginx.url(), &["--ttl", "60"]);
    let cold = proxy.send("HEAD", "/page.txt", &[], b"").await;
    assert_eq!((cold.status, cold.cache()), (200, "-".into()));
    assert_eq!(cold.field("content-length").unwrap(), "7");
    assert_eq!(proxy.get("/page.txt", &[]).await.cache(), "MISS");
    let warm = proxy.send("HEAD", "/page.txt", &[], b"").await;
    assert_eq!((warm.status, warm.cache()), (200, "HIT".into()));
    assert_eq!(warm.field("content-length").unwrap(), "7");
    assert_eq!(nginx.requests("/page.txt").await, 2);
}

#[tokio::test]
async fn a_large_file_is_passed_on_whole_and_neither_stored_nor_collected() {
    const LEN: usize = 64 << 20;
    let nginx = Nginx::start("location / { add_header Cache-Control max-age=60; }").await;
    let file: Vec<u8> =
        (0..LEN as u64 / 8).flat_map(|word| (word.wrapping_mul(0x9e37_79b9)).to_le_bytes()).collect();
    nginx.put("large.bin", &file);
    let proxy = Proxy::start(&nginx.url(), &[]);
    for _ in 0..2 {
        let reply = proxy.get("/large.bin", &[]).await;
        assert_eq!((reply.status, reply.cache()), (200, "-".into()));
        assert_eq!(reply.field("content-length").unwrap(), LEN.to_string());
        assert_eq!(
            reply.field("cache-status").unwrap(),
            "reverse_proxy; fwd=uri-miss; detail=body-too-large"
        );
        assert!(reply.body == file, "other bytes");
    }
    assert_eq!(nginx.requests("/large.bin").await, 2);
    #[cfg(target_os = "linux")]
    {
        let most = proxy.most_memory();
        assert!(most < LEN as u64 / 2, "the proxy took {most} bytes");
    }
}

#[tokio::test]
async fn the_largest_stored_body_is_a_flag() {
    let nginx = Nginx::start("location / { add_header Cache-Control max-age=60; }").await;
    nginx.put("10.txt", b"0123456789");
    nginx.put("11.txt", b"0123456789a");
    let proxy = Proxy::start(&nginx.url(), &["--max-body", "10"]);
    for (path, second) in [("/10.txt", "HIT"), ("/11.txt", "-")] {
        proxy.get(path, &[]).await;
        assert_eq!(proxy.get(path, &[]).await.cache(), second, "{path}");
    }
}

#[tokio::test]
async fn the_room_for_all_bodies_is_a_flag() {
    let nginx = Nginx::start("location / { add_header Cache-Control max-age=60; }").await;
    nginx.put("page.bin", &[b'x'; 100 << 10]);
    for (bytes, kept) in [("1000000", true), ("100000", false)] {
        let proxy = Proxy::start(&nginx.url(), &["--max-bytes", bytes]);
        let mut hit = false;
        for _ in 0..4 {
            // A request that comes while the one before is still being written shares its answer, kept or not.
            let told = proxy.get("/page.bin", &[]).await.field("cache-status").unwrap();
            hit |= told.starts_with("reverse_proxy; hit");
        }
        assert_eq!(hit, kept, "{bytes}");
    }
}

#[tokio::test]
async fn answers_that_set_a_cookie_are_not_stored() {
    let nginx = Nginx::start(
        "location / { add_header Cache-Control max-age=60; add_header Set-Cookie id=$request_id; }",
    )
    .await;
    nginx.put("page.txt", b"a page\n");
    let proxy = Proxy::start(&nginx.url(), &[]);
    let (first, second) = (proxy.get("/page.txt", &[]).await, proxy.get("/page.txt", &[]).await);
    assert_ne!(first.field("set-cookie").unwrap(), second.field("set-cookie").unwrap());
    assert_eq!((first.cache(), second.cache()), ("-".into(), "-".into()));
    assert_eq!(second.field("cache-status").unwrap(), "reverse_proxy; fwd=uri-miss; detail=set-cookie");
    assert_eq!(nginx.requests("/page.txt").await, 2);
}

#[tokio::test]
async fn requests_with_cookies_or_credentials_are_cached_only_where_a_flag_says_so() {
    let nginx = Nginx::start("location / { add_header Cache-Control max-age=60; }").await;
    nginx.put("page.txt", b"a page\n");
    let careful = Proxy::start(&nginx.url(), &[]);
    for field in [("Cookie", "a=1"), ("Authorization", "Basic YTpi")] {
        for _ in 0..2 {
            assert_eq!(careful.get("/page.txt", &[field]).await.cache(), "-", "{field:?}");
        }
    }
    assert_eq!(nginx.requests("/page.txt").await, 4);

    let opted = Proxy::start(&nginx.url(), &["--ignore-cookies", "--key-authorization"]);
    assert_eq!(opted.get("/page.txt", &[("Cookie", "a=1")]).await.cache(), "MISS");
    assert_eq!(opted.get("/page.txt", &[("Cookie", "a=2")]).await.cache(), "HIT");
    assert_eq!(opted.get("/page.txt", &[]).await.cache(), "HIT");
    assert_eq!(opted.get("/page.txt", &[("Authorization", "Basic YTpi")]).await.cache(), "MISS");
    assert_eq!(opted.get("/page.txt", &[("Authorization", "Basic YTpi")]).await.cache(), "HIT");
    assert_eq!(opted.get("/page.txt", &[("Authorization", "Basic Yzpk")]).await.cache(), "MISS");
    assert_eq!(nginx.requests("/page.txt").await, 7);
}

#[tokio::test]
async fn the_directives_of_requests_are_obeyed_only_where_a_flag_says_so() {
    let nginx = Nginx::start("location / { add_header Cache-Control max-age=60; }").await;
    nginx.put("page.txt", b"a page\n");
    let reload = [("Cache-Control", "no-cache")];
    let deaf = Proxy::start(&nginx.url(), &[]);
    deaf.get("/page.txt", &[]).await;
    assert_eq!(deaf.get("/page.txt", &reload).await.cache(), "HIT");
    assert_eq!(nginx.requests("/page.txt").await, 1);

    let obeying = Proxy::start(&nginx.url(), &["--obey-client"]);
    let only_stored = [("Cache-Control", "only-if-cached")];
    assert_eq!(obeying.get("/page.txt", &only_stored).await.status, 504);
    obeying.get("/page.txt", &[]).await;
    assert_eq!(obeying.get("/page.txt", &only_stored).await.status, 200);
    assert_eq!(obeying.get("/page.txt", &reload).await.status, 200);
    // Asked again, but not for the body: the stored ETag went along.
    assert_eq!(nginx.statuses("/page.txt").await, ["200", "200", "304"]);
}

#[tokio::test]
async fn gzip_and_plain_are_two_variants() {
    let nginx = Nginx::start(
        "gzip on; gzip_vary on; gzip_min_length 1; location / { add_header Cache-Control max-age=60; }",
    )
    .await;
    let page = "<p>the same line again</p>\n".repeat(100);
    nginx.put("page.html", page.as_bytes());
    let proxy = Proxy::start(&nginx.url(), &[]);
    let gzip = [("Accept-Encoding", "gzip")];
    for expected in ["MISS", "HIT"] {
        let plain = proxy.get("/page.html", &[]).await;
        assert_eq!((plain.cache(), plain.field("content-encoding")), (expected.into(), None));
        assert_eq!((plain.text(), plain.field("vary").unwrap()), (page.clone(), "Accept-Encoding".into()));
        let packed = proxy.get("/page.html", &gzip).await;
        assert_eq!(
            (packed.cache(), packed.field("content-encoding")),
            (expected.into(), Some("gzip".into()))
        );
        assert!(packed.body.starts_with(&[0x1f, 0x8b]) && packed.body.len() < page.len() / 2);
    }
    assert_eq!(nginx.requests("/page.html").await, 2);
}

const TAGGED: &str = r#"
    gzip on; gzip_vary on; gzip_min_length 1; gzip_types text/plain;
    add_header Cache-Control max-age=60;
    location /a/ { add_header Cache-Control max-age=60; add_header Cache-Groups '"a", "all"'; }
    location /b/ { add_header Cache-Control max-age=60; add_header Cache-Groups '"b", "all"'; }
"#;

#[tokio::test]
async fn purge_drops_a_url_in_all_its_variants_and_no_other() {
    let nginx = Nginx::start(TAGGED).await;
    nginx.put("one.txt", &b"one ".repeat(20));
    nginx.put("two.txt", &b"two ".repeat(20));
    let proxy = Proxy::start(&nginx.url(), &["--purge"]);
    let gzip = [("Accept-Encoding", "gzip")];
    let warm = async || {
        let plain = proxy.get("/one.txt?a=1", &[]).await.cache();
        [plain, proxy.get("/one.txt?a=1", &gzip).await.cache(), proxy.get("/two.txt", &[]).await.cache()]
    };
    assert_eq!(warm().await, ["MISS", "MISS", "MISS"]);
    assert_eq!(warm().await, ["HIT", "HIT", "HIT"]);
    let answer = proxy.send("PURGE", "/one.txt?a=1", &[], b"").await;
    assert_eq!((answer.status, answer.text().trim()), (200, r#"{"dropped": 2}"#));
    assert_eq!(answer.field("content-type").unwrap(), "application/json");
    assert_eq!(warm().await, ["MISS", "MISS", "HIT"]);

    // The query and the host are part of a URL.
    for (target, host) in [("/one.txt", "test.example"), ("/one.txt?a=1", "other.example")] {
        let answer = proxy.send("PURGE", target, &[("Host", host)], b"").await;
        assert_eq!((answer.status, answer.text().trim()), (200, r#"{"dropped": 0}"#));
    }
    assert_eq!(warm().await, ["HIT", "HIT", "HIT"]);
    let answer = proxy.send("PURGE", "http://test.example/two.txt", &[("Host", "x")], b"").await;
    assert_eq!(answer.text().trim(), r#"{"dropped": 1}"#);
    assert_eq!(warm().await, ["HIT", "HIT", "MISS"]);
    assert_eq!(nginx.methods().await, ["GET"]);
}

#[tokio::test]
async fn purge_drops_what_is_keyed_by_more_than_the_url() {
    let nginx = Nginx::start(TAGGED).await;
    nginx.put("one.txt", b"one\n");
    let proxy = Proxy::start(&nginx.url(), &["--purge", "--key-authorization"]);
    for field in [("Authorization", "Basic YTpi"), ("X-Forwarded-Host", "other.example")] {
        assert_eq!(proxy.get("/one.txt", &[field]).await.cache(), "MISS");
        assert_eq!(proxy.get("/one.txt", &[field]).await.cache(), "HIT");
        assert_eq!(proxy.send("PURGE", "/one.txt", &[], b"").await.status, 200);
        assert_eq!(proxy.get("/one.txt", &[field]).await.cache(), "MISS", "{field:?}");
    }
}

#[tokio::test]
async fn purge_by_tags_drops_what_carries_them_and_not_the_url() {
    let nginx = Nginx::start(TAGGED).await;
    for path in ["a/1.txt", "a/2.txt", "b/1.txt", "c.txt"] {
        nginx.put(path, b"tagged\n");
    }
    let proxy = Proxy::start(&nginx.url(), &["--purge"]);
    let warm = async || {
        let mut told = String::new();
        for path in ["/a/1.txt", "/a/2.txt", "/b/1.txt", "/c.txt"] {
            told.push_str(&proxy.get(path, &[]).await.cache());
            told.push(' ');
        }
        told
    };
    warm().await;
    assert_eq!(warm().await, "HIT HIT HIT HIT ");
    let purge = async |groups: &str| {
        let answer = proxy.send("PURGE", "/c.txt", &[("Cache-Groups", groups)], b"").await;
        (answer.status, answer.text().trim().to_owned())
    };
    assert_eq!(purge(r#""a""#).await, (200, r#"{"dropped": 1}"#.into()));
    assert_eq!(warm().await, "MISS MISS HIT HIT ");
    assert_eq!(purge(r#""b", "nobody's""#).await, (200, r#"{"dropped": 2}"#.into()));
    assert_eq!(warm().await, "HIT HIT MISS HIT ");
    assert_eq!(purge(r#""all""#).await, (200, r#"{"dropped": 1}"#.into()));
    assert_eq!(warm().await, "MISS MISS MISS HIT ");
    // A slip drops nothing, and says so.
    for slip in ["a", r#""a"#, r#"("a" "b")"#, r#""a" "b""#] {
        assert_eq!(purge(slip).await.0, 400, "{slip}");
    }
    assert_eq!(warm().await, "HIT HIT HIT HIT ");
}

#[actix_web::test]
async fn purge_is_for_the_loopback_alone() {
    // In this process, because nobody else can be had to connect from elsewhere.
    let cache = CacheConfig::builder(MemoryStorage::new()).build().unwrap();
    let app =
        App::new().app_data(cache).wrap(from_fn(purge::purge)).default_service(web::to(HttpResponse::Ok));
    let app = init_service(app).await;
    for (peer, status) in [
        ("192.0.2.1:9", 403),
        ("[2001:db8::1]:9", 403),
        ("[::ffff:192.0.2.1]:9", 403),
        ("127.0.0.2:9", 200),
        ("[::1]:9", 200),
        ("[::ffff:127.0.0.1]:9", 200),
    ] {
        for field in [("Host", "test.example"), ("Cache-Groups", "\"a\"")] {
            let request = TestRequest::with_uri("/page").method("PURGE".parse().unwrap());
            let request = request.insert_header(("Host", "test.example")).insert_header(field);
            // What the client says of itself counts for nothing.
            let request =
                request.insert_header(("X-Forwarded-For", "127.0.0.1")).peer_addr(peer.parse().unwrap());
            let reply = call_service(&app, request.to_request()).await;
            assert_eq!(reply.status().as_u16(), status, "{peer} {field:?}");
        }
    }
}

#[tokio::test]
async fn without_the_flag_purge_is_a_method_like_any_other() {
    let (origin, seen) = scripted(&["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]).await;
    let proxy = Proxy::start(&origin, &[]);
    let reply = proxy.send("PURGE", "/page.txt", &[], b"").await;
    assert_eq!((reply.status, reply.text()), (200, "ok".into()));
    assert!(seen.await.unwrap()[0].starts_with("PURGE /page.txt HTTP/1.1\r\n"));
}

#[tokio::test]
async fn a_write_that_succeeds_drops_its_url() {
    let nginx = Nginx::start(
        "if ($request_method = PUT) { return 204; }
         if ($request_method = DELETE) { return 403; }
         location / { add_header Cache-Control max-age=60; }",
    )
    .await;
    nginx.put("page.txt", b"before\n");
    let proxy = Proxy::start(&nginx.url(), &[]);
    assert_eq!(proxy.get("/page.txt", &[]).await.cache(), "MISS");
    assert_eq!(proxy.send("DELETE", "/page.txt", &[], b"").await.status, 403);
    assert_eq!(proxy.get("/page.txt", &[]).await.cache(), "HIT");
    nginx.put("page.txt", b"after\n");
    assert_eq!(proxy.send("PUT", "/page.txt", &[], b"after\n").await.status, 204);
    let reply = proxy.get("/page.txt", &[]).await;
    assert_eq!((reply.cache(), reply.text()), ("MISS".into(), "after\n".into()));
}

#[tokio::test]
async fn without_an_origin_hits_are_served_and_the_rest_is_502() {
    let mut nginx = Nginx::start("location / { add_header Cache-Control max-age=600; }").await;
    nginx.put("page.txt", b"a page\n");
    let proxy = Proxy::start(&nginx.url(), &[]);
    proxy.get("/page.txt", &[]).await;
    nginx.stop();
    let hit = proxy.get("/page.txt", &[]).await;
    assert_eq!((hit.status, hit.cache(), hit.text()), (200, "HIT".into(), "a page\n".into()));
    let miss = proxy.get("/other.txt", &[]).await;
    assert_eq!((miss.status, miss.text()), (502, "the origin cannot be reached".into()));
    assert_eq!(miss.field("cache-status").unwrap(), "reverse_proxy; fwd=uri-miss; detail=handler-error");
}

#[tokio::test]
async fn an_origin_that_is_gone_is_told_from_one_that_answers_502() {
    let nginx = Nginx::start("location / { return 502 'mine'; }").await;
    let proxy = Proxy::start(&nginx.url(), &[]);
    let own = proxy.get("/", &[]).await;
    assert_eq!((own.status, own.text()), (502, "mine".into()));
    assert_eq!(own.field("cache-status").unwrap(), "reverse_proxy; fwd=uri-miss; detail=status");

    // It breaks off before the end of its head.
    let (origin, _seen) = scripted(&["HTTP/1.1 200 OK\r\nContent-"]).await;
    let broken = Proxy::start(&origin, &[]).get("/", &[]).await;
    assert_eq!((broken.status, broken.text()), (502, "the origin cannot be reached".into()));
    assert_eq!(broken.field("cache-status").unwrap(), "reverse_proxy; fwd=uri-miss; detail=handler-error");
}

#[tokio::test]
async fn without_an_origin_stale_answers_are_served_where_they_give_a_window() {
    let mut nginx = Nginx::start(
        "location / { add_header Cache-Control max-age=1; }
         location /window/ { add_header Cache-Control 'max-age=1, stale-if-error=600'; }",
    )
    .await;
    nginx.put("page.txt", b"a page\n");
    nginx.put("window/page.txt", b"a lasting page\n");
    let proxy = Proxy::start(&nginx.url(), &[]);
    for path in ["/page.txt", "/window/page.txt"] {
        assert_eq!(proxy.get(path, &[]).await.cache(), "MISS");
    }
    nginx.stop();
    // The process has no clock to turn: its one second has to pass.
    let old = loop {
        let reply = proxy.get("/window/page.txt", &[]).await;
        assert_eq!((reply.status, reply.text()), (200, "a lasting page\n".into()));
        if reply.field("age").unwrap().parse::<u64>().unwrap() > 1 {
            break reply;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert_eq!(old.cache(), "HIT");
    assert_eq!(proxy.get("/page.txt", &[]).await.status, 502);
}

#[tokio::test]
async fn a_crowd_that_finds_nothing_asks_the_origin_once() {
    // So slow that all of them are there before the first one has its answer.
    let nginx = Nginx::start("location / { add_header Cache-Control max-age=60; limit_rate 100k; }").await;
    let page = vec![b'x'; 100 << 10];
    nginx.put("page.bin", &page);
    let proxy = Proxy::start(&nginx.url(), &["--workers", "2"]);
    let replies = futures_util::future::join_all((0..50).map(|_| proxy.get("/page.bin", &[]))).await;
    for reply in &replies {
        assert!(reply.status == 200 && reply.body == page);
    }
    let told = |word: &str| {
        replies.iter().filter(|reply| reply.field("cache-status").unwrap().contains(word)).count()
    };
    assert_eq!((told("; stored"), told("; collapsed")), (1, 49));
    assert_eq!(nginx.requests("/page.bin").await, 1);
}

#[tokio::test]
async fn whoever_has_waited_long_enough_asks_alone() {
    let nginx = Nginx::start("location / { add_header Cache-Control max-age=60; limit_rate 100k; }").await;
    nginx.put("page.bin", &[b'x'; 100 << 10]);
    let proxy = Proxy::start(&nginx.url(), &["--wait-ms", "1"]);
    let replies = futures_util::future::join_all((0..3).map(|_| proxy.get("/page.bin", &[]))).await;
    assert!(replies.iter().all(|reply| reply.status == 200 && reply.body.len() == 100 << 10));
    assert_eq!(nginx.requests("/page.bin").await, 3);
}

#[tokio::test]
async fn repeated_fields_come_through_unchanged_and_in_order() {
    let nginx = Nginx::start(
        "location / { add_header Cache-Control max-age=60; add_header X-Many b; add_header X-Many 'a, c';
                      add_header X-Many b; add_header Link '</1>; rel=preload'; add_header Link '</2>; rel=next'; }",
    )
    .await;
    nginx.put("page.txt", b"a page\n");
    let proxy = Proxy::start(&nginx.url(), &[]);
    for expected in ["MISS", "HIT"] {
        let reply = proxy.get("/page.txt", &[]).await;
        assert_eq!(reply.cache(), expected);
        assert_eq!(reply.lines("x-many"), ["b", "a, c", "b"]);
        assert_eq!(reply.lines("link"), ["</1>; rel=preload", "</2>; rel=next"]);
    }

    let (origin, seen) = scripted(&["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]).await;
    let proxy = Proxy::start(&origin, &[]);
    let fields = [("X-Many", "b"), ("X-Many", "a, c"), ("X-Many", "b"), ("X-Latin", "caf\u{e9}")];
    proxy.get("/a%2fb/../c?x=%20&x=+", &fields).await;
    let seen = seen.await.unwrap().remove(0).to_ascii_lowercase();
    let mut lines = seen.split("\r\n");
    assert_eq!(lines.next(), Some("get /a%2fb/../c?x=%20&x=+ http/1.1"));
    let many: Vec<_> = lines.clone().filter_map(|line| line.strip_prefix("x-many: ")).collect();
    assert_eq!(many, ["b", "a, c", "b"]);
    assert!(
        lines.clone().any(|line| line == "x-latin: caf\u{e9}")
            && lines.any(|line| line == "host: test.example")
    );
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_stored_and_breaks_off_here_too() {
    let short = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10\r\n\r\nshort";
    let whole = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 5\r\n\r\nwhole";
    let (origin, _seen) = scripted(&[short, whole]).await;
    let proxy = Proxy::start(&origin, &[]);
    assert!(proxy.try_send("GET", "/", &[], b"").await.is_none());
    let second = proxy.get("/", &[]).await;
    assert_eq!((second.cache(), second.text()), ("MISS".into(), "whole".into()));
    assert_eq!(proxy.get("/", &[]).await.cache(), "HIT");
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn two_proxies_share_what_is_kept_in_redis_and_lose_it_together() {
    let (nginx, redis) = (Nginx::start("").await, support::redis::RedisServer::start().await);
    nginx.put("page.txt", b"a page\n");
    let flags = ["--ttl", "60", "--purge", "--storage", &redis.url()];
    let [one, other] = [(); 2].map(|()| Proxy::start(&nginx.url(), &flags));
    let asked = async |proxy: &Proxy| proxy.get("/page.txt", &[]).await.cache();
    assert_eq!(asked(&one).await, "MISS");
    let mut shared = asked(&other).await;
    for _ in 0..400 {
        // It is written behind the first answer.
        if shared == "HIT" {
            break;
        }
        shared = asked(&other).await;
    }
    assert_eq!((shared.as_str(), asked(&one).await.as_str()), ("HIT", "HIT"));
    let before = nginx.requests("/page.txt").await;
    assert_eq!(one.send("PURGE", "/page.txt", &[], b"").await.text(), "{\"dropped\": 1}\n");
    asked(&other).await;
    assert_eq!(nginx.requests("/page.txt").await, before + 1);
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused_by_name() {
    for (flag, value) in [
        ("--origin", "https://secure.example"),
        ("--origin", "http://with.example/path"),
        ("--storage", "disk"),
        #[cfg(not(feature = "redis"))]
        ("--storage", "redis://127.0.0.1:6379"),
        #[cfg(feature = "redis")]
        ("--storage", "redis://"),
        ("--workers", "0"),
        ("--max-body", "1MB"),
    ] {
        let mut command = Proxy::command("http://127.0.0.1:1", &[]);
        if flag == "--origin" {
            command = Command::new(example());
        }
        let Output { status, stderr, .. } = command.args([flag, value]).output().unwrap();
        let said = String::from_utf8_lossy(&stderr);
        assert_eq!(status.code(), Some(2), "{said}");
        assert!(said.contains(flag), "{said}");
    }
}

/// An origin that takes one connection after the other, reads a request head, writes an answer and closes. The task
/// ends with the heads it read.
async fn scripted(answers: &[&'static str]) -> (String, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answers = answers.to_vec();
    let seen = tokio::spawn(async move {
        let mut seen = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            seen.push(String::from_utf8(head).unwrap());
        }
        seen
    });
    (url, seen)
}

/// A proxy on a free port; killed when dropped.
struct Proxy {
    process: Process,
    addr: SocketAddr,
}

impl Proxy {
    fn command(origin: &str, flags: &[&str]) -> Command {
        let mut command = Command::new(example());
        command.args(["--origin", origin, "--listen", "127.0.0.1:0"]).args(flags);
        command
    }

    fn start(origin: &str, flags: &[&str]) -> Self {
        let mut process = Process(
            Self::command(origin, flags)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        let mut said = BufReader::new(process.0.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let addr = line.strip_prefix("listening on http://").and_then(|rest| rest.split(',').next());
        let addr = addr.unwrap_or_else(|| panic!("the proxy said: {line}")).parse().unwrap();
        // What it says later must not fill the pipe, nor kill it for want of a reader.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::stderr()));
        Self { process, addr }
    }

    async fn get(&self, target: &str, fields: &[(&str, &str)]) -> Reply {
        self.send("GET", target, fields, b"").await
    }

    async fn send(&self, method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Reply {
        self.try_send(method, target, fields, body).await.expect("an answer")
    }

    async fn try_send(
        &self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Option<Reply> {
        send(self.addr, method, &request(method, target, fields, body)).await
    }

    /// The most memory it ever occupied, in bytes.
    #[cfg(target_os = "linux")]
    fn most_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

async fn send(addr: SocketAddr, method: &str, bytes: &[u8]) -> Option<Reply> {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    // Boxed: with its buffers inside, a few of them in a row are too much for the stack of a test.
    Box::pin(Reply::read(&mut stream, method == "HEAD")).await
}

/// An nginx on a free port, with files and a log of its own; killed when dropped.
struct Nginx {
    process: Process,
    addr: SocketAddr,
    dir: PathBuf,
    marks: AtomicUsize,
}

impl Nginx {
    /// Starts one with these lines in its `server` block.
    async fn start(server: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("nginx-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
        fs::create_dir_all(dir.join("www")).unwrap();
        // The port is free when asked for, and may be taken a moment later: then again.
        for _ in 0..10 {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let addr = free.local_addr().unwrap();
            drop(free);
            fs::write(dir.join("nginx.conf"), config(addr, &name, server)).unwrap();
            // Debian puts it where only root looks.
            let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
            let mut command = Command::new("nginx");
            command.env("PATH", path);
            command
                .arg("-p")
                .arg(&dir)
                .arg("-c")
                .arg(dir.join("nginx.conf"))
                .arg("-e")
                .arg(dir.join("error.log"));
            let process =
                match command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
                    Ok(process) => Process(process),
                    Err(error) => panic!("nginx is needed ({error}): on Debian, apt-get install nginx-light"),
                };
            let mut nginx = Self { process, addr, dir: dir.clone(), marks: AtomicUsize::new(0) };
            if nginx.is_up(&name).await {
                return nginx;
            }
        }
        panic!("nginx does not start: {}", fs::read_to_string(dir.join("error.log")).unwrap_or_default());
    }

    /// Waits until it answers by its name, or has ended.
    async fn is_up(&mut self, name: &str) -> bool {
        while self.process.has_ended().is_none() {
            if let Ok(mut stream) = TcpStream::connect(self.addr).await
                && stream.write_all(&request("GET", "/mark", &[], b"")).await.is_ok()
                && let Some(reply) = Reply::read(&mut stream, false).await
            {
                return reply.text() == name;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        false
    }

    fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Writes a file that it serves.
    fn put(&self, path: &str, bytes: &[u8]) {
        let path = self.dir.join("www").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Asks it without the proxy.
    async fn get(&self, target: &str) -> Reply {
        send(self.addr, "GET", &request("GET", target, &[], b"")).await.expect("an answer")
    }

    fn stop(&mut self) {
        self.process.end();
    }

    /// Method, target and status of all requests so far.
    async fn log(&self) -> Vec<[String; 3]> {
        // A line is written a moment after its answer, but before the next request is looked at: there is one thread.
        let mark = format!("/mark?{}", self.marks.fetch_add(1, Relaxed));
        self.get(&mark).await;
        let read = || fs::read_to_string(self.dir.join("access.log")).unwrap();
        until("nginx logs a request", || read().contains(&format!("{mark} "))).await;
        let line = |line: &str| {
            let mut words = line.split(' ').map(str::to_owned);
            [words.next().unwrap(), words.next().unwrap(), words.next().unwrap()]
        };
        read().lines().map(line).filter(|[_, target, _]| !target.starts_with("/mark")).collect()
    }

    /// The statuses it answered for a target.
    async fn statuses(&self, target: &str) -> Vec<String> {
        let lines = self.log().await.into_iter().filter(|[_, seen, _]| seen == target);
        lines.map(|[.., status]| status).collect()
    }

    /// How often it was asked for a target.
    async fn requests(&self, target: &str) -> usize {
        self.statuses(target).await.len()
    }

    /// The methods it was asked with, each once.
    async fn methods(&self) -> Vec<String> {
        let mut methods: Vec<_> = self.log().await.into_iter().map(|[method, ..]| method).collect();
        methods.sort();
        methods.dedup();
        methods
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.process.end();
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// One process and one thread, as the user who tests: no rights are given up, and log lines are in order.
fn config(addr: SocketAddr, name: &str, server: &str) -> String {
    format!(
        "daemon off; master_process off; pid nginx.pid; error_log error.log;
         events {{ worker_connections 1024; }}
         http {{
             types {{ text/plain txt; text/html html; }}
             default_type application/octet-stream;
             log_format line '$request_method $request_uri $status';
             access_log access.log line;
             client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
             uwsgi_temp_path uwsgi; scgi_temp_path scgi;
             server {{
                 listen {addr};
                 root www;
                 location = /mark {{ return 200 {name}; }}
                 {server}
             }}
         }}"
    )
}

/// A process that ends with its owner.
struct Process(Child);

impl Process {
    fn has_ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }

    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// The example's binary, in the profile of this test. Cargo names it to nobody, and does not build it for one test alone.
fn example() -> &'static Path {
    static EXAMPLE: LazyLock<PathBuf> = LazyLock::new(|| {
        let test = std::env::current_exe().unwrap();
        let profile = test.parent().and_then(Path::parent).unwrap();
        let binary = profile.join("examples").join(format!("reverse_proxy{}", std::env::consts::EXE_SUFFIX));
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let sources = ["src", "examples/reverse_proxy", "Cargo.toml", "Cargo.lock"]
            .map(|name| newest(&root.join(name)));
        let is_stale = |built: SystemTime| sources.iter().any(|changed| *changed > built);
        if modified(&binary).is_none_or(is_stale) {
            let name = match profile.file_name().and_then(|name| name.to_str()).unwrap() {
                "debug" => "dev",
                name => name,
            };
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
            let mut build = Command::new(cargo);
            build.current_dir(root).args(["build", "--example", "reverse_proxy", "--all-features"]);
            build.args(["--profile", name]).arg("--target-dir").arg(profile.parent().unwrap());
            assert!(build.status().unwrap().success(), "the example does not build");
        }
        binary
    });
    &EXAMPLE
}

/// When what cargo compiles under a path was changed last.
fn newest(path: &Path) -> SystemTime {
    if let Ok(inside) = fs::read_dir(path) {
        return inside
            .map(|entry| newest(&entry.unwrap().path()))
            .fold(SystemTime::UNIX_EPOCH, SystemTime::max);
    }
    let is_source =
        path.extension().is_some_and(|kind| ["rs", "toml", "lock"].iter().any(|known| kind == *known));
    modified(path).filter(|_| is_source).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

//! Poisoning: what one client sends must not become another one's page.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

mod support;

use std::future::ready;
use std::time::Duration;

use actix_fast_cache::{
    CacheConfig, CacheConfigBuilder, CacheControl, CookiePolicy, FastCache, ManualClock, MemoryStorage,
    QueryKey,
};
use actix_web::http::{Method, StatusCode};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use futures_util::future::join_all;
use support::{Reply, Runs, Server, request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn builder() -> CacheConfigBuilder {
    CacheConfig::builder(MemoryStorage::new()).clock(ManualClock::new())
}

fn defaults() -> CacheConfig {
    builder().build().unwrap()
}

/// A site with one page for every path, method and host.
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

/// A page that prints where it believes to be.
fn where_am_i(req: &HttpRequest, _: &CacheControl) -> HttpResponse {
    let connection = req.connection_info();
    let url = format!("{}://{}{}", connection.scheme(), connection.host(), req.path());
    HttpResponse::Ok().insert_header(("Content-Location", url.as_str())).body(url.clone())
}

/// What V gets after A has asked with these fields; nothing of A's may be in it.
async fn after(server: &Server, attack: &[(&str, &str)], target: &str) -> Reply {
    for _ in 0..2 {
        server.get(target, attack).await;
    }
    server.get(target, &[]).await
}

// P1
#[tokio::test]
async fn a_forwarded_host_stays_with_who_sent_it() {
    let server = site(&defaults(), where_am_i);
    for (n, name) in ["X-Forwarded-Host", "X-Host"].iter().enumerate() {
        for value in ["evil", "evil, test.example", "", "test.example:1337", "\t evil"] {
            let reply = after(&server, &[(name, value)], &format!("/p{n}")).await;
            assert_eq!(reply.text(), format!("http://test.example/p{n}"), "{name}: {value}");
        }
        let two = [(*name, "test.example"), (*name, "evil")];
        assert_eq!(after(&server, &two, "/two").await.text(), "http://test.example/two");
    }
}

// P2
#[tokio::test]
async fn a_forwarded_line_stays_with_who_sent_it() {
    let server = site(&defaults(), where_am_i);
    for value in [
        "host=evil;proto=ftp",
        "for=1.2.3.4;host=evil",
        "for=\"a;host=evil;\"",
        "For = x, HOST = evil",
        "by=x;proto=evil",
        "proto=test.example",
        "for=1.2.3.4, for=5.6.7.8;host=evil",
    ] {
        let reply = after(&server, &[("Forwarded", value)], "/p").await;
        assert_eq!(reply.text(), "http://test.example/p", "{value}");
    }
    // Who asked is no reason for an entry of one's own.
    assert_eq!(server.get("/p", &[("Forwarded", "for=9.9.9.9")]).await.cache(), "HIT");
}

// P3
#[tokio::test]
async fn a_forwarded_scheme_stays_with_who_sent_it() {
    let runs = Runs::new();
    let counted = runs.clone();
    let server = site(&defaults(), move |req, _| {
        counted.add();
        let told = |name: &str| req.headers().get(name).map_or("-", |value| value.to_str().unwrap_or("?"));
        let secure = [
            "x-forwarded-proto",
            "x-forwarded-scheme",
            "x-forwarded-protocol",
            "x-forwarded-ssl",
            "x-forwarded-port",
            "x-forwarded-prefix",
            "x-url-scheme",
            "front-end-https",
        ];
        let to: Vec<&str> = secure.iter().map(|name| told(name)).collect();
        HttpResponse::Ok().body(format!("{} {}", to.join(","), req.connection_info().scheme()))
    });
    let clean = "-,-,-,-,-,-,-,- http";
    for name in [
        "X-Forwarded-Proto",
        "X-Forwarded-Scheme",
        "X-Forwarded-Protocol",
        "X-Forwarded-SSL",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Url-Scheme",
        "Front-End-Https",
    ] {
        // The host's own name is no scheme either.
        for value in ["https", "on", "nothttps", "test.example", ""] {
            for fields in [vec![(name, value)], vec![(name, value), ("X-Forwarded-Host", "evil")]] {
                let path = format!("/{name}/{value}/{}", fields.len());
                assert_eq!(after(&server, &fields, &path).await.text(), clean, "{fields:?}");
            }
        }
    }
    assert!(runs.count() > 80);
}

// P4
#[tokio::test]
async fn a_port_in_the_host_is_another_host() {
    let server = site(&defaults(), where_am_i);
    assert_eq!(server.get("/p", &[("Host", "a:1337")]).await.text(), "http://a:1337/p");
    let plain = server.get("/p", &[("Host", "a")]).await;
    assert_eq!((plain.cache().as_str(), plain.text().as_str()), ("MISS", "http://a/p"));
    assert_eq!(server.get("/p", &[("Host", "a:1337")]).await.cache(), "HIT");
}

// P5
#[tokio::test]
async fn an_absolute_target_is_keyed_with_all_it_says() {
    let server = site(&defaults(), |req, cache| {
        let page = where_am_i(req, cache);
        page.map_body(|_, _| format!("{} {}", req.uri(), req.connection_info().scheme()))
            .map_into_boxed_body()
    });
    for (target, host) in [
        ("http://evil/p", "a"),
        ("http://a/p", "evil"),
        ("https://a/p", "a"),
        ("evil://a/p", "a"),
        ("javascript://a/p", "a"),
        ("http://user@a/p", "a"),
        ("http://a:80/p", "a"),
        ("HTTP://a/p", "a"),
    ] {
        let fields = [("Host", host)];
        server.get(target, &fields).await;
        let (path, absolute) = (server.get("/p", &[("Host", "a")]).await, server.get(target, &fields).await);
        assert!(path.text().ends_with("/p http"), "{target} {host}: {}", path.text());
        assert!(!path.text().contains("evil") && !path.text().contains("user"), "{target}: {}", path.text());
        assert_eq!(absolute.status, 200);
    }
}

/// A handler that believes in the target's scheme, as `connection_info()` does.
#[tokio::test]
async fn the_scheme_of_an_absolute_target_stays_with_who_sent_it() {
    let server = site(&defaults(), where_am_i);
    for scheme in ["https", "javascript", "ftp"] {
        let path = format!("/{scheme}");
        let own = server.get(&format!("{scheme}://test.example{path}"), &[]).await;
        assert_eq!(own.text(), format!("{scheme}://test.example{path}"));
        assert_eq!(server.get(&path, &[]).await.text(), format!("http://test.example{path}"));
    }
}

#[tokio::test]
async fn several_hosts_are_all_keyed() {
    let server = site(&defaults(), |req, _| {
        let hosts: Vec<_> = req.headers().get_all("host").map(|host| host.to_str().unwrap()).collect();
        HttpResponse::Ok().body(hosts.join(" "))
    });
    for hosts in [vec!["a", "evil"], vec!["evil", "a"], vec!["a", "a", "evil"], vec!["a"]] {
        let fields: Vec<_> = hosts.iter().map(|host| ("Host", *host)).collect();
        let reply = server.get("/p", &fields).await;
        assert!(reply.status == 400 || reply.text() == hosts.join(" "), "{hosts:?}: {}", reply.text());
    }
}

#[tokio::test]
async fn an_old_client_without_a_host_has_a_page_of_its_own() {
    let server = site(&defaults(), where_am_i);
    let empty = server.raw("GET", b"GET /p HTTP/1.1\r\nHost:\r\n\r\n").await;
    let old = server.raw("GET", b"GET /p HTTP/1.0\r\n\r\n").await;
    let named = server.raw("GET", b"GET /p HTTP/1.0\r\nHost: test.example\r\n\r\n").await;
    assert_ne!(old.text(), empty.text());
    assert_eq!(named.text(), "http://test.example/p");
    assert_eq!(server.get("/p", &[]).await.cache(), "HIT");
}

// P6
#[tokio::test]
async fn an_overridden_url_is_nobody_elses_page() {
    let server = site(&defaults(), |req, _| {
        let real = ["x-original-url", "x-rewrite-url", "x-original-uri"];
        let told = real.iter().find_map(|name| req.headers().get(*name)?.to_str().ok());
        HttpResponse::Ok().body(told.unwrap_or(req.path()).to_owned())
    });
    for name in ["X-Original-URL", "X-Rewrite-URL", "x-original-uri"] {
        assert_eq!(after(&server, &[(name, "/admin")], "/p").await.text(), "/p");
        // Nor is what others have stored an answer to it.
        assert_eq!(server.get("/p", &[(name, "/admin")]).await.text(), "/admin");
    }
}

// P7
#[tokio::test]
async fn an_overridden_method_is_nobody_elses_page() {
    let server = site(&defaults(), |req, _| {
        let names = ["x-http-method-override", "x-http-method", "x-method-override"];
        let told = names.iter().find_map(|name| req.headers().get(*name)?.to_str().ok());
        match told.unwrap_or(req.method().as_str()) {
            "GET" => HttpResponse::Ok().body("page"),
            "HEAD" | "" => HttpResponse::Ok().finish(),
            "BREW" => HttpResponse::build(StatusCode::IM_A_TEAPOT).finish(),
            other => HttpResponse::Ok().body(format!("done: {other}")),
        }
    });
    for name in ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"] {
        for method in ["POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "BREW", ""] {
            let path = format!("/{name}/{method}");
            let reply = after(&server, &[(name, method)], &path).await;
            assert_eq!((reply.status, reply.text().as_str()), (200, "page"), "{name}: {method}");
        }
    }
}

fn body_printer(config: &CacheConfig) -> Server {
    let config = config.clone();
    Server::start(2, move || {
        let handler = async |req: HttpRequest, body: web::Bytes| {
            HttpResponse::Ok().body(format!("{} {}", req.path(), String::from_utf8_lossy(&body)))
        };
        App::new().wrap(FastCache::new(config.clone())).default_service(web::to(handler))
    })
}

// P8
#[tokio::test]
async fn a_get_with_a_body_neither_fills_nor_reads_the_cache() {
    let server = body_printer(&defaults());
    let chunked =
        b"GET /p HTTP/1.1\r\nHost: test.example\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n";
    for attack in [request("GET", "/p", &[], b"evil"), chunked.to_vec()] {
        assert_eq!(server.raw("GET", &attack).await.text(), "/p evil");
        assert_eq!(server.get("/p", &[]).await.text(), "/p ");
        assert_eq!(server.raw("GET", &attack).await.text(), "/p evil");
        // What follows on the connection is the next request, not a rest of this one.
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(&[attack.clone(), request("GET", "/next", &[], b"")].concat()).await.unwrap();
        let mut all = Vec::new();
        let mut chunk = [0; 4096];
        while !String::from_utf8_lossy(&all).contains("/next") {
            let n = stream.read(&mut chunk).await.unwrap();
            assert!(n > 0, "{}", String::from_utf8_lossy(&all));
            all.extend_from_slice(&chunk[..n]);
        }
        let all = String::from_utf8_lossy(&all).into_owned();
        assert_eq!(all.matches("HTTP/1.1 200").count(), 2, "{all}");
        assert!(all.contains("/p evil") && !all.contains("/next evil"), "{all}");
    }
}

/// A request over cleartext HTTP/2, and the data of its answer.
async fn over_http2(addr: std::net::SocketAddr, pseudo: &[(&str, &str)], body: &[u8]) -> String {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&len[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let literal = |name: &str, value: &str| {
        let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        [vec![0], text(name), text(value)].concat()
    };
    let head: Vec<u8> = pseudo.iter().flat_map(|(name, value)| literal(name, value)).collect();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, b""));
    bytes.extend(frame(1, if body.is_empty() { 5 } else { 4 }, 1, &head));
    if !body.is_empty() {
        bytes.extend(frame(0, 1, 1, body));
    }
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut data = Vec::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.expect("a frame");
        let len = usize::from(head[1]) * 256 + usize::from(head[2]);
        let mut payload = vec![0; len];
        stream.read_exact(&mut payload).await.unwrap();
        match head[3] {
            0 => data.extend_from_slice(&payload),
            3 | 7 => panic!("reset: {payload:?}"),
            4 if head[4] & 1 == 0 => stream.write_all(&frame(4, 1, 0, b"")).await.unwrap(),
            _ => {}
        }
        if head[3] <= 1 && head[4] & 1 == 1 {
            return String::from_utf8(data).unwrap();
        }
    }
}

/// A server that speaks HTTP/2 without TLS too; `Server` speaks HTTP/1 alone.
fn http2_site(config: &CacheConfig) -> (std::net::SocketAddr, actix_web::dev::ServerHandle) {
    let config = config.clone();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (started, handle) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let server = HttpServer::new(move || {
                let handler = async |req: HttpRequest, body: web::Bytes| {
                    let url = req.connection_info();
                    let body = String::from_utf8_lossy(&body).into_owned();
                    HttpResponse::Ok().body(format!("{}://{} [{body}]", url.scheme(), url.host()))
                };
                App::new().wrap(FastCache::new(config.clone())).default_service(web::to(handler))
            })
            .workers(1)
            .disable_signals()
            .shutdown_timeout(1)
            .listen_auto_h2c(listener)
            .unwrap()
            .run();
            started.send(server.handle()).unwrap();
            server.await.unwrap();
        });
    });
    (addr, handle.recv().unwrap())
}

#[tokio::test]
async fn what_http2_says_beside_its_path_stays_with_who_sent_it() {
    let (addr, handle) = http2_site(&defaults());
    let with = |scheme, path| {
        [(":method", "GET"), (":scheme", scheme), (":path", path), (":authority", "test.example")]
    };
    // A body that no length announces.
    over_http2(addr, &with("http", "/body"), b"evil").await;
    assert_eq!(over_http2(addr, &with("http", "/body"), b"").await, "http://test.example []");
    over_http2(addr, &with("https", "/scheme"), b"").await;
    assert_eq!(over_http2(addr, &with("http", "/scheme"), b"").await, "http://test.example []");
    // A Host field beside the authority.
    let both = [with("http", "/host").as_slice(), &[("host", "evil")]].concat();
    over_http2(addr, &both, b"").await;
    assert_eq!(over_http2(addr, &with("http", "/host"), b"").await, "http://test.example []");
    drop(handle.stop(false));
}

// P9
#[tokio::test]
async fn a_semicolon_hides_nothing_in_an_ignored_parameter() {
    let config = builder().query(QueryKey::except(["utm_*"])).build().unwrap();
    let server = site(&config, |req, _| HttpResponse::Ok().body(req.query_string().to_owned()));
    server.get("/p?q=ok&utm_content=x;q=bad", &[]).await;
    assert_eq!(server.get("/p?q=ok&utm_content=x", &[]).await.text(), "q=ok&utm_content=x");
    server.get("/p?q=ok;utm_content=x&q=bad", &[]).await;
    assert_eq!(server.get("/p?q=ok", &[]).await.cache(), "HIT");
}

// P10, P11
#[tokio::test]
async fn every_spelling_of_path_and_query_is_its_own() {
    let server = site(&defaults(), |req, _| HttpResponse::Ok().body(req.uri().to_string()));
    let targets = [
        "/p",
        "/p?",
        "/p?q",
        "/p?q=",
        "/p?q=x",
        "/p%3fq=1",
        "/p?q=1",
        "/p?q=%31",
        "/p/",
        "//p",
        "/%70",
        "/P",
        "/p?%71=1",
        "/p?q=1&q=1",
        "/p?q=1&",
        "/p;q=1",
        "/p%20",
        "/p%00",
        "/p/.",
        "/x/../p",
        "/p?q=1?",
    ];
    for round in ["MISS", "HIT"] {
        for target in targets {
            let reply = server.get(target, &[]).await;
            let told = (reply.cache(), reply.text());
            assert_eq!(told, (round.to_owned(), target.to_owned()));
        }
    }
    // A fragment is not for servers.
    let reply = server.get("/p#x", &[]).await;
    assert!(reply.status == 400 || reply.text() == "/p", "{reply:?}");
}

/// The order of the query is not in the key, except where names meet only after decoding.
#[tokio::test]
async fn an_encoded_name_keeps_its_place_in_the_query() {
    type Last = std::collections::HashMap<String, String>;
    let server = site(&defaults(), |req, _| {
        let query = web::Query::<Last>::from_query(req.query_string()).unwrap();
        HttpResponse::Ok().body(query["a"].clone())
    });
    for name in ["%61", "a"] {
        server.get(&format!("/{name}?a=good&{name}=evil"), &[]).await;
        assert_eq!(server.get(&format!("/{name}?{name}=evil&a=good"), &[]).await.text(), "good");
    }
    server.get("/p?a=1&b=2", &[]).await;
    assert_eq!(server.get("/p?b=2&a=1", &[]).await.cache(), "HIT");
}

// P12
#[tokio::test]
async fn an_answer_to_too_many_fields_is_not_kept() {
    let server = site(&defaults(), |req, _| match req.headers().len() {
        0..=40 => HttpResponse::Ok().body("page"),
        41..=70 => HttpResponse::BadRequest().insert_header(("Cache-Control", "max-age=600")).finish(),
        _ => HttpResponse::PayloadTooLarge().finish(),
    });
    let value = "x".repeat(80);
    for count in [50, 70, 90] {
        let names: Vec<String> = (0..count).map(|n| format!("x-field-{n}")).collect();
        let fields: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), value.as_str())).collect();
        assert!(server.get("/p", &fields).await.status >= 400);
        assert_eq!(server.get("/p", &[]).await.text(), "page", "{count}");
        // From the cache even they get the page.
        assert_eq!(server.get("/p", &fields).await.cache(), "HIT");
        server.send("POST", "/p", &[], b"").await;
    }
}

// P13
#[tokio::test]
async fn an_answer_to_odd_bytes_is_not_kept() {
    let server = site(&defaults(), |req, _| {
        match req.headers().get("x-odd").is_some_and(|value| value.to_str().is_err()) {
            true => {
                HttpResponse::BadRequest().insert_header(("Cache-Control", "public, max-age=60")).finish()
            }
            false => HttpResponse::Ok().body("page"),
        }
    });
    for byte in (0..=31).chain(127..=255) {
        let head = format!("GET /{byte} HTTP/1.1\r\nHost: test.example\r\nX-Odd: a");
        let attack = [head.as_bytes(), &[byte], b"b\r\n\r\n"].concat();
        // CR and LF alone are for the server's parser to judge; it may wait for more.
        if byte != b'\r' && byte != b'\n' && byte != b'\t' {
            assert_eq!(server.raw("GET", &attack).await.status, 400, "{byte}");
        }
        assert_eq!(server.get(&format!("/{byte}"), &[]).await.text(), "page", "{byte}");
    }
}

/// Whether the second answer for this status comes from the cache.
async fn is_kept(server: &Server, status: u16, query: &str) -> bool {
    let target = format!("/{status}{query}");
    let first = server.get(&target, &[]).await;
    assert_eq!(first.status, status);
    let second = server.get(&target, &[]).await;
    assert_eq!(second.status, status);
    second.text() == first.text()
}

fn statuses(config: &CacheConfig) -> Server {
    let runs = Runs::new();
    site(config, move |req, _| {
        let status = StatusCode::from_u16(req.path()[1..].parse().unwrap()).unwrap();
        let mut answer = HttpResponse::build(status);
        if req.query_string() == "fresh" {
            answer.insert_header(("Cache-Control", "public, max-age=600, s-maxage=600"));
        }
        answer.body(runs.add().to_string())
    })
}

// P14
#[tokio::test]
async fn errors_are_not_kept() {
    let default = statuses(&defaults());
    let opted_in = statuses(&builder().statuses([200, 404, 410]).explicit_only().build().unwrap());
    let given = builder().status_ttl(404, Duration::from_secs(5)).explicit_only().build().unwrap();
    let given = statuses(&given);
    for status in 400..600 {
        for query in ["", "?fresh"] {
            assert!(!is_kept(&default, status, query).await, "{status}{query}");
            let gone = matches!(status, 404 | 410) && query == "?fresh";
            assert_eq!(is_kept(&opted_in, status, query).await, gone, "{status}{query}");
        }
    }
    // An explicit lifetime is one given by the configuration, too.
    assert!(is_kept(&given, 404, "").await && !is_kept(&given, 410, "").await);
    assert!(is_kept(&default, 200, "").await);
}

// P15
#[tokio::test]
async fn a_range_on_a_cold_key_does_not_cut_the_page() {
    let server = site(&defaults(), |req, _| match req.headers().contains_key("range") {
        true => HttpResponse::PartialContent().body("part"),
        false => HttpResponse::Ok().body("the whole page"),
    });
    for (n, range) in ["bytes=0-3", "bytes=cow", "bytes=0-1,4-5", "bytes=99-", "cows=0-1"].iter().enumerate()
    {
        let path = format!("/{n}");
        let cold = server.get(&path, &[("Range", range)]).await;
        let next = server.get(&path, &[]).await;
        assert_eq!((next.status, next.text().as_str()), (200, "the whole page"), "{range}");
        let expected = match *range {
            "bytes=0-3" => (206, "the "),
            "bytes=99-" => (416, ""),
            _ => (200, "the whole page"),
        };
        let warm = server.get(&path, &[("Range", range)]).await;
        assert_eq!((cold.status, cold.text().as_str()), expected, "{range}");
        assert_eq!((warm.status, warm.text().as_str()), expected, "{range}");
        assert_eq!(next.field("content-range"), None);
    }
}

// P16
#[tokio::test]
async fn a_page_that_prints_a_cookie_is_not_for_others() {
    let server = site(&defaults(), |req, _| {
        let cookies: Vec<_> = req.headers().get_all("cookie").map(|line| line.to_str().unwrap()).collect();
        HttpResponse::Ok().insert_header(("Cache-Control", "max-age=60")).body(cookies.join("|"))
    });
    for attack in
        [vec![("Cookie", "x=<script>")], vec![("Cookie", "a=1"), ("Cookie", "b=2")], vec![("Cookie", "")]]
    {
        for _ in 0..2 {
            server.get("/p", &attack).await;
        }
        assert_eq!(server.get("/p", &[]).await.text(), "");
    }
    assert_eq!(server.get("/p", &[("Cookie", "b=3")]).await.text(), "b=3");
}

/// A cookie is keyed however it is spelled, as long as a handler could read it.
#[tokio::test]
async fn a_keyed_cookie_cannot_be_hidden_from_the_key() {
    let config = builder().cookies(CookiePolicy::KeyBy(vec!["session".into()])).build().unwrap();
    let server = site(&config, |req, _| {
        // What actix reads, and what a reader of raw bytes would find.
        let read = req.cookie("session").map(|cookie| cookie.value().to_owned()).unwrap_or_default();
        let raw = req.headers().get_all("cookie").any(|line| line.as_bytes().starts_with(b"session=raw"));
        HttpResponse::Ok().body(format!("[{read}] {raw}"))
    });
    for cookie in [
        &b"session=A"[..],
        b"session =A",
        b" session\t= A",
        b"%73ession=A",
        b"x=1;%73%65ssion =A",
        b"session=raw; x=\xff",
    ] {
        let head = b"GET /p HTTP/1.1\r\nHost: test.example\r\nCookie: ";
        let own = server.raw("GET", &[head, cookie, b"\r\n\r\n"].concat()).await;
        assert!(own.text().contains('A') || own.text().contains("true"), "{}", own.text());
        assert_eq!(server.get("/p", &[]).await.text(), "[] false", "{}", String::from_utf8_lossy(cookie));
        assert_eq!(server.get("/p", &[("Cookie", "other=1")]).await.text(), "[] false");
        assert_eq!(server.get("/p", &[("Cookie", "session=B")]).await.text(), "[B] false");
    }
}

// P17
#[tokio::test]
async fn the_parts_of_a_key_do_not_run_into_each_other() {
    let server = site(&defaults(), |req, _| {
        let host = req.headers().get("host").unwrap().to_str().unwrap().to_owned();
        HttpResponse::Ok().body(format!("{host} {}", req.path()))
    });
    server.get("/y", &[("Host", "a/x")]).await;
    assert_eq!(server.get("/x/y", &[("Host", "a")]).await.text(), "a /x/y");
    server.get("/p?b", &[("Host", "a")]).await;
    assert_eq!(server.get("/p", &[("Host", "a?b")]).await.text(), "a?b /p");

    let root = builder().build().unwrap();
    let (one, other) = (root.scoped("ab").scoped("c"), root.scoped("a").scoped("bc"));
    let joined = root.scoped("abc");
    let served: Vec<Server> = [one, other, joined]
        .iter()
        .enumerate()
        .map(|(n, config)| site(config, move |_, _| HttpResponse::Ok().body(n.to_string())))
        .collect();
    for (n, server) in served.iter().enumerate() {
        let reply = server.get("/p", &[("Host", "same")]).await;
        assert_eq!((reply.cache().as_str(), reply.text()), ("MISS", n.to_string()));
    }
}

// P18
#[tokio::test]
async fn refused_keys_share_nothing() {
    for refused in [None, Some(String::new())] {
        let runs = Runs::new();
        let counted = runs.clone();
        let config = builder().key_builder(move |_| refused.clone()).build().unwrap();
        let server = site(&config, move |_, _| HttpResponse::Ok().body(counted.add().to_string()));
        let replies = join_all((0..20).map(|_| server.get("/p", &[]))).await;
        let mut bodies: Vec<String> = replies.iter().map(Reply::text).collect();
        bodies.sort();
        bodies.dedup();
        assert_eq!((bodies.len(), runs.count()), (20, 20));
        assert!(replies.iter().all(|reply| reply.cache() == "-"));
        assert_eq!(config.handle().fills_under_way(), 0);
    }
}

/// The body of a cacheable POST is keyed with the fields that say what it means.
#[tokio::test]
async fn one_body_with_two_meanings_has_two_entries() {
    let config = builder().methods([Method::POST]).build().unwrap();
    let server = site(&config, |req, _| {
        let said = |name: &str| req.headers().get(name).map_or("-", |value| value.to_str().unwrap());
        HttpResponse::Ok().body(format!("{} {}", said("content-type"), said("content-encoding")))
    });
    for fields in [
        vec![],
        vec![("Content-Type", "a")],
        vec![("Content-Encoding", "gzip")],
        vec![("Content-Type", "a"), ("Content-Encoding", "gzip")],
        vec![("Content-Type", "agzip")],
    ] {
        assert_eq!(server.send("POST", "/p", &fields, b"body").await.cache(), "MISS", "{fields:?}");
        assert_eq!(server.send("POST", "/p", &fields, b"body").await.cache(), "HIT", "{fields:?}");
    }
}

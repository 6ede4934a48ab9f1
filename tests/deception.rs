//! Deception: no spelling of a URL makes a personal page public.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

mod support;

use std::future::ready;
use std::time::Duration;

use actix_fast_cache::{
    CacheConfig, CacheConfigBuilder, CacheControl, FastCache, ManualClock, MemoryStorage,
};
use actix_web::middleware::{Condition, NormalizePath};
use actix_web::{App, HttpRequest, HttpResponse, web};
use support::{Runs, Server};

fn builder() -> CacheConfigBuilder {
    CacheConfig::builder(MemoryStorage::new()).clock(ManualClock::new())
}

/// The page of whoever is signed in, by cookie or credential, with the lifetime of a static file.
async fn account(req: HttpRequest) -> HttpResponse {
    let who = ["cookie", "authorization"].iter().find_map(|name| req.headers().get(*name)?.to_str().ok());
    HttpResponse::Ok()
        .insert_header(("Cache-Control", "max-age=3600"))
        .body(format!("page of {}", who.unwrap_or("nobody")))
}

const V: [&[(&str, &str)]; 3] =
    [&[("Cookie", "id=V")], &[("Authorization", "Bearer V")], &[("Cookie", "id=V"), ("Authorization", "x")]];

/// V is lured to a URL, in every way of being signed in; then A asks for it.
async fn nobody_sees_v(server: &Server, target: &str) {
    for signed_in in V {
        for _ in 0..2 {
            let own = server.get(target, signed_in).await;
            assert!(matches!(own.status, 200 | 400 | 404), "{target}: {}", own.status);
            assert_eq!(own.cache(), "-", "{target}");
        }
        for asking in [&[][..], &[("Cookie", "id=A")], &[("Authorization", "Bearer A")]] {
            let reply = server.get(target, asking).await;
            assert!(!reply.text().contains("V"), "{target}: {}", reply.text());
        }
        let own = server.get(target, signed_in).await;
        assert!(own.status != 200 || own.text().contains(signed_in[0].1), "{target}: {}", own.text());
    }
}

const TAILS: [&str; 9] =
    [";x.css", "%3Bx.css", "%00x.css", "%0ax.css", "%23x.css", "%3Fx.css", "%26x.css", "/x.css", ".css"];

// D1, D2
#[tokio::test]
async fn a_tail_that_looks_static_makes_no_page_public() {
    let cache = builder().build().unwrap();
    let server = Server::start(2, move || {
        App::new()
            .service(
                web::scope("/user")
                    .wrap(FastCache::new(cache.scoped("users")))
                    .route("/{id}", web::get().to(account)),
            )
            .service(
                web::scope("/account")
                    .wrap(FastCache::new(cache.scoped("accounts")))
                    .route("/{tail:.*}", web::get().to(account)),
            )
    });
    for tail in TAILS {
        nobody_sees_v(&server, &format!("/user/1{tail}")).await;
        nobody_sees_v(&server, &format!("/account/{tail}")).await;
        nobody_sees_v(&server, &format!("/account/me{tail}?x.css")).await;
    }
    assert_eq!(server.get("/account/me", V[0]).await.text(), "page of id=V");
}

// D3
#[tokio::test]
async fn a_way_out_of_the_static_files_stores_nothing_personal() {
    let cache = builder().build().unwrap();
    let server = Server::start(2, move || {
        // Resolves what it is given, as a file server or a proxied application does.
        let files = async |req: HttpRequest| match req.path().contains("account") {
            true => account(req).await,
            false => HttpResponse::Ok().body("file"),
        };
        let config = cache.scoped_builder("static").ttl_override(Duration::from_secs(3_600)).build().unwrap();
        App::new()
            .service(
                web::scope("/static").wrap(FastCache::new(config)).route("/{tail:.*}", web::get().to(files)),
            )
            .route("/account", web::get().to(account))
    });
    for way in
        ["../account", "..%2faccount", "%2e%2e/account", "..;/account", "%2e%2e%2faccount", "./../account"]
    {
        nobody_sees_v(&server, &format!("/static/{way}")).await;
    }
    server.get("/static/a.css", &[]).await;
    assert_eq!(server.get("/static/a.css", &[]).await.cache(), "HIT");
    assert_eq!(server.get("/account", V[0]).await.cache(), "-");
}

// D4
#[tokio::test]
async fn normalising_paths_makes_no_page_public() {
    for (outside, inside) in [(true, false), (false, true), (false, false)] {
        let cache = builder().build().unwrap();
        let server = Server::start(2, move || {
            App::new()
                .wrap(Condition::new(inside, NormalizePath::trim()))
                .wrap(FastCache::new(cache.clone()))
                .wrap(Condition::new(outside, NormalizePath::trim()))
                .route("/account", web::get().to(account))
                .route("/public", web::get().to(async || "public"))
                .default_service(web::to(account))
        });
        for target in
            ["/account/", "//account", "/account.", "/account%20", "/account//", "/./account", "/ACCOUNT"]
        {
            nobody_sees_v(&server, target).await;
        }
        for target in ["/public", "/public/", "//public"] {
            let (first, second) = (server.get(target, &[]).await, server.get(target, &[]).await);
            assert_eq!(first.text(), second.text(), "{target}");
            assert_eq!(second.cache(), "HIT", "{target}");
        }
    }
}

// D5
#[tokio::test]
async fn a_lifetime_is_for_the_route_it_was_given_to() {
    let clock = ManualClock::new();
    let cache = CacheConfig::builder(MemoryStorage::new()).clock(clock.clone()).build().unwrap();
    let runs = Runs::new();
    let server = Server::start(1, move || {
        let runs = runs.clone();
        let page = move |req: HttpRequest, cache: CacheControl| {
            if req.match_pattern().as_deref() == Some("/s/hour/{id}") {
                cache.ttl(Duration::from_secs(3_600));
            }
            ready(HttpResponse::Ok().body(runs.add().to_string()))
        };
        let hour = cache.scoped_builder("hour").ttl(Duration::from_secs(3_600)).build().unwrap();
        App::new()
            .service(web::resource("/long/{id}").wrap(FastCache::new(hour)).to(page.clone()))
            .service(
                web::scope("/s")
                    .wrap(FastCache::new(cache.scoped("s")))
                    .service(web::resource("/hour/{id}").to(page.clone()))
                    .service(web::resource("/hours/{id}").to(page.clone())),
            )
            .route("/longer/{id}", web::get().to(async || "outside"))
    });
    let targets = ["/long/1", "/s/hour/1", "/s/hours/1", "/longer/1", "/long/1;x", "/s/hour/..;"];
    let mut first = Vec::new();
    for target in targets {
        first.push(server.get(target, &[]).await.text());
    }
    clock.advance(Duration::from_secs(61));
    let mut kept = Vec::new();
    for target in targets {
        kept.push(server.get(target, &[]).await.cache() == "HIT");
    }
    assert_eq!(kept, [true, true, false, false, true, true]);
}

// D6
#[tokio::test]
async fn a_refusal_in_the_answer_beats_the_lifetime_of_the_route() {
    for config in [
        builder().ttl(Duration::from_secs(3_600)),
        builder().ttl_override(Duration::from_secs(3_600)),
        builder().status_ttl(200, Duration::from_secs(3_600)),
    ] {
        let cache = config.build().unwrap();
        let server = Server::start(1, move || {
            let page = async |req: HttpRequest| {
                HttpResponse::Ok().insert_header(("Cache-Control", req.query_string())).body("page")
            };
            App::new()
                .service(web::scope("/s").wrap(FastCache::new(cache.clone())).default_service(web::to(page)))
        });
        for (control, told) in
            [("private", "-"), ("no-store", "-"), ("max-age=60,private", "-"), ("public", "HIT")]
        {
            let target = format!("/s/p?{control}");
            server.get(&target, &[]).await;
            assert_eq!(server.get(&target, &[]).await.cache(), told, "{control}");
        }
    }
}

// D7
#[tokio::test]
async fn an_image_that_sets_a_cookie_is_not_stored() {
    let cache = builder().build().unwrap();
    let runs = Runs::new();
    let server = Server::start(1, move || {
        let runs = runs.clone();
        let image = move || {
            ready(
                HttpResponse::Ok()
                    .insert_header(("Cache-Control", "public, max-age=31536000, immutable"))
                    .insert_header(("Set-Cookie", format!("id={}", runs.add())))
                    .content_type("image/png")
                    .body("png"),
            )
        };
        App::new()
            .service(web::scope("/img").wrap(FastCache::new(cache.clone())).default_service(web::to(image)))
    });
    for run in ["id=1", "id=2"] {
        let reply = server.get("/img/x.png", &[]).await;
        assert_eq!((reply.cache().as_str(), reply.lines("set-cookie")), ("-", vec![run.to_owned()]));
    }
}

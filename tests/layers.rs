//! Where the cache may stand, and beside which layers, as the README draws it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

mod support;

use actix_fast_cache::{CacheConfig, FastCache, MemoryStorage};
use actix_web::middleware::{Compress, Condition, Logger};
use actix_web::{App, HttpResponse, web};
use support::{Runs, Server, listen, log_lines, until};

fn memory() -> CacheConfig {
    CacheConfig::builder(MemoryStorage::new()).build().unwrap()
}

#[tokio::test]
async fn it_wraps_an_app_a_scope_a_resource_and_a_route() {
    let cache = || FastCache::new(memory());
    let (app, scope, resource, route) = (cache(), cache(), cache(), cache());
    let around_all =
        Server::start(2, move || App::new().wrap(app.clone()).route("/app", web::get().to(async || "page")));
    let around_parts = Server::start(2, move || {
        App::new()
            .service(web::scope("/scope").wrap(scope.clone()).route("/x", web::get().to(async || "page")))
            .service(web::resource("/resource").wrap(resource.clone()).to(async || "page"))
            .service(
                web::resource("/route")
                    .route(web::get().to(async || "page").wrap(route.clone()))
                    .route(web::post().to(async || "other")),
            )
    });
    for (server, target) in [
        (&around_all, "/app"),
        (&around_parts, "/scope/x"),
        (&around_parts, "/resource"),
        (&around_parts, "/route"),
    ] {
        for told in ["MISS", "HIT", "HIT"] {
            let reply = server.get(target, &[]).await;
            assert_eq!((reply.status, reply.cache().as_str(), reply.text().as_str()), (200, told, "page"));
        }
    }
    assert_eq!(around_parts.send("POST", "/route", &[], b"").await.cache(), "-");
}

#[tokio::test]
async fn outside_the_cache_compress_encodes_one_entry_and_inside_it_there_is_one_for_each_encoding() {
    for (outside, runs_at_all) in [(true, 1), (false, 2)] {
        let (config, runs, page) = (memory(), Runs::new(), "page ".repeat(1_000));
        let (counted, text) = (runs.clone(), page.clone());
        let server = Server::start(1, move || {
            let (runs, text) = (counted.clone(), text.clone());
            let handler = move || {
                runs.add();
                let text = text.clone();
                async { HttpResponse::Ok().content_type("text/plain").body(text) }
            };
            App::new()
                .wrap(Condition::new(!outside, Compress::default()))
                .wrap(FastCache::new(config.clone()))
                .wrap(Condition::new(outside, Compress::default()))
                .route("/x", web::get().to(handler))
        });
        for round in 0..3 {
            for encoding in ["gzip", "identity"] {
                let reply = server.get("/x", &[("accept-encoding", encoding)]).await;
                let is_encoded = reply.field("content-encoding").as_deref() == Some("gzip");
                assert_eq!(is_encoded, encoding == "gzip", "outside: {outside}, round {round}");
                assert_eq!(is_encoded, reply.body.starts_with(&[0x1f, 0x8b]));
                assert_eq!(!is_encoded, reply.text() == page);
                assert!(round == 0 || reply.cache() == "HIT", "outside: {outside}, {encoding}");
            }
        }
        assert_eq!(runs.count(), runs_at_all, "outside: {outside}");
    }
}

#[tokio::test]
async fn a_logger_outside_the_cache_sees_hits() {
    listen();
    let config = memory();
    let server = Server::start(1, move || {
        App::new()
            .wrap(FastCache::new(config.clone()))
            .wrap(Logger::new("layers: %U %s %{x-cache}o"))
            .route("/logged", web::get().to(async || "page"))
    });
    for _ in 0..2 {
        server.get("/logged", &[]).await;
    }
    let told =
        |what: &str| log_lines().iter().any(|line| line.contains(&format!("layers: /logged 200 {what}")));
    until("both are logged", || told("MISS") && told("HIT")).await;
}

/// The line that the README shows to whoever asks why something is not cached.
#[tokio::test]
async fn the_log_says_what_the_readme_shows() {
    listen();
    let shown = include_str!("../README.md").lines().find(|line| line.starts_with("INFO actix_fast_cache"));
    let shown = shown.expect("a line of the log").to_owned();
    let config = CacheConfig::builder(MemoryStorage::new()).namespace("shop").build().unwrap();
    let server = Server::start(1, move || {
        App::new().wrap(FastCache::new(config.clone())).route("/x", web::get().to(async || "page"))
    });
    server.get("/x", &[("cookie", "a=1")]).await;
    let said: Vec<_> = log_lines().into_iter().filter(|line| line.contains("[\"shop\"]")).collect();
    assert_eq!(said, [shown]);
}

//! The cache around a scope, as a user meets it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

mod support;

use actix_fast_cache::{CacheConfig, FastCache, MemoryStorage};
use actix_web::{App, HttpResponse, web};
use support::{Runs, Server};

#[tokio::test]
async fn the_second_request_is_answered_without_the_handler() {
    let cache = CacheConfig::builder(MemoryStorage::new()).build().unwrap();
    let runs = Runs::new();
    let counted = runs.clone();
    let server = Server::start(2, move || {
        let runs = counted.clone();
        let handler = move || {
            let run = runs.add();
            async move { HttpResponse::Ok().body(format!("run {run}")) }
        };
        App::new().service(
            web::scope("/a").wrap(FastCache::new(cache.clone())).route("/{id}", web::get().to(handler)),
        )
    });
    let first = server.get("/a/1", &[]).await;
    let second = server.get("/a/1", &[]).await;
    assert_eq!((first.cache().as_str(), first.text().as_str()), ("MISS", "run 1"));
    assert_eq!((second.cache().as_str(), second.text().as_str()), ("HIT", "run 1"));
    assert_eq!(runs.count(), 1);
}

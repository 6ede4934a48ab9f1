//! The handler's voice, and the same calls from outside any request.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

mod support;

use std::time::Duration;

use actix_fast_cache::{
    BypassReason, CacheConfig, CacheControl, FastCache, FillReason, Invalidation, ManualClock, MemoryStorage,
    StoreOptions, StoredResponse,
};
use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, web};
use support::{Runs, Server, log_lines};

/// A server over two cached scopes, `/a` and `/b`, of one cache; the handler does what the `x-do` fields say.
fn serve(config: &CacheConfig) -> (Server, Runs) {
    let (config, runs) = (config.clone(), Runs::new());
    let counted = runs.clone();
    let server = Server::start(2, move || {
        let runs = counted.clone();
        let handler = move |req: HttpRequest, cache: CacheControl| {
            let runs = runs.clone();
            async move {
                let mut answer = HttpResponse::Ok();
                for line in req.headers().get_all("x-do") {
                    let (what, with) = line.to_str().unwrap().split_once(' ').unwrap();
                    match what {
                        "tag" => cache.tag(with),
                        "key" => cache.set_key(with),
                        "ttl" => cache.ttl(Duration::from_secs(with.parse().unwrap())),
                        "vary" => cache.vary(with),
                        "no-store" => cache.no_store(),
                        "send" => {
                            let (name, value) = with.split_once(": ").unwrap();
                            answer.append_header((name, value));
                        }
                        "drop-key" => assert_eq!(cache.invalidate(with).await.unwrap(), 1),
                        "drop-tag" => cache.invalidate_tag(with).await.unwrap(),
                        "drop-url" => assert_eq!(cache.invalidate_url(with).await.unwrap(), 1),
                        "drop-all" => cache.clear().await.unwrap(),
                        "drop-namespace" => cache.invalidate_namespace().await.unwrap(),
                        "later-tag" => cache.invalidate_on_success(Invalidation::tag(with)),
                        "status" => drop(answer.status(with.parse::<u16>().unwrap().try_into().unwrap())),
                        _ => panic!("do what? {what}"),
                    }
                }
                answer.body(format!("run {} {:?}", runs.add(), cache.reason()))
            }
        };
        let scope = |name: &str| {
            web::scope(name)
                .wrap(FastCache::new(config.scoped(name.trim_start_matches('/'))))
                .default_service(web::to(handler.clone()))
        };
        App::new().service(scope("/a")).service(scope("/b"))
    });
    (server, runs)
}

fn memory() -> CacheConfig {
    CacheConfig::builder(MemoryStorage::new()).namespace("root").build().unwrap()
}

async fn get(server: &Server, target: &str, orders: &[&str]) -> String {
    let fields: Vec<_> = orders.iter().map(|order| ("x-do", *order)).collect();
    server.get(target, &fields).await.cache()
}

async fn post(server: &Server, target: &str, orders: &[&str]) -> u16 {
    let fields: Vec<_> = orders.iter().map(|order| ("x-do", *order)).collect();
    server.send("POST", target, &fields, b"").await.status
}

#[tokio::test]
async fn a_tag_drops_all_that_has_it_in_every_scope_of_the_root() {
    let (server, _) = serve(&memory());
    for target in ["/a/1", "/a/2", "/b/1"] {
        assert_eq!(get(&server, target, &["tag shared"]).await, "MISS");
    }
    assert_eq!(get(&server, "/a/3", &["tag other"]).await, "MISS");
    assert_eq!(post(&server, "/b/write", &["drop-tag shared"]).await, 200);
    for (target, cache) in [("/a/1", "MISS"), ("/a/2", "MISS"), ("/b/1", "MISS"), ("/a/3", "HIT")] {
        assert_eq!(get(&server, target, &[]).await, cache, "{target}");
    }
}

#[tokio::test]
async fn a_namespace_is_dropped_without_its_neighbours() {
    let config = memory();
    let (server, _) = serve(&config);
    for target in ["/a/1", "/b/1"] {
        assert_eq!(get(&server, target, &[]).await, "MISS");
    }
    assert_eq!(post(&server, "/a/write", &["drop-namespace -"]).await, 200);
    assert_eq!(get(&server, "/b/1", &[]).await, "HIT");
    assert_eq!(get(&server, "/a/1", &[]).await, "MISS");
    // The root's namespace holds both.
    config.handle().invalidate_namespace().await.unwrap();
    assert_eq!(get(&server, "/b/1", &[]).await, "MISS");
    assert_eq!(get(&server, "/a/1", &[]).await, "MISS");
    assert_eq!(post(&server, "/a/write", &["drop-all -"]).await, 200);
    assert_eq!(get(&server, "/b/1", &[]).await, "MISS");
}

#[tokio::test]
async fn a_url_is_dropped_on_the_requests_own_host() {
    let (server, _) = serve(&memory());
    assert_eq!(get(&server, "/a/1?x=1", &[]).await, "MISS");
    assert_eq!(server.get("/a/1?x=1", &[("host", "other.example")]).await.cache(), "MISS");
    assert_eq!(post(&server, "/a/write", &["drop-url /a/1?x=1"]).await, 200);
    assert_eq!(get(&server, "/a/1?x=1", &[]).await, "MISS");
    assert_eq!(server.get("/a/1?x=1", &[("host", "other.example")]).await.cache(), "HIT");
}

#[tokio::test]
async fn outside_a_request_a_url_needs_its_host() {
    let config = memory();
    let (server, _) = serve(&config);
    assert_eq!(get(&server, "/a/1", &[]).await, "MISS");
    let handle = config.scoped("a").handle();
    let refused = handle.invalidate_url("/a/1").await.unwrap_err().to_string();
    assert!(refused.contains("needs its host"), "{refused}");
    assert!(handle.invalidate_url("not a url").await.is_err());
    assert_eq!(handle.invalidate_url("http://test.example/a/1").await.unwrap(), 1);
    assert_eq!(handle.invalidate_url("http://test.example/a/1").await.unwrap(), 0);
    assert_eq!(get(&server, "/a/1", &[]).await, "MISS");
}

#[tokio::test]
async fn a_key_that_the_handler_chose_is_one_entry_for_all_who_lead_to_it() {
    let (server, runs) = serve(&memory());
    assert_eq!(get(&server, "/a/1", &["key one"]).await, "MISS");
    assert_eq!(get(&server, "/a/uno", &["key one"]).await, "MISS");
    assert_eq!(get(&server, "/a/1", &[]).await, "HIT");
    assert_eq!(get(&server, "/a/uno", &[]).await, "HIT");
    assert_eq!(runs.count(), 2);
    // The younger answer is everybody's.
    assert!(server.get("/a/1", &[]).await.text().starts_with("run 2"));
    assert_eq!(post(&server, "/a/write", &["drop-key one"]).await, 200);
    assert_eq!(get(&server, "/a/1", &[]).await, "MISS");
}

#[tokio::test]
async fn queued_invalidations_run_only_if_the_handler_succeeds() {
    let (server, _) = serve(&memory());
    assert_eq!(get(&server, "/a/1", &["tag t"]).await, "MISS");
    assert_eq!(post(&server, "/b/write", &["later-tag t", "status 500"]).await, 500);
    assert_eq!(post(&server, "/b/write", &["later-tag t", "status 409"]).await, 409);
    assert_eq!(get(&server, "/a/1", &[]).await, "HIT");
    assert_eq!(post(&server, "/b/write", &["later-tag t", "status 303"]).await, 303);
    assert_eq!(get(&server, "/a/1", &[]).await, "MISS");
}

#[tokio::test]
async fn the_handlers_word_on_its_answer_holds() {
    let clock = ManualClock::new();
    let config = CacheConfig::builder(MemoryStorage::new()).clock(clock.clone()).build().unwrap();
    let (server, _) = serve(&config);
    assert_eq!(get(&server, "/a/no", &["no-store -"]).await, "-");
    assert_eq!(get(&server, "/a/zero", &["ttl 0"]).await, "-");
    assert_eq!(get(&server, "/a/long", &["ttl 500"]).await, "MISS");
    clock.advance(Duration::from_secs(499));
    assert_eq!(get(&server, "/a/long", &[]).await, "HIT");
    let of = |language| [("x-do", "vary accept-language"), ("accept-language", language)];
    for (language, cache) in [("de", "MISS"), ("en", "MISS"), ("de", "HIT")] {
        assert_eq!(server.get("/a/vary", &of(language)).await.cache(), cache);
    }
}

#[tokio::test]
async fn the_handler_is_told_why_it_runs() {
    let clock = ManualClock::new();
    let config = CacheConfig::builder(MemoryStorage::new()).clock(clock.clone()).build().unwrap();
    let (server, _) = serve(&config);
    assert!(server.get("/a", &[]).await.text().ends_with(&format!("{:?}", FillReason::Miss)));
    clock.advance(Duration::from_secs(60));
    assert!(server.get("/a", &[]).await.text().ends_with(&format!("{:?}", FillReason::Refresh)));
    let bypassed = FillReason::Bypass(BypassReason::Method);
    assert!(server.send("PUT", "/a", &[], b"").await.text().ends_with(&format!("{bypassed:?}")));
}

#[tokio::test]
async fn the_handle_works_on_other_threads_and_is_the_same_cache() {
    let config = memory();
    let (server, _) = serve(&config);
    assert_eq!(get(&server, "/a/1", &["key one", "tag t"]).await, "MISS");
    let handle = config.scoped("a").handle();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let page = handle.get("one").await.unwrap().expect("the handler's answer");
            assert_eq!(page.status(), StatusCode::OK);
            let mine = StoredResponse::new(StatusCode::OK, "by hand");
            handle.set("one", mine, StoreOptions::new().ttl(Duration::from_secs(9)).tag("t")).await.unwrap();
            let odd = StoredResponse::new(StatusCode::OK, "");
            assert!(handle.set("two", odd, StoreOptions::new().tag("a\nb")).await.is_err());
        });
    })
    .join()
    .unwrap();
    let reply = server.get("/a/1", &[]).await;
    assert_eq!((reply.cache().as_str(), reply.text().as_str()), ("HIT", "by hand"));
    config.handle().invalidate_tag("t").await.unwrap();
    assert_eq!(get(&server, "/a/1", &[]).await, "MISS");
}

#[tokio::test]
async fn outside_any_layer_the_extractor_is_found_in_the_app_data() {
    let config = memory();
    let (cached, _) = serve(&config);
    assert_eq!(get(&cached, "/a/1", &["tag t"]).await, "MISS");
    let data = config.clone();
    let plain = Server::start(1, move || {
        let drop_tag = |cache: CacheControl| async move {
            assert_eq!(cache.reason(), FillReason::Unwrapped);
            cache.invalidate_tag("t").await.unwrap();
            HttpResponse::NoContent().finish()
        };
        App::new().app_data(data.clone()).route("/drop", web::post().to(drop_tag))
    });
    assert_eq!(plain.send("POST", "/drop", &[], b"").await.status, 204);
    assert_eq!(get(&cached, "/a/1", &[]).await, "MISS");
}

#[tokio::test]
async fn without_any_cache_the_extractor_is_a_500_whose_advice_is_in_the_log_only() {
    support::listen();
    let server = Server::start(1, || {
        let handler = |_: CacheControl| async { HttpResponse::Ok().finish() };
        App::new().route("/", web::get().to(handler))
    });
    let reply = server.get("/", &[]).await;
    assert_eq!(reply.status, 500);
    assert!(!reply.text().to_lowercase().contains("cache"), "{}", reply.text());
    let told = |line: &String| line.starts_with("ERROR") && line.contains("wrap its scope with FastCache");
    assert!(log_lines().iter().any(told));
}

#[tokio::test]
async fn scopes_of_a_cache_without_a_name_share_tags_and_are_dropped_together() {
    let config = CacheConfig::builder(MemoryStorage::new()).build().unwrap();
    let (server, _) = serve(&config);
    for target in ["/a/1", "/b/1"] {
        assert_eq!(get(&server, target, &["tag t"]).await, "MISS");
    }
    assert_eq!(post(&server, "/b/write", &["drop-tag t"]).await, 200);
    for target in ["/a/1", "/b/1"] {
        assert_eq!(get(&server, target, &["tag t"]).await, "MISS", "{target}");
    }
    config.handle().invalidate_namespace().await.unwrap();
    for target in ["/a/1", "/b/1"] {
        assert_eq!(get(&server, target, &[]).await, "MISS", "{target}");
    }
}

#[tokio::test]
async fn groups_are_tags_in_answers_and_in_what_writes_make_invalid() {
    let (server, _) = serve(&memory());
    for target in ["/a/1", "/b/1"] {
        assert_eq!(get(&server, target, &["send cache-groups: \"g\", \"other\""]).await, "MISS");
    }
    assert_eq!(get(&server, "/a/2", &["send cache-groups: \"h\""]).await, "MISS");
    let names = "send cache-group-invalidation: \"g\"";
    // Neither a read nor a failed write invalidates.
    assert_eq!(get(&server, "/a/3", &[names]).await, "MISS");
    assert_eq!(post(&server, "/b/write", &[names, "status 500"]).await, 500);
    assert_eq!(get(&server, "/a/1", &[]).await, "HIT");
    assert_eq!(post(&server, "/b/write", &[names]).await, 200);
    for (target, cache) in [("/a/1", "MISS"), ("/b/1", "MISS"), ("/a/2", "HIT")] {
        assert_eq!(get(&server, target, &[]).await, cache, "{target}");
    }
}

//! Settings: what each of them changes, and how one that cannot be is told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

mod support;

use std::future::ready;
use std::time::Duration;

use actix_fast_cache::{
    CacheConfig, CacheConfigBuilder, CookiePolicy, EtagMode, FastCache, HostPolicy, ManualClock,
    MemoryStorage,
};
use actix_web::dev::ServiceRequest;
use actix_web::http::Method;
use actix_web::{App, HttpRequest, HttpResponse, web};
use support::{Runs, Server, log_lines};

fn memory() -> CacheConfigBuilder {
    CacheConfig::builder(MemoryStorage::new())
}

/// A server that answers anything under `/c` with the number of the run, and what the request asks for in `x-answer`
/// fields (`name: value`).
fn serve(config: CacheConfig) -> (Server, Runs) {
    let runs = Runs::new();
    let counted = runs.clone();
    let server = Server::start(2, move || {
        let runs = counted.clone();
        let handler = move |req: HttpRequest| {
            let mut answer = HttpResponse::Ok();
            for line in req.headers().get_all("x-answer") {
                let (name, value) = line.to_str().unwrap().split_once(": ").unwrap();
                if name == "status" {
                    answer.status(value.parse::<u16>().unwrap().try_into().unwrap());
                } else {
                    answer.append_header((name, value));
                }
            }
            ready(answer.body(format!("run {}", runs.add())))
        };
        App::new()
            .service(web::scope("/c").wrap(FastCache::new(config.clone())).default_service(web::to(handler)))
    });
    (server, runs)
}

async fn cache_of(server: &Server, target: &str, fields: &[(&str, &str)]) -> String {
    server.get(target, fields).await.cache()
}

#[test]
fn what_cannot_be_is_refused_with_the_setter_the_value_and_the_cure() {
    let refused = |builder: CacheConfigBuilder| builder.build().unwrap_err().to_string();
    for (told, setter, value) in [
        (refused(memory().jitter(1.5)), "jitter", "1.5"),
        (refused(memory().jitter(f64::NAN)), "jitter", "NaN"),
        (refused(memory().statuses([200, 206])), "statuses", "206"),
        (refused(memory().statuses([42])), "statuses", "42"),
        (refused(memory().status_ttl(304, Duration::from_secs(1))), "status_ttl", "304"),
        (refused(memory().methods([Method::CONNECT])), "methods", "CONNECT"),
        (refused(memory().vary(["accept", "*"])), "vary", "*"),
        (refused(memory().targeted_fields(["a b"])), "targeted_fields", "a b"),
        (refused(memory().vary(["accept language"])), "vary", "accept language"),
        (refused(memory().status_header("x cache", "HIT", "MISS")), "status_header", "x cache"),
        (refused(memory().status_header("x-cache", "HIT\n", "MISS")), "status_header", "HIT"),
        (refused(memory().cache_status("my cache")), "cache_status", "my cache"),
        (refused(memory().cache_status("")), "cache_status", ""),
        (refused(memory().cache_status_key()), "cache_status_key", "a key"),
        (refused(memory().early_refresh(-1.0)), "early_refresh", "-1"),
    ] {
        assert!(told.starts_with(&format!("CacheConfigBuilder::{setter} cannot take")), "{told}");
        assert!(told.contains(value), "{told}");
        assert!(told.split(": ").count() >= 2, "no cure: {told}");
    }
    let parent = memory().build().unwrap();
    let child = parent.scoped_builder("c").clock(ManualClock::new()).build();
    assert!(child.unwrap_err().to_string().contains("set it on the parent"));
    // An operator reads it where the program ends.
    let as_io: std::io::Error = memory().jitter(7.0).build().unwrap_err().into();
    assert!(as_io.to_string().contains("jitter"));
}

#[test]
fn the_first_of_several_wrong_settings_is_told() {
    let told = memory().jitter(2.0).cache_status(" ").build().unwrap_err().to_string();
    assert!(told.contains("jitter"), "{told}");
}

#[tokio::test]
async fn each_source_of_a_lifetime_has_its_rank() {
    let clock = ManualClock::new();
    let config = memory()
        .clock(clock.clone())
        .ttl(Duration::from_secs(10))
        .status_ttl(404, Duration::from_secs(3))
        .max_ttl(Duration::from_secs(100))
        .build()
        .unwrap();
    let (server, _) = serve(config);
    for (target, answer, lifetime) in [
        ("/c/scope", "x-none: 0", 10),
        ("/c/max-age", "cache-control: max-age=20", 20),
        ("/c/s-maxage", "cache-control: max-age=20, s-maxage=5", 5),
        ("/c/status", "status: 404", 3),
        ("/c/targeted", "cdn-cache-control: max-age=30", 30),
        ("/c/not-a-dictionary", "cdn-cache-control: max-age=\"30\"", 10),
        ("/c/most", "cache-control: max-age=5000", 100),
    ] {
        let fields = [("x-answer", answer)];
        assert_eq!(cache_of(&server, target, &fields).await, "MISS", "{target}");
        clock.advance(Duration::from_secs(lifetime - 1));
        assert_eq!(cache_of(&server, target, &fields).await, "HIT", "{target}");
        // At the age of its lifetime it is stale.
        clock.advance(Duration::from_secs(1));
        assert_eq!(cache_of(&server, target, &fields).await, "MISS", "{target}");
    }
}

#[tokio::test]
async fn a_targeted_field_speaks_for_the_lifetime_and_forbids_like_the_common_one() {
    let both = |common: &str, targeted: &str| {
        vec![
            ("x-answer", format!("cache-control: {common}")),
            ("x-answer", format!("cdn-cache-control: {targeted}")),
        ]
    };
    let get = async |server: &Server, target: &str, answer: &[(&'static str, String)]| {
        let fields: Vec<_> = answer.iter().map(|(name, value)| (*name, value.as_str())).collect();
        cache_of(server, target, &fields).await
    };
    let clock = ManualClock::new();
    let (server, _) = serve(memory().clock(clock.clone()).build().unwrap());
    let prolonged = both("max-age=5", "max-age=50");
    assert_eq!(get(&server, "/c/a", &prolonged).await, "MISS");
    clock.advance(Duration::from_secs(49));
    assert_eq!(get(&server, "/c/a", &prolonged).await, "HIT");
    for (at, common, targeted) in [
        ("/c/1", "no-store", "max-age=50"),
        ("/c/2", "private", "max-age=50"),
        ("/c/3", "max-age=0", "max-age=50"),
        ("/c/4", "max-age=50", "no-store"),
        ("/c/5", "max-age=50", "max-age=0"),
    ] {
        assert_eq!(get(&server, at, &both(common, targeted)).await, "-", "{common} / {targeted}");
    }
    let (deaf, _) = serve(memory().targeted_fields([""; 0]).build().unwrap());
    assert_eq!(get(&deaf, "/c/a", &both("max-age=50", "no-store")).await, "MISS");
}

#[tokio::test]
async fn the_scope_can_demand_or_override_what_answers_say_of_their_lifetime() {
    let (explicit, _) = serve(memory().explicit_only().build().unwrap());
    assert_eq!(cache_of(&explicit, "/c/a", &[]).await, "-");
    assert_eq!(cache_of(&explicit, "/c/a", &[("x-answer", "cache-control: max-age=5")]).await, "MISS");

    let clock = ManualClock::new();
    let config = memory().clock(clock.clone()).ttl_override(Duration::from_secs(50)).build().unwrap();
    let (server, _) = serve(config);
    let short = [("x-answer", "cache-control: max-age=1")];
    assert_eq!(cache_of(&server, "/c/a", &short).await, "MISS");
    clock.advance(Duration::from_secs(49));
    assert_eq!(cache_of(&server, "/c/a", &short).await, "HIT");
    let forbidden = [("x-answer", "cache-control: no-store")];
    assert_eq!(cache_of(&server, "/c/b", &forbidden).await, "-");
}

#[tokio::test]
async fn jitter_takes_off_up_to_its_fraction_and_not_from_all_alike() {
    let clock = ManualClock::new();
    let config = memory().clock(clock.clone()).ttl(Duration::from_secs(1_000)).jitter(0.5).build().unwrap();
    let (server, _) = serve(config);
    let targets: Vec<String> = (0..40).map(|n| format!("/c/{n}")).collect();
    for target in &targets {
        assert_eq!(cache_of(&server, target, &[]).await, "MISS");
    }
    clock.advance(Duration::from_secs(499));
    for target in &targets {
        assert_eq!(cache_of(&server, target, &[]).await, "HIT", "{target}");
    }
    clock.advance(Duration::from_secs(251));
    let mut fresh = 0;
    for target in &targets {
        fresh += usize::from(cache_of(&server, target, &[]).await == "HIT");
    }
    assert!((1..40).contains(&fresh), "{fresh} of 40 fresh at three quarters of the lifetime");
}

#[tokio::test]
async fn cookies_can_be_ignored_wholly_or_in_part_or_be_keyed() {
    let get = |policy| {
        let (server, runs) = serve(memory().cookies(policy).build().unwrap());
        async move {
            let mut seen = Vec::new();
            for cookie in ["a=1", "a=2", "b=1", "a=1; b=2"] {
                seen.push(server.get("/c", &[("cookie", cookie)]).await.cache());
            }
            (seen.join(" "), runs.count())
        }
    };
    let names = || vec!["a".to_owned()];
    assert_eq!(get(CookiePolicy::Bypass).await, ("- - - -".to_owned(), 4));
    assert_eq!(get(CookiePolicy::Ignore).await, ("MISS HIT HIT HIT".to_owned(), 1));
    assert_eq!(get(CookiePolicy::IgnoreOnly(names())).await, ("MISS HIT - -".to_owned(), 3));
    assert_eq!(get(CookiePolicy::KeyBy(names())).await, ("MISS MISS MISS HIT".to_owned(), 3));
}

#[tokio::test]
async fn principals_have_entries_of_their_own() {
    let (server, _) = serve(memory().key_by_authorization().build().unwrap());
    for (credential, cache) in [("Bearer a", "MISS"), ("Bearer a", "HIT"), ("Bearer b", "MISS")] {
        assert_eq!(cache_of(&server, "/c", &[("authorization", credential)]).await, cache);
    }
    assert_eq!(cache_of(&server, "/c", &[]).await, "MISS");

    let user = |req: &ServiceRequest| Some(req.headers().get("x-user")?.to_str().ok()?.to_owned());
    let (server, _) = serve(memory().principal(user).build().unwrap());
    let of = |user| [("authorization", "Bearer t"), ("x-user", user)];
    for (user, cache) in [("ann", "MISS"), ("ann", "HIT"), ("bob", "MISS")] {
        assert_eq!(cache_of(&server, "/c", &of(user)).await, cache);
    }
    // No principal is found: the credential speaks for itself.
    assert_eq!(cache_of(&server, "/c", &[("authorization", "Bearer t")]).await, "-");
}

#[tokio::test]
async fn hosts_are_keyed_as_sent_unless_they_mean_nothing() {
    let both = |server: Server| async move {
        let first = server.get("/c", &[("host", "a.example")]).await.cache();
        format!("{first} {}", server.get("/c", &[("host", "b.example")]).await.cache())
    };
    let with = |policy| serve(memory().host(policy).build().unwrap()).0;
    assert_eq!(both(with(HostPolicy::AsSent)).await, "MISS MISS");
    assert_eq!(both(with(HostPolicy::Fixed("shop.example".into()))).await, "MISS HIT");
    assert_eq!(both(with(HostPolicy::Ignore)).await, "MISS HIT");
}

#[tokio::test]
async fn predicates_keep_requests_and_answers_out() {
    let config = memory()
        .skip(|req| req.headers().contains_key("x-skip"))
        .store_if(|head| !head.headers().contains_key("x-mine"))
        .build()
        .unwrap();
    let (server, _) = serve(config);
    assert_eq!(cache_of(&server, "/c/a", &[("x-answer", "x-mine: 1")]).await, "-");
    assert_eq!(cache_of(&server, "/c/a", &[]).await, "MISS");
    assert_eq!(cache_of(&server, "/c/a", &[("x-skip", "1")]).await, "-");
    assert_eq!(cache_of(&server, "/c/a", &[]).await, "HIT");
}

#[tokio::test]
async fn validators_are_weak_strong_or_none() {
    let etag = |mode| {
        let (server, _) = serve(memory().etag(mode).build().unwrap());
        async move { server.get("/c", &[]).await.field("etag") }
    };
    let weak = etag(EtagMode::Weak).await.unwrap();
    assert!(weak.starts_with("W/\""), "{weak}");
    assert_eq!(etag(EtagMode::Strong).await.unwrap(), weak.trim_start_matches("W/"));
    assert_eq!(etag(EtagMode::Off).await, None);
}

#[tokio::test]
async fn cache_status_says_what_happened_and_why() {
    let (server, _) = serve(memory().cache_status("shop").no_status_header().build().unwrap());
    let told = |reply: support::Reply| {
        assert_eq!(reply.cache(), "-");
        reply.field("cache-status").unwrap()
    };
    assert_eq!(told(server.get("/c", &[]).await), "shop; fwd=uri-miss; stored");
    assert_eq!(told(server.get("/c", &[]).await), "shop; hit; ttl=60");
    let cookie = told(server.get("/c/x", &[("cookie", "a=1")]).await);
    assert_eq!(cookie, "shop; fwd=uri-miss; detail=cookie");
    assert_eq!(told(server.send("DELETE", "/c", &[], b"").await), "shop; fwd=method; detail=method");
}

#[tokio::test]
async fn the_clients_directives_are_obeyed_where_the_scope_says_so() {
    let (server, _) = serve(memory().build().unwrap());
    assert_eq!(cache_of(&server, "/c", &[("cache-control", "no-store")]).await, "MISS");
    assert_eq!(cache_of(&server, "/c", &[("cache-control", "no-cache")]).await, "HIT");

    let clock = ManualClock::new();
    let obeying = memory().clock(clock.clone()).obey_client_if(|req| req.headers().contains_key("x-trusted"));
    let (server, _) = serve(obeying.build().unwrap());
    let of = |directive| [("x-trusted", "1"), ("cache-control", directive)];
    assert_eq!(server.get("/c", &of("only-if-cached")).await.status, 504);
    assert_eq!(cache_of(&server, "/c", &of("no-store")).await, "-");
    assert_eq!(cache_of(&server, "/c", &of("max-age=5")).await, "MISS");
    clock.advance(Duration::from_secs(6));
    assert_eq!(cache_of(&server, "/c", &[("cache-control", "no-cache")]).await, "HIT");
    assert_eq!(cache_of(&server, "/c", &of("only-if-cached")).await, "HIT");
    assert_eq!(cache_of(&server, "/c", &of("min-fresh=50")).await, "HIT");
    assert_eq!(cache_of(&server, "/c", &of("min-fresh=55")).await, "MISS");
    clock.advance(Duration::from_secs(6));
    assert_eq!(cache_of(&server, "/c", &of("max-age=5")).await, "MISS");
    assert_eq!(cache_of(&server, "/c", &[("x-trusted", "1"), ("pragma", "no-cache")]).await, "MISS");
    clock.advance(Duration::from_secs(65));
    assert_eq!(cache_of(&server, "/c", &of("max-stale=10")).await, "HIT");
    assert_eq!(cache_of(&server, "/c", &of("max-stale=4")).await, "MISS");
}

#[test]
fn a_cache_made_inside_the_factory_is_warned_of_once_and_told_the_cure() {
    support::listen();
    let place = format!("tests/config.rs:{}", line!() + 1);
    let make = || CacheConfig::builder(MemoryStorage::new()).build().unwrap();
    for _ in 0..4 {
        // As the workers of a server do.
        std::thread::spawn(move || drop(make())).join().unwrap();
    }
    let warned: Vec<_> = log_lines()
        .into_iter()
        .filter(|line| {
            line.starts_with("WARN") && line.contains("outside the closure given to HttpServer::new")
        })
        .filter(|line| line.contains(&place))
        .collect();
    assert_eq!(warned.len(), 1, "{warned:?}");
}

#[tokio::test]
async fn a_miss_and_its_hits_have_one_date() {
    let clock = ManualClock::new();
    let (server, _) = serve(memory().clock(clock.clone()).build().unwrap());
    let miss = server.get("/c", &[]).await;
    clock.advance(Duration::from_secs(7));
    let hit = server.get("/c", &[]).await;
    assert_eq!(miss.lines("date"), ["Thu, 01 Jan 2026 00:00:00 GMT"]);
    assert_eq!((hit.lines("date"), hit.lines("age")), (miss.lines("date"), vec!["7".to_owned()]));
}

//! Silence explains itself: the first bypass or refusal of each reason in a scope is logged once, with its cure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

mod support;

use std::time::Duration;

use actix_fast_cache::{
    BypassReason, CacheConfig, CacheConfigBuilder, CacheControl, FastCache, MemoryStorage, NotStoredReason,
    QueryKey,
};
use actix_web::error::ErrorNotFound;
use actix_web::http::Method;
use actix_web::middleware::Condition;
use actix_web::{App, Error, HttpRequest, HttpResponse, web};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use support::{Server, log_lines, until};

/// An answer of the kind that its path names.
async fn answer(req: HttpRequest, cache: CacheControl) -> Result<HttpResponse, Error> {
    let with = |name: &str, value: &str| Ok(HttpResponse::Ok().append_header((name, value)).body("page"));
    match req.path() {
        "/status" => Ok(HttpResponse::NotFound().finish()),
        "/handler-error" => Err(ErrorNotFound("none")),
        "/handler-refused" => {
            cache.no_store();
            with("x", "y")
        }
        "/no-store" => with("Cache-Control", "no-store"),
        "/private" => with("Cache-Control", "private"),
        "/zero-lifetime" => with("Cache-Control", "max-age=0"),
        "/vary-any" => with("Vary", "*"),
        "/vary-too-much" => with("Vary", "a,b,c,d,e,f,g,h,i"),
        "/vary-personal" => with("Vary", "Cookie"),
        "/set-cookie" => with("Set-Cookie", "a=1"),
        "/headers-too-large" => with("X-Large", &"x".repeat(40_000)),
        "/bad-tags" => {
            cache.tag("");
            with("x", "y")
        }
        "/event-stream" => with("Content-Type", "text/event-stream"),
        "/nonce" => with("Content-Security-Policy", "script-src 'nonce-1'"),
        "/streamed" => {
            let chunks = ["0123456789", "0123456789"].map(|chunk| Ok::<_, Error>(web::Bytes::from(chunk)));
            Ok(HttpResponse::Ok().streaming(stream::iter(chunks)))
        }
        _ => with("x", "y"),
    }
}

/// The lines of the log that speak of a scope.
fn said(scope: &str) -> Vec<String> {
    let scope = format!("scope [\"{scope}\"]");
    log_lines().into_iter().filter(|line| line.contains(&scope)).collect()
}

type Change = fn(CacheConfigBuilder) -> CacheConfigBuilder;

/// What is sent to a scope of its own, and how that scope and the layers around it are made.
struct Case<'a> {
    name: &'static str,
    cure: &'static str,
    change: Change,
    nested: bool,
    method: &'a str,
    target: &'a str,
    fields: &'a [(&'a str, &'a str)],
    body: &'a [u8],
}

impl<'a> Case<'a> {
    fn new(name: &'static str, cure: &'static str, target: &'a str) -> Self {
        Self {
            name,
            cure,
            change: |builder| builder,
            nested: false,
            method: "GET",
            target,
            fields: &[],
            body: b"",
        }
    }

    fn bypass(why: BypassReason) -> Self {
        Self::new(why.name(), why.cure(), "/p")
    }

    fn refusal(why: NotStoredReason) -> Self {
        Self::new(why.name(), why.cure(), "/p")
    }

    fn change(self, change: Change) -> Self {
        Self { change, ..self }
    }

    fn fields(self, fields: &'a [(&'a str, &'a str)]) -> Self {
        Self { fields, ..self }
    }
}

/// Sends each request three times, and hears of its reason once.
async fn once(cases: Vec<Case<'_>>) {
    support::listen();
    for (n, case) in cases.into_iter().enumerate() {
        let Case { name, cure, nested, .. } = case;
        let scope = format!("{name} {n}");
        let builder = CacheConfig::builder(MemoryStorage::new()).namespace(&scope);
        let config = (case.change)(builder).build().unwrap();
        let server = Server::start(2, move || {
            App::new()
                .wrap(Condition::new(nested, FastCache::new(config.clone())))
                .wrap(FastCache::new(config.clone()))
                .default_service(web::to(answer))
        });
        for _ in 0..3 {
            let reply = server.send(case.method, case.target, case.fields, case.body).await;
            assert!(matches!(reply.status, 200 | 404), "{name}: {}", reply.status);
        }
        until(name, || !said(&scope).is_empty()).await;
        let lines = said(&scope);
        let told: Vec<_> = lines.iter().filter(|line| line.contains(&format!(": {name}; "))).collect();
        assert_eq!(told.len(), 1, "{name}: {lines:?}");
        assert!(told[0].starts_with("INFO actix_fast_cache") && told[0].ends_with(cure), "{told:?}");
        // Beside it only what the outer layer has to say.
        assert_eq!(lines.len(), if nested { 2 } else { 1 }, "{lines:?}");
    }
}

#[derive(Deserialize, Serialize)]
struct Page {
    number: u32,
}

// DESIGN, defaults, "silence"
#[tokio::test]
async fn every_bypass_is_told_once() {
    use BypassReason as Why;
    let long = format!("/p?{}", "q".repeat(20_000));
    once(vec![
        Case { method: "OPTIONS", ..Case::bypass(Why::Method) },
        Case::bypass(Why::Upgrade).fields(&[("Upgrade", "websocket")]),
        Case { body: b"body", ..Case::bypass(Why::RequestBody) },
        Case { method: "POST", body: b"body", ..Case::bypass(Why::RequestBodyTooLarge) }
            .change(|builder| builder.methods([Method::POST]).request_body_limit(3)),
        Case::bypass(Why::OverrideField).fields(&[("X-HTTP-Method-Override", "PUT")]),
        Case::bypass(Why::OverrideField).fields(&[("X-Rewrite-URL", "/q")]),
        Case::bypass(Why::Skipped).change(|builder| builder.skip(|_| true)),
        Case::bypass(Why::KeyRefused).change(|builder| builder.key_builder(|_| None)),
        Case::bypass(Why::KeyRefused).change(|builder| builder.key_part(|_| String::new())),
        Case { target: &long, ..Case::bypass(Why::KeyTooLong) },
        Case::bypass(Why::QueryRefused).change(|builder| builder.query(QueryKey::typed::<Page>())),
        Case::bypass(Why::ClientNoStore)
            .change(CacheConfigBuilder::obey_client)
            .fields(&[("Cache-Control", "no-store")]),
        Case { nested: true, target: "/private", ..Case::bypass(Why::Nested) },
    ])
    .await;
}

#[tokio::test]
async fn every_refusal_to_store_is_told_once() {
    use NotStoredReason as Why;
    // The page at a path of the reason's own name gives the reason.
    let named = [
        Why::Status,
        Why::HandlerError,
        Why::HandlerRefused,
        Why::NoStore,
        Why::Private,
        Why::ZeroLifetime,
        Why::VaryAny,
        Why::VaryTooMuch,
        Why::VaryPersonal,
        Why::SetCookie,
        Why::HeadersTooLarge,
        Why::BadTags,
        Why::EventStream,
        Why::Nonce,
    ];
    let paths: Vec<String> = named.iter().map(|why| format!("/{why}")).collect();
    let mut cases: Vec<Case<'_>> =
        named.iter().zip(&paths).map(|(why, path)| Case { target: path, ..Case::refusal(*why) }).collect();
    cases.extend([
        Case::refusal(Why::NoLifetime).change(CacheConfigBuilder::explicit_only),
        Case::refusal(Why::ZeroLifetime).change(|builder| builder.ttl(Duration::ZERO)),
        Case::refusal(Why::Authorization).fields(&[("Authorization", "Basic a")]),
        Case::refusal(Why::Cookie).fields(&[("Cookie", "a=1")]),
        Case::refusal(Why::StorePredicate).change(|builder| builder.store_if(|_| false)),
        Case::refusal(Why::BodyTooLarge).change(|builder| builder.body_limit(3)),
        Case { target: "/streamed", ..Case::refusal(Why::BodyTooLarge) }
            .change(|builder| builder.body_limit(3)),
        Case { method: "HEAD", ..Case::refusal(Why::Head) },
    ]);
    once(cases).await;
}

/// The reason of a cache around another one, when the inner one answers.
#[tokio::test]
async fn that_an_inner_cache_answered_is_told_once() {
    support::listen();
    let [outer, inner] = ["outer", "inner"]
        .map(|name| CacheConfig::builder(MemoryStorage::new()).namespace(name).build().unwrap());
    let handle = outer.handle();
    let server = Server::start(1, move || {
        App::new()
            .wrap(FastCache::new(inner.clone()))
            .wrap(FastCache::new(outer.clone()))
            .default_service(web::to(answer))
    });
    server.get("/p", &[]).await;
    handle.clear().await.unwrap();
    for _ in 0..3 {
        assert_eq!(server.get("/p", &[]).await.cache(), "HIT");
    }
    let lines = said("outer");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains(": reused; ") && lines[0].ends_with(NotStoredReason::Reused.cure()));
    assert_eq!(said("inner"), [""; 0]);
}

#[tokio::test]
async fn what_surprises_nobody_is_not_told() {
    support::listen();
    let config = CacheConfig::builder(MemoryStorage::new()).namespace("quiet").build().unwrap();
    let server = Server::start(1, move || {
        App::new().wrap(FastCache::new(config.clone())).default_service(web::to(answer))
    });
    for method in ["GET", "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"] {
        assert_eq!(server.send(method, "/p", &[], b"").await.status, 200);
    }
    assert_eq!(said("quiet"), [""; 0]);
}

/// Scopes speak for themselves: what was said of one is said of the next.
#[tokio::test]
async fn each_scope_is_told_of() {
    support::listen();
    let root = CacheConfig::builder(MemoryStorage::new()).build().unwrap();
    for scope in ["one", "two"] {
        let config = root.scoped(scope);
        let server = Server::start(1, move || {
            App::new().wrap(FastCache::new(config.clone())).default_service(web::to(answer))
        });
        server.get("/private", &[]).await;
        assert_eq!(said(scope).len(), 1);
    }
}

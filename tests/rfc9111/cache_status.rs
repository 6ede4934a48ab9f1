//! `Cache-Status` (RFC 9211).

use crate::origin::{Answer, CacheConfigBuilder, Site, answer, ok, rfc, site_under, unreachable};

fn telling() -> CacheConfigBuilder {
    rfc().cache_status("c")
}

fn page(more: &[(&str, &str)]) -> Answer {
    ok(&[&[("cache-control", "max-age=10"), ("etag", "\"a\"")], more].concat())
}

async fn told(answers: &[Answer]) -> Site {
    site_under(telling(), answers).await
}

async fn get(site: &Site, fields: &[(&str, &str)]) -> String {
    site.get("/x?token=secret", fields).await.field("cache-status")
}

// RFC 9211 sections 2.1, 2.2, 2.4 and 2.5
#[actix_web::test]
async fn a_miss_a_hit_and_a_validation_are_told() {
    let site = told(&[page(&[]), answer(304, &[], "")]).await;
    assert_eq!(get(&site, &[]).await, "c; fwd=uri-miss; stored");
    site.wait(4);
    assert_eq!(get(&site, &[]).await, "c; hit; ttl=6");
    site.wait(10);
    // Section 2.3: the origin's status, where the client gets another.
    assert_eq!(get(&site, &[]).await, "c; fwd=stale; fwd-status=304; stored");
}

// RFC 9211 section 2.2
#[actix_web::test]
async fn why_a_request_went_on_is_told() {
    let site = told(&[page(&[("vary", "foo")])]).await;
    get(&site, &[("foo", "1")]).await;
    assert_eq!(get(&site, &[("foo", "2")]).await, "c; fwd=vary-miss; stored");
    let newer = ("cache-control", "no-cache");
    assert_eq!(get(&site, &[("foo", "1"), newer]).await, "c; fwd=request; stored");
    let no_store = ("cache-control", "no-store");
    assert_eq!(get(&site, &[no_store]).await, "c; fwd=bypass; detail=client-no-store");
    let write = site.send("PUT", "/x", &[]).await;
    assert_eq!(write.field("cache-status"), "c; fwd=method; detail=method");
}

// RFC 9211 sections 2.2 and 2.8
#[actix_web::test]
async fn why_an_answer_was_not_stored_is_told() {
    for (fields, detail) in [
        (&[("cache-control", "no-store")][..], "no-store"),
        (&[("cache-control", "private")], "private"),
        (&[], "no-lifetime"),
        (&[("cache-control", "max-age=0")], "zero-lifetime"),
        (&[("cache-control", "max-age=60"), ("vary", "*")], "vary-any"),
    ] {
        let site = told(&[ok(fields)]).await;
        assert_eq!(get(&site, &[]).await, format!("c; fwd=uri-miss; detail={detail}"));
    }
}

// RFC 9211 sections 2.2 and 2.5: how stale it was, and for what it stood in
#[actix_web::test]
async fn a_stale_answer_is_told() {
    let site = told(&[page(&[]), unreachable()]).await;
    get(&site, &[]).await;
    site.wait(12);
    assert_eq!(get(&site, &[]).await, "c; fwd=stale; fwd-status=502; ttl=-2; detail=stale-on-failure");
    // While the origin is left alone.
    assert_eq!(get(&site, &[]).await, "c; hit; ttl=-2");
}

// RFC 9211 section 2.2
#[actix_web::test]
async fn a_part_that_is_completed_is_told() {
    let part = |range: &str, body: &str| {
        answer(206, &[("cache-control", "max-age=10"), ("etag", "\"a\""), ("content-range", range)], body)
    };
    let site = told(&[part("bytes 0-4/10", "01234"), part("bytes 5-9/10", "56789")]).await;
    assert_eq!(get(&site, &[("range", "bytes=0-4")]).await, "c; fwd=uri-miss; stored");
    assert_eq!(get(&site, &[("range", "bytes=1-2")]).await, "c; hit; ttl=10");
    assert_eq!(get(&site, &[]).await, "c; fwd=partial; fwd-status=206; stored");
}

// RFC 9211 section 2.7, L17
#[actix_web::test]
async fn the_key_is_told_on_wish_and_shows_nothing_of_the_request() {
    let site = site_under(telling().cache_status_key(), &[page(&[])]).await;
    let (first, again) = (get(&site, &[]).await, get(&site, &[]).await);
    let key = |told: &str| told.split_once("; key=\"").expect("a key").1.trim_end_matches('"').to_owned();
    assert_eq!((key(&first), key(&first).len()), (key(&again), 32));
    assert!(key(&first).bytes().all(|byte| byte.is_ascii_hexdigit()));
    let other = site.get("/y", &[]).await.field("cache-status");
    assert_ne!(key(&other), key(&first));
    assert!(!get(&told(&[page(&[])]).await, &[]).await.contains("key"), "off by default");
}

// RFC 9211 section 2: a list; an earlier cache's member stands first
#[actix_web::test]
async fn another_cache_s_member_stays() {
    let site = told(&[page(&[("cache-status", "origin; hit")])]).await;
    assert_eq!(site.get("/x", &[]).await.lines("cache-status"), ["origin; hit", "c; fwd=uri-miss; stored"]);
    assert_eq!(site.get("/x", &[]).await.lines("cache-status"), ["origin; hit", "c; hit; ttl=10"]);
}

//! Cache directives of requests (RFC 9111 sections 5.2.1 and 5.4).

use crate::origin::{Answer, Site, answer, at, defaults, ok, site, site_under};

/// An answer that is fresh for a minute and can be validated.
fn minute() -> Answer {
    answer(200, &[("cache-control", "max-age=60"), ("etag", "\"a\"")], "one")
}

/// Whether a site runs its handler for a request with this `Cache-Control`.
async fn runs_for(site: &Site, control: &str) -> bool {
    let before = site.runs();
    site.get("/x", &[("cache-control", control)]).await;
    site.runs() > before
}

/// A site with an answer in store that is so many seconds old.
async fn with_age(seconds: u64) -> Site {
    let site = site(&[minute()]).await;
    site.get("/x", &[]).await;
    site.wait(seconds);
    site
}

// RFC 9111 section 5.2.1.4
#[actix_web::test]
async fn no_cache_has_a_fresh_answer_validated_and_the_new_one_stored() {
    let newer = answer(200, &[("cache-control", "max-age=60"), ("etag", "\"b\"")], "two");
    for control in ["no-cache", "No-Cache", "foo, no-cache=bar"] {
        let site = site(&[minute(), answer(304, &[], ""), newer.clone()]).await;
        site.get("/x", &[]).await;
        assert_eq!(site.get("/x", &[("cache-control", control)]).await.text(), "one");
        assert_eq!((site.runs(), site.last().field("if-none-match")), (2, "\"a\"".into()), "{control}");
        assert_eq!(site.get("/x", &[("cache-control", control)]).await.text(), "two");
        assert_eq!((site.get("/x", &[]).await.text().as_str(), site.runs()), ("two", 3), "{control}");
    }
}

// RFC 9111 section 5.2.1.5, L16
#[actix_web::test]
async fn the_answer_to_a_no_store_request_is_not_stored() {
    let site = site(&[minute()]).await;
    assert!(runs_for(&site, "no-store").await);
    assert!(runs_for(&site, "foo, NO-STORE").await);
    assert!(runs_for(&site, "foo").await);
    assert_eq!(site.last().field("if-none-match"), "-");
    assert!(!runs_for(&site, "foo").await);
}

// RFC 9111 section 5.2.1.5
#[actix_web::test]
async fn the_answer_to_a_no_store_request_does_not_take_the_place_of_a_stored_one() {
    let other = answer(200, &[("cache-control", "max-age=600"), ("etag", "\"b\"")], "two");
    let site = site(&[minute(), other]).await;
    site.get("/x", &[]).await;
    site.get("/x", &[("cache-control", "no-store")]).await;
    assert_eq!(site.get("/x", &[]).await.text(), "one");
}

// RFC 9111 section 5.2.1.1
#[actix_web::test]
async fn max_age_takes_no_answer_that_is_older() {
    for (control, runs) in [
        ("max-age=31", false),
        ("max-age=30", false),
        ("max-age=29", true),
        ("max-age=0", true),
        ("MAX-AGE=\"29\"", true),
        ("max-age=99999999999", false),
        // What cannot be read asks for the newest there is.
        ("max-age=soon", true),
        ("foo=\"max-age=0\"", false),
    ] {
        assert_eq!(runs_for(&with_age(30).await, control).await, runs, "{control}");
    }
}

// RFC 9111 section 5.2.1.3
#[actix_web::test]
async fn min_fresh_takes_no_answer_that_will_be_stale_by_then() {
    for (control, runs) in [
        ("min-fresh=0", false),
        ("min-fresh=29", false),
        ("min-fresh=30", false),
        ("min-fresh=31", true),
        ("min-fresh=99999999999", true),
    ] {
        assert_eq!(runs_for(&with_age(30).await, control).await, runs, "{control}");
    }
}

// RFC 9111 section 5.2.1.2
#[actix_web::test]
async fn max_stale_takes_an_answer_that_is_stale_by_no_more() {
    for (age, control, runs) in [
        (60, "foo", true),
        (60, "max-stale=0", false),
        (70, "max-stale=10", false),
        (71, "max-stale=10", true),
        (3000, "max-stale", false),
        (3000, "max-stale=99999999999", false),
        (70, "max-stale=soon", true),
        // Each limit holds.
        (70, "max-stale=10, max-age=69", true),
        (70, "max-stale=10, max-age=70", false),
        (70, "max-stale, min-fresh=1", true),
        (70, "max-stale, no-cache", true),
    ] {
        assert_eq!(runs_for(&with_age(age).await, control).await, runs, "{age} {control}");
    }
}

// RFC 9111 section 5.2.1.7
#[actix_web::test]
async fn only_if_cached_is_answered_from_the_store_or_with_a_504() {
    let site = site(&[minute()]).await;
    let only = [("cache-control", "only-if-cached")];
    assert_eq!((site.get("/x", &only).await.status, site.runs()), (504, 0));
    site.get("/x", &[]).await;
    for (waits, control, status) in [
        (59, "only-if-cached", 200),
        (0, "Only-If-Cached, max-age=58", 504),
        (1, "only-if-cached", 504),
        (0, "only-if-cached, max-stale", 200),
    ] {
        site.wait(waits);
        let reply = site.get("/x", &[("cache-control", control)]).await;
        assert_eq!((reply.status, site.runs()), (status, 1), "{control}");
    }
}

// RFC 9111 section 5.4
#[actix_web::test]
async fn pragma_speaks_where_cache_control_is_absent() {
    for (fields, runs) in [
        (&[("pragma", "no-cache")][..], true),
        (&[("pragma", "foo, No-Cache")], true),
        (&[("pragma", "foo")], false),
        (&[("pragma", "max-age=0")], false),
        (&[("pragma", "no-cache"), ("cache-control", "max-age=60")], false),
        (&[("pragma", "no-cache"), ("cache-control", "")], false),
    ] {
        let site = with_age(30).await;
        site.get("/x", fields).await;
        assert_eq!(site.runs(), if runs { 2 } else { 1 }, "{fields:?}");
    }
}

// RFC 9111 section 5.2.3: neither field is ever in a key
#[actix_web::test]
async fn an_unknown_directive_of_a_request_means_nothing() {
    let site = with_age(30).await;
    for control in
        ["foo", "foo=bar", "foo=\"no-cache, no-store\"", "no-caches", "x-no-store", ",,", "public", ""]
    {
        assert!(!runs_for(&site, control).await, "{control}");
    }
}

// RFC 9111 section 5.2.1: a request that forces a run forces load
#[actix_web::test]
async fn by_default_a_request_directive_means_nothing() {
    let site = site_under(defaults(), &[minute()]).await;
    // Not even a 504 for what is not there, and the answer is stored.
    assert_eq!(site.get("/x", &[("cache-control", "only-if-cached, no-store")]).await.status, 200);
    site.wait(59);
    for fields in [
        &[("cache-control", "no-cache")][..],
        &[("cache-control", "no-store")],
        &[("cache-control", "max-age=0")],
        &[("cache-control", "min-fresh=600")],
        &[("pragma", "no-cache")],
    ] {
        site.get("/x", fields).await;
        assert_eq!(site.runs(), 1, "{fields:?}");
    }
    site.wait(1);
    assert!(runs_for(&site, "max-stale").await);
}

// RFC 9111 section 5.2.1: a guess is no more than any other lifetime
#[actix_web::test]
async fn request_directives_hold_for_a_guessed_lifetime_too() {
    let site = site(&[ok(&[("last-modified", &at(-1000))])]).await;
    site.get("/x", &[]).await;
    site.wait(30);
    assert!(!runs_for(&site, "max-age=30, min-fresh=70").await);
    assert!(runs_for(&site, "min-fresh=71").await);
}

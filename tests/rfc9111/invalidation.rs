//! What a successful unsafe request makes invalid (RFC 9111 section 4.4).

use crate::origin::{Site, answer, defaults, rfc, site, site_under};

/// A site whose answers to GET are stored, and whose answer to what comes next has this status.
async fn stored(defaults_only: bool, status: u16) -> Site {
    let page = answer(200, &[("cache-control", "max-age=60"), ("etag", "\"a\"")], "page");
    let builder = if defaults_only { defaults() } else { rfc() };
    let site = site_under(builder, &[page.clone(), answer(status, &[], ""), page]).await;
    site.get("/x?a=1", &[]).await;
    site
}

/// Whether the page is still served from the store.
async fn is_valid(site: &Site) -> bool {
    let before = site.runs();
    let reply = site.get("/x?a=1", &[]).await;
    assert_eq!(reply.text(), "page");
    site.runs() == before
}

/// Methods that may change their target, some of which no cache has heard of (RFC 9110 section 9.2.1).
const UNSAFE: [&str; 8] = ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "FOO", "post", "GETX"];

// RFC 9111 section 4.4, row 33; the defaults too
#[actix_web::test]
async fn an_unsafe_request_that_succeeds_invalidates_its_target() {
    for defaults_only in [false, true] {
        for method in UNSAFE {
            for status in [200, 201, 202, 204, 206, 299, 300, 301, 302, 303, 304, 307, 308, 399] {
                let site = stored(defaults_only, status).await;
                let reply = site.send(method, "/x?a=1", &[]).await;
                assert_eq!((reply.status, site.runs()), (status, 2), "{method} {status}");
                assert_eq!(site.last().method.as_str(), method);
                assert!(!is_valid(&site).await, "{method} {status}");
                assert!(is_valid(&site).await, "{method} {status}: the new one is stored");
            }
        }
    }
}

// RFC 9111 section 4.4, row 33; the defaults too
#[actix_web::test]
async fn an_unsafe_request_that_fails_invalidates_nothing() {
    for defaults_only in [false, true] {
        for method in UNSAFE {
            for status in [400, 401, 404, 409, 412, 418, 499, 500, 502, 503, 504, 599] {
                let site = stored(defaults_only, status).await;
                assert_eq!(site.send(method, "/x?a=1", &[]).await.status, status);
                assert!(is_valid(&site).await, "{method} {status}");
            }
        }
    }
}

// RFC 9110 section 9.2.1, RFC 9111 section 4.4, row 33
#[actix_web::test]
async fn a_safe_request_invalidates_nothing() {
    for method in ["HEAD", "OPTIONS", "TRACE", "QUERY", "PROPFIND", "REPORT", "SEARCH"] {
        let site = stored(false, 200).await;
        site.send(method, "/x?a=1", &[]).await;
        assert!(is_valid(&site).await, "{method}");
    }
}

// RFC 9111 section 4.4, row 33
#[actix_web::test]
async fn an_unsafe_request_invalidates_no_other_target() {
    for target in ["/x", "/x?a=2", "/x?a=1&b=2", "/x?", "/", "/x/?a=1", "/X?a=1", "/y?a=1"] {
        let site = stored(false, 200).await;
        site.send("POST", target, &[]).await;
        assert!(is_valid(&site).await, "{target}");
    }
}

// RFC 9111 section 4.4, row 33
#[actix_web::test]
async fn an_unsafe_request_invalidates_every_variant_of_its_target() {
    let page = answer(200, &[("cache-control", "max-age=60"), ("vary", "foo")], "page");
    let site = site(&[page]).await;
    for foo in ["1", "2", "3"] {
        site.get("/x", &[("foo", foo)]).await;
    }
    site.send("DELETE", "/x", &[("foo", "4")]).await;
    for (foo, runs) in [("1", 5), ("2", 6), ("3", 7), ("1", 7)] {
        site.get("/x", &[("foo", foo)]).await;
        assert_eq!(site.runs(), runs, "{foo}");
    }
}

// RFC 9111 section 4.4: what was invalid is not validated back to life, nor served stale
#[actix_web::test]
async fn what_was_invalidated_is_not_even_served_stale() {
    let site = stored(false, 204).await;
    site.send("PUT", "/x?a=1", &[]).await;
    site.get("/x?a=1", &[("cache-control", "max-stale")]).await;
    assert_eq!(site.runs(), 3);
    let cut = stored(false, 204).await;
    cut.send("PUT", "/x?a=1", &[]).await;
    assert_eq!(cut.get("/x?a=1", &[("cache-control", "only-if-cached, max-stale")]).await.status, 504);
}

// RFC 9111 sections 3 and 4: an answer to an unsafe method is no answer to GET
#[actix_web::test]
async fn the_answer_to_an_unsafe_request_is_not_stored() {
    for method in UNSAFE {
        let site = site(&[answer(200, &[("cache-control", "max-age=60")], "done")]).await;
        site.send(method, "/x", &[]).await;
        site.send(method, "/x", &[]).await;
        site.get("/x", &[]).await;
        assert_eq!(site.runs(), 3, "{method}");
    }
}

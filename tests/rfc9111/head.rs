//! What the answer to a HEAD says of a stored one (RFC 9111 section 4.3.5).

use crate::origin::{Answer, Site, answer, defaults, site, site_under};

fn page() -> Answer {
    answer(
        200,
        &[("cache-control", "max-age=10"), ("etag", "\"a\""), ("x-field", "1"), ("x-kept", "1")],
        "page",
    )
}

/// A stale page; then a HEAD that is answered like this.
async fn asked(then: Answer) -> Site {
    let site = site(&[page(), then, answer(200, &[], "new")]).await;
    site.get("/x", &[]).await;
    site.wait(20);
    site.send("HEAD", "/x", &[]).await;
    assert_eq!((site.runs(), site.last().method.as_str()), (2, "HEAD"), "it goes through to the origin");
    site
}

// RFC 9111 sections 4.3.4 and 4.3.5
#[actix_web::test]
async fn a_head_freshens_what_it_agrees_with() {
    let fields = [("cache-control", "max-age=100"), ("x-field", "2")];
    for (status, more) in [
        (304, &[][..]),
        (304, &[("etag", "\"a\"")]),
        (200, &[("etag", "\"a\"")]),
        (200, &[("etag", "\"a\""), ("content-length", "4")]),
        (200, &[]),
    ] {
        let site = asked(answer(status, &[&fields[..], more].concat(), "")).await;
        site.wait(50);
        let reply = site.get("/x", &[]).await;
        assert_eq!((reply.text().as_str(), site.runs()), ("page", 2), "{status} {more:?}");
        assert_eq!((reply.field("x-field").as_str(), reply.field("x-kept").as_str()), ("2", "1"));
        assert_eq!(reply.field("age"), "50");
    }
}

// RFC 9111 section 4.3.5
#[actix_web::test]
async fn a_head_that_disagrees_leaves_what_is_stored_stale() {
    for (status, fields) in [
        (200, [("cache-control", "max-age=100"), ("etag", "\"b\"")]),
        (200, [("cache-control", "max-age=100"), ("content-length", "5")]),
        (200, [("cache-control", "max-age=100"), ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")]),
        (410, [("cache-control", "max-age=100"), ("etag", "\"a\"")]),
        (404, [("cache-control", "max-age=100"), ("x", "")]),
    ] {
        let site = asked(answer(status, &fields, "")).await;
        assert_eq!(
            (site.get("/x", &[]).await.text().as_str(), site.runs()),
            ("new", 3),
            "{status} {fields:?}"
        );
    }
}

// RFC 9110 section 9.3.2: its client sees what a GET would
#[actix_web::test]
async fn its_client_gets_the_fields_of_both() {
    let site = site(&[page(), answer(200, &[("etag", "\"a\""), ("x-field", "2")], "")]).await;
    site.get("/x", &[]).await;
    site.wait(20);
    let reply = site.send("HEAD", "/x", &[]).await;
    assert_eq!(
        (reply.status, reply.field("x-field").as_str(), reply.field("x-kept").as_str()),
        (200, "2", "1")
    );
}

// The defaults: a HEAD never makes an entry, and its 200 changes none
#[actix_web::test]
async fn by_default_a_head_without_a_304_changes_nothing() {
    let site =
        site_under(defaults(), &[page(), answer(200, &[("etag", "\"a\"")], ""), answer(304, &[], "")]).await;
    site.get("/x", &[]).await;
    site.wait(20);
    site.send("HEAD", "/x", &[]).await;
    site.get("/x", &[]).await;
    assert_eq!(site.runs(), 3);
}

// RFC 9110 section 9.3.2
#[actix_web::test]
async fn the_answer_to_a_head_on_an_empty_store_is_not_stored() {
    let site = site(&[answer(200, &[("cache-control", "max-age=60")], ""), page()]).await;
    site.send("HEAD", "/x", &[]).await;
    assert_eq!((site.get("/x", &[]).await.text().as_str(), site.runs()), ("page", 2));
}

//! Answers to POST that stand for GET (RFC 9110 sections 8.7 and 9.3.3).

use crate::origin::{Answer, Site, answer, defaults, ok, rfc, site, site_under};

fn created(location: &str) -> Answer {
    answer(200, &[("cache-control", "max-age=60"), ("content-location", location)], "posted")
}

async fn post(site: &Site) -> u16 {
    site.send_body("POST", "/x?a=1", &[("content-type", "text/plain")], "data").await.status
}

/// Whether a GET is answered with what the POST brought.
async fn serves_get(answer: Answer) -> bool {
    let site = site(&[answer, ok(&[])]).await;
    post(&site).await;
    site.get("/x?a=1", &[]).await.text() == "posted" && site.runs() == 1
}

// RFC 9110 section 9.3.3, row 37
#[actix_web::test]
async fn an_answer_that_names_its_own_url_and_a_lifetime_serves_a_later_get() {
    for location in ["/x?a=1", "http://site.example/x?a=1", "?a=1", "x?a=1", "/y/../x?a=1"] {
        assert!(serves_get(created(location)).await, "{location}");
    }
}

// RFC 9110 section 9.3.3, row 37
#[actix_web::test]
async fn any_other_answer_to_a_post_is_not_stored() {
    let lifeless = answer(200, &[("content-location", "/x?a=1"), ("etag", "\"a\"")], "posted");
    let zero = answer(
        200,
        &[("content-location", "/x?a=1"), ("cache-control", "max-age=0"), ("etag", "\"a\"")],
        "posted",
    );
    let unnamed = answer(200, &[("cache-control", "max-age=60")], "posted");
    let failed = answer(500, &[("content-location", "/x?a=1"), ("cache-control", "max-age=60")], "posted");
    let private = created("/x?a=1").with("cache-control", "private");
    for answer in [lifeless, zero, unnamed, failed, private] {
        assert!(!serves_get(answer).await);
    }
    for location in
        ["/x", "/x?a=2", "/X?a=1", "http://other.example/x?a=1", "http://site.example:81/x?a=1", "::"]
    {
        assert!(!serves_get(created(location)).await, "{location}");
    }
}

// RFC 9111 section 4.4: it takes the place of what was stored
#[actix_web::test]
async fn it_replaces_what_was_stored_before_and_another_write_drops_it() {
    let page = ok(&[("cache-control", "max-age=60")]);
    let site = site(&[page, created("/x?a=1"), answer(204, &[], ""), ok(&[])]).await;
    site.get("/x?a=1", &[]).await;
    post(&site).await;
    assert_eq!((site.get("/x?a=1", &[]).await.text().as_str(), site.runs()), ("posted", 2));
    site.send("PUT", "/x?a=1", &[]).await;
    assert_eq!((site.get("/x?a=1", &[]).await.text().as_str(), site.runs()), ("body", 4));
}

// RFC 9110 section 9.3.3: only to GET and HEAD, never to another POST
#[actix_web::test]
async fn another_post_runs() {
    let site = site(&[created("/x?a=1")]).await;
    for runs in 1..3 {
        post(&site).await;
        assert_eq!(site.runs(), runs);
    }
    assert_eq!((site.send("HEAD", "/x?a=1", &[]).await.status, site.runs()), (200, 2));
}

// RFC 9111 section 3.5: an answer to one user is not everybody's
#[actix_web::test]
async fn an_answer_to_an_authorized_post_is_stored_only_if_it_is_for_everybody() {
    for (directives, serves) in [("max-age=60", false), ("max-age=60, public", true)] {
        let answer = answer(200, &[("cache-control", directives), ("content-location", "/x?a=1")], "posted");
        let site = site(&[answer, ok(&[])]).await;
        site.send_body("POST", "/x?a=1", &[("authorization", "Basic eA==")], "data").await;
        assert_eq!(site.get("/x?a=1", &[]).await.text() == "posted", serves, "{directives}");
    }
}

// The defaults, and a cache that keys POST itself
#[actix_web::test]
async fn without_the_preset_no_answer_to_a_post_is_stored_for_get() {
    let keyed = || rfc().methods([actix_web::http::Method::POST]);
    for builder in [defaults(), keyed()] {
        let site = site_under(builder, &[created("/x?a=1"), ok(&[])]).await;
        post(&site).await;
        assert_eq!((site.get("/x?a=1", &[]).await.text().as_str(), site.runs()), ("body", 2));
    }
}

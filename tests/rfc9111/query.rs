//! Safe requests with a body: QUERY (RFC 10008), and POST where a scope says that it only asks.

use actix_web::http::Method;

use crate::origin::{CacheConfigBuilder, Site, answer, defaults, ok, rfc, site_under};

fn query() -> Method {
    Method::from_bytes(b"QUERY").unwrap()
}

fn asking(builder: CacheConfigBuilder) -> CacheConfigBuilder {
    builder.methods([query(), Method::POST])
}

async fn fresh(builder: CacheConfigBuilder) -> Site {
    site_under(builder, &[ok(&[("cache-control", "max-age=60"), ("etag", "\"a\"")])]).await
}

// RFC 10008 section 2.7
#[actix_web::test]
async fn a_query_is_keyed_by_its_body_and_by_what_that_is() {
    let (json, form) = (("content-type", "application/json"), ("content-type", "text/plain"));
    for builder in [asking(rfc()), asking(defaults())] {
        let site = fresh(builder).await;
        for (method, field, body, runs) in [
            ("QUERY", json, "1", 1),
            ("QUERY", json, "1", 1),
            ("QUERY", json, "2", 2),
            ("QUERY", form, "1", 3),
            ("POST", json, "1", 4),
            ("POST", json, "1", 4),
            ("QUERY", json, "", 5),
        ] {
            site.send_body(method, "/x", &[field], body).await;
            assert_eq!(site.runs(), runs, "{method} {field:?} {body}");
        }
    }
}

// RFC 10008 section 2.7: the preset takes QUERY for what it is
#[actix_web::test]
async fn the_preset_stores_answers_to_query() {
    let site = fresh(rfc()).await;
    for _ in 0..2 {
        site.send_body("QUERY", "/x", &[("content-type", "text/plain")], "1").await;
        assert_eq!(site.runs(), 1);
    }
}

// RFC 10008 section 2: it is safe
#[actix_web::test]
async fn a_query_invalidates_nothing() {
    for builder in [rfc(), defaults()] {
        let site = fresh(builder).await;
        site.get("/x", &[]).await;
        site.send_body("QUERY", "/x", &[("content-type", "text/plain")], "1").await;
        let runs = site.runs();
        site.get("/x", &[]).await;
        assert_eq!(site.runs(), runs);
    }
}

// RFC 10008 section 2.6, RFC 9110 section 13.1.2
#[actix_web::test]
async fn a_conditional_query_is_answered_from_the_store() {
    let site = fresh(asking(rfc())).await;
    site.send_body("QUERY", "/x", &[("content-type", "text/plain")], "1").await;
    let fields = [("content-type", "text/plain"), ("if-none-match", "\"a\"")];
    let reply = site.send_body("QUERY", "/x", &fields, "1").await;
    assert_eq!((reply.status, reply.text().as_str(), site.runs()), (304, "", 1));
}

// A body over the limit goes by, whole, and drops nothing
#[actix_web::test]
async fn a_body_over_the_limit_bypasses_the_cache() {
    let site = fresh(asking(rfc()).request_body_limit(4)).await;
    for (body, runs) in [("1234", 1), ("1234", 1), ("12345", 2), ("12345", 3), ("1234", 3)] {
        site.send_body("QUERY", "/x", &[("content-type", "text/plain")], body).await;
        assert_eq!(site.runs(), runs, "{body}");
    }
}

// RFC 9110 section 9.3.3: an answer to a GET is none to a QUERY
#[actix_web::test]
async fn get_and_query_share_nothing() {
    let site = site_under(
        asking(rfc()),
        &[answer(200, &[("cache-control", "max-age=60")], "one"), answer(200, &[], "two")],
    )
    .await;
    site.get("/x", &[]).await;
    assert_eq!(site.send_body("QUERY", "/x", &[], "").await.text(), "two");
}

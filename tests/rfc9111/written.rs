//! What else a successful write makes invalid: the URLs that its answer names (RFC 9111 section 4.4).

use crate::origin::{Answer, answer, defaults, ok, rfc, site_under};

/// Whether a page at `/shop/list?b=2` is gone after a POST to `/shop/items?a=1` was answered like this.
async fn drops(answer: Answer) -> bool {
    let page = ok(&[("cache-control", "max-age=60")]);
    let mut dropped = Vec::new();
    for builder in [rfc(), defaults()] {
        let site = site_under(builder, &[page.clone(), answer.clone(), page.clone()]).await;
        site.get("/shop/list?b=2", &[]).await;
        site.send("POST", "/shop/items?a=1", &[]).await;
        site.get("/shop/list?b=2", &[]).await;
        dropped.push(site.runs() == 3);
    }
    assert_eq!(dropped[0], dropped[1], "the defaults do the same");
    dropped[0]
}

// RFC 9111 section 4.4
#[actix_web::test]
async fn the_urls_in_location_and_content_location_are_invalidated() {
    for field in ["location", "content-location"] {
        for url in [
            "/shop/list?b=2",
            "list?b=2",
            "./list?b=2#top",
            "../shop/x/../list?b=2",
            "//site.example/shop/list?b=2",
            "http://site.example/shop/list?b=2",
            "http://site.example:80/shop/list?b=2",
            // Behind a proxy that ends TLS, the application names itself so.
            "https://SITE.example/shop/list?b=2",
        ] {
            assert!(drops(answer(201, &[(field, url)], "")).await, "{field}: {url}");
        }
    }
}

// RFC 9111 section 4.4: of no other origin, or anybody could drop anybody's pages
#[actix_web::test]
async fn urls_of_another_origin_and_other_urls_are_left_alone() {
    for url in [
        "http://other.example/shop/list?b=2",
        "http://site.example:8080/shop/list?b=2",
        "http://site.example.evil/shop/list?b=2",
        "http://x@other.example/shop/list?b=2",
        "ftp://site.example/shop/list?b=2",
        "/shop/list",
        "/shop/list?b=3",
        "http://",
        "",
    ] {
        assert!(!drops(answer(201, &[], "").with("location", url)).await, "{url}");
    }
}

// RFC 9111 section 4.4
#[actix_web::test]
async fn a_write_that_fails_invalidates_nothing_that_it_names() {
    for status in [400, 404, 500, 503] {
        assert!(!drops(answer(status, &[("location", "/shop/list?b=2")], "")).await, "{status}");
    }
}

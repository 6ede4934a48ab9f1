//! Groups of answers that are invalidated together (RFC 9875).

use crate::origin::{answer, defaults, ok, rfc, site_under};

/// How many of two pages run again after a POST was answered with this status and field: of the groups a, b and b, c.
async fn dropped(status: u16, invalidation: &str) -> usize {
    let grouped = |groups: &str| ok(&[("cache-control", "max-age=60"), ("cache-groups", groups)]);
    let mut dropped = Vec::new();
    for builder in [rfc(), defaults()] {
        let done = answer(status, &[("cache-group-invalidation", invalidation)], "");
        let site =
            site_under(builder, &[grouped("\"a\", \"b\""), grouped("\"b\";x=1,\"c\""), done, ok(&[])]).await;
        site.get("/1", &[]).await;
        site.get("/2", &[]).await;
        site.send("POST", "/other", &[]).await;
        site.get("/1", &[]).await;
        site.get("/2", &[]).await;
        dropped.push(site.runs() - 3);
    }
    assert_eq!(dropped[0], dropped[1], "the defaults do the same");
    dropped[0]
}

// RFC 9875 sections 2 and 3
#[actix_web::test]
async fn a_successful_write_invalidates_the_groups_that_its_answer_names() {
    for (groups, expected) in [
        ("\"a\"", 1),
        ("\"b\"", 2),
        ("\"c\"", 1),
        ("\"a\", \"c\"", 2),
        ("\"d\"", 0),
        ("\"A\"", 0),
        ("\"a\";x", 1),
    ] {
        assert_eq!(dropped(200, groups).await, expected, "{groups}");
        assert_eq!(dropped(303, groups).await, expected, "{groups}");
    }
}

// RFC 9875 section 3
#[actix_web::test]
async fn a_write_that_fails_and_a_field_that_is_no_list_of_strings_invalidate_nothing() {
    for status in [400, 500] {
        assert_eq!(dropped(status, "\"b\"").await, 0);
    }
    for odd in ["b", "\"b", "\"a\" \"b\"", "(\"b\")", "?1", ""] {
        assert_eq!(dropped(200, odd).await, 0, "{odd}");
    }
}

// RFC 9875 section 3: safe methods have no say
#[actix_web::test]
async fn the_answer_to_a_get_invalidates_no_group() {
    let page = ok(&[("cache-control", "max-age=60"), ("cache-groups", "\"a\"")]);
    let site = site_under(rfc(), &[page, ok(&[("cache-group-invalidation", "\"a\"")])]).await;
    site.get("/1", &[]).await;
    site.get("/2", &[]).await;
    site.get("/1", &[]).await;
    assert_eq!(site.runs(), 2);
}

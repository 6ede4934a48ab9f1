//! Stale answers: when they serve, and when nothing lets them (RFC 9111 section 4.2.4, RFC 5861).

use crate::origin::{Answer, Site, answer, rfc, site, site_under, unreachable};

const FORBIDDING: [&str; 4] = ["must-revalidate", "proxy-revalidate", "s-maxage=10", "no-cache"];

fn page(directives: &str) -> Answer {
    answer(200, &[("cache-control", directives), ("etag", "\"a\"")], "page")
}

/// A page that went stale two seconds ago, before an origin that answers like this from then on.
async fn gone_stale(directives: &str, then: Answer) -> Site {
    let site = site(&[page(&format!("max-age=10, {directives}")), then]).await;
    site.get("/x", &[]).await;
    site.wait(12);
    site
}

// RFC 9111 section 4.2.4, row 17
#[actix_web::test]
async fn a_stale_answer_serves_while_the_origin_cannot_be_reached() {
    let site = gone_stale("x", unreachable()).await;
    let reply = site.get("/x", &[]).await;
    assert_eq!((reply.status, reply.text().as_str(), reply.field("age").as_str()), (200, "page", "12"));
    assert_eq!(reply.field("x-cache"), "HIT");
    // A day, and no longer.
    site.wait(24 * 3600 - 3);
    assert_eq!(site.get("/x", &[]).await.status, 200);
    site.wait(10);
    assert_eq!(site.get("/x", &[]).await.status, 502);
}

// RFC 9111 section 4.2.4, row 17: an answer of the origin's is an answer
#[actix_web::test]
async fn an_error_that_the_origin_answers_is_passed_on() {
    for status in [500, 502, 503, 504] {
        let site = gone_stale("x", answer(status, &[], "error")).await;
        assert_eq!(site.get("/x", &[]).await.status, status);
    }
}

// RFC 9111 sections 5.2.2.2, 5.2.2.4, 5.2.2.8 and 5.2.2.10, row 17
#[actix_web::test]
async fn where_it_is_forbidden_to_serve_stale_the_client_gets_a_504() {
    for directive in FORBIDDING {
        let site = gone_stale(directive, unreachable()).await;
        let reply = site.get("/x", &[]).await;
        assert_eq!((reply.status, reply.field("age").as_str()), (504, "-"), "{directive}");
        assert!(!reply.text().contains("page"));
    }
}

// RFC 9111 section 4.2.4: nothing is stored that could serve, so there is nothing to explain either
#[actix_web::test]
async fn without_a_stored_answer_the_failure_is_passed_on() {
    let site = site(&[unreachable()]).await;
    assert_eq!(site.get("/x", &[]).await.status, 502);
}

// RFC 9111 section 4.2.4: the origin is not asked again at once
#[actix_web::test]
async fn an_origin_that_cannot_be_reached_is_left_alone_for_a_while() {
    let site = gone_stale("x", unreachable()).await;
    for (waits, runs) in [(0, 2), (0, 2), (4, 2), (2, 3)] {
        site.wait(waits);
        assert_eq!((site.get("/x", &[]).await.status, site.runs()), (200, runs));
    }
}

// RFC 5861 section 4
#[actix_web::test]
async fn stale_if_error_serves_in_the_place_of_errors_in_its_window() {
    for (status, serves) in [(500, true), (502, true), (503, true), (504, true), (404, false), (599, false)] {
        let site = gone_stale("stale-if-error=5", answer(status, &[], "error")).await;
        let expected = if serves { 200 } else { status };
        assert_eq!(site.get("/x", &[]).await.status, expected);
        site.wait(3);
        assert_eq!(site.get("/x", &[]).await.status, status, "the window is over");
    }
}

// RFC 5861 section 4: the directive of a request, where clients are obeyed
#[actix_web::test]
async fn a_client_may_take_a_stale_answer_in_the_place_of_an_error() {
    let takes = ("cache-control", "stale-if-error=60");
    let site = gone_stale("x", answer(500, &[], "error")).await;
    assert_eq!(site.get("/x", &[takes]).await.status, 200);
    for directive in FORBIDDING {
        let site = gone_stale(directive, answer(500, &[], "error")).await;
        assert_eq!(site.get("/x", &[takes]).await.status, 500, "{directive}");
    }
}

// RFC 5861 section 3, row 18
#[actix_web::test]
async fn stale_while_revalidate_serves_at_once_and_refreshes_behind() {
    let site = site(&[page("max-age=10, stale-while-revalidate=5"), answer(304, &[], "")]).await;
    site.get("/x", &[]).await;
    site.wait(12);
    let stale = site.get("/x", &[]).await;
    assert_eq!((stale.status, stale.field("age").as_str()), (200, "12"));
    site.settle().await;
    assert_eq!((site.runs(), site.last().field("if-none-match").as_str()), (2, "\"a\""));
    let fresh = site.get("/x", &[]).await;
    assert_eq!((fresh.field("age").as_str(), site.runs()), ("0", 2));
}

// RFC 5861 section 3, row 18, R11
#[actix_web::test]
async fn past_its_window_nobody_is_served_stale() {
    for (age, status) in [(14, 200), (15, 404), (16, 404)] {
        let site = site(&[page("max-age=10, stale-while-revalidate=5"), answer(404, &[], "")]).await;
        site.get("/x", &[]).await;
        site.wait(age);
        assert_eq!(site.get("/x", &[]).await.status, status, "{age}");
    }
}

// RFC 9111 section 4.2.4, R11
#[actix_web::test]
async fn what_forbids_stale_answers_forbids_them_in_every_window() {
    for directive in FORBIDDING {
        let windows = format!("{directive}, stale-while-revalidate=60, stale-if-error=60");
        let site = gone_stale(&windows, answer(503, &[], "error")).await;
        assert_eq!(site.get("/x", &[]).await.status, 503, "{directive}");
    }
}

// RFC 5861 section 3: in the foreground
#[actix_web::test]
async fn in_the_foreground_the_first_one_waits_for_the_new_answer() {
    let new = answer(200, &[("cache-control", "max-age=10")], "new");
    let old = page("max-age=10, stale-while-revalidate=50");
    let refreshed = site_under(rfc().foreground_refresh(), &[old.clone(), new]).await;
    refreshed.get("/x", &[]).await;
    refreshed.wait(12);
    assert_eq!((refreshed.get("/x", &[]).await.text().as_str(), refreshed.runs()), ("new", 2));

    // Where that fails, it is in the window all the same.
    for failure in [unreachable(), answer(500, &[], "error")] {
        let site = site_under(rfc().foreground_refresh(), &[old.clone(), failure]).await;
        site.get("/x", &[]).await;
        site.wait(12);
        let reply = site.get("/x", &[]).await;
        assert_eq!((reply.status, reply.text().as_str(), site.runs()), (200, "page", 2));
    }
}

/// In how many of a thousand sites a hit with this much of its lifetime left refreshes behind it.
async fn refreshes(factor: f64, took: u64, left: u64) -> usize {
    let mut refreshes = 0;
    for n in 0..1_000 {
        let page = answer(200, &[("cache-control", "max-age=1000")], "page").after(took);
        let site = site_under(rfc().early_refresh(factor), &[page]).await;
        // Their clocks differ by milliseconds, and so do their chances.
        site.clock.advance(std::time::Duration::from_millis(n));
        site.get("/x", &[]).await;
        site.wait(1000 - took - left);
        assert_eq!(site.get("/x", &[]).await.field("x-cache"), "HIT");
        site.settle().await;
        refreshes += site.runs() - 1;
    }
    refreshes
}

// The likelier the less is left, and the earlier the longer a run takes: exp(-left / (factor * took))
#[actix_web::test]
async fn a_fresh_answer_is_refreshed_early_by_chance_and_by_its_cost() {
    for (factor, took, left, expected) in
        [(1.0, 10, 10, 368), (1.0, 10, 1, 905), (1.0, 10, 50, 7), (2.0, 10, 10, 607), (1.0, 1, 10, 0)]
    {
        let found = refreshes(factor, took, left).await;
        assert!(found.abs_diff(expected) <= 60, "{factor} {took} {left}: {found} of 1000, not {expected}");
    }
    assert_eq!((refreshes(0.0, 10, 1).await, refreshes(1.0, 0, 1).await), (0, 0));
}

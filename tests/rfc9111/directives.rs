//! Cache directives of answers (RFC 9111 sections 5.2 and 5.2.2).

use crate::origin::{answer, at, defaults, lifetime, lifetime_under, ok, rfc, site, site_under};

// RFC 9111 sections 5.2 and 5.2.3, row 5; the defaults too
#[actix_web::test]
async fn directives_are_read_as_a_list_in_any_case_and_the_unknown_means_nothing() {
    for (lines, expected) in [
        (&["max-age=60"][..], 60),
        (&["MAX-AGE=60"], 60),
        (&["mAx-aGe=60"], 60),
        (&["max-age=0060"], 60),
        (&["max-age=00000000000000000000060"], 60),
        (&["max-age=\"60\""], 60),
        (&["\t foo ,, max-age=60\t,"], 60),
        (&["foo,max-age=60,bar=\"baz\""], 60),
        (&["foo", "max-age=60"], 60),
        (&["extension=\"max-age=600\", max-age=60"], 60),
        (&["max-age=60, extension=\"max-age=600\""], 60),
        (&["extension=\"a, s-maxage=600, b\", max-age=60"], 60),
        (&["extension=\"\\\", s-maxage=600, \", max-age=60"], 60),
        (&["extension=\"no-store, private\", max-age=60"], 60),
        (&["x-max-age=600, max-ages=600, max-age=60"], 60),
        (&["no-store-x, xprivate, max-age=60"], 60),
        (&["stale-while-revalidate, max-age=60"], 60),
    ] {
        let answer = lines.iter().fold(ok(&[]), |answer, line| answer.with("cache-control", line));
        assert_eq!(lifetime(&answer).await, expected, "{lines:?}");
        assert_eq!(lifetime_under(defaults, &answer).await, expected, "{lines:?}");
    }
}

// RFC 9111 section 4.2.1, row 5, R7; the defaults too
#[actix_web::test]
async fn a_bad_lifetime_is_stale() {
    for bad in [
        "",
        "=",
        "='60'",
        "=-1",
        "=-60",
        "=+60",
        "=1.5",
        "=60.0",
        "=1e30",
        "=0x60",
        "=60;x",
        "=60s",
        "=60 60",
        "=a60",
        "==60",
        "= 60",
        " =60",
        " = 60",
        ":60",
        "=\"60",
        "=60\"",
        "=\"\"",
        "=\" 60\"",
        "=\u{666}\u{660}",
    ] {
        for name in ["max-age", "s-maxage"] {
            let answer = ok(&[("cache-control", &format!("{name}{bad}")), ("expires", &at(600))]);
            assert_eq!(lifetime(&answer).await, 0, "{name}{bad}");
            assert_eq!(lifetime_under(defaults, &answer).await, 0, "{name}{bad}");
        }
    }
}

// RFC 9111 section 4.2.1, R7; the defaults too
#[actix_web::test]
async fn of_a_lifetime_given_twice_the_first_counts() {
    for (value, expected) in [
        ("max-age=60, max-age=600", 60),
        ("max-age=600, max-age=60", 600),
        ("max-age=60, MAX-AGE=60", 60),
        ("max-age=60, max-age=soon", 60),
        ("max-age=soon, max-age=60", 0),
        ("s-maxage=60, max-age=5, s-maxage=600", 60),
    ] {
        assert_eq!(lifetime(&ok(&[("cache-control", value)])).await, expected, "{value}");
        assert_eq!(lifetime_under(defaults, &ok(&[("cache-control", value)])).await, expected, "{value}");
    }
}

// RFC 9111 sections 5.2.2.5 and 5.2.2.7, row 14, L5; the defaults too
#[actix_web::test]
async fn no_store_and_private_keep_an_answer_out_whatever_else_it_says() {
    for lines in [
        &["no-store"][..],
        &["private"],
        &["No-Store"],
        &["PRIVATE"],
        &["max-age=60, no-store"],
        &["no-store, max-age=60"],
        &["private, s-maxage=60"],
        &["public, max-age=60, private"],
        &["max-age=60", "no-store"],
        &["private", "max-age=60"],
        &["max-age=60 ,\tno-store\t,"],
        &["max-age=60, immutable, must-revalidate, no-store"],
        &["max-age=60, foo=\"bar\", no-store"],
        &["max-age=60, no-store=1"],
        &["max-age=60, no-store; foo"],
        &["max-age=60, private="],
        &["max-age=60, private=set-cookie"],
        &["max-age=60, private=\"\""],
        &["max-age=60, private=\"set-cookie\", private"],
        // The quote is never closed; it is the last of its line.
        &["max-age=60, foo=\"", "no-store"],
    ] {
        let valid = ok(&[("etag", "\"a\""), ("last-modified", &at(-1000)), ("expires", &at(600))]);
        let answer = lines.iter().fold(valid, |answer, line| answer.with("cache-control", line));
        for builder in [rfc(), defaults()] {
            let site = site_under(builder, std::slice::from_ref(&answer)).await;
            site.get("/x", &[]).await;
            site.get("/x", &[]).await;
            // Not even to be validated.
            assert_eq!((site.runs(), site.last().field("if-none-match")), (2, "-".into()), "{lines:?}");
        }
    }
}

// RFC 9111 section 5.2.2.5, row 14
#[actix_web::test]
async fn an_answer_that_is_not_to_be_stored_leaves_the_stored_one_as_it_was() {
    for control in ["no-store", "private, max-age=600"] {
        let old = answer(200, &[("cache-control", "max-age=60")], "old");
        let site = site(&[old, answer(200, &[("cache-control", control)], "new")]).await;
        site.get("/x", &[]).await;
        site.wait(10);
        assert_eq!(site.get("/x", &[("cache-control", "no-cache")]).await.text(), "new");
        assert_eq!((site.get("/x", &[]).await.text().as_str(), site.runs()), ("old", 2), "{control}");
        site.wait(50);
        assert_eq!((site.get("/x", &[]).await.text().as_str(), site.runs()), ("new", 3), "{control}");
    }
}

// RFC 9111 section 5.2.2.4, row 15
#[actix_web::test]
async fn no_cache_is_stored_and_validated_on_every_use() {
    for control in ["no-cache", "NO-CACHE, max-age=600", "no-cache=\"\", public", "s-maxage=60, no-cache=x"] {
        let first = answer(200, &[("cache-control", control), ("etag", "\"a\"")], "body");
        let site = site(&[first, answer(304, &[("etag", "\"a\"")], "")]).await;
        site.get("/x", &[]).await;
        for run in 2..5 {
            site.wait(1);
            // A client that takes stale answers cannot have it either.
            let reply = site.get("/x", &[("cache-control", "max-stale")]).await;
            assert_eq!((reply.status, reply.text().as_str(), site.runs()), (200, "body", run), "{control}");
            assert_eq!(site.last().field("if-none-match"), "\"a\"", "{control}");
        }
    }
}

// RFC 9111 section 5.2.2.4, row 15
#[actix_web::test]
async fn no_cache_without_a_validator_is_asked_for_anew() {
    let site = site(&[ok(&[("cache-control", "no-cache, max-age=60")])]).await;
    for run in 1..4 {
        site.get("/x", &[]).await;
        assert_eq!(site.runs(), run);
        assert_eq!(site.last().field("if-none-match"), "-");
        assert_eq!(site.last().field("if-modified-since"), "-");
    }
}

// RFC 9111 section 5.2.2.4, row 15
#[actix_web::test]
async fn by_default_no_cache_is_not_stored() {
    let answer = ok(&[("cache-control", "no-cache, max-age=60"), ("etag", "\"a\"")]);
    let site = site_under(defaults(), &[answer]).await;
    site.get("/x", &[]).await;
    site.get("/x", &[]).await;
    assert_eq!((site.runs(), site.last().field("if-none-match")), (2, "-".into()));
}

// RFC 9111 sections 5.2.2.2, 5.2.2.8, 5.2.2.10, row 16
#[actix_web::test]
async fn an_answer_that_must_be_revalidated_is_reused_while_fresh_and_never_stale() {
    for (control, may_be_stale) in [
        ("max-age=60", true),
        ("max-age=60, extension=\"must-revalidate\"", true),
        ("max-age=60, must-revalidate", false),
        ("max-age=60, Must-Revalidate", false),
        ("max-age=60, proxy-revalidate", false),
        ("s-maxage=60", false),
    ] {
        let site = site(&[ok(&[("cache-control", control), ("etag", "\"a\"")])]).await;
        site.get("/x", &[]).await;
        site.wait(59);
        site.get("/x", &[]).await;
        assert_eq!(site.runs(), 1, "{control}");
        site.wait(1);
        site.get("/x", &[("cache-control", "max-stale")]).await;
        assert_eq!(site.runs(), if may_be_stale { 1 } else { 2 }, "{control}");
        site.wait(60);
        site.get("/x", &[]).await;
        assert_eq!(site.last().field("if-none-match"), "\"a\"", "{control}");
    }
}

// RFC 9111 section 5.2.2.3, row 19
#[actix_web::test]
async fn must_understand_lifts_no_store_of_a_known_status_and_forbids_an_unknown_one() {
    for (status, control, expected) in [
        (200, "max-age=60, must-understand, no-store", 60),
        (404, "no-store, max-age=60, MUST-UNDERSTAND", 60),
        (503, "no-store, must-understand, max-age=60", 60),
        (200, "max-age=60, must-understand", 60),
        (200, "max-age=60, must-understand, no-store, private", 0),
        (200, "max-age=60, must-understand; x, no-store", 0),
        (200, "max-age=60, extension=\"must-understand\", no-store", 0),
        (299, "max-age=60, must-understand, no-store", 0),
        (599, "max-age=60, must-understand, no-store", 0),
        (599, "max-age=60, must-understand", 0),
        (599, "max-age=60, no-store", 0),
        (599, "max-age=60", 60),
    ] {
        let answer = answer(status, &[("cache-control", control)], "body");
        assert_eq!(lifetime(&answer).await, expected, "{status} {control}");
    }
}

// RFC 9111 section 5.2.2.3, row 19
#[actix_web::test]
async fn by_default_no_store_is_not_lifted() {
    let answer = ok(&[("cache-control", "max-age=60, must-understand, no-store")]);
    assert_eq!(lifetime_under(defaults, &answer).await, 0);
}

// RFC 9111 sections 5.2.2.4 and 5.2.2.7
#[actix_web::test]
async fn a_directive_that_names_fields_keeps_back_these_and_no_more() {
    for control in [
        "max-age=60, no-cache=\"x-secret, X-Other\"",
        "max-age=60, private=\"x-secret, X-Other\"",
        "private=\"x-secret\", no-cache=\" x-other ,,\", max-age=60",
        "max-age=60, PRIVATE=\"x-secret\", private=\"x-other\"",
    ] {
        let fields = [("x-secret", "1"), ("x-other", "2"), ("x-other", "3"), ("x-third", "4")];
        let site = site(&[ok(&fields).with("cache-control", control)]).await;
        let first = site.get("/x", &[]).await;
        assert_eq!((first.field("x-secret").as_str(), first.lines("x-other").len()), ("1", 2), "{control}");
        let reused = site.get("/x", &[]).await;
        assert_eq!((site.runs(), reused.text().as_str()), (1, "body"), "{control}");
        assert_eq!(
            [reused.field("x-secret"), reused.field("x-other"), reused.field("x-third")],
            ["-", "-", "4"]
        );
        assert_eq!(reused.field("cache-control"), control);
    }
}

// RFC 9111 sections 5.2.2.4 and 5.2.2.7: many caches take this form for the one without names
#[actix_web::test]
async fn by_default_a_directive_that_names_fields_is_about_the_whole_answer() {
    for control in ["max-age=60, no-cache=\"x-secret\"", "max-age=60, private=\"x-secret\""] {
        assert_eq!(lifetime_under(defaults, &ok(&[("cache-control", control)])).await, 0, "{control}");
    }
}

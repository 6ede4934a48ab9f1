//! Validation: ours of the origin, and the client's of us (RFC 9111 section 4.3, RFC 9110 section 13).

use crate::origin::{Answer, Site, answer, at, ok, site};

/// An answer that is fresh for ten seconds, with these fields too.
fn ten(fields: &[(&str, &str)]) -> Answer {
    answer(200, &[&[("cache-control", "max-age=10")], fields].concat(), "body")
}

/// A site whose stored answer has just gone stale.
async fn stale(answers: &[Answer]) -> Site {
    let site = site(answers).await;
    site.get("/x", &[]).await;
    site.wait(10);
    site
}

// RFC 9111 section 4.3.1, row 29
#[actix_web::test]
async fn a_stale_answer_is_validated_by_what_it_carries() {
    let modified = at(-1000);
    for (fields, tag, since) in [
        (&[("etag", "\"a\"")][..], "\"a\"", "-"),
        (&[("etag", "W/\"a\"")], "W/\"a\"", "-"),
        (&[("last-modified", &*modified)], "-", &*modified),
        (&[("etag", "\"a\""), ("last-modified", &modified)], "\"a\"", &modified),
        (&[("last-modified", "Sunday, 06-Nov-94 08:49:37 GMT")], "-", "Sunday, 06-Nov-94 08:49:37 GMT"),
        (&[], "-", "-"),
    ] {
        let site = stale(&[ten(fields)]).await;
        site.get("/x", &[]).await;
        let asked = site.last();
        let sent = [asked.field("if-none-match"), asked.field("if-modified-since")];
        assert_eq!((site.runs(), sent), (2, [tag.to_owned(), since.to_owned()]), "{fields:?}");
    }
}

// RFC 9111 section 4.3.1, row 29
#[actix_web::test]
async fn a_validation_keeps_the_fields_of_its_request_save_conditions_and_ranges() {
    let site = stale(&[ten(&[("etag", "\"a\""), ("vary", "accept-language")])]).await;
    let fields = [
        ("accept-language", "de, en;q=0.5"),
        ("accept", "text/html"),
        ("x-custom", "1"),
        ("x-custom", "2"),
        ("cookie", "a=1"),
    ];
    let conditions = [
        ("if-none-match", "\"b\""),
        ("if-modified-since", &*at(-5)),
        ("if-match", "\"c\""),
        ("if-unmodified-since", &at(-5)),
        ("range", "bytes=0-1"),
        ("if-range", "\"d\""),
    ];
    site.get("/x", &fields).await;
    site.wait(10);
    site.get("/x", &[&fields[..], &conditions].concat()).await;
    let asked = site.last();
    assert_eq!((site.runs(), asked.field("if-none-match").as_str()), (3, "\"a\""));
    for (name, _) in &conditions[1..] {
        assert_eq!(asked.lines(name), [""; 0], "{name}");
    }
    for (name, value) in [fields[0], fields[1], fields[4]] {
        assert_eq!(asked.field(name), value);
    }
    assert_eq!(asked.lines("x-custom"), ["1", "2"]);
}

// RFC 9111 sections 3.2, 4.3.3 and 4.3.4, row 28, R12
#[actix_web::test]
async fn a_304_replaces_the_fields_that_it_brings_and_leaves_the_others() {
    let old = ten(&[
        ("etag", "\"a\""),
        ("expires", "0"),
        ("x-stays", "1"),
        ("x-stays", "2"),
        ("x-changes", "old"),
        ("x-changes", "older"),
        ("content-length", "4"),
        ("set-cookie", "a=1"),
    ]);
    let new = [
        ("cache-control", "max-age=20, foo"),
        ("etag", "\"a\""),
        ("x-changes", "new"),
        ("x-comes", "3"),
        ("x-comes", "4"),
        ("set-cookie", "b=2"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("content-length", "99"),
    ];
    let site = stale(&[old, answer(304, &new, "")]).await;
    for waits in [0, 10, 9] {
        site.wait(waits);
        let reply = site.get("/x", &[]).await;
        assert_eq!((reply.status, reply.text().as_str(), site.runs()), (200, "body", 2), "{waits}");
        for (name, lines) in [
            ("cache-control", &["max-age=20, foo"][..]),
            ("etag", &["\"a\""]),
            ("expires", &["0"]),
            ("x-stays", &["1", "2"]),
            ("x-changes", &["new"]),
            ("x-comes", &["3", "4"]),
            ("set-cookie", &["b=2"]),
        ] {
            assert_eq!(reply.lines(name), lines, "{name}");
        }
        for name in ["connection", "x-hop", "keep-alive", "transfer-encoding", "upgrade"] {
            assert_eq!(reply.lines(name), [""; 0], "{name}");
        }
        assert!(!reply.lines("content-length").contains(&"99".to_owned()));
    }
    site.wait(1);
    site.get("/x", &[]).await;
    assert_eq!(site.runs(), 3);
}

// RFC 9111 section 4.3.4, row 28
#[actix_web::test]
async fn a_304_that_brings_nothing_makes_an_answer_as_fresh_as_it_was() {
    let site =
        stale(&[ten(&[("etag", "\"a\""), ("age", "4"), ("x-stays", "1")]), answer(304, &[], "")]).await;
    for (waits, age, runs) in [(0, "-", 2), (9, "9", 2), (1, "-", 3), (5, "5", 3)] {
        site.wait(waits);
        let reply = site.get("/x", &[]).await;
        assert_eq!((reply.text().as_str(), reply.field("age").as_str(), site.runs()), ("body", age, runs));
        assert_eq!(reply.field("x-stays"), "1");
    }
}

// RFC 9111 sections 4.2.3 and 4.3.4, rows 10 and 28
#[actix_web::test]
async fn age_and_date_after_a_304_are_those_of_the_304() {
    for (fields, date, age) in
        [(&[("age", "3")][..], at(10), "5"), (&[("date", &*at(6))], at(6), "6"), (&[], at(10), "2")]
    {
        let site = stale(&[ten(&[("etag", "\"a\""), ("date", &at(0))]), answer(304, fields, "")]).await;
        site.get("/x", &[]).await;
        site.wait(2);
        let reply = site.get("/x", &[]).await;
        assert_eq!((reply.lines("date"), reply.field("age").as_str(), site.runs()), (vec![date], age, 2));
    }
}

// RFC 9111 section 4.3.4: a 304 with a validator that no stored answer has updates none, R12
#[actix_web::test]
async fn a_304_about_another_answer_does_not_freshen_the_stored_one() {
    for (stored, other) in [("\"a\"", "\"b\""), ("W/\"a\"", "W/\"b\""), ("\"a\"", "W/\"b\"")] {
        let foreign = [("etag", other), ("cache-control", "max-age=600"), ("x-of", "b")];
        let site = stale(&[ten(&[("etag", stored), ("x-of", "a")]), answer(304, &foreign, "")]).await;
        site.get("/x", &[]).await;
        let again = site.get("/x", &[]).await;
        assert_eq!((site.runs(), again.field("x-of").as_str()), (3, "a"), "{stored} {other}");
    }
}

// RFC 9111 section 4.3.3
#[actix_web::test]
async fn a_validation_that_brings_a_new_answer_stores_it_in_the_place_of_the_old_one() {
    let new = answer(200, &[("cache-control", "max-age=10"), ("etag", "\"b\"")], "new");
    let site = stale(&[ten(&[("etag", "\"a\""), ("x-old", "1")]), new]).await;
    for (waits, runs, tag) in [(0, 2, "\"a\""), (5, 2, "\"a\""), (5, 3, "\"b\"")] {
        site.wait(waits);
        let reply = site.get("/x", &[]).await;
        assert_eq!((reply.text().as_str(), reply.field("x-old").as_str(), site.runs()), ("new", "-", runs));
        assert_eq!(site.last().field("if-none-match"), tag);
    }
}

// RFC 9111 section 4.3.3
#[actix_web::test]
async fn an_error_in_the_place_of_a_validation_is_passed_on_and_the_stored_answer_is_asked_about_again() {
    let answers = [ten(&[("etag", "\"a\"")]), answer(500, &[], "error"), answer(304, &[], "")];
    let site = stale(&answers).await;
    for (run, status, body) in [(2, 500, "error"), (3, 200, "body")] {
        let reply = site.get("/x", &[]).await;
        assert_eq!((reply.status, reply.text().as_str(), site.runs()), (status, body, run));
        assert_eq!(site.last().field("if-none-match"), "\"a\"");
    }
}

/// The status for a client's conditions where this answer is stored and fresh; the body is empty with a 304 alone.
async fn status_for(stored: &Answer, conditions: &[(&str, &str)]) -> u16 {
    let site = site(std::slice::from_ref(stored)).await;
    site.get("/x", &[]).await;
    let reply = site.get("/x", conditions).await;
    assert_eq!((site.runs(), reply.body.is_empty()), (1, reply.status == 304), "{conditions:?}");
    reply.status
}

// RFC 9111 section 4.3.2, RFC 9110 sections 8.8.3.2 and 13.1.2, row 30
#[actix_web::test]
async fn if_none_match_compares_weakly_with_any_member() {
    for (stored, lines, status) in [
        ("\"a\"", &["\"a\""][..], 304),
        ("\"a\"", &["W/\"a\""], 304),
        ("W/\"a\"", &["\"a\""], 304),
        ("W/\"a\"", &["W/\"a\""], 304),
        ("\"a\"", &["\"x\", \"a\""], 304),
        ("\"a\"", &["\"a\",\"x\""], 304),
        ("\"a\"", &["\"x\" ,,\tW/\"y\", W/\"a\" , \"z\""], 304),
        ("\"a\"", &["\"x\"", "\"a\""], 304),
        ("\"a,b\"", &["\"x\", \"a,b\""], 304),
        ("\"\"", &["\"\""], 304),
        ("\"a\"", &["*"], 304),
        ("\"a\"", &[" * "], 304),
        ("\"a\"", &["\"b\""], 200),
        ("\"a\"", &["\"A\""], 200),
        ("\"a,b\"", &["\"a\", \"b\""], 200),
        ("\"a\"", &["\"*\""], 200),
        ("\"a\"", &["a"], 200),
        ("\"a\"", &["'a'"], 200),
        ("\"a\"", &["\"a"], 200),
        ("\"a\"", &["w/\"a\""], 200),
        ("\"a\"", &[""], 200),
        ("a", &["a"], 200),
    ] {
        let conditions: Vec<_> = lines.iter().map(|line| ("if-none-match", *line)).collect();
        assert_eq!(status_for(&ten(&[("etag", stored)]), &conditions).await, status, "{stored} {lines:?}");
    }
}

// RFC 9110 section 15.4.5, row 30
#[actix_web::test]
async fn a_304_repeats_the_fields_that_the_200_would_have_had() {
    let fields = [
        ("cache-control", "max-age=60"),
        ("content-location", "/y"),
        ("date", &*at(-1)),
        ("etag", "W/\"a\""),
        ("expires", "0"),
        ("vary", "foo"),
    ];
    let site = site(&[ok(&fields)]).await;
    site.get("/x", &[]).await;
    for method in ["GET", "HEAD"] {
        let reply = site.send(method, "/x", &[("if-none-match", "\"a\"")]).await;
        assert_eq!((reply.status, reply.text().as_str(), site.runs()), (304, "", 1), "{method}");
        for (name, value) in &fields {
            assert_eq!(reply.field(name), *value, "{name}");
        }
    }
}

// RFC 9111 section 4.3.2, RFC 9110 section 13.2.1: conditions are for answers that would be a 200
#[actix_web::test]
async fn conditions_do_not_hold_for_an_error_or_a_redirection() {
    for status in [301, 404, 500] {
        let fields = [("cache-control", "max-age=60"), ("etag", "\"a\""), ("last-modified", &*at(-1000))];
        let stored = answer(status, &fields, "body");
        let conditions = [("if-none-match", "\"a\""), ("if-modified-since", &at(0))];
        assert_eq!(status_for(&stored, &conditions[..1]).await, status);
        assert_eq!(status_for(&stored, &conditions[1..]).await, status);
    }
}

// RFC 9110 sections 13.1.3 and 13.2.2, row 31
#[actix_web::test]
async fn if_none_match_decides_alone() {
    let stored = ten(&[("etag", "\"a\""), ("last-modified", &at(-1000))]);
    for (tag, since, status) in [
        ("\"a\"", at(-2000), 304),
        ("\"a\"", at(-1000), 304),
        ("\"b\"", at(-1000), 200),
        ("\"b\"", at(0), 200),
        ("", at(-1000), 200),
        ("b", at(-1000), 200),
    ] {
        let conditions = [("if-modified-since", &*since), ("if-none-match", tag)];
        assert_eq!(status_for(&stored, &conditions).await, status, "{conditions:?}");
    }
}

// RFC 9111 section 4.3.2, RFC 9110 section 13.1.3, row 32
#[actix_web::test]
async fn if_modified_since_is_answered_by_the_stored_last_modified() {
    // Thu, 01 Jan 2026 00:00:00 GMT less 1000 s.
    let stored = ten(&[("last-modified", "Wed, 31 Dec 2025 23:43:20 GMT")]);
    for (since, status) in [
        ("Wed, 31 Dec 2025 23:43:20 GMT", 304),
        ("Wed, 31 Dec 2025 23:43:21 GMT", 304),
        ("Thu, 01 Jan 2026 00:00:00 GMT", 304),
        ("Wednesday, 31-Dec-25 23:43:20 GMT", 304),
        ("Wed Dec 31 23:43:20 2025", 304),
        ("wed, 31 dec 2025 23:43:20 gmt", 304),
        ("Wed, 31 Dec 2025 23:43:19 GMT", 200),
        ("Wednesday, 31-Dec-25 23:43:19 GMT", 200),
        ("Wed, 31 Dec 2025 23:43:20 UTC", 200),
        ("Wed, 31 Dec 2025 23:43:20 GMT, Wed, 31 Dec 2025 23:43:20 GMT", 200),
        ("1767224600", 200),
        ("", 200),
    ] {
        assert_eq!(status_for(&stored, &[("if-modified-since", since)]).await, status, "{since}");
    }
}

// RFC 9110 section 13.1.3: a field with more than one member is ignored
#[actix_web::test]
async fn if_modified_since_on_two_lines_is_ignored() {
    let stored = ten(&[("last-modified", &at(-1000))]);
    let (old, new) = (at(-2000), at(-1000));
    for lines in [[&new, &new], [&new, &old], [&old, &new]] {
        let conditions = lines.map(|line| ("if-modified-since", line.as_str()));
        assert_eq!(status_for(&stored, &conditions).await, 200, "{lines:?}");
    }
}

// RFC 9111 sections 4.3.1 and 4.3.2, rows 30 and 32
#[actix_web::test]
async fn a_client_s_conditions_are_answered_after_the_validation_of_a_stale_answer() {
    let fields = [("etag", "\"a\""), ("last-modified", &*at(-1000))];
    for (condition, status, body) in [
        (("if-none-match", "\"a\""), 304, ""),
        (("if-none-match", "\"b\""), 200, "body"),
        (("if-modified-since", &*at(-1000)), 304, ""),
        (("if-modified-since", &at(-500)), 304, ""),
        (("if-modified-since", &at(-1001)), 200, "body"),
    ] {
        let site = stale(&[ten(&fields), answer(304, &[], "")]).await;
        let reply = site.get("/x", &[condition]).await;
        assert_eq!((reply.status, reply.text().as_str(), site.runs()), (status, body, 2), "{condition:?}");
        // The origin was asked about what is stored, and its answer serves the next one.
        assert_eq!(site.last().field("if-none-match"), "\"a\"");
        assert_eq!((site.get("/x", &[]).await.text().as_str(), site.runs()), ("body", 2));
    }
}

// RFC 9111 section 4.3.2: the first to ask may ask conditionally, L14
#[actix_web::test]
async fn a_condition_on_an_empty_store_brings_a_whole_answer_for_the_others() {
    let fields = [("etag", "\"a\""), ("last-modified", &*at(-1000))];
    for condition in [("if-none-match", "\"a\""), ("if-modified-since", &*at(-1000))] {
        let site = site(&[ten(&fields)]).await;
        assert_eq!(site.get("/x", &[condition]).await.status, 304);
        assert_eq!((site.last().field(condition.0).as_str(), site.runs()), ("-", 1));
        assert_eq!((site.get("/x", &[]).await.text().as_str(), site.runs()), ("body", 1));
    }
}

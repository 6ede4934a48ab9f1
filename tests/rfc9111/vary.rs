//! Which stored answer a request selects (RFC 9111 section 4.1, RFC 9110 section 12.5.5).

use crate::origin::{answer, defaults, lifetime, lifetime_under, ok, rfc, site, site_under};

type Fields = &'static [(&'static str, &'static str)];

// RFC 9111 section 4.1, row 23, L7; the defaults too
#[actix_web::test]
async fn every_field_that_vary_names_has_to_match() {
    let cases: [(&str, Fields, Fields, bool); 27] = [
        ("foo", &[("foo", "1")], &[("foo", "1")], true),
        ("foo", &[("foo", "1")], &[("foo", "2")], false),
        ("foo", &[("foo", "1")], &[("foo", "12")], false),
        ("foo", &[("foo", "1")], &[], false),
        ("foo", &[], &[("foo", "1")], false),
        ("foo", &[], &[], true),
        ("foo", &[], &[("foo", "")], false),
        ("foo", &[("foo", "")], &[], false),
        ("foo", &[("foo", "")], &[("foo", "")], true),
        ("foo", &[("foo", "1")], &[("foo", "1"), ("foo", "2")], false),
        ("foo", &[("foo", "1"), ("foo", "2")], &[("foo", "2"), ("foo", "1")], false),
        ("FOO", &[("foo", "1")], &[("foo", "1")], true),
        ("Foo", &[("foo", "1")], &[("foo", "2")], false),
        ("foo", &[("foo", "a")], &[("foo", "A")], false),
        ("foo", &[("foo", "1"), ("bar", "1")], &[("foo", "1"), ("bar", "2")], true),
        ("foo, bar", &[("foo", "1"), ("bar", "1")], &[("foo", "1"), ("bar", "1")], true),
        ("foo, bar", &[("foo", "1"), ("bar", "1")], &[("bar", "1"), ("foo", "1")], true),
        ("foo, bar", &[("foo", "1"), ("bar", "1")], &[("foo", "1"), ("bar", "2")], false),
        ("foo, bar", &[("foo", "1"), ("bar", "1")], &[("foo", "2"), ("bar", "1")], false),
        ("foo, bar", &[("foo", "1"), ("bar", "1")], &[("foo", "1")], false),
        ("foo, bar", &[("foo", "1")], &[("bar", "1")], false),
        ("foo, bar", &[("foo", "1")], &[("foo", "1")], true),
        ("foo, bar", &[], &[], true),
        (" foo ,\tbar ,,", &[("foo", "1"), ("bar", "1")], &[("foo", "1"), ("bar", "2")], false),
        ("foo, bar, baz", &[("baz", "1")], &[("baz", "2")], false),
        ("foo, foo", &[("foo", "1")], &[("foo", "1")], true),
        ("", &[("foo", "1")], &[("foo", "2")], true),
    ];
    for (vary, first, second, reused) in cases {
        for builder in [rfc(), defaults()] {
            let site = site_under(builder, &[ok(&[("cache-control", "max-age=60"), ("vary", vary)])]).await;
            site.get("/x", first).await;
            site.get("/x", second).await;
            assert_eq!(site.runs(), if reused { 1 } else { 2 }, "{vary}: {first:?} {second:?}");
        }
    }
}

// RFC 9111 section 4.1, row 23
#[actix_web::test]
async fn names_on_several_lines_of_vary_all_count() {
    let lines = [("cache-control", "max-age=60"), ("vary", "foo"), ("vary", "bar")];
    let site = site(&[ok(&lines)]).await;
    for (run, fields) in [
        (1, [("foo", "1"), ("bar", "1")]),
        (2, [("foo", "2"), ("bar", "1")]),
        (3, [("foo", "1"), ("bar", "2")]),
    ] {
        for _ in 0..2 {
            let reply = site.get("/x", &fields).await;
            assert_eq!(
                (site.runs(), reply.lines("vary")),
                (run, vec!["foo".into(), "bar".into()]),
                "{fields:?}"
            );
        }
    }
}

// RFC 9111 section 4.1, row 23, L6; the defaults too
#[actix_web::test]
async fn a_star_anywhere_in_vary_matches_nothing() {
    for lines in [
        &["*"][..],
        &[" * "],
        &["*, *"],
        &["*, foo"],
        &["foo, *"],
        &["foo,*,bar"],
        &["foo", "*"],
        &["*", "foo"],
        &[",*"],
    ] {
        let fresh = ok(&[("cache-control", "public, max-age=60"), ("etag", "\"a\"")]);
        let answer = lines.iter().fold(fresh, |answer, line| answer.with("vary", line));
        assert_eq!(lifetime(&answer).await, 0, "{lines:?}");
        assert_eq!(lifetime_under(defaults, &answer).await, 0, "{lines:?}");
    }
}

// RFC 9111 section 4.1, row 24
#[actix_web::test]
async fn the_variants_of_a_url_are_kept_side_by_side() {
    let fields = [("cache-control", "max-age=60"), ("vary", "foo")];
    let bodies = ["none", "one", "two", "three"];
    let site = site(&bodies.map(|body| answer(200, &fields, body))).await;
    let asking: [Fields; 4] = [&[], &[("foo", "1")], &[("foo", "2")], &[("foo", "3")]];
    for _ in 0..3 {
        for (fields, body) in asking.iter().zip(bodies) {
            assert_eq!(site.get("/x", fields).await.text(), body);
        }
        site.wait(10);
    }
    assert_eq!(site.runs(), 4);
}

// RFC 9111 section 4.1, row 24
#[actix_web::test]
async fn a_variant_is_validated_by_its_own_tag_and_the_others_stay_fresh() {
    let tagged = |tag: &str, seconds: u64| {
        let control = format!("max-age={seconds}");
        answer(200, &[("cache-control", &control), ("vary", "foo"), ("etag", tag)], tag)
    };
    let site = site(&[tagged("\"1\"", 10), tagged("\"2\"", 60), answer(304, &[], "")]).await;
    let (one, two) = ([("foo", "1")], [("foo", "2")]);
    site.get("/x", &one).await;
    site.get("/x", &two).await;
    site.wait(10);
    assert_eq!((site.get("/x", &two).await.text().as_str(), site.runs()), ("\"2\"", 2));
    assert_eq!(site.get("/x", &one).await.text(), "\"1\"");
    let asked = site.last();
    assert_eq!((asked.field("if-none-match").as_str(), asked.field("foo").as_str()), ("\"1\"", "1"));
    assert_eq!((site.get("/x", &one).await.text().as_str(), site.runs()), ("\"1\"", 3));
}

// RFC 9111 section 4.1: what an answer varies on is its own to say, and may change
#[actix_web::test]
async fn answers_that_vary_on_different_fields_are_never_mixed_up() {
    let on = |vary: &str, body: &str| answer(200, &[("cache-control", "max-age=60"), ("vary", vary)], body);
    let site = site(&[on("foo", "foo 1"), on("bar", "bar 2"), on("bar", "other")]).await;
    assert_eq!(site.get("/x", &[("foo", "1"), ("bar", "1")]).await.text(), "foo 1");
    // What the first one said of foo does not hold for the second one, which is selected by bar.
    assert_eq!(site.get("/x", &[("foo", "2"), ("bar", "2")]).await.text(), "bar 2");
    assert_eq!(site.get("/x", &[("foo", "2"), ("bar", "2")]).await.text(), "bar 2");
    for fields in [[("foo", "2"), ("bar", "3")], [("foo", "3"), ("bar", "4")]] {
        let text = site.get("/x", &fields).await.text();
        assert_eq!(text, "other", "{fields:?}");
    }
}

// RFC 9111 section 4.1, L8
#[actix_web::test]
async fn an_answer_that_varies_on_cookies_is_for_one_of_them() {
    let site = site(&[ok(&[("cache-control", "max-age=60"), ("vary", "Cookie")])]).await;
    for (cookie, runs) in [("id=a", 1), ("id=a", 1), ("id=v", 2), ("x=1; id=a", 3), ("id=a", 3)] {
        site.get("/x", &[("cookie", cookie)]).await;
        assert_eq!(site.runs(), runs, "{cookie}");
    }
    site.get("/x", &[]).await;
    assert_eq!(site.runs(), 4);
}

// RFC 9111 section 4.1, L8
#[actix_web::test]
async fn by_default_an_answer_that_varies_on_credentials_is_not_stored() {
    for name in ["cookie", "Authorization", "foo, COOKIE"] {
        let answer = ok(&[("cache-control", "public, max-age=60"), ("vary", name)]);
        assert_eq!(lifetime_under(defaults, &answer).await, 0, "{name}");
    }
}

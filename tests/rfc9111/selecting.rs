//! Selecting fields that say the same in other words (RFC 9111 section 4.1, RFC 9110 section 12.5.4).

use crate::origin::{Answer, answer, defaults, ok, rfc, site, site_under};

fn by(field: &str) -> Answer {
    ok(&[("cache-control", "max-age=60"), ("vary", field)])
}

/// Whether an answer that was stored for `first` serves `second`: lists of lines of one field.
async fn serves(field: &str, first: &[&str], second: &[&str]) -> bool {
    let site = site(&[by(field)]).await;
    for lines in [first, second] {
        let fields: Vec<_> = lines.iter().map(|line| (field, *line)).collect();
        site.get("/x", &fields).await;
    }
    site.runs() == 1
}

// RFC 9111 section 4.1, row 25
#[actix_web::test]
async fn lines_are_joined_and_whitespace_does_not_count() {
    for (first, second) in [
        (&["1, 2"][..], &["1", "2"][..]),
        (&["1,2"], &[" 1, 2 "]),
        (&["1 ,\t2"], &["1,2"]),
        (&["a;q=1, \"b, c\""], &["a;q=1,\"b, c\""]),
    ] {
        assert!(serves("foo", first, second).await, "{first:?} {second:?}");
    }
    for (first, second) in [
        (&["1, 2"][..], &["2, 1"][..]),
        (&["1 2"], &["12"]),
        (&["A"], &["a"]),
        (&["\"b, c\""], &["\"b,c\""]),
        (&["1"], &["1, 2"]),
        (&[""], &[]),
    ] {
        assert!(!serves("foo", first, second).await, "{first:?} {second:?}");
    }
}

// RFC 9110 section 12.5.4, row 25
#[actix_web::test]
async fn languages_are_compared_without_regard_to_case_order_and_whitespace() {
    for (first, second) in
        [("en, de", "de, en"), ("en, de", "eN, De"), ("en, de", " en ,   de"), ("de;q=0.50", "de;q=0.5")]
    {
        assert!(serves("accept-language", &[first], &[second]).await, "{first} {second}");
    }
    for (first, second) in [("en, de", "en"), ("en, de;q=0.5", "en, de"), ("de", "de-AT"), ("*", "de")] {
        assert!(!serves("accept-language", &[first], &[second]).await, "{first} {second}");
    }
}

// RFC 9110 sections 8.5 and 12.5.4, row 25
#[actix_web::test]
async fn an_answer_in_the_language_that_is_wanted_most_serves_whoever_wants_it() {
    let german = by("accept-language, x-tenant").with("content-language", "de");
    let stored_for = [("accept-language", "en, de"), ("x-tenant", "1")];
    for (wanted, tenant, serves) in [
        ("fr;q=0.5, de;q=1.0", "1", true),
        ("DE", "1", true),
        ("de, *;q=0.1", "1", true),
        ("de;q=0.5, fr", "1", false),
        ("de, fr", "1", false),
        ("de-AT", "1", false),
        ("*", "1", false),
        ("de", "2", false),
    ] {
        let site = site(std::slice::from_ref(&german)).await;
        site.get("/x", &stored_for).await;
        site.get("/x", &[("accept-language", wanted), ("x-tenant", tenant)]).await;
        assert_eq!(site.runs() == 1, serves, "{wanted} {tenant}");
    }
}

// RFC 9110 section 12.5.4: an answer that was made for just these words comes first
#[actix_web::test]
async fn a_variant_of_its_own_goes_before_one_in_the_language() {
    let in_language = |body: &str| {
        answer(
            200,
            &[("cache-control", "max-age=60"), ("vary", "accept-language"), ("content-language", "de")],
            body,
        )
    };
    let site = site(&[in_language("one"), in_language("two")]).await;
    assert_eq!(site.get("/x", &[("accept-language", "de, fr")]).await.text(), "one");
    assert_eq!(site.get("/x", &[("accept-language", "de, en")]).await.text(), "two");
    assert_eq!(site.get("/x", &[("accept-language", "fr, de")]).await.text(), "one");
    // The last one speaks for the language.
    assert_eq!(site.get("/x", &[("accept-language", "de")]).await.text(), "two");
    assert_eq!(site.runs(), 2);
}

// RFC 9111 section 4.4: what is found by its language is dropped with its URL
#[actix_web::test]
async fn an_invalidation_drops_the_way_by_the_language_too() {
    let german = by("accept-language").with("content-language", "de");
    let site = site(&[german.clone(), answer(204, &[], ""), german]).await;
    site.get("/x", &[("accept-language", "en, de")]).await;
    site.send("DELETE", "/x", &[]).await;
    site.get("/x", &[("accept-language", "de")]).await;
    assert_eq!(site.runs(), 3);
}

// RFC 9111 section 4.1; the defaults: byte by byte, but for lines
#[actix_web::test]
async fn without_the_setting_values_are_compared_as_they_are() {
    for (first, second) in [("1,2", "1, 2"), ("en, de", "de, en")] {
        let site = site_under(defaults(), &[by("foo")]).await;
        site.get("/x", &[("foo", first)]).await;
        site.get("/x", &[("foo", second)]).await;
        assert_eq!(site.runs(), 2, "{first} {second}");
    }
}

// RFC 9111 section 4.1: fields that a scope keys anyway
#[actix_web::test]
async fn fields_that_are_in_every_key_are_compared_in_the_same_way() {
    let site = site_under(rfc().vary(["accept-language"]), &[ok(&[("cache-control", "max-age=60")])]).await;
    for (language, runs) in [("en, de", 1), ("de,en", 1), ("de", 2)] {
        site.get("/x", &[("accept-language", language)]).await;
        assert_eq!(site.runs(), runs, "{language}");
    }
}

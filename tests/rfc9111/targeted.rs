//! Targeted cache control (RFC 9213): `CDN-Cache-Control`, and fields of one's own choice.

use crate::origin::{Answer, answer, at, defaults, lifetime, lifetime_under, ok, rfc, site, site_under};

/// A 200 with this targeted field and this `Cache-Control`.
fn both(targeted: &str, control: &str) -> Answer {
    ok(&[("cdn-cache-control", targeted), ("cache-control", control)])
}

// RFC 9213 section 2.2, row 38; the defaults too
#[actix_web::test]
async fn a_targeted_field_gives_the_lifetime_in_the_place_of_cache_control_and_expires() {
    for (targeted, control, expected) in [
        ("max-age=60", "max-age=5", 60),
        ("max-age=60", "max-age=600", 60),
        ("max-age=60", "s-maxage=5", 60),
        ("max-age=60", "s-maxage=600, max-age=600", 60),
        ("max-age=60", "public", 60),
        ("max-age=60", "", 60),
        ("s-maxage=60", "max-age=600", 60),
        ("s-maxage=60, max-age=600", "max-age=600", 60),
        ("max-age=60, foo, bar=\"baz\"", "max-age=600", 60),
        ("public, must-revalidate, max-age=60", "max-age=600", 60),
        ("max-age=0", "max-age=600", 0),
        ("max-age=00060", "max-age=600", 60),
        ("max-age=999999999999999", "max-age=5", 365 * 24 * 3600),
    ] {
        let answer = both(targeted, control);
        let expires = ok(&[("cdn-cache-control", targeted), ("expires", &at(600))]);
        for answer in [&answer, &expires] {
            assert_eq!(lifetime(answer).await, expected, "{targeted} | {control}");
            let by_default = lifetime_under(defaults, answer).await;
            assert_eq!(by_default, expected.min(24 * 3600), "{targeted} | {control}");
        }
    }
}

// RFC 9213 section 2.2, row 38
#[actix_web::test]
async fn a_targeted_field_decides_alone() {
    for control in ["no-store", "private", "no-cache", "max-age=0", "private=\"x-field\"", "must-understand"]
    {
        let fields = [("cdn-cache-control", "max-age=60"), ("cache-control", control), ("x-field", "1")];
        let answer = answer(599, &fields, "body");
        assert_eq!(lifetime(&answer).await, 60, "{control}");
        let site = site(&[answer]).await;
        site.get("/x", &[]).await;
        assert_eq!(site.get("/x", &[]).await.field("x-field"), "1", "{control}");
    }
    let expired = ok(&[("cdn-cache-control", "max-age=60"), ("expires", "0")]);
    assert_eq!(lifetime(&expired).await, 60);
}

// RFC 9213 section 2.2, row 38: the lifetime of the field that is not read is no lifetime
#[actix_web::test]
async fn a_targeted_field_without_a_lifetime_leaves_the_answer_without_one() {
    for targeted in ["foo", "public", "must-revalidate", "no-store=?0", "stale-if-error=5"] {
        assert_eq!(lifetime(&both(targeted, "s-maxage=60, max-age=60")).await, 0, "{targeted}");
        assert_eq!(
            lifetime(&ok(&[("cdn-cache-control", targeted), ("expires", &at(60))])).await,
            0,
            "{targeted}"
        );
    }
    // One may be guessed, as always.
    let modified =
        [("cdn-cache-control", "foo"), ("cache-control", "max-age=5"), ("last-modified", &*at(-1000))];
    assert_eq!(lifetime(&ok(&modified)).await, 100);
}

// RFC 9213 section 2.2: whoever forbids is heard
#[actix_web::test]
async fn by_default_cache_control_still_keeps_an_answer_out() {
    for control in ["no-store", "private", "no-cache", "max-age=0", "s-maxage=0, max-age=60"] {
        assert_eq!(lifetime_under(defaults, &both("max-age=60", control)).await, 0, "{control}");
    }
}

// RFC 9213 section 3.1, row 38; the defaults too
#[actix_web::test]
async fn a_targeted_no_store_or_private_keeps_an_answer_out() {
    for targeted in
        ["no-store", "private", "max-age=60, no-store", "no-store, max-age=60", "max-age=60, private"]
    {
        let answer = both(targeted, "public, max-age=60").with("etag", "\"a\"");
        for builder in [rfc(), defaults()] {
            let site = site_under(builder, std::slice::from_ref(&answer)).await;
            site.get("/x", &[]).await;
            site.get("/x", &[]).await;
            assert_eq!((site.runs(), site.last().field("if-none-match")), (2, "-".into()), "{targeted}");
        }
    }
}

// RFC 9213 section 3.1, row 38
#[actix_web::test]
async fn a_targeted_no_cache_is_validated_on_every_use() {
    let first = both("no-cache, max-age=60", "max-age=600").with("etag", "\"a\"");
    let site = site(&[first, answer(304, &[], "")]).await;
    site.get("/x", &[]).await;
    for run in 2..4 {
        assert_eq!(site.get("/x", &[("cache-control", "max-stale")]).await.text(), "body");
        assert_eq!((site.runs(), site.last().field("if-none-match")), (run, "\"a\"".into()));
    }
}

// RFC 9213 section 2.2, RFC 9111 section 4.2.4
#[actix_web::test]
async fn what_a_targeted_field_forbids_is_not_served_stale() {
    for (targeted, control, runs) in [
        ("max-age=60, must-revalidate", "max-age=60", 2),
        ("s-maxage=60", "max-age=60", 2),
        ("max-age=60", "max-age=60, must-revalidate", 1),
        ("max-age=60", "s-maxage=60", 1),
    ] {
        let site = site(&[both(targeted, control).with("etag", "\"a\"")]).await;
        site.get("/x", &[]).await;
        site.wait(60);
        site.get("/x", &[("cache-control", "max-stale")]).await;
        assert_eq!(site.runs(), runs, "{targeted} | {control}");
    }
}

// RFC 9213 section 2.2, RFC 9111 section 4.2.3
#[actix_web::test]
async fn age_counts_against_a_targeted_lifetime() {
    let answer = both("max-age=60", "max-age=5").with("age", "20");
    assert_eq!(lifetime(&answer).await, 40);
    assert_eq!(lifetime_under(defaults, &answer).await, 40);
}

/// Not a dictionary, or a directive with a value of another type.
const UNREADABLE: [&str; 22] = [
    "",
    "max-age",
    "max-age=",
    "max-age=60;",
    "max-age=60,",
    "max-age=60, ,foo",
    "max-age=60 foo",
    "max-age =60",
    "max-age= 60",
    "Max-Age=60",
    "max-age=60, NO-STORE",
    "max-age=\"60\"",
    "max-age='60'",
    "max-age=60.0",
    "max-age=-60",
    "max-age=(60)",
    "max-age=:NjA=:",
    "max-age=sixty",
    "max-age=?1",
    "max-age=9999999999999999",
    "max-age=60, no-store=1",
    "max-age=60, &&&&&",
];

// RFC 9213 section 2.1, RFC 8941 section 3.2, row 39; the defaults too
#[actix_web::test]
async fn a_targeted_field_that_cannot_be_read_is_as_if_absent() {
    for bad in UNREADABLE {
        for profile in [rfc, defaults] {
            assert_eq!(lifetime_under(profile, &both(bad, "max-age=5")).await, 5, "{bad}");
            assert_eq!(lifetime_under(profile, &both(bad, "no-store")).await, 0, "{bad}");
            let expires = ok(&[("cdn-cache-control", bad), ("expires", &at(5))]);
            assert_eq!(lifetime_under(profile, &expires).await, 5, "{bad}");
        }
    }
}

// RFC 8941 section 3.2, row 39; the defaults too
#[actix_web::test]
async fn a_targeted_field_is_read_as_a_dictionary() {
    for (lines, expected) in [
        (&["max-age=60;foo=bar"][..], 60),
        (&["max-age=60;a;b=1"], 60),
        (&[" max-age=60 ,\tfoo "], 60),
        (&["foo", "max-age=60"], 60),
        // Of a member given twice the last counts.
        (&["max-age=5, max-age=60"], 60),
        (&["max-age=5", "max-age=60"], 60),
        (&["max-age=60, no-store=?0"], 60),
        (&["max-age=60, private=?0, no-cache=?0"], 60),
        (&["max-age=60, no-store=?1"], 0),
        (&["max-age=60", "no-store"], 0),
        (&["foo=\"no-store, private\", max-age=60"], 60),
    ] {
        let fresh = ok(&[("cache-control", "max-age=600")]);
        let answer = lines.iter().fold(fresh, |answer, line| answer.with("cdn-cache-control", line));
        assert_eq!(lifetime(&answer).await, expected, "{lines:?}");
        assert_eq!(lifetime_under(defaults, &answer).await, expected, "{lines:?}");
    }
}

// RFC 9213 section 2.1, RFC 9111 section 5.2.3, row 39
#[actix_web::test]
async fn an_unknown_member_of_a_targeted_field_means_nothing_whatever_its_type() {
    for member in
        ["foo", "foo=1", "foo=1.5", "foo=\"a\"", "foo=bar", "foo=:YQ==:", "foo=?0", "foo=(1 2)", "foo=();a"]
    {
        assert_eq!(lifetime(&both(&format!("max-age=60, {member}"), "max-age=600")).await, 60, "{member}");
        assert_eq!(lifetime(&both(&format!("no-store, {member}"), "max-age=600")).await, 0, "{member}");
    }
}

// RFC 9213 section 2.2
#[actix_web::test]
async fn of_several_targeted_fields_the_first_that_can_be_read_counts() {
    let profile = || rfc().targeted_fields(["shop-cache-control", "cdn-cache-control"]);
    for (ours, cdn, expected) in [
        ("max-age=60", "max-age=5", 60),
        ("no-store", "max-age=5", 0),
        ("max-age=60", "no-store", 60),
        ("max-age=", "max-age=5", 5),
        ("", "max-age=5", 5),
        ("", "", 600),
        ("Max-Age=60", "max-age=\"5\"", 600),
    ] {
        let fields =
            [("cdn-cache-control", cdn), ("shop-cache-control", ours), ("cache-control", "max-age=600")];
        assert_eq!(lifetime_under(profile, &ok(&fields)).await, expected, "{ours} | {cdn}");
    }
    let none = || rfc().targeted_fields([""; 0]);
    assert_eq!(lifetime_under(none, &both("max-age=60", "max-age=5")).await, 5);
    let other = ok(&[("shop-cache-control", "max-age=60"), ("cache-control", "max-age=5")]);
    assert_eq!(lifetime(&other).await, 5);
}

// RFC 9213 section 2.2, RFC 9111 section 3.5, row 34
#[actix_web::test]
async fn what_makes_an_answer_everybody_s_is_said_by_the_targeted_field() {
    for (targeted, control, runs) in [
        ("public, max-age=60", "max-age=60", 1),
        ("s-maxage=60", "max-age=60", 1),
        ("max-age=60", "public, max-age=60", 2),
    ] {
        let site = site(&[both(targeted, control)]).await;
        for who in ["Basic YTpi", "Basic Yzpk"] {
            site.get("/x", &[("authorization", who)]).await;
        }
        assert_eq!(site.runs(), runs, "{targeted} | {control}");
    }
}

//! Freshness (RFC 9111 section 4.2).

use std::time::Duration;

use crate::origin::{answer, at, defaults, lifetime, lifetime_under, ok, rfc};

const DAY: u64 = 24 * 3600;
const YEAR: u64 = 365 * DAY;

/// The twelve statuses of RFC 9110 section 15.1 that may be reused by a guess, save 206: that one is not whole.
const GUESSED: [u16; 11] = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501];

// RFC 9111 section 4.2.2, row 1
#[actix_web::test]
async fn what_gives_no_lifetime_is_not_reused() {
    for fields in [
        &[][..],
        &[("cache-control", "public")],
        &[("cache-control", "must-revalidate, foo")],
        &[("cache-control", "")],
        &[("etag", "\"a\"")],
        &[("date", &at(-10))],
        &[("last-modified", "yesterday")],
    ] {
        assert_eq!(lifetime(&ok(fields)).await, 0, "{fields:?}");
    }
}

// RFC 9111 section 4.2.1, row 1
#[actix_web::test]
async fn by_default_a_scope_gives_the_lifetime_that_an_answer_does_not() {
    assert_eq!(lifetime_under(defaults, &ok(&[])).await, 60);
}

// RFC 9111 sections 4.2 and 5.2.2.1, row 2; the defaults too
#[actix_web::test]
async fn an_answer_is_reused_until_its_age_is_its_lifetime() {
    for seconds in [0, 1, 2, 60, 3600, DAY] {
        let answer = ok(&[("cache-control", &format!("max-age={seconds}"))]);
        assert_eq!(lifetime(&answer).await, seconds);
        assert_eq!(lifetime_under(defaults, &answer).await, seconds);
    }
}

// RFC 9111 sections 4.2.1 and 5.2.2.10, row 3; the defaults too
#[actix_web::test]
async fn s_maxage_wins_over_max_age_and_expires() {
    let (soon, later) = (at(5), at(5000));
    for (lines, expected) in [
        (&[("cache-control", "s-maxage=600, max-age=60")][..], 600),
        (&[("cache-control", "max-age=60, s-maxage=600")], 600),
        (&[("cache-control", "max-age=600, s-maxage=60")], 60),
        (&[("cache-control", "max-age=60"), ("cache-control", "s-maxage=600")], 600),
        (&[("cache-control", "s-maxage=60"), ("cache-control", "max-age=600")], 60),
        (&[("cache-control", "max-age=60, s-maxage=0")], 0),
        (&[("cache-control", "s-maxage=60, max-age=0")], 60),
        (&[("cache-control", "s-maxage=60"), ("expires", &later)], 60),
        (&[("expires", &soon), ("cache-control", "s-maxage=60")], 60),
        (&[("cache-control", "S-MaxAge=60"), ("expires", "0")], 60),
    ] {
        assert_eq!(lifetime(&ok(lines)).await, expected, "{lines:?}");
        assert_eq!(lifetime_under(defaults, &ok(lines)).await, expected, "{lines:?}");
    }
}

// RFC 9111 section 5.3, row 4; the defaults too
#[actix_web::test]
async fn max_age_wins_over_expires_whatever_that_says() {
    for expires in [&at(-100), &at(0), &at(5), &at(5000), "0", "-1", "soon", ""] {
        let lines = [("expires", expires), ("cache-control", "max-age=60")];
        assert_eq!(lifetime(&ok(&lines)).await, 60, "{expires}");
        assert_eq!(lifetime_under(defaults, &ok(&lines)).await, 60, "{expires}");
        let stale = [("cache-control", "max-age=0"), ("expires", expires)];
        assert_eq!(lifetime(&ok(&stale)).await, 0, "{expires}");
    }
}

// RFC 9111 section 1.2.2, row 6
#[actix_web::test]
async fn great_lifetimes_are_great_and_not_negative() {
    const MOST: u64 = 1 << 31;
    let unlimited = || rfc().max_ttl(Duration::from_secs(u64::from(u32::MAX)));
    for (seconds, expected) in [
        ("2147483647", MOST - 1),
        ("2147483648", MOST),
        ("2147483649", MOST),
        ("4294967296", MOST),
        ("4294967297", MOST),
        ("9223372036854775807", MOST),
        ("18446744073709551617", MOST),
        ("99999999999999999999999999999", MOST),
    ] {
        for name in ["max-age", "s-maxage"] {
            let answer = ok(&[("cache-control", &format!("{name}={seconds}"))]);
            assert_eq!(lifetime_under(unlimited, &answer).await, expected, "{name}={seconds}");
            assert_eq!(lifetime(&answer).await, YEAR, "{name}={seconds}");
            assert_eq!(lifetime_under(defaults, &answer).await, DAY, "{name}={seconds}");
        }
    }
}

// RFC 9111 sections 4.2.1 and 5.3, row 11; the defaults too
#[actix_web::test]
async fn the_lifetime_of_expires_counts_from_date_and_without_one_from_receipt() {
    let (before, start, soon, later) = (at(-30), at(0), at(30), at(90));
    for (lines, expected) in [
        (&[("expires", &*later)][..], 90),
        (&[("date", &start), ("expires", &later)], 90),
        // 60 s long, and 30 s old already.
        (&[("date", &before), ("expires", &soon)], 30),
        // The origin's clock is ahead: 60 s long, and new.
        (&[("date", &soon), ("expires", &later)], 60),
        (&[("date", "just now"), ("expires", &later)], 90),
        (&[("date", ""), ("expires", &later)], 90),
        (&[("expires", &later), ("age", "10")], 80),
        (&[("date", &later), ("expires", &later)], 0),
        (&[("date", &later), ("expires", &soon)], 0),
        (&[("expires", &start)], 0),
        (&[("expires", &before)], 0),
        (&[("expires", "0")], 0),
        (&[("expires", "")], 0),
        (&[("expires", &later), ("expires", &later)], 0),
        (&[("expires", &later), ("expires", "0")], 0),
    ] {
        assert_eq!(lifetime(&ok(lines)).await, expected, "{lines:?}");
        assert_eq!(lifetime_under(defaults, &ok(lines)).await, expected, "{lines:?}");
    }
}

// RFC 9111 section 4.2.2, rows 21 and 22
#[actix_web::test]
async fn a_lifetime_is_guessed_for_the_statuses_that_allow_it() {
    for status in GUESSED {
        let body = if status == 204 { "" } else { "body" };
        let answer = answer(status, &[("last-modified", &at(-1000))], body);
        assert_eq!(lifetime(&answer).await, 100, "{status}");
    }
}

// RFC 9111 section 4.2.2, row 21
#[actix_web::test]
async fn no_lifetime_is_guessed_for_other_statuses() {
    for status in [201, 202, 299, 302, 303, 307, 400, 403, 418, 500, 502, 503, 504, 599] {
        let answer = answer(status, &[("last-modified", &at(-1000))], "body");
        assert_eq!(lifetime(&answer).await, 0, "{status}");
    }
}

// RFC 9111 sections 4.2.2 and 5.2.2.9, row 22
#[actix_web::test]
async fn public_allows_a_guess_for_any_status() {
    for status in GUESSED.into_iter().chain([201, 302, 403, 500, 599]) {
        let fields = [("last-modified", &*at(-1000)), ("cache-control", "public")];
        let body = if status == 204 { "" } else { "body" };
        assert_eq!(lifetime(&answer(status, &fields, body)).await, 100, "{status}");
    }
}

// RFC 9111 section 4.2.2, row 22
#[actix_web::test]
async fn a_guess_is_a_tenth_of_the_time_since_the_last_change_and_a_day_at_most() {
    let changed = |seconds: u64| ok(&[("last-modified", &at(-i64::try_from(seconds).unwrap()))]);
    for (ago, expected) in [(9, 0), (10, 1), (600, 60), (10 * DAY - 10, DAY - 1), (10 * DAY, DAY)] {
        assert_eq!(lifetime(&changed(ago)).await, expected, "{ago}");
    }
    for ago in [10 * DAY + 10, 100 * DAY, 30 * YEAR] {
        assert_eq!(lifetime(&changed(ago)).await, DAY, "{ago}");
    }
    // Measured when it was sent, and 10 s old.
    let old = ok(&[("date", &at(-10)), ("last-modified", &at(-1010))]);
    assert_eq!(lifetime(&old).await, 90);
    for unlikely in [at(0), at(100)] {
        assert_eq!(lifetime(&ok(&[("last-modified", &unlikely)])).await, 0, "{unlikely}");
    }
}

// RFC 9111 section 4.2.2, row 21
#[actix_web::test]
async fn nothing_is_guessed_where_a_lifetime_is_given_even_a_bad_one() {
    for (name, value, expected) in [
        ("cache-control", "max-age=5", 5),
        ("cache-control", "max-age=soon", 0),
        ("cache-control", "s-maxage", 0),
        ("cache-control", "no-cache", 0),
        ("expires", "0", 0),
        ("expires", &at(5), 5),
    ] {
        let answer = ok(&[("last-modified", &at(-1000)), (name, value)]);
        assert_eq!(lifetime(&answer).await, expected, "{name}: {value}");
    }
}

// RFC 9111 sections 4.2.2 and 7.3: nobody's session is handed round on a guess
#[actix_web::test]
async fn nothing_is_guessed_where_the_answer_sets_a_cookie() {
    let changed = ok(&[("last-modified", &at(-1000)), ("set-cookie", "session=1")]);
    assert_eq!(lifetime(&changed).await, 0);
    assert_eq!(lifetime(&changed.with("cache-control", "max-age=60")).await, 60);
}

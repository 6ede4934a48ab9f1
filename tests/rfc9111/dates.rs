//! Dates in fields (RFC 9110 section 5.6.7), read through the whole cache: `Expires` first of all, and the others.
//!
//! The clock stands at Thu, 01 Jan 2026 00:00:00 GMT.

use crate::origin::{at, defaults, lifetime, lifetime_under, ok, site};

const YEAR: u64 = 365 * 24 * 3600;

async fn expires(date: &str) -> u64 {
    lifetime(&ok(&[("expires", date)])).await
}

// RFC 9110 section 5.6.7, RFC 9111 section 5.3, row 12; the defaults too
#[actix_web::test]
async fn what_is_no_date_has_expired() {
    // The same minute, and what others might read as a minute of a far year.
    for bad in [
        "Thu, 01 Jan 2026 00:01:00",
        "Thu, 01 Jan 2026 00:01:00 UTC",
        "Thu, 01 Jan 2026 00:01:00 UT",
        "Thu, 01 Jan 2026 00:01:00 Z",
        "Thu, 01 Jan 2026 00:01:00 EST",
        "Thu, 01 Jan 2026 00:01:00 AEST",
        "Thu, 01 Jan 2026 00:01:00 +0000",
        "Thu, 01 Jan 2026 00:01:00 -0700",
        "Thu, 01 Jan 2026 00:01:00 GMT+1",
        "Thu, 01 Jan 26 00:01:00 GMT",
        "Thu, 01 Jan 226 00:01:00 GMT",
        "Thu, 01 Jan 02026 00:01:00 GMT",
        "Thu 01 Jan 2026 00:01:00 GMT",
        "Thu,01 Jan 2026 00:01:00 GMT",
        "01 Jan 2026 00:01:00 GMT",
        "Thu,  01 Jan 2026 00:01:00 GMT",
        "Thu, 01  Jan 2026 00:01:00 GMT",
        "Thu, 01 Jan  2026 00:01:00 GMT",
        "Thu, 01 Jan 2026  00:01:00 GMT",
        "Thu, 01 Jan 2026 00:01:00  GMT",
        "Thu, 01\tJan 2026 00:01:00 GMT",
        "Thu, 01-Jan-2026 00:01:00 GMT",
        "Thu, 01-Jan-26 00:01:00 GMT",
        "Thursday, 01 Jan 2026 00:01:00 GMT",
        "Thu, 01 January 2026 00:01:00 GMT",
        "Thu, 1 Jan 2026 00:01:00 GMT",
        "Thu, 01 01 2026 00:01:00 GMT",
        "Thu, 01 Jan 2026 00.01.00 GMT",
        "Thu, 01 Jan 2026 0:01:00 GMT",
        "Thu, 01 Jan 2026 00:1:00 GMT",
        "Thu, 01 Jan 2026 00:01 GMT",
        "Thu, 01 Jan 2026 00:01:00.5 GMT",
        "Thu, 01 Jan 2026 24:00:00 GMT",
        "Thu, 01 Jan 2026 00:61:00 GMT",
        "Thu, 29 Feb 2026 00:01:00 GMT",
        "Thu, 32 Jan 2026 00:01:00 GMT",
        "Thu, 00 Feb 2026 00:01:00 GMT",
        "Foo, 01 Jan 2026 00:01:00 GMT",
        "Thursday, 01-Jan-2026 00:01:00 GMT",
        "Thu Jan 1 00:01:00 2026",
        "Thu Jan  1 00:01:00 26",
        "Thu Jan  1 00:01:00 2026 GMT",
        "\"Thu, 01 Jan 2026 00:01:00 GMT\"",
        "Thu, 01 Jan 2026 00:01:00 GMT;",
        "Thu, 01 Jan 2026 00:01:00 GMT, Thu, 01 Jan 2026 00:01:00 GMT",
        "2026-01-01T00:01:00Z",
        "1767225660",
        "60",
        "0",
        "-1",
        "never",
        "",
    ] {
        assert_eq!(expires(bad).await, 0, "{bad}");
        assert_eq!(lifetime_under(defaults, &ok(&[("expires", bad)])).await, 0, "{bad}");
    }
}

// RFC 9111 section 5.3, row 12
#[actix_web::test]
async fn expires_on_several_lines_has_expired() {
    for lines in [[at(60), at(60)], [at(60), "0".to_owned()], ["0".to_owned(), at(60)]] {
        let answer = lines.iter().fold(ok(&[]), |answer, line| answer.with("expires", line));
        assert_eq!(lifetime(&answer).await, 0, "{lines:?}");
    }
}

// RFC 9110 section 5.6.7, row 13; the defaults too
#[actix_web::test]
async fn a_date_is_read_in_all_three_forms_and_any_letter_case() {
    for good in [
        "Thu, 01 Jan 2026 00:01:00 GMT",
        "thu, 01 jan 2026 00:01:00 gmt",
        "THU, 01 JAN 2026 00:01:00 GMT",
        "tHu, 01 jAN 2026 00:01:00 gMT",
        // The weekday is not checked.
        "Mon, 01 Jan 2026 00:01:00 GMT",
        "Thu, 01 Jan 2026 00:00:60 GMT",
        "Thursday, 01-Jan-26 00:01:00 GMT",
        "thursday, 01-jan-26 00:01:00 gmt",
        "Thu Jan  1 00:01:00 2026",
        "THU JAN  1 00:01:00 2026",
        " Thu, 01 Jan 2026 00:01:00 GMT\t",
    ] {
        assert_eq!(expires(good).await, 60, "{good}");
        assert_eq!(lifetime_under(defaults, &ok(&[("expires", good)])).await, 60, "{good}");
    }
}

// RFC 9110 section 5.6.7, row 13
#[actix_web::test]
async fn years_past_2038_are_in_the_future() {
    for far in [
        "Tue, 19 Jan 2038 03:14:08 GMT",
        "Sun, 07 Feb 2106 06:28:16 GMT",
        "Sun, 21 Nov 2286 04:46:39 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Wednesday, 19-Jan-50 03:14:08 GMT",
        "Tue Jan 19 03:14:08 2038",
    ] {
        // As long as the preset lets anything live.
        assert_eq!(expires(far).await, YEAR, "{far}");
    }
}

// RFC 9110 section 5.6.7, row 13
#[actix_web::test]
async fn two_digits_of_a_year_reach_fifty_years_ahead_and_no_further() {
    assert_eq!(expires("Wednesday, 01-Jan-76 00:00:00 GMT").await, YEAR);
    assert_eq!(expires("Wednesday, 01-Jan-76 00:00:01 GMT").await, 0);
    assert_eq!(expires("Sunday, 06-Nov-94 08:49:37 GMT").await, 0);
    assert_eq!(expires("Wednesday, 31-Dec-25 23:59:59 GMT").await, 0);
}

// RFC 9110 section 5.6.7, RFC 9111 section 4.2.3, rows 11, 12 and 13
#[actix_web::test]
async fn date_and_last_modified_are_read_like_expires() {
    for (date, age) in [
        ("Wed, 31 Dec 2025 23:59:30 GMT", 30),
        ("wednesday, 31-dec-25 23:59:30 gmt", 30),
        ("Wed Dec 31 23:59:30 2025", 30),
        ("Wed, 31 Dec 2025 23:59:30 UTC", 0),
        ("Wed, 31 Dec 25 23:59:30 GMT", 0),
        ("Wed Dec 31 23:59:30 2025 GMT", 0),
    ] {
        let answer = ok(&[("cache-control", "max-age=60"), ("date", date)]);
        assert_eq!(lifetime(&answer).await, 60 - age, "{date}");
        // A tenth of a minute and of what is left of 23:59:30; none for what is no date.
        let guessed = lifetime(&ok(&[("last-modified", date)])).await;
        assert_eq!(guessed, age / 10, "{date}");
    }
}

// RFC 9110 section 13.1.3, row 12
#[actix_web::test]
async fn a_bad_last_modified_is_not_asked_by() {
    let bad = ok(&[("cache-control", "max-age=10"), ("etag", "\"a\""), ("last-modified", "last week")]);
    let site = site(&[bad]).await;
    site.get("/x", &[]).await;
    site.wait(10);
    site.get("/x", &[]).await;
    let asked = site.last();
    assert_eq!(
        (asked.field("if-none-match"), asked.field("if-modified-since")),
        ("\"a\"".into(), "-".into())
    );
}

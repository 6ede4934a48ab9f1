//! Age (RFC 9111 sections 4.2.3 and 5.1) and the Date it goes with.

use crate::origin::{at, defaults, lifetime, lifetime_under, ok, site};

// RFC 9111 section 4.2.3, row 7; the defaults too
#[actix_web::test]
async fn the_age_that_an_answer_brings_is_taken_off_its_lifetime() {
    for (age, left) in [("0", 60), ("4", 56), ("59", 1), ("60", 0), ("61", 0), ("7200", 0)] {
        let answer = ok(&[("cache-control", "max-age=60"), ("age", age)]);
        assert_eq!(lifetime(&answer).await, left, "{age}");
        assert_eq!(lifetime_under(defaults, &answer).await, left, "{age}");
    }
}

// RFC 9111 section 4.2.3, row 7; the defaults too
#[actix_web::test]
async fn an_answer_is_as_old_as_its_age_or_its_date_says_whichever_is_more() {
    for (age, date, left) in [("10", -20, 40), ("20", -10, 40), ("0", -60, 0), ("10", 100, 50)] {
        let answer = ok(&[("cache-control", "max-age=60"), ("age", age), ("date", &at(date))]);
        assert_eq!(lifetime(&answer).await, left, "{age} {date}");
        assert_eq!(lifetime_under(defaults, &answer).await, left, "{age} {date}");
    }
}

// RFC 9111 section 5.1, row 8, R8; the defaults too
#[actix_web::test]
async fn the_first_member_of_age_counts_and_a_bad_one_is_ignored() {
    for (lines, age) in [
        (&["10"][..], 10),
        (&["0010"], 10),
        (&[" 10\t"], 10),
        (&["10, 90"], 10),
        (&["90, 10"], 90),
        (&["10", "90"], 10),
        (&["90", "10"], 90),
        (&["10, x"], 10),
        (&["10", "x"], 10),
        (&["x, 10"], 0),
        (&["x", "10"], 0),
        (&["0, 0"], 0),
        (&[""], 0),
        (&["-10"], 0),
        (&["+10"], 0),
        (&["10.5"], 0),
        (&["1e1"], 0),
        (&["0x10"], 0),
        (&["10s"], 0),
        (&["10 10"], 0),
        (&["10;q=1"], 0),
        (&["\"10\""], 0),
        (&["ten"], 0),
        (&["\u{661}\u{660}"], 0),
    ] {
        let fresh = ok(&[("cache-control", "max-age=100")]);
        let answer = lines.iter().fold(fresh, |answer, line| answer.with("age", line));
        assert_eq!(lifetime(&answer).await, 100 - age, "{lines:?}");
        assert_eq!(lifetime_under(defaults, &answer).await, 100 - age, "{lines:?}");
    }
}

// RFC 9111 sections 1.2.2 and 5.1, R8
#[actix_web::test]
async fn a_great_age_is_great_and_not_small() {
    for age in [
        "2147483647",
        "2147483648",
        "4294967296",
        "4294967301",
        "18446744073709551617",
        "99999999999999999999999",
    ] {
        let fields = [("cache-control", "max-age=60"), ("etag", "\"a\""), ("age", age)];
        assert_eq!(lifetime(&ok(&fields)).await, 0, "{age}");
        // Stored, for it can be validated; and a client takes it as it is.
        let site = site(&[ok(&fields)]).await;
        site.get("/x", &[]).await;
        site.wait(10);
        let reply = site.get("/x", &[("cache-control", "max-stale")]).await;
        let told: u64 = reply.field("age").parse().unwrap();
        assert_eq!((site.runs(), told > (1 << 31)), (1, true), "{age} {told}");
    }
}

// RFC 9111 sections 4 and 5.1, row 9
#[actix_web::test]
async fn a_reused_answer_tells_its_age_once_whatever_is_made_of_it() {
    let fields = [("cache-control", "max-age=100"), ("etag", "\"a\""), ("age", "30"), ("age", "70")];
    let site = site(&[ok(&fields)]).await;
    site.get("/x", &[]).await;
    assert_eq!(site.get("/x", &[]).await.lines("age"), ["30"]);
    site.wait(15);
    for (method, fields, status) in [
        ("GET", &[][..], 200),
        ("HEAD", &[], 200),
        ("GET", &[("if-none-match", "\"a\"")], 304),
        ("GET", &[("range", "bytes=1-2")], 206),
    ] {
        let reply = site.send(method, "/x", fields).await;
        assert_eq!((reply.status, reply.lines("age")), (status, vec!["45".to_owned()]), "{fields:?}");
    }
    assert_eq!(site.runs(), 1);
}

// RFC 9111 section 4.2.3, row 9
#[actix_web::test]
async fn the_age_of_an_answer_that_brought_none_is_the_time_since_its_date_or_its_receipt() {
    for (fields, age) in [
        (&[("cache-control", "max-age=60")][..], "15"),
        (&[("cache-control", "max-age=60"), ("date", &at(-20))], "35"),
        (&[("cache-control", "max-age=60"), ("date", &at(20))], "15"),
        (&[("cache-control", "max-age=60"), ("date", "20 s ago")], "15"),
    ] {
        let site = site(&[ok(fields)]).await;
        site.get("/x", &[]).await;
        site.wait(15);
        assert_eq!(site.get("/x", &[]).await.field("age"), age, "{fields:?}");
    }
}

// RFC 9111 section 4.2.3, row 9: response_delay
#[actix_web::test]
async fn the_time_that_an_answer_took_to_come_counts_into_its_age() {
    for (fields, age) in [(&[][..], "10"), (&[("age", "5")], "15"), (&[("date", &*at(0))], "10")] {
        let slow = ok(&[&[("cache-control", "max-age=60")], fields].concat()).after(10);
        let site = site(&[slow]).await;
        site.get("/x", &[]).await;
        assert_eq!(site.get("/x", &[]).await.field("age"), age, "{fields:?}");
    }
}

// RFC 9111 section 5.1: Age tells of an answer that was not made for this request
#[actix_web::test]
async fn an_answer_that_was_just_made_has_no_age() {
    for fields in [&[][..], &[("if-none-match", "\"a\"")], &[("range", "bytes=0-1")]] {
        let site = site(&[ok(&[("cache-control", "max-age=60"), ("etag", "\"a\"")])]).await;
        for more in [&[][..], &[("cache-control", "no-cache")]] {
            site.wait(7);
            let reply = site.get("/x", &[fields, more].concat()).await;
            assert_eq!(reply.field("age"), "-", "{fields:?} {more:?}");
        }
        assert_eq!(site.runs(), 2);
    }
}

// RFC 9110 section 6.6.1, RFC 9111 section 4.2.3, row 10, L13
#[actix_web::test]
async fn the_date_of_an_answer_is_replayed_and_never_renewed() {
    for (fields, date) in [
        (&[("cache-control", "max-age=60"), ("date", &*at(-5))][..], at(-5)),
        // It gets that of its receipt.
        (&[("cache-control", "max-age=60")], at(0)),
    ] {
        let site = site(&[ok(fields)]).await;
        for seconds in [0, 10, 20] {
            site.wait(seconds);
            assert_eq!(site.get("/x", &[]).await.field("date"), date, "{fields:?}");
        }
        assert_eq!(site.runs(), 1);
    }
}

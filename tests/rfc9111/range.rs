//! Parts of a stored answer (RFC 9110 section 14, RFC 9111 section 3.4); one range at a time.

use crate::origin::{Answer, Message, answer, at, defaults, ok, site, site_under};

/// Ten bytes with both validators, changed long before they were sent.
fn digits() -> Answer {
    let fields = [
        ("cache-control", "max-age=60"),
        ("content-type", "text/plain"),
        ("content-language", "de"),
        ("etag", "\"a\""),
        ("last-modified", &*at(-100_000)),
        ("date", &at(0)),
        ("x-field", "1"),
        ("x-field", "2"),
        ("vary", "foo"),
    ];
    answer(200, &fields, "0123456789")
}

/// What a request gets whose answer is stored and fresh.
async fn reply_of(stored: &Answer, method: &str, fields: &[(&str, &str)]) -> Message {
    let site = site(std::slice::from_ref(stored)).await;
    site.get("/x", &[]).await;
    site.wait(7);
    let reply = site.send(method, "/x", fields).await;
    assert_eq!(site.runs(), 1, "{fields:?}");
    reply
}

async fn reply(fields: &[(&str, &str)]) -> Message {
    reply_of(&digits(), "GET", fields).await
}

/// Status, `Content-Range` and body.
fn summary(reply: &Message) -> String {
    format!("{} {} {}", reply.status, reply.field("content-range"), reply.text())
}

// RFC 9110 sections 14.1.2, 14.2 and 15.3.7, row 35
#[actix_web::test]
async fn one_range_is_answered_with_that_part() {
    for (range, expected) in [
        ("bytes=0-3", "206 bytes 0-3/10 0123"),
        ("bytes=0-0", "206 bytes 0-0/10 0"),
        ("bytes=4-5", "206 bytes 4-5/10 45"),
        ("bytes=9-9", "206 bytes 9-9/10 9"),
        ("bytes=0-9", "206 bytes 0-9/10 0123456789"),
        ("bytes=7-", "206 bytes 7-9/10 789"),
        ("bytes=0-", "206 bytes 0-9/10 0123456789"),
        ("bytes=-1", "206 bytes 9-9/10 9"),
        ("bytes=-3", "206 bytes 7-9/10 789"),
        ("bytes=-10", "206 bytes 0-9/10 0123456789"),
        // Past the end means the end.
        ("bytes=8-10", "206 bytes 8-9/10 89"),
        ("bytes=8-99999999999999999999999", "206 bytes 8-9/10 89"),
        ("bytes=-11", "206 bytes 0-9/10 0123456789"),
        ("bytes=-99999999999999999999999", "206 bytes 0-9/10 0123456789"),
        ("bytes=007-0008", "206 bytes 7-8/10 78"),
        ("Bytes=0-3", "206 bytes 0-3/10 0123"),
    ] {
        assert_eq!(summary(&reply(&[("range", range)]).await), expected, "{range}");
    }
}

// RFC 9110 sections 14.1.2 and 15.5.17, row 35
#[actix_web::test]
async fn a_range_beyond_the_end_is_a_416_that_tells_the_length() {
    for range in ["bytes=10-", "bytes=10-10", "bytes=99-100", "bytes=-0", "bytes=99999999999999999999999-"] {
        assert_eq!(summary(&reply(&[("range", range)]).await), "416 bytes */10 ", "{range}");
    }
}

// RFC 9110 sections 14.1.1 and 14.2, row 35
#[actix_web::test]
async fn a_malformed_range_or_another_unit_is_ignored() {
    for range in [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=cow",
        "bytes=3",
        "bytes=3-1",
        "bytes=a-3",
        "bytes=0-b",
        "bytes=0--3",
        "bytes=0-1-2",
        "bytes=+0-3",
        "bytes=0 - 3",
        "bytes=0x0-3",
        "bytes:0-3",
        "bytes =0-3",
        "bytes=\"0-3\"",
        "lines=0-3",
        "octets=0-3",
        "0-3",
    ] {
        assert_eq!(summary(&reply(&[("range", range)]).await), "200 - 0123456789", "{range}");
    }
}

// RFC 9110 section 15.3.7, row 35
#[actix_web::test]
async fn a_part_carries_the_fields_of_the_whole() {
    let whole = reply(&[]).await;
    let part = reply(&[("range", "bytes=0-3")]).await;
    for name in [
        "age",
        "cache-control",
        "content-type",
        "content-language",
        "date",
        "etag",
        "last-modified",
        "vary",
        "x-field",
    ] {
        assert!(!whole.lines(name).is_empty(), "{name}");
        assert_eq!(part.lines(name), whole.lines(name), "{name}");
    }
    assert_eq!(part.field("age"), "7");
}

// RFC 9110 section 13.1.5, row 35
#[actix_web::test]
async fn if_range_lets_the_range_hold_for_the_same_strong_validator_only() {
    let modified = at(-100_000);
    for (validator, holds) in [
        ("\"a\"", true),
        (" \"a\" ", true),
        (&*modified, true),
        ("W/\"a\"", false),
        ("\"b\"", false),
        ("\"A\"", false),
        ("\"a", false),
        ("a", false),
        ("*", false),
        ("\"b\", \"a\"", false),
        // Not a later one either: it is compared as a tag would be.
        (&at(-99_999), false),
        (&at(-100_001), false),
        ("soon", false),
        ("", false),
    ] {
        let expected = if holds { "206 bytes 0-3/10 0123" } else { "200 - 0123456789" };
        let fields = [("range", "bytes=0-3"), ("if-range", validator)];
        assert_eq!(summary(&reply(&fields).await), expected, "{validator}");
        // One that does not hold makes a 416 into the whole, too.
        let fields = [("range", "bytes=10-"), ("if-range", validator)];
        let expected = if holds { "416 bytes */10 " } else { "200 - 0123456789" };
        assert_eq!(summary(&reply(&fields).await), expected, "{validator}");
    }
}

// RFC 9110 sections 8.8.3.2 and 13.1.5, row 35
#[actix_web::test]
async fn a_weak_tag_never_lets_a_range_hold() {
    let weak = answer(200, &[("cache-control", "max-age=60"), ("etag", "W/\"a\"")], "0123456789");
    for validator in ["W/\"a\"", "\"a\""] {
        let fields = [("range", "bytes=0-3"), ("if-range", validator)];
        assert_eq!(summary(&reply_of(&weak, "GET", &fields).await), "200 - 0123456789", "{validator}");
    }
}

// RFC 9110 sections 8.8.2.2 and 13.1.5: what was changed in the second in which it was sent may have changed again
#[actix_web::test]
async fn a_date_that_is_no_strong_validator_lets_no_range_hold() {
    let fields = [("cache-control", "max-age=60"), ("last-modified", &*at(0)), ("date", &at(0))];
    let just_changed = answer(200, &fields, "0123456789");
    let fields = [("range", "bytes=0-3"), ("if-range", &*at(0))];
    assert_eq!(summary(&reply_of(&just_changed, "GET", &fields).await), "200 - 0123456789");
}

// RFC 9110 section 13.1.5
#[actix_web::test]
async fn if_range_without_a_range_means_nothing() {
    for validator in ["\"a\"", "\"b\""] {
        assert_eq!(summary(&reply(&[("if-range", validator)]).await), "200 - 0123456789");
    }
}

// RFC 9110 section 14.2: a range is of a GET that would be a 200
#[actix_web::test]
async fn a_range_means_nothing_to_head_and_to_other_statuses() {
    let range = [("range", "bytes=0-3")];
    let head = reply_of(&digits(), "HEAD", &range).await;
    assert_eq!((head.status, head.field("content-range").as_str()), (200, "-"));
    for status in [301, 404, 500] {
        let stored = answer(status, &[("cache-control", "max-age=60")], "0123456789");
        assert_eq!(summary(&reply_of(&stored, "GET", &range).await), format!("{status} - 0123456789"));
    }
}

// RFC 9110 section 13.2.2
#[actix_web::test]
async fn conditions_come_before_the_range() {
    let range = ("range", "bytes=0-3");
    for (condition, status) in [
        (("if-none-match", "\"a\""), 304),
        (("if-none-match", "\"b\""), 206),
        (("if-modified-since", &*at(-100_000)), 304),
        (("if-modified-since", &at(-100_001)), 206),
    ] {
        assert_eq!(reply(&[range, condition]).await.status, status, "{condition:?}");
    }
}

// RFC 9111 section 3.4, row 35, P15
#[actix_web::test]
async fn a_range_on_an_empty_store_brings_a_whole_answer_for_the_others() {
    for (range, expected) in [
        ("bytes=0-3", "206 bytes 0-3/10 0123"),
        ("bytes=99-", "416 bytes */10 "),
        ("bytes=cow", "200 - 0123456789"),
    ] {
        let site = site_under(defaults(), &[digits()]).await;
        assert_eq!(summary(&site.get("/x", &[("range", range)]).await), expected, "{range}");
        assert_eq!(site.last().field("range"), "-");
        assert_eq!((summary(&site.get("/x", &[]).await).as_str(), site.runs()), ("200 - 0123456789", 1));
    }
}

// RFC 9111 sections 3.4 and 4.3.4, row 35
#[actix_web::test]
async fn a_range_of_a_stale_answer_is_answered_after_its_validation() {
    let site = site(&[digits(), answer(304, &[], "")]).await;
    site.get("/x", &[]).await;
    site.wait(60);
    let reply = site.get("/x", &[("range", "bytes=-2")]).await;
    assert_eq!((summary(&reply).as_str(), site.runs()), ("206 bytes 8-9/10 89", 2));
    assert_eq!(
        (site.last().field("if-none-match").as_str(), site.last().field("range").as_str()),
        ("\"a\"", "-")
    );
}

// RFC 9110 section 14.1.2: an empty body has no first byte
#[actix_web::test]
async fn an_empty_answer_has_no_parts() {
    let empty = answer(200, &[("cache-control", "max-age=60")], "");
    assert_eq!(summary(&reply_of(&empty, "GET", &[("range", "bytes=0-")]).await), "416 bytes */0 ");
    assert_eq!(summary(&reply_of(&ok(&[("cache-control", "max-age=60")]), "GET", &[]).await), "200 - body");
}

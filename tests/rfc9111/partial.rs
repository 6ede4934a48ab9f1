//! Parts that are stored, cut and completed (RFC 9111 sections 3.3 and 3.4).

use crate::origin::{Answer, Message, Site, answer, at, defaults, ok, rfc, site, site_under};

const DIGITS: &str = "0123456789";

fn part(first: usize, last: usize, etag: &str) -> Answer {
    let range = format!("bytes {first}-{last}/10");
    let fields = [("cache-control", "max-age=60"), ("content-range", &range), ("etag", etag)];
    answer(206, &fields, &DIGITS[first..=last])
}

fn whole(etag: &str) -> Answer {
    answer(200, &[("cache-control", "max-age=60"), ("etag", etag)], DIGITS)
}

async fn range(site: &Site, range: &str) -> Message {
    site.get("/x", &[("range", range)]).await
}

/// Status, `Content-Range` and body.
fn summary(reply: &Message) -> String {
    format!("{} {} {}", reply.status, reply.field("content-range"), reply.text())
}

// RFC 9110 section 14.2, RFC 9111 section 3.3, row 36
#[actix_web::test]
async fn a_part_is_asked_for_as_the_client_did_and_serves_the_same_request() {
    let site = site(&[part(4, 9, "\"a\"").with("x-field", "1")]).await;
    let first = range(&site, "bytes=4-").await;
    assert_eq!(site.last().field("range"), "bytes=4-");
    site.wait(3);
    let second = range(&site, "bytes=4-").await;
    for reply in [&first, &second] {
        assert_eq!(
            (summary(reply).as_str(), reply.field("x-field").as_str()),
            ("206 bytes 4-9/10 456789", "1")
        );
    }
    assert_eq!((first.field("x-cache"), second.field("x-cache")), ("MISS".into(), "HIT".into()));
    assert_eq!((second.field("age").as_str(), site.runs()), ("3", 1));
}

// RFC 9111 section 3.4, row 36
#[actix_web::test]
async fn ranges_within_a_part_are_cut_out_of_it() {
    let site = site(&[part(4, 9, "\"a\"")]).await;
    range(&site, "bytes=4-").await;
    for (asked, expected) in [
        ("bytes=6-8", "206 bytes 6-8/10 678"),
        ("bytes=6-", "206 bytes 6-9/10 6789"),
        ("bytes=-1", "206 bytes 9-9/10 9"),
        ("bytes=4-100", "206 bytes 4-9/10 456789"),
    ] {
        assert_eq!(summary(&range(&site, asked).await), expected, "{asked}");
    }
    assert_eq!(site.runs(), 1);
    range(&site, "bytes=3-5").await;
    assert_eq!((site.runs(), site.last().field("range").as_str()), (2, "bytes=3-5"));
}

// RFC 9110 sections 13.1.2 and 13.1.5: the client's conditions hold for a part as for the whole
#[actix_web::test]
async fn a_part_is_served_only_where_the_conditions_of_the_request_hold() {
    let site = site(&[part(4, 9, "\"a\"")]).await;
    range(&site, "bytes=4-").await;
    let with = async |condition| site.get("/x", &[("range", "bytes=5-6"), condition]).await.status;
    assert_eq!(with(("if-none-match", "\"a\"")).await, 304);
    assert_eq!(with(("if-range", "\"a\"")).await, 206);
    assert_eq!(site.runs(), 1);
    with(("if-range", "\"b\"")).await;
    assert_eq!((site.runs(), site.last().field("if-range").as_str()), (2, "\"b\""));
}

// RFC 9111 section 4.2, row 36
#[actix_web::test]
async fn a_stale_part_is_asked_for_again() {
    let site = site(&[part(4, 9, "\"a\"")]).await;
    range(&site, "bytes=4-").await;
    site.wait(60);
    range(&site, "bytes=5-6").await;
    assert_eq!(site.runs(), 2);
}

// RFC 9111 section 3.4, RFC 9110 section 13.1.5, row 36
#[actix_web::test]
async fn what_is_missing_is_asked_for_and_the_whole_is_stored() {
    for (stored, asked, rest, missing) in [
        (part(0, 4, "\"a\""), "bytes=0-4", part(5, 9, "\"a\""), "bytes=5-"),
        (part(4, 9, "\"a\""), "bytes=-6", part(0, 3, "\"a\""), "bytes=0-3"),
    ] {
        let site = site(&[stored.with("x-old", "1"), rest.with("x-new", "1")]).await;
        range(&site, asked).await;
        let completed = site.get("/x", &[]).await;
        assert_eq!(summary(&completed), format!("200 - {DIGITS}"));
        assert_eq!(
            (site.last().field("range").as_str(), site.last().field("if-range").as_str()),
            (missing, "\"a\"")
        );
        assert_eq!((completed.field("x-old").as_str(), completed.field("x-new").as_str()), ("1", "1"));
        assert_eq!(summary(&site.get("/x", &[]).await), format!("200 - {DIGITS}"));
        assert_eq!(summary(&range(&site, "bytes=1-8").await), "206 bytes 1-8/10 12345678");
        assert_eq!(site.runs(), 2);
    }
}

// RFC 9110 section 13.1.5, row 36
#[actix_web::test]
async fn a_representation_that_has_changed_comes_whole() {
    let site = site(&[part(0, 4, "\"a\""), whole("\"b\"")]).await;
    range(&site, "bytes=0-4").await;
    assert_eq!((summary(&site.get("/x", &[]).await).as_str(), site.runs()), ("200 - 0123456789", 2));
    assert_eq!((site.get("/x", &[]).await.field("etag").as_str(), site.runs()), ("\"b\"", 2));
}

// RFC 9111 section 3.4: parts are of one piece only if a strong validator says so
#[actix_web::test]
async fn without_a_strong_validator_nothing_is_completed() {
    for stored in [part(0, 4, "W/\"a\""), part(0, 4, "a"), part(1, 4, "\"a\"")] {
        let site = site(&[stored, whole("\"a\"")]).await;
        range(&site, "bytes=0-4").await;
        assert_eq!(summary(&site.get("/x", &[]).await), "200 - 0123456789");
        assert_eq!(site.last().field("range"), "-");
    }
}

// RFC 9111 section 3.4: an answer that is not the rest is never joined, and no part goes to who wants the whole
#[actix_web::test]
async fn an_answer_that_is_not_the_rest_is_an_error_and_not_stored() {
    let mislabelled = answer(206, &[("cache-control", "max-age=60"), ("etag", "\"a\"")], "56789");
    let short = answer(206, &[("etag", "\"a\""), ("content-range", "bytes 5-9/10")], "567");
    let beyond = answer(416, &[("content-range", "bytes */3")], "");
    for rest in [part(5, 9, "\"b\""), part(6, 9, "\"a\""), part(5, 8, "\"a\""), mislabelled, short, beyond] {
        let site = site(&[part(0, 4, "\"a\""), rest, whole("\"b\"")]).await;
        range(&site, "bytes=0-4").await;
        let reply = site.get("/x", &[]).await;
        assert_eq!((reply.status, reply.text().as_str()), (502, ""));
        // The next one asks for the whole, or the rest once more: it is never given less.
        assert_eq!(summary(&site.get("/x", &[]).await), "200 - 0123456789");
    }
}

// RFC 9111 section 3: what is not one part of a known whole is passed on
#[actix_web::test]
async fn a_part_that_does_not_say_which_it_is_is_passed_on_and_not_stored() {
    for content_range in ["bytes 0-4/*", "bytes */10", "items 0-4/10", "bytes 4-0/10", ""] {
        let odd = answer(206, &[("cache-control", "max-age=60"), ("content-range", content_range)], "01234");
        let site = site(&[odd]).await;
        for runs in 1..3 {
            assert_eq!((range(&site, "bytes=0-4").await.status, site.runs()), (206, runs), "{content_range}");
        }
    }
}

// RFC 9110 section 14.2: an origin may answer a range with the whole, and with anything else
#[actix_web::test]
async fn an_answer_that_is_no_part_is_stored_for_what_it_is() {
    let site_of = async |answer: Answer| site(&[answer]).await;
    let complete = site_of(whole("\"a\"")).await;
    assert_eq!(summary(&range(&complete, "bytes=0-4").await), "206 bytes 0-4/10 01234");
    assert_eq!((summary(&complete.get("/x", &[]).await).as_str(), complete.runs()), ("200 - 0123456789", 1));

    let missing = site_of(answer(404, &[("cache-control", "max-age=60")], "none")).await;
    for request in [&[("range", "bytes=0-4")][..], &[]] {
        assert_eq!((missing.get("/x", request).await.status, missing.runs()), (404, 1));
    }

    let beyond = site_of(answer(416, &[("cache-control", "max-age=60")], "")).await;
    for runs in 1..3 {
        assert_eq!((range(&beyond, "bytes=99-").await.status, beyond.runs()), (416, runs));
    }
}

// RFC 9111 section 4.1: a part of one variant is no part of another
#[actix_web::test]
async fn parts_are_of_their_variant() {
    let site = site(&[part(4, 9, "\"a\"").with("vary", "foo")]).await;
    for (foo, runs) in [("1", 1), ("1", 1), ("2", 2), ("1", 2)] {
        site.get("/x", &[("range", "bytes=4-"), ("foo", foo)]).await;
        assert_eq!(site.runs(), runs, "{foo}");
    }
}

// RFC 9111 section 4.4
#[actix_web::test]
async fn parts_are_dropped_with_their_url() {
    let site = site(&[part(4, 9, "\"a\""), answer(204, &[], ""), part(4, 9, "\"b\"")]).await;
    range(&site, "bytes=4-").await;
    site.send("PUT", "/x", &[]).await;
    assert_eq!((range(&site, "bytes=4-").await.field("etag").as_str(), site.runs()), ("\"b\"", 3));
    assert_eq!(range(&site, "bytes=5-6").await.field("etag"), "\"b\"");
}

// RFC 9111 section 4.3: where the whole is stored, and stale, it is the whole that is validated
#[actix_web::test]
async fn a_stale_whole_is_validated_and_then_cut() {
    let site = site(&[whole("\"a\""), answer(304, &[], "")]).await;
    site.get("/x", &[]).await;
    site.wait(60);
    assert_eq!(summary(&range(&site, "bytes=0-4").await), "206 bytes 0-4/10 01234");
    let asked = site.last();
    assert_eq!((asked.field("range").as_str(), asked.field("if-none-match").as_str()), ("-", "\"a\""));
}

// RFC 9110 section 14.2: what is no single range of bytes is no matter of parts
#[actix_web::test]
async fn odd_and_several_ranges_are_answered_from_the_whole() {
    for asked in ["bytes=cow", "bytes=0-1,3-4", "items=0-1", "bytes=4-2"] {
        let site = site(&[whole("\"a\"")]).await;
        range(&site, asked).await;
        assert_eq!(site.last().field("range"), "-", "{asked}");
    }
}

// P15; the defaults
#[actix_web::test]
async fn without_the_setting_no_part_is_asked_for_or_stored() {
    let site = site_under(defaults(), &[part(0, 4, "\"a\"")]).await;
    for runs in 1..3 {
        assert_eq!((range(&site, "bytes=0-4").await.status, site.runs()), (206, runs));
        assert_eq!(site.last().field("range"), if runs == 1 { "-" } else { "bytes=0-4" });
    }
}

// RFC 9110 section 8.8.2: a part without any validator is as good as its lifetime says
#[actix_web::test]
async fn a_part_needs_no_validator_to_be_served_again() {
    let bare = answer(
        206,
        &[("cache-control", "max-age=60"), ("content-range", "bytes 4-9/10"), ("date", &at(0))],
        "456789",
    );
    let site = site(&[bare, ok(&[])]).await;
    range(&site, "bytes=4-").await;
    assert_eq!((summary(&range(&site, "bytes=5-5").await).as_str(), site.runs()), ("206 bytes 5-5/10 5", 1));
}

// RFC 9111 section 5.2.1.7
#[actix_web::test]
async fn a_client_that_wants_only_what_is_stored_gets_a_part() {
    let site = site(&[part(4, 9, "\"a\"")]).await;
    let only = ("cache-control", "only-if-cached");
    assert_eq!(site.get("/x", &[("range", "bytes=4-"), only]).await.status, 504);
    range(&site, "bytes=4-").await;
    assert_eq!(site.get("/x", &[("range", "bytes=5-6"), only]).await.text(), "56");
    assert_eq!(site.get("/x", &[("range", "bytes=0-1"), only]).await.status, 504);
    assert_eq!(site.runs(), 1);
}

// A whole that is too long to store is no reason to ask for its parts each time
#[actix_web::test]
async fn parts_serve_where_the_whole_is_too_long_to_store() {
    let site = site_under(rfc().body_limit(8), &[whole("\"a\""), part(4, 9, "\"a\"")]).await;
    site.get("/x", &[]).await;
    for _ in 0..2 {
        assert_eq!(range(&site, "bytes=4-").await.text(), "456789");
    }
    assert_eq!(site.runs(), 2);
}

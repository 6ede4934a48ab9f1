//! Several ranges of a stored answer (RFC 9110 sections 14.2 and 14.6).

use crate::origin::{Message, answer, site};

/// A stored page of a thousand bytes, and what a `Range` gets of it.
async fn reply(range: &str) -> Message {
    let page: String = (0..100).map(|n| format!("{n:09} ")).collect();
    let fields = [("cache-control", "max-age=60"), ("content-type", "text/plain"), ("etag", "\"a\"")];
    let site = site(&[answer(200, &fields, &page)]).await;
    site.get("/x", &[]).await;
    let reply = site.get("/x", &[("range", range)]).await;
    assert_eq!(site.runs(), 1);
    reply
}

// RFC 9110 section 14.6, row 35
#[actix_web::test]
async fn several_ranges_are_parts_of_one_body_in_the_order_they_were_asked_for() {
    let reply = reply("bytes=20-28, 0-8,-5, 5000-").await;
    assert_eq!((reply.status, reply.field("content-range").as_str()), (206, "-"));
    let content_type = reply.field("content-type");
    let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").expect("a boundary");
    let part = |range: &str, bytes: &str| {
        format!(
            "\r\n--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes {range}/1000\r\n\r\n{bytes}"
        )
    };
    let expected = [
        part("20-28", "000000002"),
        part("0-8", "000000000"),
        part("995-999", "0099 "),
        format!("\r\n--{boundary}--\r\n"),
    ];
    assert_eq!(reply.text(), expected.concat());
    assert_eq!((reply.field("etag").as_str(), reply.field("x-cache").as_str()), ("\"a\"", "HIT"));
}

// RFC 9110 section 14.6: a boundary that nobody can foresee
#[actix_web::test]
async fn no_two_answers_have_the_same_boundary() {
    let (one, other) = (reply("bytes=0-1,3-4").await, reply("bytes=0-1,3-4").await);
    assert_ne!(one.field("content-type"), other.field("content-type"));
}

// RFC 9110 sections 14.2 and 17.15, X11
#[actix_web::test]
async fn many_or_overlapping_ranges_and_those_that_cost_more_than_the_whole_get_the_whole() {
    let many: Vec<_> = (0..1000).map(|n| format!("{n}-{n}")).collect();
    for range in
        ["bytes=0-100,50-150", "bytes=0-,0-", "bytes=0-480,500-999", &format!("bytes={}", many.join(","))]
    {
        let reply = reply(range).await;
        assert_eq!(
            (reply.status, reply.body.len(), reply.field("content-type").as_str()),
            (200, 1000, "text/plain")
        );
    }
}

// RFC 9110 sections 14.1.2 and 15.5.17
#[actix_web::test]
async fn of_several_ranges_the_satisfiable_ones_count() {
    let one = reply("bytes=5000-, 0-8").await;
    assert_eq!((one.status, one.field("content-range").as_str()), (206, "bytes 0-8/1000"));
    let none = reply("bytes=5000-, -0").await;
    assert_eq!((none.status, none.field("content-range").as_str()), (416, "bytes */1000"));
}

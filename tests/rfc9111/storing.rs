//! What is stored, and what of it (RFC 9111 section 3).

use crate::origin::{Message, answer, defaults, lifetime, lifetime_under, ok, rfc, site, site_under};

/// All final statuses that the public suite asks for, and others, known and unknown.
const STORABLE: [u16; 49] = [
    200, 201, 202, 203, 204, 205, 207, 208, 226, 299, 300, 301, 302, 303, 305, 307, 308, 399, 400, 401, 402,
    403, 404, 405, 406, 408, 409, 410, 411, 413, 414, 415, 417, 418, 421, 422, 429, 431, 451, 499, 500, 501,
    502, 503, 504, 505, 507, 511, 599,
];

// RFC 9111 section 3, RFC 9110 section 15.1, row 20
#[actix_web::test]
async fn any_final_status_with_a_lifetime_is_reused_for_that_time() {
    for status in STORABLE {
        let body = if status == 204 { "" } else { "body" };
        let answer = answer(status, &[("cache-control", "max-age=60"), ("x-field", "value")], body);
        assert_eq!(lifetime(&answer).await, 60, "{status}");
        let site = site(&[answer]).await;
        for _ in 0..2 {
            let reply = site.get("/x", &[]).await;
            assert_eq!((reply.status, reply.text().as_str()), (status, body));
            assert_eq!(reply.field("x-field"), "value");
        }
    }
}

// RFC 9111 section 4.2.1, row 20
#[actix_web::test]
async fn expires_and_s_maxage_give_any_status_a_lifetime_too() {
    for status in [302, 404, 500, 599] {
        for (name, value) in [("cache-control", "s-maxage=60"), ("expires", "Thu, 01 Jan 2026 00:01:00 GMT")]
        {
            assert_eq!(lifetime(&answer(status, &[(name, value)], "body")).await, 60, "{status} {name}");
        }
    }
}

// RFC 9111 section 3, row 20
#[actix_web::test]
async fn by_default_only_a_200_is_stored() {
    for status in STORABLE {
        let answer = answer(status, &[("cache-control", "public, max-age=60")], "");
        let expected = if status == 200 { 60 } else { 0 };
        assert_eq!(lifetime_under(defaults, &answer).await, expected, "{status}");
    }
}

// RFC 9111 section 3.3, RFC 9110 sections 15.3.7, 15.4.5, 15.5.13, 15.5.17
#[actix_web::test]
async fn an_answer_to_the_conditions_of_one_request_is_never_stored() {
    let fields =
        [("cache-control", "public, max-age=60"), ("etag", "\"a\""), ("content-range", "bytes 0-3/9")];
    for status in [206, 304, 412, 416] {
        let site = site(&[answer(status, &fields, "")]).await;
        for asking in [&[][..], &[("range", "bytes=0-3")], &[("if-none-match", "\"a\"")], &[]] {
            let runs = site.runs();
            let reply = site.get("/x", asking).await;
            assert_eq!((reply.status, site.runs()), (status, runs + 1), "{asking:?}");
        }
        // The last one was plain, and came to the origin as it was: there was nothing to validate.
        assert_eq!(site.last().field("if-none-match"), "-", "{status}");
    }
}

/// Fields that say nothing to a cache, some of which others lose.
const FIELDS: [(&str, &str); 34] = [
    ("test-header", "a"),
    ("x-test-header", "a, b , \"c, d\""),
    ("content-foo", "a"),
    ("x-content-foo", "a"),
    ("x-empty", ""),
    ("x-lines", "one"),
    ("x-lines", "two"),
    ("x-lines", "one"),
    ("accept-ranges", "bytes"),
    ("allow", "GET, HEAD"),
    ("alt-svc", "h3=\":443\""),
    ("clear-site-data", "\"cookies\""),
    ("content-disposition", "attachment; filename=\"a,b.txt\""),
    ("content-language", "de"),
    ("content-location", "/other"),
    ("content-md5", "rL0Y20zC+Fzt72VPzMSk2A=="),
    ("content-security-policy", "default-src 'self'; script-src 'self'"),
    ("content-type", "text/plain; charset=utf-8"),
    ("etag", "\"a\""),
    ("expires", "Fri, 01 Jan 2027 00:00:00 GMT"),
    ("last-modified", "Wed, 31 Dec 2025 00:00:00 GMT"),
    ("link", "</a>; rel=preload"),
    ("link", "</b>; rel=preload"),
    ("location", "/elsewhere"),
    ("pragma", "no-cache"),
    ("retry-after", "120"),
    ("server", "origin/1.0"),
    ("set-cookie", "a=1; Path=/"),
    ("set-cookie", "b=2; Secure"),
    ("set-cookie2", "a=b"),
    ("strict-transport-security", "max-age=10; includeSubDomains"),
    ("www-authenticate", "Basic realm=\"a\""),
    ("x-frame-options", "deny"),
    ("x-xss-protection", "1"),
];

/// The lines of a message that are not the cache's own.
fn lines(reply: &Message) -> Vec<(String, Vec<u8>)> {
    let own = ["age", "x-cache", "date"];
    let lines = reply.fields.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
    let mut lines: Vec<_> = lines.filter(|(name, _)| !own.contains(&name.as_str())).collect();
    // Between different fields the order means nothing; among the lines of one it does, and this keeps it.
    lines.sort_by(|(one, _), (other, _)| one.cmp(other));
    lines
}

// RFC 9111 section 3.1, row 26
#[actix_web::test]
async fn all_fields_are_stored_and_replayed_line_by_line() {
    let origin =
        ok(&FIELDS).with("x-bytes", b"\xe4\x80\xff\t\"").with("cache-control", "max-age=60, foo=\"bar\"");
    let site = site(&[origin]).await;
    let (first, reused) = (site.get("/x", &[]).await, site.get("/x", &[]).await);
    assert_eq!(site.runs(), 1);
    let sent = lines(&first);
    assert_eq!(sent.len(), FIELDS.len() + 2);
    assert_eq!(lines(&reused), sent);
    assert_eq!(reused.lines("x-lines"), ["one", "two", "one"]);
    assert_eq!(reused.lines("set-cookie"), ["a=1; Path=/", "b=2; Secure"]);
    assert_eq!(reused.fields.get("x-bytes").unwrap().as_bytes(), b"\xe4\x80\xff\t\"");
}

// RFC 9111 section 3.1, row 26
#[actix_web::test]
async fn an_encoded_body_keeps_the_field_that_says_so() {
    let site = site(&[ok(&[("cache-control", "max-age=60"), ("content-encoding", "gzip")])]).await;
    for _ in 0..2 {
        let reply = site.get("/x", &[]).await;
        assert_eq!((reply.field("content-encoding"), reply.text()), ("gzip".into(), "body".into()));
    }
    assert_eq!(site.runs(), 1);
}

// RFC 9111 section 3.1, RFC 9110 section 7.6.1, row 27, L11; the defaults too
#[actix_web::test]
async fn the_fields_of_one_connection_are_not_replayed() {
    let dropped = [
        ("connection", "x-one, X-Two ,,"),
        ("connection", "\tx-three"),
        ("x-one", "1"),
        ("x-two", "2"),
        ("x-two", "2"),
        ("x-three", "3"),
        ("keep-alive", "timeout=5"),
        ("proxy-authenticate", "Basic"),
        ("proxy-authentication-info", "a=b"),
        ("proxy-authorization", "Basic YTpi"),
        ("proxy-connection", "keep-alive"),
        ("te", "gzip"),
        ("trailer", "x-end"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
    ];
    let kept = [("cache-control", "max-age=60"), ("x-four", "4"), ("connection-x", "5")];
    for builder in [rfc(), defaults()] {
        let origin = ok(&[&dropped[..], &kept].concat());
        let site = site_under(builder, &[origin]).await;
        site.get("/x", &[]).await;
        let reused = site.get("/x", &[]).await;
        assert_eq!(site.runs(), 1);
        for (name, _) in dropped {
            assert_eq!(reused.lines(name), [""; 0], "{name}");
        }
        for (name, value) in kept {
            assert_eq!(reused.field(name), value);
        }
    }
}

// RFC 9111 section 3.1: the length is that of the body
#[actix_web::test]
async fn a_wrong_content_length_is_not_replayed() {
    let site = site(&[ok(&[("cache-control", "max-age=60"), ("content-length", "99")])]).await;
    site.get("/x", &[]).await;
    let reused = site.get("/x", &[]).await;
    assert_eq!((site.runs(), reused.text().as_str()), (1, "body"));
    assert_ne!(reused.field("content-length"), "99");
}

// RFC 9111 section 3.5, row 34
#[actix_web::test]
async fn an_answer_to_an_authorized_request_is_reused_only_where_it_says_so() {
    let (one, other) = (("authorization", "Basic YTpi"), ("authorization", "Basic Yzpk"));
    for (control, shared) in [
        ("max-age=60", false),
        ("max-age=60, immutable", false),
        ("max-age=60, proxy-revalidate", false),
        ("max-age=60, no-transform, x-public", false),
        ("max-age=60, extension=\"public, s-maxage=60\"", false),
        ("max-age=60, public", true),
        ("max-age=60, PUBLIC", true),
        ("max-age=60, must-revalidate", true),
        ("s-maxage=60", true),
        ("s-maxage=60, max-age=0", true),
        ("max-age=60, public, private", false),
        ("max-age=60, public, no-store", false),
    ] {
        for second in [&[one][..], &[other], &[]] {
            let site = site(&[ok(&[("cache-control", control), ("etag", "\"a\"")])]).await;
            site.get("/x", &[one]).await;
            site.get("/x", second).await;
            assert_eq!(site.runs(), if shared { 1 } else { 2 }, "{control} {second:?}");
            assert_eq!(site.last().field("if-none-match"), "-", "{control} {second:?}");
        }
    }
}

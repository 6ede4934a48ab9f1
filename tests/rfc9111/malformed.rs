//! Malformed fields: whatever bytes they have, nothing panics, nothing lives longer than it says, and no value of
//! 100 KB takes more than its share of time.
#![allow(clippy::disallowed_methods)] // it measures

use std::time::{Duration, Instant};

use actix_web::rt::System;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use crate::origin::{Answer, Message, answer, at, defaults, ok, rfc, site, site_under};

/// Bytes that a field value may have (RFC 9110 section 5.5).
fn field_bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![1 => Just(b'\t'), 9 => 0x20..=0x7e_u8, 3 => 0x80..=0xff_u8], 0..30)
}

/// Pieces of which good values are made, in any order, and what does not belong there.
fn jumble(pieces: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        7 => select(pieces).prop_map(|piece| piece.as_bytes().to_vec()),
        2 => select(&[" ", ",", "=", "\"", "\\", ";", "\t"][..]).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => field_bytes(),
    ];
    vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Runs a test for so many values.
fn each<S: Strategy>(cases: u32, values: &S, test: impl AsyncFn(S::Value)) {
    let system = System::new();
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let run = |value| {
        system.block_on(test(value));
        Ok(())
    };
    TestRunner::new(config).run(values, run).unwrap();
}

/// Under each profile, the lifetime aside that a scope may add, this answer is passed on whole, and eleven seconds later
/// the origin is asked again.
async fn lives_for_ten_seconds_at_most(answer: &Answer) {
    for builder in [rfc(), defaults().explicit_only()] {
        let site = site_under(builder, std::slice::from_ref(answer)).await;
        for (waits, runs) in [(0, 1), (11, 2)] {
            site.wait(waits);
            let reply = site.get("/x", &[("accept-language", "de")]).await;
            assert_eq!((reply.status, reply.text().as_str(), site.runs()), (200, "body", runs), "{answer:?}");
        }
    }
}

/// Pieces of dates, none of which is later than ten seconds after the clock's start.
const DATES: [&str; 16] = [
    "Thu, 01 Jan 2026 00:00:10 GMT",
    "Thursday, 01-Jan-26 00:00:10 GMT",
    "Thu Jan  1 00:00:10 2026",
    "Thu,",
    "Thursday,",
    "01",
    "Jan",
    "2026",
    "26",
    "-",
    ":",
    "00:00:10",
    " GMT",
    "0",
    "+0000",
    "1767225610",
];

/// Pieces of directives, none of which allows more than the first.
const DIRECTIVES: [&str; 14] = [
    "max-age",
    "max-age=99",
    "MAX-AGE=\"99\"",
    "no-store",
    "no-cache=\"x-a",
    "private=",
    "public",
    "must-understand",
    "must-revalidate",
    "immutable",
    "9",
    "-1",
    "99999999999999999999",
    "\"a, b\"",
];

const TAGS: [&str; 8] = ["\"a\"", "W/\"a\"", "W/", "\"", "a", "*", "\"b", "w/\"a\""];
const NAMES: [&str; 7] = ["accept-language", "Accept-Language", "foo", "*", "*foo", "a b", "foo\u{e9}"];

/// Of Structured Fields (RFC 8941); no lifetimes.
const MEMBERS: [&str; 13] = [
    "no-store",
    "private",
    "public",
    "max-age",
    "=1.5",
    "=?0",
    "=?1",
    "=(1 2)",
    "=:YQ==:",
    ";a=1",
    "(\"a\" b)",
    "\"a\"",
    "-9",
];

// RFC 9111 sections 4.2.1 and 5.2
#[test]
fn after_a_good_lifetime_no_directive_prolongs_it() {
    let values = (jumble(&DIRECTIVES), any::<bool>());
    each(256, &values, async |(value, own_line)| {
        let answer = if own_line {
            ok(&[("cache-control", "max-age=10")]).with("cache-control", &value)
        } else {
            ok(&[]).with("cache-control", [b"max-age=10,", &*value].concat())
        };
        lives_for_ten_seconds_at_most(&answer).await;
    });
}

// RFC 9111 sections 4.2.1, 4.2.3 and 5.3
#[test]
fn no_expires_or_date_gives_more_than_it_says() {
    let values = (jumble(&DATES), jumble(&DATES), any::<bool>());
    each(256, &values, async |(expires, date, dated)| {
        let answer = ok(&[]).with("expires", &expires);
        let answer = if dated { answer.with("date", &date) } else { answer };
        lives_for_ten_seconds_at_most(&answer).await;
    });
}

// RFC 9111 section 4.2.1
#[test]
fn beside_a_good_lifetime_no_other_field_prolongs_it() {
    for (name, values) in [
        ("age", jumble(&["1", "9", "99999999999999999999", "-1", "1.5"]).boxed()),
        ("date", jumble(&DATES).boxed()),
        ("expires", jumble(&DATES).boxed()),
        ("last-modified", jumble(&DATES).boxed()),
        ("etag", jumble(&TAGS).boxed()),
        ("vary", jumble(&NAMES).boxed()),
        ("cdn-cache-control", jumble(&MEMBERS).boxed()),
        ("cdn-cache-control", jumble(&MEMBERS).prop_map(|value| [b"max-age=10, ", &*value].concat()).boxed()),
        ("cache-groups", jumble(&MEMBERS).boxed()),
    ] {
        each(128, &values, async |value| {
            lives_for_ten_seconds_at_most(&ok(&[("cache-control", "max-age=10")]).with(name, &value)).await;
        });
    }
}

/// Ten bytes with both validators.
fn digits() -> Answer {
    let fields = [
        ("cache-control", "max-age=60"),
        ("etag", "\"a\""),
        ("last-modified", &*at(-100_000)),
        ("vary", "accept-language"),
    ];
    answer(200, &fields, "0123456789")
}

/// A reply is the whole, a true part of it, or says why it is neither.
fn is_honest(reply: &Message) -> bool {
    let range = reply.field("content-range");
    let part = || {
        let (first, last) = range.strip_prefix("bytes ")?.strip_suffix("/10")?.split_once('-')?;
        "0123456789".get(first.parse().ok()?..=last.parse().ok()?)
    };
    match reply.status {
        200 => range == "-" && reply.text() == "0123456789",
        206 => part() == Some(&reply.text()),
        416 => range == "bytes */10" && reply.body.is_empty(),
        304 | 504 => range == "-" && reply.body.is_empty(),
        _ => false,
    }
}

// RFC 9110 sections 13.1 and 14.2, RFC 9111 section 5.2.1
#[test]
fn whatever_a_request_says_its_answer_is_honest_and_the_next_one_is_whole() {
    const ASKS: [&str; 8] =
        ["no-cache", "no-store", "only-if-cached", "max-age=", "min-fresh", "max-stale", "9", "=1"];
    const RANGES: [&str; 9] =
        ["bytes=", "bytes=0-3", "bytes=-2", "-", "0", "5-", "9", "99999999999999999999", "lines="];
    for (name, values) in [
        ("range", jumble(&RANGES).boxed()),
        ("if-none-match", jumble(&TAGS).boxed()),
        ("if-modified-since", jumble(&DATES).boxed()),
        ("if-range", prop_oneof![jumble(&TAGS), jumble(&DATES)].boxed()),
        ("cache-control", jumble(&ASKS).boxed()),
        ("pragma", jumble(&ASKS).boxed()),
        ("accept-language", jumble(&["de", "en", "-AT", ";q=", "0.5", "*"]).boxed()),
    ] {
        each(128, &(values, any::<bool>(), any::<bool>()), async |(value, is_stored, has_range)| {
            for builder in [rfc(), defaults()] {
                let site = site_under(builder, &[digits()]).await;
                if is_stored {
                    site.get("/x", &[]).await;
                }
                let lines: [(&str, &[u8]); 2] = [(name, &value), ("range", b"bytes=2-4")];
                let lines = if has_range && name != "range" { &lines[..] } else { &lines[..1] };
                let reply = site.send_bytes("GET", "/x", lines).await;
                assert!(is_honest(&reply), "{name}: {} {reply:?}", value.escape_ascii());
                let next = site.get("/x", &[]).await;
                assert_eq!((next.status, next.text().as_str()), (200, "0123456789"));
            }
        });
    }
}

// RFC 9111 section 4.1: the same bytes are the same, whatever they are
#[test]
fn a_selecting_field_matches_itself() {
    let values = jumble(&["de", "en", "-AT", ";q=", "0.5", "*"]);
    each(128, &values, async |value| {
        let site = site(&[digits()]).await;
        for _ in 0..2 {
            site.send_bytes("GET", "/x", &[("accept-language", &value)]).await;
        }
        assert_eq!(site.runs(), 1, "{}", value.escape_ascii());
    });
}

/// A value of at most this length, made of one unit; `#` in it is a number that grows.
fn long(unit: &str, length: usize) -> Vec<u8> {
    let mut value = Vec::new();
    for n in 0.. {
        let next = unit.replace('#', &n.to_string());
        if value.len() + next.len() > length {
            break;
        }
        value.extend_from_slice(next.as_bytes());
    }
    value
}

/// A hundred KB take no more than a quarter of a second, and no more than forty times as long as ten KB, where squared
/// time would be a hundred times as long: at the latest when the machine has had several times to do so undisturbed.
async fn is_linear(what: &str, time: impl AsyncFn(usize) -> Duration) {
    let too_short_to_tell = Duration::from_millis(25);
    let (mut tenth, mut whole) = (Duration::MAX, Duration::MAX);
    for _ in 0..6 {
        tenth = tenth.min(time(10_000).await);
        whole = whole.min(time(100_000).await);
        if whole < Duration::from_millis(250) && whole < too_short_to_tell.max(tenth * 40) {
            return;
        }
    }
    panic!("{what}: {tenth:?} for 10 KB, {whole:?} for 100 KB");
}

async fn is_linear_in_an_answer(name: &str, unit: &str) {
    let time = async |length| {
        let site = site(&[ok(&[("cache-control", "max-age=10")]).with(name, long(unit, length))]).await;
        let started = Instant::now();
        site.get("/x", &[]).await;
        started.elapsed()
    };
    is_linear(&format!("{name}: {unit}"), time).await;
}

// X8
#[actix_web::test]
async fn a_long_vary_takes_time_in_proportion() {
    is_linear_in_an_answer("vary", "accept-#,").await;
}

// X8, X9, X11
#[actix_web::test]
async fn a_long_field_of_an_answer_takes_time_in_proportion() {
    const LISTS: [&str; 5] = ["a,", "\"", "\\\"", ",", " "];
    let own: [(&str, &[&str]); 11] = [
        ("cache-control", &["max-age=1,", "private=\"x-#\",", "no-cache=\"a,", "X-#=\"#\",", "max-age=\"\\"]),
        ("cdn-cache-control", &["max-age=1, ", "m-#=1, ", "a;b-#;", "a=(1 2), ", "a=((", "a=:YQ==:, "]),
        ("cache-groups", &["\"g-#\", ", "(\"a\" \"b\"), ", "\"\\\\", "a;b-#;"]),
        ("vary", &["foo, ", "*, "]),
        ("expires", &["Thu, 01 Jan 2026 00:00:10 GMT", "Thu, "]),
        ("date", &["Thu, 01 Jan 2026 00:00:10 GMT", "0"]),
        ("last-modified", &["Thu, 01 Jan 2026 00:00:10 GMT", "Thu Jan  1 "]),
        ("age", &["1, ", "9"]),
        ("etag", &["W/\"a\"", "W/"]),
        ("connection", &["x-#, ", "close,"]),
        ("content-security-policy", &["'nonce", "'nonce-a' "]),
    ];
    for (name, units) in own {
        for unit in units.iter().chain(&LISTS) {
            is_linear_in_an_answer(name, unit).await;
        }
    }
}

// X8, X11
#[actix_web::test]
async fn a_long_field_of_a_request_takes_time_in_proportion() {
    const LISTS: [&str; 5] = ["a,", "\"", "\\\"", ",", " "];
    let own: [(&str, &[&str]); 8] = [
        ("range", &["0-1,", "bytes=99-,", "-", "9"]),
        ("if-none-match", &["\"a", "\"a\" ", "W/\"#\",", "\"b\", ", "*,"]),
        ("if-modified-since", &["Thu, 01 Jan 2026 00:00:10 GMT", "Thu, "]),
        ("if-range", &["\"a\"", "W/\"", "Thu, "]),
        ("cache-control", &["max-age=1,", "no-cache=\"", "NO-STORES,", "foo=\"\\"]),
        ("pragma", &["no-caches,"]),
        ("accept-language", &["de, ", "de;q=0.5, ", "de-#, "]),
        ("cookie", &["a=b; ", ";", "a#=b;"]),
    ];
    for (name, units) in own {
        for unit in units.iter().chain(&LISTS) {
            let time = async |length| {
                let start: &[u8] = if name == "range" { b"bytes=" } else { b"" };
                let value = [start, &long(unit, length)].concat();
                let lines: [(&str, &[u8]); 2] = [(name, &value), ("range", b"bytes=0-3")];
                let lines = if name == "if-range" { &lines[..] } else { &lines[..1] };
                let site = site(&[digits()]).await;
                site.get("/x", &[]).await;
                let started = Instant::now();
                site.send_bytes("GET", "/x", lines).await;
                started.elapsed()
            };
            is_linear(&format!("{name}: {unit}"), time).await;
        }
    }
}

//! The client's own conditions, answered from a whole stored response (RFC 9110 sections 13 and 14).

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};

use crate::policy::range::{self, RangeAnswer};
use crate::policy::{date, etag};
use crate::stored::response::StoredResponse;

/// How a stored response answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Whole,
    NotModified,
    /// 206, first and last byte.
    Part {
        first: u64,
        last: u64,
    },
    /// 206 with several parts, each with its first and last byte.
    Parts(Box<[(u64, u64)]>),
    /// 416.
    Unsatisfiable,
}

/// Evaluates conditional and range fields in the order of RFC 9110 section 13.2.2; they hold only for a 200, or a part
/// of one, to a safe method. Only dates ask for `now`.
pub(crate) fn evaluate(
    fields: &HeaderMap,
    method: &Method,
    stored: &StoredResponse,
    now: impl Fn() -> i64,
) -> Answer {
    let safe = *method == Method::GET || *method == Method::HEAD || method.as_str() == "QUERY";
    if !matches!(stored.status(), StatusCode::OK | StatusCode::PARTIAL_CONTENT) || !safe {
        return Answer::Whole;
    }
    if not_modified(fields, stored, &now) {
        return Answer::NotModified;
    }
    // RFC 9110 section 14.2: Range is for GET alone. A part was cut as it was asked for.
    let ranged = *method == Method::GET && stored.status() == StatusCode::OK;
    let Some(range) = only(fields, &header::RANGE).filter(|_| ranged) else {
        return Answer::Whole;
    };
    if !range_applies(fields, stored, now()) {
        return Answer::Whole;
    }
    match range::select(range.as_bytes(), stored.body().len() as u64) {
        RangeAnswer::Whole => Answer::Whole,
        RangeAnswer::Part { first, last } => Answer::Part { first, last },
        RangeAnswer::Parts(parts) => Answer::Parts(parts.into()),
        RangeAnswer::Unsatisfiable => Answer::Unsatisfiable,
    }
}

fn not_modified(fields: &HeaderMap, stored: &StoredResponse, now: impl Fn() -> i64) -> bool {
    // RFC 9110 section 13.1.3: If-None-Match, where present, decides alone.
    let lines = fields.get_all(&header::IF_NONE_MATCH);
    match lines.as_slice() {
        [] => {}
        [line] if etag::is_returned(line.as_bytes(), stored.etag()) => return true,
        _ => return !etag::none_match(lines.map(HeaderValue::as_bytes), stored.etag()),
    }
    let date = |value: &HeaderValue| date::parse(value.as_bytes(), now());
    // RFC 9111 section 4.3.2: without Last-Modified, its Date says when the response was surely not older.
    let made = || stored.field(&header::DATE).and_then(date);
    match only(fields, &header::IF_MODIFIED_SINCE).and_then(date) {
        Some(since) => stored.freshness.last_modified.or_else(made).is_some_and(|modified| modified <= since),
        None => false,
    }
}

/// Whether the `Range` beside an `If-Range` holds for what is stored (RFC 9110 section 13.1.5).
pub(crate) fn range_applies(fields: &HeaderMap, stored: &StoredResponse, now: i64) -> bool {
    if !fields.contains_key(header::IF_RANGE) {
        return true;
    }
    // RFC 9110 section 8.8.2.2: what was changed in the second in which it was sent may have changed again.
    let sent = stored.field(&header::DATE).and_then(|date| date::parse(date.as_bytes(), now));
    let modified =
        stored.freshness.last_modified.filter(|modified| sent.is_some_and(|sent| *modified < sent));
    only(fields, &header::IF_RANGE)
        .is_some_and(|value| etag::if_range_matches(value.as_bytes(), stored.etag(), modified, now))
}

/// The one line of a field that is no list; several are as if there was none.
fn only<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = fields.get_all(name);
    lines.next().filter(|_| lines.next().is_none())
}

//! The client's own conditions, answered from a whole stored response (RFC 9110 sections 13 and 14).

use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::http::{Method, StatusCode};

use crate::policy::range::{self, RangeAnswer};
use crate::policy::{date, etag};
use crate::stored::response::StoredResponse;

/// How a stored 200 answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Whole,
    NotModified,
    /// 206, first and last byte.
    Part {
        first: u64,
        last: u64,
    },
    /// 416.
    Unsatisfiable,
}

/// Evaluates conditional and range fields in the order of RFC 9110 section 13.2.2; they hold only for a 200 to GET or
/// HEAD.
pub(crate) fn evaluate(fields: &HeaderMap, method: &Method, stored: &StoredResponse, now: i64) -> Answer {
    let safe = *method == Method::GET || *method == Method::HEAD;
    if stored.status() != StatusCode::OK || !safe {
        return Answer::Whole;
    }
    if not_modified(fields, stored, now) {
        return Answer::NotModified;
    }
    // RFC 9110 section 14.2: Range is for GET alone.
    let Some(range) = fields.get(header::RANGE).filter(|_| *method == Method::GET) else {
        return Answer::Whole;
    };
    if !range_applies(fields, stored, now) {
        return Answer::Whole;
    }
    match range::select(range.as_bytes(), stored.body().len() as u64) {
        RangeAnswer::Whole => Answer::Whole,
        RangeAnswer::Part { first, last } => Answer::Part { first, last },
        RangeAnswer::Unsatisfiable => Answer::Unsatisfiable,
    }
}

fn not_modified(fields: &HeaderMap, stored: &StoredResponse, now: i64) -> bool {
    if fields.contains_key(header::IF_NONE_MATCH) {
        // RFC 9110 section 13.1.3: If-None-Match, where present, decides alone.
        let lines = fields.get_all(header::IF_NONE_MATCH).map(HeaderValue::as_bytes);
        return !etag::none_match(lines, stored.etag());
    }
    let since = fields.get(header::IF_MODIFIED_SINCE).and_then(|value| date::parse(value.as_bytes(), now));
    match (since, stored.freshness.last_modified) {
        (Some(since), Some(modified)) => modified <= since,
        _ => false,
    }
}

fn range_applies(fields: &HeaderMap, stored: &StoredResponse, now: i64) -> bool {
    fields.get(header::IF_RANGE).is_none_or(|value| {
        etag::if_range_matches(value.as_bytes(), stored.etag(), stored.freshness.last_modified, now)
    })
}

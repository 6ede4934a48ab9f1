//! Answers made of a stored response: 200, 304, 206, HEAD and 416.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::time::Duration;

use actix_web::dev::ServiceResponse;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{Bytes, BytesMut};
use actix_web::{HttpRequest, HttpResponse};

use crate::exchange::body::CacheBody;
use crate::exchange::slot::Slot;
use crate::exchange::telling::{Told, tell};
use crate::policy::conditional::{Answer, evaluate};
use crate::scope::Scope;
use crate::stored::response::StoredResponse;

/// What the conditions of a request make of a stored response; `conditions` are its own fields, or those that were
/// taken out of it.
pub(crate) fn answer(
    scope: &Scope,
    method: &Method,
    conditions: Option<&HeaderMap>,
    stored: &StoredResponse,
) -> Answer {
    conditions.map_or(Answer::Whole, |conditions| {
        evaluate(conditions, method, stored, || scope.engine.clock.now().unix)
    })
}

/// Answers a request from a stored response.
pub(crate) fn from_stored<B>(
    scope: &Scope,
    req: HttpRequest,
    stored: &StoredResponse,
    age: Duration,
    answer: Answer,
    told: Told<'_>,
) -> ServiceResponse<CacheBody<B>> {
    if told.outcome.is_reuse() {
        Slot::answers(&req);
    }
    let mut response = match &answer {
        Answer::Whole => whole(stored),
        Answer::NotModified => HttpResponse::with_body(StatusCode::NOT_MODIFIED, CacheBody::none()),
        Answer::Part { .. } | Answer::Parts(_) | Answer::Unsatisfiable => ranged(stored, &answer),
    };
    let status = response.status();
    let headers = response.headers_mut();
    // Told apart here and not for each field, which costs.
    match &answer {
        Answer::Whole => repeat(stored, headers, |_| true),
        Answer::NotModified => repeat(stored, headers, is_of_not_modified),
        ranged => repeat(stored, headers, |name| is_of_range(ranged, status, name)),
    }
    // An answer that is not reused has no age of ours (RFC 9111 section 5.1).
    if told.outcome.is_reuse() {
        headers.append(header::AGE, age_value(age.as_secs()));
    }
    tell(scope, status, headers, told, || remaining(stored, age));
    ServiceResponse::new(req, response)
}

fn whole<B>(stored: &StoredResponse) -> HttpResponse<CacheBody<B>> {
    let body = match stored.status {
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => CacheBody::none(),
        _ => CacheBody::whole(stored.body.clone()),
    };
    HttpResponse::with_body(stored.status, body)
}

/// The answer to a `Range`. Kept apart, for in line it costs every plain hit some instructions.
#[cold]
fn ranged<B>(stored: &StoredResponse, answer: &Answer) -> HttpResponse<CacheBody<B>> {
    let len = stored.body.len();
    match answer {
        Answer::Part { first, last } => {
            let part = piece(&stored.body, *first, *last);
            let mut response = HttpResponse::with_body(StatusCode::PARTIAL_CONTENT, CacheBody::whole(part));
            set_content_range(response.headers_mut(), &format!("bytes {first}-{last}/{len}"));
            response
        }
        Answer::Parts(parts) => match multipart(stored, parts) {
            Some((content_type, pieces)) => {
                let body = CacheBody::pieces(pieces);
                let mut response = HttpResponse::with_body(StatusCode::PARTIAL_CONTENT, body);
                response.headers_mut().insert(header::CONTENT_TYPE, content_type);
                response
            }
            None => whole(stored),
        },
        Answer::Unsatisfiable => {
            let body = CacheBody::whole(Default::default());
            let mut response = HttpResponse::with_body(StatusCode::RANGE_NOT_SATISFIABLE, body);
            set_content_range(response.headers_mut(), &format!("bytes */{len}"));
            response
        }
        Answer::Whole | Answer::NotModified => whole(stored),
    }
}

/// Repeats stored fields.
fn repeat(stored: &StoredResponse, headers: &mut HeaderMap, is_wanted: impl Fn(&HeaderName) -> bool) {
    for (name, value) in &stored.headers {
        if is_wanted(name) {
            headers.append(name.clone(), value.clone());
        }
    }
}

/// Whether a 304 repeats a field (RFC 9110 section 15.4.5).
fn is_of_not_modified(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CACHE_CONTROL
            | header::CONTENT_LOCATION
            | header::DATE
            | header::ETAG
            | header::EXPIRES
            | header::VARY
    )
}

/// Whether the answer to a `Range` repeats a field.
fn is_of_range(answer: &Answer, status: StatusCode, name: &HeaderName) -> bool {
    match answer {
        // Each part has a type of its own.
        Answer::Parts(_) => status != StatusCode::PARTIAL_CONTENT || *name != header::CONTENT_TYPE,
        Answer::Unsatisfiable => *name == header::DATE,
        _ => true,
    }
}

fn piece(body: &Bytes, first: u64, last: u64) -> Bytes {
    let at = |position: u64| usize::try_from(position).unwrap_or(usize::MAX).min(body.len());
    body.slice(at(first)..at(last.saturating_add(1)).max(at(first)))
}

/// Several parts as one body, with its type (RFC 9110 section 14.6); none where the whole is not longer than that.
fn multipart(stored: &StoredResponse, parts: &[(u64, u64)]) -> Option<(HeaderValue, Vec<Bytes>)> {
    // Nobody who writes a page can know the next one, and put it there.
    let boundary = format!("{:016x}{:016x}", RandomState::new().hash_one(0), RandomState::new().hash_one(1));
    let (len, own_type) = (stored.body.len(), stored.field(&header::CONTENT_TYPE));
    let mut pieces = Vec::with_capacity(2 * parts.len() + 1);
    for (first, last) in parts {
        let mut head = BytesMut::from(&b"\r\n--"[..]);
        head.extend_from_slice(boundary.as_bytes());
        if let Some(own_type) = own_type {
            head.extend_from_slice(b"\r\nContent-Type: ");
            head.extend_from_slice(own_type.as_bytes());
        }
        head.extend_from_slice(format!("\r\nContent-Range: bytes {first}-{last}/{len}\r\n\r\n").as_bytes());
        pieces.push(head.freeze());
        pieces.push(piece(&stored.body, *first, *last));
    }
    pieces.push(Bytes::from(format!("\r\n--{boundary}--\r\n")));
    let sent: usize = pieces.iter().map(Bytes::len).sum();
    let content_type = HeaderValue::try_from(format!("multipart/byteranges; boundary={boundary}")).ok()?;
    (sent < len).then_some((content_type, pieces))
}

/// Seconds of freshness left; negative when stale (RFC 9211 section 2.5).
fn remaining(stored: &StoredResponse, age: Duration) -> i64 {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    seconds(stored.freshness.lifetime()).saturating_sub(seconds(age))
}

fn set_content_range(headers: &mut HeaderMap, range: &str) {
    if let Ok(value) = HeaderValue::from_str(range) {
        headers.insert(header::CONTENT_RANGE, value);
    }
}

/// Ages up to this many seconds are written once for the process.
const READY_AGES: u64 = 10_000;

static AGES: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let ages: Vec<String> = (0..READY_AGES).map(|age| age.to_string()).collect();
    let mut digits: &'static str = Box::leak(ages.concat().into_boxed_str());
    let mut next = |age: &String| {
        let (ready, rest) = digits.split_at(age.len());
        digits = rest;
        ready
    };
    ages.iter().map(&mut next).collect()
});

/// `Age` as a field value; nearly always without an allocation, for it is on every hit.
fn age_value(seconds: u64) -> HeaderValue {
    let ready = usize::try_from(seconds).ok().and_then(|age| AGES.get(age));
    ready.map_or_else(|| HeaderValue::from(seconds), |digits| HeaderValue::from_static(digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_as_written() {
        for age in [0, 1, 9, 10, 99, 100, 9_999, 10_000, u64::MAX] {
            assert_eq!(age_value(age).to_str().expect("digits"), age.to_string());
        }
    }
}

//! Answers made of a stored response: 200, 304, 206, HEAD and 416.

use std::sync::LazyLock;
use std::time::Duration;

use actix_web::dev::ServiceResponse;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse};

use crate::exchange::body::CacheBody;
use crate::exchange::slot::Slot;
use crate::policy::conditional::{Answer, evaluate};
use crate::scope::Scope;
use crate::stored::response::StoredResponse;

/// How an answer came about, for the fields that tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Hit { collapsed: bool },
    Miss,
}

/// What the conditions of a request make of a stored response; `conditions` are its own fields, or those that were
/// taken out of it.
pub(crate) fn answer(
    scope: &Scope,
    method: &Method,
    conditions: Option<&HeaderMap>,
    stored: &StoredResponse,
) -> Answer {
    conditions.map_or(Answer::Whole, |conditions| {
        evaluate(conditions, method, stored, scope.engine.clock.now().unix)
    })
}

/// Answers a request from a stored response.
pub(crate) fn from_stored<B>(
    scope: &Scope,
    req: HttpRequest,
    stored: &StoredResponse,
    age: Duration,
    answer: Answer,
    outcome: Outcome,
) -> ServiceResponse<CacheBody<B>> {
    if matches!(outcome, Outcome::Hit { .. }) {
        Slot::answers(&req);
    }
    let len = stored.body.len();
    let mut response = match answer {
        Answer::Whole => {
            let body = match stored.status {
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => CacheBody::none(),
                _ => CacheBody::whole(stored.body.clone()),
            };
            HttpResponse::with_body(stored.status, body)
        }
        Answer::NotModified => HttpResponse::with_body(StatusCode::NOT_MODIFIED, CacheBody::none()),
        Answer::Part { first, last } => {
            let at = |position: u64| usize::try_from(position).unwrap_or(usize::MAX).min(len);
            let part = stored.body.slice(at(first)..at(last.saturating_add(1)).max(at(first)));
            let mut response = HttpResponse::with_body(StatusCode::PARTIAL_CONTENT, CacheBody::whole(part));
            set_content_range(response.headers_mut(), &format!("bytes {first}-{last}/{len}"));
            response
        }
        Answer::Unsatisfiable => {
            let body = CacheBody::whole(Default::default());
            let mut response = HttpResponse::with_body(StatusCode::RANGE_NOT_SATISFIABLE, body);
            set_content_range(response.headers_mut(), &format!("bytes */{len}"));
            response
        }
    };
    let headers = response.headers_mut();
    for (name, value) in &stored.headers {
        if sends(answer, name) {
            headers.append(name.clone(), value.clone());
        }
    }
    // An answer that is not reused has no age of ours (RFC 9111 section 5.1).
    if outcome != Outcome::Miss {
        headers.append(header::AGE, age_value(age.as_secs()));
    }
    tell(scope, headers, outcome, || remaining(stored, age));
    ServiceResponse::new(req, response)
}

/// Which stored fields an answer repeats.
fn sends(answer: Answer, name: &HeaderName) -> bool {
    match answer {
        Answer::Whole | Answer::Part { .. } => true,
        // RFC 9110 section 15.4.5.
        Answer::NotModified => matches!(
            *name,
            header::CACHE_CONTROL
                | header::CONTENT_LOCATION
                | header::DATE
                | header::ETAG
                | header::EXPIRES
                | header::VARY
        ),
        Answer::Unsatisfiable => *name == header::DATE,
    }
}

/// Writes the status fields of an answer that was just made and is stored, in place of any it came with.
pub(crate) fn tell_miss(scope: &Scope, headers: &mut HeaderMap) {
    if let Some(field) = &scope.settings.status_field {
        headers.remove(&field.name);
    }
    tell(scope, headers, Outcome::Miss, || 0);
}

/// Writes the status fields; `headers` has none of that name, for none is stored.
fn tell(scope: &Scope, headers: &mut HeaderMap, outcome: Outcome, ttl: impl Fn() -> i64) {
    if let Some(field) = &scope.settings.status_field {
        let value = match outcome {
            Outcome::Hit { .. } => &field.hit,
            Outcome::Miss => &field.miss,
        };
        headers.append(field.name.clone(), value.clone());
    }
    if let Some(name) = &scope.settings.cache_status {
        let told = match outcome {
            Outcome::Hit { collapsed: false } => format!("hit; ttl={}", ttl()),
            Outcome::Hit { collapsed: true } => format!("fwd=uri-miss; collapsed; ttl={}", ttl()),
            Outcome::Miss => "fwd=uri-miss; stored".to_owned(),
        };
        append_cache_status(headers, name, &told);
    }
}

/// Writes `Cache-Status` for an answer that the cache had no part in (RFC 9211 sections 2.2 and 2.8).
pub(crate) fn tell_passed(scope: &Scope, headers: &mut HeaderMap, fwd: &str, detail: &str) {
    if let Some(name) = &scope.settings.cache_status {
        append_cache_status(headers, name, &format!("fwd={fwd}; detail={detail}"));
    }
}

fn append_cache_status(headers: &mut HeaderMap, name: &str, told: &str) {
    if let Ok(value) = HeaderValue::try_from(format!("{name}; {told}")) {
        headers.append(HeaderName::from_static("cache-status"), value);
    }
}

/// Seconds of freshness left; negative when stale (RFC 9211 section 2.5).
fn remaining(stored: &StoredResponse, age: Duration) -> i64 {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    seconds(stored.freshness.lifetime).saturating_sub(seconds(age))
}

fn set_content_range(headers: &mut HeaderMap, range: &str) {
    if let Ok(value) = HeaderValue::from_str(range) {
        headers.insert(header::CONTENT_RANGE, value);
    }
}

/// Ages up to this many seconds are written once for the process.
const READY_AGES: u64 = 10_000;

/// The digits of the ready ages, one after the other.
static AGES: LazyLock<(String, Vec<usize>)> = LazyLock::new(|| {
    let mut ends = Vec::new();
    let mut digits = String::new();
    for age in 0..READY_AGES {
        digits.push_str(&age.to_string());
        ends.push(digits.len());
    }
    (digits, ends)
});

/// `Age` as a field value; nearly always without an allocation, for it is on every hit.
fn age_value(seconds: u64) -> HeaderValue {
    let (digits, ends): &'static (String, Vec<usize>) = &AGES;
    let ready = usize::try_from(seconds).ok().and_then(|age| {
        let start = if age == 0 { 0 } else { *ends.get(age - 1)? };
        digits.get(start..*ends.get(age)?)
    });
    ready.map_or_else(|| HeaderValue::from(seconds), HeaderValue::from_static)
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

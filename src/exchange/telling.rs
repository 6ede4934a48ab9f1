//! What an answer says of the cache: the field that says hit or miss, and `Cache-Status` (RFC 9211).

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::clock::Timestamp;
use crate::found::Found;
use crate::key::CacheKey;
use crate::policy::reuse::Reuse;
use crate::scope::Scope;

/// Why a request went on to the handler (RFC 9211 section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forward {
    /// The request does not use the cache.
    Bypass,
    /// Its method is not cacheable.
    Method,
    /// Nothing is stored under its key.
    UriMiss,
    /// Other variants are stored.
    VaryMiss,
    /// What is stored is fresh, and the client wants it newer.
    Request,
    Stale,
    /// A part is stored, and not the one that is asked for.
    Partial,
}

impl Forward {
    /// Why a request goes on that found this.
    pub(crate) fn why(found: &Found, reuse: Reuse, now: Timestamp) -> Self {
        match found.stored() {
            None if found.varies.is_some() => Self::VaryMiss,
            None => Self::UriMiss,
            Some(_) if reuse == Reuse::NotForThis => Self::Bypass,
            Some(stored) if stored.age(now) < stored.freshness.lifetime() => Self::Request,
            Some(_) => Self::Stale,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

/// A run, as it is told: why, and what came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forwarded {
    pub(crate) why: Forward,
    pub(crate) status: StatusCode,
}

/// How an answer came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Out of the storage.
    Hit,
    /// Out of another request's run.
    Collapsed(Forward),
    /// Out of the storage, for the run has failed.
    StandIn(Forwarded),
    /// By a run whose answer is stored.
    Stored(Forwarded),
}

impl Outcome {
    /// Whether the answer is reused, and not the one that a run has just brought.
    pub(crate) fn is_reuse(self) -> bool {
        !matches!(self, Self::Stored(_))
    }
}

/// What is told of an answer that has to do with the cache.
#[derive(Clone, Copy)]
pub(crate) struct Told<'a> {
    pub(crate) outcome: Outcome,
    /// The request's own key, where it is told.
    pub(crate) key: Option<&'a CacheKey>,
}

/// Writes the status fields; `headers` has none of that name. `ttl` is what is left of its lifetime, in seconds.
#[inline(always)] // every hit tells, and out of line that costs it more
pub(crate) fn tell(
    scope: &Scope,
    status: StatusCode,
    headers: &mut HeaderMap,
    told: Told<'_>,
    ttl: impl Fn() -> i64,
) {
    if let Some(field) = &scope.settings.status_field {
        let value = if told.outcome.is_reuse() { &field.hit } else { &field.miss };
        headers.append(field.name.clone(), value.clone());
    }
    if scope.settings.cache_status.is_some() {
        tell_cache_status(scope, status, headers, told, ttl());
    }
}

/// Writes the status fields of an answer that was just made and is stored, in place of any it came with.
pub(crate) fn tell_stored(scope: &Scope, status: StatusCode, headers: &mut HeaderMap, told: Told<'_>) {
    if let Some(field) = &scope.settings.status_field {
        headers.insert(field.name.clone(), field.miss.clone());
    }
    if scope.settings.cache_status.is_some() {
        tell_cache_status(scope, status, headers, told, 0);
    }
}

fn tell_cache_status(scope: &Scope, status: StatusCode, headers: &mut HeaderMap, told: Told<'_>, ttl: i64) {
    let text = match told.outcome {
        Outcome::Hit => format!("hit; ttl={ttl}"),
        Outcome::Collapsed(why) => format!("fwd={}; collapsed; ttl={ttl}", why.name()),
        Outcome::StandIn(forwarded) => {
            format!("{}; ttl={ttl}; detail=stale-on-failure", forward(forwarded, status))
        }
        Outcome::Stored(forwarded) => format!("{}; stored", forward(forwarded, status)),
    };
    append_cache_status(scope, headers, told.key, &text);
}

/// Writes `Cache-Status` for an answer that is neither from the cache nor stored in it, with the reason.
pub(crate) fn tell_passed(
    scope: &Scope,
    headers: &mut HeaderMap,
    key: Option<&CacheKey>,
    why: Forward,
    detail: &str,
) {
    if scope.settings.cache_status.is_some() {
        append_cache_status(scope, headers, key, &format!("fwd={}; detail={detail}", why.name()));
    }
}

/// The status that came back is told where the client gets another one (RFC 9211 section 2.3).
fn forward(forwarded: Forwarded, sent: StatusCode) -> String {
    let why = forwarded.why.name();
    if forwarded.status == sent {
        format!("fwd={why}")
    } else {
        format!("fwd={why}; fwd-status={}", forwarded.status.as_u16())
    }
}

fn append_cache_status(scope: &Scope, headers: &mut HeaderMap, key: Option<&CacheKey>, text: &str) {
    let Some(status) = &scope.settings.cache_status else { return };
    let key = match key.filter(|_| status.shows_key) {
        Some(key) => format!("; key=\"{}\"", key.short_name()),
        None => String::new(),
    };
    if let Ok(value) = HeaderValue::try_from(format!("{}; {text}{key}", status.name)) {
        headers.append(HeaderName::from_static("cache-status"), value);
    }
}

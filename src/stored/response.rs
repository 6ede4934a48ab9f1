//! A stored response: status, fields and body, ready to be sent again.

use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::web::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::stored::lines::Lines;
use crate::stored::weight::{COUNTERS, allocated};

/// A whole response as it is kept; never changed once stored.
///
/// ```
/// use actix_fast_cache::StoredResponse;
/// use actix_web::http::{StatusCode, header};
///
/// let response = StoredResponse::new(StatusCode::OK, "hello")
///     .with_header(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));
/// assert_eq!(response.header("content-type").unwrap(), "text/plain");
/// assert_eq!(response.body(), "hello");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct StoredResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: Lines,
    pub(crate) body: Bytes,
    pub(crate) freshness: PackedFreshness,
}

/// What is known of a stored response's age and of who may be served with it; all read once, when it was stored.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Freshness {
    /// When the response was received (RFC 9111 section 4.2.3, `response_time`).
    pub(crate) received: Timestamp,
    /// Its age at that time (`corrected_initial_age`).
    pub(crate) initial_age: Duration,
    /// How long it is fresh, counted from age zero (RFC 9111 section 4.2.1).
    pub(crate) lifetime: Duration,
    /// How long after that it may be served while it is refreshed, and when a refresh fails (RFC 5861).
    pub(crate) while_revalidate: Duration,
    pub(crate) if_error: Duration,
    /// Never to be served stale (`must-revalidate`, `proxy-revalidate`, `s-maxage`).
    pub(crate) must_revalidate: bool,
    /// Marked as for everyone, requests with `Authorization` included (RFC 9111 section 3.5).
    pub(crate) for_authorized: bool,
    /// Marked as for everyone, requests with `Cookie` included.
    pub(crate) for_cookies: bool,
    /// Milliseconds from the request to the answer.
    pub(crate) took_ms: u32,
    /// `Last-Modified`, parsed.
    pub(crate) last_modified: Option<i64>,
}

/// [`Freshness`] as it is kept, in two thirds of the room: its spans are shorter than a century.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct PackedFreshness {
    received: Timestamp,
    initial_age: Span,
    lifetime: Span,
    while_revalidate: Span,
    if_error: Span,
    took_ms: u32,
    pub(crate) must_revalidate: bool,
    pub(crate) for_authorized: bool,
    pub(crate) for_cookies: bool,
    pub(crate) last_modified: Option<i64>,
}

/// Seconds and nanoseconds.
#[derive(Clone, Copy, PartialEq)]
struct Span(u32, u32);

impl Span {
    fn of(span: Duration) -> Self {
        u32::try_from(span.as_secs()).map_or(Self(u32::MAX, 0), |seconds| Self(seconds, span.subsec_nanos()))
    }

    #[inline]
    fn get(self) -> Duration {
        Duration::new(u64::from(self.0), self.1)
    }
}

impl PackedFreshness {
    #[inline]
    pub(crate) fn initial_age(&self) -> Duration {
        self.initial_age.get()
    }

    #[inline]
    pub(crate) fn lifetime(&self) -> Duration {
        self.lifetime.get()
    }

    /// All of it. A hit needs little, and asks for that.
    pub(crate) fn get(&self) -> Freshness {
        Freshness {
            received: self.received,
            initial_age: self.initial_age.get(),
            lifetime: self.lifetime.get(),
            while_revalidate: self.while_revalidate.get(),
            if_error: self.if_error.get(),
            must_revalidate: self.must_revalidate,
            for_authorized: self.for_authorized,
            for_cookies: self.for_cookies,
            took_ms: self.took_ms,
            last_modified: self.last_modified,
        }
    }
}

impl From<Freshness> for PackedFreshness {
    fn from(known: Freshness) -> Self {
        Self {
            received: known.received,
            initial_age: Span::of(known.initial_age),
            lifetime: Span::of(known.lifetime),
            while_revalidate: Span::of(known.while_revalidate),
            if_error: Span::of(known.if_error),
            took_ms: known.took_ms,
            must_revalidate: known.must_revalidate,
            for_authorized: known.for_authorized,
            for_cookies: known.for_cookies,
            last_modified: known.last_modified,
        }
    }
}

impl Default for PackedFreshness {
    fn default() -> Self {
        Freshness::default().into()
    }
}

impl fmt::Debug for PackedFreshness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl StoredResponse {
    /// A response to be stored by hand, without fields.
    #[must_use]
    pub fn new(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self { status, headers: Vec::new().into(), body: body.into(), freshness: PackedFreshness::default() }
    }

    /// Adds a field line after those that are there.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.edit().push((name, value));
        self
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The fields, repeats included, in the order they are sent.
    pub fn headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.headers.iter()
    }

    /// The same response in buffers of its own.
    pub(crate) fn copy(&self) -> Self {
        let lines = self.headers().map(|(name, value)| (name.clone(), value.clone())).collect();
        let (headers, body) = Lines::pack(lines, std::slice::from_ref(&self.body));
        Self { headers, body, ..*self }
    }

    /// The first value of a field; `name` in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&HeaderValue> {
        self.headers().find(|(known, _)| known.as_str() == name).map(|(_, value)| value)
    }

    /// The body, whole.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// As [`header`](Self::header), by a name that need not be compared letter by letter.
    pub(crate) fn field(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.headers().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    pub(crate) fn etag(&self) -> Option<&[u8]> {
        self.field(&header::ETAG).map(HeaderValue::as_bytes)
    }

    /// `current_age` of RFC 9111 section 4.2.3.
    pub(crate) fn age(&self, now: Timestamp) -> Duration {
        self.freshness.initial_age().saturating_add(now.since(self.freshness.received))
    }

    /// Bytes this response occupies.
    pub(crate) fn weight(&self) -> usize {
        /// What `Bytes` counts its references in.
        const SHARED: usize = 3 * size_of::<usize>();
        let buffer = self.headers.own_len() + self.body.len();
        allocated(COUNTERS + size_of::<Self>())
            + self.headers.weight()
            + allocated(buffer)
            + allocated(SHARED)
    }
}

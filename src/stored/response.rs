//! A stored response: status, fields and body, ready to be sent again.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::web::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

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
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Bytes,
    pub(crate) freshness: Freshness,
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

impl StoredResponse {
    /// A response to be stored by hand, without fields.
    #[must_use]
    pub fn new(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), freshness: Freshness::default() }
    }

    /// Adds a field line after those that are there.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The fields, repeats included, in the order they are sent.
    pub fn headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.headers.iter().map(|(name, value)| (name, value))
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
        self.freshness.initial_age.saturating_add(now.since(self.freshness.received))
    }

    /// Bytes this response occupies, its share of the allocator's overhead included.
    pub(crate) fn weight(&self) -> usize {
        let line = size_of::<(HeaderName, HeaderValue)>();
        let fields: usize =
            self.headers.iter().map(|(name, value)| line + name.as_str().len() + value.len()).sum();
        size_of::<Self>() + fields + self.body.len()
    }
}

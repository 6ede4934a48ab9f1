//! Why the cache did what it did: reasons as values, each with its name and its cure.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why a request did not use the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BypassReason {
    /// The method is not cacheable here.
    Method,
    /// The request asks to leave HTTP (`Upgrade`, `CONNECT`).
    Upgrade,
    /// A `GET` or `HEAD` has a body, or a body that belongs in the key broke off.
    RequestBody,
    /// The request's body is longer than the limit for bodies in keys.
    RequestBodyTooLarge,
    /// The request has `Authorization`, and no entry marked for everyone was found (RFC 9111 section 3.5).
    Authorization,
    /// The request has `Cookie`, and no entry marked for everyone was found.
    Cookie,
    /// The request asks an application to see another URL or method than it names (`X-Original-URL`, `X-HTTP-Method-Override`).
    OverrideField,
    /// The scope's skip predicate said so.
    Skipped,
    /// The scope's key builder gave no key, or an empty one.
    KeyRefused,
    /// The key would be longer than 16 KiB.
    KeyTooLong,
    /// The typed query does not parse.
    QueryRefused,
    /// An outer layer with the same cache is at work on this request already.
    Nested,
    /// The request is conditional or asks for a range, and the last answer for its key could not be stored.
    Uncacheable,
    /// The client said `no-store`, and this scope obeys (RFC 9111 section 5.2.1.5).
    ClientNoStore,
}

/// Why an answer was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotStoredReason {
    /// The status code is not in the scope's set.
    Status,
    /// The handler failed: its answer comes from an `Err`.
    HandlerError,
    /// The handler said so, through [`CacheControl::no_store`](crate::CacheControl::no_store).
    HandlerRefused,
    /// `Cache-Control: no-store` (RFC 9111 section 5.2.2.5).
    NoStore,
    /// `Cache-Control: private` (RFC 9111 section 5.2.2.7).
    Private,
    /// The answer is stale when it comes: zero lifetime, `Expires` in the past, or all of it used up by `Age`.
    ZeroLifetime,
    /// The answer says nothing of its lifetime, and the scope takes only those that do.
    NoLifetime,
    /// `Vary: *`.
    VaryAny,
    /// `Vary` names more than eight fields, or one that is too long to key.
    VaryTooMuch,
    /// `Vary: Cookie` or `Vary: Authorization` without an opt-in.
    VaryPersonal,
    /// The answer sets a cookie.
    SetCookie,
    /// The request had `Authorization`, and the answer is not marked for everyone (RFC 9111 section 3.5).
    Authorization,
    /// The request had `Cookie`, and the answer is not marked for everyone.
    Cookie,
    /// The body is longer than the scope's limit.
    BodyTooLarge,
    /// The fields are more than 128, or longer than 32 KiB.
    HeadersTooLarge,
    /// The tags are more than 128, or one is empty, longer than 256 bytes or not printable.
    BadTags,
    /// An event stream: it never ends.
    EventStream,
    /// A content security policy with a nonce: the page is for one client.
    Nonce,
    /// A `HEAD` answer is never stored for `GET`.
    Head,
    /// The scope's store predicate said so.
    StorePredicate,
    /// The handler confirmed an answer with another `ETag` than the stored one has (RFC 9111 section 4.3.4).
    OtherValidator,
    /// A cache inside this one answered from its store; what the handler said of the answer is known there alone.
    Reused,
}

/// Why a handler runs, as told by [`CacheControl::reason`](crate::CacheControl::reason).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FillReason {
    /// Nothing usable was stored.
    Miss,
    /// A stored response is stale, and this run replaces or validates it.
    Refresh,
    /// The request does not use the cache.
    Bypass(BypassReason),
    /// No cache is around the handler; its [`CacheControl`](crate::CacheControl) comes from the app data.
    Unwrapped,
}

impl BypassReason {
    /// A short name, as in `Cache-Status; detail=`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Upgrade => "upgrade",
            Self::RequestBody => "request-body",
            Self::RequestBodyTooLarge => "request-body-too-large",
            Self::Authorization => "authorization",
            Self::Cookie => "cookie",
            Self::OverrideField => "override-field",
            Self::Skipped => "skipped",
            Self::KeyRefused => "key-refused",
            Self::KeyTooLong => "key-too-long",
            Self::QueryRefused => "query-refused",
            Self::Nested => "nested",
            Self::Uncacheable => "uncacheable",
            Self::ClientNoStore => "client-no-store",
        }
    }

    /// What changes it.
    #[must_use]
    pub fn cure(self) -> &'static str {
        match self {
            Self::Method => "name the method in CacheConfigBuilder::methods",
            Self::Upgrade => "nothing: upgraded connections are not cached",
            Self::RequestBody => {
                "send no body with GET; ask by a method that is named in CacheConfigBuilder::methods, as POST or QUERY"
            }
            Self::RequestBodyTooLarge => "raise CacheConfigBuilder::request_body_limit",
            Self::Authorization => {
                "mark the answer `public`, or set CacheConfigBuilder::key_by_authorization or ::principal"
            }
            Self::Cookie => "mark the answer `public`, or set CacheConfigBuilder::cookies",
            Self::OverrideField => "nothing: such requests could be answered for another URL or method",
            Self::Skipped => "change CacheConfigBuilder::skip",
            Self::KeyRefused => {
                "let the key builder return a key that is not empty; path parameters are known around a resource, not \
                 around a scope"
            }
            Self::KeyTooLong => "key less: CacheConfigBuilder::query, ::vary",
            Self::QueryRefused => "the query does not fit the type in CacheConfigBuilder::query",
            Self::Nested => {
                "wrap once: each request is kept by one layer of a cache, the outermost around it"
            }
            Self::Uncacheable => "make the answer storable: why it was not is told beside",
            Self::ClientNoStore => "drop CacheConfigBuilder::obey_client",
        }
    }
}

impl NotStoredReason {
    /// A short name, as in `Cache-Status; detail=`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::HandlerError => "handler-error",
            Self::HandlerRefused => "handler-refused",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::ZeroLifetime => "zero-lifetime",
            Self::NoLifetime => "no-lifetime",
            Self::VaryAny => "vary-any",
            Self::VaryTooMuch => "vary-too-much",
            Self::VaryPersonal => "vary-personal",
            Self::SetCookie => "set-cookie",
            Self::Authorization => "authorization",
            Self::Cookie => "cookie",
            Self::BodyTooLarge => "body-too-large",
            Self::HeadersTooLarge => "headers-too-large",
            Self::BadTags => "bad-tags",
            Self::EventStream => "event-stream",
            Self::Nonce => "nonce",
            Self::Head => "head",
            Self::StorePredicate => "store-predicate",
            Self::OtherValidator => "other-validator",
            Self::Reused => "reused",
        }
    }

    /// What changes it.
    #[must_use]
    pub fn cure(self) -> &'static str {
        match self {
            Self::Status => "name the status in CacheConfigBuilder::statuses or ::status_ttl",
            Self::HandlerError => "nothing: errors are not stored; return the answer as Ok to store it",
            Self::HandlerRefused => "drop the handler's CacheControl::no_store",
            Self::NoStore | Self::Private => "drop the directive, or set CacheControl::ttl in the handler",
            Self::ZeroLifetime => "give a longer max-age, CacheControl::ttl or CacheConfigBuilder::ttl",
            Self::NoLifetime => "give max-age or CacheControl::ttl, or set CacheConfigBuilder::ttl",
            Self::VaryAny => "name the fields in Vary",
            Self::VaryTooMuch => "vary on at most eight fields of modest length",
            Self::VaryPersonal => "set CacheConfigBuilder::cookies or ::key_by_authorization",
            Self::SetCookie => "set CacheConfigBuilder::set_cookie",
            Self::Authorization => {
                "mark the answer `public`, or set CacheConfigBuilder::key_by_authorization or ::principal"
            }
            Self::Cookie => "mark the answer `public`, or set CacheConfigBuilder::cookies",
            Self::BodyTooLarge => "raise CacheConfigBuilder::body_limit",
            Self::HeadersTooLarge => "send fewer fields",
            Self::BadTags => "give at most 128 printable tags of 1 to 256 bytes",
            Self::EventStream => "nothing: event streams are passed on",
            Self::Nonce => "drop the nonce, or cache the page without the policy",
            Self::Head => "nothing: the next GET is stored, and HEAD is answered from it",
            Self::StorePredicate => "change CacheConfigBuilder::store_if",
            Self::OtherValidator => "answer 304 with the ETag that was asked for, or with none",
            Self::Reused => "nothing: the inner cache keeps it; wrap once to have one cache",
        }
    }
}

impl fmt::Display for BypassReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for NotStoredReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What was said in a scope already: the first of each reason is logged, the rest is silence.
#[derive(Default)]
pub(crate) struct Said {
    bypass: AtomicU64,
    not_stored: AtomicU64,
}

impl Said {
    pub(crate) fn bypass(&self, reason: BypassReason, scope: &[String]) {
        if first(&self.bypass, reason as u32) {
            tracing::info!(
                "cache scope {scope:?}: a request bypassed the cache: {reason}; to change it: {}",
                reason.cure()
            );
        }
    }

    pub(crate) fn not_stored(&self, reason: NotStoredReason, scope: &[String]) {
        if first(&self.not_stored, reason as u32) {
            tracing::info!(
                "cache scope {scope:?}: an answer was not stored: {reason}; to change it: {}",
                reason.cure()
            );
        }
    }
}

fn first(said: &AtomicU64, reason: u32) -> bool {
    let bit = 1_u64 << (reason % 64);
    said.load(Relaxed) & bit == 0 && said.fetch_or(bit, Relaxed) & bit == 0
}

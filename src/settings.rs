//! What a scope decided; plain data behind [`CacheConfig`](crate::CacheConfig).

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::dev::{ResponseHead, ServiceRequest};
use actix_web::http::Method;
use actix_web::http::header::{HeaderName, HeaderValue};

use crate::checks::Check;
use crate::flight::Limits;
use crate::namespace::{Namespace, NamespacePolicy};
use crate::policy::rules::Rules;
use crate::query::QueryKey;

pub(crate) type KeyFn = Arc<dyn Fn(&ServiceRequest) -> Option<String> + Send + Sync>;
pub(crate) type TakeAlong = Arc<dyn Fn(&HttpRequest, &HttpRequest) + Send + Sync>;
pub(crate) type RequestPredicate = Arc<dyn Fn(&ServiceRequest) -> bool + Send + Sync>;
pub(crate) type ResponsePredicate = Arc<dyn Fn(&ResponseHead) -> bool + Send + Sync>;

/// What a request's cookies mean to the cache.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum CookiePolicy {
    /// A request with cookies is served only what is marked `public` or `s-maxage`; the default.
    #[default]
    Bypass,
    /// Cookies mean nothing. Only for handlers that do not look at them.
    Ignore,
    /// The named cookies mean nothing; a request with any other is treated as under [`Bypass`](Self::Bypass).
    IgnoreOnly(Vec<String>),
    /// The named cookies are part of the key, and the others mean nothing.
    KeyBy(Vec<String>),
}

/// Which host names are in the key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum HostPolicy {
    /// Scheme and authority as sent, and the forwarded scheme and host where a proxy names them; the default.
    #[default]
    AsSent,
    /// All hosts are this one. Only for handlers that write no host into their answers.
    Fixed(String),
    /// No host is in the key. Only for handlers that write no host into their answers.
    Ignore,
}

/// Whether an `ETag` is added where the handler gave none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum EtagMode {
    /// A weak tag made of the SHA-256 of the body; the default.
    #[default]
    Weak,
    /// The same as a strong tag. Only where no layer outside changes the bytes (Compress does).
    Strong,
    /// None.
    Off,
}

/// Whose cache directives are obeyed (`no-cache`, `no-store`, `max-age`, `min-fresh`, `max-stale`, `only-if-cached`).
#[derive(Clone, Default)]
pub(crate) enum ObeyClient {
    /// Nobody's: whoever forces a miss forces load.
    #[default]
    Never,
    Always,
    When(RequestPredicate),
}

#[derive(Clone)]
pub(crate) enum KeyRule {
    Url,
    /// The text stands for the URL; method, fields and all else stay.
    Name(KeyFn),
    /// The text is the whole key.
    Whole(KeyFn),
}

/// The field that says hit or miss.
#[derive(Debug, Clone)]
pub(crate) struct StatusField {
    pub(crate) name: HeaderName,
    pub(crate) hit: HeaderValue,
    pub(crate) miss: HeaderValue,
}

/// The member of `Cache-Status` (RFC 9211) that this cache writes.
#[derive(Debug, Clone)]
pub(crate) struct CacheStatus {
    pub(crate) name: String,
    pub(crate) shows_key: bool,
}

#[derive(Clone)]
pub(crate) struct Coalescing {
    /// How long a follower waits; `None` where fills are not coalesced.
    pub(crate) wait: Option<Duration>,
    pub(crate) limits: Limits,
    /// How long an uncacheable verdict is remembered.
    pub(crate) uncacheable_for: Duration,
}

#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) namespace: Namespace,
    pub(crate) namespace_policy: NamespacePolicy,
    pub(crate) rules: Rules,
    pub(crate) jitter: f64,
    /// Methods cacheable beside GET and HEAD.
    pub(crate) methods: Vec<Method>,
    pub(crate) request_body_limit: usize,
    pub(crate) query: QueryKey,
    /// Request fields that are part of every key, and of every `Vary`.
    pub(crate) vary: Vec<HeaderName>,
    /// Whether selecting fields are compared in their normal form.
    pub(crate) normalised: bool,
    pub(crate) cookies: CookiePolicy,
    pub(crate) host: HostPolicy,
    pub(crate) key: KeyRule,
    pub(crate) key_part: Option<KeyFn>,
    pub(crate) principal: Option<KeyFn>,
    pub(crate) checks: Vec<Arc<dyn Check>>,
    pub(crate) skip: Option<RequestPredicate>,
    pub(crate) store_if: Option<ResponsePredicate>,
    pub(crate) etag: EtagMode,
    pub(crate) status_field: Option<StatusField>,
    pub(crate) cache_status: Option<CacheStatus>,
    pub(crate) obey_client: ObeyClient,
    /// Whether the first to find a stale answer in its window waits for its refresh.
    pub(crate) refresh_in_foreground: bool,
    /// What is copied from a request to the stand-in that layers outside see in its place.
    pub(crate) forwarded_data: Vec<TakeAlong>,
    pub(crate) coalescing: Coalescing,
}

//! What can be invalidated, as a value.

/// A thing to invalidate, for calls that take any, and for those that are queued until the handler has succeeded.
///
/// ```
/// use actix_fast_cache::{CacheControl, Invalidation};
/// use actix_web::{HttpResponse, Responder};
///
/// async fn rename(cache: CacheControl) -> impl Responder {
///     cache.invalidate_on_success(Invalidation::tag("product:7"));
///     HttpResponse::NoContent()
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Invalidation {
    /// All that is stored under a name of this scope's namespace.
    Key(String),
    /// All that carries a tag, in every scope of this configuration's root.
    Tag(String),
    /// All that is stored for a URL: in this scope's namespace, in every method, variant and scheme.
    Url(String),
    /// All that is in this scope's namespace, and in those inside it.
    Namespace,
    /// Everything in the storage.
    All,
}

impl Invalidation {
    /// A key, as [`CacheControl::set_key`](crate::CacheControl::set_key) or a key builder made it.
    pub fn key(key: impl Into<String>) -> Self {
        Self::Key(key.into())
    }

    /// A tag.
    pub fn tag(tag: impl Into<String>) -> Self {
        Self::Tag(tag.into())
    }

    /// A URL.
    pub fn url(url: impl Into<String>) -> Self {
        Self::Url(url.into())
    }
}

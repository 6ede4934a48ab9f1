//! The cache outside any request.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header;

use crate::engine::StorageTrouble;
use crate::fields::{add_etag, dated, merged_vary};
use crate::invalidation::Invalidation;
use crate::policy::date;
use crate::policy::reuse;
use crate::policy::rules::{Personal, ScopeTtl};
use crate::policy::tags::is_tag;
use crate::scope::Scope;
use crate::storage::error::StorageError;
use crate::stored::entry::{Content, Entry, EntryFences};
use crate::stored::lines::Lines;
use crate::stored::response::{Freshness, StoredResponse};

/// The operations of a scope, for background jobs and other threads: `Clone`, `Send` and `Sync`.
///
/// Keys are names in the scope's namespace, as key builders and [`CacheControl::set_key`](crate::CacheControl::set_key)
/// make them. Where a scope keys more than that (`vary`, `key_part`, a principal, cookies), `get` and `set` do not meet
/// what requests store, and `invalidate` drops it without counting it. Errors are the storage's: when an invalidation
/// fails, what should be gone may still be served.
///
/// ```
/// use actix_fast_cache::{CacheConfig, MemoryStorage, StoreOptions, StoredResponse};
/// use actix_web::http::StatusCode;
///
/// # #[actix_web::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = CacheConfig::builder(MemoryStorage::new()).namespace("shop").build()?;
/// let cache = config.handle();
///
/// let page = StoredResponse::new(StatusCode::OK, "seven");
/// cache.set("product:7", page, StoreOptions::new().tag("products")).await?;
/// assert_eq!(cache.get("product:7").await?.unwrap().body(), "seven");
///
/// cache.invalidate_tag("products").await?;
/// assert!(cache.get("product:7").await?.is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct CacheHandle {
    pub(crate) scope: Arc<Scope>,
}

/// How a response is stored by hand.
#[derive(Debug, Clone, Default)]
pub struct StoreOptions {
    ttl: Option<Duration>,
    tags: Vec<String>,
}

impl StoreOptions {
    /// For the scope's ttl, without tags.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// For this long, or the scope's [`max_ttl`](crate::CacheConfigBuilder::max_ttl) if that is less; zero stores nothing.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Under this tag too.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }
}

impl CacheHandle {
    /// The fresh response stored under a key.
    ///
    /// # Errors
    /// If the storage fails or does not answer in time.
    pub async fn get(&self, key: &str) -> Result<Option<StoredResponse>, StorageError> {
        let engine = &self.scope.engine;
        let entry = engine.look_up(&self.scope.named_key(key)).await?.entry;
        let stored = entry.as_deref().and_then(Entry::response);
        let (rules, now) = (&self.scope.settings.rules, engine.clock.at());
        let is_fresh = |stored: &&Arc<StoredResponse>| {
            reuse::judge(stored, rules, Personal::default(), None, now).is_fresh()
        };
        Ok(stored.filter(is_fresh).map(|stored| StoredResponse::clone(stored)))
    }

    /// Stores a response under a key, in place of what was there.
    ///
    /// Whoever stores by hand vouches for it: the response's own cache directives are not judged.
    ///
    /// # Errors
    /// If a tag is empty, longer than 256 bytes or has control characters; if the storage fails.
    pub async fn set(
        &self,
        key: &str,
        mut response: StoredResponse,
        options: StoreOptions,
    ) -> Result<(), StorageError> {
        if let Some(tag) = options.tags.iter().find(|tag| !is_tag(tag)) {
            return Err(StorageError::new(format!(
                "not a tag: {tag:?}; use 1 to 256 bytes without control characters"
            )));
        }
        let (engine, settings) = (&self.scope.engine, &self.scope.settings);
        let key = self.scope.named_key(key);
        let stamp = engine.look_up(&key).await?.stamp;
        let now = engine.clock.now();
        let ttl = options.ttl.unwrap_or(match settings.rules.ttl {
            ScopeTtl::Fallback(ttl) | ScopeTtl::Override(ttl) => ttl,
            ScopeTtl::ExplicitOnly | ScopeTtl::Heuristic => Duration::ZERO,
        });
        let lifetime = ttl.min(settings.rules.max_ttl);
        if lifetime.is_zero() {
            return Ok(());
        }
        complete_fields(&mut response, &self.scope, now.unix);
        let modified = response.field(&header::LAST_MODIFIED);
        response.freshness = Freshness {
            received: now.at,
            lifetime,
            while_revalidate: settings.rules.while_revalidate,
            if_error: settings.rules.if_error,
            last_modified: modified.and_then(|value| date::parse(value.as_bytes(), now.unix)),
            ..Freshness::default()
        }
        .into();
        let tags = options.tags.iter().map(|tag| settings.namespace.tag_fence(tag)).collect();
        let rules = &settings.rules;
        let windows = rules.while_revalidate.max(rules.if_error).max(rules.if_unreachable);
        engine
            .put(Arc::new(Entry {
                key,
                stamp,
                began: now.at,
                fences: EntryFences::beyond(tags),
                keep_until: now.at.plus(lifetime.saturating_add(windows)),
                content: Content::Response(Arc::new(response)),
            }))
            .await
    }

    /// Drops all that is stored under a key, in all methods and variants.
    ///
    /// When it returns, nothing that was computed before is served or stored any more, on any worker. Tells how
    /// many responses it found there: those of a plain GET and its variants.
    ///
    /// # Errors
    /// If the storage fails or does not answer in time: then the data may still be served.
    pub async fn invalidate(&self, key: &str) -> Result<u64, StorageError> {
        self.scope.invalidate_name(key).await
    }

    /// Drops all that carries a tag, in every scope of this configuration's root. Costs the same whatever it drops.
    ///
    /// # Errors
    /// As [`invalidate`](Self::invalidate).
    pub async fn invalidate_tag(&self, tag: impl Into<String>) -> Result<(), StorageError> {
        self.scope.invalidate_tags(&[tag.into()]).await
    }

    /// Drops all that carries any of these tags.
    ///
    /// # Errors
    /// As [`invalidate`](Self::invalidate).
    pub async fn invalidate_tags<T: Into<String>>(
        &self,
        tags: impl IntoIterator<Item = T>,
    ) -> Result<(), StorageError> {
        let tags: Vec<String> = tags.into_iter().map(Into::into).collect();
        self.scope.invalidate_tags(&tags).await
    }

    /// Drops all that is stored for a URL with its host, as in `http://shop.example/products?page=2`, in this
    /// scope's namespace; tells how many plain GET responses and variants of them it found.
    ///
    /// The host is the one the application is asked for (`Host`), not one that a proxy forwards.
    ///
    /// # Errors
    /// If this is no URL, or names no host where hosts are in the key; as [`invalidate`](Self::invalidate).
    pub async fn invalidate_url(&self, url: &str) -> Result<u64, StorageError> {
        self.scope.invalidate_url(url, None).await
    }

    /// Drops all that is in this scope's namespace, and in those inside it.
    ///
    /// # Errors
    /// As [`invalidate`](Self::invalidate).
    pub async fn invalidate_namespace(&self) -> Result<(), StorageError> {
        self.scope.invalidate_namespace().await
    }

    /// Drops everything in the storage, other namespaces included.
    ///
    /// # Errors
    /// As [`invalidate`](Self::invalidate).
    pub async fn clear(&self) -> Result<(), StorageError> {
        self.scope.clear().await
    }

    /// Drops what a value names.
    ///
    /// # Errors
    /// As the call for that kind.
    pub async fn apply(&self, invalidation: &Invalidation) -> Result<(), StorageError> {
        self.apply_at(invalidation, None).await
    }

    pub(crate) async fn apply_at(
        &self,
        invalidation: &Invalidation,
        authority: Option<&[u8]>,
    ) -> Result<(), StorageError> {
        match invalidation {
            Invalidation::Key(key) => self.scope.invalidate_name(key).await.map(drop),
            Invalidation::Tag(tag) => self.scope.invalidate_tags(std::slice::from_ref(tag)).await,
            Invalidation::Url(url) => self.scope.invalidate_url(url, authority).await.map(drop),
            Invalidation::Namespace => self.invalidate_namespace().await,
            Invalidation::All => self.clear().await,
        }
    }

    /// Waits until everything that is being stored behind the answers is written, or given up.
    ///
    /// Call it before the server stops: a worker that stops drops what it has yet to write, and that is no more than an
    /// entry less. A storage in memory writes at once, and has nothing to wait for.
    pub async fn flush(&self) {
        self.scope.engine.flush().await;
    }

    /// What the storage could not be asked since the start, by kind.
    #[must_use]
    pub fn storage_trouble(&self) -> StorageTrouble {
        self.scope.engine.trouble()
    }

    /// Fills under way, over all workers.
    #[must_use]
    pub fn fills_under_way(&self) -> usize {
        self.scope.engine.flights.len()
    }
}

/// For invalidations whose caller is not there to hear of it.
pub(crate) fn tell_failure(invalidation: Result<(), StorageError>) {
    if let Err(error) = invalidation {
        tracing::error!(%error, "an invalidation failed: old data may still be served");
    }
}

/// A body of up to this size is copied: it may be a slice of a large buffer, and kept, it would keep it all.
const COPIED: usize = 64 << 10;

/// Gives a response stored by hand what a filled one has: a date, a validator, the scope's `Vary`.
fn complete_fields(response: &mut StoredResponse, scope: &Scope, now: i64) {
    if response.field(&header::DATE).is_none() {
        response.headers.edit().extend(dated(now));
    }
    if let Some(field) = &scope.settings.status_field {
        response.headers.edit().retain(|(name, _)| *name != field.name);
    }
    response.headers.edit().extend(merged_vary(&[], scope.settings.vary.iter()));
    let body = [response.body.clone()];
    add_etag(response, &body, scope.settings.etag);
    let lines = std::mem::take(response.headers.edit());
    if response.body.len() <= COPIED {
        (response.headers, response.body) = Lines::pack(lines, &body);
    } else {
        response.headers = Lines::pack(lines, &[]).0;
    }
}

impl fmt::Debug for CacheHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheHandle").field("namespace", &self.scope.settings.namespace.parts()).finish()
    }
}

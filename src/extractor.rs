//! The handler's voice in the cache.

use std::fmt;
use std::future::{Ready, ready};
use std::ops::Deref;
use std::rc::Rc;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, HttpResponse, ResponseError, web};

use crate::config::CacheConfig;
use crate::exchange::slot::Slot;
use crate::handle::{CacheHandle, tell_failure};
use crate::invalidation::Invalidation;
use crate::request::sent_authority;
use crate::status::FillReason;
use crate::storage::error::StorageError;

/// An extractor that lets a handler say what becomes of its answer, and drop what it made wrong.
///
/// It speaks to the innermost cache around the handler. Outside any, it is found in the app data, where a
/// [`CacheConfig`] was put with `app_data(config)`: then it cannot say anything about the answer, and all other
/// calls work. All calls of [`CacheHandle`] are calls of this type.
///
/// ```
/// use actix_fast_cache::CacheControl;
/// use actix_web::{Responder, web::Path};
/// use std::time::Duration;
///
/// async fn show(id: Path<u64>, cache: CacheControl) -> impl Responder {
///     cache.tag(format!("product:{id}"));
///     cache.ttl(Duration::from_secs(300));
///     format!("product {id}")
/// }
///
/// async fn rename(id: Path<u64>, cache: CacheControl) -> actix_web::Result<impl Responder> {
///     // ... write to the database, then:
///     cache.invalidate_tag(format!("product:{id}")).await?;
///     Ok("renamed")
/// }
/// ```
pub struct CacheControl {
    slot: Rc<Slot>,
    authority: Option<Vec<u8>>,
}

impl CacheControl {
    /// Why this handler runs.
    ///
    /// [`FillReason::Unwrapped`] where no cache is around it.
    #[must_use]
    pub fn reason(&self) -> FillReason {
        self.slot.reason
    }

    /// Stores this answer under a name of the scope, shared by all requests whose handlers choose it.
    ///
    /// It merges and never splits: a request still finds its answer by its own key first, so two requests with one
    /// key of their own cannot get different answers by this. Host, scheme and query are not in the name: where the
    /// answer shows them, put them in, for a client may pretend any host.
    pub fn set_key(&self, key: impl Into<String>) {
        self.slot.wishes.borrow_mut().key = Some(key.into()).filter(|key: &String| !key.is_empty());
    }

    /// Stores this answer for so long, whatever its own fields say; zero does not store it.
    pub fn ttl(&self, ttl: Duration) {
        self.slot.wishes.borrow_mut().ttl = Some(ttl);
    }

    /// Gives this answer a tag, by which it can be dropped together with all others that have it.
    ///
    /// At most 128 of 1 to 256 bytes without control characters; with others the answer is not stored.
    pub fn tag(&self, tag: impl Into<String>) {
        self.slot.wishes.borrow_mut().tags.push(tag.into());
    }

    /// Does not store this answer.
    pub fn no_store(&self) {
        self.slot.wishes.borrow_mut().no_store = true;
    }

    /// This answer depends on a request field, whether its `Vary` says so or not.
    pub fn vary(&self, name: impl Into<String>) {
        self.slot.wishes.borrow_mut().vary.push(name.into());
    }

    /// This answer may be served so long past its lifetime while it is refreshed (RFC 5861 section 3).
    pub fn stale_while_revalidate(&self, window: Duration) {
        self.slot.wishes.borrow_mut().while_revalidate = Some(window);
    }

    /// This answer may be served so long past its lifetime when a refresh fails (RFC 5861 section 4).
    pub fn stale_if_error(&self, window: Duration) {
        self.slot.wishes.borrow_mut().if_error = Some(window);
    }

    /// Drops something once this handler has succeeded, with a status of 2xx or 3xx; else not.
    ///
    /// It happens before the answer leaves. Outside any layer nobody can tell whether the handler succeeds: there it
    /// happens at once, in the background.
    pub fn invalidate_on_success(&self, invalidation: Invalidation) {
        if self.slot.reason == FillReason::Unwrapped {
            let (handle, authority) = (self.slot.handle.clone(), self.authority.clone());
            actix_web::rt::spawn(async move {
                tell_failure(handle.apply_at(&invalidation, authority.as_deref()).await);
            });
        } else {
            self.slot.queued.borrow_mut().push(invalidation);
        }
    }

    /// Drops all that is stored for a URL, with its host or on this request's, as in `/products?page=2`; tells how
    /// many plain GET responses and variants of them it found.
    ///
    /// # Errors
    /// If this is no URL; if the storage fails, and then the data may still be served.
    pub async fn invalidate_url(&self, url: &str) -> Result<u64, StorageError> {
        self.slot.handle.scope.invalidate_url(url, self.authority.as_deref()).await
    }

    /// The same cache for background jobs and other threads.
    #[must_use]
    pub fn handle(&self) -> CacheHandle {
        self.slot.handle.clone()
    }
}

impl Deref for CacheControl {
    type Target = CacheHandle;

    fn deref(&self) -> &CacheHandle {
        &self.slot.handle
    }
}

impl FromRequest for CacheControl {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        let slot = Slot::innermost(req).or_else(|| {
            let config = req
                .app_data::<CacheConfig>()
                .or_else(|| Some(req.app_data::<web::Data<CacheConfig>>()?.get_ref()));
            config.map(|config| Rc::new(Slot::new(config.handle(), FillReason::Unwrapped)))
        });
        ready(slot.ok_or_else(|| NoCache.into()).map(|slot| Self { slot, authority: sent_authority(req) }))
    }
}

/// The client learns nothing of how the application is wired; the advice is for the log.
#[derive(Debug)]
struct NoCache;

impl fmt::Display for NoCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("internal server error")
    }
}

impl ResponseError for NoCache {
    fn error_response(&self) -> HttpResponse {
        tracing::error!(
            "a handler takes CacheControl, and no cache is around it: wrap its scope with FastCache::new(config), \
             or give the app .app_data(config)"
        );
        HttpResponse::InternalServerError().body(self.to_string())
    }
}

impl fmt::Debug for CacheControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheControl").field("reason", &self.slot.reason).finish_non_exhaustive()
    }
}

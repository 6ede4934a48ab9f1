//! Setters: which requests use the cache, and who has a say in it.

use std::sync::Arc;

use actix_web::dev::ServiceRequest;
use actix_web::{Error, FromRequest};

use crate::builder::CacheConfigBuilder;
use crate::checks::{Guard, Required};
use crate::settings::ObeyClient;

/// Which requests use the cache, and who has a say in it.
impl CacheConfigBuilder {
    /// An extractor that must succeed before anything is looked up, hits included. Default: none.
    ///
    /// Where it fails, its error is the answer, and the cache is not touched.
    pub fn require<E: FromRequest + 'static>(mut self) -> Self {
        self.settings.checks.push(Arc::new(Required::<E>::new()));
        self
    }

    /// A closure that must succeed before anything is looked up, hits included. Default: none.
    ///
    /// Checks run in the order they were added. One that reads the body must put it back with `set_payload`.
    ///
    /// ```
    /// use actix_fast_cache::{CacheConfig, MemoryStorage};
    /// use actix_web::{dev::ServiceRequest, error::ErrorUnauthorized};
    ///
    /// let config = CacheConfig::builder(MemoryStorage::new())
    ///     .guard(async |req: &mut ServiceRequest| {
    ///         match req.headers().get("x-api-key") {
    ///             Some(key) if key == "secret" => Ok(()),
    ///             _ => Err(ErrorUnauthorized("an API key is needed")),
    ///         }
    ///     })
    ///     .build()?;
    /// # drop(config);
    /// # Ok::<(), actix_fast_cache::ConfigError>(())
    /// ```
    pub fn guard<F, E>(mut self, check: F) -> Self
    where
        F: AsyncFn(&mut ServiceRequest) -> Result<(), E> + Send + Sync + 'static,
        E: Into<Error> + 'static,
    {
        self.settings.checks.push(Arc::new(Guard(check)));
        self
    }

    /// Requests that bypass the cache. Default: none.
    pub fn skip(mut self, skip: impl Fn(&ServiceRequest) -> bool + Send + Sync + 'static) -> Self {
        self.settings.skip = Some(Arc::new(skip));
        self
    }

    /// Obeys the cache directives of every client (`no-cache`, `no-store`, `max-age`, `min-fresh`, `max-stale`,
    /// `only-if-cached`). Default: off, for whoever forces a miss forces load.
    pub fn obey_client(mut self) -> Self {
        self.settings.obey_client = ObeyClient::Always;
        self
    }

    /// Obeys the cache directives of the requests that this predicate trusts. Default: of none.
    pub fn obey_client_if(
        mut self,
        trusted: impl Fn(&ServiceRequest) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.settings.obey_client = ObeyClient::When(Arc::new(trusted));
        self
    }
}

//! A configuration: one value for all workers.

use std::fmt;
use std::sync::Arc;

use actix_web::http::StatusCode;

use crate::engine::Engine;
use crate::handle::CacheHandle;
use crate::scope::Scope;
use crate::settings::Settings;

/// What a cache does: one value for all workers, made once and cloned.
///
/// Children made by [`scoped`](Self::scoped) share its storage, its coalescing and its invalidation, under a
/// namespace of their own.
///
/// ```
/// use actix_fast_cache::{CacheConfig, MemoryStorage};
/// use std::time::Duration;
///
/// let cache = CacheConfig::builder(MemoryStorage::new())
///     .namespace("shop")
///     .ttl(Duration::from_secs(60))
///     .build()?;
/// let products = cache.scoped("products"); // the pair (shop, products)
/// let search = cache.scoped_builder("search").ttl(Duration::from_secs(5)).build()?;
/// # drop((products, search));
/// # Ok::<(), actix_fast_cache::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct CacheConfig {
    scope: Arc<Scope>,
}

impl CacheConfig {
    /// The same configuration in the namespace `name`: inside this one, or in its place, as the
    /// [`namespace_policy`](crate::CacheConfigBuilder::namespace_policy) says.
    #[must_use]
    pub fn scoped(&self, name: impl Into<String>) -> CacheConfig {
        let settings = self.child_settings(name.into());
        CacheConfig { scope: Arc::new(Scope::new(settings, Arc::clone(&self.scope.engine))) }
    }

    pub(crate) fn child_settings(&self, name: String) -> Settings {
        let mut settings = self.scope.settings.clone();
        settings.namespace = settings.namespace.child(name, settings.namespace_policy);
        settings
    }

    /// The operations of this scope, for use outside requests.
    #[must_use]
    pub fn handle(&self) -> CacheHandle {
        CacheHandle { scope: Arc::clone(&self.scope) }
    }

    /// The status codes whose answers are stored.
    pub fn accepted_statuses(&self) -> impl Iterator<Item = StatusCode> + '_ {
        self.scope.settings.rules.statuses.iter().map(|(status, _)| *status)
    }

    /// The parts of the namespace, the outermost first.
    #[must_use]
    pub fn namespace(&self) -> &[String] {
        self.scope.settings.namespace.parts()
    }

    pub(crate) fn of_scope(scope: Scope) -> Self {
        Self { scope: Arc::new(scope) }
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.scope.engine
    }

    pub(crate) fn into_scope(self) -> Arc<Scope> {
        self.scope
    }
}

impl fmt::Debug for CacheConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.scope.settings;
        f.debug_struct("CacheConfig")
            .field("namespace", &settings.namespace.parts())
            .field("rules", &settings.rules)
            .field("query", &settings.query)
            .field("cookies", &settings.cookies)
            .field("host", &settings.host)
            .finish_non_exhaustive()
    }
}

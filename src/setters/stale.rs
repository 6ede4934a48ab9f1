//! Setters: when stale answers serve, and how they are refreshed.

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpMessage;

use crate::builder::CacheConfigBuilder;

/// When stale answers serve, and how they are refreshed.
impl CacheConfigBuilder {
    /// How long a stale answer is served while it is refreshed behind it, where the answer does not say
    /// (RFC 5861 section 3). Default: zero, not at all.
    ///
    /// `must-revalidate`, `proxy-revalidate`, `s-maxage` and `no-cache` forbid it, as they forbid every stale answer
    /// (RFC 9111 section 4.2.4): `s-maxage=60, stale-while-revalidate=30` is never served stale, `max-age=60,
    /// stale-while-revalidate=30` is.
    ///
    /// One refresh runs for a key, and 64 at a time in all; after one that failed the next one waits 5 seconds.
    pub fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.settings.rules.while_revalidate = window;
        self
    }

    /// Refreshes answers behind a hit before they go stale, so that nobody waits for a new one: at random, the likelier
    /// the less of the lifetime is left, and the earlier the longer the run took that made it. With 1.0 the mean is one
    /// run's time ahead, with 2.0 two. Default: 0, off; up to 100.
    ///
    /// Answers that are rarely asked for go stale all the same.
    pub fn early_refresh(mut self, factor: f64) -> Self {
        if (0.0..=100.0).contains(&factor) {
            self.settings.rules.early_refresh = factor;
            self
        } else {
            self.refuse("early_refresh", factor, "give a factor from 0.0 to 100.0; 1.0 suits most")
        }
    }

    /// Lets the first request that finds a stale answer in its window wait for the new one, while all others get the stale
    /// one at once. Default: off, the refresh runs behind a stale answer to the first one too.
    ///
    /// With [`early_refresh`](Self::early_refresh) the first one waits before the answer is stale, too.
    ///
    /// For scopes whose outer layers rely on the data of the request after it was answered: behind an answer, the
    /// request itself is at work, and they see a stand-in for it.
    pub fn foreground_refresh(mut self) -> Self {
        self.settings.refresh_in_foreground = true;
        self
    }

    /// Gives the layers outside the cache this data of the request, which they or others put into its extensions, where
    /// a refresh behind a stale answer has taken the request itself. Default: none.
    ///
    /// ```
    /// use actix_fast_cache::{CacheConfig, MemoryStorage};
    ///
    /// #[derive(Clone)]
    /// struct RequestId(u64);
    ///
    /// let config = CacheConfig::builder(MemoryStorage::new()).forward_request_data::<RequestId>().build()?;
    /// # drop(config);
    /// # Ok::<(), actix_fast_cache::ConfigError>(())
    /// ```
    pub fn forward_request_data<T: Clone + 'static>(mut self) -> Self {
        self.settings.forwarded_data.push(Arc::new(|from, to| {
            let data = from.extensions().get::<T>().cloned();
            if let Some(data) = data {
                to.extensions_mut().insert(data);
            }
        }));
        self
    }

    /// How long a stale answer is served when a refresh fails, where the answer does not say (RFC 5861 section 4).
    /// Default: zero, not at all.
    pub fn stale_if_error(mut self, window: Duration) -> Self {
        self.settings.rules.if_error = window;
        self
    }

    /// How long a stale answer is served when what the handler asks cannot be reached: when it fails (by an `Err` or a
    /// `ResponseError`, not by an answer it was given) with 502, 503 or 504 (RFC 9111 section 4.2.4). Default: zero,
    /// not at all.
    ///
    /// Where the answer forbids it (`must-revalidate`, `proxy-revalidate`, `s-maxage`, `no-cache`), the client gets a 504 instead
    /// (section 5.2.2.2).
    pub fn stale_if_unreachable(mut self, window: Duration) -> Self {
        self.settings.rules.if_unreachable = window;
        self
    }
}

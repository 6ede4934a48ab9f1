//! The builder of a configuration, and all defaults.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};

use crate::clock::Clock;
use crate::config::CacheConfig;
use crate::config_error::ConfigError;
use crate::engine::Engine;
use crate::flight::Limits;
use crate::misplaced::warn_if_made_per_worker;
use crate::namespace::{Namespace, NamespacePolicy};
use crate::policy::rules::{Rules, ScopeTtl, SetCookiePolicy};
use crate::query::QueryKey;
use crate::scope::Scope;
use crate::settings::{
    Coalescing, CookiePolicy, EtagMode, HostPolicy, KeyRule, ObeyClient, Settings, StatusField,
};
use crate::storage::interface::Storage;

impl CacheConfig {
    /// Starts a configuration over a storage; every setting has a safe default.
    #[track_caller]
    pub fn builder(storage: impl Storage) -> CacheConfigBuilder {
        warn_if_made_per_worker(Location::caller());
        CacheConfigBuilder {
            source: Source::Storage(Box::new(|clock, deadline| {
                Arc::new(Engine::new(storage, clock, deadline))
            })),
            clock: Clock::system(),
            deadline: Duration::from_millis(50),
            settings: defaults(),
            refused: None,
        }
    }

    /// The same as a builder, to change more than the namespace.
    pub fn scoped_builder(&self, name: impl Into<String>) -> CacheConfigBuilder {
        CacheConfigBuilder {
            source: Source::Engine(Arc::clone(self.engine())),
            clock: self.engine().clock.clone(),
            deadline: Duration::ZERO,
            settings: self.child_settings(name.into()),
            refused: None,
        }
    }
}

/// Builds a [`CacheConfig`]; each setter states its default, which is the safe one.
///
/// A value that cannot be is told by [`build`](Self::build), with the setter's name and the cure.
#[must_use = "a builder does nothing until `build`"]
pub struct CacheConfigBuilder {
    source: Source,
    clock: Clock,
    deadline: Duration,
    pub(crate) settings: Settings,
    refused: Option<ConfigError>,
}

type MakeEngine = Box<dyn FnOnce(Clock, Duration) -> Arc<Engine>>;

enum Source {
    Storage(MakeEngine),
    /// A child: storage, clock and deadline are its parent's.
    Engine(Arc<Engine>),
}

impl CacheConfigBuilder {
    /// A general shared cache, as a proxy has one: all that RFC 9111 asks for and allows is done, where the defaults are
    /// more careful. Default: off.
    ///
    /// It is made of setters; those that are called after it have the last word on what they set:
    ///
    /// * [`obey_client`](Self::obey_client);
    /// * [`any_status`](Self::any_status), and [`methods`](Self::methods) with `QUERY` (RFC 10008);
    /// * [`heuristic_ttl`](Self::heuristic_ttl), and a [`max_ttl`](Self::max_ttl) of a year;
    /// * [`cookies`](Self::cookies) ignored, [`set_cookie`](Self::set_cookie) kept, no [`etag`](Self::etag) added;
    /// * [`normalize_vary`](Self::normalize_vary) and [`store_partial`](Self::store_partial);
    /// * [`stale_if_unreachable`](Self::stale_if_unreachable) for a day.
    ///
    /// And it takes answers at their word:
    ///
    /// * a targeted field decides alone (RFC 9213 section 2.2);
    /// * `no-cache`, and what has no lifetime but a validator, is stored and validated on every use (RFC 9111 section
    ///   5.2.2.4);
    /// * `no-cache` and `private` with field names keep back these fields only (5.2.2.4, 5.2.2.7);
    /// * `must-understand` lifts `no-store` (5.2.2.3);
    /// * an answer to `POST` that gives its lifetime and names its own URL in `Content-Location` is stored for `GET` (RFC
    ///   9110 section 9.3.3);
    /// * the answer to a `HEAD` freshens what it agrees with (RFC 9111 section 4.3.5);
    /// * the time that an answer took to come counts into its age (4.2.3).
    ///
    /// Not for an application that tells its users apart by cookies and does not say so in `Cache-Control`.
    ///
    /// ```
    /// use actix_fast_cache::{CacheConfig, MemoryStorage};
    ///
    /// let shared = CacheConfig::builder(MemoryStorage::new()).rfc9111().cache_status("edge").build()?;
    /// # drop(shared);
    /// # Ok::<(), actix_fast_cache::ConfigError>(())
    /// ```
    pub fn rfc9111(mut self) -> Self {
        let rules = &mut self.settings.rules;
        rules.to_the_letter = true;
        rules.max_ttl = Duration::from_secs(365 * 24 * 3600);
        self.obey_client()
            .any_status()
            .heuristic_ttl()
            .cookies(CookiePolicy::Ignore)
            .set_cookie(SetCookiePolicy::Keep)
            .etag(EtagMode::Off)
            .methods(Method::from_bytes(b"QUERY"))
            .normalize_vary()
            .store_partial()
            .stale_if_unreachable(Duration::from_secs(24 * 3600))
    }

    /// The namespace of all keys. Default: none.
    ///
    /// Called again, a further name inside the first. Tags belong to the namespace a configuration was built with, and
    /// are shared by all its children; in a child, a name is added or put in place as the policy says.
    pub fn namespace(mut self, name: impl Into<String>) -> Self {
        let namespace = &self.settings.namespace;
        self.settings.namespace = match self.source {
            Source::Storage(_) => Namespace::root([namespace.parts(), &[name.into()]].concat()),
            Source::Engine(_) => namespace.child(name.into(), self.settings.namespace_policy),
        };
        self
    }

    /// What [`CacheConfig::scoped`] does with its name. Default: [`NamespacePolicy::Concat`].
    pub fn namespace_policy(mut self, policy: NamespacePolicy) -> Self {
        self.settings.namespace_policy = policy;
        self
    }

    /// How long the storage has for each call; a late one is a miss. Default: 50 ms. A child has its parent's.
    ///
    /// After five reads in a row that failed or were late the storage is no longer read, and everything is a miss at once;
    /// after five such writes nothing is written to it, and what it holds is served on. One call of the kind each half
    /// second looks whether it is back. Invalidations are always tried, for their callers want to know.
    pub fn storage_deadline(mut self, deadline: Duration) -> Self {
        if matches!(self.source, Source::Engine(_)) {
            return self.refuse(
                "storage_deadline",
                format!("{deadline:?}"),
                "set it on the parent configuration",
            );
        }
        self.deadline = deadline;
        self
    }

    /// Where the time is read. Default: the system's clock. A child has its parent's.
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        if matches!(self.source, Source::Engine(_)) {
            return self.refuse("clock", "a clock", "set it on the parent configuration");
        }
        self.clock = clock.into();
        self
    }

    /// The configuration.
    ///
    /// # Errors
    /// The first setting that cannot be: its setter, its value, and the cure.
    pub fn build(self) -> Result<CacheConfig, ConfigError> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        let engine = match self.source {
            Source::Storage(make) => make(self.clock, self.deadline),
            Source::Engine(engine) => engine,
        };
        Ok(CacheConfig::of_scope(Scope::new(self.settings, engine)))
    }

    pub(crate) fn refuse(
        mut self,
        setter: &'static str,
        value: impl fmt::Display,
        cure: &'static str,
    ) -> Self {
        self.refused.get_or_insert(ConfigError { setter, value: value.to_string(), cure });
        self
    }
}

impl fmt::Debug for CacheConfigBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheConfigBuilder").field("rules", &self.settings.rules).finish_non_exhaustive()
    }
}

fn defaults() -> Settings {
    Settings {
        namespace: Namespace::root(Vec::new()),
        namespace_policy: NamespacePolicy::Concat,
        rules: Rules {
            ttl: ScopeTtl::Fallback(Duration::from_secs(60)),
            statuses: vec![(StatusCode::OK, None)],
            any_status: false,
            to_the_letter: false,
            partial: false,
            targets: vec![HeaderName::from_static("cdn-cache-control")],
            max_ttl: Duration::from_secs(24 * 3600),
            early_refresh: 0.0,
            while_revalidate: Duration::ZERO,
            if_error: Duration::ZERO,
            if_unreachable: Duration::ZERO,
            set_cookie: SetCookiePolicy::Refuse,
            body_limit: 1 << 20,
            vary_on_cookie: false,
            vary_on_authorization: false,
        },
        jitter: 0.0,
        methods: Vec::new(),
        request_body_limit: 64 << 10,
        query: QueryKey::all(),
        vary: Vec::new(),
        normalised: false,
        cookies: CookiePolicy::Bypass,
        host: HostPolicy::AsSent,
        key: KeyRule::Url,
        key_part: None,
        principal: None,
        checks: Vec::new(),
        skip: None,
        store_if: None,
        etag: EtagMode::Weak,
        status_field: Some(StatusField {
            name: HeaderName::from_static("x-cache"),
            hit: HeaderValue::from_static("HIT"),
            miss: HeaderValue::from_static("MISS"),
        }),
        cache_status: None,
        obey_client: ObeyClient::Never,
        refresh_in_foreground: false,
        forwarded_data: Vec::new(),
        coalescing: Coalescing {
            wait: Some(Duration::from_secs(5)),
            limits: Limits { leader: Duration::from_secs(30), followers: 16_384 },
            uncacheable_for: Duration::from_secs(10),
        },
    }
}

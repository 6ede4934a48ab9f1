//! The settings of a configuration, each with its default.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{ResponseHead, ServiceRequest};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{Error, FromRequest, HttpMessage};

use crate::checks::{Guard, Required};
use crate::clock::Clock;
use crate::config::CacheConfig;
use crate::config_error::ConfigError;
use crate::engine::Engine;
use crate::flight::Limits;
use crate::misplaced::warn_if_made_per_worker;
use crate::namespace::{Namespace, NamespacePolicy};
use crate::policy::rules::{Rules, ScopeTtl, SetCookiePolicy};
use crate::query::QueryKey;
use crate::request::authorization_digest;
use crate::scope::Scope;
use crate::settings::{
    CacheStatus, Coalescing, CookiePolicy, EtagMode, HostPolicy, KeyRule, ObeyClient, Settings, StatusField,
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
    settings: Settings,
    refused: Option<ConfigError>,
}

type MakeEngine = Box<dyn FnOnce(Clock, Duration) -> Arc<Engine>>;

enum Source {
    Storage(MakeEngine),
    /// A child: storage, clock and deadline are its parent's.
    Engine(Arc<Engine>),
}

impl CacheConfigBuilder {
    /// A general shared cache, as a proxy has one: all that RFC 9111 allows and asks for is done, where the defaults are
    /// more careful. Default: off.
    ///
    /// It obeys clients ([`obey_client`](Self::obey_client)), stores answers of [any status](Self::any_status) and to `QUERY`
    /// (RFC 10008), stores parts ([`store_partial`](Self::store_partial)), guesses
    /// lifetimes ([`heuristic_ttl`](Self::heuristic_ttl)) and has no limit of its own for them, takes cookies for
    /// nothing special, stores `Set-Cookie` with its answer, adds no `ETag`, compares selecting fields by what they say
    /// ([`normalize_vary`](Self::normalize_vary)), and serves stale answers for a day while
    /// the origin cannot be reached ([`stale_if_unreachable`](Self::stale_if_unreachable)). Setters called after it change each of these.
    ///
    /// And it takes answers at their word: a targeted field decides alone (RFC 9213 section 2.2); `no-cache`, and what
    /// has no lifetime but a validator, is stored and validated on every use; `no-cache` and `private` with field names
    /// keep back these fields only; `must-understand` lifts `no-store`.
    ///
    /// Not for an application that tells its users apart by cookies and does not say so in `Cache-Control`.
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

    /// How long answers are fresh that do not say so themselves. Default: 60 seconds; zero does not store them.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.settings.rules.ttl = ScopeTtl::Fallback(ttl);
        self
    }

    /// Stores only answers that say how long they are fresh (`Cache-Control`, `Expires`), or whose handler does.
    /// Default: off, others get the scope's [`ttl`](Self::ttl).
    pub fn explicit_only(mut self) -> Self {
        self.settings.rules.ttl = ScopeTtl::ExplicitOnly;
        self
    }

    /// Guesses how long answers are fresh that do not say so themselves: a tenth of the time since they were last
    /// changed (`Last-Modified`), and a day at the most (RFC 9111 section 4.2.2). Default: off, they get the scope's
    /// [`ttl`](Self::ttl).
    ///
    /// Only for the statuses that RFC 9110 section 15.1 lists, and for answers marked `public`; others, and those
    /// without `Last-Modified`, are not stored.
    pub fn heuristic_ttl(mut self) -> Self {
        self.settings.rules.ttl = ScopeTtl::Heuristic;
        self
    }

    /// How long answers are fresh, whatever lifetime they give. Default: off.
    ///
    /// `no-store` and `private` still keep an answer out, and [`CacheControl::ttl`](crate::CacheControl::ttl)
    /// still has the first word.
    pub fn ttl_override(mut self, ttl: Duration) -> Self {
        self.settings.rules.ttl = ScopeTtl::Override(ttl);
        self
    }

    /// The fields that speak to caches like this one (RFC 9213), the most specific first: the first that an answer has
    /// and that can be read takes the place of `Cache-Control` and `Expires` for its lifetime. Default:
    /// `CDN-Cache-Control`; with none, such fields mean nothing.
    ///
    /// `no-store`, `private`, `no-cache` and a lifetime of zero in `Cache-Control` still keep an answer out.
    pub fn targeted_fields<N: AsRef<str>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.settings.rules.targets.clear();
        for name in names {
            match HeaderName::try_from(name.as_ref()) {
                Ok(name) => self.settings.rules.targets.push(name),
                Err(_) => {
                    return self.refuse(
                        "targeted_fields",
                        name.as_ref(),
                        "name fields, as cdn-cache-control",
                    );
                }
            }
        }
        self
    }

    /// The longest time an answer is served without asking again, whatever it says. Default: one day.
    pub fn max_ttl(mut self, most: Duration) -> Self {
        self.settings.rules.max_ttl = most;
        self
    }

    /// Takes up to this fraction off each lifetime, so that entries stored together do not go stale together.
    /// Default: 0; from 0 to 0.9.
    pub fn jitter(mut self, fraction: f64) -> Self {
        if (0.0..=0.9).contains(&fraction) {
            self.settings.jitter = fraction;
            self
        } else {
            self.refuse("jitter", fraction, "give a fraction from 0.0 to 0.9")
        }
    }

    /// The status codes whose answers are stored, in place of those before. Default: 200.
    ///
    /// 1xx, 206 and 304 are refused: they are not whole answers.
    pub fn statuses(mut self, statuses: impl IntoIterator<Item = u16>) -> Self {
        self.settings.rules.statuses.clear();
        for status in statuses {
            self = self.accept("statuses", status, None);
        }
        self
    }

    /// Stores answers with this status code too, fresh for `ttl` unless they say so themselves. Default: none.
    pub fn status_ttl(self, status: u16, ttl: Duration) -> Self {
        self.accept("status_ttl", status, Some(ttl))
    }

    /// Stores answers with any other final status code too, where they say how long they are fresh. Default: off.
    ///
    /// Never 206, 304, 412 and 416, which answer the conditions and ranges of one request.
    pub fn any_status(mut self) -> Self {
        self.settings.rules.any_status = true;
        self
    }

    fn accept(mut self, setter: &'static str, status: u16, ttl: Option<Duration>) -> Self {
        match StatusCode::from_u16(status) {
            Ok(code) if !code.is_informational() && status != 206 && status != 304 => {
                let statuses = &mut self.settings.rules.statuses;
                statuses.retain(|(known, _)| *known != code);
                statuses.push((code, ttl));
                self
            }
            _ => {
                self.refuse(setter, status, "give a final status code from 200 to 999 other than 206 and 304")
            }
        }
    }

    /// Methods cacheable beside GET and HEAD, with a digest of the request body and its type in the key.
    /// Default: none.
    ///
    /// Only for methods whose handlers change nothing: an answer from the cache does not run them.
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        for method in methods {
            if matches!(method.as_str(), "CONNECT" | "TRACE" | "OPTIONS") {
                return self.refuse(
                    "methods",
                    method,
                    "name methods that ask for something, as POST or QUERY",
                );
            }
            self.settings.methods.push(method);
        }
        self
    }

    /// The longest request body that is read into a key, in bytes. Default: 64 KiB; longer ones bypass the cache.
    pub fn request_body_limit(mut self, bytes: usize) -> Self {
        self.settings.request_body_limit = bytes;
        self
    }

    /// Which query parameters are in the key. Default: [`QueryKey::all`].
    pub fn query(mut self, query: QueryKey) -> Self {
        self.settings.query = query;
        self
    }

    /// Request fields that are part of every key, and are added to the `Vary` of every answer that is stored. Default: none.
    ///
    /// Names are trimmed and lower-cased, blanks and repeats dropped.
    pub fn vary<N: AsRef<str>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.settings.vary.clear();
        for name in names {
            let name = name.as_ref().trim().to_ascii_lowercase();
            match HeaderName::try_from(name.as_str()) {
                _ if name.is_empty() => {}
                Ok(name) if name.as_str() != "*" => {
                    if !self.settings.vary.contains(&name) {
                        self.settings.vary.push(name);
                    }
                }
                _ => return self.refuse("vary", name, "name request fields, as accept-language"),
            }
        }
        self
    }

    /// Compares the request fields that select an answer by what they say and not by how it is written: lines are joined
    /// and whitespace around commas is dropped; `Accept-Language` is compared without regard to case and order, and
    /// an answer in the one language that a request wants most is found whatever list it was stored for (RFC 9111 section 4.1).
    /// Default: off, values are compared byte by byte.
    ///
    /// Not for handlers that prefer the first of several languages of equal weight.
    pub fn normalize_vary(mut self) -> Self {
        self.settings.normalised = true;
        self
    }

    /// What cookies of a request mean. Default: [`CookiePolicy::Bypass`].
    pub fn cookies(mut self, policy: CookiePolicy) -> Self {
        self.settings.rules.vary_on_cookie = policy != CookiePolicy::Bypass;
        self.settings.cookies = policy;
        self
    }

    /// Gives each principal entries of their own; requests for which `principal` finds one may carry
    /// `Authorization`. Default: none, such requests are served only what is marked for everyone.
    ///
    /// Cookies are judged on their own: see [`cookies`](Self::cookies).
    pub fn principal<F, K>(mut self, principal: F) -> Self
    where
        F: Fn(&ServiceRequest) -> K + Send + Sync + 'static,
        K: Into<Option<String>>,
    {
        self.settings.rules.vary_on_authorization = true;
        self.settings.principal = Some(Arc::new(move |req| principal(req).into()));
        self
    }

    /// Gives each value of `Authorization` entries of its own; only a digest of it is kept. Default: off.
    pub fn key_by_authorization(self) -> Self {
        self.principal(authorization_digest)
    }

    /// Which host names are in the key. Default: [`HostPolicy::AsSent`].
    pub fn host(mut self, policy: HostPolicy) -> Self {
        self.settings.host = policy;
        self
    }

    /// A name that stands for the URL in the key; method, fields and all else stay in it. Default: none.
    ///
    /// The same name, made elsewhere, invalidates: [`CacheHandle::invalidate`](crate::CacheHandle::invalidate). A request for which it is `None` or
    /// empty bypasses the cache. Requests that get one name get one answer: mind the host and the query.
    ///
    /// Path parameters are known where the route is: wrap the resource, for around a scope only the parameters of
    /// the scope's own path are there.
    ///
    /// ```
    /// use actix_fast_cache::{CacheConfig, MemoryStorage};
    ///
    /// let users = CacheConfig::builder(MemoryStorage::new())
    ///     .key_builder(|req| req.match_info().get("id").map(|id| format!("user:{id}")))
    ///     .build()?;
    /// # drop(users);
    /// # Ok::<(), actix_fast_cache::ConfigError>(())
    /// ```
    pub fn key_builder<F, K>(mut self, name: F) -> Self
    where
        F: Fn(&ServiceRequest) -> K + Send + Sync + 'static,
        K: Into<Option<String>>,
    {
        self.settings.key = KeyRule::Name(Arc::new(move |req| name(req).into()));
        self
    }

    /// A text that is the whole key inside the namespace: method, fields, cookies and principal are not in it.
    /// Default: none.
    pub fn replace_key<F, K>(mut self, key: F) -> Self
    where
        F: Fn(&ServiceRequest) -> K + Send + Sync + 'static,
        K: Into<Option<String>>,
    {
        self.settings.key = KeyRule::Whole(Arc::new(move |req| key(req).into()));
        self
    }

    /// A text added to the key, whatever else is in it: a tenant, a plan, an experiment. Default: none.
    ///
    /// A request for which it is `None` or empty bypasses the cache.
    pub fn key_part<F, K>(mut self, part: F) -> Self
    where
        F: Fn(&ServiceRequest) -> K + Send + Sync + 'static,
        K: Into<Option<String>>,
    {
        self.settings.key_part = Some(Arc::new(move |req| part(req).into()));
        self
    }

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

    /// Answers that may be stored, if nothing else forbids it. Default: all.
    pub fn store_if(mut self, store_if: impl Fn(&ResponseHead) -> bool + Send + Sync + 'static) -> Self {
        self.settings.store_if = Some(Arc::new(store_if));
        self
    }

    /// What becomes of an answer that sets a cookie. Default: [`SetCookiePolicy::Refuse`].
    pub fn set_cookie(mut self, policy: SetCookiePolicy) -> Self {
        self.settings.rules.set_cookie = policy;
        self
    }

    /// Whether an `ETag` is added where the handler gave none. Default: [`EtagMode::Weak`].
    pub fn etag(mut self, mode: EtagMode) -> Self {
        self.settings.etag = mode;
        self
    }

    /// The field that says hit or miss, and its two values. Default: `X-Cache`, `HIT`, `MISS`.
    pub fn status_header(mut self, name: &str, hit: &str, miss: &str) -> Self {
        let cure = "give a field name and two values of visible characters";
        match (HeaderName::try_from(name), HeaderValue::try_from(hit), HeaderValue::try_from(miss)) {
            (Ok(name), Ok(hit), Ok(miss)) => {
                self.settings.status_field = Some(StatusField { name, hit, miss });
                self
            }
            _ => self.refuse("status_header", format!("{name}: {hit} / {miss}"), cure),
        }
    }

    /// No field says hit or miss. Default: `X-Cache` does.
    pub fn no_status_header(mut self) -> Self {
        self.settings.status_field = None;
        self
    }

    /// Says what happened in `Cache-Status`, under the name of this cache (RFC 9211). Default: off.
    pub fn cache_status(mut self, name: impl Into<String>) -> Self {
        let name = name.into();
        let starts_well = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '*');
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b":/!#$%&'*+-.^_`|~".contains(&byte);
        if starts_well && name.bytes().all(token) {
            self.settings.cache_status = Some(CacheStatus { name, shows_key: false });
            self
        } else {
            self.refuse("cache_status", name, "give a token that begins with a letter, as shop-cache")
        }
    }

    /// Names the key in `Cache-Status` too: half of its SHA-256, which tells keys apart and does not show what is in
    /// them (RFC 9211 section 2.7). Default: off; set it after [`cache_status`](Self::cache_status).
    pub fn cache_status_key(mut self) -> Self {
        match &mut self.settings.cache_status {
            Some(status) => {
                status.shows_key = true;
                self
            }
            None => self.refuse("cache_status_key", "a key", "name the cache first, by cache_status"),
        }
    }

    /// The longest body that is stored, in bytes. Default: 1 MiB; longer ones are passed on untouched.
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.settings.rules.body_limit = bytes;
        self
    }

    /// Lets a request for one range go on to the handler as it is where nothing whole is stored, and stores the part that
    /// comes back: for the same request, for ranges within it, and to ask for no more than the rest when the whole is
    /// wanted, where its strong `ETag` shows that both are of one piece (RFC 9111 sections 3.3 and 3.4). Default: off, the
    /// handler is asked for the whole, which answers all ranges from then on.
    ///
    /// For handlers that answer ranges themselves, with bodies that are long. Requests for ranges do not wait for each
    /// other.
    pub fn store_partial(mut self) -> Self {
        self.settings.rules.partial = true;
        self
    }

    /// How long a stale answer is served while it is refreshed behind it, where the answer does not say
    /// (RFC 5861 section 3). Default: zero, not at all.
    pub fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.settings.rules.while_revalidate = window;
        self
    }

    /// Lets the first request that finds a stale answer in its window wait for the new one, while all others get the stale
    /// one at once. Default: off, the refresh runs behind a stale answer to the first one too.
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

    /// How long a request waits for another one's run of the same handler, before it runs on its own.
    /// Default: 5 seconds.
    pub fn wait(mut self, at_most: Duration) -> Self {
        self.settings.coalescing.wait = Some(at_most);
        self
    }

    /// Runs the handler for every request that finds nothing. Default: off, equal requests wait for one run.
    pub fn no_coalescing(mut self) -> Self {
        self.settings.coalescing.wait = None;
        self
    }

    /// How many requests wait for one run; more run on their own. Default: 16,384.
    pub fn max_waiters(mut self, most: usize) -> Self {
        self.settings.coalescing.limits.followers = most;
        self
    }

    /// After how long a run is given up as hung, and the next request starts a new one; a run that has no client any
    /// more, and a refresh, end then. Default: 30 seconds.
    pub fn leader_age(mut self, most: Duration) -> Self {
        self.settings.coalescing.limits.leader = most;
        self
    }

    /// How long it is remembered that an answer could not be stored; meanwhile nobody waits for its key.
    /// Default: 10 seconds.
    pub fn uncacheable_for(mut self, span: Duration) -> Self {
        self.settings.coalescing.uncacheable_for = span;
        self
    }

    /// How long the storage has for each call; a late one is a miss. Default: 50 ms. A child has its parent's.
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

    fn refuse(mut self, setter: &'static str, value: impl fmt::Display, cure: &'static str) -> Self {
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

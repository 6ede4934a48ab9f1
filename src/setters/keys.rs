//! Setters: what tells the answers to requests apart.

use std::sync::Arc;

use actix_web::dev::ServiceRequest;
use actix_web::http::Method;
use actix_web::http::header::HeaderName;

use crate::builder::CacheConfigBuilder;
use crate::query::QueryKey;
use crate::request::authorization_digest;
use crate::settings::{CookiePolicy, HostPolicy, KeyRule};

/// What tells the answers to requests apart.
impl CacheConfigBuilder {
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
    /// and whitespace around commas is dropped, with empty members; `Accept-Language` is compared without regard to case and order, and
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
}

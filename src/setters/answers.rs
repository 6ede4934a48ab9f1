//! Setters: which answers are stored, and what they say of the cache.

use std::sync::Arc;

use actix_web::dev::ResponseHead;
use actix_web::http::header::{HeaderName, HeaderValue};

use crate::builder::CacheConfigBuilder;
use crate::policy::rules::SetCookiePolicy;
use crate::settings::{CacheStatus, EtagMode, StatusField};

/// Which answers are stored, and what they say of the cache.
impl CacheConfigBuilder {
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
    /// Handlers have to honour `If-Range`; actix-files does not: where a file has changed since its part was stored, the
    /// one request that asks for the rest is answered 502, and the next one gets the whole.
    ///
    /// For handlers that answer ranges themselves, with bodies that are long. Requests for ranges do not wait for each
    /// other.
    pub fn store_partial(mut self) -> Self {
        self.settings.rules.partial = true;
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
}

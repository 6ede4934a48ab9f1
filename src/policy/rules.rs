//! What a scope decided about storing; plain data.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderName;

use crate::status::BypassReason;

/// Where a lifetime comes from when the answer does not say, or although it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScopeTtl {
    /// For answers that say nothing.
    Fallback(Duration),
    /// There is none: answers that say nothing are not stored.
    ExplicitOnly,
    /// For answers that say nothing, a part of the time since they were changed (RFC 9111 section 4.2.2).
    Heuristic,
    /// For all answers that may be stored, whatever lifetime they give.
    Override(Duration),
}

/// What becomes of an answer that sets a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SetCookiePolicy {
    /// It is not stored; the default.
    #[default]
    Refuse,
    /// It is stored without its cookies; the request that filled the cache gets them.
    Strip,
    /// It is stored, and everybody gets the same cookies. Only for cookies that mean nothing.
    Keep,
}

#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) ttl: ScopeTtl,
    /// The accepted statuses, each with a lifetime of its own or the scope's.
    pub(crate) statuses: Vec<(StatusCode, Option<Duration>)>,
    /// Whether all other final statuses are accepted too, of answers that give a lifetime.
    pub(crate) any_status: bool,
    /// Whether answers are read as RFC 9111 and RFC 9213 have it, where this cache is more careful by default: a
    /// targeted field decides alone, `must-understand` lifts `no-store`, directives that name fields are about these
    /// fields only, and what has to be validated on every use is stored if it can be.
    pub(crate) to_the_letter: bool,
    /// Fields that speak to caches like this one (RFC 9213), the most specific first.
    pub(crate) targets: Vec<HeaderName>,
    /// Whether parts are stored, and `Range` goes on to the handler.
    pub(crate) partial: bool,
    pub(crate) max_ttl: Duration,
    /// How much earlier than its run takes a fresh answer is refreshed; zero for never.
    pub(crate) early_refresh: f64,
    pub(crate) while_revalidate: Duration,
    pub(crate) if_error: Duration,
    pub(crate) if_unreachable: Duration,
    pub(crate) set_cookie: SetCookiePolicy,
    pub(crate) body_limit: usize,
    /// Whether answers may vary on the whole of these fields, because the scope took care of them.
    pub(crate) vary_on_cookie: bool,
    pub(crate) vary_on_authorization: bool,
}

/// What the handler said through its extractor; it has the first word.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wishes {
    pub(crate) no_store: bool,
    /// No handler spoke: a cache inside this one answered from its store.
    pub(crate) reused: bool,
    pub(crate) key: Option<String>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) tags: Vec<String>,
    pub(crate) vary: Vec<String>,
    pub(crate) while_revalidate: Option<Duration>,
    pub(crate) if_error: Option<Duration>,
}

impl Wishes {
    /// Takes over what was said inside, save the name; a word of one's own stands.
    pub(crate) fn take_over(&mut self, inner: &Wishes) {
        self.no_store |= inner.no_store;
        self.reused |= inner.reused;
        self.ttl = self.ttl.or(inner.ttl);
        self.tags.extend(inner.tags.iter().cloned());
        self.vary.extend(inner.vary.iter().cloned());
        self.while_revalidate = self.while_revalidate.or(inner.while_revalidate);
        self.if_error = self.if_error.or(inner.if_error);
    }
}

/// Whether the request carried credentials that the scope has no opinion on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Personal {
    pub(crate) authorization: bool,
    pub(crate) cookie: bool,
}

impl Personal {
    /// Why the request bypasses the cache, unless an entry for everyone is found.
    pub(crate) fn reason(self) -> Option<BypassReason> {
        match self {
            Self { authorization: true, .. } => Some(BypassReason::Authorization),
            Self { cookie: true, .. } => Some(BypassReason::Cookie),
            _ => None,
        }
    }
}

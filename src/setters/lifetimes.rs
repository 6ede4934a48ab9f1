//! Setters: how long answers are fresh.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderName;

use crate::builder::CacheConfigBuilder;
use crate::policy::rules::ScopeTtl;

/// How long answers are fresh.
impl CacheConfigBuilder {
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
        self.settings.rules.any_status = false;
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
}

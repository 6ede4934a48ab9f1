//! Whether a stored response may answer a request, and how (RFC 9111 section 4).

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::policy::directives::{MaxStale, RequestDirectives};
use crate::policy::rules::{Personal, Rules};
use crate::stored::response::{Freshness, StoredResponse};

/// What may be done with a stored response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// Serve it.
    Fresh { age: Duration },
    /// Serve it, and refresh it behind the answer before it goes stale.
    RefreshEarly,
    /// Serve it, and refresh it behind the answer (RFC 5861 section 3).
    StaleWhileRevalidate,
    /// Refresh or validate it first; if that fails, it may still serve for these failures.
    Stale(StandIn),
    /// It is not for this request.
    NotForThis,
}

/// The failures in whose place a stale response may be served (RFC 9111 section 4.2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct StandIn {
    /// Any that RFC 5861 section 4 names.
    pub(crate) errors: bool,
    /// The origin cannot be reached.
    pub(crate) unreachable: bool,
}

/// Why a run brought no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The handler or its origin answered 500, 502, 503 or 504.
    Error,
    /// The handler itself failed with 502, 503 or 504: it had no answer from what it asks.
    Unreachable,
}

impl StandIn {
    pub(crate) fn serves_for(self, failure: Failure) -> bool {
        self.errors || self.unreachable && failure == Failure::Unreachable
    }

    pub(crate) fn serves(self) -> bool {
        self.errors || self.unreachable
    }
}

impl Reuse {
    pub(crate) fn is_fresh(self) -> bool {
        matches!(self, Self::Fresh { .. } | Self::RefreshEarly)
    }

    /// Whether it is served and refreshed behind the answer.
    pub(crate) fn refreshes_behind(self) -> bool {
        matches!(self, Self::RefreshEarly | Self::StaleWhileRevalidate)
    }

    /// Whether a stored response may be served where a run has failed.
    pub(crate) fn serves_for(self, failure: Failure) -> bool {
        match self {
            Self::Fresh { .. } | Self::RefreshEarly | Self::StaleWhileRevalidate => true,
            Self::Stale(stand_in) => stand_in.serves_for(failure),
            Self::NotForThis => false,
        }
    }
}

/// Judges a stored response for a request. `client` are its directives, where the scope obeys them.
#[inline(always)] // every hit is judged, and out of line that costs it more
pub(crate) fn judge(
    stored: &StoredResponse,
    rules: &Rules,
    personal: Personal,
    client: Option<&RequestDirectives>,
    now: Timestamp,
) -> Reuse {
    // Nearly all requests ask for nothing, and nearly all that is stored is fresh.
    let is_plain =
        client.is_none() && !personal.authorization && !personal.cookie && rules.early_refresh <= 0.0;
    let age = stored.age(now);
    if is_plain && age < stored.freshness.lifetime() {
        return Reuse::Fresh { age };
    }
    judge_closely(stored, rules, personal, client, now)
}

fn judge_closely(
    stored: &StoredResponse,
    rules: &Rules,
    personal: Personal,
    client: Option<&RequestDirectives>,
    now: Timestamp,
) -> Reuse {
    let known = &stored.freshness;
    // RFC 9111 section 3.5, and our own caution with cookies.
    if personal.authorization && !known.for_authorized || personal.cookie && !known.for_cookies {
        return Reuse::NotForThis;
    }
    let age = stored.age(now);
    let lifetime = known.lifetime();
    let staleness = age.saturating_sub(lifetime);
    // RFC 9111 section 4.2.4: stale only where nothing forbids it.
    let may_be_stale = !known.must_revalidate;
    let refused = client.is_some_and(|client| refuses(client, age, lifetime));
    if !refused {
        if age < lifetime {
            let is_due =
                rules.early_refresh > 0.0 && is_due_early(&known.get(), age, rules.early_refresh, now);
            return if is_due { Reuse::RefreshEarly } else { Reuse::Fresh { age } };
        }
        if may_be_stale && client.is_some_and(|client| accepts_stale(client, staleness)) {
            return Reuse::Fresh { age };
        }
        if may_be_stale && staleness < known.get().while_revalidate {
            return Reuse::StaleWhileRevalidate;
        }
    }
    // RFC 5861 section 4: the directive is for requests too.
    let welcomed = client.and_then(|client| client.stale_if_error).map_or(Duration::ZERO, seconds);
    Reuse::Stale(StandIn {
        errors: may_be_stale && staleness < known.get().if_error.max(welcomed),
        unreachable: may_be_stale && staleness < rules.if_unreachable,
    })
}

/// Whether a fresh response is refreshed already: the longer its run took the earlier, and at random, so that requests
/// on many machines do not all do so at once (Vattani, Chierichetti, Lowenstein: Optimal Probabilistic Cache Stampede
/// Prevention, 2015).
fn is_due_early(known: &Freshness, age: Duration, factor: f64, now: Timestamp) -> bool {
    let mut hasher = DefaultHasher::new();
    (known.received, now).hash(&mut hasher);
    #[allow(clippy::cast_precision_loss)] // a fraction, not a number
    let chance = (hasher.finish() as f64 / u64::MAX as f64).max(f64::MIN_POSITIVE);
    let ahead = f64::from(known.took_ms) / 1000.0 * factor * -chance.ln();
    known.lifetime.saturating_sub(age).as_secs_f64() <= ahead
}

/// Whether the client asks for something newer (RFC 9111 sections 5.2.1.1, 5.2.1.3, 5.2.1.4).
fn refuses(client: &RequestDirectives, age: Duration, lifetime: Duration) -> bool {
    let too_old = client.max_age.is_some_and(|most| most == 0 || age > seconds(most));
    let soon_stale = client.min_fresh.is_some_and(|least| lifetime.saturating_sub(age) < seconds(least));
    client.no_cache || too_old || soon_stale
}

/// Whether the client takes it stale (RFC 9111 section 5.2.1.2).
fn accepts_stale(client: &RequestDirectives, staleness: Duration) -> bool {
    match client.max_stale {
        Some(MaxStale::Any) => true,
        Some(MaxStale::For(most)) => staleness <= seconds(most),
        None => false,
    }
}

fn seconds(delta: u32) -> Duration {
    Duration::from_secs(u64::from(delta))
}

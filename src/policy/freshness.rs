//! How long an answer is fresh, and how old it is when it comes (RFC 9111 sections 4.2.1 to 4.2.3).

use std::time::Duration;

use actix_web::http::StatusCode;

use crate::policy::directives::ResponseDirectives;
use crate::policy::facts::ResponseFacts;
use crate::policy::rules::{Rules, ScopeTtl, Wishes};
use crate::status::NotStoredReason;

/// `corrected_initial_age` of RFC 9111 section 4.2.3, in a cache next to its origin: no response delay to add.
pub(crate) fn initial_age(facts: &ResponseFacts, now: i64) -> Duration {
    let apparent = facts.date.map_or(0, |date| now.saturating_sub(date).max(0));
    Duration::from_secs(u64::from(facts.age).max(u64::try_from(apparent).unwrap_or(0)))
}

/// The freshness lifetime, counted from age zero.
pub(crate) fn lifetime(
    facts: &ResponseFacts,
    status: StatusCode,
    wishes: &Wishes,
    rules: &Rules,
    now: i64,
) -> Result<Duration, NotStoredReason> {
    let initial_age = initial_age(facts, now);
    // A lifetime of ours counts from now; one the answer gives counts from when it was made.
    let of_ours = |ttl: Duration| initial_age.saturating_add(ttl.min(rules.max_ttl));
    let lifetime = if let Some(ttl) = wishes.ttl {
        of_ours(ttl)
    } else if facts.either(|said| said.no_store) {
        return Err(NotStoredReason::NoStore);
    } else if facts.either(|said| said.private) {
        return Err(NotStoredReason::Private);
    } else if let ScopeTtl::Override(ttl) = rules.ttl {
        of_ours(ttl)
    } else if let Some(explicit) = explicit(facts, now) {
        explicit.min(initial_age.saturating_add(rules.max_ttl))
    } else {
        let of_status = rules.statuses.iter().find(|(known, _)| *known == status).and_then(|(_, ttl)| *ttl);
        match (of_status, rules.ttl) {
            (Some(ttl), _) | (None, ScopeTtl::Fallback(ttl) | ScopeTtl::Override(ttl)) => of_ours(ttl),
            (None, ScopeTtl::ExplicitOnly) => return Err(NotStoredReason::NoLifetime),
        }
    };
    if lifetime > initial_age { Ok(lifetime) } else { Err(NotStoredReason::ZeroLifetime) }
}

/// What the answer says itself: a targeted field (RFC 9213 section 2.2), or in the order of RFC 9111 section 4.2.1
/// `s-maxage`, `max-age`, `Expires`.
fn explicit(facts: &ResponseFacts, now: i64) -> Option<Duration> {
    let lifetime = |said: &ResponseDirectives| said.s_maxage.or(said.max_age);
    // A targeted field may prolong what `Cache-Control` gives, and does not bring back what that gives no time at all.
    if facts.either(|said| said.no_cache) || lifetime(&facts.cache) == Some(0) {
        return Some(Duration::ZERO);
    }
    let of_seconds = |seconds| Duration::from_secs(u64::from(seconds));
    if let Some(targeted) = &facts.targeted {
        return lifetime(targeted).map(of_seconds);
    }
    if let Some(seconds) = lifetime(&facts.cache) {
        return Some(of_seconds(seconds));
    }
    // RFC 9111 section 5.3: measured from the answer's own Date, or from its receipt.
    let expires = facts.expires?;
    let seconds = expires.saturating_sub(facts.date.unwrap_or(now));
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

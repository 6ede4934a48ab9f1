//! How long an answer is fresh, and how old it is when it comes (RFC 9111 sections 4.2.1 to 4.2.3).

use std::time::Duration;

use actix_web::http::StatusCode;

use crate::policy::directives::ResponseDirectives;
use crate::policy::facts::ResponseFacts;
use crate::policy::rules::{Rules, ScopeTtl, Wishes};
use crate::status::NotStoredReason;

/// `corrected_initial_age` of RFC 9111 section 4.2.3; `delay` is how long the answer took to come.
pub(crate) fn initial_age(facts: &ResponseFacts, delay: Duration, now: i64) -> Duration {
    let apparent = facts.date.map_or(0, |date| now.saturating_sub(date).max(0));
    let apparent = Duration::from_secs(u64::try_from(apparent).unwrap_or(0));
    apparent.max(Duration::from_secs(u64::from(facts.age)).saturating_add(delay))
}

/// The freshness lifetime, counted from age zero; one that is over is given only where validation can be of use.
pub(crate) fn lifetime(
    facts: &ResponseFacts,
    status: StatusCode,
    wishes: &Wishes,
    rules: &Rules,
    initial_age: Duration,
    now: i64,
) -> Result<Duration, NotStoredReason> {
    let can_be_validated = rules.to_the_letter && (facts.has_etag || facts.last_modified.is_some());
    // A lifetime of ours counts from now; one the answer gives counts from when it was made.
    let of_ours = |ttl: Duration| initial_age.saturating_add(ttl.min(rules.max_ttl));
    let lifetime = if let Some(ttl) = wishes.ttl {
        if ttl.is_zero() {
            return Err(NotStoredReason::ZeroLifetime);
        }
        of_ours(ttl)
    } else if facts.either(|said| said.no_store) {
        return Err(NotStoredReason::NoStore);
    } else if facts.either(|said| said.private.is_said()) {
        return Err(NotStoredReason::Private);
    } else if let ScopeTtl::Override(ttl) = rules.ttl {
        of_ours(ttl)
    } else if let Some(explicit) = explicit(facts, now) {
        explicit.min(initial_age.saturating_add(rules.max_ttl))
    } else {
        match implicit(facts, status, rules, now) {
            Ok(Implicit::Ours(ttl)) => of_ours(ttl),
            Ok(Implicit::Guessed(lifetime)) => lifetime.min(initial_age.saturating_add(rules.max_ttl)),
            Err(_) if can_be_validated => Duration::ZERO,
            Err(reason) => return Err(reason),
        }
    };
    if lifetime > initial_age || can_be_validated { Ok(lifetime) } else { Err(NotStoredReason::ZeroLifetime) }
}

/// Whether the answer says itself how long it is fresh.
pub(crate) fn is_explicit(facts: &ResponseFacts, now: i64) -> bool {
    explicit(facts, now).is_some_and(|lifetime| !lifetime.is_zero())
}

/// A lifetime that the answer does not give.
enum Implicit {
    /// By the scope's settings.
    Ours(Duration),
    /// By the answer's age (RFC 9111 section 4.2.2).
    Guessed(Duration),
}

fn implicit(
    facts: &ResponseFacts,
    status: StatusCode,
    rules: &Rules,
    now: i64,
) -> Result<Implicit, NotStoredReason> {
    let named = rules.statuses.iter().find(|(known, _)| *known == status);
    match (named, rules.ttl) {
        (Some((_, Some(ttl))), _) => Ok(Implicit::Ours(*ttl)),
        (_, ScopeTtl::Heuristic) => {
            heuristic(facts, status, now).map(Implicit::Guessed).ok_or(NotStoredReason::NoLifetime)
        }
        (Some(_), ScopeTtl::Fallback(ttl) | ScopeTtl::Override(ttl)) => Ok(Implicit::Ours(ttl)),
        // The scope's lifetime is for the statuses that it named.
        (None, ScopeTtl::Fallback(_) | ScopeTtl::Override(_)) => Err(NotStoredReason::Status),
        (_, ScopeTtl::ExplicitOnly) => Err(NotStoredReason::NoLifetime),
    }
}

/// The statuses that may be reused without a lifetime of their own (RFC 9110 section 15.1).
const HEURISTICALLY_CACHEABLE: [u16; 12] = [200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501];
/// The longest lifetime that is guessed.
const LONGEST_GUESS: Duration = Duration::from_secs(24 * 3600);

/// A tenth of the time between the last change and the answer (RFC 9111 section 4.2.2).
///
/// Not where it sets a cookie: nobody's session is handed round on a guess.
fn heuristic(facts: &ResponseFacts, status: StatusCode, now: i64) -> Option<Duration> {
    let is_cacheable = HEURISTICALLY_CACHEABLE.contains(&status.as_u16()) || facts.said().public;
    if !is_cacheable || facts.sets_cookie {
        return None;
    }
    let unchanged = facts.date.unwrap_or(now).saturating_sub(facts.last_modified?);
    let tenth = Duration::from_secs(u64::try_from(unchanged).unwrap_or(0) / 10);
    Some(tenth.min(LONGEST_GUESS))
}

/// What the answer says itself: a targeted field (RFC 9213 section 2.2), or in the order of RFC 9111 section 4.2.1
/// `s-maxage`, `max-age`, `Expires`.
fn explicit(facts: &ResponseFacts, now: i64) -> Option<Duration> {
    let lifetime = |said: &ResponseDirectives| said.s_maxage.or(said.max_age);
    // A targeted field may prolong what `Cache-Control` gives, and does not bring back what that gives no time at all.
    if facts.either(|said| said.no_cache.is_said()) || lifetime(&facts.cache) == Some(0) {
        return Some(Duration::ZERO);
    }
    let of_seconds = |seconds| Duration::from_secs(u64::from(seconds));
    // One that gives no lifetime leaves that of the others, which may be short for a reason.
    let targeted = facts.targeted.as_ref().and_then(lifetime);
    if let Some(seconds) = targeted.or_else(|| lifetime(&facts.cache)) {
        return Some(of_seconds(seconds));
    }
    // RFC 9111 section 5.3: measured from the answer's own Date, or from its receipt.
    let expires = facts.expires?;
    let seconds = expires.saturating_sub(facts.date.unwrap_or(now));
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

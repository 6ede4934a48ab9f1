//! What a request does next, as far as that is known without waiting.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::exchange::leading::judge;
use crate::exchange::refresh::Refresh;
use crate::flight::{FlightId, Follower, Lead, Role};
use crate::found::Found;
use crate::policy::reuse::Reuse;
use crate::request::Asked;
use crate::scope::Scope;
use crate::status::BypassReason;
use crate::stored::response::StoredResponse;

/// What a request does next.
pub(crate) enum Step {
    /// It is answered with what was found.
    Serve(Arc<StoredResponse>),
    /// So it is, and what was found is refreshed.
    Refresh(Arc<StoredResponse>, Refresh),
    /// It wants nothing but a stored answer, and there is none (RFC 9111 section 5.2.1.7).
    GiveUp,
    /// It is passed on as it is.
    Pass(BypassReason),
    /// It runs the handler, and nobody waits for it.
    Run,
    /// It runs the handler for all who ask for the same; those wait so long.
    Lead(Lead, Duration),
    /// It waits for another run, so long.
    Follow(Follower, Duration),
    /// It would wait, and enough do.
    Crowded,
}

/// A step, and what it rests on.
pub(crate) struct Decision {
    pub(crate) now: Timestamp,
    pub(crate) reuse: Reuse,
    pub(crate) step: Step,
}

impl Decision {
    /// Decides by what was found; `ranged` says that a part is asked for, and is not stored.
    pub(crate) fn of(
        scope: &Scope,
        asked: &Asked,
        found: &Found,
        ranged: bool,
        followed: Option<FlightId>,
    ) -> Self {
        let now = scope.engine.clock.at();
        let reuse = judge(scope, found, asked, now);
        let step = serve(scope, asked, found, reuse, now)
            .unwrap_or_else(|| go_on(scope, asked, found, reuse, now, ranged, followed));
        Self { now, reuse, step }
    }
}

/// A step by which what was found is served.
fn serve(scope: &Scope, asked: &Asked, found: &Found, reuse: Reuse, now: Timestamp) -> Option<Step> {
    let stored = found.stored()?;
    let key = found.key(&asked.key);
    match reuse {
        Reuse::Fresh { .. } => Some(Step::Serve(Arc::clone(stored))),
        Reuse::RefreshEarly | Reuse::StaleWhileRevalidate => {
            // The answer to a HEAD could not be stored: the refresh is left to a GET.
            let refresh = if asked.head { None } else { Refresh::claim(scope, key) };
            Some(match refresh {
                Some(refresh) => Step::Refresh(Arc::clone(stored), refresh),
                None => Step::Serve(Arc::clone(stored)),
            })
        }
        Reuse::Stale(stand_in) if scope.engine.failed_lately(key, now, stand_in) => {
            Some(Step::Serve(Arc::clone(stored)))
        }
        Reuse::Stale(_) | Reuse::NotForThis => None,
    }
}

fn go_on(
    scope: &Scope,
    asked: &Asked,
    found: &Found,
    reuse: Reuse,
    now: Timestamp,
    ranged: bool,
    followed: Option<FlightId>,
) -> Step {
    let (engine, coalescing) = (&scope.engine, &scope.settings.coalescing);
    let key = found.key(&asked.key);
    if asked.client.as_ref().is_some_and(|client| client.only_if_cached) {
        return Step::GiveUp;
    }
    let refused = engine.uncacheable.contains(key, now);
    if let Some(reason) = passes_conditions(asked, reuse, refused && !ranged) {
        return Step::Pass(reason);
    }
    // What only this client may see, or what was not storable a moment ago, is nothing to wait for.
    let alone = ranged || refused || asked.is_for_one();
    let Some(wait) = coalescing.wait.filter(|_| !alone) else {
        return Step::Run;
    };
    match engine.flights.join(key, now, coalescing.limits, followed) {
        Role::Lead(lead) => Step::Lead(lead, wait),
        Role::Follow(follower) => Step::Follow(follower, wait),
        Role::Crowded => Step::Crowded,
    }
}

/// Where the answer is hardly for everybody, the handler sees the client's own conditions and ranges, and answers 304
/// and 206 as it would without a cache. Other keys are filled with whole answers.
fn passes_conditions(asked: &Asked, reuse: Reuse, refused: bool) -> Option<BypassReason> {
    if !asked.fields.conditional || matches!(reuse, Reuse::Stale(_)) {
        return None;
    }
    asked.personal.reason().or(refused.then_some(BypassReason::Uncacheable))
}

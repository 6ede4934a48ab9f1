//! A request that leads the fill of this process: it looks again, and keeps apart from other processes.

use std::pin::pin;
use std::time::Duration;

use actix_web::http::header::HeaderMap;
use futures_util::future::{Either, join, select};

use crate::clock::Timestamp;
use crate::engine::Engine;
use crate::exchange::duty::{Duty, Lease};
use crate::exchange::queue::Queue;
use crate::flight::{Landing, Lead};
use crate::found::Found;
use crate::policy::reuse::Reuse;
use crate::request::Asked;
use crate::scope::Scope;
use crate::storage::interface::Claimed;

/// The pauses between two looks at what another process is doing: they grow, for what takes long may take longer.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// After so many looks in a row that failed nobody waits for another process: what it stores could not be read.
const MOST_BLIND: u32 = 2;

/// What a leader does.
pub(crate) enum Led {
    /// It runs the handler; what it found last is stale, or nothing.
    Runs(Found, Reuse, Duty),
    /// There is an answer after all.
    Knows(Found),
    /// It runs alone, and so does everybody else.
    Alone(Found, Reuse),
}

/// Whether a leader has nothing to look again for, and nobody to keep apart from; `ended` is the count of flights that
/// had ended before its lookup.
pub(crate) fn leads_at_once(engine: &Engine, ended: u64) -> bool {
    ended == engine.flights.ended() && !engine.leases()
}

/// Looks again where another fill may have ended since `found` was looked up, and waits for the run of another process.
pub(crate) async fn take_the_lead(
    scope: &Scope,
    lead: Lead,
    asked: &Asked,
    fields: &HeaderMap,
    (found, reuse): (Found, Reuse),
    has_ended: bool,
    (queue, wait): (&mut Queue, Duration),
) -> Led {
    let engine = &scope.engine;
    let mut last = (found, reuse);
    if last.0.is_blind {
        // Who cannot be read cannot be asked either: each further call would take a deadline more.
        return Led::Runs(last.0, last.1, Duty::new(lead, None));
    }
    if let Some(lease) = Lease::wanted(engine, last.0.key(&asked.key)) {
        // Apart, so that its state is no burden where there are no leases.
        return Box::pin(claim_the_lead(scope, lead, lease, asked, fields, last, (queue, wait))).await;
    }
    if has_ended {
        let again = engine.find(&asked.key, fields).await;
        if let Some(known) = weigh(scope, asked, again, &mut last) {
            lead.land(Landing::Found);
            return Led::Knows(known);
        }
    }
    Led::Runs(last.0, last.1, Duty::new(lead, None))
}

/// Waits until no other process runs, or has stored an answer.
async fn claim_the_lead(
    scope: &Scope,
    lead: Lead,
    mut lease: Lease,
    asked: &Asked,
    fields: &HeaderMap,
    mut last: (Found, Reuse),
    (queue, wait): (&mut Queue, Duration),
) -> Led {
    let engine = &scope.engine;
    let waiting = async {
        let (mut pause, mut blind) = (FIRST_PAUSE, 0);
        loop {
            // Both at once: whoever held it until now has stored its answer before.
            let (claimed, again) = join(lease.claim(), engine.find(&asked.key, fields)).await;
            blind = if again.is_blind { blind + 1 } else { 0 };
            if let Some(known) = weigh(scope, asked, again, &mut last) {
                return Err(known);
            }
            if claimed != Some(Claimed::Held) {
                return Ok(claimed);
            }
            if blind >= MOST_BLIND {
                return Ok(None);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        }
    };
    // What others have waited for is waited for once, whoever runs it.
    let claimed = match select(pin!(waiting), queue.patience(wait)).await {
        Either::Left((claimed, _)) => Some(claimed),
        Either::Right(_) => None,
    };
    let (found, reuse) = last;
    match claimed {
        Some(Err(known)) => {
            lead.land(Landing::Found);
            Led::Knows(known)
        }
        // The run of another process has failed: each tries it once, at the same time, and its followers wait for that.
        Some(Ok(Some(Claimed::Refused))) if matches!(reuse, Reuse::Stale(stand_in) if stand_in.serves()) => {
            Led::Runs(found, reuse, Duty::new(lead, None))
        }
        Some(Ok(Some(Claimed::Refused))) => {
            let span = scope.settings.coalescing.uncacheable_for;
            engine.uncacheable.remember(found.key(&asked.key), engine.clock.at(), span);
            lead.land(Landing::Alone);
            Led::Alone(found, reuse)
        }
        Some(Ok(Some(Claimed::Granted))) => {
            lease.keep(scope.settings.coalescing.limits.leader);
            Led::Runs(found, reuse, Duty::new(lead, Some(lease)))
        }
        // It takes the other one too long, or the storage is in trouble: then each process is for itself.
        Some(Ok(_)) | None => Led::Runs(found, reuse, Duty::new(lead, None)),
    }
}

/// What another look has brought, if it is of use; else it is what was found `last`.
fn weigh(scope: &Scope, asked: &Asked, again: Found, last: &mut (Found, Reuse)) -> Option<Found> {
    if again.is_blind {
        // What was found before is good, and as cautious.
        return None;
    }
    let reuse = judge(scope, &again, asked, scope.engine.clock.at());
    let moved = again.at.as_ref().is_some_and(|at| at != last.0.key(&asked.key));
    if moved || reuse.is_fresh() || reuse.refreshes_behind() {
        return Some(again);
    }
    let at = again.at.or(last.0.at.take());
    *last = (Found { at, ..again }, reuse);
    None
}

/// What the stored response that was found is good for.
///
/// Whether it is refreshed early is drawn anew for each time: who looks again does so at the time of the first look.
pub(crate) fn judge(scope: &Scope, found: &Found, asked: &Asked, now: Timestamp) -> Reuse {
    found.stored().map_or(Reuse::NotForThis, |stored| asked.judge(stored, &scope.settings.rules, now))
}

//! One exchange: checks, lookup, waiting or leading, answer.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use actix_service::Service;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::{Error, HttpRequest, HttpResponse};

use crate::body::CacheBody;
use crate::engine::{Found, selected};
use crate::flight::{Landed, Landing, Role, Woken};
use crate::handler::{Exchanged, Layer, bypass, fill};
use crate::key::CacheKey;
use crate::likeness::likeness;
use crate::policy::reuse::{self, Reuse};
use crate::policy::rules::Personal;
use crate::refresh::Refresh;
use crate::request::{self, Asked, Plan};
use crate::respond::{self, Outcome};
use crate::scope::Scope;
use crate::slot::Slot;
use crate::status::BypassReason;
use crate::stored::response::StoredResponse;

/// How far the synchronous part came with a request.
pub(crate) enum Start {
    Checks,
    Planned(Plan),
    Found(Asked, Found),
}

/// Says whether a flight hangs on this exchange: then it is finished even if its client leaves.
pub(crate) type Leading = Rc<Cell<bool>>;

/// Answers a request that has no fresh answer at hand.
pub(crate) async fn exchange<S, B>(
    layer: Rc<Layer<S>>,
    mut req: ServiceRequest,
    start: Start,
    leading: Leading,
) -> Exchanged<B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let scope = Arc::clone(&layer.scope);
    let (plan, found) = match start {
        Start::Checks => {
            for check in &scope.settings.checks {
                if let Err(error) = check.run(&mut req).await {
                    return Ok(req.error_response(error).map_body(|_, body| CacheBody::boxed_error(body)));
                }
            }
            (request::plan(&scope.settings, &req), None)
        }
        Start::Planned(plan) => (plan, None),
        Start::Found(asked, found) => (Plan::Use(asked), Some(found)),
    };
    let asked = match plan {
        Plan::Bypass(reason) => Err(reason),
        _ if Slot::is_nested(req.request(), &scope) => Err(BypassReason::Nested),
        Plan::Use(asked) => Ok(asked),
        Plan::ReadBody(fields) => match request::read_body(&mut req, scope.settings.request_body_limit).await
        {
            Ok(digest) => request::ask(&scope.settings, &req, fields, Some(digest)),
            Err(reason) => Err(reason),
        },
    };
    match asked {
        Ok(asked) => answer(layer, req, asked, found, leading).await,
        Err(reason) => bypass(&layer, req, reason).await,
    }
}

/// A new leader is tried this often after one was lost; then everybody runs on their own.
const MOST_LOST_LEADERS: usize = 1;

/// Answers a request that has a key: from the storage, from another's fill, or by its own.
async fn answer<S, B>(
    layer: Rc<Layer<S>>,
    req: ServiceRequest,
    asked: Asked,
    mut known: Option<Found>,
    leading: Leading,
) -> Exchanged<B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let scope = Arc::clone(&layer.scope);
    let engine = &scope.engine;
    let coalescing = &scope.settings.coalescing;
    let mut lost = 0;
    loop {
        let found = match known.take() {
            Some(found) => found,
            None => engine.find(&asked.key, req.headers()).await,
        };
        let now = engine.clock.at();
        let key = found.key(&asked.key);
        let reuse = found.stored.as_ref().map_or(Reuse::NotForThis, |stored| {
            reuse::judge(stored, asked.personal, asked.client.as_ref(), now)
        });
        if let Some(stored) = &found.stored {
            match reuse {
                Reuse::Fresh { .. } => return Ok(hit(&scope, req, &asked, stored, false)),
                Reuse::StaleWhileRevalidate { .. } => {
                    return Ok(match Refresh::claim(&scope, key) {
                        None => hit(&scope, req, &asked, stored, false),
                        Some(refresh) => {
                            let answer = hit(&scope, likeness(&req), &asked, stored, false);
                            refresh.run_behind(layer, req, asked, found);
                            answer
                        }
                    });
                }
                Reuse::Stale { if_error: true } if engine.backing_off.contains(key, now) => {
                    return Ok(hit(&scope, req, &asked, stored, false));
                }
                Reuse::Stale { .. } | Reuse::NotForThis => {}
            }
        }
        if asked.client.as_ref().is_some_and(|client| client.only_if_cached) {
            return Ok(only_if_cached(req.into_parts().0));
        }
        let refused = engine.uncacheable.contains(key, now);
        // Where the answer is hardly for everybody, the handler sees the client's own conditions and ranges, and
        // answers 304 and 206 as it would without a cache. Other keys are filled with whole answers.
        if asked.fields.conditional && !matches!(reuse, Reuse::Stale { .. }) {
            let reason = match asked.personal {
                Personal { authorization: true, .. } => Some(BypassReason::Authorization),
                Personal { cookie: true, .. } => Some(BypassReason::Cookie),
                _ => refused.then_some(BypassReason::Uncacheable),
            };
            if let Some(reason) = reason {
                return bypass(&layer, req, reason).await;
            }
        }
        // What only this client may see, or what was not storable a moment ago, is nothing to wait for.
        let alone = asked.personal.any() || asked.head || refused;
        let Some(patience) = coalescing.wait.filter(|_| !alone) else {
            return fill(&layer, req, asked, found, reuse, None).await;
        };
        let woken = match engine.flights.join(key, now, coalescing.limits) {
            Role::Lead(lead) => {
                leading.set(true);
                let answer = fill(&layer, req, asked, found, reuse, Some(lead)).await;
                leading.set(false);
                return answer;
            }
            Role::Follow(follower) => follower.wait(patience).await,
            Role::Crowded => Woken::TimedOut,
        };
        match woken {
            Woken::By(Landing::Stored(landed)) => {
                if is_for(&landed, &asked.key, key, &req)
                    && engine.is_current(landed.entry.stamp(), landed.entry.fences()).await
                {
                    return Ok(hit(&scope, req, &asked, &landed.response, true));
                }
                // Another variant, or invalidated since: look again.
            }
            // Stored, found gone, or one of those who wait leads: look again.
            Woken::Lost if lost < MOST_LOST_LEADERS => lost += 1,
            Woken::By(Landing::Alone) | Woken::Lost | Woken::TimedOut => {
                // Perhaps the refresh that this request waited for has failed: a stale answer does then.
                if let (Reuse::Stale { if_error: true }, Some(stored)) = (reuse, &found.stored) {
                    return Ok(hit(&scope, req, &asked, stored, false));
                }
                return fill(&layer, req, asked, found, reuse, None).await;
            }
        }
    }
}

/// Whether the answer that another one's fill brought is the one a request would find.
///
/// Both looked under `key`, which may be a name that their handlers chose before: the leader's may have chosen
/// another since.
fn is_for(landed: &Landed, own: &CacheKey, key: &CacheKey, req: &ServiceRequest) -> bool {
    let selects = |(base, names): &(_, Vec<_>)| selected(base, names, req.headers()) == *landed.entry.key();
    landed.entry.key() == key || landed.own == *own && landed.selector.as_ref().is_none_or(selects)
}

/// Answers from a stored response.
fn hit<B>(
    scope: &Scope,
    req: ServiceRequest,
    asked: &Asked,
    stored: &StoredResponse,
    collapsed: bool,
) -> ServiceResponse<CacheBody<B>> {
    let conditions = asked.fields.conditional.then(|| req.headers());
    let answer = respond::answer(scope, req.method(), conditions, stored);
    let age = stored.age(scope.engine.clock.at());
    respond::from_stored(scope, req.into_parts().0, stored, age, answer, Outcome::Hit { collapsed })
}

/// The client wants nothing but a stored answer, and there is none (RFC 9111 section 5.2.1.7).
fn only_if_cached<B>(req: HttpRequest) -> ServiceResponse<CacheBody<B>> {
    let body = CacheBody::whole(Default::default());
    ServiceResponse::new(req, HttpResponse::with_body(StatusCode::GATEWAY_TIMEOUT, body))
}

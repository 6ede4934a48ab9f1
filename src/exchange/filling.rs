//! Fills: the handler runs, its answer is judged, stored while it passes, or passed on.

use std::rc::Rc;
use std::sync::Arc;

use actix_service::Service;
use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::HeaderValue;
use actix_web::http::{Method, StatusCode};

use crate::exchange::answered::{Answered, judged_answer};
use crate::exchange::body::CacheBody;
use crate::exchange::duty::Duty;
use crate::exchange::fill::{Fill, snapshot};
use crate::exchange::freshen::is_head_of;
use crate::exchange::handler::{Exchanged, Layer, run};
use crate::exchange::likeness::likeness;
use crate::exchange::parts::Completion;
use crate::exchange::preconditions::{add_validators, ask_for_range, take_conditions};
use crate::exchange::respond;
use crate::exchange::telling::{Forward, Forwarded, Outcome, Told, tell_passed};
use crate::found::Found;
use crate::policy::reuse::{Failure, Reuse};
use crate::request::Asked;
use crate::status::{FillReason, NotStoredReason};
use crate::stored::response::StoredResponse;

/// A stored response with more fences than this is not validated but made anew.
const MOST_FENCES: usize = 1_000;

/// After a run has failed, processes that wait for it try so long without waiting for each other: longer than the pause
/// between two of their looks.
const TRY_TOO: std::time::Duration = std::time::Duration::from_millis(500);

/// Runs the handler, and stores its answer if it may be; a stale one may serve where it fails.
///
/// `reuse` says what the stored response that was found is still good for; `range` is one that the handler is to see.
pub(crate) async fn fill<S, B>(
    layer: &Rc<Layer<S>>,
    mut req: ServiceRequest,
    asked: Asked,
    found: Found,
    reuse: Reuse,
    range: Option<HeaderValue>,
    duty: Option<Duty>,
) -> Exchanged<B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let scope = &layer.scope;
    let (engine, rules) = (&scope.engine, &scope.settings.rules);
    let began = engine.clock.now();
    let mut why = Forward::why(&found, reuse, began.at);
    let mut fill = Box::new(Fill {
        scope: Arc::clone(scope),
        url: scope.own_url_fence(&req),
        flight: found.key(&asked.key).clone(),
        asked,
        stamp: found.stamp,
        began,
        range,
        duty,
        posted: false,
        fields: snapshot(req.headers()),
        inherited: Vec::new(),
    });
    let asked = &fill.asked;
    let stale = found.stored().cloned().filter(|_| matches!(reuse, Reuse::Stale(_)));
    let conditions = asked.fields.conditional.then(|| take_conditions(&mut req));
    // Over HTTP/2 a body needs no field that announces it: what is not in the key the handler must not see.
    if matches!(*req.method(), Method::GET | Method::HEAD) {
        req.set_payload(Payload::None);
    }
    // What a 304 updates keeps the fences it had: with tags that change each time, they would grow for good.
    let is_laden = found.entry.as_ref().is_some_and(|entry| entry.fences().len() > MOST_FENCES);
    let validating = stale.as_ref().filter(|stored| !is_laden && add_validators(&mut req, stored));
    let mut completing = None;
    if let (Some(range), Some(conditions)) = (&fill.range, &conditions) {
        ask_for_range(&mut req, range, conditions);
    } else if rules.partial && stale.is_none() && *req.method() == Method::GET {
        completing = Box::pin(Completion::find(scope, &found, asked)).await;
    }
    if let Some(completion) = &completing {
        completion.ask(req.headers_mut());
        why = Forward::Partial;
    }
    let may_serve = matches!(reuse, Reuse::Stale(stand_in) if stand_in.serves());
    // RFC 9111 section 5.2.2.2: what is stored must not be used, whatever happens.
    let must_not_serve = !rules.if_unreachable.is_zero()
        && stale.as_ref().is_some_and(|stored| stored.freshness.must_revalidate);
    // An `Err` takes its request with it.
    let spare = (may_serve || must_not_serve).then(|| likeness(scope, &req));
    let reason = match asked.personal.reason() {
        Some(bypass) => FillReason::Bypass(bypass),
        None if stale.is_some() => FillReason::Refresh,
        None => FillReason::Miss,
    };

    let (mut answer, wishes) = run(layer, req, reason).await;

    if let (Some((failure, status)), true) = (failure(&answer), stale.is_some()) {
        engine.note_failure(&fill.flight, fill.began.at, failure);
        if let Some(spare) = spare.as_ref().filter(|_| may_serve) {
            // It may have been invalidated while the handler ran.
            let still = engine.find(&asked.key, spare.headers()).await.stored().cloned();
            let now = engine.clock.at();
            let serves = |stored: &Arc<StoredResponse>| asked.judge(stored, rules, now).serves_for(failure);
            if let Some(stale) = still.filter(serves) {
                if let Some(duty) = &mut fill.duty {
                    duty.refuse(TRY_TOO);
                }
                fill.release();
                let req = answer.map_or_else(|_| spare.request().clone(), |response| response.into_parts().0);
                let answer = respond::answer(scope, req.method(), conditions.as_ref(), &stale);
                let told =
                    Told { outcome: Outcome::StandIn(Forwarded { why, status }), key: Some(&asked.key) };
                return Ok(respond::from_stored(scope, req, &stale, stale.age(now), answer, told));
            }
        }
        if failure == Failure::Unreachable && must_not_serve {
            match &mut answer {
                Ok(response) => *response.response_mut().status_mut() = StatusCode::GATEWAY_TIMEOUT,
                Err(error) => {
                    let reason = fill.refuse(NotStoredReason::HandlerError);
                    let mut response = error.error_response().map_body(|_, body| CacheBody::boxed_body(body));
                    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
                    tell_passed(scope, response.headers_mut(), None, why, reason.name());
                    if let Some(spare) = spare {
                        return Ok(ServiceResponse::new(spare.into_parts().0, response));
                    }
                    return answer.map(|response| response.map_body(|_, body| CacheBody::pass(body)));
                }
            }
        }
    }
    match answer {
        Ok(response) => {
            let validated = match response.status() {
                StatusCode::NOT_MODIFIED => validating,
                StatusCode::OK if asked.head && rules.to_the_letter => {
                    let size = response.response().body().size();
                    stale.as_ref().filter(|stored| is_head_of(stored, response.headers(), size))
                }
                _ => None,
            };
            if validated.is_some() {
                fill.inherited = found.entry.iter().flat_map(|entry| entry.fences()).copied().collect();
            } else if let Some(completing) = &completing {
                fill.inherited = completing.fences().to_vec();
            }
            let answered = Answered::of(response, validated.map(Arc::as_ref), completing, why);
            if answered.is_unjoinable() {
                // The next one asks for the whole: who answers so once will do it again.
                engine.remove(&fill.flight.ranged(None)).await;
            }
            Ok(judged_answer(fill, answered, wishes, found.varies.as_deref(), conditions.as_ref()))
        }
        Err(error) => {
            fill.refuse(NotStoredReason::HandlerError);
            Err(error)
        }
    }
}

/// Whether a run failed in a way that a stale answer may stand in for (RFC 5861 section 4, RFC 9111 section 4.2.4), and
/// with what.
fn failure<B>(answer: &Result<ServiceResponse<B>, Error>) -> Option<(Failure, StatusCode)> {
    let (status, failed) = match answer {
        Ok(response) => (response.status(), response.response().error().is_some()),
        Err(error) => (error.as_response_error().status_code(), true),
    };
    let failure = match status.as_u16() {
        502..=504 if failed => Failure::Unreachable,
        500 | 502..=504 => Failure::Error,
        // A layer that fails has no answer, whatever it calls that.
        _ if answer.is_err() => Failure::Error,
        _ => return None,
    };
    Some((failure, status))
}

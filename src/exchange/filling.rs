//! Fills: the handler runs, its answer is judged, stored while it passes, or passed on.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use actix_service::Service;
use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderMap, HeaderValue};
use actix_web::http::{Method, StatusCode};

use crate::clock::Timestamp;
use crate::exchange::answered::{Answered, judged_answer};
use crate::exchange::body::CacheBody;
use crate::exchange::duty::Duty;
use crate::exchange::fill::Fill;
use crate::exchange::freshen::is_head_of;
use crate::exchange::handler::{self, Exchanged, Layer};
use crate::exchange::likeness::likeness;
use crate::exchange::parts::Completion;
use crate::exchange::preconditions::{add_validators, ask_for_range, take_conditions};
use crate::exchange::respond;
use crate::exchange::telling::{Forward, Forwarded, Outcome, Told, tell_passed};
use crate::fields::lines;
use crate::found::Found;
use crate::policy::reuse::{Failure, Reuse};
use crate::request::Asked;
use crate::scope::Scope;
use crate::status::{FillReason, NotStoredReason};
use crate::stored::entry::Entry;
use crate::stored::response::StoredResponse;

/// A stored response with more fences than this is not validated but made anew.
const MOST_FENCES: usize = 1_000;

/// After a run has failed, processes that wait for it try so long without waiting for each other: longer than the pause
/// between two of their looks.
const TRY_TOO: std::time::Duration = std::time::Duration::from_millis(500);

/// Runs the handler, and stores its answer if it may be; a stale one may serve where it fails.
///
/// `reuse` says what the stored response that was found is still good for; `range` is one that the handler is to see.
/// What is needed after the run is made ready at once: whoever waits for it is not as large as all that went in.
pub(crate) fn fill<S, B>(
    layer: Rc<Layer<S>>,
    mut req: ServiceRequest,
    asked: Asked,
    found: Found,
    reuse: Reuse,
    range: Option<HeaderValue>,
    duty: Option<Duty>,
) -> impl Future<Output = Exchanged<B>>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let mut run = Run::begin(&layer.scope, &mut req, asked, found, reuse, range, duty);
    async move {
        if run.may_complete {
            Box::pin(run.look_for_a_part(&mut req)).await;
        }
        let (mut answer, wishes) = handler::run(&layer, req, run.reason).await;
        if let Some((failure, status)) = failure(&answer).filter(|_| run.is_stale) {
            run.note(failure);
            // Apart, so that its state is no burden to those that succeed.
            if let Some(stale) = Box::pin(run.stand_in(failure)).await {
                return run.answer_with(stale, answer, status);
            }
            if failure == Failure::Unreachable && run.must_not_serve {
                match (&mut answer, run.spare.take()) {
                    (Ok(response), _) => *response.response_mut().status_mut() = StatusCode::GATEWAY_TIMEOUT,
                    (Err(error), Some(spare)) => return Ok(run.gateway_timeout(error, spare)),
                    (Err(_), None) => {}
                }
            }
        }
        let response = match answer {
            Ok(response) => response,
            Err(error) => {
                run.fill.refuse(NotStoredReason::HandlerError);
                return Err(error);
            }
        };
        let answered = run.answered(response);
        if answered.is_unjoinable() {
            // The next one asks for the whole: who answers so once will do it again.
            let part = run.fill.flight.ranged(None);
            Box::pin(layer.scope.engine.remove(&part)).await;
        }
        Ok(judged_answer(run.fill, answered, wishes, run.varies.as_deref(), run.conditions.as_ref()))
    }
}

/// A run of the handler, and what its answer has to do with what is stored.
struct Run {
    fill: Box<Fill>,
    /// The entry that was found, and whether it is stale; else it is not what was asked for.
    entry: Option<Arc<Entry>>,
    is_stale: bool,
    varies: Option<Arc<Entry>>,
    name: Option<Arc<Entry>>,
    /// The client's own conditions, which the handler does not see.
    conditions: Option<HeaderMap>,
    /// The handler is asked whether the stale answer still holds.
    validates: bool,
    /// A part may be stored, which the handler can be asked to complete.
    may_complete: bool,
    completing: Option<Box<Completion>>,
    may_serve: bool,
    must_not_serve: bool,
    /// An `Err` takes its request with it.
    spare: Option<ServiceRequest>,
    why: Forward,
    reason: FillReason,
}

impl Run {
    fn begin(
        scope: &Arc<Scope>,
        req: &mut ServiceRequest,
        asked: Asked,
        found: Found,
        reuse: Reuse,
        range: Option<HeaderValue>,
        duty: Option<Duty>,
    ) -> Self {
        let rules = &scope.settings.rules;
        let began = scope.engine.clock.at();
        let why = Forward::why(&found, reuse, began);
        let is_stale = found.entry.is_some() && matches!(reuse, Reuse::Stale(_));
        let reason = match asked.personal.reason() {
            Some(bypass) => FillReason::Bypass(bypass),
            None if is_stale => FillReason::Refresh,
            None => FillReason::Miss,
        };
        let fields = lines(req.headers());
        let conditions = asked.fields.conditional.then(|| take_conditions(req));
        // Over HTTP/2 a body needs no field that announces it: what is not in the key the handler must not see.
        if matches!(*req.method(), Method::GET | Method::HEAD) {
            req.set_payload(Payload::None);
        }
        // What a 304 updates keeps the fences it had: with tags that change each time, they would grow for good.
        let is_laden = |entry: &Entry| entry.fences().len() > MOST_FENCES;
        let stale = found.entry.as_deref().filter(|_| is_stale);
        let validated = stale.filter(|entry| !is_laden(entry)).and_then(Entry::response);
        let validates = validated.is_some_and(|stored| add_validators(req, stored));
        if let (Some(range), Some(conditions)) = (&range, &conditions) {
            ask_for_range(req, range, conditions);
        }
        let may_complete = rules.partial && range.is_none() && !is_stale && *req.method() == Method::GET;
        let may_serve = matches!(reuse, Reuse::Stale(stand_in) if stand_in.serves());
        // RFC 9111 section 5.2.2.2: what is stored must not be used, whatever happens.
        let must_not_serve = !rules.if_unreachable.is_zero()
            && stale.and_then(Entry::response).is_some_and(|stored| stored.freshness.must_revalidate);
        let spare = (may_serve || must_not_serve).then(|| likeness(scope, req));
        let fill = Box::new(Fill {
            scope: Arc::clone(scope),
            url: scope.own_url_fence(req),
            flight: found.key(&asked.key).clone(),
            asked,
            stamp: found.stamp,
            began,
            range,
            duty,
            posted: false,
            fields,
            inherited: Vec::new(),
        });
        Self {
            fill,
            entry: found.entry,
            is_stale,
            varies: found.varies,
            name: found.name,
            conditions,
            validates,
            may_complete,
            completing: None,
            may_serve,
            must_not_serve,
            spare,
            why,
            reason,
        }
    }

    /// What was found, if it is stale.
    fn stale(&self) -> Option<&Arc<StoredResponse>> {
        self.entry.as_deref().filter(|_| self.is_stale)?.response()
    }

    /// Asks for the rest of the part that was stored last, if there is one.
    async fn look_for_a_part(&mut self, req: &mut ServiceRequest) {
        let Fill { scope, asked, flight, .. } = &*self.fill;
        if let Some(completion) = Completion::find(scope, flight, self.name.as_deref(), asked).await {
            completion.ask(req.headers_mut());
            self.completing = Some(Box::new(completion));
            self.why = Forward::Partial;
        }
    }

    /// The run has failed.
    fn note(&self, failure: Failure) {
        self.fill.scope.engine.note_failure(&self.fill.flight, self.fill.began, failure);
    }

    /// The stale answer that may serve where a run has failed: it may have been invalidated while the handler ran.
    async fn stand_in(&mut self, failure: Failure) -> Option<(Arc<StoredResponse>, Timestamp)> {
        let Fill { scope, asked, .. } = &*self.fill;
        let spare = self.spare.as_ref().filter(|_| self.may_serve)?;
        let still = scope.engine.find(&asked.key, spare.headers()).await;
        let now = scope.engine.clock.at();
        let stale = still.stored()?;
        asked.judge(stale, &scope.settings.rules, now).serves_for(failure).then(|| (Arc::clone(stale), now))
    }

    /// Answers with what stands in for a run that has failed.
    fn answer_with<B>(
        mut self,
        (stale, now): (Arc<StoredResponse>, Timestamp),
        answer: Result<ServiceResponse<B>, Error>,
        status: StatusCode,
    ) -> Exchanged<B> {
        if let Some(duty) = &mut self.fill.duty {
            duty.refuse(TRY_TOO);
        }
        self.fill.release();
        let req = match (answer, self.spare) {
            (Ok(response), _) => response.into_parts().0,
            (Err(_), Some(spare)) => spare.into_parts().0,
            (Err(error), None) => return Err(error),
        };
        let scope = &self.fill.scope;
        let answer = respond::answer(scope, req.method(), self.conditions.as_ref(), &stale);
        let outcome = Outcome::StandIn(Forwarded { why: self.why, status });
        let told = Told { outcome, key: Some(&self.fill.asked.key) };
        Ok(respond::from_stored(scope, req, &stale, stale.age(now), answer, told))
    }

    /// Answers where the origin could not be reached and what is stored must not be used (RFC 9111 section 5.2.2.2).
    fn gateway_timeout<B: MessageBody + 'static>(
        self,
        error: &Error,
        spare: ServiceRequest,
    ) -> ServiceResponse<CacheBody<B>> {
        let scope = Arc::clone(&self.fill.scope);
        let reason = self.fill.refuse(NotStoredReason::HandlerError);
        let mut response = error.error_response().map_body(|_, body| CacheBody::boxed_body(body));
        *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
        tell_passed(&scope, response.headers_mut(), None, self.why, reason.name());
        ServiceResponse::new(spare.into_parts().0, response)
    }

    /// What a run brought, with what is stored.
    fn answered<B: MessageBody + 'static>(&mut self, response: ServiceResponse<B>) -> Answered<B> {
        let letter = self.fill.scope.settings.rules.to_the_letter;
        let validated = match response.status() {
            StatusCode::NOT_MODIFIED if self.validates => self.stale(),
            StatusCode::OK if self.fill.asked.head && letter => {
                let size = response.response().body().size();
                self.stale().filter(|stored| is_head_of(stored, response.headers(), size))
            }
            _ => None,
        };
        let validated = validated.cloned();
        if validated.is_some() {
            self.fill.inherited = self.entry.iter().flat_map(|entry| entry.fences()).copied().collect();
        } else if let Some(completing) = &self.completing {
            self.fill.inherited = completing.fences().to_vec();
        }
        let completing = self.completing.take().map(|completing| *completing);
        Answered::of(response, validated.as_deref(), completing, self.why)
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

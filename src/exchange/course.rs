//! One exchange: checks, lookup, waiting or leading, answer.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_service::Service;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::{Error, HttpRequest, HttpResponse};

use crate::exchange::body::CacheBody;
use crate::exchange::bypass::bypass;
use crate::exchange::filling::fill;
use crate::exchange::handler::{Exchanged, Layer};
use crate::exchange::leading::{Led, judge, take_the_lead};
use crate::exchange::likeness::likeness;
use crate::exchange::parts;
use crate::exchange::queue::{Next, Queue};
use crate::exchange::refresh::Refresh;
use crate::exchange::respond;
use crate::exchange::slot::Slot;
use crate::exchange::telling::{Forward, Outcome, Told};
use crate::flight::Role;
use crate::found::Found;
use crate::head::RequestFields;
use crate::policy::reuse::{Failure, Reuse};
use crate::request::{self, Asked, Plan};
use crate::scope::Scope;
use crate::status::BypassReason;
use crate::stored::response::StoredResponse;

/// How far the synchronous part came with a request.
pub(crate) enum Start {
    Checks,
    Planned(Plan),
    /// With the count of flights that had ended before the lookup: while it stands, nothing was stored since.
    Found(Asked, Found, u64),
}

/// Says whether a flight hangs on this exchange: then it is finished even if its client leaves.
pub(crate) type Leading = Rc<Cell<bool>>;

/// Answers a request whose storage cannot be asked without waiting. What goes beyond a lookup has a box of its own: most
/// find an answer, and would carry the state of all the rest.
pub(crate) async fn look_and_answer<S, B>(
    layer: Rc<Layer<S>>,
    req: ServiceRequest,
    asked: Asked,
    leading: Leading,
) -> Exchanged<B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let scope = &layer.scope;
    if Slot::is_nested(req.request(), scope) {
        return Box::pin(bypass(&layer, req, BypassReason::Nested)).await;
    }
    let ended = scope.engine.flights.ended();
    let found = scope.engine.find(&asked.key, req.headers()).await;
    if let Some(stored) = found.stored()
        && let Reuse::Fresh { age } = judge(scope, &found, &asked, scope.engine.clock.at())
    {
        return Ok(hit_of_age(scope, req, &asked, stored, Outcome::Hit, age));
    }
    Box::pin(exchange(layer, req, Start::Found(asked, found, ended), leading)).await
}

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
                    return Ok(req.error_response(error).map_body(|_, body| CacheBody::boxed_body(body)));
                }
            }
            (request::plan(&scope.settings, &req), None)
        }
        Start::Planned(plan) => (plan, None),
        Start::Found(asked, found, ended) => (Plan::Use(asked), Some((found, Some(ended)))),
    };
    let asked = match plan {
        Plan::Bypass(reason) => Err(reason),
        _ if Slot::is_nested(req.request(), &scope) => Err(BypassReason::Nested),
        Plan::Use(asked) => Ok(asked),
        Plan::ReadBody => match request::read_body(&mut req, scope.settings.request_body_limit).await {
            Ok(digest) => {
                let fields = RequestFields::read(req.headers());
                request::ask(&scope.settings, &req, req.method(), fields, Some(digest))
            }
            Err(reason) => Err(reason),
        },
    };
    match asked {
        Ok(mut asked) => {
            // From here on it has many owners.
            asked.key.share();
            answer(layer, req, asked, found, leading).await
        }
        Err(reason) => bypass(&layer, req, reason).await,
    }
}

/// Answers a request that has a key: from the storage, from another's fill, or by its own.
async fn answer<S, B>(
    layer: Rc<Layer<S>>,
    req: ServiceRequest,
    asked: Asked,
    mut known: Option<(Found, Option<u64>)>,
    leading: Leading,
) -> Exchanged<B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let scope = Arc::clone(&layer.scope);
    let engine = &scope.engine;
    let coalescing = &scope.settings.coalescing;
    let mut queue = Queue::new(engine);
    loop {
        // With the count of flights that had ended before the lookup, where somebody counted.
        let (mut found, ended) = match known.take() {
            Some(known) => known,
            None => {
                let ended = engine.flights.ended();
                (engine.find(&asked.key, req.headers()).await, Some(ended))
            }
        };
        if found.at.is_none() && found.entry.is_none() {
            found.at = queue.own_variant();
        }
        let now = engine.clock.at();
        let mut reuse = judge(&scope, &found, &asked, now);
        if let Some(stored) = found.stored() {
            let key = found.key(&asked.key);
            match reuse {
                Reuse::Fresh { .. } => return Ok(hit(&scope, req, &asked, stored, Outcome::Hit)),
                Reuse::RefreshEarly | Reuse::StaleWhileRevalidate => {
                    // The answer to a HEAD could not be stored: the refresh is left to a GET.
                    let claim = if asked.head { None } else { Refresh::claim(&scope, key) };
                    let Some(refresh) = claim else {
                        return Ok(hit(&scope, req, &asked, stored, Outcome::Hit));
                    };
                    if ended != Some(engine.flights.ended()) {
                        // Another refresh may have ended between the lookup and the claim.
                        let again = engine.find(&asked.key, req.headers()).await;
                        if !judge(&scope, &again, &asked, now).refreshes_behind() {
                            refresh.give_back(key);
                            known = Some((again, None));
                            continue;
                        }
                    }
                    if scope.settings.refresh_in_foreground {
                        let _leading = Leads::on(&leading);
                        let mut refresh = refresh;
                        match refresh.duty(&scope, &asked, &found, req.headers(), now).await {
                            Ok(duty) => {
                                // Apart, so that its state is no burden to those who do not wait for one.
                                return Box::pin(refresh.run_in_front(&layer, req, asked, found, duty)).await;
                            }
                            Err(None) => return Ok(hit(&scope, req, &asked, stored, Outcome::Hit)),
                            Err(again) => {
                                known = again.map(|again| (again, None));
                                continue;
                            }
                        }
                    }
                    let answer = hit(&scope, likeness(&scope, &req), &asked, stored, Outcome::Hit);
                    refresh.run_behind(layer, req, asked, found, now);
                    return Ok(answer);
                }
                Reuse::Stale(stand_in) if engine.failed_lately(key, now, stand_in) => {
                    return Ok(hit(&scope, req, &asked, stored, Outcome::Hit));
                }
                Reuse::Stale(_) | Reuse::NotForThis => {}
            }
        }
        let (rules, key) = (&scope.settings.rules, found.key(&asked.key).clone());
        // Where the whole is stored, if stale, it is the whole that is asked about.
        let range = if found.entry.is_none() { parts::wanted(rules, &asked, &req) } else { None };
        if let Some(range) = &range
            && let Some(part) = parts::find(&scope, &found, &asked, range, req.headers()).await
        {
            return Ok(hit(&scope, req, &asked, &part, Outcome::Hit));
        }
        if asked.client.as_ref().is_some_and(|client| client.only_if_cached) {
            return Ok(only_if_cached(req.into_parts().0));
        }
        let refused = engine.uncacheable.contains(&key, now);
        if let Some(reason) = passes_conditions(&asked, reuse, refused && range.is_none()) {
            return bypass(&layer, req, reason).await;
        }
        if range.is_some() {
            return fill(&layer, req, asked, found, reuse, range, None).await;
        }
        // What only this client may see, or what was not storable a moment ago, is nothing to wait for.
        let alone = asked.is_for_one() || refused;
        let Some(wait) = coalescing.wait.filter(|_| !alone) else {
            return fill(&layer, req, asked, found, reuse, None, None).await;
        };
        let waited_in_vain = match engine.flights.join(&key, now, coalescing.limits, queue.followed()) {
            Role::Lead(lead) => {
                let _leading = Leads::on(&leading);
                // With what this one is for, perhaps.
                let has_ended = ended != Some(engine.flights.ended());
                let last = (found, reuse);
                match take_the_lead(&scope, lead, &asked, req.headers(), last, has_ended, (&mut queue, wait))
                    .await
                {
                    Led::Knows(again) => {
                        known = Some((again, None));
                        continue;
                    }
                    Led::Runs(found, reuse, duty) => {
                        return fill(&layer, req, asked, found, reuse, None, Some(duty)).await;
                    }
                    Led::Alone(found, reuse) => {
                        return fill(&layer, req, asked, found, reuse, None, None).await;
                    }
                }
            }
            Role::Follow(follower) => {
                match queue.follow(follower, wait, engine, &asked.key, &found, &req).await {
                    Next::Serve(stored) => {
                        let outcome = Outcome::Collapsed(Forward::why(&found, reuse, now));
                        return Ok(hit(&scope, req, &asked, &stored, outcome));
                    }
                    Next::LookAgain => continue,
                    Next::RunAlone => false,
                    Next::GiveUp => true,
                }
            }
            Role::Crowded => true,
        };
        // Perhaps the refresh that this request waited for has failed, or takes too long: a stale answer does then,
        // unless it was invalidated meanwhile.
        if let Reuse::Stale(stand_in) = reuse
            && (stand_in.errors && waited_in_vain || engine.failed_lately(&key, now, stand_in))
        {
            found = engine.find(&asked.key, req.headers()).await;
            reuse = judge(&scope, &found, &asked, engine.clock.at());
            let failure = if stand_in.errors { Failure::Error } else { Failure::Unreachable };
            if let Some(stored) = found.stored().filter(|_| reuse.serves_for(failure)) {
                return Ok(hit(&scope, req, &asked, stored, Outcome::Hit));
            }
        }
        return fill(&layer, req, asked, found, reuse, None, None).await;
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

/// Marks an exchange as leading for as long as it is; a run that ended, or panicked, is not to be finished.
struct Leads<'a>(&'a Cell<bool>);

impl<'a> Leads<'a> {
    fn on(leading: &'a Cell<bool>) -> Self {
        leading.set(true);
        Self(leading)
    }
}

impl Drop for Leads<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// Answers from a stored response.
fn hit<B>(
    scope: &Scope,
    req: ServiceRequest,
    asked: &Asked,
    stored: &StoredResponse,
    outcome: Outcome,
) -> ServiceResponse<CacheBody<B>> {
    let age = stored.age(scope.engine.clock.at());
    hit_of_age(scope, req, asked, stored, outcome, age)
}

fn hit_of_age<B>(
    scope: &Scope,
    req: ServiceRequest,
    asked: &Asked,
    stored: &StoredResponse,
    outcome: Outcome,
    age: Duration,
) -> ServiceResponse<CacheBody<B>> {
    let conditions = asked.fields.conditional.then(|| req.headers());
    let answer = respond::answer(scope, req.method(), conditions, stored);
    let told = Told { outcome, key: Some(&asked.key) };
    respond::from_stored(scope, req.into_parts().0, stored, age, answer, told)
}

/// The client wants nothing but a stored answer, and there is none (RFC 9111 section 5.2.1.7).
fn only_if_cached<B>(req: HttpRequest) -> ServiceResponse<CacheBody<B>> {
    let body = CacheBody::whole(Default::default());
    ServiceResponse::new(req, HttpResponse::with_body(StatusCode::GATEWAY_TIMEOUT, body))
}

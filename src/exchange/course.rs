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
use futures_util::future::LocalBoxFuture;

use crate::exchange::body::CacheBody;
use crate::exchange::bypass::bypass;
use crate::exchange::duty::Duty;
use crate::exchange::filling::fill;
use crate::exchange::handler::{Exchanged, Layer};
use crate::exchange::leading::{Led, judge, leads_at_once, take_the_lead};
use crate::exchange::likeness::likeness;
use crate::exchange::parts;
use crate::exchange::queue::{Next, Queue};
use crate::exchange::respond;
use crate::exchange::slot::Slot;
use crate::exchange::step::{Decision, Step};
use crate::exchange::telling::{Forward, Outcome, Told};
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
    Found(Asked, Box<Position>),
}

/// Where a request stands after its lookup.
pub(crate) struct Position {
    pub(crate) found: Found,
    /// The count of flights that had ended before the lookup, where somebody counted: while it stands, nothing was
    /// stored since.
    pub(crate) ended: Option<u64>,
    /// What it does next, if that is decided.
    pub(crate) decided: Option<Decision>,
}

impl Position {
    fn undecided(found: Found, ended: Option<u64>) -> Self {
        Self { found, ended, decided: None }
    }
}

/// Whether an exchange is finished even if its client leaves: a flight may hang on it.
pub(crate) enum Finishes {
    Never,
    Always,
    While(Leading),
}

/// A run under way.
pub(crate) type Running<B> = (LocalBoxFuture<'static, Exchanged<B>>, Finishes);

/// Says whether a flight hangs on an exchange.
pub(crate) type Leading = Rc<Cell<bool>>;

impl Finishes {
    pub(crate) fn now(&self) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::While(leading) => leading.get(),
        }
    }
}

/// Lets a request that has found no fresh answer run the handler, if it need not wait for anything before; else says
/// where it stands.
pub(crate) fn run_at_once<S, B>(
    layer: Rc<Layer<S>>,
    req: ServiceRequest,
    mut asked: Asked,
    found: Found,
    ended: u64,
) -> Result<Running<B>, (ServiceRequest, Start)>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let scope = &layer.scope;
    if Slot::is_nested(req.request(), scope) {
        return Err((req, Start::Planned(Plan::Bypass(BypassReason::Nested))));
    }
    // From here on it has many owners.
    asked.key.share();
    if parts::wanted(&scope.settings.rules, &asked, &req).is_some() {
        return Err((req, Start::Found(asked, Position::undecided(found, Some(ended)).into())));
    }
    let Decision { now, reuse, step } = Decision::of(scope, &asked, &found, false, None);
    let (duty, finishes) = match step {
        Step::Run => (None, Finishes::Never),
        Step::Lead(lead, _) if leads_at_once(&scope.engine, ended) => {
            (Some(Duty::new(lead, None)), Finishes::Always)
        }
        step => {
            let decided = Some(Decision { now, reuse, step });
            let position = Position { found, ended: Some(ended), decided };
            return Err((req, Start::Found(asked, position.into())));
        }
    };
    Ok((Box::pin(fill(layer, req, asked, found, reuse, None, duty)), finishes))
}

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
    let position = Position::undecided(found, Some(ended));
    Box::pin(exchange(layer, req, Start::Found(asked, position.into()), leading)).await
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
    let (plan, position) = match start {
        Start::Checks => {
            for check in &scope.settings.checks {
                if let Err(error) = check.run(&mut req).await {
                    return Ok(req.error_response(error).map_body(|_, body| CacheBody::boxed_body(body)));
                }
            }
            (request::plan(&scope.settings, &req), None)
        }
        Start::Planned(plan) => (plan, None),
        Start::Found(asked, position) => (Plan::Use(asked), Some(*position)),
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
            answer(layer, req, asked, position, leading).await
        }
        Err(reason) => bypass(&layer, req, reason).await,
    }
}

/// Answers a request that has a key: from the storage, from another's fill, or by its own.
async fn answer<S, B>(
    layer: Rc<Layer<S>>,
    req: ServiceRequest,
    asked: Asked,
    mut known: Option<Position>,
    leading: Leading,
) -> Exchanged<B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let scope = Arc::clone(&layer.scope);
    let engine = &scope.engine;
    let mut queue = Queue::new(engine);
    loop {
        let Position { mut found, ended, decided } = match known.take() {
            Some(position) => position,
            None => {
                let ended = engine.flights.ended();
                Position::undecided(engine.find(&asked.key, req.headers()).await, Some(ended))
            }
        };
        // Where the whole is stored, if stale, it is the whole that is asked about.
        let rules = &scope.settings.rules;
        let range = if found.entry.is_none() { parts::wanted(rules, &asked, &req) } else { None };
        let Decision { now, mut reuse, step } = match decided {
            Some(decision) => decision,
            None => {
                if found.at.is_none() && found.entry.is_none() {
                    found.at = queue.own_variant();
                }
                if let Some(range) = &range
                    && let Some(part) = parts::find(&scope, &found, &asked, range, req.headers()).await
                {
                    return Ok(hit(&scope, req, &asked, &part, Outcome::Hit));
                }
                Decision::of(&scope, &asked, &found, range.is_some(), queue.followed())
            }
        };
        let waited_in_vain = match step {
            Step::Serve(stored) => return Ok(hit(&scope, req, &asked, &stored, Outcome::Hit)),
            Step::GiveUp => return Ok(only_if_cached(req.into_parts().0)),
            Step::Pass(reason) => return bypass(&layer, req, reason).await,
            Step::Run => return fill(layer, req, asked, found, reuse, range, None).await,
            Step::Refresh(stored, mut refresh) => {
                if ended != Some(engine.flights.ended()) {
                    // Another refresh may have ended between the lookup and the claim.
                    let again = engine.find(&asked.key, req.headers()).await;
                    if !judge(&scope, &again, &asked, now).refreshes_behind() {
                        refresh.give_back(found.key(&asked.key));
                        known = Some(Position::undecided(again, None));
                        continue;
                    }
                }
                if scope.settings.refresh_in_foreground {
                    let _leading = Leads::on(&leading);
                    match refresh.duty(&scope, &asked, &found, req.headers(), now).await {
                        Ok(duty) => {
                            // Apart, so that its state is no burden to those who do not wait for one.
                            return Box::pin(refresh.run_in_front(layer, req, asked, found, duty)).await;
                        }
                        Err(None) => return Ok(hit(&scope, req, &asked, &stored, Outcome::Hit)),
                        Err(Some(again)) => {
                            known = Some(Position::undecided(again, None));
                            continue;
                        }
                    }
                }
                let answer = hit(&scope, likeness(&scope, &req), &asked, &stored, Outcome::Hit);
                refresh.run_behind(layer, req, asked, found, now);
                return Ok(answer);
            }
            Step::Lead(lead, wait) => {
                let _leading = Leads::on(&leading);
                // With what this one is for, perhaps.
                let has_ended = ended != Some(engine.flights.ended());
                let last = (found, reuse);
                match take_the_lead(&scope, lead, &asked, req.headers(), last, has_ended, (&mut queue, wait))
                    .await
                {
                    Led::Knows(again) => {
                        known = Some(Position::undecided(again, None));
                        continue;
                    }
                    Led::Runs(found, reuse, duty) => {
                        return fill(layer, req, asked, found, reuse, None, Some(duty)).await;
                    }
                    Led::Alone(found, reuse) => {
                        return fill(layer, req, asked, found, reuse, None, None).await;
                    }
                }
            }
            Step::Follow(follower, wait) => {
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
            Step::Crowded => true,
        };
        // Perhaps the refresh that this request waited for has failed, or takes too long: a stale answer does then,
        // unless it was invalidated meanwhile.
        if let Reuse::Stale(stand_in) = reuse
            && (stand_in.errors && waited_in_vain
                || engine.failed_lately(found.key(&asked.key), now, stand_in))
        {
            found = engine.find(&asked.key, req.headers()).await;
            reuse = judge(&scope, &found, &asked, engine.clock.at());
            let failure = if stand_in.errors { Failure::Error } else { Failure::Unreachable };
            if let Some(stored) = found.stored().filter(|_| reuse.serves_for(failure)) {
                return Ok(hit(&scope, req, &asked, stored, Outcome::Hit));
            }
        }
        return fill(layer, req, asked, found, reuse, None, None).await;
    }
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

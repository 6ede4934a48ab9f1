//! The wrapped handler at work: run, judged, stored, answered.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_service::Service;
use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::web::Bytes;
use actix_web::{Error, HttpRequest, HttpResponse};

use crate::engine::Found;
use crate::exchange::behind;
use crate::exchange::body::CacheBody;
use crate::exchange::fill::{Admission, Fill};
use crate::exchange::likeness::likeness;
use crate::exchange::preconditions::{add_validators, take_conditions};
use crate::exchange::respond::{self, Outcome};
use crate::exchange::slot::Slot;
use crate::extractor::authority;
use crate::fence::Fence;
use crate::flight::Lead;
use crate::handle::tell_failure;
use crate::head;
use crate::policy::conditional::Answer;
use crate::policy::facts::ResponseFacts;
use crate::policy::invalidate;
use crate::policy::reuse::{Failure, Reuse};
use crate::policy::rules::Wishes;
use crate::policy::storable::{self, Circumstances, Verdict};
use crate::policy::tags;
use crate::request::Asked;
use crate::scope::Scope;
use crate::status::{BypassReason, FillReason, NotStoredReason};
use crate::stored::entry::Entry;
use crate::stored::response::StoredResponse;

/// A wrapped service and the scope it belongs to.
pub(crate) struct Layer<S> {
    pub(crate) service: S,
    pub(crate) scope: Arc<Scope>,
}

pub(crate) type Exchanged<B> = Result<ServiceResponse<CacheBody<B>>, Error>;

/// Runs the handler, and stores its answer if it may be; a stale one may serve where it fails.
///
/// `reuse` says what the stored response that was found is still good for.
pub(crate) async fn fill<S, B>(
    layer: &Rc<Layer<S>>,
    mut req: ServiceRequest,
    asked: Asked,
    found: Found,
    reuse: Reuse,
    lead: Option<Lead>,
) -> Exchanged<B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let scope = &layer.scope;
    let engine = &scope.engine;
    let fill = Fill {
        scope: Arc::clone(scope),
        url: scope.url_fence(&req, Some(&asked.key)),
        flight: found.key(&asked.key).clone(),
        asked,
        stamp: found.stamp,
        began: engine.clock.now(),
        lead,
    };
    let asked = &fill.asked;
    let stale = found.stored.filter(|_| matches!(reuse, Reuse::Stale(_)));
    let conditions = asked.fields.conditional.then(|| take_conditions(&mut req));
    // Over HTTP/2 a body needs no field that announces it: what is not in the key the handler must not see.
    if matches!(*req.method(), Method::GET | Method::HEAD) {
        req.set_payload(Payload::None);
    }
    let validating = stale.as_ref().filter(|stored| add_validators(&mut req, stored));
    // An `Err` takes its request with it.
    let spare = matches!(reuse, Reuse::Stale(stand_in) if stand_in.serves()).then(|| likeness(&req));
    let reason = match asked.personal.reason() {
        Some(bypass) => FillReason::Bypass(bypass),
        None if stale.is_some() => FillReason::Refresh,
        None => FillReason::Miss,
    };

    let (mut answer, wishes) = run(layer, req, reason).await;

    let failure = failure(&answer);
    if let (Some(spare), Some(failure)) = (spare, failure) {
        engine.note_failure(&fill.flight, fill.began.at, failure);
        // It may have been invalidated while the handler ran.
        let still = engine.find(&asked.key, spare.headers()).await.stored;
        let now = engine.clock.at();
        let serves = |stored: &Arc<StoredResponse>| {
            asked.judge(stored, &scope.settings.rules, now).serves_for(failure)
        };
        if let Some(stale) = still.filter(serves) {
            fill.release();
            let req = answer.map_or_else(|_| spare.into_parts().0, |response| response.into_parts().0);
            let answer = respond::answer(scope, req.method(), conditions.as_ref(), &stale);
            let outcome = Outcome::Hit { collapsed: false };
            return Ok(respond::from_stored(scope, req, &stale, stale.age(now), answer, outcome));
        }
    }
    if failure == Some(Failure::Unreachable)
        && !scope.settings.rules.if_unreachable.is_zero()
        && stale.as_ref().is_some_and(|stored| stored.freshness.must_revalidate)
        && let Ok(response) = &mut answer
    {
        // RFC 9111 section 5.2.2.2: what is stored must not be used, and nothing else is to be had.
        *response.response_mut().status_mut() = StatusCode::GATEWAY_TIMEOUT;
    }
    match answer {
        Ok(response) => {
            let validated = validating.filter(|_| response.status() == StatusCode::NOT_MODIFIED);
            let (validated, varies) = (validated.map(Arc::as_ref), found.varies.as_deref());
            Ok(judged_answer(fill, response, validated, wishes, varies, conditions.as_ref()))
        }
        Err(error) => {
            fill.refuse(NotStoredReason::HandlerError);
            Err(error)
        }
    }
}

/// Answers with what the handler made, or with the stored response that it `validated`, and stores it if it may be.
fn judged_answer<B: MessageBody + 'static>(
    fill: Fill,
    response: ServiceResponse<B>,
    validated: Option<&StoredResponse>,
    mut wishes: Wishes,
    varies: Option<&Entry>,
    conditions: Option<&HeaderMap>,
) -> ServiceResponse<CacheBody<B>> {
    let scope = Arc::clone(&fill.scope);
    let failed = response.response().error().is_some();
    let (req, response) = response.into_parts();
    let (mut head, received) = match validated {
        Some(stored) => (freshened(stored, response.headers()), Received::Stored(stored.body.clone())),
        None => {
            let (head, body) = response.into_parts();
            (head, Received::Body(body))
        }
    };
    let about = Circumstances {
        status: head.status(),
        failed,
        head: fill.asked.head,
        personal: fill.asked.personal,
        keyed: &scope.settings.vary,
        now: scope.engine.clock.now().unix,
    };
    let admitted = match judge(&scope, &head, &mut wishes, about) {
        Ok(_) if received.is_longer_than(scope.settings.rules.body_limit) => {
            Err(fill.refuse(NotStoredReason::BodyTooLarge))
        }
        Ok(verdict) => {
            let alias = wishes.key.as_deref();
            fill.admit(verdict, head.status(), head.headers(), alias, req.headers(), varies)
        }
        Err(reason) => Err(fill.refuse(reason)),
    };
    match admitted {
        Ok(admission) => stored_answer(&scope, req, head, received, conditions, admission),
        Err(reason) => {
            respond::tell_passed(&scope, head.headers_mut(), "uri-miss", reason.name());
            ServiceResponse::new(req, head.set_body(received.passed()))
        }
    }
}

/// Answers with what the handler made, while it is stored.
fn stored_answer<B: MessageBody + 'static>(
    scope: &Scope,
    req: HttpRequest,
    mut head: HttpResponse<()>,
    received: Received<B>,
    conditions: Option<&HeaderMap>,
    admission: Admission,
) -> ServiceResponse<CacheBody<B>> {
    if let Some((name, value)) = admission.told() {
        head.headers_mut().append(name, value);
    }
    // The server would write a date of its own, and its hits another one.
    if !head.headers().contains_key(header::DATE)
        && let Some(date) = admission.response().header(header::DATE.as_str())
    {
        head.headers_mut().insert(header::DATE, date.clone());
    }
    let is_ours = matches!(received, Received::Stored(_));
    match received.whole() {
        Ok(bytes) => {
            // A few bytes may be a slice of a large buffer: kept, they would keep it all.
            let kept = if is_ours { bytes.clone() } else { Bytes::copy_from_slice(&bytes) };
            let stored = admission.complete(kept);
            let answer = respond::answer(scope, req.method(), conditions, &stored);
            if answer != Answer::Whole {
                return respond::from_stored(scope, req, &stored, Duration::ZERO, answer, Outcome::Miss);
            }
            if let Some(etag) = stored.header(header::ETAG.as_str()) {
                head.headers_mut().insert(header::ETAG, etag.clone());
            }
            respond::tell_miss(scope, head.headers_mut());
            let body = if bodiless(head.status()) { CacheBody::none() } else { CacheBody::whole(bytes) };
            ServiceResponse::new(req, head.set_body(body))
        }
        Err(body) => {
            let announced = admission.response().clone();
            let body = CacheBody::captured(body, scope.settings.rules.body_limit, admission);
            let answer = respond::answer(scope, req.method(), conditions, &announced);
            if answer == Answer::NotModified {
                // The copy is still made: behind the answer, as when a client leaves.
                drop(body);
                return respond::from_stored(scope, req, &announced, Duration::ZERO, answer, Outcome::Miss);
            }
            respond::tell_miss(scope, head.headers_mut());
            ServiceResponse::new(req, head.set_body(body))
        }
    }
}

fn bodiless(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// A body as it came: from the handler, or from the storage after a validation.
enum Received<B> {
    Body(B),
    Stored(Bytes),
}

impl<B: MessageBody + 'static> Received<B> {
    fn is_longer_than(&self, limit: usize) -> bool {
        match self {
            Self::Body(body) => matches!(body.size(), BodySize::Sized(size) if size > limit as u64),
            Self::Stored(_) => false,
        }
    }

    fn whole(self) -> Result<Bytes, B> {
        match self {
            Self::Body(body) => body.try_into_bytes(),
            Self::Stored(bytes) => Ok(bytes),
        }
    }

    fn passed(self) -> CacheBody<B> {
        match self {
            Self::Body(body) => CacheBody::pass(body),
            Self::Stored(bytes) => CacheBody::whole(bytes),
        }
    }
}

/// Judges an answer by its head.
fn judge(
    scope: &Scope,
    head: &HttpResponse<()>,
    wishes: &mut Wishes,
    about: Circumstances<'_>,
) -> Result<Verdict, NotStoredReason> {
    let lines = head.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let facts = ResponseFacts::read(lines, &scope.settings.rules.targets, about.now);
    let verdict = storable::judge(facts, wishes, &scope.settings.rules, about)?;
    match &scope.settings.store_if {
        Some(store_if) if !store_if(head.head()) => Err(NotStoredReason::StorePredicate),
        _ => Ok(verdict),
    }
}

/// Whether a run failed in a way that a stale answer may stand in for (RFC 5861 section 4, RFC 9111 section 4.2.4).
fn failure<B>(answer: &Result<ServiceResponse<B>, Error>) -> Option<Failure> {
    let (status, failed) = match answer {
        Ok(response) => (response.status(), response.response().error().is_some()),
        Err(error) => (error.as_response_error().status_code(), true),
    };
    match status.as_u16() {
        502..=504 if failed => Some(Failure::Unreachable),
        500 | 502..=504 => Some(Failure::Error),
        // A layer that fails has no answer, whatever it calls that.
        _ => answer.is_err().then_some(Failure::Error),
    }
}

/// Whether a field tells what the bytes of a body are: those of a stored one are not changed by a 304 (RFC 9111
/// sections 3.2 and 4.3.4).
fn describes_bytes(stored: &StoredResponse, name: &HeaderName) -> bool {
    match *name {
        header::CONTENT_ENCODING | header::CONTENT_RANGE | header::CONTENT_TYPE => true,
        // One that was missing may come late; another one would be of other bytes.
        header::ETAG => stored.etag().is_some(),
        _ => false,
    }
}

/// A stored head with the fields that a 304 brought (RFC 9111 section 3.2).
fn freshened(stored: &StoredResponse, news: &HeaderMap) -> HttpResponse<()> {
    let mut response = HttpResponse::with_body(stored.status, ());
    let headers = response.headers_mut();
    let named = head::connection_names(news);
    let brings = |name: &HeaderName| {
        !(head::is_connection_field(name.as_str()) || describes_bytes(stored, name) || named.contains(name))
            && news.contains_key(name)
    };
    // The answer was confirmed now: the date of its first making would age it.
    let kept = |name: &HeaderName| !brings(name) && *name != header::DATE;
    for (name, value) in stored.headers().filter(|(name, _)| kept(name)) {
        headers.append(name.clone(), value.clone());
    }
    for (name, value) in news.iter().filter(|(name, _)| brings(name)) {
        headers.append(name.clone(), value.clone());
    }
    response
}

/// Runs the wrapped service with a slot for its handler's wishes; does what the handler queued, if it succeeded.
async fn run<S, B>(
    layer: &Layer<S>,
    req: ServiceRequest,
    reason: FillReason,
) -> (Result<ServiceResponse<B>, Error>, Wishes)
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    if reason == FillReason::Bypass(BypassReason::Nested) {
        // The outer layer is the same cache, and stores the answer: the handler speaks to that one.
        return (layer.service.call(req).await, Wishes::default());
    }
    let slot = Slot::open(req.request(), &layer.scope, reason);
    let answer = layer.service.call(req).await;
    let wishes = slot.take_wishes();
    if let Ok(response) = &answer {
        slot.close(response.request());
        Slot::repeat(&wishes, response.request());
        let queued = slot.take_queued();
        if !queued.is_empty() && has_succeeded(response) {
            let (handle, authority) = (slot.handle.clone(), authority(response.request()));
            behind::to_the_end(async move {
                for invalidation in queued {
                    tell_failure(handle.apply_at(&invalidation, authority.as_deref()).await);
                }
            })
            .await;
        }
    }
    (answer, wishes)
}

fn has_succeeded<B>(response: &ServiceResponse<B>) -> bool {
    invalidate::is_done(response.status()) && response.response().error().is_none()
}

/// Whether a request of a method that the scope declared to change nothing would have used the cache, but for what this
/// one is like. Those that a predicate or a key builder turned away may be writes all the same.
fn is_opted_in_read(scope: &Scope, method: &Method, reason: BypassReason) -> bool {
    let for_its_own_sake = matches!(
        reason,
        BypassReason::RequestBodyTooLarge
            | BypassReason::Authorization
            | BypassReason::Cookie
            | BypassReason::Uncacheable
    );
    for_its_own_sake && scope.settings.methods.contains(method)
}

/// Passes a request on; an unsafe one that succeeds makes its URL invalid (RFC 9111 section 4.4), and the groups that
/// its answer names (RFC 9875 section 3).
pub(crate) async fn bypass<S, B>(layer: &Layer<S>, req: ServiceRequest, reason: BypassReason) -> Exchanged<B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody + 'static,
{
    let scope = &layer.scope;
    let writes = invalidate::is_unsafe(req.method()) && !is_opted_in_read(scope, req.method(), reason);
    let written = writes.then(|| scope.url_fence(&req, None));
    // That writes are not cached surprises nobody.
    if reason != BypassReason::Method || written.is_none() {
        scope.say_bypass(reason);
    }
    let (answer, _) = run(layer, req, FillReason::Bypass(reason)).await;
    let mut response = answer?;
    if let Some(url) = written.filter(|_| has_succeeded(&response)) {
        let lines = response.headers().get_all("cache-group-invalidation").map(HeaderValue::as_bytes);
        let groups = lines.flat_map(tags::strings).map(|group| scope.tag_fence(&group));
        let fences: Vec<Fence> = [scope.fence(url)].into_iter().chain(groups).collect();
        let engine = Arc::clone(&scope.engine);
        behind::to_the_end(async move { tell_failure(engine.raise(&fences).await) }).await;
    }
    let fwd = if reason == BypassReason::Method { "method" } else { "bypass" };
    respond::tell_passed(scope, response.headers_mut(), fwd, reason.name());
    Ok(response.map_body(|_, body| CacheBody::pass(body)))
}

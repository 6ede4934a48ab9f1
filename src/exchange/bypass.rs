//! Requests that do not use the cache, and what their writes do to it.

use actix_service::Service;
use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;

use crate::exchange::answered::{Answered, judged_answer};
use crate::exchange::body::CacheBody;
use crate::exchange::handler::{Exchanged, Layer, has_succeeded, run};
use crate::exchange::telling::{Forward, tell_passed};
use crate::exchange::written::Write;
use crate::policy::invalidate;
use crate::scope::Scope;
use crate::status::{BypassReason, FillReason};

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

/// Passes a request on; an unsafe one that succeeds makes invalid what RFC 9111 section 4.4 and RFC 9875 section 3 name.
pub(crate) async fn bypass<S, B>(layer: &Layer<S>, req: ServiceRequest, reason: BypassReason) -> Exchanged<B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody + 'static,
{
    let scope = &layer.scope;
    let writes = invalidate::is_unsafe(req.method()) && !is_opted_in_read(scope, req.method(), reason);
    // That writes are not cached surprises nobody.
    if reason != BypassReason::Method || !writes {
        scope.say_bypass(reason);
    }
    let write = if writes { Some(Box::pin(Write::begin(scope, &req, reason)).await) } else { None };
    let (answer, wishes) = run(layer, req, FillReason::Bypass(reason)).await;
    let mut response = answer?;
    let why = if reason == BypassReason::Method { Forward::Method } else { Forward::Bypass };
    if let Some(write) = write.filter(|_| has_succeeded(&response))
        && let Some(fill) = Box::pin(write.end(scope, response.headers(), &wishes)).await
    {
        return Ok(judged_answer(fill, Answered::of(response, None, None, why), wishes, None, None));
    }
    tell_passed(scope, response.headers_mut(), None, why, reason.name());
    Ok(response.map_body(|_, body| CacheBody::pass(body)))
}

//! The wrapped handler at work.

use std::sync::Arc;

use actix_service::Service;
use actix_web::Error;
use actix_web::dev::{ServiceRequest, ServiceResponse};

use crate::exchange::behind;
use crate::exchange::body::CacheBody;
use crate::exchange::slot::Slot;
use crate::handle::tell_failure;
use crate::policy::invalidate;
use crate::policy::rules::Wishes;
use crate::request::sent_authority;
use crate::scope::Scope;
use crate::status::{BypassReason, FillReason};

/// A wrapped service and the scope it belongs to.
pub(crate) struct Layer<S> {
    pub(crate) service: S,
    pub(crate) scope: Arc<Scope>,
}

pub(crate) type Exchanged<B> = Result<ServiceResponse<CacheBody<B>>, Error>;

/// Runs the wrapped service with a slot for its handler's wishes; does what the handler queued, if it succeeded.
pub(crate) async fn run<S, B>(
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
            let (handle, authority) = (slot.handle.clone(), sent_authority(response.request()));
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

pub(crate) fn has_succeeded<B>(response: &ServiceResponse<B>) -> bool {
    invalidate::is_done(response.status()) && response.response().error().is_none()
}

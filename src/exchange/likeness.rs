//! A request that looks like another, for an answer whose own request went elsewhere.

use actix_web::dev::ServiceRequest;
use actix_web::test::TestRequest;

use crate::exchange::slot::Slot;
use crate::scope::Scope;

/// A request with the same head, path parameters and caches around it, and nothing else of it.
///
/// Of its data, what the scope was told to take along.
pub(crate) fn likeness(scope: &Scope, req: &ServiceRequest) -> ServiceRequest {
    let mut likeness = TestRequest::default().to_srv_request();
    let head = likeness.head_mut();
    head.method = req.method().clone();
    head.uri = req.uri().clone();
    head.version = req.version();
    head.headers = req.headers().clone();
    head.peer_addr = req.peer_addr();
    *likeness.match_info_mut() = req.match_info().clone();
    Slot::hand_over(req.request(), likeness.request());
    for take_along in &scope.settings.forwarded_data {
        take_along(req.request(), likeness.request());
    }
    likeness
}

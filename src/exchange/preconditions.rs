//! The client's conditions and ours: taken out of a request, and put in.

use actix_web::dev::ServiceRequest;
use actix_web::http::header::{self, HeaderMap, HeaderValue};

use crate::stored::response::StoredResponse;

/// Takes the client's conditional and range fields out of a request: what the handler answers is for everybody.
pub(crate) fn take_conditions(req: &mut ServiceRequest) -> HeaderMap {
    let headers = req.headers_mut();
    let mut taken = HeaderMap::new();
    for name in [
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_MATCH,
        header::IF_UNMODIFIED_SINCE,
        header::RANGE,
        header::IF_RANGE,
    ] {
        for value in headers.remove(&name) {
            taken.append(name.clone(), value);
        }
    }
    taken
}

/// Asks the handler for a range, as the client did (RFC 9110 section 14.2).
pub(crate) fn ask_for_range(req: &mut ServiceRequest, range: &HeaderValue, conditions: &HeaderMap) {
    req.headers_mut().insert(header::RANGE, range.clone());
    if let Some(only_if) = conditions.get(header::IF_RANGE) {
        req.headers_mut().insert(header::IF_RANGE, only_if.clone());
    }
}

/// Asks the handler whether a stale answer still holds (RFC 9111 section 4.3.1); false if there is nothing to ask by.
pub(crate) fn add_validators(req: &mut ServiceRequest, stored: &StoredResponse) -> bool {
    let etag = stored.field(&header::ETAG);
    let modified = stored.field(&header::LAST_MODIFIED).filter(|_| stored.freshness.last_modified.is_some());
    let headers = req.headers_mut();
    if let Some(etag) = etag {
        headers.insert(header::IF_NONE_MATCH, etag.clone());
    }
    if let Some(modified) = modified {
        headers.insert(header::IF_MODIFIED_SINCE, modified.clone());
    }
    etag.is_some() || modified.is_some()
}

//! The client's conditions and ours: taken out of a request, and put in.

use actix_web::dev::ServiceRequest;
use actix_web::http::header::{self, HeaderMap, HeaderValue};

use crate::policy::conditional::Conditions;
use crate::stored::response::StoredResponse;

/// The client's conditions, for the cache to answer.
pub(crate) fn conditions(headers: &HeaderMap) -> Conditions {
    let one = |name| headers.get(name).map(|value: &HeaderValue| value.as_bytes().to_vec());
    Conditions {
        if_none_match: headers
            .get_all(header::IF_NONE_MATCH)
            .map(|value| value.as_bytes().to_vec())
            .collect(),
        if_modified_since: one(header::IF_MODIFIED_SINCE),
        range: one(header::RANGE),
        if_range: one(header::IF_RANGE),
    }
}

/// Takes the client's conditional and range fields out of a request: what the handler answers is for everybody.
pub(crate) fn take_conditions(req: &mut ServiceRequest) -> Conditions {
    let taken = conditions(req.headers());
    let headers = req.headers_mut();
    for name in [
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_MATCH,
        header::IF_UNMODIFIED_SINCE,
        header::RANGE,
        header::IF_RANGE,
    ] {
        headers.remove(name);
    }
    taken
}

/// Asks the handler whether a stale answer still holds (RFC 9111 section 4.3.1); false if there is nothing to ask by.
pub(crate) fn add_validators(req: &mut ServiceRequest, stored: &StoredResponse) -> bool {
    let etag = stored.header(header::ETAG.as_str());
    let modified =
        stored.header(header::LAST_MODIFIED.as_str()).filter(|_| stored.freshness.last_modified.is_some());
    let headers = req.headers_mut();
    if let Some(etag) = etag {
        headers.insert(header::IF_NONE_MATCH, etag.clone());
    }
    if let Some(modified) = modified {
        headers.insert(header::IF_MODIFIED_SINCE, modified.clone());
    }
    etag.is_some() || modified.is_some()
}

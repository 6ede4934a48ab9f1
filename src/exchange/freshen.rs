//! What news of a stored response make of it (RFC 9111 sections 3.2, 3.4, 4.3.4 and 4.3.5).

use actix_web::HttpResponse;
use actix_web::body::BodySize;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::head;
use crate::policy::etag;
use crate::stored::response::StoredResponse;

/// Whether a field tells what the bytes of a body are: those of a stored one are not changed by its news (RFC 9111
/// sections 3.2 and 4.3.4).
fn describes_bytes(stored: &StoredResponse, name: &HeaderName) -> bool {
    match *name {
        header::CONTENT_ENCODING | header::CONTENT_RANGE | header::CONTENT_TYPE => true,
        // One that was missing may come late; another one would be of other bytes.
        header::ETAG => stored.etag().is_some(),
        _ => false,
    }
}

/// A stored head with the fields that its news bring (RFC 9111 section 3.2). A part has become the whole.
pub(crate) fn freshened(stored: &StoredResponse, news: &HeaderMap) -> HttpResponse<()> {
    let was_part = stored.status == StatusCode::PARTIAL_CONTENT;
    let status = if was_part { StatusCode::OK } else { stored.status };
    let mut response = HttpResponse::with_body(status, ());
    let headers = response.headers_mut();
    let named = head::connection_names(news);
    let brings = |name: &HeaderName| {
        !(head::is_connection_field(name) || describes_bytes(stored, name) || named.contains(name))
            && news.contains_key(name)
    };
    // The answer was confirmed now: the date of its first making would age it.
    let kept = |name: &HeaderName| {
        !brings(name) && *name != header::DATE && !(was_part && *name == header::CONTENT_RANGE)
    };
    for (name, value) in stored.headers().filter(|(name, _)| kept(name)) {
        headers.append(name.clone(), value.clone());
    }
    for (name, value) in news.iter().filter(|(name, _)| brings(name)) {
        headers.append(name.clone(), value.clone());
    }
    response
}

/// Whether a 304 is about what is stored (RFC 9111 section 4.3.4): one with another tag is about something else.
pub(crate) fn confirms(stored: &StoredResponse, news: &HeaderMap) -> bool {
    match (stored.etag(), news.get(header::ETAG)) {
        (Some(known), Some(told)) => etag::weak_eq(known, told.as_bytes()),
        _ => true,
    }
}

/// Whether the answer to a HEAD, a 200, is about what is stored (RFC 9111 section 4.3.5); `size` is that of its body,
/// which handlers that answer GET and HEAD alike have made for nobody.
pub(crate) fn is_head_of(stored: &StoredResponse, news: &HeaderMap, size: BodySize) -> bool {
    let agrees = |name: HeaderName| match news.get(&name) {
        Some(value) => stored.header(name.as_str()) == Some(value),
        None => true,
    };
    let len = news.get(header::CONTENT_LENGTH).map(HeaderValue::as_bytes);
    let agrees_in_len = len.is_none_or(|len| len == stored.body.len().to_string().as_bytes())
        && !matches!(size, BodySize::Sized(len) if len > 0 && len != stored.body.len() as u64);
    stored.status == StatusCode::OK && agrees(header::ETAG) && agrees(header::LAST_MODIFIED) && agrees_in_len
}

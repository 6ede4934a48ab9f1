//! Invalidation over HTTP: the method `PURGE`, for clients on the loopback.

use std::collections::BTreeSet;

use actix_fast_cache::CacheControl;
use actix_web::{
    Error, HttpResponse,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    error,
    http::header::{HeaderMap, HeaderValue},
    middleware::Next,
};
use sfv::{BareItem, ListEntry, Parser};

/// A layer outside the cache, which would take a PURGE for a write, and drop its URL even where it names tags.
pub(crate) async fn purge(
    cache: CacheControl,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    if request.method().as_str() != "PURGE" {
        return next.call(request).await.map(ServiceResponse::map_into_left_body);
    }
    let answer = answer(&cache, &request).await.unwrap_or_else(|error| error.error_response());
    Ok(request.into_response(answer).map_into_right_body())
}

async fn answer(cache: &CacheControl, request: &ServiceRequest) -> Result<HttpResponse, Error> {
    // An IPv4 client of a socket that listens on both has its address mapped.
    let is_near = request.peer_addr().is_some_and(|peer| peer.ip().to_canonical().is_loopback());
    if !is_near {
        return Err(error::ErrorForbidden("PURGE is for clients on the loopback"));
    }
    let dropped = match groups(request.headers())? {
        Some(tags) => {
            let count = tags.len();
            cache.invalidate_tags(tags).await.map_err(error::ErrorInternalServerError)?;
            count.to_string()
        }
        None => {
            let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
            let count = cache.invalidate_url(target).await.map_err(error::ErrorInternalServerError)?;
            count.to_string()
        }
    };
    Ok(HttpResponse::Ok().content_type("application/json").body(format!("{{\"dropped\": {dropped}}}\n")))
}

/// The tags in `Cache-Groups`, a list of strings (RFC 9875 section 2); none without the field.
///
/// In an answer, a bad field is as if absent. Here that would drop the URL instead, or nothing, and say "done".
fn groups(headers: &HeaderMap) -> Result<Option<BTreeSet<String>>, Error> {
    let lines: Vec<_> = headers.get_all("cache-groups").map(HeaderValue::as_bytes).collect();
    if lines.is_empty() {
        return Ok(None);
    }
    let wrong = || error::ErrorBadRequest("Cache-Groups is a list of strings, as in \"a\", \"b\"");
    let list = Parser::new(&lines.join(&b", "[..])).parse::<sfv::List>().map_err(|_| wrong())?;
    let tags: Option<_> = list.into_iter().map(string).collect();
    tags.map(Some).ok_or_else(wrong)
}

fn string(entry: ListEntry) -> Option<String> {
    match entry {
        ListEntry::Item(item) => match item.bare_item {
            BareItem::String(text) => Some(text.into()),
            _ => None,
        },
        ListEntry::InnerList(_) => None,
    }
}

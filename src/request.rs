//! What a request asks of the cache: its key, or why it has none.

use std::pin::Pin;

use actix_web::dev::{Payload, ServiceRequest};
use actix_web::error::PayloadError;
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::web::{Bytes, BytesMut};
use actix_web::{HttpMessage, HttpRequest};
use futures_util::{Stream, StreamExt};
use sha2::{Digest, Sha256};

use crate::clock::Timestamp;
use crate::head::{self, FORWARDING, RequestFields};
use crate::key::{CacheKey, KeyWriter, MAX_KEY_BYTES, Part};
use crate::policy::directives::RequestDirectives;
use crate::policy::fields::{is_tchar, members};
use crate::policy::reuse::{self, Reuse};
use crate::policy::rules::{Personal, Rules};
use crate::settings::{CookiePolicy, HostPolicy, KeyRule, ObeyClient, Settings};
use crate::status::BypassReason;
use crate::stored::response::StoredResponse;

/// A request that uses the cache.
pub(crate) struct Asked {
    pub(crate) key: CacheKey,
    pub(crate) fields: RequestFields,
    pub(crate) personal: Personal,
    /// The client's own directives, where the scope obeys them.
    pub(crate) client: Option<Box<RequestDirectives>>,
    pub(crate) head: bool,
}

impl Asked {
    /// What a stored response is good for, for this request.
    #[inline(always)] // as `reuse::judge`
    pub(crate) fn judge(&self, stored: &StoredResponse, rules: &Rules, now: Timestamp) -> Reuse {
        reuse::judge(stored, rules, self.personal, self.client.as_deref(), now)
    }

    /// Whether what this request is answered says nothing of what others would be.
    pub(crate) fn is_for_one(&self) -> bool {
        self.personal.reason().is_some() || self.head
    }
}

/// What is to be done with a request before any lookup.
pub(crate) enum Plan {
    Use(Asked),
    Bypass(BypassReason),
    /// The body has to be read into the key first.
    ReadBody,
}

/// Decides whether a request uses the cache, and under which key.
pub(crate) fn plan(settings: &Settings, req: &ServiceRequest) -> Plan {
    let (fields, host) = RequestFields::read(req.headers());
    let method = req.method();
    let safe = *method == Method::GET || *method == Method::HEAD;
    if fields.upgrade || *method == Method::CONNECT {
        return Plan::Bypass(BypassReason::Upgrade);
    }
    if !safe && !settings.methods.contains(method) {
        return Plan::Bypass(BypassReason::Method);
    }
    if fields.overrides {
        return Plan::Bypass(BypassReason::OverrideField);
    }
    if settings.skip.as_ref().is_some_and(|skip| skip(req)) {
        return Plan::Bypass(BypassReason::Skipped);
    }
    if !safe {
        return Plan::ReadBody;
    }
    if fields.body {
        return Plan::Bypass(BypassReason::RequestBody);
    }
    match ask(settings, req, method, (fields, host), None) {
        Ok(asked) => Plan::Use(asked),
        Err(reason) => Plan::Bypass(reason),
    }
}

/// Makes the key of a request, as of one with this method; `body` is the digest of a body that is part of it.
#[inline(always)] // as `KeyWriter::finish_lent`: every hit asks once
pub(crate) fn ask(
    settings: &Settings,
    req: &ServiceRequest,
    method: &Method,
    (fields, host): (RequestFields, Option<&HeaderValue>),
    body: Option<[u8; 32]>,
) -> Result<Asked, BypassReason> {
    let client = match &settings.obey_client {
        ObeyClient::Never => None,
        ObeyClient::When(trusted) if !trusted(req) => None,
        ObeyClient::Always | ObeyClient::When(_) => {
            fields.cache_control.then(|| Box::new(directives(req.headers())))
        }
    };
    if client.as_ref().is_some_and(|client| client.no_store) {
        return Err(BypassReason::ClientNoStore);
    }
    let principal = settings.principal.as_ref().and_then(|principal| principal(req));
    let personal = Personal {
        authorization: fields.authorization && principal.is_none(),
        cookie: fields.cookie && has_unknown_cookie(&settings.cookies, req.headers()),
    };
    let key = key(settings, req, method, (fields, host), principal.as_deref(), body)?;
    Ok(Asked { key, fields, personal, client, head: *method == Method::HEAD })
}

fn directives(headers: &HeaderMap) -> RequestDirectives {
    let mut directives =
        RequestDirectives::parse(headers.get_all(header::CACHE_CONTROL).map(|line| line.as_bytes()));
    // RFC 9111 section 5.4: Pragma speaks only where Cache-Control is absent.
    if !headers.contains_key(header::CACHE_CONTROL) {
        let mut pragmas = headers.get_all(header::PRAGMA).flat_map(|line| members(line.as_bytes()));
        directives.no_cache = pragmas.any(|member| member.eq_ignore_ascii_case(b"no-cache"));
    }
    directives
}

fn key(
    settings: &Settings,
    req: &ServiceRequest,
    method: &Method,
    (fields, host): (RequestFields, Option<&HeaderValue>),
    principal: Option<&str>,
    body: Option<[u8; 32]>,
) -> Result<CacheKey, BypassReason> {
    let mut key = KeyWriter::new(settings.namespace.prefix());
    match &settings.key {
        KeyRule::Whole(name) => {
            key.name(&chosen(name(req))?);
            key.part(Part::Method, GET_CLASS);
            return bounded(key);
        }
        KeyRule::Name(name) => key.name(&chosen(name(req))?),
        KeyRule::Url => write_url(settings, req, fields, host, &mut key)?,
    }
    if is_of_get(method) {
        key.written(GET_PART);
    } else {
        key.part(Part::Method, method.as_str().as_bytes());
    }
    for name in &settings.vary {
        key.field(name.as_str(), head::selecting(req.headers(), name, settings.normalised).as_deref());
    }
    if let (CookiePolicy::KeyBy(names), true) = (&settings.cookies, fields.cookie) {
        for (name, value) in
            cookies(req.headers()).filter(|(name, _)| is_one_of(names, name) || is_ambiguous(name))
        {
            key.part(Part::Cookie, name);
            key.part(Part::Cookie, value);
        }
    }
    if let Some(principal) = principal {
        key.part(Part::Principal, principal.as_bytes());
    }
    if let Some(part) = &settings.key_part {
        key.part(Part::Extra, chosen(part(req))?.as_bytes());
    }
    if let Some(body) = body {
        key.part(Part::Body, &body);
    }
    bounded(key)
}

/// GET and HEAD share one entry; the name is part of stored keys.
pub(crate) const GET_CLASS: &[u8] = b"GET";

/// Parts that are in nearly every key, as they are written.
const GET_PART: &[u8] = b"\x06\x03GET";
const HTTP_PART: &[u8] = b"\x07\x04http";
const HTTPS_PART: &[u8] = b"\x07\x05https";

fn is_of_get(method: &Method) -> bool {
    *method == Method::GET || *method == Method::HEAD
}

fn chosen(name: Option<String>) -> Result<String, BypassReason> {
    name.filter(|name| !name.is_empty()).ok_or(BypassReason::KeyRefused)
}

#[inline(always)] // as `ask`
fn bounded(key: KeyWriter) -> Result<CacheKey, BypassReason> {
    if key.len() > MAX_KEY_BYTES { Err(BypassReason::KeyTooLong) } else { Ok(key.finish_lent()) }
}

fn write_url(
    settings: &Settings,
    req: &ServiceRequest,
    fields: RequestFields,
    host: Option<&HeaderValue>,
    key: &mut KeyWriter,
) -> Result<(), BypassReason> {
    let (uri, headers) = (req.uri(), req.headers());
    let in_target = uri.authority().map(|authority| authority.as_str().as_bytes());
    let authority = match &settings.host {
        HostPolicy::AsSent => in_target.or(host.map(HeaderValue::as_bytes)).unwrap_or_default(),
        HostPolicy::Fixed(host) => host.as_bytes(),
        HostPolicy::Ignore => b"",
    };
    if !write_target(settings, authority, uri.path(), uri.query(), key) {
        return Err(BypassReason::QueryRefused);
    }
    if settings.host == HostPolicy::AsSent {
        let (scheme, part) =
            if req.app_config().secure() { ("https", HTTPS_PART) } else { ("http", HTTP_PART) };
        key.written(part);
        // What proxies say of it is keyed with the forwarded fields.
        // Handlers believe the scheme of an absolute target, and of HTTP/2, whatever the connection is.
        if let Some(said) = uri.scheme_str().filter(|said| *said != scheme) {
            key.part(Part::Scheme, said.as_bytes());
        }
        // An empty line is not the absence of one.
        if authority.is_empty() && host.is_some_and(HeaderValue::is_empty) {
            key.part(Part::Host, b"");
        }
        // A target with an authority of its own, or several Host lines: whichever the handler believes is keyed.
        if in_target.is_some() || fields.several_hosts {
            let hosts = headers.get_all(header::HOST).map(HeaderValue::as_bytes);
            for host in hosts.filter(|host| *host != authority) {
                key.part(Part::Host, host);
            }
        }
        if fields.forwarded {
            write_forwarded(headers, authority, key);
        }
    }
    key.end_origin();
    Ok(())
}

/// Writes what names a URL: the same from a request and from an invalidation.
pub(crate) fn write_target(
    settings: &Settings,
    authority: &[u8],
    path: &str,
    query: Option<&str>,
    key: &mut KeyWriter,
) -> bool {
    key.part(Part::Authority, authority);
    key.part(Part::Path, path.as_bytes());
    let accepted = settings.query.write(query, key);
    key.end_target();
    accepted
}

/// Keys the forwarded scheme and host, which a handler sees in `connection_info()`, where they say something new.
fn write_forwarded(headers: &HeaderMap, authority: &[u8], key: &mut KeyWriter) {
    for name in FORWARDING {
        // By text, not by `get_all`: that would make a name of it, and allocate.
        let lines =
            headers.iter().filter(|(known, _)| known.as_str() == name).map(|(_, line)| line.as_bytes());
        for line in lines {
            if name == "forwarded" {
                // `for` and `by` are about the client: keyed, they would give each client a cache of its own.
                let pairs = line.split(|byte| matches!(byte, b',' | b';')).map(<[u8]>::trim_ascii);
                for pair in pairs.filter(|pair| !names_a_node(pair)) {
                    key.part(Part::Forwarded, pair);
                }
            } else if line != authority || !names_a_host(name) {
                key.part(Part::Forwarded, name.as_bytes());
                key.part(Part::Forwarded, line);
            }
        }
    }
}

/// Whether a proxy's field says nothing new when it repeats the authority; as a scheme it would.
fn names_a_host(name: &str) -> bool {
    matches!(
        name,
        "x-forwarded-host" | "x-forwarded-server" | "x-original-host" | "x-http-host-override" | "x-host"
    )
}

fn names_a_node(pair: &[u8]) -> bool {
    let starts = |name: &[u8]| pair.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    starts(b"for=") || starts(b"by=")
}

/// The authority that a request names, in its target or its `Host`.
pub(crate) fn sent_authority(req: &HttpRequest) -> Option<Vec<u8>> {
    let in_target = req.uri().authority().map(|authority| authority.as_str().as_bytes());
    in_target.or_else(|| req.headers().get(header::HOST).map(|host| host.as_bytes())).map(<[u8]>::to_vec)
}

fn has_unknown_cookie(policy: &CookiePolicy, headers: &HeaderMap) -> bool {
    match policy {
        CookiePolicy::Bypass => true,
        CookiePolicy::Ignore | CookiePolicy::KeyBy(_) => false,
        CookiePolicy::IgnoreOnly(names) => cookies(headers).any(|(name, _)| !is_one_of(names, name)),
    }
}

/// The cookies of a request as name and value, as sent.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers
        .get_all(header::COOKIE)
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .map(|pair| {
            let pair = pair.trim_ascii();
            let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
            (name, pair.get(name.len() + 1..).unwrap_or_default())
        })
        .filter(|(name, value)| !name.is_empty() || !value.is_empty())
}

fn is_one_of(names: &[String], name: &[u8]) -> bool {
    names.iter().any(|known| known.as_bytes() == name)
}

/// Whether a handler may read this name as another: actix trims and decodes names, so `%73ession ` is `session`.
fn is_ambiguous(name: &[u8]) -> bool {
    name.iter().any(|byte| !is_tchar(*byte) || *byte == b'%')
}

/// Reads a body into a digest, and puts it back.
pub(crate) async fn read_body(req: &mut ServiceRequest, limit: usize) -> Result<[u8; 32], BypassReason> {
    let mut payload = req.take_payload();
    let mut bytes = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        match chunk {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(error) => {
                // The handler meets the same error where it reads.
                let read = futures_util::stream::iter([Ok(bytes.freeze()), Err(error)]);
                req.set_payload(stream_payload(read));
                return Err(BypassReason::RequestBody);
            }
        }
        if bytes.len() > limit {
            let read = futures_util::stream::iter([Ok(bytes.freeze())]).chain(payload);
            req.set_payload(stream_payload(read));
            return Err(BypassReason::RequestBodyTooLarge);
        }
    }
    let mut hasher = Sha256::new();
    // What the bytes mean; a field value cannot hold the zero.
    for name in [header::CONTENT_TYPE, header::CONTENT_ENCODING] {
        hasher.update(head::combined(req.headers(), &name).unwrap_or_default());
        hasher.update([0]);
    }
    hasher.update(&bytes);
    req.set_payload(Payload::from(bytes.freeze()));
    Ok(hasher.finalize().into())
}

fn stream_payload(stream: impl Stream<Item = Result<Bytes, PayloadError>> + 'static) -> Payload {
    let stream: Pin<Box<dyn Stream<Item = Result<Bytes, PayloadError>>>> = Box::pin(stream);
    Payload::from(stream)
}

/// The principal of [`key_by_authorization`](crate::CacheConfigBuilder::key_by_authorization): a digest, so that
/// no credential is kept.
pub(crate) fn authorization_digest(req: &ServiceRequest) -> Option<String> {
    let value = head::combined(req.headers(), &header::AUTHORIZATION)?;
    let digest = Sha256::digest(&value);
    Some(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_parts_are_those_that_would_be_written() {
        let parts: [(&[u8], Part, &[u8]); 3] = [
            (GET_PART, Part::Method, GET_CLASS),
            (HTTP_PART, Part::Scheme, b"http"),
            (HTTPS_PART, Part::Scheme, b"https"),
        ];
        for (written, kind, value) in parts {
            let (mut one, mut other) = (KeyWriter::new(b""), KeyWriter::new(b""));
            one.written(written);
            other.part(kind, value);
            assert_eq!(one.finish(), other.finish());
        }
    }
}

//! A request's fields, read in one pass: what the cache has to know before it looks anything up.

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::policy::fields::names;
use crate::policy::selecting;

/// What the fields of a request say about caching.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RequestFields {
    pub(crate) authorization: bool,
    pub(crate) cookie: bool,
    pub(crate) body: bool,
    pub(crate) upgrade: bool,
    /// The application may be asked to see another URL or method than the request names.
    pub(crate) overrides: bool,
    /// `If-None-Match`, `If-Modified-Since`, `If-Match`, `If-Unmodified-Since`, `If-Range` or `Range`.
    pub(crate) conditional: bool,
    /// The client or a proxy speaks of another scheme or host.
    pub(crate) forwarded: bool,
    pub(crate) cache_control: bool,
    /// There are several `Host` lines.
    pub(crate) several_hosts: bool,
}

impl RequestFields {
    /// Reads them, and the first `Host` line: to look it up again would cost each hit a hash.
    pub(crate) fn read(headers: &HeaderMap) -> (Self, Option<&HeaderValue>) {
        let mut hosts = headers.get_all(&header::HOST);
        let host = hosts.next();
        let mut fields = Self { several_hosts: hosts.len() > 0, ..Self::default() };
        // By names, which takes half of what pairs take.
        for name in headers.keys() {
            // Those that everyone knows are compared by their numbers, and only the others by text.
            match *name {
                header::HOST => {}
                header::AUTHORIZATION => fields.authorization = true,
                header::COOKIE => fields.cookie = true,
                header::CONTENT_LENGTH => {
                    fields.body |= headers.get_all(name).any(|length| length.as_bytes() != b"0");
                }
                header::TRANSFER_ENCODING => fields.body = true,
                header::UPGRADE => fields.upgrade = true,
                header::CACHE_CONTROL | header::PRAGMA => fields.cache_control = true,
                header::RANGE
                | header::IF_NONE_MATCH
                | header::IF_MODIFIED_SINCE
                | header::IF_MATCH
                | header::IF_UNMODIFIED_SINCE
                | header::IF_RANGE => fields.conditional = true,
                _ => fields.read_other(name.as_str()),
            }
        }
        (fields, host)
    }

    fn read_other(&mut self, name: &str) {
        match name {
            "x-original-url"
            | "x-rewrite-url"
            | "x-original-uri"
            | "x-http-method-override"
            | "x-http-method"
            | "x-method-override" => self.overrides = true,
            name if name.starts_with(['x', 'f']) && FORWARDING.contains(&name) => self.forwarded = true,
            _ => {}
        }
    }
}

/// Fields by which proxies tell, and clients pretend, under which scheme and host they were asked.
pub(crate) const FORWARDING: [&str; 14] = [
    "forwarded",
    "x-forwarded-host",
    "x-forwarded-server",
    "x-original-host",
    "x-http-host-override",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-forwarded-protocol",
    "x-forwarded-ssl",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-url-scheme",
    "x-host",
    "front-end-https",
];

/// Fields that belong to one connection (RFC 9110 section 7.6.1, RFC 9111 section 3.1).
///
/// `Content-Length` is written anew from the body. A stored `Upgrade` would ask every client to leave HTTP, a stored
/// `TE` makes HTTP/2 reset the stream.
pub(crate) fn is_connection_field(name: &HeaderName) -> bool {
    match *name {
        header::CONNECTION
        | header::PROXY_AUTHENTICATE
        | header::PROXY_AUTHORIZATION
        | header::TE
        | header::TRAILER
        | header::TRANSFER_ENCODING
        | header::UPGRADE
        | header::CONTENT_LENGTH => true,
        _ => matches!(name.as_str(), "keep-alive" | "proxy-authentication-info" | "proxy-connection"),
    }
}

/// The fields that `Connection` names.
pub(crate) fn connection_names(headers: &HeaderMap) -> Vec<HeaderName> {
    headers.get_all(header::CONNECTION).flat_map(|line| names(line.as_bytes())).collect()
}

/// The value of a request field that selects an answer: as keys have it, or in its normal form.
pub(crate) fn selecting(headers: &HeaderMap, name: &HeaderName, normalised: bool) -> Option<Vec<u8>> {
    let value = combined(headers, name)?;
    // Credentials are no lists: what tells two of them apart must never be dropped.
    let is_list = !matches!(*name, header::COOKIE | header::AUTHORIZATION);
    Some(if normalised && is_list { selecting::form(name, &value) } else { value })
}

/// The value of a request field as keys have it: lines joined, `None` if there is no line (RFC 9110 section 5.3).
pub(crate) fn combined(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let mut lines = headers.get_all(name);
    let mut value = lines.next()?.as_bytes().to_vec();
    for line in lines {
        value.extend_from_slice(b", ");
        value.extend_from_slice(line.as_bytes());
    }
    Some(value)
}

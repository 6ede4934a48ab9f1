//! The fields of a stored response: those that are kept, and those that are added.

use std::cell::RefCell;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

use crate::head;
use crate::policy::date;
use crate::policy::fields::members;
use crate::policy::rules::SetCookiePolicy;
use crate::settings::{EtagMode, Settings};
use crate::stored::response::StoredResponse;

/// The fields of an answer that belong to it and not to its connection (RFC 9111 section 3.1).
///
/// One that has no `Date` gets the time of its receipt (RFC 9110 section 6.6.1).
///
/// `withheld` are fields that the answer itself keeps out.
pub(crate) fn storable(
    headers: &HeaderMap,
    withheld: &[HeaderName],
    settings: &Settings,
    now: i64,
) -> Vec<(HeaderName, HeaderValue)> {
    let named = head::connection_names(headers);
    let status_field = settings.status_field.as_ref().map(|field| &field.name);
    let strip_cookies = settings.rules.set_cookie == SetCookiePolicy::Strip;
    let has_date = headers.contains_key(header::DATE);
    // With room for what is added to nearly all: a date and a tag.
    let added = usize::from(!has_date) + usize::from(!headers.contains_key(header::ETAG));
    let mut fields = Vec::with_capacity(headers.len() + added);
    let kept = headers
        .iter()
        .filter(|(name, _)| {
            !(head::is_connection_field(name.as_str())
                || named.contains(name)
                || withheld.contains(name)
                || status_field == Some(name)
                || **name == header::AGE
                || strip_cookies && **name == header::SET_COOKIE)
        })
        .map(|(name, value)| (name.clone(), value.clone()));
    fields.extend(kept);
    if !has_date {
        fields.extend(dated(now));
    }
    fields
}

thread_local! {
    /// The last date that was written: most answers of a second are not the first one.
    static DATE: RefCell<Option<(i64, HeaderValue)>> = const { RefCell::new(None) };
}

/// A `Date`.
pub(crate) fn dated(now: i64) -> Option<(HeaderName, HeaderValue)> {
    let last =
        DATE.with_borrow(|last| last.as_ref().filter(|(at, _)| *at == now).map(|(_, date)| date.clone()));
    let date = match last {
        Some(date) => date,
        None => {
            let date = HeaderValue::try_from(date::format(now)).ok()?;
            DATE.set(Some((now, date.clone())));
            date
        }
    };
    Some((header::DATE, date))
}

/// The `Vary` line that adds the scope's own fields to those an answer names.
pub(crate) fn merged_vary(headers: &HeaderMap, own: &[HeaderName]) -> Option<(HeaderName, HeaderValue)> {
    let named = |name: &HeaderName| {
        headers
            .get_all(header::VARY)
            .flat_map(|line| members(line.as_bytes()))
            .any(|member| member.eq_ignore_ascii_case(name.as_str().as_bytes()))
    };
    let missing: Vec<&str> = own.iter().filter(|name| !named(name)).map(HeaderName::as_str).collect();
    let line = HeaderValue::from_str(&missing.join(", ")).ok()?;
    (!missing.is_empty()).then_some((header::VARY, line))
}

/// Adds a validator made of the body, where the handler gave none (RFC 9110 section 8.8.3).
pub(crate) fn add_etag(response: &mut StoredResponse, body: &[u8], mode: EtagMode) {
    // The bytes of a part do not tell what they are a part of.
    if response.field(&header::ETAG).is_some() || response.status == StatusCode::PARTIAL_CONTENT {
        return;
    }
    let prefix = match mode {
        EtagMode::Off => return,
        EtagMode::Weak => "W/",
        EtagMode::Strong => "",
    };
    let mut tag = String::with_capacity(40);
    tag.push_str(prefix);
    tag.push('"');
    for byte in Sha256::digest(body).iter().take(16) {
        for half in [byte >> 4, byte & 15] {
            tag.push(char::from_digit(u32::from(half), 16).unwrap_or('0'));
        }
    }
    tag.push('"');
    if let Ok(tag) = HeaderValue::try_from(tag) {
        response.headers.edit().push((header::ETAG, tag));
    }
}

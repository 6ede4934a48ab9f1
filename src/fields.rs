//! The fields of a stored response: those that are kept, and those that are added.

use std::cell::RefCell;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::web::Bytes;
use sha2::{Digest, Sha256};

use crate::head;
use crate::policy::date;
use crate::policy::fields::members;
use crate::policy::rules::SetCookiePolicy;
use crate::policy::storable::Verdict;
use crate::settings::{EtagMode, Settings};
use crate::stored::pattern::Line;
use crate::stored::response::StoredResponse;

/// The lines of a head, in one pass: to go through a `HeaderMap` takes longer than to go through what this gives.
pub(crate) fn lines(headers: &HeaderMap) -> Vec<Line> {
    // With room for what is added to nearly all answers: a date and a tag.
    let mut lines = Vec::with_capacity(headers.len_keys() + 2);
    lines.extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())));
    lines
}

/// Leaves of the lines of an answer those that belong to it and not to its connection (RFC 9111 section 3.1), and that it
/// does not keep out itself.
pub(crate) fn storable(mut lines: Vec<Line>, verdict: &Verdict, settings: &Settings) -> Vec<Line> {
    let status_field = settings.status_field.as_ref().map(|field| &field.name);
    let strip_cookies = settings.rules.set_cookie == SetCookiePolicy::Strip;
    lines.retain(|(name, _)| {
        !(*name == header::AGE
            || head::is_connection_field(name)
            || status_field == Some(name)
            || strip_cookies && *name == header::SET_COOKIE
            || verdict.withheld.contains(name))
    });
    lines
}

thread_local! {
    /// The last date that was written: most answers of a second are not the first one.
    static DATE: RefCell<Option<(i64, HeaderValue)>> = const { RefCell::new(None) };
}

/// A `Date`.
pub(crate) fn dated(now: i64) -> Option<Line> {
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
pub(crate) fn merged_vary<'a>(lines: &[Line], own: impl Iterator<Item = &'a HeaderName>) -> Option<Line> {
    let named = |name: &HeaderName| {
        lines
            .iter()
            .filter(|(of, _)| *of == header::VARY)
            .flat_map(|(_, line)| members(line.as_bytes()))
            .any(|member| member.eq_ignore_ascii_case(name.as_str().as_bytes()))
    };
    let missing: Vec<&str> = own.filter(|name| !named(name)).map(HeaderName::as_str).collect();
    if missing.is_empty() {
        return None;
    }
    Some((header::VARY, HeaderValue::from_str(&missing.join(", ")).ok()?))
}

/// Adds a validator made of the body, where the handler gave none (RFC 9110 section 8.8.3).
pub(crate) fn add_etag(response: &mut StoredResponse, body: &[Bytes], mode: EtagMode) {
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
    let mut hasher = Sha256::new();
    for piece in body {
        hasher.update(piece);
    }
    for byte in hasher.finalize().iter().take(16) {
        for half in [byte >> 4, byte & 15] {
            tag.push(char::from_digit(u32::from(half), 16).unwrap_or('0'));
        }
    }
    tag.push('"');
    if let Ok(tag) = HeaderValue::try_from(tag) {
        response.headers.edit().push((header::ETAG, tag));
    }
}

//! What a successful unsafe request makes invalid (RFC 9111 section 4.4).

use actix_web::http::{Method, StatusCode};

/// Whether a method may change its target; unknown ones may (RFC 9110 section 9.2.1).
pub(crate) fn is_unsafe(method: &Method) -> bool {
    !matches!(
        method.as_str(),
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "QUERY" | "PROPFIND" | "REPORT" | "SEARCH"
    )
}

/// Whether an answer to an unsafe request says that it was done: 2xx and 3xx.
pub(crate) fn is_done(status: StatusCode) -> bool {
    status.is_success() || status.is_redirection()
}

//! The client's own conditions, answered from a whole stored response (RFC 9110 sections 13 and 14).

use actix_web::http::{Method, StatusCode};

use crate::policy::range::{self, RangeAnswer};
use crate::policy::{date, etag};
use crate::stored::response::StoredResponse;

/// The conditional and range fields of a request, taken out before the handler sees it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conditions {
    pub(crate) if_none_match: Vec<Vec<u8>>,
    pub(crate) if_modified_since: Option<Vec<u8>>,
    pub(crate) range: Option<Vec<u8>>,
    pub(crate) if_range: Option<Vec<u8>>,
}

/// How a stored 200 answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Whole,
    NotModified,
    /// 206, first and last byte.
    Part {
        first: u64,
        last: u64,
    },
    /// 416.
    Unsatisfiable,
}

impl Conditions {
    pub(crate) fn is_empty(&self) -> bool {
        self.if_none_match.is_empty() && self.if_modified_since.is_none() && self.range.is_none()
    }

    /// Evaluates the conditions in the order of RFC 9110 section 13.2.2; they hold only for a 200 to GET or HEAD.
    pub(crate) fn evaluate(&self, method: &Method, stored: &StoredResponse, now: i64) -> Answer {
        let safe = *method == Method::GET || *method == Method::HEAD;
        if self.is_empty() || stored.status() != StatusCode::OK || !safe {
            return Answer::Whole;
        }
        if self.not_modified(stored, now) {
            return Answer::NotModified;
        }
        // RFC 9110 section 14.2: Range is for GET alone.
        match &self.range {
            Some(range) if *method == Method::GET && self.range_applies(stored, now) => {
                match range::select(range, stored.body().len() as u64) {
                    RangeAnswer::Whole => Answer::Whole,
                    RangeAnswer::Part { first, last } => Answer::Part { first, last },
                    RangeAnswer::Unsatisfiable => Answer::Unsatisfiable,
                }
            }
            _ => Answer::Whole,
        }
    }

    fn not_modified(&self, stored: &StoredResponse, now: i64) -> bool {
        if !self.if_none_match.is_empty() {
            // RFC 9110 section 13.1.3: If-None-Match, where present, decides alone.
            let lines = self.if_none_match.iter().map(Vec::as_slice);
            return !etag::none_match(lines, stored.etag());
        }
        let since = self.if_modified_since.as_deref().and_then(|value| date::parse(value, now));
        match (since, stored.freshness.last_modified) {
            (Some(since), Some(modified)) => modified <= since,
            _ => false,
        }
    }

    fn range_applies(&self, stored: &StoredResponse, now: i64) -> bool {
        self.if_range.as_deref().is_none_or(|value| {
            etag::if_range_matches(value, stored.etag(), stored.freshness.last_modified, now)
        })
    }
}

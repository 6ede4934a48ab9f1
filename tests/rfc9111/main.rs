//! RFC 9111 and the RFCs around it, a section a file: what a shared cache must and should do.
//!
//! Most tests are of the preset `rfc9111`; those of the defaults say so. Rows are those of the list of
//! forty behaviours, letters with numbers those of the list of threats.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

mod age;
mod cache_status;
mod dates;
mod directives;
mod freshness;
mod groups;
mod head;
mod interim;
mod invalidation;
mod malformed;
mod origin;
mod partial;
mod posted;
mod query;
mod range;
mod requests;
mod selecting;
mod several_ranges;
mod stale;
mod storing;
mod targeted;
mod validation;
mod vary;
mod written;

//! RFC 9111 as pure functions: stored facts, request facts, rules and the time in; decisions with reasons out.

pub(crate) mod conditional;
pub(crate) mod date;
pub(crate) mod directives;
pub(crate) mod etag;
pub(crate) mod facts;
pub(crate) mod fields;
pub(crate) mod freshness;
pub(crate) mod invalidate;
pub(crate) mod partial;
pub(crate) mod range;
pub(crate) mod reuse;
pub(crate) mod rules;
pub(crate) mod selecting;
pub(crate) mod storable;
pub(crate) mod tags;
pub(crate) mod targeted;
pub(crate) mod vary;

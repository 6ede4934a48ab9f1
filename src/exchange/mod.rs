//! One exchange: from a request that has no fresh answer at hand to its answer, and to what is stored of it.
//!
//! `course` leads it: checks, lookup, then the `step` that is next: a hit, a wait in the `queue`, or a run. `handler` runs what the cache wraps
//! and judges what it answers; `fill` and `body` store that; `respond` answers out of what is stored; `refresh` does
//! the same behind an answer.

pub(crate) mod answered;
pub(crate) mod behind;
pub(crate) mod body;
pub(crate) mod bypass;
pub(crate) mod course;
pub(crate) mod duty;
pub(crate) mod fill;
pub(crate) mod filling;
pub(crate) mod freshen;
pub(crate) mod handler;
pub(crate) mod leading;
pub(crate) mod likeness;
pub(crate) mod parts;
pub(crate) mod pieces;
pub(crate) mod preconditions;
pub(crate) mod queue;
pub(crate) mod refresh;
pub(crate) mod respond;
pub(crate) mod slot;
pub(crate) mod step;
pub(crate) mod telling;
pub(crate) mod written;

//! The setters of [`CacheConfigBuilder`](crate::CacheConfigBuilder), a topic a file; each states its default.

mod answers;
mod keys;
mod lifetimes;
mod requests;
mod stale;
mod waiting;

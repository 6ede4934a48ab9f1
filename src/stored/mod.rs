//! What is kept: a stored response, the entry around it, and its bytes for storages that leave the process.

pub(crate) mod codec;
pub(crate) mod entry;
pub(crate) mod lines;
pub(crate) mod pattern;
pub(crate) mod response;
pub(crate) mod weight;

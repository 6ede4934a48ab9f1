//! A warning for caches that are made where each worker gets one of its own.

use std::collections::HashMap;
use std::panic::Location;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread::{self, ThreadId};

/// Where configurations were begun, and on which thread first.
static BEGUN: LazyLock<Mutex<HashMap<&'static Location<'static>, Begun>>> = LazyLock::new(Mutex::default);

struct Begun {
    thread: ThreadId,
    warned: bool,
}

/// One line of code that makes a cache on several threads stands in the factory closure of `HttpServer::new`: each
/// worker would have a cache of its own, and an invalidation would reach one of them.
pub(crate) fn warn_if_made_per_worker(place: &'static Location<'static>) {
    let mut begun = BEGUN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = begun.entry(place).or_insert(Begun { thread: thread::current().id(), warned: false });
    if known.thread != thread::current().id() && !known.warned {
        known.warned = true;
        tracing::warn!(
            "a cache is made at {place} on several threads, so workers do not share it: build the CacheConfig once, \
             outside the closure given to HttpServer::new, and clone it in"
        );
    }
}

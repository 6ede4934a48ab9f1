//! What the command line makes of the cache.

use std::{fmt::Display, time::Duration};

use actix_fast_cache::{CacheConfig, CacheConfigBuilder, CookiePolicy, MemoryStorage};
use clap::{CommandFactory as _, Error, error::ErrorKind};

use crate::args::{Args, Profile, Storage};

/// Configures the cache; the error is one of the command line.
pub(crate) fn configure(args: &Args) -> Result<CacheConfig, Error> {
    let mut cache = match (&args.storage, args.max_bytes) {
        (Storage::Memory, None) => CacheConfig::builder(MemoryStorage::new()),
        (Storage::Memory, Some(bytes)) => CacheConfig::builder(MemoryStorage::with_capacity(bytes)),
        (Storage::Redis(_), Some(_)) => {
            return Err(refusal("--max-bytes is for --storage memory: Redis has its own maxmemory"));
        }
        (Storage::Redis(url), None) => redis(url, &args.namespace)?,
    };
    cache = cache.namespace(&args.namespace);
    cache = match args.profile {
        // An origin that says nothing of lifetimes was not asked whether it may be cached.
        Profile::App => cache.explicit_only(),
        Profile::Rfc9111 => cache.rfc9111(),
    };
    if let Some(seconds) = args.ttl {
        cache = cache.ttl(Duration::from_secs(seconds));
    }
    if args.obey_client {
        cache = cache.obey_client();
    }
    if args.ignore_cookies {
        cache = cache.cookies(CookiePolicy::Ignore);
    }
    if args.key_authorization {
        cache = cache.key_by_authorization();
    }
    if let Some(bytes) = args.max_body {
        cache = cache.body_limit(bytes);
    }
    if let Some(milliseconds) = args.wait_ms {
        cache = cache.wait(Duration::from_millis(milliseconds));
    }
    cache.cache_status("reverse_proxy").build().map_err(refusal)
}

#[cfg(feature = "redis")]
fn redis(url: &str, prefix: &str) -> Result<CacheConfigBuilder, Error> {
    let storage = actix_fast_cache::RedisStorage::open(url, prefix)
        .map_err(|error| refusal(format!("--storage {url}: {error}")))?;
    Ok(CacheConfig::builder(storage))
}

#[cfg(not(feature = "redis"))]
fn redis(_: &str, _: &str) -> Result<CacheConfigBuilder, Error> {
    Err(refusal("--storage redis://... needs a build with --features redis"))
}

fn refusal(message: impl Display) -> Error {
    Args::command().error(ErrorKind::InvalidValue, message)
}

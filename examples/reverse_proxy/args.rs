//! The command line.

use std::num::NonZeroUsize;

use clap::{Parser, ValueEnum};
use http::{
    Uri,
    uri::{Authority, Scheme},
};

/// Forwards every request to one origin, through a cache.
#[derive(Debug, Clone, Parser)]
#[command(name = "reverse_proxy")]
pub(crate) struct Args {
    /// The origin to forward to: http://HOST[:PORT]
    #[arg(long, value_name = "URL", value_parser = parse_origin)]
    pub(crate) origin: Authority,

    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) listen: String,

    /// Where responses are kept: memory, or redis://HOST:PORT (built with --features redis, or redis-tls for rediss://)
    #[arg(long, value_name = "STORAGE", default_value = "memory", value_parser = parse_storage)]
    pub(crate) storage: Storage,

    /// Prefix of all keys; proxies with the same one share a Redis
    #[arg(long, value_name = "NAME", default_value = "reverse_proxy")]
    pub(crate) namespace: String,

    /// What the cache takes itself for
    #[arg(long, value_enum, default_value_t = Profile::App)]
    pub(crate) profile: Profile,

    /// Lifetime of answers that name none; without it only explicitly fresh answers are reused
    #[arg(long, value_name = "SECONDS")]
    pub(crate) ttl: Option<u64>,

    /// Obey the cache directives of requests (profile rfc9111 always does)
    #[arg(long)]
    pub(crate) obey_client: bool,

    /// Cache requests with cookies as if they had none
    #[arg(long)]
    pub(crate) ignore_cookies: bool,

    /// Cache requests with Authorization, apart for each value of it
    #[arg(long)]
    pub(crate) key_authorization: bool,

    /// Largest body that is stored [default: 1 MiB]
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_body: Option<usize>,

    /// Room for all stored responses in memory [default: 64 MiB]
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_bytes: Option<u64>,

    /// How long a request waits for an equal one in flight [default: 5000]
    #[arg(long, value_name = "MILLISECONDS")]
    pub(crate) wait_ms: Option<u64>,

    /// Threads that serve [default: one per cpu]
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<NonZeroUsize>,

    /// Let clients on the loopback invalidate with the method PURGE; without it, PURGE is forwarded
    #[arg(long)]
    pub(crate) purge: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Storage {
    Memory,
    /// At this URL.
    Redis(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// Careful: the crate's defaults, but no lifetime of its own
    App,
    /// A general shared cache, which does all that RFC 9111 allows
    Rfc9111,
}

fn parse_origin(text: &str) -> Result<Authority, String> {
    let parts = text.parse::<Uri>().map_err(|error| error.to_string())?.into_parts();
    // A path would have to be joined with the request's, which is passed on byte for byte.
    let bare = parts.path_and_query.is_none_or(|path| path == "/");
    match (parts.scheme, parts.authority) {
        (Some(scheme), Some(authority)) if scheme == Scheme::HTTP && bare => Ok(authority),
        _ => Err("expected http://HOST[:PORT], without a path".into()),
    }
}

fn parse_storage(text: &str) -> Result<Storage, String> {
    match text {
        "memory" => Ok(Storage::Memory),
        url if url.starts_with("redis://") || url.starts_with("rediss://") => {
            Ok(Storage::Redis(url.to_owned()))
        }
        _ => Err("expected memory or redis://HOST:PORT".into()),
    }
}

//! The command line.

use std::num::NonZeroUsize;

use clap::{Parser, ValueEnum};
use http::{
    Uri,
    uri::{Authority, Scheme},
};

/// Forwards every request to one origin, through a cache.
#[derive(Debug, Clone, Parser)]
pub struct Args {
    /// The origin to forward to: http://HOST[:PORT]
    #[arg(long, value_name = "URL", value_parser = parse_origin)]
    pub origin: Authority,

    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: String,

    /// Where responses are kept: memory, or redis://HOST:PORT
    #[arg(long, value_name = "STORAGE", default_value = "memory", value_parser = parse_storage)]
    pub storage: Storage,

    /// Prefix of all keys; proxies with the same one share a Redis
    #[arg(long, value_name = "NAME", default_value = "reverse_proxy")]
    pub namespace: String,

    /// What the cache takes itself for
    #[arg(long, value_enum, default_value_t = Profile::App)]
    pub profile: Profile,

    /// Lifetime of answers that name none; without it only explicitly fresh answers are reused
    #[arg(long, value_name = "SECONDS")]
    pub ttl: Option<u64>,

    /// Obey the cache directives of requests (profile rfc9111 always does)
    #[arg(long)]
    pub obey_client: bool,

    /// Cache requests with cookies as if they had none
    #[arg(long)]
    pub ignore_cookies: bool,

    /// Cache requests with Authorization, apart for each value of it
    #[arg(long)]
    pub key_authorization: bool,

    /// Largest body that is stored [default: 1 MiB]
    #[arg(long, value_name = "BYTES")]
    pub max_body: Option<usize>,

    /// Room for all stored responses in memory [default: 64 MiB]
    #[arg(long, value_name = "BYTES")]
    pub max_bytes: Option<u64>,

    /// How long a request waits for an equal one in flight [default: 5000]
    #[arg(long, value_name = "MILLISECONDS")]
    pub wait_ms: Option<u64>,

    /// Threads that serve [default: one per cpu]
    #[arg(long, value_name = "N")]
    pub workers: Option<NonZeroUsize>,

    /// Let loopback clients invalidate with the method PURGE
    #[arg(long)]
    pub purge: bool,
}

#[derive(Debug, Clone)]
pub enum Storage {
    Memory,
    /// With its URL, as given.
    Redis(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Profile {
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
        url if url.starts_with("redis://") => Ok(Storage::Redis(url.into())),
        _ => Err("expected memory or redis://HOST:PORT".into()),
    }
}

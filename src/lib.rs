//! A response cache for actix-web.
#![forbid(unsafe_code)]

mod behind;
mod body;
mod checks;
mod clock;
mod config;
mod engine;
mod exchange;
mod extractor;
mod fill;
mod flight;
mod handle;
mod handler;
mod head;
mod invalidation;
mod key;
mod middleware;
mod namespace;
mod policy;
mod preconditions;
mod query;
mod recent;
mod refresh;
mod request;
mod respond;
mod scope;
mod settings;
mod status;
pub mod storage;
mod stored;

pub use self::body::CacheBody;
pub use self::clock::{Clock, ManualClock, Timestamp};
pub use self::config::{CacheConfig, CacheConfigBuilder, ConfigError};
pub use self::extractor::CacheControl;
pub use self::handle::{CacheHandle, StoreOptions};
pub use self::invalidation::Invalidation;
pub use self::key::CacheKey;
pub use self::middleware::{CacheFuture, FastCache, FastCacheService};
pub use self::namespace::NamespacePolicy;
pub use self::policy::rules::SetCookiePolicy;
pub use self::query::QueryKey;
pub use self::settings::{CookiePolicy, EtagMode, HostPolicy};
pub use self::status::{BypassReason, FillReason, NotStoredReason};
pub use self::storage::{FailingStorage, Lookup, MemoryStats, MemoryStorage, Storage, StorageError};
pub use self::stored::entry::Entry;
pub use self::stored::response::StoredResponse;

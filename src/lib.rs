//! A response cache for actix-web: whole responses, per scope, in HTTP's own caching language (RFC 9111).
//!
//! Wrap a scope, and the handler is not called for what is already known. It is safe with no options set: what is
//! private, personal or broken is never stored, and when the storage fails, requests do not.
//!
//! ```no_run
//! use actix_fast_cache::{CacheConfig, CacheControl, FastCache, MemoryStorage};
//! use actix_web::{App, HttpServer, Responder, web};
//!
//! async fn show(id: web::Path<u64>, cache: CacheControl) -> impl Responder {
//!     cache.tag(format!("product:{id}"));
//!     format!("product {id}")
//! }
//!
//! async fn rename(id: web::Path<u64>, cache: CacheControl) -> actix_web::Result<impl Responder> {
//!     // ... write to the database, then:
//!     cache.invalidate_tag(format!("product:{id}")).await?;
//!     Ok("renamed")
//! }
//!
//! #[actix_web::main]
//! async fn main() -> std::io::Result<()> {
//!     // Made once, outside the closure: all workers share it.
//!     let cache = CacheConfig::builder(MemoryStorage::new()).namespace("shop").build()?;
//!
//!     HttpServer::new(move || {
//!         App::new().service(
//!             web::scope("/products")
//!                 .wrap(FastCache::new(cache.scoped("products")))
//!                 .route("/{id}", web::get().to(show))
//!                 .route("/{id}", web::patch().to(rename)),
//!         )
//!     })
//!     .bind(("127.0.0.1", 8080))?
//!     .run()
//!     .await
//! }
//! ```
//!
//! # Where to look
//!
//! * [`FastCache`] is the layer, [`CacheConfig`] what it does: every setter states its default.
//! * [`CacheConfigBuilder::rfc9111`] makes a general shared cache of it, as a proxy has one.
//! * [`CacheControl`] is the handler's voice: lifetime, key, tags, invalidation, and why it runs.
//! * [`CacheHandle`] is the same cache for background jobs.
//! * [`storage`] is where entries are kept, and how to write a storage of your own.
//!
//! # Where it belongs among other layers
//!
//! Of layers on one app, scope or resource the last `.wrap` is the outermost. What must happen on every request goes
//! outside the cache, what makes the page goes inside.
//!
//! ```text
//!              request                       response
//!                 |                             ^
//!   +-------------v-----------------------------+-------------+
//!   | Logger            sees hits too                         |
//!   | +---------------------------------------------------+   |
//!   | | Compress        one entry, encoded per answer     |   |
//!   | | +---------------------------------------------+   |   |
//!   | | | Cors           its answer is per origin     |   |   |
//!   | | | +---------------------------------------+   |   |   |
//!   | | | | sessions     write cookies per client |   |   |   |
//!   | | | | +---------------------------------+   |   |   |   |
//!   | | | | | FastCache                       |   |   |   |   |
//!   | | | | | +---------------------------+   |   |   |   |   |
//!   | | | | | | routing, handler          |   |   |   |   |   |
//!   +-+-+-+-+-+---------------------------+---+---+---+---+---+
//! ```
//!
//! ```
//! use actix_fast_cache::{CacheConfig, FastCache, MemoryStorage};
//! use actix_web::{App, middleware::Logger};
//!
//! # fn app() -> Result<(), actix_fast_cache::ConfigError> {
//! let cache = CacheConfig::builder(MemoryStorage::new()).build()?;
//! let app = App::new()
//!     .wrap(FastCache::new(cache)) // inside
//!     .wrap(Logger::default()); // outside
//! # drop(app);
//! # Ok(())
//! # }
//! # app().unwrap();
//! ```
//!
//! A layer outside must not hold a clone of the `HttpRequest` while it calls on, as routing in actix forbids too: the
//! cache takes conditions out of requests that it fills from, and actix panics where a request is shared.
//!
//! # Why is this not cached?
//!
//! The first bypass, and the first answer that is not stored, of each reason in a scope is logged once, with the
//! setter that changes it. In a handler, [`CacheControl::reason`] tells; on the wire, `X-Cache` is absent, and
//! `Cache-Status` says why where [`CacheConfigBuilder::cache_status`] is set. All reasons:
//! [`BypassReason`], [`NotStoredReason`].

#![forbid(unsafe_code)]
#![warn(unreachable_pub)]

mod breaker;
mod builder;
mod checks;
mod clock;
mod config;
mod config_error;
mod engine;
mod exchange;
mod extractor;
mod fence;
mod fields;
mod flight;
mod found;
mod handle;
mod head;
mod invalidation;
mod key;
mod key_hash;
mod middleware;
mod misplaced;
mod namespace;
mod policy;
mod query;
mod recent;
mod request;
mod scope;
mod setters;
mod settings;
mod status;
pub mod storage;
mod stored;

pub use self::builder::CacheConfigBuilder;
pub use self::clock::{Clock, ManualClock, Timestamp};
pub use self::config::CacheConfig;
pub use self::config_error::ConfigError;
pub use self::engine::StorageTrouble;
pub use self::exchange::body::CacheBody;
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
#[cfg(feature = "redis")]
pub use self::storage::{RedisServers, RedisStorage, TieredStorage};
pub use self::stored::entry::Entry;
pub use self::stored::response::StoredResponse;

//! Where entries are kept: the [`Storage`] trait, the storages of this crate, and a suite that checks any storage.
//!
//! A storage of your own implements [`Storage`], whose documentation is the contract, and is checked by
//! [`conformance::check`]; `examples/custom_storage.rs` is one, in under a hundred lines. Entries that leave the process go as
//! [`Entry::to_bytes`](crate::Entry::to_bytes) writes them, under names made of [`CacheKey::digest`](crate::CacheKey::digest) and
//! [`CacheKey::namespace`](crate::CacheKey::namespace); [`CacheKey::fences`](crate::CacheKey::fences) are those that can be asked about
//! together with the entry. Where several processes fill one storage, [`Storage::claim`] lets one of them run a handler while
//! the others wait.

pub(crate) mod ballast;
pub(crate) mod deadlines;
pub(crate) mod erased;
pub(crate) mod error;
pub(crate) mod failing;
pub(crate) mod fences;
pub(crate) mod interface;
pub(crate) mod lease_trial;
pub(crate) mod memory;
pub(crate) mod near;
#[cfg(feature = "redis")]
pub mod redis;
pub(crate) mod shelf;
pub(crate) mod stress;
pub(crate) mod sweeper;
pub(crate) mod trial;
pub(crate) mod violation;

pub mod conformance;

pub use self::error::StorageError;
pub use self::failing::FailingStorage;
pub use self::interface::{Claimed, Holder, Lookup, Storage};
pub use self::memory::{MemoryStats, MemoryStorage};
#[cfg(feature = "redis")]
pub use self::redis::{servers::RedisServers, store::RedisStorage, tiered::TieredStorage};
pub use crate::fence::{Fence, FenceId, Stamp};

//! Where entries are kept: the [`Storage`] trait, the storages of this crate, and a suite that checks any storage.

pub(crate) mod erased;
pub(crate) mod error;
pub(crate) mod failing;
pub(crate) mod interface;
pub(crate) mod memory;
pub(crate) mod near;
#[cfg(feature = "redis")]
pub mod redis;
pub(crate) mod stress;
pub(crate) mod trial;
pub(crate) mod violation;

pub mod conformance;

pub use self::error::StorageError;
pub use self::failing::FailingStorage;
pub use self::interface::{Lookup, Storage};
pub use self::memory::{MemoryStats, MemoryStorage};
#[cfg(feature = "redis")]
pub use self::redis::store::RedisStorage;
pub use crate::fence::{Fence, FenceId, Stamp};

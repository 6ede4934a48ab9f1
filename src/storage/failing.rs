//! A storage on which everything fails, for tests.

use std::sync::Arc;

use crate::fence::{Fence, FenceId, Stamp};
use crate::key::CacheKey;
use crate::storage::error::StorageError;
use crate::storage::interface::{Lookup, Storage};
use crate::stored::entry::Entry;

/// A storage on which every call fails: what an application looks like when its storage is down.
///
/// ```
/// use actix_fast_cache::{CacheConfig, FailingStorage};
///
/// // Every request is a miss, none is an error.
/// let config = CacheConfig::builder(FailingStorage).build()?;
/// # drop(config);
/// # Ok::<(), actix_fast_cache::ConfigError>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct FailingStorage;

fn failure<T>() -> Result<T, StorageError> {
    Err(StorageError::new("this storage always fails"))
}

impl Storage for FailingStorage {
    async fn get(&self, _: &CacheKey) -> Result<Lookup, StorageError> {
        failure()
    }

    async fn put(&self, _: Arc<Entry>) -> Result<(), StorageError> {
        failure()
    }

    async fn remove(&self, _: &CacheKey) -> Result<bool, StorageError> {
        failure()
    }

    async fn raise(&self, _: &[Fence]) -> Result<(), StorageError> {
        failure()
    }

    async fn is_current(&self, _: Stamp, _: &[FenceId]) -> Result<bool, StorageError> {
        failure()
    }
}

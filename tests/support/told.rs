//! A storage that tells what is stored in it.
#![allow(dead_code, unreachable_pub)] // each test file uses a part of it
#![allow(clippy::unwrap_used)] // it is test code

use std::sync::{Arc, Mutex};

use actix_fast_cache::storage::{Fence, FenceId, Stamp};
use actix_fast_cache::{CacheKey, Entry, Lookup, RedisStorage, Storage, StorageError};

/// A storage that tells what is stored.
#[derive(Clone)]
pub struct Told {
    pub storage: RedisStorage,
    pub stored: Arc<Mutex<Vec<Arc<Entry>>>>,
}

impl Storage for Told {
    async fn get(&self, key: &CacheKey) -> Result<Lookup, StorageError> {
        self.storage.get(key).await
    }

    async fn put(&self, entry: Arc<Entry>) -> Result<(), StorageError> {
        self.stored.lock().unwrap().push(Arc::clone(&entry));
        self.storage.put(entry).await
    }

    async fn remove(&self, key: &CacheKey) -> Result<bool, StorageError> {
        self.storage.remove(key).await
    }

    async fn raise(&self, fences: &[Fence]) -> Result<(), StorageError> {
        self.storage.raise(fences).await
    }

    async fn is_current(&self, stamp: Stamp, fences: &[FenceId]) -> Result<bool, StorageError> {
        self.storage.is_current(stamp, fences).await
    }
}

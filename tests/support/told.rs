//! A storage that tells what is stored in it.
#![allow(dead_code, unreachable_pub)] // each test file uses a part of it
#![allow(clippy::unwrap_used)] // it is test code

use std::sync::{Arc, Mutex};

use actix_fast_cache::{Entry, RedisStorage, Storage, StorageError};

/// A storage that tells what is stored.
#[derive(Clone)]
pub struct Told {
    pub storage: RedisStorage,
    pub stored: Arc<Mutex<Vec<Arc<Entry>>>>,
}

impl Storage for Told {
    async fn put(&self, entry: Arc<Entry>) -> Result<(), StorageError> {
        self.stored.lock().unwrap().push(Arc::clone(&entry));
        self.storage.put(entry).await
    }

    answered_by!(storage: get, remove, raise, is_current);
}

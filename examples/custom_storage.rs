//! A storage of one's own, and the suite that checks it: `cargo run --example custom_storage`.
//!
//! This one is a map behind a lock, without a bound. What is left to write for a real one is where entries go:
//! [`Entry::to_bytes`] and [`Entry::from_bytes`] are for those that leave the process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use actix_fast_cache::storage::conformance;
use actix_fast_cache::storage::{Fence, FenceId, Stamp};
use actix_fast_cache::{CacheKey, Entry, Lookup, Storage, StorageError};

#[derive(Clone, Default)]
struct MapStorage(Arc<Mutex<Map>>);

#[derive(Default)]
struct Map {
    /// By the whole key, for two keys may have one hash.
    entries: HashMap<Vec<u8>, Arc<Entry>>,
    /// Each fence at the time of its last raise.
    fences: HashMap<FenceId, u64>,
    /// Moved on by each raise.
    clock: u64,
}

impl Map {
    /// Valid is what began after every fence that names it; one of them names everything.
    fn is_valid(&self, stamp: Stamp, fences: &[FenceId]) -> bool {
        let mut fences = fences.iter().chain([&FenceId::ALL]);
        fences.all(|fence| self.fences.get(fence).is_none_or(|raised| *raised <= stamp.0))
    }
}

impl MapStorage {
    fn with<T>(&self, work: impl FnOnce(&mut Map) -> T) -> Result<T, StorageError> {
        // A storage fails by returning; this one cannot.
        Ok(work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Storage for MapStorage {
    async fn get(&self, key: &CacheKey) -> Result<Lookup, StorageError> {
        self.with(|map| {
            let held = map.entries.get(key.as_bytes());
            let entry = held.filter(|entry| map.is_valid(entry.stamp(), entry.fences())).cloned();
            Lookup { entry, stamp: Stamp(map.clock) }
        })
    }

    async fn put(&self, entry: Arc<Entry>) -> Result<(), StorageError> {
        self.with(|map| {
            let order = |entry: &Entry| (entry.stamp(), entry.began());
            // The older fill does not win.
            let held = map.entries.get(entry.key().as_bytes());
            if held.is_none_or(|held| order(held) <= order(&entry)) {
                map.entries.insert(entry.key().as_bytes().to_vec(), entry);
            }
        })
    }

    async fn remove(&self, key: &CacheKey) -> Result<bool, StorageError> {
        self.with(|map| map.entries.remove(key.as_bytes()).is_some())
    }

    async fn raise(&self, fences: &[Fence]) -> Result<(), StorageError> {
        self.with(|map| {
            map.clock += 1;
            // A bound would fold the oldest into `Fence::within`.
            map.fences.extend(fences.iter().map(|fence| (fence.id, map.clock)));
        })
    }

    async fn is_current(&self, stamp: Stamp, fences: &[FenceId]) -> Result<bool, StorageError> {
        self.with(|map| map.is_valid(stamp, fences))
    }
}

#[tokio::main]
async fn main() -> Result<(), conformance::Violation> {
    let storage = MapStorage::default();
    conformance::check(async || storage.clone()).await?;
    println!("it keeps the contract; now: CacheConfig::builder(storage)");
    Ok(())
}

//! The storage trait behind a pointer: boxed futures, so that the engine can hold any storage.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::fence::{Fence, FenceId, Stamp};
use crate::key::CacheKey;
use crate::storage::error::StorageError;
use crate::storage::interface::{Claimed, Holder, Lookup, Storage};
use crate::stored::entry::Entry;

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StorageError>> + Send + 'a>>;

pub(crate) trait ErasedStorage: Send + Sync {
    fn get_now(&self, key: &CacheKey) -> Option<Lookup>;
    fn put_now(&self, entry: &Arc<Entry>) -> bool;
    fn get<'a>(&'a self, key: &'a CacheKey) -> BoxFuture<'a, Lookup>;
    fn put(&self, entry: Arc<Entry>) -> BoxFuture<'_, ()>;
    fn remove<'a>(&'a self, key: &'a CacheKey) -> BoxFuture<'a, bool>;
    fn raise<'a>(&'a self, fences: &'a [Fence]) -> BoxFuture<'a, ()>;
    fn is_current<'a>(&'a self, stamp: Stamp, fences: &'a [FenceId]) -> BoxFuture<'a, bool>;
    fn leases(&self) -> bool;
    fn claim<'a>(&'a self, key: &'a CacheKey, holder: Holder, lease: Duration) -> BoxFuture<'a, Claimed>;
    fn release<'a>(
        &'a self,
        key: &'a CacheKey,
        holder: Holder,
        refused: Option<Duration>,
    ) -> BoxFuture<'a, ()>;
}

impl<S: Storage> ErasedStorage for S {
    fn get_now(&self, key: &CacheKey) -> Option<Lookup> {
        Storage::get_now(self, key)
    }

    fn put_now(&self, entry: &Arc<Entry>) -> bool {
        Storage::put_now(self, entry)
    }

    fn get<'a>(&'a self, key: &'a CacheKey) -> BoxFuture<'a, Lookup> {
        Box::pin(Storage::get(self, key))
    }

    fn put(&self, entry: Arc<Entry>) -> BoxFuture<'_, ()> {
        Box::pin(Storage::put(self, entry))
    }

    fn remove<'a>(&'a self, key: &'a CacheKey) -> BoxFuture<'a, bool> {
        Box::pin(Storage::remove(self, key))
    }

    fn raise<'a>(&'a self, fences: &'a [Fence]) -> BoxFuture<'a, ()> {
        Box::pin(Storage::raise(self, fences))
    }

    fn is_current<'a>(&'a self, stamp: Stamp, fences: &'a [FenceId]) -> BoxFuture<'a, bool> {
        Box::pin(Storage::is_current(self, stamp, fences))
    }

    fn leases(&self) -> bool {
        Storage::leases(self)
    }

    fn claim<'a>(&'a self, key: &'a CacheKey, holder: Holder, lease: Duration) -> BoxFuture<'a, Claimed> {
        Box::pin(Storage::claim(self, key, holder, lease))
    }

    fn release<'a>(
        &'a self,
        key: &'a CacheKey,
        holder: Holder,
        refused: Option<Duration>,
    ) -> BoxFuture<'a, ()> {
        Box::pin(Storage::release(self, key, holder, refused))
    }
}

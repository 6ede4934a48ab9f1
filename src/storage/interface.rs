//! The storage trait.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::fence::{Fence, FenceId, Stamp};
use crate::key::CacheKey;
use crate::storage::error::StorageError;
use crate::stored::entry::Entry;

/// What a lookup found, and when it looked.
#[derive(Debug, Clone, Default)]
pub struct Lookup {
    /// The entry, if the storage has one that no fence dropped.
    pub entry: Option<Arc<Entry>>,
    /// The fence clock as it stood no later than the lookup: a fill that follows this lookup carries it.
    pub stamp: Stamp,
}

/// Who fills a key, of all processes that fill a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder(pub u64);

/// What became of a wish to fill a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    /// Nobody else has it: it is this holder's until it is released, or the time of the lease is over.
    Granted,
    /// Another holder has it.
    Held,
    /// The last holder found that its answer is not to be shared: there is nothing to wait for.
    Refused,
}

/// Where entries are kept. The contract, checked by [`conformance`](crate::storage::conformance):
///
/// * **It may forget, and never invents.** `get` gives back the entry last `put` under an equal key, or none.
///   Keys are compared whole: an entry under another key with the same hash or digest is none.
/// * **It honours fences.** After [`raise`](Self::raise) returned, no lookup on any handle of this storage gives
///   an entry that one of the raised fences names and whose stamp was read before the raise. Neither does it keep
///   one that is `put` later.
/// * **The older fill does not win.** A `put` does not replace an entry whose fill began later: by its stamp first,
///   for the clocks of two machines may differ, then by [`Entry::began`]. Of two equal ones the one put last stays.
/// * **It does not judge freshness.** It may drop an entry after [`Entry::keep_until`], and no sooner but for room.
/// * **It keeps fills apart**, if it [`leases`](Self::leases): of several holders that claim a key one has it, until it
///   releases it or the time of its last claim is over.
/// * **It fails by returning.** An error, however odd, is a miss to the cache. It must not panic.
///
/// Methods are ordinary `async fn`s with `Send` futures; each may be cancelled at any await.
pub trait Storage: Send + Sync + 'static {
    /// Looks up without waiting, for storages that can; `None` sends the caller to [`get`](Self::get).
    ///
    /// Runs on the worker for every hit: it must not block and should not allocate.
    fn get_now(&self, _key: &CacheKey) -> Option<Lookup> {
        None
    }

    /// Keeps an entry without waiting, for storages that can; `false` sends the caller to [`put`](Self::put).
    ///
    /// Runs on the worker for every entry: it must not block.
    fn put_now(&self, _entry: &Arc<Entry>) -> bool {
        false
    }

    /// Looks up an entry, and reads the fence clock.
    fn get(&self, key: &CacheKey) -> impl Future<Output = Result<Lookup, StorageError>> + Send;

    /// Keeps an entry under its own key.
    fn put(&self, entry: Arc<Entry>) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// Forgets one entry; tells whether there was one. Tidies up; invalidation is [`raise`](Self::raise).
    fn remove(&self, key: &CacheKey) -> impl Future<Output = Result<bool, StorageError>> + Send;

    /// Raises fences: when it returns, everything they name that began before is gone for every reader.
    fn raise(&self, fences: &[Fence]) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// Whether other processes fill this storage too, and [`claim`](Self::claim) keeps their fills apart. Default: no.
    ///
    /// Within a process one request runs the handler and the others wait, whatever the storage.
    fn leases(&self) -> bool {
        false
    }

    /// Claims the fill of a key for so long, or for so long from now on if this holder has it already.
    fn claim(
        &self,
        key: &CacheKey,
        holder: Holder,
        lease: Duration,
    ) -> impl Future<Output = Result<Claimed, StorageError>> + Send {
        let _ = (key, holder, lease);
        std::future::ready(Ok(Claimed::Granted))
    }

    /// Gives the fill of a key back, if this holder has it. With `refused`, claims are answered
    /// [`Claimed::Refused`] for so long.
    fn release(
        &self,
        key: &CacheKey,
        holder: Holder,
        refused: Option<Duration>,
    ) -> impl Future<Output = Result<(), StorageError>> + Send {
        let _ = (key, holder, refused);
        std::future::ready(Ok(()))
    }

    /// Tells whether a fill that carries `stamp` is still valid under these fences.
    fn is_current(
        &self,
        stamp: Stamp,
        fences: &[FenceId],
    ) -> impl Future<Output = Result<bool, StorageError>> + Send;
}

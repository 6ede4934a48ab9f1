//! What the conformance suite works with: handles of one storage, entries that nobody else has, lookups that watch.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};

use crate::clock::{Clock, Timestamp};
use crate::fence::{Fence, FenceId, Stamp};
use crate::key::{self, CacheKey, KeyWriter};
use crate::storage::error::StorageError;
use crate::storage::interface::{Lookup, Storage};
use crate::storage::violation::{Clause, Violation};
use crate::stored::entry::{Content, Entry, EntryFences};
use crate::stored::response::{Freshness, StoredResponse};

/// So many entries are tried where one has to be kept, and so often: a storage with an admission policy refuses what
/// is new until those that were in demand before have aged.
const SEVERAL: usize = 8;
const ROUNDS: usize = 32;

/// One clause on trial: three handles of the storage, and names that no other trial uses.
pub(crate) struct Trial<S> {
    pub(crate) clause: Clause,
    pub(crate) writer: Arc<S>,
    pub(crate) reader: Arc<S>,
    pub(crate) raiser: Arc<S>,
    names: Names,
    /// The keys of all entries made so far.
    made: Mutex<Vec<CacheKey>>,
    pub(crate) now: Timestamp,
}

/// A storage that outlives the process may be tried again: the names of two runs never meet.
struct Names {
    run: u64,
    next: AtomicU64,
}

/// A namespace with one inside it, and a tag: the entries of a family have them all in their fences.
#[derive(Clone)]
pub(crate) struct Family {
    prefix: Vec<u8>,
    pub(crate) outer: FenceId,
    pub(crate) inner: FenceId,
    pub(crate) tag: FenceId,
}

impl Family {
    /// The fence of a target or of a tag in this family, as an invalidation raises it.
    pub(crate) fn narrow(&self, id: FenceId) -> Fence {
        Fence { id, within: self.inner }
    }

    pub(crate) fn key(&self, name: &str) -> CacheKey {
        let mut writer = KeyWriter::new(&self.prefix);
        writer.name(name);
        writer.finish()
    }

    pub(crate) fn fences(&self, key: &CacheKey) -> Vec<FenceId> {
        vec![self.outer, self.inner, key.target_fence(), self.tag]
    }

    /// Each way to drop an entry of this family, in words and as a fence.
    pub(crate) fn ways(&self, key: &CacheKey) -> [(&'static str, Fence); 5] {
        [
            ("its target", self.narrow(key.target_fence())),
            ("its tag", Fence { id: self.tag, within: self.outer }),
            ("its namespace", Fence { id: self.inner, within: FenceId::ALL }),
            ("the namespace around its own", Fence { id: self.outer, within: FenceId::ALL }),
            ("everything", Fence { id: FenceId::ALL, within: FenceId::ALL }),
        ]
    }
}

impl<S: Storage> Trial<S> {
    pub(crate) async fn open(clause: Clause, open: &impl AsyncFn() -> S) -> Self {
        Self {
            clause,
            writer: Arc::new(open().await),
            reader: Arc::new(open().await),
            raiser: Arc::new(open().await),
            names: Names { run: RandomState::new().hash_one(clause), next: AtomicU64::new(0) },
            made: Mutex::default(),
            now: Clock::system().now().at,
        }
    }

    pub(crate) fn handles(&self) -> [&S; 3] {
        [&self.writer, &self.reader, &self.raiser]
    }

    /// A name that was not used before.
    pub(crate) fn name(&self) -> String {
        format!("{:016x}-{}", self.names.run, self.names.next.fetch_add(1, Relaxed))
    }

    pub(crate) fn family(&self) -> Family {
        let (outer, inner) = (self.name(), self.name());
        Family {
            prefix: key::namespace(&[outer.clone(), inner.clone()]),
            outer: FenceId::of(b"namespace", outer.as_bytes()),
            inner: FenceId::of(b"namespace", inner.as_bytes()),
            tag: FenceId::of(b"tag", outer.as_bytes()),
        }
    }

    pub(crate) fn entry(&self, family: &Family, key: &CacheKey, stamp: Stamp, body: &str) -> Entry {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push(key.clone());
        Entry {
            key: key.clone(),
            stamp,
            began: self.now,
            fences: EntryFences::exactly(family.fences(key)),
            keep_until: self.now.plus(Duration::from_secs(86_400)),
            content: response(body.as_bytes().to_vec()),
        }
    }

    /// Leaves room for the next trial: what was in demand here would keep out what is new there.
    pub(crate) async fn tidy(self) {
        let mut made = self.made.into_inner().unwrap_or_else(PoisonError::into_inner);
        made.dedup();
        for key in made {
            // It was judged already.
            let _ = self.writer.remove(&key).await;
        }
    }

    /// The finding that ends a trial.
    pub(crate) fn broken<T>(&self, how: impl Into<String>) -> Result<T, Violation> {
        Err(Violation::new(self.clause, how))
    }

    pub(crate) fn require(&self, holds: bool, how: impl FnOnce() -> String) -> Result<(), Violation> {
        if holds { Ok(()) } else { self.broken(how()) }
    }

    pub(crate) fn ran<T>(&self, call: &str, result: Result<T, StorageError>) -> Result<T, Violation> {
        result.map_err(|error| Violation::failed(self.clause, call, error))
    }

    /// Looks up in both ways; what comes has to be this key's, and the same.
    pub(crate) async fn find(&self, on: &S, key: &CacheKey) -> Result<Lookup, Violation> {
        let at_once = on.get_now(key);
        let lookup = self.ran("get", on.get(key).await)?;
        let given = [("get_now", &at_once.and_then(|lookup| lookup.entry)), ("get", &lookup.entry)];
        for (call, entry) in given {
            if entry.as_ref().is_some_and(|entry| entry.key() != key) {
                return Err(Violation::new(Clause::OwnKey, format!("{call} gave the entry of another key")));
            }
        }
        if let [(_, Some(at_once)), (_, Some(waited))] = given
            && at_once != waited
        {
            return Err(Violation::new(Clause::GetNow, "get_now and get gave different entries for one key"));
        }
        Ok(lookup)
    }

    /// The fence clock, as a fill reads it.
    pub(crate) async fn stamp(&self) -> Result<Stamp, Violation> {
        let nobody = self.family().key("nobody");
        Ok(self.find(&self.writer, &nobody).await?.stamp)
    }

    /// On no handle and in no way is anything found under this key.
    pub(crate) async fn gone(&self, key: &CacheKey, why: &str) -> Result<(), Violation> {
        for on in self.handles() {
            for call in ["get_now", "get", "get_now after get"] {
                let found = match call {
                    "get" => self.ran("get", on.get(key).await)?.entry,
                    _ => on.get_now(key).and_then(|lookup| lookup.entry),
                };
                self.require(found.is_none(), || format!("{call} gave an entry that {why}"))?;
            }
        }
        Ok(())
    }

    pub(crate) async fn put(&self, entry: &Arc<Entry>) -> Result<(), Violation> {
        // Both doors in turn, where there are two.
        let in_turn = self.made.lock().unwrap_or_else(PoisonError::into_inner).len().is_multiple_of(2);
        if in_turn && self.writer.put_now(entry) {
            return Ok(());
        }
        self.ran("put", self.writer.put(Arc::clone(entry)).await)
    }

    pub(crate) async fn raise(&self, fences: &[Fence]) -> Result<(), Violation> {
        self.ran("raise", self.raiser.raise(fences).await)
    }

    pub(crate) async fn remove(&self, key: &CacheKey) -> Result<bool, Violation> {
        self.ran("remove", self.writer.remove(key).await)
    }

    /// What all handles say of a stamp.
    pub(crate) async fn current(&self, stamp: Stamp, fences: &[FenceId]) -> Result<[bool; 3], Violation> {
        let [writer, reader, raiser] = self.handles();
        Ok([
            self.ran("is_current", writer.is_current(stamp, fences).await)?,
            self.ran("is_current", reader.is_current(stamp, fences).await)?,
            self.ran("is_current", raiser.is_current(stamp, fences).await)?,
        ])
    }

    /// Fills several small entries of a family, as requests do; gives those that another handle then finds.
    pub(crate) async fn plant(&self, family: &Family) -> Result<Vec<Arc<Entry>>, Violation> {
        let keys: Vec<CacheKey> = (0..SEVERAL).map(|_| family.key(&self.name())).collect();
        for _ in 0..ROUNDS {
            let mut kept = Vec::new();
            for key in &keys {
                let stamp = self.find(&self.writer, key).await?.stamp;
                let entry = Arc::new(self.entry(family, key, stamp, "small"));
                self.put(&entry).await?;
                if let Some(found) = self.find(&self.reader, key).await?.entry {
                    if found != entry {
                        return Err(Violation::new(Clause::Whole, "a small entry came back changed"));
                    }
                    kept.push(entry);
                }
            }
            // What came later may have taken the room of what came first.
            let mut still = Vec::new();
            for entry in kept {
                if self.find(&self.reader, entry.key()).await?.entry.is_some() {
                    still.push(entry);
                }
            }
            if !still.is_empty() {
                return Ok(still);
            }
        }
        Err(Violation::new(
            Clause::Keeps,
            format!("of {SEVERAL} small entries, each put {ROUNDS} times, none was given back"),
        ))
    }
}

/// A response with something in every field that a storage could lose.
pub(crate) fn response(body: Vec<u8>) -> Content {
    let mut response = StoredResponse::new(StatusCode::OK, body)
        .with_header(HeaderName::from_static("x-repeat"), HeaderValue::from_static("2"))
        .with_header(HeaderName::from_static("x-repeat"), HeaderValue::from_static("1"))
        .with_header(HeaderName::from_static("x-empty"), HeaderValue::from_static(""));
    if let Ok(odd) = HeaderValue::from_bytes(b"\x80\xff\t\"\\") {
        response = response.with_header(HeaderName::from_static("x-odd"), odd);
    }
    response.freshness = Freshness {
        initial_age: Duration::from_secs(3),
        lifetime: Duration::from_secs(86_400),
        must_revalidate: true,
        last_modified: Some(-1),
        ..Freshness::default()
    }
    .into();
    Content::Response(Arc::new(response))
}

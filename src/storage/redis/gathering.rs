//! Lookups that wait for the end of their turn, to be sent together.
//!
//! Whoever looks up joins those of its runtime that have not been sent yet. What they are told was read after each of
//! them began: a lookup that begins after an invalidation returned never joins one that was sent before it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Id;
use tokio::sync::oneshot::{Receiver, Sender, channel};

use crate::key::CacheKey;
use crate::storage::error::StorageError;
use crate::storage::interface::Lookup;
use crate::storage::redis::known::{Address, Seen};

/// Keys that are asked for together at the most: answers come when all of them are there.
const MOST_KEYS: usize = 32;
/// Bytes that they are expected to bring, beyond which no other key joins: nobody is answered while they come.
const MOST_BYTES: usize = 96 << 10;
/// What is expected of a key of which nothing is known.
const UNKNOWN_BYTES: usize = 16 << 10;

type Outcome = Result<Lookup, StorageError>;

/// A key that is asked for, and who waits for it.
pub(crate) struct Asked {
    pub(crate) address: Arc<Address>,
    pub(crate) seen: Option<Arc<Seen>>,
    first: Sender<Outcome>,
    /// Mostly none.
    others: Vec<Sender<Outcome>>,
}

/// Lookups of one runtime that have not been sent.
struct Batch {
    runtime: Id,
    number: u64,
    asked: Vec<Asked>,
    bytes: usize,
    /// Held by everybody who waits, and never sent on: it is gone when all of them are.
    waited_for: Arc<Sender<()>>,
}

/// All that have not been sent.
pub(crate) struct Gathering {
    batches: Mutex<Batches>,
    /// Keys that are asked for together.
    most_keys: usize,
}

#[derive(Default)]
struct Batches {
    /// One for each runtime; more where many wait for a connection.
    open: Vec<Batch>,
    made: u64,
}

/// A place among those who wait.
pub(crate) struct Place {
    answer: Receiver<Outcome>,
    _waited_for: Arc<Sender<()>>,
}

/// The duty to send a batch. Where it is dropped with its runtime, those who wait are told so.
pub(crate) struct Duty {
    gathering: Arc<Gathering>,
    number: u64,
    nobody_waits: Receiver<()>,
}

impl Gathering {
    /// Where keys are on several nodes, none waits for the node of another one.
    pub(crate) fn new(are_on_one_node: bool) -> Self {
        Self { batches: Mutex::default(), most_keys: if are_on_one_node { MOST_KEYS } else { 1 } }
    }

    /// Takes a place among those who wait for a key, or brings the key in; whoever is first has the duty to send.
    pub(crate) fn join(
        self: &Arc<Self>,
        runtime: Id,
        key: &CacheKey,
        find: impl FnOnce() -> (Arc<Address>, Option<Arc<Seen>>),
    ) -> (Place, Option<Duty>) {
        let (sender, answer) = channel();
        let mut batches = self.lock();
        if let Some(batch) = batches.open.iter_mut().find(|batch| batch.runtime == runtime)
            && let Some(asked) = batch.asked.iter_mut().find(|asked| asked.address.key == *key)
        {
            asked.others.push(sender);
            return (Place { answer, _waited_for: Arc::clone(&batch.waited_for) }, None);
        }
        drop(batches);
        // It may take several hashes.
        let (address, seen) = find();
        let bytes = seen.as_ref().map_or(UNKNOWN_BYTES, |seen| seen.len());
        let asked = Asked { address, seen, first: sender, others: Vec::new() };
        let mut batches = self.lock();
        let has_room = |batch: &&mut Batch| {
            batch.runtime == runtime
                && batch.asked.len() < self.most_keys
                && batch.bytes + bytes <= MOST_BYTES
        };
        if let Some(batch) = batches.open.iter_mut().find(has_room) {
            batch.asked.push(asked);
            batch.bytes += bytes;
            return (Place { answer, _waited_for: Arc::clone(&batch.waited_for) }, None);
        }
        let (waited_for, nobody_waits) = channel();
        let waited_for = Arc::new(waited_for);
        let place = Place { answer, _waited_for: Arc::clone(&waited_for) };
        batches.made += 1;
        let number = batches.made;
        batches.open.push(Batch { runtime, number, asked: vec![asked], bytes, waited_for });
        (place, Some(Duty { gathering: Arc::clone(self), number, nobody_waits }))
    }

    fn close(&self, number: u64) -> Option<Batch> {
        let mut batches = self.lock();
        let at = batches.open.iter().position(|batch| batch.number == number)?;
        Some(batches.open.swap_remove(at))
    }

    fn lock(&self) -> MutexGuard<'_, Batches> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Duty {
    /// Those who are waited for. From here on nobody joins them, so they are to be sent at once.
    pub(crate) fn close(&self) -> Vec<Asked> {
        let batch = self.gathering.close(self.number);
        let mut asked = batch.map(|batch| batch.asked).unwrap_or_default();
        asked.retain(Asked::is_waited_for);
        asked
    }

    /// Waits until nobody waits any more for those that were closed.
    pub(crate) async fn is_pointless(&mut self) {
        let _ = (&mut self.nobody_waits).await;
    }
}

impl Drop for Duty {
    fn drop(&mut self) {
        drop(self.gathering.close(self.number));
    }
}

impl Place {
    pub(crate) async fn answer(self) -> Outcome {
        let lost = |error| StorageError::with_source("the runtime ended while Redis was asked", error);
        // The place is held until then.
        self.answer.await.map_err(lost)?
    }
}

impl Asked {
    /// How many wait for it.
    pub(crate) fn waiting(&self) -> usize {
        1 + self.others.len()
    }

    fn is_waited_for(&self) -> bool {
        !self.first.is_closed() || self.others.iter().any(|waiting| !waiting.is_closed())
    }

    /// Tells everybody who waits.
    pub(crate) fn answer(self, outcome: Outcome) {
        for waiting in self.others {
            let _ = waiting.send(outcome.clone());
        }
        let _ = self.first.send(outcome);
    }
}

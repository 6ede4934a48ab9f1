//! What this process knows of entries in Redis: the bytes that were read last, and what they say.
//!
//! To tell what bytes say costs a checksum over all of them, and to be sure that they are the same as before costs a
//! comparison. Each lookup reads them anew all the same: nothing is served from here that is not in Redis.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::web::Bytes;

use crate::fence::{FenceId, Stamp};
use crate::key::CacheKey;
use crate::key_hash::IsHash;
use crate::storage::redis::names::Names;
use crate::storage::redis::times::{Standing, Times};
use crate::storage::redis::value;
use crate::stored::entry::Entry;

/// Bytes that a storage keeps at the most.
const MOST_BYTES: usize = 8 << 20;

/// Where the entry of a key is, and which fences name it, whatever it is: to know it takes several hashes.
pub(crate) struct Address {
    pub(crate) key: CacheKey,
    pub(crate) name: String,
    pub(crate) fences: Box<[FenceId]>,
}

impl Address {
    pub(crate) fn new(key: &CacheKey, names: &Names) -> Self {
        let mut fences = key.fences();
        fences.push(FenceId::ALL);
        Self { key: key.clone(), name: names.entry(key), fences: fences.into() }
    }
}

/// An entry that was read, and the bytes that say it.
pub(crate) struct Seen {
    pub(crate) address: Arc<Address>,
    /// The entry's body and the values of its fields are parts of these.
    bytes: Bytes,
    pub(crate) entry: Arc<Entry>,
    /// Every fence that names it: those of its address, and of its tags and names.
    pub(crate) fences: Box<[FenceId]>,
    /// The fence clock when it was last found that no fence drops it.
    sound_at: AtomicU64,
}

/// What bytes under a name turn out to be.
pub(crate) enum Read {
    Entry(Arc<Seen>),
    /// An entry of another key.
    Another,
    Damaged,
}

impl Seen {
    pub(crate) fn read(address: &Arc<Address>, bytes: Vec<u8>) -> Read {
        let bytes = Bytes::from(bytes);
        match value::read(&bytes) {
            Some(entry) if *entry.key() == address.key => {
                let others = entry.fences().iter().filter(|id| !address.fences.contains(id));
                let fences = address.fences.iter().chain(others).copied().collect();
                let (address, entry) = (Arc::clone(address), Arc::new(entry));
                Read::Entry(Arc::new(Self { address, bytes, entry, fences, sound_at: AtomicU64::new(0) }))
            }
            Some(_) => Read::Another,
            None => Read::Damaged,
        }
    }

    /// Whether these are the bytes that were read before, all of them.
    pub(crate) fn is_said_by(&self, bytes: &[u8]) -> bool {
        self.bytes == bytes
    }

    /// What fences say of it. The clock moves with each raise of any of them: while it stands, they say what they said.
    pub(crate) fn standing(&self, times: &Times) -> Standing {
        if self.is_sound_at(times.clock) {
            return Standing::Stands;
        }
        let standing = times.standing(self.entry.stamp(), &*self.fences);
        if standing == Standing::Stands {
            self.sound_at.store(times.clock.0, Relaxed);
        }
        standing
    }

    /// Whether its fences need not be asked for where the clock stands so.
    pub(crate) fn is_sound_at(&self, clock: Stamp) -> bool {
        // Zero is no time.
        clock.0 > 0 && self.sound_at.load(Relaxed) == clock.0
    }

    /// How many bytes there were.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that it occupies.
    fn weight(&self) -> usize {
        let Address { key, name, fences } = &*self.address;
        let address = size_of::<Address>() + key.as_bytes().len() + name.len() + size_of_val(&**fences);
        // The body is counted once.
        let body = self.entry.response().map_or(0, |response| response.body().len());
        let fences = size_of_val(&*self.fences);
        size_of::<Self>() + address + fences + self.bytes.len() + self.entry.weight().saturating_sub(body)
    }
}

/// The entries that were read lately, each of which has been asked for since half of the room was filled anew.
#[derive(Default)]
pub(crate) struct Known(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: Generation,
    old: Generation,
}

/// Half of what is kept.
#[derive(Default)]
struct Generation {
    entries: HashSet<ByKey, BuildHasherDefault<IsHash>>,
    bytes: usize,
}

impl Known {
    pub(crate) fn get(&self, key: &CacheKey) -> Option<Arc<Seen>> {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ByKey(seen)) = generations.young.entries.get(key) {
            return Some(Arc::clone(seen));
        }
        let seen = generations.old.take(key)?;
        let left = generations.keep(Arc::clone(&seen));
        drop(generations);
        drop(left);
        Some(seen)
    }

    /// Keeps it in place of the one that was known of its key.
    pub(crate) fn keep(&self, seen: Arc<Seen>) {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = generations.take(&seen.address.key);
        let left = generations.keep(seen);
        // What is given up may be much, and nobody waits for that.
        drop(generations);
        drop((last, left));
    }

    pub(crate) fn forget(&self, key: &CacheKey) {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = generations.take(key);
        drop(generations);
        drop(last);
    }
}

impl Generations {
    fn take(&mut self, key: &CacheKey) -> Option<Arc<Seen>> {
        self.young.take(key).or_else(|| self.old.take(key))
    }

    /// Keeps what is not kept; gives back what has to make way for it.
    fn keep(&mut self, seen: Arc<Seen>) -> Option<Generation> {
        let weight = seen.weight();
        if weight > MOST_BYTES / 2 {
            return None;
        }
        let is_full = self.young.bytes + weight > MOST_BYTES / 2;
        let left = is_full.then(|| std::mem::replace(&mut self.old, std::mem::take(&mut self.young)));
        self.young.bytes += weight;
        self.young.entries.insert(ByKey(seen));
        left
    }
}

impl Generation {
    fn take(&mut self, key: &CacheKey) -> Option<Arc<Seen>> {
        let ByKey(seen) = self.entries.take(key)?;
        self.bytes -= seen.weight();
        Some(seen)
    }
}

/// An entry in a set, by its key.
struct ByKey(Arc<Seen>);

impl Borrow<CacheKey> for ByKey {
    fn borrow(&self) -> &CacheKey {
        &self.0.address.key
    }
}

impl Hash for ByKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.address.key.hash(state);
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.address.key == other.0.address.key
    }
}

impl Eq for ByKey {}

#[cfg(test)]
mod tests {
    use actix_web::http::StatusCode;

    use super::*;
    use crate::clock::Timestamp;
    use crate::key::{KeyWriter, Part, namespace};
    use crate::stored::entry::{Content, EntryFences};
    use crate::stored::response::StoredResponse;

    fn seen(name: usize, body: usize) -> Arc<Seen> {
        let mut writer = KeyWriter::new(&namespace(&[]));
        writer.part(Part::Name, &name.to_be_bytes());
        let key = writer.finish();
        let address = Arc::new(Address::new(&key, &Names::new("afc")));
        let response = StoredResponse::new(StatusCode::OK, vec![0_u8; body]);
        let (began, keep_until) = (Timestamp::default(), Timestamp::default());
        let content = Content::Response(Arc::new(response));
        let fences = EntryFences::exactly(Vec::new());
        let entry = Entry { key, stamp: Stamp(1), began, fences, keep_until, content };
        match Seen::read(&address, value::write(&entry).expect("bytes")) {
            Read::Entry(seen) => seen,
            Read::Another | Read::Damaged => panic!("it is whole"),
        }
    }

    fn bytes(known: &Known) -> usize {
        let generations = known.0.lock().expect("nobody panicked");
        let mut bytes = 0;
        for generation in [&generations.young, &generations.old] {
            let weights: usize = generation.entries.iter().map(|ByKey(seen)| seen.weight()).sum();
            assert_eq!(weights, generation.bytes, "the count is right");
            bytes += weights;
        }
        bytes
    }

    #[test]
    fn what_is_known_stays_within_its_bound_and_what_is_asked_for_stays() {
        let known = Known::default();
        let often = seen(0, 1_000);
        known.keep(Arc::clone(&often));
        for n in 1..3_000 {
            known.keep(seen(n, n * 37 % 40_000));
            assert!(bytes(&known) <= MOST_BYTES, "after {n}");
            if n % 10 == 0 {
                assert!(known.get(&often.address.key).is_some(), "after {n}");
            }
        }
        assert!(bytes(&known) > MOST_BYTES / 4 && known.get(&seen(1, 0).address.key).is_none());
        // What is larger than half of it is not kept, nor is what it takes the place of.
        known.keep(seen(0, MOST_BYTES / 2));
        assert!(known.get(&often.address.key).is_none() && bytes(&known) <= MOST_BYTES);
        for n in 0..3_000 {
            known.forget(&seen(n, 0).address.key);
        }
        assert_eq!(bytes(&known), 0);
    }

    #[test]
    fn other_bytes_are_not_those_that_were_read() {
        let seen = seen(7, 100);
        let bytes = seen.bytes.to_vec();
        assert!(seen.is_said_by(&bytes) && !seen.is_said_by(&bytes[1..]));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!seen.is_said_by(&flipped), "bit {bit}");
            assert!(matches!(Seen::read(&seen.address, flipped), Read::Damaged), "bit {bit}");
        }
    }
}

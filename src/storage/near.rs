//! A worker's own table of the entries it served last, in front of the shared storage.

use std::cell::RefCell;
use std::sync::{Arc, Weak};

/// Slots per worker and process; a power of two, so that a hash is cut to a place by its low bits.
const PLACES: usize = 1024;
/// One lookup in so many goes to the shared storage although the entry is near, so that it learns what is popular.
const TELL_EVERY: u32 = 16;

/// Entries by the low bits of their hash, each owned by the shared storage alone: what it drops is gone here too.
struct Near<T> {
    places: Vec<Weak<T>>,
    turn: u32,
}

/// A place for the table of one kind of entry; one per thread.
pub(crate) struct NearTable<T>(RefCell<Near<T>>);

impl<T> NearTable<T> {
    pub(crate) const fn new() -> Self {
        Self(RefCell::new(Near { places: Vec::new(), turn: 0 }))
    }

    /// The entry near at hand, if it is the one that was asked for; now and then none, although it is.
    pub(crate) fn get(&self, hash: u64, is_it: impl FnOnce(&T) -> bool) -> Option<Arc<T>> {
        let mut near = self.0.try_borrow_mut().ok()?;
        near.turn = near.turn.wrapping_add(1);
        if near.turn % TELL_EVERY == 0 {
            return None;
        }
        near.places.get(place(hash))?.upgrade().filter(|entry| is_it(entry))
    }

    /// Remembers an entry, in place of the one that was there.
    pub(crate) fn set(&self, hash: u64, entry: &Arc<T>) {
        let Ok(mut near) = self.0.try_borrow_mut() else { return };
        if near.places.is_empty() {
            near.places.resize_with(PLACES, Weak::new);
        }
        if let Some(place) = near.places.get_mut(place(hash)) {
            *place = Arc::downgrade(entry);
        }
    }
}

fn place(hash: u64) -> usize {
    usize::try_from(hash % PLACES as u64).unwrap_or(0)
}

//! A worker's own table of the entries it served last, in front of the shared storage.

use std::cell::RefCell;
use std::sync::{Arc, Weak};

/// Slots per worker and process; a power of two, so that a hash is cut to a place by its low bits.
const PLACES: usize = 1024;
/// One lookup in so many goes to the shared storage although the entry is near, so that it learns what is popular.
const TELL_EVERY: u32 = 16;
/// What was asked for so often since it is near is worth a copy of its own.
const OFTEN: u32 = 64;
/// A worker has so many copies at a time.
const MOST_COPIES: usize = 16;
/// After so many lookups copies are earned anew, by what is popular then. A multiple of [`TELL_EVERY`].
const FORGET_EVERY: u32 = 1 << 16;

/// What is near, by the low bits of its hash.
struct Near<T, C> {
    places: Vec<Place<T, C>>,
    copies: usize,
    turn: u32,
}

enum Place<T, C> {
    /// Owned by the shared storage alone: what it drops is gone here too.
    Shared { entry: Weak<T>, uses: u32 },
    /// With a copy that only this worker counts references of: those of the shared one are in one line of memory, and
    /// workers that serve the same entry all the time would take it away from each other.
    Copied { entry: Arc<T>, copy: C },
}

/// What a worker has near.
pub(crate) enum Nearby<T, C> {
    Copy(C),
    /// And whether it is asked for often, and should have a copy.
    Shared(Arc<T>, bool),
}

/// A place for the table of one kind of entry; one per thread.
pub(crate) struct NearTable<T, C>(RefCell<Near<T, C>>);

impl<T, C: Clone> NearTable<T, C> {
    pub(crate) const fn new() -> Self {
        Self(RefCell::new(Near { places: Vec::new(), copies: 0, turn: 0 }))
    }

    /// The entry near at hand, if it is the one that was asked for; now and then none, although it is. A copy is given
    /// only of what is valid.
    #[inline]
    pub(crate) fn get(
        &self,
        hash: u64,
        is_it: impl FnOnce(&T) -> bool,
        is_valid: impl FnOnce(&T) -> bool,
    ) -> Option<Nearby<T, C>> {
        let mut near = self.0.try_borrow_mut().ok()?;
        near.turn = near.turn.wrapping_add(1);
        if near.turn % TELL_EVERY == 0 {
            if near.turn % FORGET_EVERY == 0 {
                near.forget_copies();
            }
            return None;
        }
        match near.places.get_mut(place(hash))? {
            Place::Copied { entry, copy } => {
                (is_it(entry) && is_valid(entry)).then(|| Nearby::Copy(copy.clone()))
            }
            Place::Shared { entry, uses } => {
                let entry = entry.upgrade().filter(|entry| is_it(entry))?;
                *uses = uses.saturating_add(1);
                Some(Nearby::Shared(entry, *uses >= OFTEN))
            }
        }
    }

    /// Remembers an entry, in place of the one that was there.
    pub(crate) fn set(&self, hash: u64, entry: &Arc<T>) {
        let Ok(mut near) = self.0.try_borrow_mut() else { return };
        if near.places.is_empty() {
            near.places.resize_with(PLACES, || Place::Shared { entry: Weak::new(), uses: 0 });
        }
        if near.places.get(place(hash)).is_some_and(|place| !place.has(entry)) {
            near.put(hash, Place::Shared { entry: Arc::downgrade(entry), uses: 0 });
        }
    }

    /// Keeps a copy of an entry that is near, if there is room for one.
    pub(crate) fn copy(&self, hash: u64, entry: &Arc<T>, copy: impl FnOnce() -> Option<C>) {
        let Ok(mut near) = self.0.try_borrow_mut() else { return };
        if near.copies < MOST_COPIES
            && let Some(copy) = copy()
        {
            near.put(hash, Place::Copied { entry: Arc::clone(entry), copy });
            near.copies += 1;
        }
    }
}

impl<T, C> Near<T, C> {
    fn put(&mut self, hash: u64, new: Place<T, C>) {
        if let Some(place) = self.places.get_mut(place(hash)) {
            self.copies -= usize::from(matches!(place, Place::Copied { .. }));
            *place = new;
        }
    }

    fn forget_copies(&mut self) {
        for place in &mut self.places {
            if let Place::Copied { entry, .. } = place {
                *place = Place::Shared { entry: Arc::downgrade(entry), uses: 0 };
            }
        }
        self.copies = 0;
    }
}

impl<T, C> Place<T, C> {
    fn has(&self, other: &Arc<T>) -> bool {
        match self {
            Self::Shared { entry, .. } => std::ptr::eq(entry.as_ptr(), Arc::as_ptr(other)),
            Self::Copied { entry, .. } => Arc::ptr_eq(entry, other),
        }
    }
}

fn place(hash: u64) -> usize {
    usize::try_from(hash % PLACES as u64).unwrap_or(0)
}

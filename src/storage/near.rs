//! A worker's own table of the entries it served last, in front of the shared storage.

use std::cell::Cell;
use std::sync::{Arc, Weak};
use std::thread::LocalKey;

/// Slots per worker and process; a power of two, so that a hash is cut to a place by its low bits.
const PLACES: usize = 1024;
/// One use in so many goes to the shared storage, so that what is near goes on to count as used there.
const TELL_EVERY: u32 = 64;
/// Where the storage has to choose what it keeps, so many uses go there before, one by one: its counters of what is
/// popular end at 15, and of many entries most are used no oftener than that.
const TOLD_AT_FIRST: u16 = 16;
/// What was asked for so often since it is near is worth a copy of its own.
const OFTEN: u32 = 64;
/// A worker has so many copies at a time.
const MOST_COPIES: usize = 16;
/// After so many lookups copies are earned anew, by what is popular then.
const FORGET_EVERY: u32 = 1 << 16;

/// What is near, by the low bits of its hash.
pub(crate) struct Near<T, C> {
    places: Vec<Place<T, C>>,
    copies: usize,
    turn: u32,
}

struct Place<T, C> {
    held: Held<T, C>,
    /// Since it is here.
    uses: u32,
    /// Of these, told one by one.
    told: u16,
}

enum Held<T, C> {
    /// Owned by the shared storage alone: what it drops is gone here too.
    Shared(Weak<T>),
    /// With a copy that only this worker counts references of: those of the shared one are in one line of memory, and
    /// workers that serve the same entry all the time would take it away from each other.
    Copied(Arc<T>, C),
}

/// What a worker has near.
pub(crate) enum Nearby<T, C> {
    Copy(C),
    /// And whether it is asked for often, and should have a copy.
    Shared(Arc<T>, bool),
}

/// Where a thread has its table; nowhere until something is near. Whoever works with it takes it out for that time: a
/// closure that does all the work in its place would be called, where what gets and sets a pointer is in line.
pub(crate) type NearTable<T, C> = Cell<Option<Box<Near<T, C>>>>;

/// The entry near at hand, if it is the one that was asked for; now and then none, although it is: oftener where the
/// storage `chooses`. A copy is given only of what is valid.
#[inline]
pub(crate) fn get<T, C: Clone>(
    table: &'static LocalKey<NearTable<T, C>>,
    hash: u64,
    chooses: bool,
    is_it: impl FnOnce(&T) -> bool,
    is_valid: impl FnOnce(&T) -> bool,
) -> Option<Nearby<T, C>> {
    let mut near = table.take()?;
    let found = near.get(hash, chooses, is_it, is_valid);
    table.with(|place| place.set(Some(near)));
    found
}

/// Remembers an entry, in place of the one that was there.
pub(crate) fn set<T, C>(table: &'static LocalKey<NearTable<T, C>>, hash: u64, entry: &Arc<T>) {
    let mut near = table.take().unwrap_or_default();
    near.set(hash, entry);
    table.with(|place| place.set(Some(near)));
}

/// Keeps a copy of an entry that is near, if there is room for one.
pub(crate) fn copy<T, C>(
    table: &'static LocalKey<NearTable<T, C>>,
    hash: u64,
    entry: &Arc<T>,
    copy: impl FnOnce() -> Option<C>,
) {
    let mut near = table.take().unwrap_or_default();
    near.copy(hash, entry, copy);
    table.with(|place| place.set(Some(near)));
}

impl<T, C> Default for Near<T, C> {
    fn default() -> Self {
        let mut places = Vec::new();
        places.resize_with(PLACES, || Place::new(Held::Shared(Weak::new())));
        Self { places, copies: 0, turn: 0 }
    }
}

impl<T, C: Clone> Near<T, C> {
    #[inline]
    fn get(
        &mut self,
        hash: u64,
        chooses: bool,
        is_it: impl FnOnce(&T) -> bool,
        is_valid: impl FnOnce(&T) -> bool,
    ) -> Option<Nearby<T, C>> {
        self.turn = self.turn.wrapping_add(1);
        if self.turn.is_multiple_of(FORGET_EVERY) {
            self.forget_copies();
        }
        let Place { held, uses, told } = self.places.get_mut(place(hash))?;
        let found = match held {
            Held::Copied(entry, copy) => {
                (is_it(entry) && is_valid(entry)).then(|| Nearby::Copy(copy.clone()))
            }
            Held::Shared(entry) => entry
                .upgrade()
                .filter(|entry| is_it(entry))
                .map(|entry| Nearby::Shared(entry, *uses >= OFTEN)),
        }?;
        *uses = uses.wrapping_add(1);
        let is_first = chooses && *told < TOLD_AT_FIRST;
        *told += u16::from(is_first);
        let is_told = is_first || uses.is_multiple_of(TELL_EVERY);
        (!is_told).then_some(found)
    }
}

impl<T, C> Near<T, C> {
    fn set(&mut self, hash: u64, entry: &Arc<T>) {
        if self.places.get(place(hash)).is_some_and(|place| !place.has(entry)) {
            self.put(hash, Held::Shared(Arc::downgrade(entry)));
        }
    }

    fn copy(&mut self, hash: u64, entry: &Arc<T>, copy: impl FnOnce() -> Option<C>) {
        if self.copies < MOST_COPIES
            && let Some(copy) = copy()
        {
            self.put(hash, Held::Copied(Arc::clone(entry), copy));
            self.copies += 1;
        }
    }

    fn put(&mut self, hash: u64, new: Held<T, C>) {
        if let Some(place) = self.places.get_mut(place(hash)) {
            self.copies -= usize::from(matches!(place.held, Held::Copied(..)));
            *place = Place::new(new);
        }
    }

    fn forget_copies(&mut self) {
        for place in &mut self.places {
            if let Held::Copied(entry, _) = &place.held {
                *place = Place::new(Held::Shared(Arc::downgrade(entry)));
            }
        }
        self.copies = 0;
    }
}

impl<T, C> Place<T, C> {
    fn new(held: Held<T, C>) -> Self {
        Self { held, uses: 0, told: 0 }
    }

    fn has(&self, other: &Arc<T>) -> bool {
        match &self.held {
            Held::Shared(entry) => std::ptr::eq(entry.as_ptr(), Arc::as_ptr(other)),
            Held::Copied(entry, _) => Arc::ptr_eq(entry, other),
        }
    }
}

fn place(hash: u64) -> usize {
    usize::try_from(hash % PLACES as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_storage_chooses_the_first_uses_are_told_one_by_one() {
        let mut near: Near<u8, u8> = Near::default();
        let entry = Arc::new(1);
        near.set(7, &entry);
        let mut told = |chooses, uses| {
            let is_told = |_: &u32| near.get(7, chooses, |_| true, |_| true).is_none();
            (0..uses).filter(is_told).count()
        };
        assert_eq!(told(false, 10 * TELL_EVERY), 10);
        assert_eq!(told(true, TOLD_AT_FIRST.into()), usize::from(TOLD_AT_FIRST));
        assert_eq!(told(true, 10 * TELL_EVERY), 10);
        assert!(near.get(7, false, |_| false, |_| true).is_none(), "another one");
    }

    #[test]
    fn copies_are_few_and_earned_anew() {
        let mut near: Near<u8, u8> = Near::default();
        let entries: Vec<_> = (0..100).map(Arc::new).collect();
        for (hash, entry) in (0..).zip(&entries) {
            near.set(hash, entry);
            near.copy(hash, entry, || Some(**entry));
        }
        let copies = |near: &mut Near<u8, u8>| {
            let mut is_copy =
                |hash| matches!(near.get(hash, false, |_| true, |_| true), Some(Nearby::Copy(_)));
            (0..100_u64).filter(|hash| is_copy(*hash)).count()
        };
        assert_eq!(copies(&mut near), MOST_COPIES);
        assert!(
            near.get(99, false, |_| true, |_| false).is_some(),
            "whether it is valid is asked of copies alone"
        );
        for _ in 0..FORGET_EVERY {
            near.get(0, false, |_| false, |_| true);
        }
        assert_eq!(copies(&mut near), 0);
    }
}

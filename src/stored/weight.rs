//! What things occupy.

/// What an allocation of so many bytes occupies, as the allocators of common systems deal them out; none for nothing.
pub(crate) fn allocated(bytes: usize) -> usize {
    const WORD: usize = size_of::<usize>();
    if bytes == 0 { 0 } else { (bytes + WORD).next_multiple_of(2 * WORD).max(4 * WORD) }
}

/// The counters in front of what an `Arc` holds.
pub(crate) const COUNTERS: usize = 2 * size_of::<usize>();
